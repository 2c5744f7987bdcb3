package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// manyEntries are n small entries with keys that share a prefix.
func manyEntries(n int) []Entry {
	es := make([]Entry, n)
	for i := range es {
		es[i] = put(fmt.Sprintf("key-%08d", 2*i), fmt.Sprintf("value %d", i%100), event.LSN(i+1))
	}
	return es
}

// TestBlocksFitTheirMemory looks at each block before compression: memory for blocks comes in powers of two, so that
// a byte more than 16 KiB would cost 32.
func TestBlocksFitTheirMemory(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		es := manyEntries(40_000)
		if seed%2 == 1 {
			es = randomEntries(rnd, 2000)
		}
		limit := []int{0, 32 << 10, 5000}[seed%3]
		fsys := vfs.NewMem()
		write(t, fsys, "a.seg", WriterOptions{BlockBytes: limit, Compression: NoCompression}, es)
		if limit == 0 {
			limit = defaultBlockBytes
		}
		content, err := fsys.ReadFile("a.seg", 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		full, blocks := 0, 0
		for kind, hs := range blocksOf(t, content) {
			for _, h := range hs {
				raw, most := int(h.length)-blockHead, limit
				n := le.Uint32(content[h.offset+blockHead+4:])
				switch kind {
				case kindIndex, kindFilter:
					most = 16 << 10
				case kindData, kindDue:
					blocks++
					if raw > limit*9/10 {
						full++
					}
				default:
					continue
				}
				if raw > most && !(kind == kindIndex && n <= indexLeast) && n > 1 {
					t.Errorf("seed %d: %s block of %d bytes, %d entries", seed, kindNames[kind], raw, n)
				}
			}
		}
		if seed%2 == 0 && full < blocks-len(es)/10000-1 {
			t.Errorf("seed %d: %d of %d blocks are full", seed, full, blocks)
		}
	}
}

// TestAMissingKeyCostsNoBlock asks for 100,000 keys that are not there.
func TestAMissingKeyCostsNoBlock(t *testing.T) {
	const n = 100_000
	fsys := vfs.NewMem()
	write(t, fsys, "a.seg", WriterOptions{}, manyEntries(n))
	content, err := fsys.ReadFile("a.seg", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	c := newMapCache()
	t.Cleanup(c.Close)
	r := open(t, fsys, "a.seg", c)
	passed := 0
	for i := range n {
		before := c.hits + c.misses
		if _, ok, err := get(r, 1, fmt.Appendf(nil, "key-%08d", 2*i+1), event.MaxLSN); ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		if c.hits+c.misses > before+1 {
			passed++
		}
	}
	may := 0
	for i := range n {
		before := c.hits + c.misses
		for odd := range 2 {
			key := fmt.Appendf(nil, "key-%08d", 2*i+odd)
			has, err := r.MayHave(1, key, Hash(testSeed, 1, key))
			if err != nil || !has && odd == 0 {
				t.Fatalf("%s: may have %t, %v", key, has, err)
			}
			if has && odd == 1 {
				may++
			}
		}
		if got := c.hits + c.misses - before; got > 2 {
			t.Fatalf("asking for two keys looked at %d blocks", got)
		}
	}
	if may != passed {
		t.Errorf("it may have %d of the missing keys, %d passed the filter", may, passed)
	}
	if passed > n*13/1000 {
		t.Errorf("%d of %d missing keys passed the filter", passed, n)
	}
	blocks := blocksOf(t, content)
	bits := 0
	for _, h := range blocks[kindFilter] {
		bits += 8 * int(h.length)
	}
	if bits > n*10*102/100 || len(blocks[kindFilter]) != (n+13055)/13056 {
		t.Errorf("%d filter pages of %d bits for %d keys", len(blocks[kindFilter]), bits, n)
	}
	t.Logf("%d of %d passed, %.2f bits a key, top index of %d bytes", passed, n, float64(bits)/n, len(r.top.b))
}

// TestAGetReadsEachBlockOnce counts reads of the file: filter page, index block and data block.
func TestAGetReadsEachBlockOnce(t *testing.T) {
	mem := vfs.NewMem()
	es := manyEntries(30_000)
	write(t, mem, "a.seg", WriterOptions{}, es)
	fsys := vfs.NewFault(mem)
	c := newMapCache()
	t.Cleanup(c.Close)
	r := open(t, fsys, "a.seg", c)
	if calls := fsys.Calls(); calls > 4 {
		t.Errorf("opening takes %d calls", calls)
	}
	reads := func(key string) int64 {
		before := fsys.Calls()
		if _, _, err := get(r, 1, []byte(key), event.MaxLSN); err != nil {
			t.Fatal(err)
		}
		return fsys.Calls() - before
	}
	for _, c := range []struct {
		key  string
		want int64
	}{{"key-00000000", 3}, {"key-00000000", 0}, {"key-00000002", 0}, {"key-00010000", 1}, {"key-00059998", 3}, {"a", 0}} {
		if n := reads(c.key); n != c.want {
			t.Errorf("%s: %d reads, want %d", c.key, n, c.want)
		}
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	fsys := vfs.NewMem()
	es := manyEntries(30_000)
	write(t, fsys, "a.seg", WriterOptions{}, es)
	c := newMapCache()
	t.Cleanup(c.Close)
	r := open(t, fsys, "a.seg", c)
	var e Entry
	for _, key := range [][]byte{[]byte("key-00020000"), []byte("key-00020001"), []byte("a")} {
		n := testing.AllocsPerRun(100, func() {
			b, ok, err := r.Get(1, key, Hash(testSeed, 1, key), event.MaxLSN, &e)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				b.Release()
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", key, n)
		}
	}
	it := r.NewIter(IterOptions{})
	defer it.Close()
	it.First()
	it.Entry()
	if n := testing.AllocsPerRun(10_000, func() {
		it.Next()
		it.Entry()
	}); n > 0.05 { // some blocks are read
		t.Errorf("%v allocations an entry", n)
	}
}

// TestAWriterHoldsLittle looks at what a writer holds after many entries.
func TestAWriterHoldsLittle(t *testing.T) {
	runtime.GC() // twice: then no other test's writer has left it memory
	runtime.GC()
	w, err := Create(vfs.NewMem(), "a.seg", WriterOptions{dueBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	e := put("", "a value", 1)
	e.Parts = event.AppendExpiry(nil, testTime)
	const n = 200_000
	for i := range n {
		e.Key = fmt.Appendf(e.Key[:0], "key-%08d", i)
		if err := w.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	builders := 0
	for _, b := range []*builder{w.data, w.index} {
		builders += cap(b.arena) + 24*cap(b.entries) + 8*maxColumns*cap(b.vals[colLSN])
	}
	held := cap(w.out) + cap(w.raw) + cap(w.packed) + cap(w.block) + builders + 8*cap(w.hashes) + cap(w.dues.arena) +
		16*cap(w.dues.refs) + 16*cap(w.dues.runs)
	if held > 1<<20 {
		t.Errorf("%d bytes", held)
	}
	if top := cap(w.top.arena); top > n/4 {
		t.Errorf("top index of %d bytes", top)
	}
	if size := w.SizeEstimate(); size < w.pos || size > 20*n {
		t.Errorf("estimate of %d bytes, %d are written", size, w.pos)
	}
}

func TestSizeEstimateIsNotTooLittle(t *testing.T) {
	w, err := Create(vfs.NewMem(), "a.seg", WriterOptions{Compression: NoCompression})
	if err != nil {
		t.Fatal(err)
	}
	w.AddRangeDelete(RangeDelete{Dataset: 1, From: []byte("a"), To: []byte("b"), LSN: 1 << 40})
	es := manyEntries(50_000)
	for i := range es {
		if err := w.Add(&es[i]); err != nil {
			t.Fatal(err)
		}
	}
	estimate := w.SizeEstimate()
	p, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if estimate < p.SizeBytes-1024 || estimate > p.SizeBytes+64<<10 {
		t.Errorf("estimate of %d bytes for %d", estimate, p.SizeBytes)
	}
}

// TestNoFillLeavesTheCacheAlone scans with NoFill: nothing is taken from the cache or put there, and the file is read
// in large pieces.
func TestNoFillLeavesTheCacheAlone(t *testing.T) {
	mem := vfs.NewMem()
	es := manyEntries(100_000)
	p := write(t, mem, "a.seg", WriterOptions{}, es)
	fsys := vfs.NewFault(mem)
	c := newMapCache()
	t.Cleanup(c.Close)
	r := open(t, fsys, "a.seg", c)
	for _, back := range []bool{false, true} {
		it := r.NewIter(IterOptions{NoFill: true})
		before, n := fsys.Calls(), 0
		ok := it.First()
		if back {
			ok = it.Last()
		}
		for ; ok; n++ {
			if back {
				ok = it.Prev()
			} else {
				ok = it.Next()
			}
		}
		it.Close()
		if it.Err() != nil || n != len(es) || c.hits+c.misses+len(c.blocks) != 0 {
			t.Fatalf("%d entries, %v, cache %d %d %d", n, it.Err(), c.hits, c.misses, len(c.blocks))
		}
		partitions := int64(r.top.n)
		if reads, most := fsys.Calls()-before, p.SizeBytes/readAhead+3*partitions; reads > most {
			t.Errorf("backward %t: %d reads of a file of %d bytes, at most %d", back, reads, p.SizeBytes, most)
		}
	}
}

// TestBlocksAreGivenBack looks at the memory outside of Go's heap after all kinds of reads, finished or not.
func TestBlocksAreGivenBack(t *testing.T) {
	start := offheap.InUse()
	fsys := vfs.NewMem()
	es := smallSegment(t, fsys, "a.seg", S2)
	r := open(t, fsys, "a.seg", nil)
	for i := range es {
		if _, _, err := get(r, 1, es[i].Key, es[i].LSN); err != nil {
			t.Fatal(err)
		}
	}
	// Blocks are read in vain for a version that is too old, and for a key that passes the filter.
	for _, key := range []string{"key-01", "key-01x"} {
		r.filters = false
		if _, ok, err := get(r, 1, []byte(key), 1); ok || err != nil {
			t.Fatalf("%q: %t, %v", key, ok, err)
		}
	}
	for _, o := range []IterOptions{{}, {NoFill: true}} {
		it := r.NewIter(o)
		it.First()
		for range 35 {
			it.Next()
		}
		if held := offheap.InUse() - start; held > 2*2048 {
			t.Errorf("an iterator holds %d bytes", held)
		}
		it.SeekGE(1, []byte("key-10"))
		it.SeekLT(1, []byte("key-01"))
		it.Close()
		it.Close()
	}
	due := r.Due(0)
	due.Next()
	due.Close()
	if err := r.Verify(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if held := offheap.InUse() - start; held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

// TestAnotherSeedTurnsFiltersOff opens a segment in a database whose hashes have another seed: the filters would deny
// keys that are there.
func TestAnotherSeedTurnsFiltersOff(t *testing.T) {
	fsys := vfs.NewMem()
	es := smallSegment(t, fsys, "a.seg", S2)
	r, err := Open(fsys, "a.seg", ReaderOptions{HashSeed: testSeed + 1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var e Entry
	for i := range es {
		b, ok, err := r.Get(1, es[i].Key, Hash(testSeed+1, 1, es[i].Key), es[i].LSN, &e)
		if !ok || err != nil {
			t.Fatalf("%q: %t, %v", es[i].Key, ok, err)
		}
		b.Release()
	}
}

func TestVerifyReportsProgressAndStops(t *testing.T) {
	fsys := vfs.NewMem()
	p := write(t, fsys, "a.seg", WriterOptions{}, manyEntries(50_000))
	r := open(t, fsys, "a.seg", nil)
	last := int64(0)
	if err := r.Verify(context.Background(), func(done, total int64) {
		if done < last || total != p.SizeBytes {
			t.Fatalf("%d of %d after %d", done, total, last)
		}
		last = done
	}); err != nil || last != p.SizeBytes {
		t.Fatalf("%v at %d of %d", err, last, p.SizeBytes)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err := r.Verify(ctx, func(done, _ int64) {
		if done > p.SizeBytes/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestVerifyFindsWhatIsWrongWithRightCRCs changes blocks and gives them the right CRC. Reads may not see it; Verify
// does.
func TestVerifyFindsWhatIsWrongWithRightCRCs(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, fsys vfs.FS){
		"an entry more in the properties": func(t *testing.T, fsys vfs.FS) {
			rewriteBlock(t, fsys, kindProperties, func(b []byte) []byte {
				p, err := parseProperties(b)
				if err != nil {
					t.Fatal(err)
				}
				p.Entries++
				return appendProperties(nil, p)
			})
		},
		"an empty filter": func(t *testing.T, fsys vfs.FS) {
			rewriteBlock(t, fsys, kindFilter, func(b []byte) []byte {
				clear(b[filterHead:])
				return b
			})
		},
		"a due entry of another version": func(t *testing.T, fsys vfs.FS) {
			rewriteBlock(t, fsys, kindDue, func(b []byte) []byte {
				b[sortedHead+8*colLSN]++
				return b
			})
		},
		"a second spelling": func(t *testing.T, fsys vfs.FS) {
			rewriteBlock(t, fsys, kindData, func(b []byte) []byte {
				var s sorted // the LSNs' base one less, and each number one more
				s.parse(b, kindData)
				b[sortedHead+8*colLSN]--
				for i := range s.n {
					b[s.cols[colLSN].at+i]++
				}
				return b
			})
		},
	} {
		fsys := vfs.NewMem()
		smallSegment(t, fsys, "a.seg", NoCompression)
		change(t, fsys)
		r := open(t, fsys, "a.seg", nil)
		if err := r.Verify(context.Background(), nil); !errors.Is(err, corruption.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// TestManyReaders has goroutines read one segment through one cache, which forgets blocks all the time.
func TestManyReaders(t *testing.T) {
	fsys := vfs.NewMem()
	es := randomEntries(rand.New(rand.NewPCG(5, 5)), 2000)
	write(t, fsys, "a.seg", WriterOptions{BlockBytes: 2000}, es)
	c := newMapCache()
	t.Cleanup(c.Close)
	r := open(t, fsys, "a.seg", c)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 3))
			for range 1500 {
				want := &es[rnd.IntN(len(es))]
				var e Entry
				b, ok, err := r.Get(want.Dataset, want.Key, Hash(testSeed, want.Dataset, want.Key), want.LSN, &e)
				if err != nil || !ok || !equal(&e, want) {
					t.Errorf("get %t %s, want %s: %v", ok, show(&e), show(want), err)
					return
				}
				if rnd.IntN(20) == 0 {
					c.Close()
				}
				if !bytes.Equal(e.Value, want.Value) {
					t.Error("a value changed while its block was held")
				}
				b.Release()
				if rnd.IntN(10) == 0 {
					it := r.NewIter(IterOptions{})
					it.SeekGE(want.Dataset, want.Key)
					for i := 0; i < 20 && it.Valid(); i++ {
						it.Next()
					}
					if it.Err() != nil {
						t.Error(it.Err())
					}
					it.Close()
				}
			}
		})
	}
	wg.Wait()
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []WriterOptions{{BlockBytes: 100}, {BlockBytes: 1 << 20}, {FilterBits: 33}, {Compression: 3}} {
		if w, err := Create(vfs.NewMem(), "a.seg", o); err == nil {
			w.Abort()
			t.Errorf("%+v is taken", o)
		}
	}
}

// Where zstd saves nothing beside S2, it is tried for one block in sixteen only; where it does, every block is packed by it.
func TestZstdIsLeftWhereItSavesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(i int) []byte {
		b := make([]byte, 100)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		return b
	}
	// Letters of unequal frequency: nothing for S2 to find, but what an entropy coder is for.
	letters := func(i int) []byte {
		b := make([]byte, 100)
		for j := range b {
			b[j] = "eeeeettaaoinshrdlucm"[rng.IntN(20)]
		}
		return b
	}
	for _, c := range []struct {
		name  string
		value func(int) []byte
		zstd  bool
	}{{"random bytes", random, false}, {"letters", letters, true}} {
		w, err := Create(vfs.NewMem(), c.name, WriterOptions{Compression: Zstd})
		if err != nil {
			t.Fatal(err)
		}
		blocks, tried := 0, 0
		for i := range 20_000 {
			before, skip := w.index.n, w.zstdSkip
			e := put(fmt.Sprintf("key-%08d", i), string(c.value(i)), 1)
			if err := w.Add(&e); err != nil {
				t.Fatal(err)
			}
			if w.index.n != before {
				blocks++
				if skip == 0 {
					tried++
				}
			}
		}
		if left := tried <= blocks/8; blocks < 50 || left == c.zstd {
			t.Errorf("%s: zstd was tried for %d of %d blocks", c.name, tried, blocks)
		}
		w.Abort()
	}
}
