package memtable

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

const (
	growFast    = 256 // slots up to which a table grows fourfold, so that few records are read again
	maxShrink   = 3   // times that a table is halved in one step, so that each insert drains more than it fills
	drainStep   = 24  // old slots that an insert moves
	drainBatch  = 128 // old slots that the grower moves under one hold of the lock
	prepareFrom = 512 // slots from which the next table is made ready in the background
)

// state is what readers of a shard see. It is immutable.
type state struct {
	cur     slots // takes the writes
	old     slots // drains into cur, no table most of the time; never written
	pending bool  // recovery has left records for the shard
}

// noState is the state of a shard without keys.
var noState = state{cur: slots{base: unsafe.Pointer(&noSlots), mask: uint64(len(noSlots) - 1)}}

// shard is the writer's side of a shard.
type shard struct {
	mu sync.Mutex // guards the fields below, writes to the slots and to the links of records, and Table.states

	used    int    // slots taken in cur, dead ones included
	drained uint64 // old slots already looked at
	keys    int    // distinct keys; for a moment also those that have just left
	asked   bool   // the grower was asked to make the next table ready
	ready   []byte // the next table, or nil
	taken   int64  // records inserted since the beginning
	moves   int64  // tables that were replaced since then
	longest int64  // ns that the lock was held at once for a move

	pending     posList
	pendingDone int    // words of pending already inserted
	sink        uint64 // keeps the touching loads of drainLocked alive

	_ [128]byte // shards don't share cache lines
}

// Insert makes the record at p, which is filled, the newest version of its key, whose hash is h. Its LSN must be larger
// than that of the version before, which may have left memory. When Insert has returned, Get and Scan with max ≥ its LSN
// see it. The caller holds the shard's lock.
func (t *Table) Insert(h uint64, p tail.Pos) {
	i := int(h >> (64 - shardBits))
	t.insertLocked(i, &t.shards[i], h, p)
}

func (t *Table) insertLocked(i int, s *shard, h uint64, p tail.Pos) {
	st := t.states[i].Load()
	r := t.arena.Record(p)
	ds, key := r.Dataset(), r.Key()
	at, head := st.cur.locate(t.arena, h, ds, key, s.used > s.keys)
	isNew := head == 0 // in cur
	if isNew {
		if st.old.mask != 0 {
			head, _ = st.old.find(t.arena, h, ds, key)
		}
		if *at == 0 { // else it is a dead slot
			if s.used >= st.cur.limit() {
				st = t.renewLocked(i, s)
				at, _ = st.cur.locate(t.arena, h, ds, key, false)
			}
			s.used++
		}
	}
	r.Link(head, tail.LinkIndexed)
	s.taken++
	if head == 0 {
		s.keys++
		storeSlot(at, h, p)
		t.order.add(ds, p)
	} else {
		before := t.arena.Record(head)
		if before.LSN() >= r.LSN() {
			panic(fmt.Sprintf("dyngo: bug: memtable: LSN %d of dataset %d is inserted after %d of the same key",
				r.LSN(), ds, before.LSN()))
		}
		// The slot before the mark: whoever sees the mark finds the new version through the slot.
		storeSlot(at, h, p)
		before.AddLinks(tail.LinkSuperseded)
	}
	if st.old.mask != 0 {
		t.drainLocked(i, s, drainStep)
	} else if isNew && !s.asked && s.used > st.cur.limit()-st.cur.count()/32 && st.cur.count() >= prepareFrom {
		s.asked = true
		t.grower.ask(i)
	}
}

// renewLocked replaces cur by an empty table that takes the writes from now on; cur becomes old and drains. The new one
// is larger if the keys need that, else dead slots took the room: then it has the same size, or is smaller.
func (t *Table) renewLocked(i int, s *shard) *state {
	began := t.clock.Mono()
	defer func() {
		s.moves++
		s.longest = max(s.longest, t.clock.Mono()-began)
	}()
	st := t.states[i].Load()
	if st.old.mask != 0 { // each insert drains more slots than it fills, so old is empty long before cur is full
		t.drainLocked(i, s, st.old.count())
		st = t.states[i].Load()
	}
	b := s.ready
	if size := nextSize(st.cur, s.keys); len(b) != size {
		offheap.Free(b)
		b = offheap.Alloc(size)
	}
	s.ready, s.asked = nil, false
	next := &state{cur: makeSlots(b), pending: st.pending}
	if s.used > 0 {
		next.old = st.cur
	}
	s.used, s.drained = 0, 0
	t.publish(i, next)
	if next.old.count() >= prepareFrom {
		t.grower.ask(i)
	}
	return next
}

// nextSize returns the bytes of the table that follows s and takes the given number of keys. They fill at most half of
// it, so that it lasts for a while.
func nextSize(s slots, keys int) int {
	n := s.count()
	switch {
	case n < minSlots:
		n = minSlots
	case 2*keys > n && n <= growFast:
		n *= 4
	case 2*keys > n:
		n *= 2
	case tooLarge(s, keys):
		for k := 0; k < maxShrink && n > minSlots && 16*keys <= 3*n; k++ {
			n /= 2
		}
	}
	return n * slotBytes
}

// tooLarge reports whether a table is to be replaced by a smaller one. It is far from where tables grow, so that a
// number of keys that goes up and down does not make a table do the same.
func tooLarge(s slots, keys int) bool { return s.count() > minSlots && 8*keys < s.count() }

// drainLocked moves the next n slots of old into cur: dead ones and keys that cur has already are passed over, and old is
// not written. With the last slot the old table is retired.
func (t *Table) drainLocked(i int, s *shard, n int) {
	st := t.states[i].Load()
	end := min(s.drained+uint64(n), uint64(st.old.count()))
	for s.drained < end {
		step := min(s.drained+16, end)
		// First touch the records, so that the cache misses overlap, then hash their keys.
		for j := s.drained; j < step; j++ {
			if r, ok := t.arena.Lookup(tail.Pos(atomic.LoadUint64(st.old.at(j)) & posMask)); ok {
				s.sink += uint64(r.LSN())
			}
		}
		for ; s.drained < step; s.drained++ {
			w := atomic.LoadUint64(st.old.at(s.drained))
			r, ok := t.arena.Lookup(tail.Pos(w & posMask))
			if !ok {
				continue // empty or dead
			}
			ds, key := r.Dataset(), r.Key()
			at, p := st.cur.locate(t.arena, t.Hash(ds, key), ds, key, false)
			if p == 0 {
				s.used++
				atomic.StoreUint64(at, w)
			}
		}
	}
	if s.drained == uint64(st.old.count()) {
		t.publish(i, &state{cur: st.cur, pending: st.pending})
	}
}
