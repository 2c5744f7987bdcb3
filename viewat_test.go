package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func mustViewAt(t *testing.T, db *dyngo.DB, target dyngo.Target) *dyngo.View {
	t.Helper()
	v, err := db.ViewAt(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Targets name LSNs, times and the edges of batches.
func TestViewAtTargets(t *testing.T) {
	c := manualClock()
	start := time.Unix(0, c.Now())
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), Clock: c})
	defer db.Close()
	ds, err := db.CreateDataset("d", nil) // LSN 1 is the session, 2 the dataset
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("k")
	for i := range 3 { // LSN 3 at 1 s, 4 to 6 at 2 s, 7 to 9 at 3 s
		c.Advance(time.Second)
		if i == 0 {
			_, err = ds.Put(key, []byte("3"))
		} else {
			b := db.NewBatch()
			for j := range 3 {
				b.Put(ds, key, fmt.Append(nil, 1+3*i+j))
			}
			_, err = b.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Advance(time.Second)
	after := func(d time.Duration) dyngo.Target { return dyngo.AtTime(start.Add(d)) }
	for _, tc := range []struct {
		target dyngo.Target
		lsn    dyngo.LSN
		at     time.Duration
	}{
		{dyngo.AtLSN(3), 3, time.Second},
		{dyngo.AtLSN(5), 5, 2 * time.Second},
		{dyngo.AtLSN(9), 9, 3 * time.Second},
		{after(999 * time.Millisecond), 2, 999 * time.Millisecond},
		{after(time.Second), 3, time.Second},
		{after(2 * time.Second), 6, 2 * time.Second},
		{after(2*time.Second + 1), 6, 2*time.Second + 1},
		{after(4 * time.Second), 9, 4 * time.Second},
		{dyngo.BeforeTx(3), 2, 0},
		{dyngo.BeforeTx(4), 3, time.Second},
		{dyngo.BeforeTx(7), 6, 2 * time.Second},
		{dyngo.AfterTx(3), 3, time.Second},
		{dyngo.AfterTx(4), 6, 2 * time.Second},
	} {
		v := mustViewAt(t, db, tc.target)
		if v.LSN() != tc.lsn || !v.Time().Equal(start.Add(tc.at)) {
			t.Errorf("%v is LSN %d at %v, want %d at %v", tc.target, v.LSN(), v.Time().Sub(start), tc.lsn, tc.at)
		}
		want := fmt.Sprint(tc.lsn)
		if got, err := v.Get(ds, key); tc.lsn >= 3 && (err != nil || string(got) != want) || tc.lsn < 3 && !errors.Is(err, dyngo.ErrNotFound) {
			t.Errorf("%v: the key is %q, %v, want %s", tc.target, got, err, want)
		}
		if kv, err := v.Lookup(ds, key); tc.lsn >= 3 && (err != nil || kv.LSN != tc.lsn) {
			t.Errorf("%v: the key has LSN %d, %v", tc.target, kv.LSN, err)
		}
		v.Close()
	}
	for _, target := range []dyngo.Target{dyngo.BeforeTx(5), dyngo.AfterTx(9)} {
		if _, err := db.ViewAt(t.Context(), target); !errors.Is(err, dyngo.ErrNoBatch) {
			t.Errorf("%v: %v", target, err)
		}
	}
	for _, target := range []dyngo.Target{dyngo.AtLSN(10), dyngo.AfterTx(10), dyngo.BeforeTx(0), after(5 * time.Second), after(-time.Second)} {
		_, err := db.ViewAt(t.Context(), target)
		var w *dyngo.WindowError
		if !errors.Is(err, dyngo.ErrOutsideWindow) || !errors.As(err, &w) || w.From != 0 || w.To != 9 {
			t.Errorf("%v: %v", target, err)
			continue
		}
		if text := err.Error(); !strings.Contains(text, "LSN 0 to 9, 2023-11-14T") || !strings.Contains(text, target.String()) {
			t.Errorf("%v: the text is %q", target, text)
		}
	}
	v := mustViewAt(t, db, dyngo.AtLSN(3))
	v.Close()
	if _, err := v.Get(ds, key); !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("a closed view: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// A view of the past waits until its LSN is durable, or until its context ends.
func TestViewAtWaitsForDurability(t *testing.T) {
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), Clock: manualClock()})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("k"), []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	if db.DurableLSN() >= lsn {
		t.Fatal("the put is durable at once")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.ViewAt(ctx, dyngo.AtLSN(lsn)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	v := mustViewAt(t, db, dyngo.AtLSN(lsn))
	defer v.Close()
	if db.DurableLSN() < lsn {
		t.Error("the view came before its LSN was durable")
	}
}

// What a view of the past reads stays until it is closed, and the hold registry says so; then retention goes on, and the view's
// LSN lies outside of the window.
func TestViewAtHoldsRetentionBack(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	old := make(chan time.Duration, 10)
	o := bounded(fs, c, 2<<20)
	o.Listener = &dyngo.Listener{ViewOld: func(_ dyngo.LSN, age time.Duration) { old <- age }}
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("k"), []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	v := mustViewAt(t, db, dyngo.AtLSN(lsn))
	if _, err := ds.Put([]byte("k"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 40)
	mustGC(t, db)
	if got, err := v.Get(ds, []byte("k")); err != nil || string(got) != "old" {
		t.Errorf("the view shows %q, %v", got, err)
	}
	if db.Metrics().FloorLSN != 0 {
		t.Errorf("the floor is at %d", db.Metrics().FloorLSN)
	}
	held := func(h dyngo.Hold) bool { return h.Name == "view" && h.LSN == lsn && h.LogFile == 1 }
	if !slices.ContainsFunc(db.Holds(), held) {
		t.Errorf("the holds are %+v", db.Holds())
	}
	select {
	case age := <-old:
		t.Errorf("a view is old after %v", age)
	default:
	}
	for len(old) == 0 {
		c.Advance(time.Minute)
	}
	if age := <-old; age < 10*time.Minute {
		t.Errorf("a view is old after %v", age)
	}
	v.Close()
	if slices.ContainsFunc(db.Holds(), held) {
		t.Errorf("after Close the holds are %+v", db.Holds())
	}
	mustGC(t, db)
	if db.Metrics().FloorLSN < lsn {
		t.Errorf("after Close the floor is at %d", db.Metrics().FloorLSN)
	}
	if _, err := db.ViewAt(t.Context(), dyngo.AtLSN(lsn)); !errors.Is(err, dyngo.ErrOutsideWindow) {
		t.Errorf("below the floor: %v", err)
	}
	// At the floor itself there is what was current there.
	v = mustViewAt(t, db, dyngo.AtLSN(db.Metrics().FloorLSN))
	defer v.Close()
	if got, err := v.Get(ds, []byte("k")); err != nil || string(got) != "new" {
		t.Errorf("the view at the floor shows %q, %v", got, err)
	}
}

// A dataset that was dropped is found by name in a view of when it was there, and one of the same name that came later is
// another.
func TestViewAtShowsDroppedDatasets(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, options(fs, c))
	put := func(value string) dyngo.LSN {
		t.Helper()
		ds, err := db.CreateDataset("d", nil)
		if err != nil {
			t.Fatal(err)
		}
		lsn, err := ds.Put([]byte(value), []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	first := put("first")
	gone, err := db.DropDataset("d")
	if err != nil {
		t.Fatal(err)
	}
	second := put("second")
	check := func() {
		t.Helper()
		for lsn, want := range map[dyngo.LSN]string{first: "first", gone: "", second: "second"} {
			v := mustViewAt(t, db, dyngo.AtLSN(lsn))
			if names, err := v.Datasets(); err != nil || (len(names) == 1 && names[0] == "d") != (want != "") || len(names) > 1 {
				t.Errorf("at LSN %d there are the datasets %q, %v", lsn, names, err)
			}
			ds, err := v.Dataset("d")
			if want == "" {
				if !errors.Is(err, dyngo.ErrNoDataset) {
					t.Errorf("at LSN %d: %v", lsn, err)
				}
				v.Close()
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := v.Get(ds, []byte(want)); err != nil || string(got) != want {
				t.Errorf("at LSN %d: %q, %v", lsn, got, err)
			}
			var keys []string
			for kv, err := range v.Scan(ds, dyngo.Range{}) {
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, string(kv.Key))
			}
			if !slices.Equal(keys, []string{want}) {
				t.Errorf("at LSN %d: keys %q", lsn, keys)
			}
			if want == "first" { // the handle is of what is gone
				if _, err := ds.Get([]byte(want)); !errors.Is(err, dyngo.ErrNoDataset) {
					t.Errorf("the present of a dropped dataset: %v", err)
				}
				if _, err := ds.Put([]byte(want), nil); !errors.Is(err, dyngo.ErrNoDataset) && !errors.Is(err, dyngo.ErrReadOnly) {
					t.Errorf("a put into a dropped dataset: %v", err)
				}
				now := mustViewAt(t, db, dyngo.AtLSN(second))
				if _, err := now.Get(ds, []byte(want)); !errors.Is(err, dyngo.ErrNoDataset) {
					t.Errorf("a dropped dataset after its drop: %v", err)
				}
				now.Close()
			}
			v.Close()
		}
	}
	check()
	now, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	if names, err := now.Datasets(); err != nil || !slices.Equal(names, []string{"d"}) {
		t.Errorf("now there are the datasets %q, %v", names, err)
	}
	now.Close()
	if err := errors.Join(db.Flush(t.Context()), db.Compact(t.Context())); err != nil {
		t.Fatal(err)
	}
	check()
	for _, readOnly := range []bool{false, true} {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		c.Advance(time.Millisecond)
		o := options(fs, c)
		o.ReadOnly = readOnly
		db = mustOpen(t, storeDir, o)
		check()
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// An empty store has one state, the empty one.
func TestViewAtOfAnEmptyStore(t *testing.T) {
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), Clock: manualClock()})
	defer db.Close()
	v := mustViewAt(t, db, dyngo.AtLSN(0))
	defer v.Close()
	if _, err := v.Dataset("d"); !errors.Is(err, dyngo.ErrNoDataset) {
		t.Errorf("a dataset of the empty store: %v", err)
	}
	if _, err := db.ViewAt(t.Context(), dyngo.AtLSN(1)); err == nil || !strings.HasSuffix(err.Error(), "the window is LSN 0 to 0") {
		t.Errorf("beyond the end: %v", err)
	}
}

// A damaged side file is not believed: the log file is read instead.
func TestViewAtReadsPastADamagedSideFile(t *testing.T) {
	fs := vfs.NewMem()
	o := &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20}
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("k"), []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 20)
	if _, err := ds.Put([]byte("k"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Flush(t.Context()), db.Compact(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"none", "made", "damaged"} {
		o.ReadOnly = what != "made"
		db := mustOpen(t, storeDir, o)
		if what == "made" {
			if err := db.BuildSideFiles(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if what == "damaged" {
			damageSideFiles(t, fs)
		}
		v := mustViewAt(t, db, dyngo.AtLSN(lsn))
		ds, err := v.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Get(ds, []byte("k")); err != nil || string(got) != "old" {
			t.Errorf("side files %s: %q, %v", what, got, err)
		}
		n := 0
		for kv, err := range v.Scan(ds, dyngo.Range{}) {
			if err != nil || string(kv.Value) != "old" {
				t.Errorf("side files %s: scan gives %.20q, %v", what, kv.Value, err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("side files %s: scan gives %d pairs", what, n)
		}
		v.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// damageSideFiles changes a byte in the blocks of each side file.
func damageSideFiles(t *testing.T, fs vfs.FS) {
	t.Helper()
	names, err := fs.List(storeDir + "/side")
	if err != nil || len(names) == 0 {
		t.Fatalf("side files %q, %v", names, err)
	}
	for _, name := range names {
		damage(t, fs, storeDir+"/side/"+name, 10)
	}
}
