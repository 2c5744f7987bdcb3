package dyngo_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// After many flushes, Compact leaves one run without tombstones, range deletes and what they hid, and reads are as before:
// current ones, those of a view from before, and those after the store was opened again.
func TestCompactKeepsWhatReadsSee(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, small(fs))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := db.CreateDataset("gone", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	key := func(i int) string { return fmt.Sprintf("key-%04d", i) }
	write := func(round int) {
		for range 600 {
			i := rng.IntN(2000)
			switch rng.IntN(20) {
			case 0, 1, 2:
				delete(want, key(i))
				_, err = ds.Delete([]byte(key(i)))
			case 3:
				maps.DeleteFunc(want, func(k, _ string) bool { return k >= key(i) && k < key(i+30) })
				_, err = ds.DeleteRange([]byte(key(i)), []byte(key(i+30)))
			default:
				want[key(i)] = fmt.Sprint(round, "-", big(50, byte(i)))
				_, err = ds.Put([]byte(key(i)), []byte(want[key(i)]))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := gone.Put([]byte(key(round)), []byte("v")); err != nil {
			t.Fatal(err)
		}
		mustFlush(t, db)
	}
	check := func(what string, got, want map[string]string) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Fatalf("%s: %d pairs, want %d", what, len(got), len(want))
		}
	}
	read := func(scan func(dyngo.Range) func(func(dyngo.KV, error) bool)) map[string]string {
		got := map[string]string{}
		for kv, err := range scan(dyngo.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			got[string(kv.Key)] = string(kv.Value)
		}
		return got
	}
	current := func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return ds.Scan(r) }
	for round := range 6 {
		write(round)
	}
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	seen := maps.Clone(want)
	for round := range 6 {
		write(10 + round)
	}
	if _, err := db.DropDataset("gone"); err != nil {
		t.Fatal(err)
	}
	for i, compact := range []bool{false, true, true} {
		if compact {
			if err := db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		check(fmt.Sprint("now, ", i), read(current), want)
		for k, v := range want {
			if got, err := ds.Get([]byte(k)); err != nil || string(got) != v {
				t.Fatalf("%s is %.20q, %v; want %.20q", k, got, err, v)
			}
		}
		if i < 2 {
			check(fmt.Sprint("view, ", i), read(func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return view.Scan(ds, r) }), seen)
			if i == 1 {
				view.Close() // the next Compact need not keep what it sees
			}
		}
	}
	l, err := db.Levels()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Runs) != 1 {
		t.Fatalf("%d runs are left", len(l.Runs))
	}
	for _, s := range l.Runs[0].Segments {
		if s.Tombstones > 0 || s.RangeDeletes > 0 || s.Entries != s.Keys || s.FirstDataset != "d" || s.LastDataset != "d" {
			t.Errorf("left in the segments: %+v", s)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List(storeDir + "/segments")
	if err != nil || len(names) != len(l.Runs[0].Segments) {
		t.Errorf("files %q, %v; %d are live", names, err, len(l.Runs[0].Segments))
	}
	db = mustOpen(t, storeDir, small(fs))
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	check("opened again", read(current), want)
	keys, _ := pairs(t, ds, dyngo.Range{From: []byte(key(500)), To: []byte(key(700))})
	back, _ := pairs(t, ds, dyngo.Range{From: []byte(key(500)), To: []byte(key(700)), Reverse: true})
	if slices.Reverse(back); !slices.Equal(keys, back) {
		t.Errorf("forward %q, backward %q", keys, back)
	}
}

// What belongs to a dataset that was dropped before the store was opened goes with the next merge.
func TestCompactForgetsDatasetsDroppedBefore(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, options(fs, c))
	for _, name := range []string{"stays", "goes"} {
		ds, err := db.CreateDataset(name, nil)
		if err == nil {
			_, err = ds.Put([]byte("k"), []byte(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := db.DropDataset("goes")
	if err := errors.Join(err, db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, options(fs, c))
	defer db.Close()
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := db.Levels()
	if err != nil || len(l.Runs) != 1 || l.Runs[0].Segments[0].Entries != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
}

// A store that has come to rest is at rest when it is opened again: what merges have learned of overwrites is forgotten by then, and is
// not guessed to be much.
func TestReopenedStoreRests(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("loads 100 MB: run without -short")
	}
	fs := vfs.NewMem()
	merged := make(chan string, 1000)
	o := &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, Listener: &dyngo.Listener{
		Compacted: func(why string, _, _ int64, _ time.Duration) { merged <- why },
	}}
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 7))
	value := make([]byte, 1000)
	for range 100_000 { // new keys in random order
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
		if _, err := ds.Put(fmt.Appendf(nil, "%016x", rng.Uint64()), value); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, db)
	for atWork := true; atWork; {
		select {
		case <-merged:
		case <-time.After(500 * time.Millisecond):
			atWork = false
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, o)
	defer db.Close()
	select {
	case why := <-merged:
		t.Errorf("merged: %s", why)
	case <-time.After(2 * time.Second): // the first look comes after one
	}
}
