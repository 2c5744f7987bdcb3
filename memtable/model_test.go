package memtable

import (
	"bytes"
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

// stubOf keeps the values of stubs in a map that stands for the log.
type valueLog map[uint64]string

func (l valueLog) stub(dst []byte, r tail.Record) bool {
	l[uint64(r.LSN())] = string(r.Value())
	tail.Stub{LogPos: uint64(r.LSN()), Len: uint32(len(r.Value()))}.Put(dst)
	return r.LSN()%7 != 0 // some refuse
}

func (l valueLog) show(r tail.Record) string {
	if r.Mem()&tail.MemStub != 0 {
		return l[tail.ParseStub(r.Value()).LogPos]
	}
	return show(r)
}

// scan reads with batches of random size, a guard each.
func (f *fixture) scan(rng *rand.Rand, ds event.DatasetID, o ScanOptions, log valueLog, between func()) []string {
	var out []string
	it := f.t.Scan(ds, o)
	for {
		items := make([]Item, 1+rng.IntN(40))
		g := f.d.Enter()
		n := it.Next(items)
		for _, item := range items[:n] {
			if !bytes.Equal(item.Key, item.Record.Key()) {
				f.tb.Fatalf("item has key %q, its record %q", item.Key, item.Record.Key())
			}
			out = append(out, string(item.Key)+"="+log.show(item.Record))
		}
		g.Exit()
		if n == 0 {
			return out
		}
		if between != nil {
			between()
		}
	}
}

// checkGone checks that nothing leads to the records of an evicted generation.
func (f *fixture) checkGone(g tail.Generation) {
	f.tb.Helper()
	set := g.ChunkSet()
	for i := range f.t.states {
		st := f.t.states[i].Load()
		for _, s := range []slots{st.cur, st.old} {
			for j := uint64(0); s.mask != 0 && j <= s.mask; j++ {
				for p := tail.Pos(*s.at(j) & posMask); p != 0; p = f.a.Record(p).Prev() {
					if set.Has(p) {
						f.tb.Fatalf("shard %d leads to %v of an evicted generation", i, p)
					}
				}
			}
		}
	}
	for ds, od := range f.t.order.all() {
		for _, r := range od.runs.Load().runs {
			for i := range r.es {
				if set.Has(r.es[i].load()) {
					f.tb.Fatalf("a run of dataset %d leads to %v of an evicted generation", ds, r.es[i].load())
				}
			}
		}
		for i := range od.fresh.n {
			if set.Has(tail.Pos(od.fresh.at(i))) {
				f.tb.Fatalf("dataset %d has a fresh key in an evicted generation", ds)
			}
		}
	}
}

// checkIndex checks each slot: its tag, its key's only one, its record marked as the newest.
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
		for j := range st.cur.mask + 1 {
			w := *st.cur.at(j)
			if w == 0 {
				continue
			}
			r := f.a.Record(tail.Pos(w & posMask))
			id := fmt.Sprint(r.Dataset(), string(r.Key()))
			h := f.t.Hash(r.Dataset(), r.Key())
			if seen[id] || int(h>>56) != i || tagOf(h) != w&tagMask || r.Links()&^tail.LinkAnchor != tail.LinkIndexed {
				f.tb.Fatalf("slot %d of shard %d is wrong: key %q, seen %v, links %v", j, i, id, seen[id], r.Links())
			}
			seen[id] = true
			for p := r.Prev(); p != 0; {
				v := f.a.Record(p)
				if v.LSN() >= r.LSN() || v.Links()&(tail.LinkSuperseded|tail.LinkDropped) != tail.LinkSuperseded {
					f.tb.Fatalf("chain of key %q: LSN %d after %d, links %v", id, v.LSN(), r.LSN(), v.Links())
				}
				r, p = v, v.Prev()
			}
		}
		if s.used != len(seen) || s.keys != len(seen) {
			f.tb.Fatalf("shard %d has %d keys, counts %d slots and %d keys", i, len(seen), s.used, s.keys)
		}
		f.t.Unlock(uint64(i) << 56)
	}
}

// TestModel does random things and compares all that can be read with the model: at the newest LSN and at held ones.
func TestModel(t *testing.T) {
	for _, shape := range []struct {
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
	} {
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
	m := model{}
	log := valueLog{}
	var gens []tail.Generation
	var held []event.LSN
	floor := event.LSN(0) // what evictions were told to be durable: reads are at later LSNs, or held ones
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
		value := fmt.Sprint("value ", f.lsn, string(bytes.Repeat([]byte("v"), rng.IntN(60))))
		m.add(ds, key, version{f.put(ds, key, value), value})
	}
	lsnToRead := func() event.LSN {
		if len(held) > 0 && rng.IntN(2) == 0 {
			return held[rng.IntN(len(held))]
		}
		return floor + event.LSN(rng.Uint64N(uint64(f.lsn-floor)+1))
	}
	evict := func() {
		if g := f.t.SealCold(); !g.IsEmpty() {
			gens = append(gens, g)
		}
		if g := f.ap.Seal(); !g.IsEmpty() {
			gens = append(gens, g)
		}
		if len(gens) == 0 {
			return
		}
		i := rng.IntN(len(gens))
		floor += event.LSN(rng.Uint64N(uint64(f.lsn-floor) + 1))
		o := EvictOptions{Durable: floor, Hold: slices.Clone(held), AlwaysStub: rng.IntN(2) == 0}
		if rng.IntN(3) > 0 {
			o.Stub = log.stub
		}
		slices.Sort(o.Hold)
		f.t.Evict(gens[i], o)
		f.checkGone(gens[i])
		gens = slices.Delete(gens, i, i+1)
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
		got := f.scan(rng, ds, o, log, func() {
			switch rng.IntN(20) {
			case 0:
				evict()
			case 1, 2, 3:
				write()
			}
		})
		held = held[:len(held)-1]
		if !slices.Equal(got, want) {
			t.Fatalf("scan of %d with %q..%q reverse=%v max=%d:\n got %q\nwant %q",
				ds, o.From, o.To, o.Reverse, o.Max, got, want)
		}
	}
	get := func() {
		ds := datasets[rng.IntN(len(datasets))]
		key, max := keyOf(ds), lsnToRead()
		g := f.d.Enter()
		got := ""
		if r, ok := f.t.Get(f.t.Hash(ds, []byte(key)), ds, []byte(key), max); ok {
			got = log.show(r)
		}
		g.Exit()
		if want := m.get(ds, key, max); got != want {
			t.Fatalf("key %q of %d as of %d: got %q, want %q", key, ds, max, got, want)
		}
	}
	orderFrom := *stepsFlag * rng.IntN(4) / 8
	for step := range *stepsFlag {
		switch n := rng.IntN(100); {
		case n < 60:
			write()
		case n < 85:
			get()
		case n < 90 && step >= orderFrom:
			scan()
		case n < 92:
			evict()
		case n < 94:
			held = append(held, lsnToRead())
		case n < 97 && len(held) > 0:
			i := rng.IntN(len(held))
			held = slices.Delete(held, i, i+1)
		}
	}
	for _, ds := range datasets {
		for key := range m[ds] {
			for _, max := range append(held, f.lsn) {
				g := f.d.Enter()
				r, ok := f.t.Get(f.t.Hash(ds, []byte(key)), ds, []byte(key), max)
				if got, want := "", m.get(ds, key, max); !ok && want != "" || ok && log.show(r) != want {
					t.Errorf("at the end: key %q of %d as of %d: got %q, want %q", key, ds, max, got, want)
				}
				g.Exit()
			}
		}
	}
	f.checkIndex()
	keys := 0
	for _, ds := range datasets {
		keys += len(m[ds])
	}
	if mt := f.t.Metrics(); mt.Keys != int64(keys) {
		t.Errorf("Metrics.Keys %d, want %d", mt.Keys, keys)
	}
}
