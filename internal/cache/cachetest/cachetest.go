// Package cachetest holds the promises of cache.Cache as tests, for each implementation to pass. Only tests import it.
package cachetest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/offheap"
)

// Kind is an implementation under test.
type Kind struct {
	// New returns an empty cache.
	New func(capacityBytes int64) cache.Cache

	// Settle waits until the cache has dealt with what was added; nil if Add does so itself.
	Settle func(cache.Cache)

	// OverBytes is how far Bytes may exceed CapacityBytes.
	OverBytes int64

	// Lossy says that what is kept depends on when goroutines of the cache get to run: its hit ratios are not tested.
	Lossy bool
}

func (k Kind) settle(c cache.Cache) {
	if k.Settle != nil {
		k.Settle(c)
	}
}

// Run checks all promises.
func Run(t *testing.T, k Kind) {
	type test struct {
		name string
		run  func(*testing.T, Kind)
	}
	tests := []test{
		{"what was added is found", testFound},
		{"a key keeps its block", testAgain},
		{"held blocks outlive the cache's interest", testHeld},
		{"blocks too large are refused", testTooLarge},
		{"the capacity holds", testCapacity},
		{"references, as in a model", testModel},
		{"readers and writers at once", testStress},
	}
	if !k.Lossy {
		tests = append(tests, test{"favourites stay", testZipf}, test{"a scan leaves hot blocks", testScan})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			start := offheap.InUse()
			test.run(t, k)
			if got := offheap.InUse() - start; got != 0 {
				t.Fatalf("%d bytes of blocks leaked", got)
			}
		})
	}
}

// newBlock returns a block that can be told from all others: it repeats a number made of its key.
func newBlock(k cache.Key, n int) *cache.Block {
	b := cache.NewBlock(n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b.Bytes()[i:], mark(k, i))
	}
	return b
}

func mark(k cache.Key, i int) uint64 { return k.Hash() + uint64(i)*0x9e3779b97f4a7c15 }

// intact reports whether b is the block of k, all of it.
func intact(k cache.Key, b *cache.Block) bool {
	for i := 0; i+8 <= len(b.Bytes()); i += 8 {
		if binary.LittleEndian.Uint64(b.Bytes()[i:]) != mark(k, i) {
			return false
		}
	}
	return true
}

// load gets the block of k as a reader of a file does: from the cache, or else made anew and added.
func load(t *testing.T, c cache.Cache, k cache.Key, n int) (hit bool) {
	b := c.Get(k)
	if hit = b != nil; !hit {
		b = newBlock(k, n)
		c.Add(k, b)
	}
	if !intact(k, b) {
		t.Errorf("the block of %v is damaged", k)
	}
	b.Release()
	return hit
}

func testFound(t *testing.T, kind Kind) {
	c := kind.New(1 << 20)
	defer c.Close()
	// The same numbers in the two fields, the same offset in several files, and large numbers are different keys.
	keys := []cache.Key{{}, {File: 1}, {Offset: 1}, {File: 1, Offset: 1}, {File: 2, Offset: 1}, {File: 1, Offset: 2},
		{File: 1 << 63, Offset: 1 << 40}, {File: ^uint64(0), Offset: ^uint64(0)}}
	for _, k := range keys {
		if c.Get(k) != nil {
			t.Fatalf("found %v, which was not added", k)
		}
		load(t, c, k, 1000)
	}
	kind.settle(c)
	for _, k := range keys {
		b := c.Get(k)
		if b == nil || !intact(k, b) || len(b.Bytes()) != 1000 {
			t.Fatalf("%v: got %v", k, b)
		}
		b.Release()
	}
	n := int64(len(keys))
	want := cache.Metrics{Hits: n, Misses: 2 * n, Added: n, Blocks: n, Bytes: n * 1024, CapacityBytes: 1 << 20}
	if got := c.Metrics(); got != want {
		t.Fatalf("metrics %+v, want %+v", got, want)
	}
}

func testAgain(t *testing.T, kind Kind) {
	c := kind.New(1 << 20)
	defer c.Close()
	k := cache.Key{File: 3, Offset: 4096}
	first, second := newBlock(k, 100), newBlock(k, 100)
	c.Add(k, first)
	c.Add(k, second) // before it is settled
	kind.settle(c)
	c.Add(k, second) // and after
	kind.settle(c)
	if b := c.Get(k); b != first {
		t.Fatalf("the key's block is %p, want the first, %p, not the second, %p", b, first, second)
	}
	first.Release()
	first.Release()
	second.Release()
	if second.Acquire() {
		t.Fatal("the cache holds a block that it can't return")
	}
	if m := c.Metrics(); m.Blocks != 1 || m.Added != 1 || m.Rejected != 2 || m.Bytes != 256 {
		t.Fatalf("metrics %+v", m)
	}
}

func testHeld(t *testing.T, kind Kind) {
	c := kind.New(64 << 10)
	k := cache.Key{File: 1}
	load(t, c, k, 4096)
	kind.settle(c)
	held := c.Get(k)
	if held == nil {
		t.Fatal("not found")
	}
	for i := range uint64(1000) {
		for range 3 {
			load(t, c, cache.Key{File: 2, Offset: i}, 4096)
			kind.settle(c)
		}
	}
	if c.Metrics().Evicted == 0 {
		t.Fatal("nothing was evicted")
	}
	if !intact(k, held) {
		t.Fatal("a held block was overwritten")
	}
	c.Close()
	c.Close()
	if !intact(k, held) {
		t.Fatal("Close took a block from its reader")
	}
	held.Release()
	if held.Acquire() {
		t.Fatal("somebody still holds the block")
	}
}

func testTooLarge(t *testing.T, kind Kind) {
	c := kind.New(1 << 20)
	defer c.Close()
	k := cache.Key{File: 1}
	load(t, c, k, 2<<20)
	kind.settle(c)
	if c.Get(k) != nil {
		t.Fatal("a block larger than the cache was admitted")
	}
	if m := c.Metrics(); m.Rejected != 1 || m.Bytes != 0 {
		t.Fatalf("metrics %+v", m)
	}
}

func testCapacity(t *testing.T, kind Kind) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, capacity := range []int64{100 << 10, 1 << 20, 33 << 20} {
		start := offheap.InUse()
		c := kind.New(capacity)
		for range 5000 {
			k := cache.Key{File: rng.Uint64N(4), Offset: rng.Uint64N(2000)}
			load(t, c, k, 1+int(k.Hash()%(16<<10)))
			m := c.Metrics()
			if m.Bytes > m.CapacityBytes+kind.OverBytes || m.CapacityBytes != capacity {
				t.Fatalf("capacity %d: %+v", capacity, m)
			}
			// No reader holds a block: what is in use is the cache's.
			if inUse := offheap.InUse() - start; inUse > capacity+kind.OverBytes {
				t.Fatalf("capacity %d: %d bytes in use", capacity, inUse)
			}
		}
		kind.settle(c)
		m := c.Metrics()
		if m.Bytes != offheap.InUse()-start || m.Blocks != m.Added-m.Evicted || m.Hits+m.Misses != 5000 {
			t.Fatalf("%d bytes in use, metrics %+v", offheap.InUse()-start, m)
		}
		if m.Bytes < min(capacity/2, m.Added<<12) {
			t.Fatalf("the cache leaves room unused: %+v", m)
		}
		c.Close()
	}
}

// testModel takes and gives back references at random and knows of each block how many there should be.
func testModel(t *testing.T, kind Kind) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := kind.New(64 << 10)
	var made []*cache.Block
	held := map[*cache.Block]int{} // our references
	keys := map[*cache.Block]cache.Key{}
	for range 10_000 {
		k := cache.Key{Offset: rng.Uint64N(60)}
		switch op := rng.IntN(10); {
		case op < 4:
			if b := c.Get(k); b != nil {
				if keys[b] != k {
					t.Fatalf("Get of %v returned the block of %v", k, keys[b])
				}
				held[b]++
			}
		case op < 7:
			b := newBlock(k, 256<<rng.IntN(5))
			made, keys[b], held[b] = append(made, b), k, 1
			c.Add(k, b)
		case len(made) > 0:
			b := made[rng.IntN(len(made))]
			if op == 9 && held[b] > 0 {
				c.Add(keys[b], b) // a block may come back
			} else if held[b] > 0 {
				b.Release()
				held[b]--
			}
		}
	}
	for b, n := range held {
		if n > 0 && !intact(keys[b], b) {
			t.Fatal("a held block is damaged")
		}
	}
	c.Close()
	for _, b := range made {
		for ; held[b] > 0; held[b]-- {
			if !b.Acquire() {
				t.Fatalf("a block lost %d references that we hold", held[b])
			}
			b.Release()
			b.Release()
		}
		if b.Acquire() {
			t.Fatal("a block has references that nobody holds")
		}
	}
}
