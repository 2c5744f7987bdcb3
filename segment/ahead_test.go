package segment

import (
	"testing"

	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// scanned visits a whole segment and returns how many reads of the file that took.
func scanned(t *testing.T, fsys *vfs.Fault, r *Reader, o IterOptions, back bool, want int) int64 {
	t.Helper()
	it := r.NewIter(o)
	defer it.Close()
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
	if it.Err() != nil || n != want {
		t.Fatalf("%d entries of %d, %v", n, want, it.Err())
	}
	return fsys.Calls() - before
}

// TestALongScanReadsInLargePieces scans with a cache: the first blocks are kept there, the others are read in pieces that
// grow, and are not.
func TestALongScanReadsInLargePieces(t *testing.T) {
	for _, codec := range []Compression{NoCompression, S2} {
		mem := vfs.NewMem()
		es := manyEntries(200_000)
		p := write(t, mem, "a.seg", WriterOptions{Compression: codec}, es)
		fsys := vfs.NewFault(mem)
		for _, back := range []bool{false, true} {
			c := newMapCache()
			r := open(t, fsys, "a.seg", c)
			reads := scanned(t, fsys, r, IterOptions{}, back, len(es))
			partitions := int64(r.top.n)
			if most := p.SizeBytes/readAhead + 2*partitions + 10; reads > most {
				t.Errorf("backward %t: %d reads of a file of %d bytes, at most %d", back, reads, p.SizeBytes, most)
			}
			kept := int64(0)
			for _, b := range c.blocks {
				if b.Bytes()[0] == kindData {
					kept += b.SizeBytes()
				}
			}
			if kept == 0 || kept > 8*readAhead {
				t.Errorf("backward %t: data blocks of %d bytes are in the cache", back, kept)
			}
			// What is in the cache is not read again.
			if again := scanned(t, fsys, r, IterOptions{}, back, len(es)); again > reads {
				t.Errorf("backward %t: %d reads with a part in the cache, %d without", back, again, reads)
			}
			c.Close()
		}
	}
}

// TestWhatIsAheadIsReadAtOnce visits a few blocks whose length is known before.
func TestWhatIsAheadIsReadAtOnce(t *testing.T) {
	mem := vfs.NewMem()
	es := manyEntries(20_000)
	write(t, mem, "a.seg", WriterOptions{Compression: NoCompression}, es)
	fsys := vfs.NewFault(mem)
	c := newMapCache()
	defer c.Close()
	r := open(t, fsys, "a.seg", c)
	visit := func(ahead int) (reads int64) {
		it := r.NewIter(IterOptions{Ahead: ahead})
		defer it.Close()
		e := &es[len(es)/2]
		ok := it.SeekGE(e.Dataset, e.Key)
		before := fsys.Calls() // the index and the first blocks are there
		for first := it.at; ok && it.at < first+3; {
			ok = it.Next()
		}
		if !ok {
			t.Fatal(it.Err())
		}
		return fsys.Calls() - before
	}
	if n := visit(4 * (defaultBlockBytes + blockHead)); n != 0 {
		t.Errorf("%d reads beside that of all four blocks", n)
	}
	if n := visit(0); n != 0 {
		t.Errorf("%d reads of blocks that the first visit has put into the cache", n)
	}
}

// TestAKnownEndIsNotReadBeyond visits as much as was told before, and one block more: nothing is read ahead behind that.
func TestAKnownEndIsNotReadBeyond(t *testing.T) {
	mem := vfs.NewMem()
	es := manyEntries(20_000)
	write(t, mem, "a.seg", WriterOptions{Compression: NoCompression}, es)
	const block = defaultBlockBytes + blockHead
	for _, blocks := range []int{1, 3, 30} {
		r := open(t, mem, "a.seg", nil)
		it := r.NewIter(IterOptions{Ahead: blocks * block})
		e := &es[len(es)/4]
		ok := it.SeekGE(e.Dataset, e.Key)
		pass := func(blocks int) {
			t.Helper()
			for at := it.at; ok && blocks > 0; ok = it.Next() {
				if it.at != at {
					at, blocks = it.at, blocks-1
				}
			}
			if !ok {
				t.Fatalf("the segment ends %d blocks early, %v", blocks, it.Err())
			}
		}
		pass(blocks)
		if most := int64(blocks+3) * block; it.read > most {
			t.Errorf("%d bytes were read of %d blocks, which take %d", it.read, blocks+1, int64(blocks+1)*block)
		}
		if cap(it.large) > 0 && blocks*block <= smallAhead {
			t.Errorf("an Iter told of %d blocks took a large buffer", blocks)
		}
		// What goes on is read in pieces that grow again.
		pass(20)
		if it.window < 4*block {
			t.Errorf("the next read of a long visit takes %d bytes", it.window)
		}
		it.Close()
	}
}

// TestAnIterIsOfUseAgain lets one iterator visit several segments: nothing of one is seen in another, and no memory stays.
func TestAnIterIsOfUseAgain(t *testing.T) {
	start := offheap.InUse()
	fsys := vfs.NewMem()
	var it Iter
	for i, codec := range []Compression{NoCompression, S2, Zstd, NoCompression} {
		es := manyEntries(3000 * (4 - i))
		write(t, fsys, "a.seg", WriterOptions{Compression: codec}, es)
		r := open(t, fsys, "a.seg", nil)
		for _, o := range []IterOptions{{NoFill: true}, {}, {Ahead: 10_000}} {
			it.Reset(r, o)
			for _, from := range []int{0, len(es) / 2, len(es) - 1} {
				n := from
				for ok := it.SeekGE(es[from].Dataset, es[from].Key); ok && n < from+700; ok = it.Next() {
					if e := it.Entry(); string(e.Key) != string(es[n].Key) || string(e.Value) != string(es[n].Value) || e.LSN != es[n].LSN {
						t.Fatalf("entry %d is %q, LSN %d, want %q, LSN %d", n, e.Key, e.LSN, es[n].Key, es[n].LSN)
					}
					n++
				}
				if it.Err() != nil || n != min(from+700, len(es)) {
					t.Fatalf("%d entries from %d on, %v", n-from, from, it.Err())
				}
			}
			it.Close()
			it.Forget()
		}
		if err := fsys.Remove("a.seg"); err != nil {
			t.Fatal(err)
		}
	}
	if n := offheap.InUse(); n != start {
		t.Errorf("%d bytes outside of Go's heap were not given back", n-start)
	}
}

// TestReadingAheadKeepsToItsBudget scans with several iterators at once: only as many as the budget has room for take large
// buffers, and give them back.
func TestReadingAheadKeepsToItsBudget(t *testing.T) {
	fsys := vfs.NewMem()
	es := manyEntries(100_000)
	write(t, fsys, "a.seg", WriterOptions{Compression: NoCompression}, es)
	budget := NewAheadBudget(2*readAhead + readAhead/2)
	r, err := Open(fsys, "a.seg", ReaderOptions{HashSeed: testSeed, Ahead: budget})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for round := range 2 {
		its := make([]*Iter, 5)
		for i := range its {
			its[i] = r.NewIter(IterOptions{})
			if !its[i].First() {
				t.Fatal(its[i].Err())
			}
		}
		for n := 1; n < len(es); n++ {
			for i, it := range its {
				if !it.Next() || string(it.Entry().Key) != string(es[n].Key) {
					t.Fatalf("iterator %d at entry %d: %v", i, n, it.Err())
				}
			}
		}
		large := 0
		for _, it := range its {
			if cap(it.large) > 0 {
				large++
			}
		}
		if large != 2 {
			t.Errorf("round %d: %d iterators read in large pieces, the budget is for 2", round, large)
		}
		for _, it := range its {
			it.Close()
		}
	}
	if n := budget.left.Load(); n != 2*readAhead+readAhead/2 {
		t.Errorf("%d bytes are left of the budget in the end", n)
	}
}
