package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const scanKeys = 3000

func scanKey(i int) []byte { return fmt.Appendf(nil, "key-%06d", i) }

// scanStores has a store whose pairs lie in memory and one that reads them from segments. The value of a key names it.
func scanStores(t *testing.T, use func(t *testing.T, ds *dyngo.Dataset)) {
	for _, place := range []string{"memory", "segments"} {
		t.Run(place, func(t *testing.T) {
			fs := vfs.NewMem()
			db := mustOpen(t, storeDir, &dyngo.Options{FS: fs})
			ds, err := db.CreateDataset("d", nil)
			if err != nil {
				t.Fatal(err)
			}
			b := db.NewBatch()
			for i := range scanKeys {
				b.Put(ds, scanKey(i), fmt.Appendf(nil, "value of %s", scanKey(i)))
			}
			if _, err := b.Commit(); err != nil {
				t.Fatal(err)
			}
			if place == "segments" {
				if err := db.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				db.Close()
				db = mustOpen(t, storeDir, &dyngo.Options{FS: fs})
				if ds, err = db.Dataset("d"); err != nil {
					t.Fatal(err)
				}
				if m := db.Metrics(); m.Segments == 0 {
					t.Fatal("no segments")
				}
			}
			defer db.Close()
			use(t, ds)
		})
	}
}

// wantPairs scans n pairs from key from on.
func wantPairs(ds *dyngo.Dataset, from, n int) error {
	i := from
	for kv, err := range ds.Scan(dyngo.Range{From: scanKey(from), Limit: n}) {
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("value of %s", scanKey(i)); string(kv.Key) != string(scanKey(i)) || string(kv.Value) != want {
			return fmt.Errorf("pair %d of a scan from %d: %q = %q", i-from, from, kv.Key, kv.Value)
		}
		i++
	}
	if want := min(from+n, scanKeys); i != want {
		return fmt.Errorf("a scan of %d from %d ends at %d, want %d", n, from, i, want)
	}
	return nil
}

// Scans use each other's buffers, but not those of the pair with which the caller left a loop.
func TestScanLeavesItsLastPairAlone(t *testing.T) {
	scanStores(t, func(t *testing.T, ds *dyngo.Dataset) {
		for _, end := range []string{"break", "limit", "end"} {
			r, at := dyngo.Range{From: scanKey(50)}, 50
			switch end {
			case "limit":
				r.Limit, at = 20, 69
			case "end":
				at = scanKeys - 1
			}
			var last dyngo.KV
			for kv, err := range ds.Scan(r) {
				if err != nil {
					t.Fatal(err)
				}
				if last = kv; end == "break" {
					break
				}
			}
			for from := range 200 {
				if err := wantPairs(ds, 1000+from, 100); err != nil {
					t.Fatal(err)
				}
			}
			if want := scanKey(at); !bytes.Equal(last.Key, want) || string(last.Value) != "value of "+string(want) {
				t.Errorf("%s: later scans made of the last pair %q = %q, want key %q", end, last.Key, last.Value, want)
			}
		}
	})
}

// Scans within scans and beside each other have nothing in common.
func TestScansWithinScans(t *testing.T) {
	scanStores(t, func(t *testing.T, ds *dyngo.Dataset) {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				i := 500 * g
				for kv, err := range ds.Scan(dyngo.Range{From: scanKey(i), Limit: 150}) {
					if err != nil {
						t.Error(err)
						return
					}
					if err := wantPairs(ds, i+1, 3+i%90); err != nil {
						t.Error(err)
						return
					}
					if want := "value of " + string(scanKey(i)); string(kv.Value) != want {
						t.Errorf("pair %d is %q after a scan within the scan", i, kv.Value)
						return
					}
					i++
				}
			})
		}
		wg.Wait()
	})
}

// What a scan has found in memory counts for nothing when a generation leaves meanwhile: it looks again, to the end.
func TestScanWhileMemoryLeaves(t *testing.T) {
	db, ds := openWith(t, &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20})
	defer db.Close()
	filler, err := db.CreateDataset("filler", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		value := make([]byte, 4000)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := filler.Put(fmt.Appendf(nil, "%d", i%100), value); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	const keys = 50
	b := db.NewBatch()
	for round := 0; db.Metrics().Evictions < 60; round++ {
		b.Reset()
		value := bytes.Repeat(fmt.Appendf(nil, "%8d", round), 400)
		for i := range keys {
			b.Put(ds, scanKey(i), value)
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			n := 0
			for kv, err := range ds.Scan(dyngo.Range{Limit: keys + 1}) {
				if err != nil || string(kv.Key) != string(scanKey(n)) || !bytes.Equal(kv.Value, value) {
					t.Fatalf("round %d, pair %d is %q with %.8q, %v", round, n, kv.Key, kv.Value, err)
				}
				n++
			}
			if n != keys {
				t.Fatalf("round %d: %d pairs", round, n)
			}
		}
	}
}

// A range delete hides the rest of a segment from its run, but not what a later segment of the same run holds that is newer.
func TestScanFindsWhatIsNewerThanARangeDeleteInTheSameRun(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	fs.SetQuota(32 << 20) // small files
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20})
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%04d", i) }
	put := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := ds.Put(key(i), []byte(big(2<<10, byte(rand.IntN(256))))); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 1000)
	mustFlush(t, db)
	v, err := db.View() // old versions stay
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.DeleteRange(key(100), key(900)); err != nil {
		t.Fatal(err)
	}
	put(500, 600)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.Runs != 1 || m.Segments < 4 {
		t.Fatalf("%d segments in %d runs, want at least 4 in one", m.Segments, m.Runs)
	}
	v.Close()
	db.Close()
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fs, ReadOnly: true}) // nothing is in memory
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []dyngo.Range{{}, {Reverse: true}, {From: key(200), To: key(800)}, {From: key(200), To: key(800), Reverse: true}} {
		var want, got []string
		for i := range 1000 {
			k := key(i)
			if (i < 100 || i >= 500 && i < 600 || i >= 900) && bytes.Compare(k, r.From) >= 0 && (r.To == nil || bytes.Compare(k, r.To) < 0) {
				want = append(want, string(k))
			}
		}
		if r.Reverse {
			slices.Reverse(want)
		}
		for kv, err := range ds.Scan(r) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(kv.Key))
		}
		if !slices.Equal(got, want) {
			t.Errorf("scan %q to %q, reverse %t: %d keys, want %d", r.From, r.To, r.Reverse, len(got), len(want))
		}
	}
}

// Of a key that two datasets have, the last of one and the first of the next in a segment, each scan finds its own dataset's version.
func TestScanKeepsDatasetsApartInASegment(t *testing.T) {
	db, d := openWith(t, &dyngo.Options{FS: vfs.NewMem()})
	defer db.Close()
	e, err := db.CreateDataset("e", nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(ds *dyngo.Dataset, key, value string) {
		if _, err := ds.Put([]byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put(d, "j", "of d")
	put(d, "k", "of d")
	put(e, "k", "of e")
	put(e, "l", "old")
	v, err := db.View() // so that a key has two versions in the segment
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	put(e, "l", "new")
	if err := db.LeaveMemory(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := db.Metrics().Segments; n != 1 {
		t.Fatalf("%d segments", n)
	}
	for _, c := range []struct {
		ds           *dyngo.Dataset
		r            dyngo.Range
		keys, values []string
	}{
		{d, dyngo.Range{}, []string{"j", "k"}, []string{"of d", "of d"}},
		{d, dyngo.Range{Reverse: true}, []string{"k", "j"}, []string{"of d", "of d"}},
		{e, dyngo.Range{}, []string{"k", "l"}, []string{"of e", "new"}},
		{e, dyngo.Range{Reverse: true}, []string{"l", "k"}, []string{"new", "of e"}},
		{e, dyngo.Range{Reverse: true, To: []byte("l")}, []string{"k"}, []string{"of e"}},
	} {
		if keys, values := pairs(t, c.ds, c.r); !slices.Equal(keys, c.keys) || !slices.Equal(values, c.values) {
			t.Errorf("%s, reverse %t: %q = %q, want %q = %q", c.ds.Name(), c.r.Reverse, keys, values, c.keys, c.values)
		}
	}
}

// TestScanEndsWithItsView: once a view is closed in the loop over its pairs, the next step says so, wherever the pairs come from.
func TestScanEndsWithItsView(t *testing.T) {
	o := &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20}
	o.LookHotOnly()
	db := mustOpen(t, "store", o)
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(100) {
		if _, err := ds.Put([]byte{i}, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for _, place := range []struct {
		name string
		to   func() error
	}{
		{"memory", func() error { return nil }},
		{"segments", func() error { return db.LeaveMemory(t.Context()) }},
		{"a hot range", func() error { return ds.KeepHot(t.Context(), nil, nil) }},
	} {
		if err := place.to(); err != nil {
			t.Fatal(err)
		}
		v, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		pairs := 0
		for _, err = range v.Scan(ds, dyngo.Range{}) {
			if err != nil {
				break
			}
			if pairs++; pairs == 3 {
				v.Close()
			}
		}
		if pairs != 3 || !errors.Is(err, dyngo.ErrClosed) {
			t.Errorf("from %s: %d pairs, %v", place.name, pairs, err)
		}
	}
}

// TestScansAfterClose: scans that are in progress when the store is closed look at nothing more, wherever their next pairs would come from.
func TestScansAfterClose(t *testing.T) {
	o := &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20}
	o.LookHotOnly()
	db, ds := openWith(t, o)
	for i := range byte(100) {
		if _, err := ds.Put([]byte{i}, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.LeaveMemory(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ds.KeepHot(t.Context(), []byte{40}, []byte{60}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		for _, r := range []dyngo.Range{{From: []byte{40}}, {To: []byte{60}, Reverse: true}, {}, {Reverse: true}} {
			next, stop := iter.Pull2(ds.Scan(r))
			for range 20 { // there the hot range ends
				if _, err, ok := next(); err != nil || !ok {
					t.Fatal(err, ok)
				}
			}
			defer func() {
				if _, err, ok := next(); !ok || !errors.Is(err, dyngo.ErrClosed) {
					t.Errorf("scan %d from %d to %d: %v after Close", i, r.From, r.To, err)
				}
				stop()
			}()
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestScanOfOneEvent finds it when it is all that segments have, and the last that has left memory.
func TestScanOfOneEvent(t *testing.T) {
	db, ds := openWith(t, &dyngo.Options{FS: vfs.NewMem()})
	defer db.Close()
	if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := db.LeaveMemory(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, reverse := range []bool{false, true} {
		if keys, values := pairs(t, ds, dyngo.Range{Reverse: reverse}); !slices.Equal(keys, []string{"k"}) || !slices.Equal(values, []string{"v"}) {
			t.Errorf("reverse %t: %q = %q", reverse, keys, values)
		}
	}
}

// TestScanOfADroppedDataset says so, also where a hot range has its pairs.
func TestScanOfADroppedDataset(t *testing.T) {
	o := &dyngo.Options{FS: vfs.NewMem()}
	o.LookHotOnly()
	db, ds := openWith(t, o)
	defer db.Close()
	for i := range byte(100) {
		if _, err := ds.Put([]byte{i}, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := ds.KeepHot(t.Context(), []byte{40}, []byte{60}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.DropDataset("d"); err != nil {
		t.Fatal(err)
	}
	for _, from := range []byte{0, 40} {
		n := 0
		for _, err := range ds.Scan(dyngo.Range{From: []byte{from}, Limit: 5}) {
			if n++; n > 1 || !errors.Is(err, dyngo.ErrNoDataset) {
				t.Errorf("from %d, step %d: %v", from, n, err)
			}
		}
		if n == 0 {
			t.Errorf("from %d: no error", from)
		}
	}
}
