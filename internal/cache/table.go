package cache

import "sync/atomic"

// table finds entries by key: a hash table with open addressing, at most half full. One writer at a time, under the
// shard's lock; readers need none.
//
// What a reader may see while the writer works:
//
//  1. Slots are pointers, loaded and stored atomically, to entries whose keys never change. So a reader never takes one
//     entry for another.
//  2. remove closes the gap by moving later entries forward: the pointer is stored in its new slot before the old one
//     is overwritten. A reader that has passed the new slot and has not reached the old one misses the entry. That is a
//     miss like any other; the block that the reader then adds is refused.
//  3. A reader of a table that resize has replaced sees the entries of that moment. Whether a block still lives is told
//     by Acquire, not by the table.
//  4. A reader ends: it looks at each slot once at most.
type table struct {
	slots []atomic.Pointer[entry]
	mask  uint64
}

const minTable = 64 // slots; a power of two

func newTable(n int) *table {
	return &table{slots: make([]atomic.Pointer[entry], n), mask: uint64(n - 1)}
}

// find returns the entry of k, whose hash is h, or nil.
func (t *table) find(k Key, h uint64) *entry {
	for i := range uint64(len(t.slots)) {
		e := t.slots[(h+i)&t.mask].Load()
		if e == nil || e.key == k {
			return e
		}
	}
	return nil
}

// insert puts in e, whose key is not there. There must be room.
func (t *table) insert(e *entry) {
	i := e.hash & t.mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & t.mask
	}
	t.slots[i].Store(e)
}

// remove takes out e, which must be there.
func (t *table) remove(e *entry) {
	hole := e.hash & t.mask
	for t.slots[hole].Load() != e {
		hole = (hole + 1) & t.mask
	}
	for i := (hole + 1) & t.mask; ; i = (i + 1) & t.mask {
		f := t.slots[i].Load()
		if f == nil {
			break
		}
		// f may stand in the hole if its search, which begins at its hash, comes by there.
		if (i-f.hash)&t.mask >= (i-hole)&t.mask {
			t.slots[hole].Store(f)
			hole = i
		}
	}
	t.slots[hole].Store(nil)
}
