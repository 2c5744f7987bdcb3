package memtable

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// TestReadersWritersEvictionsScans lets all that may happen at the same time happen at the same time. Which key the
// event of an LSN writes is a function of the LSN, so that every reader knows what it must find at its LSN.
func TestReadersWritersEvictionsScans(t *testing.T) {
	seed := newSeed(t)
	const keys = 3000
	events := event.LSN(*stepsFlag * 4)
	f := newFixture(t)
	defer f.close()
	f.t.order.limits = limits{freshBatch: 64, tinyRun: 8, inlineMerge: 100}

	keyOf := func(k uint64) []byte { return []byte(fmt.Sprintf("key%05d", k*7919%keys)) }
	written := make([][]event.LSN, keys)
	plan := make([]uint64, events+1)
	rng := rand.New(rand.NewPCG(seed, 0))
	for lsn := event.LSN(1); lsn <= events; lsn++ {
		// Half of the writes go to few keys, and new keys come all along.
		k := rng.Uint64N(1 + uint64(lsn)*keys/uint64(events))
		if rng.IntN(2) == 0 {
			k %= 10
		}
		k = min(k, keys-1)
		plan[lsn] = k
		written[k] = append(written[k], lsn)
	}
	expect := func(k uint64, max event.LSN) event.LSN {
		vs := written[k]
		i := sort.Search(len(vs), func(i int) bool { return vs[i] > max })
		if i == 0 {
			return 0
		}
		return vs[i-1]
	}
	byKey := make([]uint64, keys)
	for i := range byKey {
		byKey[i] = uint64(i)
	}
	slices.SortFunc(byKey, func(a, b uint64) int { return slices.Compare(keyOf(a), keyOf(b)) })

	var applied atomic.Uint64
	var commitMu sync.Mutex // guards the appender and the next LSN, as in the engine
	var gens []tail.Generation
	var hold struct {
		sync.Mutex
		lsns []event.LSN
	}
	write := func() bool {
		commitMu.Lock()
		defer commitMu.Unlock()
		if f.lsn == events {
			return false
		}
		if len(gens) > 1 { // let the evictions catch up
			runtime.Gosched()
			return true
		}
		lsn := f.lsn + 1
		value := binary.BigEndian.AppendUint64(make([]byte, 60, 68), uint64(lsn))
		f.insert(1, event.OpPut, keyOf(plan[lsn]), value)
		applied.Store(uint64(lsn))
		if lsn%700 == 0 {
			gens = append(gens, f.ap.Seal())
		}
		return true
	}
	check := func(what string, k uint64, max event.LSN, r tail.Record, ok bool) bool {
		want := expect(k, max)
		switch {
		case !ok && want == 0:
			return true
		case !ok || r.LSN() != want || string(r.Key()) != string(keyOf(k)):
			t.Errorf("%s of key %s as of %d: found %v, want LSN %d", what, keyOf(k), max, ok, want)
		case r.Mem()&tail.MemStub != 0 && tail.ParseStub(r.Value()).LogPos == uint64(want):
			return true
		case r.Mem()&tail.MemStub == 0 && binary.BigEndian.Uint64(r.Value()[60:]) == uint64(want):
			return true
		default:
			t.Errorf("%s of key %s as of %d: value %x", what, keyOf(k), max, r.Value())
		}
		return false
	}

	var stop atomic.Bool
	var wg, writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for write() {
			}
		})
	}
	for g := range 2 { // point reads, at the newest LSN and at held ones
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			view := event.LSN(0)
			for !stop.Load() && !t.Failed() {
				if rng.IntN(100) == 0 {
					hold.Lock()
					if view != 0 {
						i := slices.Index(hold.lsns, view)
						hold.lsns = slices.Delete(hold.lsns, i, i+1)
					}
					view = event.LSN(applied.Load())
					hold.lsns = append(hold.lsns, view)
					hold.Unlock()
				}
				k := rng.Uint64N(keys)
				key := keyOf(k)
				guard := f.d.Enter()
				max := view
				if view == 0 || rng.IntN(2) == 0 {
					max = event.LSN(applied.Load())
				}
				if rng.IntN(50) == 0 { // a slow reader
					for range 30 {
						runtime.Gosched()
					}
				}
				r, ok := f.t.Get(f.t.Hash(1, key), 1, key, max)
				check("get", k, max, r, ok)
				guard.Exit()
			}
		})
	}
	wg.Go(func() { // scans
		rng := rand.New(rand.NewPCG(seed, 7))
		items := make([]Item, 50)
		for !stop.Load() && !t.Failed() {
			hold.Lock()
			max := event.LSN(applied.Load())
			hold.lsns = append(hold.lsns, max)
			hold.Unlock()
			order := slices.Clone(byKey)
			o := ScanOptions{Max: max, Reverse: rng.IntN(2) == 0}
			if o.Reverse {
				slices.Reverse(order)
			}
			it := f.t.Scan(1, o)
			next := func() (uint64, bool) { // next key with a version
				for len(order) > 0 {
					k := order[0]
					order = order[1:]
					if expect(k, max) != 0 {
						return k, true
					}
				}
				return 0, false
			}
			for {
				guard := f.d.Enter()
				n := it.Next(items[:1+rng.IntN(len(items))])
				for _, item := range items[:n] {
					k, ok := next()
					if !ok || !check("scan", k, max, item.Record, true) {
						t.Errorf("scan as of %d: got key %s", max, item.Key)
						break
					}
				}
				guard.Exit()
				if n == 0 || t.Failed() {
					break
				}
			}
			if k, ok := next(); ok && !t.Failed() {
				t.Errorf("scan as of %d ends before key %s", max, keyOf(k))
			}
			hold.Lock()
			i := slices.Index(hold.lsns, max)
			hold.lsns = slices.Delete(hold.lsns, i, i+1)
			hold.Unlock()
		}
	})
	wg.Go(func() { // evictions, of cold generations too
		for round := 0; !stop.Load() && !t.Failed(); round++ {
			commitMu.Lock()
			var g tail.Generation
			if len(gens) > 0 {
				g = gens[0]
				gens = gens[1:]
			}
			commitMu.Unlock()
			if g.IsEmpty() || round%4 == 3 {
				if g = f.t.SealCold(); g.IsEmpty() {
					continue
				}
			}
			hold.Lock()
			o := EvictOptions{Durable: event.LSN(applied.Load()), Hold: slices.Clone(hold.lsns), AlwaysStub: round%2 == 0}
			hold.Unlock()
			slices.Sort(o.Hold)
			o.Stub = func(dst []byte, r tail.Record) bool {
				tail.Stub{LogPos: uint64(r.LSN())}.Put(dst)
				return true
			}
			f.t.Evict(g, o)
		}
	})
	writers.Wait()
	stop.Store(true)
	wg.Wait()
	f.checkIndex()
	t.Logf("%+v", f.t.Metrics())
}
