package memtable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// valueLog keeps the values of stubs in a map that stands for the log.
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

// TestEvictModel is TestModel with a table whose generations are evicted.
func TestEvictModel(t *testing.T) {
	for _, shape := range keyShapes {
		t.Run(shape.name, func(t *testing.T) { testEvictModel(t, newSeed(t), shape.key) })
	}
}

func testEvictModel(t *testing.T, seed uint64, newKey func(*rand.Rand) string) {
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
		got := f.scan(rng, ds, o, log.show, func() {
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
