package memtable

import (
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

const (
	slotBytes = 8
	minSlots  = 64

	posMask = 1<<48 - 1
	tagMask = ^uint64(posMask)
)

// slots is an open-addressing hash table with linear probing. A slot is 0 (empty), or tag<<48 | Pos of the newest
// version of a key. It is dead when that record has departed: probes pass over it. A slot never becomes empty again and
// never changes its key before that has left: this is what readers rely on.
//
// Of the 64 bits of a hash the top 8 choose the shard, the next 16 are the tag, the lower ones the home slot.
type slots struct {
	base unsafe.Pointer // of mask+1 slots
	mask uint64         // 0 stands for no table
}

// noSlots is what a shard without keys points to: two empty slots that are never written.
var noSlots [2]uint64

func tagOf(h uint64) uint64 { return h << shardBits & tagMask }

func makeSlots(b []byte) slots {
	return slots{base: unsafe.Pointer(unsafe.SliceData(b)), mask: uint64(len(b)/slotBytes) - 1}
}

func (s slots) at(i uint64) *uint64 { return (*uint64)(unsafe.Add(s.base, (i&s.mask)*slotBytes)) }

func (s slots) count() int { return int(s.mask) + 1 }

// limit is the number of keys at which a table of this size is replaced; none go into noSlots.
func (s slots) limit() int {
	if s.mask < minSlots-1 {
		return 0
	}
	return s.count() * 3 / 4
}

// storeSlot publishes p as the newest version of a key with hash h.
func storeSlot(at *uint64, h uint64, p tail.Pos) { atomic.StoreUint64(at, tagOf(h)|uint64(p)) }

// find returns the key's newest version and its place, 0 if the table does not have the key.
func (s slots) find(a *tail.Arena, h uint64, ds event.DatasetID, key []byte) (tail.Pos, tail.Record) {
	tag := tagOf(h)
	for i := h; ; i++ {
		w := atomic.LoadUint64(s.at(i))
		if w == 0 {
			return 0, tail.Record{}
		}
		if (w^tag)>>48 == 0 {
			p := tail.Pos(w & posMask)
			if r, ok := a.Lookup(p); ok && r.Dataset() == ds && string(r.Key()) == string(key) {
				return p, r
			}
		}
	}
}

// locate is find for a writer: it returns the key's slot and what is in it, or 0 and the slot where the key would go:
// the first dead one on the way if reuse says that there may be some, else the empty one at the end.
func (s slots) locate(a *tail.Arena, h uint64, ds event.DatasetID, key []byte, reuse bool) (*uint64, tail.Pos) {
	tag := tagOf(h)
	var dead *uint64
	for i := h; ; i++ {
		at := s.at(i)
		w := atomic.LoadUint64(at)
		if w == 0 {
			if dead != nil {
				at = dead
			}
			return at, 0
		}
		if (w^tag)>>48 == 0 {
			p := tail.Pos(w & posMask)
			if r, ok := a.Lookup(p); ok && r.Dataset() == ds && string(r.Key()) == string(key) {
				return at, p
			}
		}
		if reuse && dead == nil && !a.Has(tail.Pos(w&posMask)) {
			dead = at
		}
	}
}

// findLSN looks through the chains of all keys that may have the hash: an LSN belongs to one event only.
func (s slots) findLSN(a *tail.Arena, h uint64, ds event.DatasetID, lsn event.LSN) (tail.Record, bool) {
	tag := tagOf(h)
	for i := h; ; i++ {
		w := atomic.LoadUint64(s.at(i))
		if w == 0 {
			return tail.Record{}, false
		}
		if (w^tag)>>48 != 0 {
			continue
		}
		for p := tail.Pos(w & posMask); p != 0; {
			r, ok := a.Lookup(p)
			if !ok || r.Dataset() != ds || r.LSN() < lsn {
				break
			}
			if r.LSN() == lsn {
				return r, true
			}
			p = r.Prev()
		}
	}
}

// publish gives shard i a state. The memory of tables that it no longer has is freed once their readers have left: from
// the exchange on nobody finds them, so a reader that enters afterwards needs no waiting for. The caller holds the
// shard's lock.
func (t *Table) publish(i int, next *state) {
	prev := t.states[i].Swap(next)
	for _, s := range []slots{prev.cur, prev.old} {
		if s.mask == 0 || s.base == noState.cur.base || s.base == next.cur.base || s.base == next.old.base {
			continue
		}
		b := unsafe.Slice((*byte)(s.base), offheap.Size(s.count()*slotBytes))
		t.domain.Retire(func() { offheap.Free(b) })
	}
}
