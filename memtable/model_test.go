package memtable

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the model tests, 0 = random")
	stepsFlag = flag.Int("steps", 4000, "steps of a model test")
)

func newSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with: go test -run '%s' ./memtable -seed %d -steps %d", t.Name(), seed, *stepsFlag)
	return seed
}

type version struct {
	lsn   event.LSN
	value string // "-" for a delete
}

// model is what the table should say: all versions of all keys.
type model map[event.DatasetID]map[string][]version

func (m model) add(ds event.DatasetID, key string, v version) {
	if m[ds] == nil {
		m[ds] = make(map[string][]version)
	}
	m[ds][key] = append(m[ds][key], v)
}

func (m model) get(ds event.DatasetID, key string, max event.LSN) string {
	vs := m[ds][key]
	i := sort.Search(len(vs), func(i int) bool { return vs[i].lsn > max })
	if i == 0 {
		return ""
	}
	return vs[i-1].value
}

// scan returns "key=value" in order.
func (m model) scan(ds event.DatasetID, o ScanOptions) []string {
	var keys []string
	for key := range m[ds] {
		if key >= string(o.From) && (o.To == nil || key < string(o.To)) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if o.Reverse {
		slices.Reverse(keys)
	}
	var out []string
	for _, key := range keys {
		if v := m.get(ds, key, o.Max); v != "" {
			out = append(out, key+"="+v)
		}
	}
	return out
}

// scan reads memory with batches of random size, a guard each. Between two of them it calls between, unless that is nil.
func (f *fixture) scan(rng *rand.Rand, ds event.DatasetID, o ScanOptions, show func(tail.Record) string, between func()) []string {
	var out []string
	if rng.IntN(2) == 0 {
		o.Limit = 1 + rng.IntN(30) // more is read all the same
	}
	it := f.t.Scan(ds, o)
	for {
		it.Await()
		items := make([]tail.Record, 1+rng.IntN(40))
		g := f.d.Enter()
		n := it.Next(items)
		for _, item := range items[:n] {
			out = append(out, string(item.Key())+"="+show(item))
		}
		g.Exit()
		if n == 0 && !it.Waits() {
			return out
		}
		if between != nil {
			between()
		}
	}
}

// checkIndex checks each slot that is not dead: its tag, its key's only one, its record marked as the newest.
func (f *fixture) checkIndex() {
	f.tb.Helper()
	for i := range f.t.states {
		f.t.lockShard(i)
		st, s := f.t.states[i].Load(), &f.t.shards[i]
		if st.old.mask != 0 {
			f.t.drainLocked(i, s, st.old.count())
			st = f.t.states[i].Load()
		}
		seen := make(map[string]bool)
		used := 0
		for j := range st.cur.mask + 1 {
			w := *st.cur.at(j)
			if w != 0 {
				used++
			}
			r, ok := f.a.Lookup(tail.Pos(w & posMask))
			if !ok {
				continue
			}
			id := fmt.Sprint(r.Dataset(), string(r.Key()))
			h := f.t.Hash(r.Dataset(), r.Key())
			if seen[id] || int(h>>56) != i || tagOf(h) != w&tagMask || r.Links() != tail.LinkIndexed {
				f.tb.Fatalf("slot %d of shard %d is wrong: key %q, seen %v, links %v", j, i, id, seen[id], r.Links())
			}
			seen[id] = true
			for v, ok := f.a.Lookup(r.Prev()); ok; v, ok = f.a.Lookup(r.Prev()) {
				if v.LSN() >= r.LSN() || v.Links()&tail.LinkSuperseded == 0 {
					f.tb.Fatalf("chain of key %q: LSN %d after %d, links %v", id, v.LSN(), r.LSN(), v.Links())
				}
				r = v
			}
		}
		if s.used != used || s.keys != len(seen) {
			f.tb.Fatalf("shard %d has %d slots and %d keys, counts %d and %d", i, used, len(seen), s.used, s.keys)
		}
		f.t.Unlock(uint64(i) << 56)
	}
}

// keyShapes are ways to make keys, for the model tests.
var keyShapes = []struct {
	name string
	key  func(rng *rand.Rand) string
}{
	{"few keys", func(rng *rand.Rand) string { return fmt.Sprint("k", rng.IntN(50)) }},
	{"numbered keys", func(rng *rand.Rand) string { return fmt.Sprintf("user:%09d:name", rng.IntN(3000)) }},
	{"nasty keys", func(rng *rand.Rand) string {
		b := make([]byte, 1+rng.IntN(12))
		for i := range b {
			b[i] = []byte{0, 0, 1, 0xff}[rng.IntN(4)]
		}
		return string(b)
	}},
	{"long shared parts", func(rng *rand.Rand) string {
		return fmt.Sprintf("%0*d", 8+rng.IntN(3)*8, rng.IntN(500))
	}},
}

// TestModel does random things and compares all that can be read with the model: at the newest LSN and at held ones, from
// memory and from what stands for the segments.
func TestModel(t *testing.T) {
	for _, shape := range keyShapes {
		t.Run(shape.name, func(t *testing.T) { testModel(t, newSeed(t), shape.key) })
	}
}

func testModel(t *testing.T, seed uint64, newKey func(*rand.Rand) string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	f := newFixture(t)
	defer f.close()
	if rng.IntN(2) == 0 { // so that few keys make many runs
		f.t.order.limits = limits{freshBatch: 16, tinyRun: 2, inlineMerge: 100}
	}
	recovering := rng.IntN(2000) // steps in which records are handed over instead of inserted
	leaveOften := 1 + rng.IntN(8)
	m := model{}
	var store segments
	var sealed, flushed []tail.Generation // oldest first, sealed are younger
	var held []event.LSN
	floor := event.LSN(0) // durable when last flushed: reads are at later LSNs, or held ones
	datasets := []event.DatasetID{1, 2, 900}
	keyOf := func(ds event.DatasetID) string {
		if len(m[ds]) > 0 && rng.IntN(3) > 0 {
			for key := range m[ds] {
				return key
			}
		}
		return newKey(rng)
	}
	write := func() {
		ds := datasets[rng.IntN(len(datasets))]
		key := keyOf(ds)
		if recovering--; recovering > 0 {
			h := f.t.Hash(ds, []byte(key))
			f.t.AddPending(h, f.record(ds, event.OpPut, []byte(key), []byte("recovered")))
			m.add(ds, key, version{f.lsn, "recovered"})
			return
		}
		if rng.IntN(6) == 0 {
			m.add(ds, key, version{f.insert(ds, event.OpDelete, []byte(key), nil), "-"})
			return
		}
		value := fmt.Sprint("value ", f.lsn)
		m.add(ds, key, version{f.put(ds, key, value), value})
	}
	lsnToRead := func() event.LSN {
		if len(held) > 0 && rng.IntN(2) == 0 {
			return held[rng.IntN(len(held))]
		}
		return floor + event.LSN(rng.Uint64N(uint64(f.lsn-floor)+1))
	}
	seal := func() {
		if g := f.ap.Seal(); !g.IsEmpty() {
			sealed = append(sealed, g)
		}
	}
	flush := func() {
		if len(sealed) == 0 {
			return
		}
		n := 1 + rng.IntN(len(sealed))
		for _, r := range sealed[n-1].Records() {
			floor = max(floor, r.LSN()) // all of it is durable
		}
		floor += event.LSN(rng.Uint64N(uint64(f.lsn-floor) + 1))
		pins := slices.Clone(held)
		slices.Sort(pins)
		store.flush(f.t.Sorted(sealed[:n], SortedOptions{Pins: pins, Durable: floor}))
		flushed = append(flushed, sealed[:n]...)
		sealed = sealed[n:]
	}
	leave := func() {
		if len(flushed) == 0 {
			return
		}
		n := 1 + rng.IntN(len(flushed))
		res := f.t.Leave(flushed[:n]...)
		f.checkLeft(flushed[:n], res)
		flushed = flushed[n:]
	}
	change := func() {
		switch n := rng.IntN(20); {
		case n < 12:
			write()
		case n < 14:
			seal()
		case n < 16:
			flush()
		case n < 16+leaveOften:
			leave()
		}
	}
	check := func(ds event.DatasetID, key string, max event.LSN) {
		if got, want := f.find(store.runs.Load, ds, key, max), m.get(ds, key, max); got != want {
			t.Fatalf("key %q of %d as of %d: got %q, want %q", key, ds, max, got, want)
		}
	}
	scan := func() {
		ds := datasets[rng.IntN(len(datasets))]
		o := ScanOptions{Reverse: rng.IntN(2) == 0, Max: lsnToRead()}
		if rng.IntN(2) == 0 {
			o.From = []byte(keyOf(ds))
		}
		if rng.IntN(2) == 0 {
			o.To = []byte(keyOf(ds))
		}
		want := m.scan(ds, o)
		held = append(held, o.Max) // the scan's own
		got := f.scanAll(rng, store.runs.Load, ds, o, func() {
			for range rng.IntN(4) {
				change()
			}
		})
		held = held[:len(held)-1]
		if !slices.Equal(got, want) {
			t.Fatalf("scan of %d with %q..%q reverse=%v max=%d:\n got %q\nwant %q",
				ds, o.From, o.To, o.Reverse, o.Max, got, want)
		}
	}
	orderFrom := *stepsFlag * rng.IntN(4) / 8
	for step := range *stepsFlag {
		switch n := rng.IntN(100); {
		case n < 60:
			write()
		case n < 65:
			change()
		case n < 88:
			ds := datasets[rng.IntN(len(datasets))]
			check(ds, keyOf(ds), lsnToRead())
		case n < 93 && step >= orderFrom:
			scan()
		case n < 95:
			held = append(held, lsnToRead())
		case n < 98 && len(held) > 0:
			i := rng.IntN(len(held))
			held = slices.Delete(held, i, i+1)
		}
	}
	for _, ds := range datasets {
		for key := range m[ds] {
			for _, max := range append(held, f.lsn) {
				check(ds, key, max)
			}
		}
	}
	f.checkIndex()
	t.Logf("%+v", f.t.Metrics())
}
