package dyngo_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var (
	asofSeed = flag.Uint64("asof.seed", 0, "seed of TestViewAtShowsThePast, 0 = random")
	asofOps  = flag.Int("asof.ops", 3000, "operations of TestViewAtShowsThePast")
)

// past returns the contents as of any LSN, in the middle of a batch too.
func (m *model) past(lsn dyngo.LSN, now int64) map[string]map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := contents{}
	for _, a := range m.attempts {
		for i, ch := range a.changes {
			if a.first+dyngo.LSN(i) <= lsn {
				c.apply(ch)
			}
		}
	}
	out := map[string]map[string]string{}
	for ds, keys := range c {
		out[ds] = map[string]string{}
		for k, v := range keys {
			if v.value != gone && (v.expires == 0 || v.expires > now) {
				out[ds][k] = v.value
			}
		}
	}
	return out
}

// dumpView reads datasets of a view by scans in both directions, and the keys, those given too, by gets.
func dumpView(v *dyngo.View, names []string, keys []string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, name := range names {
		ds, err := v.Dataset(name)
		if errors.Is(err, dyngo.ErrNoDataset) {
			continue
		}
		if err != nil {
			return nil, err
		}
		got := map[string]string{}
		var order, back []string
		for kv, err := range v.Scan(ds, dyngo.Range{}) {
			if err != nil {
				return nil, fmt.Errorf("scan of %s: %w", name, err)
			}
			order = append(order, string(kv.Key))
			got[string(kv.Key)] = string(kv.Value)
		}
		for kv, err := range v.Scan(ds, dyngo.Range{Reverse: true, KeysOnly: true}) {
			if err != nil {
				return nil, fmt.Errorf("scan of %s backward: %w", name, err)
			}
			back = append(back, string(kv.Key))
		}
		slices.Reverse(back)
		if !slices.IsSorted(order) || !slices.Equal(order, back) {
			return nil, fmt.Errorf("scan of %s gives %d keys, backward %d", name, len(order), len(back))
		}
		for _, k := range slices.Concat(order, keys) {
			val, err := v.Get(ds, []byte(k))
			has, herr := v.Has(ds, []byte(k))
			want, there := got[k]
			if herr != nil || has != there || there && (err != nil || string(val) != want) || !there && !errors.Is(err, dyngo.ErrNotFound) {
				return nil, fmt.Errorf("%s/%s: get gives %.40q, %v, has %v, %v; scan %.40q (there: %v)", name, k, val, err, has, herr, want, there)
			}
		}
		out[name] = got
	}
	return out, nil
}

// A view of the past shows, by every way of reading, what the model has at its LSN: for LSNs between any two events of a random
// history with deletes, range deletes, expiry, newest-wins, datasets that come and go, batches that spill, large values,
// flushes, merges, snapshots and reopening. So does a store that is restored to such an LSN.
func TestViewAtShowsThePast(t *testing.T) {
	t.Parallel()
	seed := *asofSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -run TestViewAtShowsThePast -asof.seed %d -asof.ops %d", seed, *asofOps)
	rng := rand.New(rand.NewPCG(seed, 9))
	fs := vfs.NewMem()
	retention := dyngo.Retention{}
	if rng.IntN(2) == 0 {
		retention.Bytes = 3 << 20
	}
	r := &rig{fs: fs, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{},
		tune: func(o *dyngo.Options) {
			if o.Retention = retention; retention.Bytes > 0 {
				o.SpillFrom(4<<20, 1<<20)
			}
		}}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	held := []*dyngo.View{} // over whatever comes
	defer func() {
		if err := r.db.Close(); err != nil {
			t.Error(err)
		}
	}()
	names := []string{"a", "b", "c"}
	opts := []*dyngo.DatasetOptions{{LargeValue: 64 << 10}, {Consistency: dyngo.Causal, LargeValue: 4 << 10}, {Compression: dyngo.Zstd}}
	if retention.Bytes > 0 { // what was written ahead into a file that is gone may be lost
		for _, o := range opts {
			o.LargeValue = 64 << 10
		}
	}
	for i, name := range names {
		if err := r.create(name, opts[i]); err != nil {
			t.Fatal(err)
		}
	}
	key := func() string { return fmt.Sprintf("key-%03d", rng.IntN(150)) }
	value := func(i int) string {
		if rng.IntN(3) == 0 {
			return fmt.Sprint(i, ":", big(rng.IntN(60_000), byte(i)))
		}
		return fmt.Sprint(i, ":", big(rng.IntN(300), byte(i)))
	}
	// A merge may forget a deleted key's record time, so the store decides which is newest, not the model.
	newest := func(ds, key, value string, at int64) error {
		kind := "stale"
		err := r.do(r.durable(ds), func() (dyngo.LSN, error) {
			applied, lsn, err := r.ds[ds].PutNewest([]byte(key), []byte(value), time.Unix(0, at))
			if applied {
				kind = "put"
			}
			return lsn, err
		}, change{kind: "newest", ds: ds, key: key, value: value, time: at})
		r.m.attempts[len(r.m.attempts)-1].changes[0].kind = kind
		return err
	}
	evicted := int64(0)
	times := map[dyngo.LSN]int64{} // of the last event of each attempt
	check := func(db *dyngo.DB, v *dyngo.View) {
		t.Helper()
		lsn := v.LSN()
		if at, ok := times[lsn]; ok && lsn != db.Metrics().FloorLSN && v.Time().UnixNano() != at {
			t.Errorf("the time of LSN %d is %v, it was written at %v", lsn, v.Time(), time.Unix(0, at))
		}
		var some []string
		for range 10 {
			some = append(some, key())
		}
		got, err := dumpView(v, names, some)
		if err == nil {
			err = differ(r.m.past(lsn, v.Time().UnixNano()), got)
		}
		if err != nil {
			m := db.Metrics()
			t.Fatalf("at LSN %d of %d, flushed %d, floor %d: %v", lsn, db.LSN(), m.FlushedLSN, m.FloorLSN, err)
		}
	}
	open := func(db *dyngo.DB) *dyngo.View {
		t.Helper()
		floor := db.Metrics().FloorLSN
		v, err := db.ViewAt(t.Context(), dyngo.AtLSN(floor+dyngo.LSN(rng.Uint64N(uint64(db.DurableLSN()-floor)+1))))
		for ; errors.Is(err, dyngo.ErrOutsideWindow) && db.Metrics().FloorLSN > floor; floor = db.Metrics().FloorLSN { // it has risen
			v, err = db.ViewAt(t.Context(), dyngo.AtLSN(db.DurableLSN()))
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	nChanged, nEnded, snapshots := 0, 0, 0
	look := func(db *dyngo.DB) {
		t.Helper()
		v := open(db)
		defer v.Close()
		check(db, v)
		changed, ended := checkDiff(t, rng, db, r.m, v)
		nChanged, nEnded = nChanged+changed, nEnded+ended
	}
	letGo := func() {
		t.Helper()
		for _, v := range held {
			check(r.db, v)
			v.Close()
		}
		held = nil
	}
	ops := *asofOps
	if testing.Short() {
		ops /= 4
	}
	for i := range ops {
		name, before := names[rng.IntN(len(names))], r.db.LSN()
		var err error
		ttl := time.Duration(1+rng.IntN(1000))*time.Millisecond + time.Duration(i) // no two end together
		switch n := rng.IntN(1000); {
		case n < 350:
			err = r.put(name, key(), value(i))
		case n < 430:
			err = r.putTTL(name, key(), value(i), ttl)
		case n < 500:
			if err = r.advance(time.Duration(rng.IntN(100)) * time.Millisecond); err == nil {
				continue // expiries are logged meanwhile
			}
		case n < 600:
			err = r.del(name, key())
		case n < 700:
			err = newest(name, key(), value(i), int64(rng.IntN(1000)))
		case n < 720:
			from := rng.IntN(150)
			err = r.delRange(name, fmt.Sprintf("key-%03d", from), fmt.Sprintf("key-%03d", from+rng.IntN(60)))
		case n < 850:
			var cs []change
			for range 1 + rng.IntN(6) {
				kind := []string{"put", "put", "del"}[rng.IntN(3)]
				cs = append(cs, change{kind: kind, ds: names[rng.IntN(len(names))], key: key(), value: value(i)})
			}
			err = r.batch(cs...)
		case n < 860:
			if err = r.drop(name); err == nil {
				delete(r.ds, name)
				err = r.create(name, opts[slices.Index(names, name)])
			}
		case n < 865:
			if err = r.flush(); err == nil && snapshots < 8 { // restores begin there, if they can
				snapshots++
				err = r.do(true, func() (dyngo.LSN, error) {
					info, err := r.db.Snapshot(t.Context(), fmt.Sprint("s", snapshots))
					return info.LSN + 1, err // the event that tells of it
				}, change{kind: "session"})
			}
		case n < 890:
			err = r.flushSegments()
		case n < 900:
			err = r.merge()
		case n < 905:
			letGo()
			evicted += r.db.Metrics().Evictions
			err = r.reopen(time.Millisecond)
		case n < 910:
			_, err = r.db.GC(t.Context())
		case n < 920:
			if err = r.flush(); err == nil && len(held) < 3 {
				held = append(held, open(r.db))
			}
		case n < 925:
			letGo()
		case n < 985:
			if err = r.flush(); err == nil {
				look(r.db)
			}
			if err == nil && rng.IntN(8) == 0 {
				err = restoreLook(r.m, r.db, fs, r.clock, rng, names)
			}
		default:
			if err = r.flush(); err != nil {
				break
			}
			if retention.Bytes > 0 { // it goes on beside
				break
			}
			ro := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: r.clock, ReadOnly: true})
			look(ro)
			err = ro.Close()
		}
		if err != nil {
			t.Fatalf("op %d: %v", i, err)
		}
		if r.db.LSN() > before {
			times[r.db.LSN()] = r.clock.Now()
		}
	}
	letGo()
	if _, err := r.db.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := r.db.Metrics(); evicted+m.Evictions == 0 || m.LogFiles < 3 || m.Segments == 0 || (m.FloorLSN > 0) != (retention.Bytes > 0) {
		t.Errorf("%d evictions, %d log files, %d segments, floor %d: the past was not everywhere", evicted+m.Evictions, m.LogFiles, m.Segments, m.FloorLSN)
	}
	if t.Logf("%d changes in differences, %d of them without an event between", nChanged, nEnded); nChanged == 0 {
		t.Error("no change in any difference")
	}
}
