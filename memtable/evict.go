package memtable

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/tail"
)

// EvictOptions says which versions are still needed and how they are kept.
type EvictOptions struct {
	// Durable is an LSN that reads without a hold have reached: every read that begins after the call, and is not at an
	// LSN in Hold, has a max ≥ Durable. All events up to it have been inserted. Versions above it are kept.
	Durable event.LSN

	// Hold lists other LSNs that are read at, ascending. The newest version ≤ each of them is kept.
	Hold []event.LSN

	// Stub fills the 24 bytes that stand for the value of r in the log, see tail.Stub. False means that r has to be
	// copied whole. It is called without locks and under a guard, for puts and merge operands with a value longer than a stub. nil: all
	// is copied whole.
	Stub func(dst []byte, r tail.Record) bool

	// AlwaysStub asks for stubs also when at least half of the generation is dead. Otherwise what lives of such a
	// generation is copied whole, since it goes anyway.
	AlwaysStub bool
}

// EvictResult says what became of a generation.
type EvictResult struct {
	FreedBytes  int64 // of the generation, given back after the grace period
	CopiedBytes int64 // of the copies
	Copied      int64 // records copied whole
	Stubs       int64 // records copied without their value
	Dropped     int64 // versions that nobody needs any more, in this generation or others
}

// evictor holds what evictions share.
type evictor struct {
	t    *Table
	mu   sync.Mutex     // one eviction at a time; guards cold; the first in the lock order
	cold *tail.Appender // takes the copies

	coldBytes                           atomic.Int64 // of the cold generation that is being filled
	generations, copied, stubs, dropped atomic.Int64 // since the beginning
}

func (e *evictor) init(t *Table) {
	e.t = t
	e.cold = t.arena.NewAppender()
}

// eviction is the state of one call of Evict. Numbers in comments refer to the package comment.
type eviction struct {
	t       *Table
	g       tail.Generation
	chunks  tail.ChunkSet
	opts    EvictOptions
	stubs   bool
	needed  []event.LSN // Hold and Durable, ascending
	kept    []kept      // scratch of relocate: needed versions of a key, newest first
	dropped []tail.Record
	result  EvictResult

	batch [touchAhead]tail.Record // records to relocate next
	count int                     // of them
	sink  byte                    // keeps the touching loads alive

	// moved holds, for datasets in order, the places of newest versions and of their copies, by key.
	moved   byDataset
	inOrder bool // moved is being filled
}

// kept is a version that stays in its key's chain.
type kept struct {
	p    tail.Pos
	r    tail.Record
	copy tail.Pos // takes its place, 0 = it stays where it is
}

// Evict empties a sealed generation: live records are copied to the cold generation, in key order where a dataset is
// kept in order; versions that nobody needs leave their chains; then the generation's memory is given back through the
// epoch domain. A read at o.Durable or later, or at an LSN in o.Hold, gives the same answer before, during and after.
// Writers and readers go on; a shard's lock is held for some stores only. All records of the generation must have been
// inserted (or never will be) and have their final LogPos. The caller holds no guard and no lock.
//
// Generations returned by SealCold can be evicted in the same way, which pays when they are mostly dead.
func (t *Table) Evict(g tail.Generation, o EvictOptions) EvictResult {
	t.evict.mu.Lock()
	defer t.evict.mu.Unlock()
	if !slices.IsSorted(o.Hold) {
		panic("dyngo: bug: memtable: held LSNs are not ascending")
	}
	ev := &eviction{t: t, g: g, chunks: g.ChunkSet(), opts: o}
	ev.needed = append(slices.Clone(o.Hold), o.Durable)
	slices.Sort(ev.needed)

	// 1. Nothing of the generation is waiting to be inserted.
	t.drainAllPending()
	// 2. Reads that began before o.Durable was reached have ended.
	t.domain.Synchronize()
	// 3. Copy what lives, switch slots and chains to the copies.
	ev.stubs = o.Stub != nil && (o.AlwaysStub || !ev.mostlyDead())
	ev.relocateAll()
	// 4. No table that drains holds a place of the generation any more.
	for i := range t.shards {
		t.grower.drain(i)
	}
	// 5. Nor does an entry of a sorted run, or a reader that could still store one there.
	t.domain.Synchronize()
	ev.moveAnchors()
	// 6. Readers that found a record before 3 to 5 leave.
	t.domain.Retire(g.Release)

	ev.result.FreedBytes = g.Bytes()
	t.evict.generations.Add(1)
	t.evict.copied.Add(ev.result.Copied)
	t.evict.stubs.Add(ev.result.Stubs)
	t.evict.dropped.Add(ev.result.Dropped)
	t.evict.coldBytes.Store(t.evict.cold.Bytes())
	return ev.result
}

// ColdBytes returns the memory of the cold generation that is being filled, as of the last eviction.
func (t *Table) ColdBytes() int64 { return t.evict.coldBytes.Load() }

// SealCold ends the cold generation that evictions are filling and returns it. It waits for a running eviction.
func (t *Table) SealCold() tail.Generation {
	t.evict.mu.Lock()
	defer t.evict.mu.Unlock()
	t.evict.coldBytes.Store(0)
	return t.evict.cold.Seal()
}

// LiveBytes returns the bytes of those records of a sealed generation that are the newest of their key. It reads the
// whole generation. The caller sees to it that the generation is not evicted meanwhile.
func (t *Table) LiveBytes(g tail.Generation) int64 {
	live := int64(0)
	for _, r := range g.Records() {
		if isLive(r) {
			live += int64(r.Size())
		}
	}
	return live
}

func isLive(r tail.Record) bool {
	return r.Links()&(tail.LinkIndexed|tail.LinkSuperseded) == tail.LinkIndexed
}

func (ev *eviction) mostlyDead() bool { return ev.t.LiveBytes(ev.g)*2 <= ev.g.UsedBytes() }

// relocateAll visits each key of the generation once: first the live ones of ordered datasets in key order, then the
// rest in order of arrival.
func (ev *eviction) relocateAll() {
	var live byDataset
	if sets := ev.t.order.all(); len(sets) > 0 {
		for p, r := range ev.g.Records() {
			if isLive(r) && sets[r.Dataset()] != nil {
				live.add(r.Dataset(), p)
			}
		}
	}
	ev.inOrder = true
	for _, ps := range live {
		sorted := ev.t.sortedRun(ps, "", 0)
		for i := range sorted.es {
			ev.add(ev.t.arena.Record(sorted.es[i].load()))
		}
		ev.flush()
		sorted.free()
		ps.free()
	}
	ev.inOrder = false
	for _, r := range ev.g.Records() {
		ev.add(r)
	}
	ev.flush()
}

// add relocates r's key, now or with the next call of flush.
func (ev *eviction) add(r tail.Record) {
	ev.batch[ev.count] = r
	if ev.count++; ev.count == len(ev.batch) {
		ev.flush()
	}
}

// flush relocates the keys of the batch, after touching what that needs, so that cache misses overlap.
func (ev *eviction) flush() {
	var hs [touchAhead]uint64
	guard := ev.t.domain.Enter() // for the tables; records are safe, see relocate
	for _, r := range ev.batch[:ev.count] {
		ev.sink += byte(r.Links())
	}
	for i, r := range ev.batch[:ev.count] {
		if r.Links()&(tail.LinkIndexed|tail.LinkDropped) == tail.LinkIndexed {
			hs[i] = ev.t.Hash(r.Dataset(), r.Key())
			ev.sink += byte(ev.t.homeSlot(hs[i]))
		}
	}
	for i, r := range ev.batch[:ev.count] {
		// Looked at again: an earlier record of the batch may have the same key.
		if r.Links()&(tail.LinkIndexed|tail.LinkDropped) == tail.LinkIndexed {
			ev.relocate(r, hs[i])
		}
	}
	guard.Exit()
	ev.count = 0
}

// relocate takes the generation's records of r's key, whose hash is h, out of their chain: needed ones are replaced by
// copies. r was inserted and is in a chain.
func (ev *eviction) relocate(r tail.Record, h uint64) {
	t := ev.t
	ds, key := r.Dataset(), r.Key()
	head, _, ok := t.Head(h, ds, key)
	if !ok {
		panic(fmt.Sprintf("dyngo: bug: memtable: LSN %d of dataset %d was indexed, its key is not", r.LSN(), ds))
	}
	// From here on new versions may come on top of head. Below it only evictions change the chain, one at a time, and
	// only evictions free records, so that no lock or guard is needed.
	ev.sortOut(head)
	for i := range ev.kept {
		if k := &ev.kept[i]; ev.chunks.Has(k.p) {
			k.copy = ev.copyRecord(k.r)
			ev.dropped = append(ev.dropped, k.r)
		}
	}
	ev.relink(h, ds, key)
	for _, r := range ev.dropped {
		r.AddLinks(tail.LinkDropped | tail.LinkSuperseded)
	}
	if k := &ev.kept[0]; ev.inOrder && k.copy != 0 {
		k.r.AddLinks(tail.LinkMoved)
		ev.moved.add(ds, k.p)
		ev.moved.add(ds, k.copy)
	}
}

// sortOut goes down the chain and fills kept and dropped.
func (ev *eviction) sortOut(head tail.Pos) {
	ev.kept, ev.dropped = ev.kept[:0], ev.dropped[:0]
	newer := event.MaxLSN
	hold := len(ev.needed)
	for p := head; p != 0; {
		r := ev.t.arena.Record(p)
		// Is there a needed LSN in [r's, newer)? needed is ascending and LSNs fall, so hold only goes down.
		for hold > 0 && ev.needed[hold-1] >= newer {
			hold--
		}
		if p == head || r.LSN() > ev.opts.Durable || hold > 0 && ev.needed[hold-1] >= r.LSN() {
			ev.kept = append(ev.kept, kept{p: p, r: r})
		} else {
			ev.dropped = append(ev.dropped, r)
			ev.result.Dropped++
		}
		newer = r.LSN()
		p = r.Prev()
	}
}

// relink makes kept the chain. It works from the oldest version up, so that a reader anywhere in the old or the new
// chain finds every needed version that is older than where it is.
func (ev *eviction) relink(h uint64, ds event.DatasetID, key []byte) {
	t := ev.t
	changed := len(ev.dropped) > 0
	if !changed {
		return
	}
	const perHold = 64 // stores under one hold of the lock
	i := len(ev.kept) - 1
	below := tail.Pos(0)
	for i >= 0 {
		t.Lock(h)
		for n := 0; i >= 0 && n < perHold; n++ {
			k := &ev.kept[i]
			if i == 0 {
				ev.relinkHeadLocked(h, ds, key, k, below)
			} else if k.copy != 0 {
				t.arena.Record(k.copy).Link(below, tail.LinkIndexed|tail.LinkSuperseded)
				below = k.copy
			} else {
				if k.r.Prev() != below {
					k.r.SetPrev(below)
				}
				below = k.p
			}
			i--
		}
		t.Unlock(h)
	}
}

// relinkHeadLocked is the last step of relink: k was the newest version when the chain was looked at.
func (ev *eviction) relinkHeadLocked(h uint64, ds event.DatasetID, key []byte, k *kept, below tail.Pos) {
	t := ev.t
	if k.copy == 0 {
		if k.r.Prev() != below {
			k.r.SetPrev(below)
		}
		return
	}
	p, r, _ := t.Head(h, ds, key)
	if p == k.p {
		t.arena.Record(k.copy).Link(below, tail.LinkIndexed)
		t.switchLocked(h, ds, key, k.copy)
		// Under the same hold of the lock, so that no entry of a run that points to k.r seems to be the newest after
		// something newer than the copy was inserted.
		k.r.AddLinks(tail.LinkSuperseded)
		return
	}
	t.arena.Record(k.copy).Link(below, tail.LinkIndexed|tail.LinkSuperseded)
	for r.Prev() != k.p {
		r = t.arena.Record(r.Prev())
	}
	r.SetPrev(k.copy)
}

// switchLocked makes p, a copy of the newest version, what the key's slot points to.
func (t *Table) switchLocked(h uint64, ds event.DatasetID, key []byte, p tail.Pos) {
	i := int(h >> (64 - shardBits))
	s, st := &t.shards[i], t.states[i].Load()
	at, was := st.cur.locate(t.arena, h, ds, key, false)
	if was == 0 { // it is in the old table, which is not written
		if s.used >= st.cur.limit() {
			st = t.renewLocked(i, s)
			at, was = st.cur.locate(t.arena, h, ds, key, false)
		}
		if was == 0 {
			s.used++
		}
	}
	storeSlot(at, h, p)
}

// copyRecord copies r to the cold generation, as a stub if that is wanted and possible. The copy is not linked yet.
func (ev *eviction) copyRecord(r tail.Record) tail.Pos {
	a, cold := ev.t.arena, ev.t.evict.cold
	payload := r.Payload()
	if ev.stubs && stubbable(r) {
		session, key, value, parts, err := event.SplitPayload(payload)
		if err != nil {
			panic(fmt.Sprintf("dyngo: bug: memtable: payload of LSN %d: %v", r.LSN(), err))
		}
		var stub [tail.StubBytes]byte
		if len(value) > tail.StubBytes && ev.opts.Stub(stub[:], r) {
			p := cold.Reserve(event.PayloadSize(session, key, stub[:], parts))
			c := a.Record(p)
			c.CopyHeader(r, tail.MemStub)
			event.AppendPayload(c.Payload()[:0], session, key, stub[:], parts)
			ev.result.Stubs++
			ev.result.CopiedBytes += int64(c.Size())
			return p
		}
	}
	p := cold.Reserve(len(payload))
	c := a.Record(p)
	c.CopyHeader(r, 0)
	copy(c.Payload(), payload)
	ev.result.Copied++
	ev.result.CopiedBytes += int64(c.Size())
	return p
}

func stubbable(r tail.Record) bool {
	op, flags, mem, _ := r.State()
	return (op == event.OpPut || op == event.OpMerge) && flags&event.FlagValueRef == 0 && mem&tail.MemStub == 0 &&
		len(r.Payload()) > tail.StubBytes+coding.MaxVarintLen
}
