package memtable

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

// LeaveResult says what left memory.
type LeaveResult struct {
	Records    int64 // versions that were applied
	Keys       int64 // keys that have no version in memory any more
	FreedBytes int64 // of the generations, given back after the grace period
}

// leaver holds what calls of Leave share.
type leaver struct {
	mu    sync.Mutex // one Leave at a time; guards the fields below; the first in the lock order
	last  event.LSN  // of the records that have left
	count int        // calls

	departures atomic.Uint64
	records    atomic.Int64 // since the beginning
	keys       atomic.Int64
}

// Departures returns a number that rises before the first version of a Leave disappears. So who has to know the newest
// version of a key under its shard's lock can look it up before taking the lock: read Departures; look for the newest
// version in memory, and if there is none in the segments as they are then; lock the shard; ask Head. If Head finds
// nothing and Departures is the same, what was found is the newest version. If Head finds something, that is. Else
// unlock and begin again.
func (t *Table) Departures() uint64 { return t.leave.departures.Load() }

// Leave takes all records of sealed generations out of memory: from now on Get, Head and FindLSN do not find them, and
// keys without another version are gone from the table. The memory is given back through the epoch domain. Writers and
// readers go on; a shard's lock is held for short steps only.
//
// Generations leave oldest first, over all calls; several may leave at once, which costs little more than one. All their
// records have been inserted (or never will be) and are durable, each version that a read may need is in a segment that
// readers find, and no Sorted holds them. The caller holds no guard and no
// lock.
func (t *Table) Leave(gens ...tail.Generation) LeaveResult {
	l := &t.leave
	l.mu.Lock()
	defer l.mu.Unlock()
	// 1. Nothing of the generations is waiting to be inserted.
	t.drainAllPending()
	// 2. Before anything disappears.
	l.departures.Add(1)
	// 3. From here on no probe or chain finds the records, the oldest first.
	for _, g := range gens {
		g.Depart()
	}
	// 4. Who found one under a shard's lock has given it back. A record that is not marked as superseded now never will
	// be: its key left with it.
	for i := range t.shards {
		t.lockShard(i)
		t.shards[i].mu.Unlock()
	}
	// 5. Settle the shards' numbers of keys, make tables smaller that have become too large.
	res := t.settle(gens)
	// 6. Nor does an entry of a sorted run lead to a record.
	if sets := t.order.all(); len(sets) > 0 {
		t.domain.Synchronize() // scans that found one have stored what they had looked up
		for _, od := range sets {
			od.freeze() // fresh keys are in runs, and nobody reads records of runs without a guard
			od.leave()
			od.thaw()
		}
	}
	// 7. Readers that found a record before leave.
	for _, g := range gens {
		res.FreedBytes += g.Bytes()
		t.domain.Retire(g.Release)
	}
	l.count++
	l.records.Add(res.Records)
	l.keys.Add(res.Keys)
	return res
}

// settle counts the keys that left, shard by shard, and renews tables.
func (t *Table) settle(gens []tail.Generation) (res LeaveResult) {
	l := &t.leave
	var left [shardCount]int
	for _, g := range gens {
		for _, r := range g.Records() {
			if r.LSN() <= l.last {
				panic(fmt.Sprintf("dyngo: bug: memtable: LSN %d leaves after %d", r.LSN(), l.last))
			}
			l.last = r.LSN()
			links := r.Links()
			if links&tail.LinkIndexed == 0 {
				continue
			}
			res.Records++
			if links&tail.LinkSuperseded == 0 {
				left[t.Hash(r.Dataset(), r.Key())>>(64-shardBits)]++
				res.Keys++
			}
		}
	}
	// One shard in turn gets a new table in any case, so that no dead slot stays for ever, see tail.Arena.Lookup.
	turn := l.count % shardCount
	for i, n := range left {
		s := &t.shards[i]
		s.mu.Lock()
		s.keys -= n
		renewed := t.shrinkLocked(i, s, i == turn)
		s.mu.Unlock()
		for renewed {
			t.grower.drain(i)
			s.mu.Lock()
			renewed = t.shrinkLocked(i, s, false)
			s.mu.Unlock()
		}
	}
	return res
}

// shrinkLocked begins a new table if the shard's is too large, or else if that is wanted anyway, and reports whether one
// drains now.
func (t *Table) shrinkLocked(i int, s *shard, anyway bool) bool {
	st := t.states[i].Load()
	switch {
	case st.cur.mask < minSlots-1 || st.old.mask != 0 && s.keys > 0:
		return st.old.mask != 0 // none, or one that is just moving: what drains drops dead slots
	case s.keys == 0:
		t.publish(i, &state{cur: noState.cur, pending: st.pending})
		offheap.Free(s.ready)
		s.ready, s.asked = nil, false
		s.used, s.drained = 0, 0
	case anyway || tooLarge(st.cur, s.keys):
		t.renewLocked(i, s)
		return true
	}
	return false
}

// leave takes entries that lead to departed records out of the dataset's runs, or has them point to the newest version of
// their key. The caller holds mergeMu and has frozen the dataset; scans go on.
func (od *ordered) leave() {
	changed := make(map[*run]*run)
	for _, r := range od.runs.Load().runs {
		var gone posList // indices of entries whose key left
		od.reanchorDeparted(r, &gone)
		if gone.n > 0 {
			changed[r] = r.without(&gone)
		}
		gone.free()
	}
	if len(changed) > 0 {
		od.exchange(changed)
	}
}

// departed is an entry of a run that was found to lead to the record at p, which has departed. A scan may have the entry
// point to the newest version meanwhile.
type departed struct {
	i   int // index of the entry
	p   tail.Pos
	rec tail.Record
	h   uint64 // hash of the key
}

// reanchorDeparted goes through the entries of r, in batches of those that lead to departed records.
func (od *ordered) reanchorDeparted(r *run, gone *posList) {
	var batch [touchAhead]departed
	n := 0
	for i := range r.es {
		p := r.es[i].load()
		if od.t.arena.Has(p) {
			continue
		}
		batch[n] = departed{i: i, p: p, rec: od.t.arena.Record(p)}
		if n++; n == len(batch) {
			od.reanchorBatch(r, batch[:n], gone)
			n = 0
		}
	}
	od.reanchorBatch(r, batch[:n], gone)
}

// reanchorBatch has entries of keys with another version point to the newest, and adds the indices of the others to gone.
// A key that comes back after its lookup is a new key: it will be in another run, which is not merged with r now, and its
// entry here goes. One that came back before is found, whether its old record was marked as superseded or not: it had
// another entry, but merging may have kept the one that leads to the old record.
func (od *ordered) reanchorBatch(r *run, batch []departed, gone *posList) {
	t := od.t
	guard := t.domain.Enter() // for the tables; the records are there until step 7 of Leave
	defer guard.Exit()
	sink := byte(0)
	for _, d := range batch {
		sink += byte(d.rec.Links())
	}
	for k := range batch {
		d := &batch[k]
		d.h = t.Hash(od.ds, d.rec.Key())
		sink += byte(t.homeSlot(d.h))
	}
	for _, d := range batch {
		if head, _, ok := t.Head(d.h, od.ds, d.rec.Key()); ok {
			atomic.CompareAndSwapUint64(&r.es[d.i].pos, uint64(d.p), uint64(head))
		} else {
			gone.add(uint64(d.i))
		}
	}
	runtime.KeepAlive(sink) // and with it the touching loads
}

// without returns a run with the entries of r but for those at some indices, which ascend; nil if none is left.
func (r *run) without(gone *posList) *run {
	if gone.n == len(r.es) {
		return nil
	}
	out := newRun(len(r.es) - gone.n)
	out.common = r.common
	n, next := 0, 0
	for i := range r.es {
		if next < gone.n && gone.at(next) == uint64(i) {
			next++
			continue
		}
		out.es[n] = entry{r.es[i].prefix, uint64(r.es[i].load())}
		n++
	}
	return out
}

// exchange replaces runs by others, nil = none.
func (od *ordered) exchange(changed map[*run]*run) {
	od.publishMu.Lock()
	var runs []*run
	for _, x := range od.runs.Load().runs {
		if y, ok := changed[x]; !ok {
			runs = append(runs, x)
		} else if y != nil {
			runs = append(runs, y)
		}
	}
	od.runs.Store(newRunSet(runs))
	od.publishMu.Unlock()
	for x := range changed {
		od.t.domain.Retire(x.free)
	}
}
