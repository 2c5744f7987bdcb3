package dyngo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Records of segments that are kept by key are what a model says, whatever is overwritten, deleted, leaves memory, is merged or comes
// back by another open; and a view sees what it saw.
func TestRecordsAreAsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	o := &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20}
	db := mustOpen(t, "store", o)
	defer func() { db.Close() }()
	var ds *dyngo.Dataset
	model := map[string]string{}
	old := map[string]string{} // what view sees
	var view *dyngo.View
	key := func() []byte { return fmt.Appendf(nil, "key%03d", rng.IntN(300)) }
	create := func() {
		var err error
		if ds, err = db.CreateDataset(fmt.Sprintf("d%d", db.LSN()), &dyngo.DatasetOptions{Consistency: dyngo.Eventual}); err != nil {
			t.Fatal(err)
		}
		clear(model)
	}
	create()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hits, left := int64(0), 0
	ops := 4000
	if testing.Short() {
		ops = 1500
	}
	for i := range ops {
		k := key()
		switch n := rng.IntN(100); {
		case n < 55:
			want, has := model[string(k)]
			for range 10 { // more hits than records that leave: else records only sample
				got, err := ds.AppendGet([]byte("dst"), k)
				if has && (err != nil || string(got) != "dst"+want) || !has && !errors.Is(err, dyngo.ErrNotFound) {
					t.Fatalf("op %d: get %s: %.40q, %v; want %.40q, %v", i, k, got, err, want, has)
				}
			}
			if ok, err := ds.Has(k); ok != has || err != nil {
				t.Fatalf("op %d: has %s: %v, %v; want %v", i, k, ok, err, has)
			}
			if kv, err := ds.Lookup(k); has && (err != nil || string(kv.Value) != want || !bytes.Equal(kv.Key, k) || kv.LSN == 0 || kv.Time.IsZero()) {
				t.Fatalf("op %d: lookup %s: %v, %v", i, k, kv, err)
			}
			if view != nil {
				want, has := old[string(k)]
				if got, err := view.Get(ds, k); has && (err != nil || string(got) != want) || !has && err == nil {
					t.Fatalf("op %d: a view gets %s: %.40q, %v; want %.40q, %v", i, k, got, err, want, has)
				}
			}
		case n < 75:
			v := fmt.Sprintf("%d:%s", i, bytes.Repeat([]byte("ab"), rng.IntN(200)))
			if _, err := ds.PutWith(k, []byte(v), dyngo.WriteOptions{Reason: "why"[:rng.IntN(4)]}); err != nil {
				t.Fatal(err)
			}
			model[string(k)] = v
		case n < 82:
			_, err := ds.Delete(k)
			must(err)
			delete(model, string(k))
		case n < 84:
			from, to := key(), key()
			if bytes.Compare(from, to) >= 0 {
				continue
			}
			_, err := ds.DeleteRange(from, to)
			must(err)
			for m := range model {
				if m >= string(from) && m < string(to) {
					delete(model, m)
				}
			}
		case n < 87:
			must(db.LeaveMemory(t.Context()))
			left++
		case n < 88:
			must(db.Compact(t.Context()))
		case n < 93 && rng.IntN(4) == 0:
			if view != nil {
				view.Close()
				view = nil
			} else {
				must(db.WaitDurable(t.Context(), db.LSN()))
				var err error
				view, err = db.View()
				must(err)
				old = map[string]string{}
				for k, v := range model {
					old[k] = v
				}
			}
		case n < 98 && rng.IntN(10) == 0 && view == nil:
			hits += db.Metrics().RecordHits
			must(db.Close())
			db = mustOpen(t, "store", o)
			var err error
			ds, err = db.Dataset(ds.Name())
			must(err)
		case rng.IntN(60) == 0 && view == nil:
			_, err := db.DropDataset(ds.Name())
			must(err)
			create()
		}
	}
	if view != nil {
		view.Close()
	}
	if hits += db.Metrics().RecordHits; hits < int64(ops)/20 || left < ops/80 {
		t.Errorf("%d records hit, memory was left %d times: this tests nothing", hits, left)
	}
}

// Nobody who gets a key finds an older value than one that was written before he began, while keys are overwritten, leave memory and
// are read again from segments at once.
func TestRecordsNeverFallBehind(t *testing.T) {
	for _, consistency := range []dyngo.Consistency{dyngo.Eventual, dyngo.Strong} {
		t.Run(consistency.String(), func(t *testing.T) {
			db := mustOpen(t, "store", &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20})
			defer db.Close()
			ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: consistency})
			if err != nil {
				t.Fatal(err)
			}
			const keys = 8
			rounds := uint64(60)
			if !testing.Short() {
				rounds = 300
			}
			var written [keys]atomic.Uint64
			done := make(chan struct{})
			var wg sync.WaitGroup
			for g := range 3 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(g), 1))
					var value []byte
					for {
						select {
						case <-done:
							return
						default:
						}
						i := rng.IntN(keys)
						least := written[i].Load()
						value, err := ds.AppendGet(value[:0], []byte{byte(i)})
						if err != nil && least > 0 || err == nil && binary.BigEndian.Uint64(value) < least {
							t.Errorf("key %d: %x, %v; %d was written before", i, value, err, least)
							return
						}
					}
				})
			}
			for n := uint64(1); (n <= rounds || n <= 5*rounds && db.Metrics().RecordHits == 0) && !t.Failed(); n++ {
				i := n % keys
				if _, err := ds.Put([]byte{byte(i)}, binary.BigEndian.AppendUint64(nil, n)); err != nil {
					t.Fatal(err)
				}
				written[i].Store(n)
				if n%3 == 0 {
					if err := db.LeaveMemory(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			close(done)
			wg.Wait()
			if m := db.Metrics(); m.RecordHits == 0 {
				t.Errorf("no record was found: this tests nothing: %d gets missed", m.RecordMisses)
			}
		})
	}
}

// What gets have found of a value in segments, and what a hot range has of it, goes from memory with a redaction.
func TestRedactTakesRecords(t *testing.T) {
	o := &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20}
	o.LookHotOnly()
	db := mustOpen(t, "store", o)
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("k"), []byte("secret"))
	if err == nil {
		err = db.LeaveMemory(t.Context())
	}
	if err == nil {
		_, err = ds.Get([]byte("k"))
	}
	if err == nil {
		err = ds.KeepHot(t.Context(), nil, nil)
	}
	if err == nil {
		_, err = ds.Put([]byte("k"), []byte("open"))
	}
	if err != nil || db.Metrics().RecordBytes == 0 || ds.HotRanges() != 1 {
		t.Fatalf("%v, %d bytes of records, %d hot ranges", err, db.Metrics().RecordBytes, ds.HotRanges())
	}
	if _, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{Reason: "a password"}); err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.RecordBytes != 0 || ds.HotRanges() != 0 {
		t.Errorf("%d bytes of records and %d hot ranges are left", m.RecordBytes, ds.HotRanges())
	}
	if v, err := ds.Get([]byte("k")); err != nil || string(v) != "open" {
		t.Errorf("got %q, %v", v, err)
	}
}

// TestRecordsSampleAllPartsInTurn: where records only sample, whichever key becomes hot is in the sample in one of some seconds, without
// hot ranges too.
func TestRecordsSampleAllPartsInTurn(t *testing.T) {
	c := manualClock()
	o := options(vfs.NewMem(), c)
	o.MemoryBudget, o.HotRangeBytes = 8<<20, -1
	db := mustOpen(t, "store", o)
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	const keys = 64
	for i := range byte(keys) {
		if _, err := ds.Put([]byte{i}, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.LeaveMemory(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(400_000) { // none is there: records bring nothing
		if _, err := ds.Get(binary.BigEndian.AppendUint32(nil, i)); !errors.Is(err, dyngo.ErrNotFound) {
			t.Fatal(err)
		}
	}
	hit := map[byte]bool{}
	for round := 0; len(hit) < keys; round++ {
		for i := range byte(keys) {
			before := db.Metrics().RecordHits
			for range 2 {
				if _, err := ds.Get([]byte{i}); err != nil {
					t.Fatal(err)
				}
			}
			if db.Metrics().RecordHits > before {
				hit[i] = true
			}
		}
		if round == 0 && len(hit) == keys {
			t.Fatal("all keys are kept: this tests nothing")
		}
		if round == 2000 {
			t.Fatalf("%d of %d keys were in the sample", len(hit), keys)
		}
		c.Advance(time.Second)
	}
}
