package dyngo_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// hotModel is what a dataset has, with the times at which keys expire, 0 = never.
type hotModel map[string]struct {
	value   string
	expires int64
}

// sameScan compares a scan with the model, in both directions and of a random part; hot says how the dataset is kept, for messages.
func sameScan(t *testing.T, scan func(dyngo.Range) func(func(dyngo.KV, error) bool), m hotModel, now int64, rng *rand.Rand) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(m))
	r := dyngo.Range{Reverse: rng.IntN(2) == 0, KeysOnly: rng.IntN(5) == 0}
	if rng.IntN(3) > 0 {
		r.From = fmt.Appendf(nil, "k%04d", rng.IntN(400))
	}
	if rng.IntN(3) > 0 {
		r.To = fmt.Appendf(nil, "k%04d", rng.IntN(400))
	}
	if rng.IntN(3) == 0 {
		r.Limit = 1 + rng.IntN(50)
	}
	keys = slices.DeleteFunc(keys, func(k string) bool {
		return r.From != nil && k < string(r.From) || r.To != nil && k >= string(r.To) || m[k].expires != 0 && m[k].expires <= now
	})
	if r.Reverse {
		slices.Reverse(keys)
	}
	if r.Limit > 0 && len(keys) > r.Limit {
		keys = keys[:r.Limit]
	}
	n := 0
	for kv, err := range scan(r) {
		if err != nil {
			t.Fatal(err)
		}
		if n == len(keys) || string(kv.Key) != keys[n] {
			t.Fatalf("scan of %q to %q, reverse %v, limit %d: pair %d is %q, want %q", r.From, r.To, r.Reverse, r.Limit, n, kv.Key,
				append(keys, "the end")[n])
		}
		if want := m[keys[n]]; !r.KeysOnly && string(kv.Value) != want.value || want.expires != 0 && kv.Expires.UnixNano() != want.expires {
			t.Fatalf("%s is %.20q, expires %v, want %.20q, %d", kv.Key, kv.Value, kv.Expires, want.value, want.expires)
		}
		n++
	}
	if n != len(keys) {
		t.Fatalf("scan of %q to %q, reverse %v: it ends after %d of %d keys", r.From, r.To, r.Reverse, n, len(keys))
	}
}

// Whatever is kept in key order, built and dropped at random, datasets read as their model does: by scans and gets, of the present and
// of views that are older than the ranges, with deletes, range deletes, expiry, large and packed values, flushes and merges.
func TestHotRangesAreAsTheModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounds, steps := 6, 2500
	if testing.Short() {
		rounds, steps = 2, 800
	}
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		fs, c := vfs.NewMem(), manualClock()
		db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, MemoryBudget: 8 << 20})
		o := &dyngo.DatasetOptions{Consistency: dyngo.Consistency(rng.IntN(3)), LargeValue: 16 << 10}
		if rng.IntN(2) == 0 {
			o.Compression = dyngo.S2
		}
		ds, err := db.CreateDataset("d", o)
		if err != nil {
			t.Fatal(err)
		}
		hotOperations(t, db, ds, c, rng, steps)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// hotView is a view with what it has to see.
type hotView struct {
	v   *dyngo.View
	m   hotModel
	now int64
}

func hotOperations(t *testing.T, db *dyngo.DB, ds *dyngo.Dataset, c *clock.Manual, rng *rand.Rand, steps int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m, built := hotModel{}, 0
	var views []hotView
	key := func() []byte { return fmt.Appendf(nil, "k%04d", rng.IntN(400)) }
	now := func() int64 { return c.Wall() }
	for step := range steps {
		switch n := rng.IntN(100); {
		case n < 50:
			k, size := key(), rng.IntN(200)
			if rng.IntN(40) == 0 {
				size = 6000 + rng.IntN(20<<10)
			}
			v := big(size, byte(step))
			wo := dyngo.WriteOptions{}
			item := m[string(k)]
			if item.value, item.expires = v, 0; rng.IntN(10) == 0 {
				wo.TTL = time.Duration(1+rng.IntN(20)) * time.Second
				item.expires = now() + int64(wo.TTL)
			}
			_, err := ds.PutWith(k, []byte(v), wo)
			must(err)
			m[string(k)] = item
		case n < 65:
			k := key()
			_, err := ds.Delete(k)
			must(err)
			delete(m, string(k))
		case n < 66:
			from, to := key(), key()
			if bytes.Compare(from, to) > 0 {
				from, to = to, from
			}
			_, err := ds.DeleteRange(from, to)
			must(err)
			maps.DeleteFunc(m, func(k string, _ struct {
				value   string
				expires int64
			}) bool {
				return k >= string(from) && k < string(to)
			})
		case n < 68:
			must(db.Flush(t.Context()))
		case n < 69:
			must(db.Compact(t.Context()))
		case n < 71:
			must(db.WaitDurable(t.Context(), db.LSN()))
			c.Advance(time.Second)
		case n < 74:
			var from, to []byte
			if rng.IntN(4) > 0 {
				from = key()
			}
			if rng.IntN(4) > 0 {
				if to = key(); bytes.Compare(from, to) >= 0 {
					continue
				}
			}
			if _, err := ds.BuildHot(from, to); err == nil {
				built++
			} else if !strings.Contains(err.Error(), "another hot range") {
				t.Fatal(err)
			}
		case n < 75:
			ds.DropHotAt(key())
		case n < 77:
			must(db.WaitDurable(t.Context(), db.LSN()))
			v, err := db.View()
			must(err)
			views = append(views, hotView{v, maps.Clone(m), now()})
			if len(views) > 4 {
				must(views[0].v.Close())
				views = views[1:]
			}
		case n < 82 && len(views) > 0:
			h := views[rng.IntN(len(views))]
			sameScan(t, func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return h.v.Scan(ds, r) }, h.m, h.now, rng)
		case n < 92:
			sameScan(t, func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return ds.Scan(r) }, m, now(), rng)
		default:
			k := key()
			kv, err := ds.Lookup(k)
			want, has := m[string(k)]
			if has = has && (want.expires == 0 || want.expires > now()); has != (err == nil) || has && string(kv.Value) != want.value {
				t.Fatalf("step %d: %s is %.20q, %v; want %.20q, there: %v", step, k, kv.Value, err, want.value, has)
			}
			if err != nil && !errors.Is(err, dyngo.ErrNotFound) {
				t.Fatal(err)
			}
			if there, err := ds.Has(k); there != has || err != nil {
				t.Fatalf("step %d: has %s: %v, %v, want %v", step, k, there, err, has)
			}
		}
	}
	for _, h := range views {
		must(h.v.Close())
	}
	if built < steps/250 {
		t.Errorf("%d ranges were built", built)
	}
}

// Ranges are built and dropped while batches are written and scanned: a scan sees all of a batch or nothing, and everything that was
// acknowledged before it began.
func TestHotRangesUnderLoad(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 300
	batches := 1500
	if testing.Short() {
		batches = 200
	}
	var work, changes sync.WaitGroup
	var acked [2]struct {
		sync.Mutex
		n int
	}
	for w := range acked {
		work.Go(func() {
			for i := range batches {
				b := db.NewBatch()
				for _, k := range []int{0, keys / 2, keys - 1} {
					b.Put(ds, fmt.Appendf(nil, "%03d-%d", k, w), fmt.Append(nil, i))
				}
				b.Put(ds, fmt.Appendf(nil, "%03d-x%d", i%keys, w), fmt.Append(nil, i))
				if _, err := b.Commit(); err != nil {
					t.Error(err)
					return
				}
				acked[w].Lock()
				acked[w].n = i
				acked[w].Unlock()
			}
		})
	}
	done := make(chan struct{})
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			from, to := fmt.Appendf(nil, "%03d", i*37%keys), fmt.Appendf(nil, "%03d", i*37%keys+1+i%150)
			if _, err := ds.BuildHot(from, to); err != nil && !strings.Contains(err.Error(), "another hot range") {
				t.Error(err)
				return
			}
			if i%3 == 2 {
				ds.DropHotAt(fmt.Appendf(nil, "%03d", i*61%keys))
			}
		}
	})
	for range 2 {
		changes.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var least [len(acked)]int
				for w := range acked {
					acked[w].Lock()
					least[w] = acked[w].n
					acked[w].Unlock()
				}
				seen := [len(acked)][]string{}
				for kv, err := range ds.Scan(dyngo.Range{}) {
					if err != nil {
						t.Error(err)
						return
					}
					if kv.Key[4] != 'x' {
						w := kv.Key[4] - '0'
						seen[w] = append(seen[w], string(kv.Value))
					}
				}
				for w, got := range seen {
					n := -1
					if len(got) > 0 {
						fmt.Sscan(got[0], &n)
					}
					if least[w] > 0 && n < least[w] || len(got) > 0 && (len(got) != 3 || got[1] != got[0] || got[2] != got[0]) {
						t.Errorf("writer %d: a scan sees %q, acknowledged were %d before", w, got, least[w])
						return
					}
				}
			}
		})
	}
	work.Wait()
	close(done)
	changes.Wait()
}

// scanned has a dataset of n keys scanned here and there for some time, in which the clock goes on.
func scanned(t *testing.T, ds *dyngo.Dataset, c *clock.Manual, n int, from, to int) {
	t.Helper()
	for i := range 2000 {
		k := from + i*7919%(to-from)
		for _, err := range ds.Scan(dyngo.Range{From: fmt.Appendf(nil, "k%06d", k), Limit: 50}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if i%20 == 19 {
			c.Advance(100 * time.Millisecond)
		}
	}
}

// scanUntilHot scans until something is promoted: heat has to tell these keys from those that were written.
func scanUntilHot(t *testing.T, db *dyngo.DB, ds *dyngo.Dataset, c *clock.Manual, n, from, to int) {
	t.Helper()
	for i := 0; i < 5 && ds.HotRanges() == 0; i++ {
		scanned(t, ds, c, n, from, to)
		lookHot(db, c)
	}
}

// lookHot has hot ranges weighed while the clock goes on.
func lookHot(db *dyngo.DB, c *clock.Manual) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.LookHot()
	}()
	for {
		select {
		case <-done:
			return
		default:
			c.Advance(time.Millisecond)
			runtime.Gosched()
		}
	}
}

// lastDecision is what was decided about a dataset last.
func lastDecision(db *dyngo.DB) (d dyngo.HotDecision) {
	if all := db.HotDecisions(); len(all) > 0 {
		d = all[len(all)-1]
	}
	return d
}

// What is scanned and seldom written is promoted and answers scans; what is written more than scanned is demoted, and so is what a range
// delete touches, and what nobody uses. Each decision says why.
func TestHotRangesComeAndGo(t *testing.T) {
	c := manualClock()
	told := make(chan dyngo.HotDecision, 1000)
	o := &dyngo.Options{FS: vfs.NewMem(), Clock: c, MemoryBudget: 64 << 20,
		Listener: &dyngo.Listener{HotRange: func(d dyngo.HotDecision) { told <- d }}}
	o.LookHotOnly()
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	for i := range n {
		if _, err := ds.Put(fmt.Appendf(nil, "k%06d", i), []byte(big(50, byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
	lookHot(db, c)
	if ds.HotRanges() != 0 {
		t.Fatalf("a dataset that is never scanned has %d hot ranges: %+v", ds.HotRanges(), lastDecision(db))
	}
	scanUntilHot(t, db, ds, c, n, 2000, 4000)
	d := lastDecision(db)
	if ds.HotRanges() == 0 || d.Action != "promoted" || d.Benefit <= d.Cost || d.Bytes == 0 || d.Reason == "" || d.Dataset != "d" {
		t.Fatalf("%d hot ranges after scans: %+v", ds.HotRanges(), d)
	}
	if got := <-told; got.Action != "promoted" {
		t.Errorf("the listener is told %+v", got)
	}
	if m := db.Metrics(); m.HotRanges != ds.HotRanges() || m.HotRangeBytes <= 0 || m.HotRangeBytes > 64<<20/8+64<<20/64 {
		t.Errorf("%d hot ranges of %d bytes in the metrics, there are %d", m.HotRanges, m.HotRangeBytes, ds.HotRanges())
	}
	scanned(t, ds, c, n, 2000, 4000) // from them

	// Writes, no scans.
	for range 8 {
		for i := range 1000 {
			if _, err := ds.Put(fmt.Appendf(nil, "k%06d", 2000+i*2%2000), []byte("x")); err != nil {
				t.Fatal(err)
			}
			if i%25 == 24 {
				c.Advance(100 * time.Millisecond)
			}
		}
		lookHot(db, c)
	}
	if d = lastDecision(db); ds.DropHotAt([]byte("k002500")) || d.Action != "demoted" || !strings.Contains(d.Reason, "writes cost more") {
		t.Errorf("%d hot ranges after writes: %+v", ds.HotRanges(), d)
	}

	// A range delete.
	scanUntilHot(t, db, ds, c, n, 8000, 9000)
	if ds.HotRanges() == 0 {
		t.Fatalf("nothing is promoted: %+v", lastDecision(db))
	}
	if _, err := ds.DeleteRange(nil, nil); err != nil {
		t.Fatal(err)
	}
	if ds.HotRanges() != 0 {
		t.Error("a range delete leaves hot ranges")
	}
	lookHot(db, c)
	if d := lastDecision(db); d.Action != "demoted" && d.Action != "promoted" {
		t.Errorf("after a range delete: %+v", d)
	}
}

// A range that was asked for stays, counts, and goes when asked; without memory or with none allowed it is refused.
func TestKeepHot(t *testing.T) {
	c := manualClock()
	open := func(hot int64) (*dyngo.DB, *dyngo.Dataset) {
		o := &dyngo.Options{FS: vfs.NewMem(), Clock: c, MemoryBudget: 8 << 20, HotRangeBytes: hot}
		o.LookHotOnly()
		db := mustOpen(t, storeDir, o)
		t.Cleanup(func() { db.Close() })
		ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3000 {
			if _, err := ds.Put(fmt.Appendf(nil, "k%06d", i), []byte(big(200, byte(i)))); err != nil {
				t.Fatal(err)
			}
		}
		return db, ds
	}
	db, ds := open(2 << 20)
	if err := ds.KeepHot(t.Context(), []byte("k001000"), []byte("k002000")); err != nil {
		t.Fatal(err)
	}
	if err := ds.KeepHot(t.Context(), []byte("k001500"), nil); err == nil {
		t.Error("two hot ranges have the same keys")
	}
	for range 100 {
		c.Advance(time.Second)
		lookHot(db, c)
	}
	if d := lastDecision(db); ds.HotRanges() != 1 || d.Action != "promoted" || d.Keys != 1000 || d.Reason != "it was asked for" {
		t.Errorf("%d hot ranges, %+v", ds.HotRanges(), d)
	}
	if !ds.DropHot([]byte("k001000")) || ds.DropHot([]byte("k001000")) || ds.HotRanges() != 0 || db.Metrics().HotRangeBytes != 0 {
		t.Error("it does not go when asked")
	}
	for _, hot := range []int64{100 << 10, -1} {
		_, ds := open(hot)
		if err := ds.KeepHot(t.Context(), nil, nil); !errors.Is(err, dyngo.ErrLimit) || !strings.Contains(err.Error(), "HotRangeBytes") {
			t.Errorf("with %d bytes: %v", hot, err)
		}
		if ds.HotRanges() != 0 {
			t.Error("what was refused is there")
		}
	}
	if _, err := dyngo.Open(storeDir, &dyngo.Options{FS: vfs.NewMem(), HotRangeBytes: 200 << 20}); !errors.Is(err, dyngo.ErrLimit) {
		t.Errorf("more than half of the budget: %v", err)
	}
}

// Keys that have left memory are read from the hot range: their values, whether they are there, and that others are not.
func TestHotRangesAnswerGets(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	o := &dyngo.Options{FS: fs, MemoryBudget: 8 << 20}
	o.LookHotOnly()
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := ds.PutWith(fmt.Appendf(nil, "a%02d", i), []byte(big(100, byte(i))), dyngo.WriteOptions{TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ds.KeepHot(t.Context(), []byte("a"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	for i := 0; db.Metrics().Evictions < 2; i++ {
		if _, err := ds.Put(fmt.Appendf(nil, "k%06d", i), []byte(big(1000, byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
	// With segments that can't be read there is no other place.
	fs.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpRead && vfs.Match("*.seg", c.Name) {
			return errors.New("segments are not to be read")
		}
		return nil
	})
	defer fs.OnCall(nil)
	for i := range 100 {
		key := fmt.Appendf(nil, "a%02d", i)
		kv, err := ds.Lookup(key)
		if err != nil || string(kv.Value) != big(100, byte(i)) || kv.Expires.IsZero() {
			t.Fatalf("%s: %.10q, expires %v, %v", key, kv.Value, kv.Expires, err)
		}
		if there, err := ds.Has(key); !there || err != nil {
			t.Fatalf("%s: there %v, %v", key, there, err)
		}
		if there, err := ds.Has(append(key, 'x')); there || err != nil {
			t.Fatalf("%sx: there %v, %v", key, there, err)
		}
	}
}

// What is written to a range counts, while it is built too: without memory for it the range goes, one that was asked for as any other.
func TestHotRangesKeepToTheirMemory(t *testing.T) {
	o := &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20, HotRangeBytes: 1 << 20,
		Listener: &dyngo.Listener{HotRange: func(dyngo.HotDecision) {}}}
	o.LookHotOnly()
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	if err := ds.KeepHot(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := ds.KeepHot(t.Context(), []byte("a"), nil); !errors.Is(err, dyngo.ErrLimit) {
		t.Errorf("a range over another one: %v", err)
	}
	for i := range 3000 {
		if _, err := ds.Put(fmt.Appendf(nil, "k%06d", i), []byte(big(1000, byte(i)))); err != nil {
			t.Fatal(err)
		}
		if m := db.Metrics(); m.HotRangeBytes > 1<<20+2000 {
			t.Fatalf("hot ranges take %d bytes", m.HotRangeBytes)
		}
	}
	db.LookHot()
	if d := lastDecision(db); ds.HotRanges() != 0 || d.Action != "demoted" || !strings.Contains(d.Reason, "no more memory") {
		t.Errorf("%d hot ranges, %+v", ds.HotRanges(), d)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if ds.DropHot(nil) {
		t.Error("a closed store drops a range")
	}
}
