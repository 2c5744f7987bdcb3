package memtable

import (
	"math/rand/v2"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// segments stands for the files that flushes write: runs, newest first. The list is replaced as a whole.
type segments struct{ runs atomic.Pointer[[]segment] }

// segment holds keys in order, with their versions from the newest to the oldest.
type segment map[event.DatasetID][]segmentKey

type segmentKey struct {
	key      string
	versions []version
}

// flush publishes what s has as the newest run.
func (s *segments) flush(from *Sorted) {
	defer from.Free()
	seg := make(segment)
	for r := range from.Records() {
		keys := seg[r.Dataset()]
		if n := len(keys); n == 0 || keys[n-1].key != string(r.Key()) {
			keys = append(keys, segmentKey{key: string(r.Key())})
		}
		k := &keys[len(keys)-1]
		k.versions = append(k.versions, version{r.LSN(), show(r)})
		seg[r.Dataset()] = keys
	}
	runs := []segment{seg}
	if old := s.runs.Load(); old != nil {
		runs = append(runs, *old...)
	}
	s.runs.Store(&runs)
}

func (k *segmentKey) at(max event.LSN) (version, bool) {
	for _, v := range k.versions {
		if v.lsn <= max {
			return v, true
		}
	}
	return version{}, false
}

// getFrom looks for the newest version ≤ max in the runs.
func getFrom(runs *[]segment, ds event.DatasetID, key string, max event.LSN) (version, bool) {
	if runs == nil {
		return version{}, false
	}
	for _, seg := range *runs {
		keys := seg[ds]
		i := sort.Search(len(keys), func(i int) bool { return keys[i].key >= key })
		if i < len(keys) && keys[i].key == key {
			if v, ok := keys[i].at(max); ok {
				return v, true
			}
		}
	}
	return version{}, false
}

// keysIn lists the keys of the runs in (after, upTo], or [upTo, after) in reverse, in the order of the scan; "" = no end.
func keysIn(runs *[]segment, ds event.DatasetID, o ScanOptions, after, upTo string) (keys []string) {
	if runs == nil {
		return nil
	}
	for _, seg := range *runs {
		for _, k := range seg[ds] {
			inside := k.key >= string(o.From) && (o.To == nil || k.key < string(o.To))
			if o.Reverse {
				inside = inside && (after == "" || k.key < after) && k.key >= upTo
			} else {
				inside = inside && k.key > after && (upTo == "" || k.key <= upTo)
			}
			if inside {
				keys = append(keys, k.key)
			}
		}
	}
	slices.Sort(keys)
	if o.Reverse {
		slices.Reverse(keys)
	}
	return slices.Compact(keys)
}

// find reads as the engine does: memory, then the segments as they are after that.
func (f *fixture) find(runs func() *[]segment, ds event.DatasetID, key string, max event.LSN) string {
	g := f.d.Enter()
	defer g.Exit()
	if r, ok := f.t.Get(f.t.Hash(ds, []byte(key)), ds, []byte(key), max); ok {
		return show(r)
	}
	v, _ := getFrom(runs(), ds, key, max)
	return v.value
}

// scanAll scans as the engine does, see Iterator: a step in memory, the segments of that time or later, both merged.
func (f *fixture) scanAll(rng *rand.Rand, load func() *[]segment, ds event.DatasetID, o ScanOptions, between func(),
) (out []string) {
	if rng.IntN(2) == 0 {
		o.Limit = 1 + rng.IntN(30) // more is read all the same
	}
	it := f.t.Scan(ds, o)
	departures := f.t.Departures()
	runs := load()
	last := "" // key returned last
	for {
		between()
		it.Await()
		type pair struct{ key, value string }
		var pairs []pair
		items := make([]tail.Record, 1+rng.IntN(40))
		g := f.d.Enter()
		n := it.Next(items)
		for _, item := range items[:n] {
			if item.LSN() > o.Max {
				f.tb.Fatalf("%q has LSN %d, above %d", item.Key(), item.LSN(), o.Max)
			}
			pairs = append(pairs, pair{string(item.Key()), show(item)})
		}
		g.Exit()
		if d := f.t.Departures(); d != departures {
			departures = d
			runs = load()
		}
		between()
		if n == 0 && it.Waits() {
			continue
		}
		upTo := ""
		if n > 0 {
			upTo = pairs[n-1].key
		}
		for _, key := range keysIn(runs, ds, o, last, upTo) {
			for len(pairs) > 0 && (pairs[0].key < key) != o.Reverse && pairs[0].key != key {
				out = append(out, pairs[0].key+"="+pairs[0].value)
				pairs = pairs[1:]
			}
			if len(pairs) > 0 && pairs[0].key == key { // memory has the newer version
				continue
			}
			if v, ok := getFrom(runs, ds, key, o.Max); ok {
				out = append(out, key+"="+v.value)
			}
		}
		for _, p := range pairs {
			out = append(out, p.key+"="+p.value)
		}
		if n == 0 {
			return out
		}
		last = upTo
	}
}

// checkLeft checks that nothing leads to the records of generations that left, and what Leave said of them.
func (f *fixture) checkLeft(gens []tail.Generation, res LeaveResult) {
	f.tb.Helper()
	bytes := int64(0)
	for _, g := range gens {
		bytes += g.Bytes()
	}
	if res.FreedBytes != bytes {
		f.tb.Fatalf("Leave says that %d bytes are freed, want %d", res.FreedBytes, bytes)
	}
	inGens := func(p tail.Pos) bool {
		return slices.ContainsFunc(gens, func(g tail.Generation) bool { return g.Has(p) })
	}
	for i := range f.t.states {
		st := f.t.states[i].Load()
		for _, s := range []slots{st.cur, st.old} {
			for j := uint64(0); s.mask != 0 && j <= s.mask; j++ {
				for p := tail.Pos(*s.at(j) & posMask); f.a.Has(p); p = f.a.Record(p).Prev() {
					if inGens(p) {
						f.tb.Fatalf("shard %d leads to %v, which has left", i, p)
					}
				}
			}
		}
	}
	for ds, od := range f.t.order.all() {
		for _, r := range od.runs.Load().runs {
			for i := range r.es {
				if p := r.es[i].load(); !f.a.Has(p) {
					f.tb.Fatalf("a run of dataset %d leads to %v, which has left", ds, p)
				}
			}
		}
		for i := range od.fresh.n {
			if !f.a.Has(tail.Pos(od.fresh.at(i))) {
				f.tb.Fatalf("dataset %d has a fresh key that has left", ds)
			}
		}
	}
}
