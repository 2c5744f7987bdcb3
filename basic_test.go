package dyngo_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo"
)

func TestPutGetDelete(t *testing.T) {
	dir := t.TempDir()
	db := mustOpen(t, dir, nil)
	ds, err := db.CreateDataset("scores", nil)
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("anna"), []byte("42"))
	if err != nil || lsn != 3 { // session, dataset, put
		t.Fatalf("Put = %d, %v", lsn, err)
	}
	if v, err := ds.Get([]byte("anna")); string(v) != "42" || err != nil {
		t.Fatalf("Get = %q, %v", v, err)
	}
	if _, err := ds.Get([]byte("bert")); !errors.Is(err, dyngo.ErrNotFound) {
		t.Fatalf("Get of an absent key: %v", err)
	}
	if _, err := ds.Delete([]byte("anna")); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Get([]byte("anna")); !errors.Is(err, dyngo.ErrNotFound) {
		t.Fatalf("Get of a deleted key: %v", err)
	}
	if _, err := ds.Put([]byte("carl"), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Get([]byte("carl")); !errors.Is(err, dyngo.ErrClosed) {
		t.Fatalf("Get after Close: %v", err)
	}
	db = mustOpen(t, dir, nil)
	defer db.Close()
	if ds, err = db.Dataset("scores"); err != nil {
		t.Fatal(err)
	}
	if v, err := ds.Get([]byte("carl")); len(v) != 0 || err != nil {
		t.Fatalf("Get of an empty value after reopening = %q, %v", v, err)
	}
	if ok, err := ds.Has([]byte("anna")); ok || err != nil {
		t.Fatalf("Has of a deleted key after reopening = %v, %v", ok, err)
	}
	if r := db.Recovery(); !r.Clean || r.Events != 5 || r.LastLSN != 5 {
		t.Fatalf("recovery: %+v", r)
	}
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	for _, c := range []dyngo.Consistency{dyngo.Strong, dyngo.Causal, dyngo.Eventual} {
		t.Run(c.String(), func(t *testing.T) {
			dir := t.TempDir()
			db := mustOpen(t, dir, nil)
			ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: c})
			if err != nil {
				t.Fatal(err)
			}
			const writers, each = 16, 200
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						k := fmt.Appendf(nil, "%d/%d", w, i%50)
						v := fmt.Appendf(nil, "%d", i)
						if _, err := ds.Put(k, v); err != nil {
							t.Error(err)
							return
						}
						if got, err := ds.Get(k); err != nil || string(got) != string(v) {
							t.Errorf("read %q after writing %q: %v", got, v, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = mustOpen(t, dir, nil)
			defer db.Close()
			if ds, err = db.Dataset("d"); err != nil {
				t.Fatal(err)
			}
			for w := range writers {
				for i := range 50 {
					if got, err := ds.Get(fmt.Appendf(nil, "%d/%d", w, i)); err != nil || string(got) != fmt.Sprint(150+i) {
						t.Fatalf("after reopening %d/%d is %q, %v", w, i, got, err)
					}
				}
			}
		})
	}
}

func TestDroppedDataset(t *testing.T) {
	db := mustOpen(t, "", &dyngo.Options{InMemory: true})
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	before, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	b := db.NewBatch()
	b.Put(ds, []byte("k2"), nil)
	if _, err := db.DropDataset("d"); err != nil {
		t.Fatal(err)
	}
	again, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := again.Has([]byte("k")); ok || err != nil {
		t.Errorf("a new dataset of the same name has the old one's key: %v, %v", ok, err)
	}
	var scanned error
	for _, scanned = range ds.Scan(dyngo.Range{}) {
		break
	}
	for name, err := range map[string]error{
		"Get": second(ds.Get([]byte("k"))), "Put": second(ds.Put([]byte("k"), nil)), "batch": second(b.Commit()), "scan": scanned,
		"drop": second(db.DropDataset("none")), "Dataset": second(db.Dataset("none")),
	} {
		if !errors.Is(err, dyngo.ErrNoDataset) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := before.Get(ds, []byte("k")); string(v) != "v" || err != nil {
		t.Errorf("a view from before the drop sees %q, %v", v, err)
	}
	if _, err := before.Get(again, []byte("k")); !errors.Is(err, dyngo.ErrNoDataset) {
		t.Errorf("a view from before the dataset was created: %v", err)
	}
}
