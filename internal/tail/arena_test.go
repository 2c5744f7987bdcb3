package tail

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestDepart: a departed generation is not found any more, can be read until it is released, and its places stay unknown
// whatever comes later.
func TestDepart(t *testing.T) {
	a := NewArena()
	defer a.Close()
	ap := a.NewAppender()
	if _, ok := a.Lookup(0); ok || a.Has(0) {
		t.Fatal("something is found at place 0")
	}
	first := put(a, ap, 1, "first", "value")
	g := ap.Seal()
	second := put(a, ap, 2, "second", "value")
	for _, p := range []Pos{first, second} {
		if r, ok := a.Lookup(p); !ok || r != a.Record(p) || !a.Has(p) {
			t.Fatalf("the record at %v is not found", p)
		}
	}
	g.Depart()
	if _, ok := a.Lookup(first); ok || a.Has(first) {
		t.Fatal("a departed record is found")
	}
	if r := a.Record(first); string(r.Key()) != "first" {
		t.Fatalf("a departed record has key %q before it is released", r.Key())
	}
	if _, ok := a.Lookup(second); !ok {
		t.Fatal("a record of the next generation is not found")
	}
	g.Release()
	Generation{}.Depart()
	for i := range 3 * firstPlaces { // chunks take the place of the first in the directory, several times
		if p := put(a, ap, 3, "later", "value"); p>>offsetBits == first>>offsetBits {
			t.Fatalf("chunk number %d comes again", p.chunkNo())
		}
		if a.Has(first) {
			t.Fatalf("a released record is found after %d more chunks", i)
		}
		ap.Seal().Release()
	}
	if len(a.mu.chunks) != firstPlaces {
		t.Fatalf("the directory has %d places for two chunks", len(a.mu.chunks))
	}
}

// TestChunkNumbers lets chunks come and go in random order, with some that stay, past the largest number.
func TestChunkNumbers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	a := NewArena()
	defer a.Close()
	ap := a.NewAppender()
	type generation struct {
		Generation
		p   Pos
		key string
	}
	var live, gone []generation
	a.mu.lastNo = maxChunkNo - uint32(rng.IntN(200))
	for i := range 400 {
		key := fmt.Sprint(i)
		p := put(a, ap, 1, key, "value")
		live = append(live, generation{ap.Seal(), p, key})
		for len(live) > 1+rng.IntN(150) {
			k := rng.IntN(len(live))
			g := live[k]
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
			g.Depart()
			g.Release()
			gone = append(gone, g)
		}
		for _, g := range live {
			if r, ok := a.Lookup(g.p); !ok || string(r.Key()) != g.key || string(a.Record(g.p).Key()) != g.key {
				t.Fatalf("the record %s at %v is not found", g.key, g.p)
			}
		}
		for _, g := range gone {
			if a.Has(g.p) {
				t.Fatalf("the released record %s at %v is found", g.key, g.p)
			}
		}
	}
	if a.mu.lastNo > 1000 {
		t.Fatalf("last number %d, want one after the largest", a.mu.lastNo)
	}
}
