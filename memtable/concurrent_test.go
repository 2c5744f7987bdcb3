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

// plan says which key the event of each LSN writes, so that every reader knows what it must find at its LSN.
type plan struct {
	keys    int
	ofLSN   []uint64
	written [][]event.LSN // by key
	byKey   []uint64      // in the order of keys
}

func newPlan(seed uint64, keys int, events event.LSN) *plan {
	p := &plan{keys: keys, ofLSN: make([]uint64, events+1)}
	p.written, p.byKey = make([][]event.LSN, keys), make([]uint64, keys)
	rng := rand.New(rand.NewPCG(seed, 0))
	for lsn := event.LSN(1); lsn <= events; lsn++ {
		// Half of the writes go to few keys, and new keys come all along.
		k := rng.Uint64N(1 + uint64(lsn)*uint64(keys)/uint64(events))
		if rng.IntN(2) == 0 {
			k %= 10
		}
		k = min(k, uint64(keys)-1)
		p.ofLSN[lsn] = k
		p.written[k] = append(p.written[k], lsn)
	}
	for i := range p.byKey {
		p.byKey[i] = uint64(i)
	}
	slices.SortFunc(p.byKey, func(a, b uint64) int { return slices.Compare(p.key(a), p.key(b)) })
	return p
}

func (p *plan) key(k uint64) []byte { return fmt.Appendf(nil, "key%05d", k*7919%uint64(p.keys)) }

// expect returns the LSN of the key's newest version ≤ max, 0 = none.
func (p *plan) expect(k uint64, max event.LSN) event.LSN {
	vs := p.written[k]
	i := sort.Search(len(vs), func(i int) bool { return vs[i] > max })
	if i == 0 {
		return 0
	}
	return vs[i-1]
}

// scan returns what a scan as of max must give.
func (p *plan) scan(max event.LSN, reverse bool) (want []string) {
	for _, k := range p.byKey {
		if lsn := p.expect(k, max); lsn != 0 {
			want = append(want, fmt.Sprintf("%s=%d", p.key(k), lsn))
		}
	}
	if reverse {
		slices.Reverse(want)
	}
	return want
}

// holds is the set of LSNs that are read at.
type holds struct {
	mu   sync.Mutex
	lsns []event.LSN
}

// add holds what f returns, which is called under the lock: nothing it needs is dropped in between.
func (h *holds) add(f func() event.LSN) event.LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	lsn := f()
	h.lsns = append(h.lsns, lsn)
	return lsn
}

func (h *holds) remove(lsn event.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.lsns, lsn)
	h.lsns = slices.Delete(h.lsns, i, i+1)
}

func (h *holds) all() []event.LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	lsns := slices.Clone(h.lsns)
	slices.Sort(lsns)
	return lsns
}

// TestReadersWritersScansFlushesAndLeaving lets all that may happen at the same time happen at the same time.
func TestReadersWritersScansFlushesAndLeaving(t *testing.T) {
	seed := newSeed(t)
	const keys = 3000
	events := event.LSN(*stepsFlag * 4)
	f := newFixture(t)
	defer f.close()
	f.t.order.limits = limits{freshBatch: 64, tinyRun: 8, inlineMerge: 100}
	p := newPlan(seed, keys, events)

	var applied atomic.Uint64
	now := func() event.LSN { return event.LSN(applied.Load()) }
	var commitMu sync.Mutex // guards the appender, the next LSN and sealed, as in the engine
	var sealed []tail.Generation
	var store segments
	var held holds
	write := func() bool {
		commitMu.Lock()
		defer commitMu.Unlock()
		if f.lsn == events {
			return false
		}
		if len(sealed) > 1 { // let the flushes catch up
			runtime.Gosched()
			return true
		}
		lsn := f.lsn + 1
		f.insert(1, event.OpPut, p.key(p.ofLSN[lsn]), fmt.Appendf(nil, "%d", lsn))
		applied.Store(uint64(lsn))
		if lsn%350 == 0 {
			sealed = append(sealed, f.ap.Seal())
		}
		return true
	}
	var stop atomic.Bool
	going := func() bool { return !stop.Load() && !t.Failed() }
	var wg, writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for write() && !t.Failed() {
			}
		})
	}
	for g := range 2 { // point reads, at the newest LSN and at held ones
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			view := held.add(now)
			for going() {
				if rng.IntN(100) == 0 {
					held.remove(view)
					view = held.add(now)
				}
				k := rng.Uint64N(keys)
				key := p.key(k)
				guard := f.d.Enter()
				max := view
				if rng.IntN(2) == 0 {
					max = now()
				}
				if rng.IntN(50) == 0 { // a slow reader
					for range 30 {
						runtime.Gosched()
					}
				}
				got := event.LSN(0)
				if r, ok := f.t.Get(f.t.Hash(1, key), 1, key, max); ok {
					got = r.LSN()
					if v := show(r); string(r.Key()) != string(key) || v != fmt.Sprint(got) {
						t.Errorf("get of key %s as of %d: found key %s with value %s, LSN %d", key, max, r.Key(), v, got)
					}
				} else if v, ok := getFrom(store.runs.Load(), 1, string(key), max); ok {
					got = v.lsn
				}
				guard.Exit()
				if want := p.expect(k, max); got != want {
					t.Errorf("get of key %s as of %d: found LSN %d, want %d", key, max, got, want)
				}
			}
		})
	}
	wg.Go(func() { // conditional writers: the newest version, looked for without the lock, is still the newest under it
		rng := rand.New(rand.NewPCG(seed, 5))
		absent := 0
		for going() {
			k := rng.Uint64N(keys)
			key := p.key(k)
			h := f.t.Hash(1, key)
			departures := f.t.Departures()
			found := event.LSN(0)
			guard := f.d.Enter()
			if r, ok := f.t.Get(h, 1, key, event.MaxLSN); ok {
				found = r.LSN()
			} else if v, ok := getFrom(store.runs.Load(), 1, string(key), event.MaxLSN); ok {
				found = v.lsn
			}
			guard.Exit()
			if rng.IntN(4) == 0 {
				runtime.Gosched()
			}
			f.t.Lock(h)
			if _, r, ok := f.t.Head(h, 1, key); ok {
				found = r.LSN()
			} else if f.t.Departures() != departures {
				f.t.Unlock(h)
				continue
			} else {
				absent++
			}
			// Nobody can write the key now, but what was written last may not be counted as applied yet.
			if want := p.expect(k, max(now(), found)); found != want {
				t.Errorf("under the lock key %s has LSN %d, want %d", key, found, want)
			}
			f.t.Unlock(h)
		}
		t.Logf("%d times the newest version of a key was not in memory", absent)
	})
	wg.Go(func() { // scans
		rng := rand.New(rand.NewPCG(seed, 7))
		for going() {
			max := held.add(now)
			o := ScanOptions{Max: max, Reverse: rng.IntN(2) == 0}
			got := f.scanAll(rng, store.runs.Load, 1, o, runtime.Gosched)
			if want := p.scan(max, o.Reverse); !slices.Equal(got, want) {
				t.Errorf("scan as of %d: %s", max, difference(got, want))
			}
			held.remove(max)
		}
	})
	flushed := make(chan tail.Generation, 1000)
	wg.Go(func() { // flushes
		defer close(flushed)
		for going() {
			commitMu.Lock()
			gens := sealed
			sealed = nil
			commitMu.Unlock()
			if len(gens) == 0 {
				runtime.Gosched()
				continue
			}
			durable := now()
			f.d.Synchronize() // reads that began before have ended, or are held
			store.flush(f.t.Sorted(gens, SortedOptions{Durable: durable, Pins: held.all()}))
			for _, g := range gens {
				flushed <- g
			}
		}
	})
	wg.Go(func() { // leaving, also while the next are put in order
		rng := rand.New(rand.NewPCG(seed, 8))
		var gens []tail.Generation
		for g := range flushed {
			gens = append(gens, g)
			if n := len(gens) - rng.IntN(4); n > 0 {
				f.t.Leave(gens[:n]...)
				gens = gens[n:]
			}
		}
	})
	writers.Wait()
	stop.Store(true)
	wg.Wait()
	f.checkIndex()
	t.Logf("%+v", f.t.Metrics())
}

// difference says where two lists begin to differ.
func difference(got, want []string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("item %d of %d, want of %d: got %q, want %q", i, len(got), len(want),
		append(got[i:], "end")[0], append(want[i:], "end")[0])
}

// TestReadersWhileKeysComeAndGo has readers probe for keys that stay, while others around them leave and new keys take
// their slots, and tables are renewed all the time.
func TestReadersWhileKeysComeAndGo(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	const stay, rounds, perRound = 200, 300, 400
	var round atomic.Int64
	var applied atomic.Uint64 // what those that stay can be read at
	key := func(kind byte, i int) []byte { return binary.BigEndian.AppendUint64([]byte{kind}, uint64(i)) }
	fill := func() { // those that stay get a new version in each generation
		for i := range stay {
			f.insert(1, event.OpPut, key('s', i), nil)
		}
		applied.Store(uint64(f.lsn))
	}
	fill()
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for n := round.Load(); n < rounds && !t.Failed(); n = round.Load() {
				k := key('s', rng.IntN(stay))
				guard := f.d.Enter()
				max := applied.Load()
				r, ok := f.t.Get(f.t.Hash(1, k), 1, k, event.LSN(max))
				switch {
				case ok && (string(r.Key()) != string(k) || uint64(r.LSN()) > max):
					t.Errorf("found key %x as of %d, want %x as of %d", r.Key(), r.LSN(), k, max)
				case !ok && applied.Load() == max: // else its version may have left since
					t.Errorf("key %x is missing", k)
				}
				other := key('o', rng.IntN(int(n+1)*perRound))
				if r, ok := f.t.Get(f.t.Hash(1, other), 1, other, event.MaxLSN); ok && string(r.Key()) != string(other) {
					t.Errorf("found key %x, want %x", r.Key(), other)
				}
				guard.Exit()
			}
		})
	}
	for n := range rounds {
		g := f.ap.Seal()
		fill()
		for i := range perRound {
			f.insert(1, event.OpPut, key('o', n*perRound+i), nil)
		}
		f.t.Leave(g)
		round.Add(1)
	}
	wg.Wait()
	f.checkIndex()
}
