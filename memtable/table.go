package memtable

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

// shardCount is fixed: 8 bits of the hash choose the shard. More shards than cores make contention rare and keep each
// table, and with it each step of its growth, small.
const (
	shardBits  = 8
	shardCount = 1 << shardBits
)

// Table finds records by key. See the package comment for what it promises and why.
type Table struct {
	arena  *tail.Arena
	domain *epoch.Domain
	seed   maphash.Seed
	clock  *clock.System // of the figures on moves

	states [shardCount]atomic.Pointer[state] // stored under the shard's lock, loaded freely
	shards [shardCount]shard

	order  order // datasets kept in key order
	leave  leaver
	grower grower // makes tables ready and drains old ones

	pendingCount atomic.Int64 // records handed to AddPending and not yet inserted
}

// New returns an empty table over the records of a, whose memory is given back through d. The table starts goroutines
// that Close ends.
func New(a *tail.Arena, d *epoch.Domain) *Table {
	t := &Table{arena: a, domain: d, seed: maphash.MakeSeed(), clock: clock.NewSystem()}
	for i := range t.states {
		t.states[i].Store(&noState)
	}
	t.grower.start(t)
	t.order.start(t)
	return t
}

// Close ends the table's goroutines and gives its memory back, through the epoch domain: the memory is free when the
// domain is closed, which comes next, and the arena after that. Nobody may be in a call or make another one.
func (t *Table) Close() {
	t.order.close()
	t.grower.close()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.publish(i, &noState)
		offheap.Free(s.ready)
		s.ready = nil
		s.pending.free()
		s.mu.Unlock()
	}
}

// Hash returns the hash of a key, by which all other methods find it. It differs from process to process.
func (t *Table) Hash(ds event.DatasetID, key []byte) uint64 {
	return maphash.Bytes(t.seed, key) ^ uint64(ds)*0x9e3779b97f4a7c15
}

// Lock takes the lock of h's shard. Under it the caller may call Head and Insert for keys of that shard and read the
// records that it finds there without a guard. It must not call Get, Scan or take another shard's lock.
func (t *Table) Lock(h uint64) { t.lockShard(int(h >> (64 - shardBits))) }

// Unlock gives the lock back.
func (t *Table) Unlock(h uint64) { t.shards[h>>(64-shardBits)].mu.Unlock() }

// Locked is a set of shards that the caller has locked.
type Locked struct {
	t   *Table
	set [shardCount / 64]uint64
}

// LockMany takes the locks of the shards of all hashes, each once and in ascending order, so that two callers cannot
// wait for each other. It allocates nothing. The caller calls Unlock on the result, once.
func (t *Table) LockMany(hs []uint64) Locked {
	l := Locked{t: t}
	for _, h := range hs {
		i := h >> (64 - shardBits)
		l.set[i>>6] |= 1 << (i & 63)
	}
	for w, set := range l.set {
		for ; set != 0; set &= set - 1 {
			t.lockShard(w<<6 + bits.TrailingZeros64(set))
		}
	}
	return l
}

// Unlock gives all locks of the set back.
func (l *Locked) Unlock() {
	for w, set := range l.set {
		for ; set != 0; set &= set - 1 {
			l.t.shards[w<<6+bits.TrailingZeros64(set)].mu.Unlock()
		}
	}
}

// LockAll takes the locks of all shards.
func (t *Table) LockAll() {
	for i := range t.shards {
		t.lockShard(i)
	}
}

// UnlockAll gives them back.
func (t *Table) UnlockAll() {
	for i := range t.shards {
		t.shards[i].mu.Unlock()
	}
}

// lockShard locks shard i and inserts what recovery has left for it.
func (t *Table) lockShard(i int) {
	s := &t.shards[i]
	s.mu.Lock()
	if t.states[i].Load().pending {
		t.insertPendingLocked(i, s, 0)
	}
}

// Head returns the newest version of a key; none means that it has none in memory. The caller holds the shard's lock,
// or a guard.
func (t *Table) Head(h uint64, ds event.DatasetID, key []byte) (tail.Pos, tail.Record, bool) {
	st := t.readable(h)
	p, r := st.cur.find(t.arena, h, ds, key)
	if p == 0 && st.old.mask != 0 {
		p, r = st.old.find(t.arena, h, ds, key)
	}
	return p, r, p != 0
}

// Get returns the newest version of a key with LSN ≤ max. All inserts of events up to max must have returned. The
// record may be a delete or any other op: its meaning is the caller's. None means that memory has no version ≤ max:
// what has left is then in the segments that were published before it did. The caller holds a guard.
func (t *Table) Get(h uint64, ds event.DatasetID, key []byte, max event.LSN) (tail.Record, bool) {
	st := t.readable(h)
	p, r := st.cur.find(t.arena, h, ds, key)
	if p == 0 && st.old.mask != 0 {
		p, r = st.old.find(t.arena, h, ds, key)
	}
	if p == 0 {
		return tail.Record{}, false
	}
	return t.visible(r, max)
}

// visible goes down the chain from r to the newest version with LSN ≤ max.
func (t *Table) visible(r tail.Record, max event.LSN) (tail.Record, bool) {
	for ok := true; ok; r, ok = t.arena.Lookup(r.Prev()) {
		if r.LSN() <= max {
			return r, true
		}
	}
	return tail.Record{}, false
}

// FindLSN returns the version with the given LSN of a key in dataset ds whose hash is h, if it is in memory. The caller
// holds the shard's lock, or a guard.
func (t *Table) FindLSN(h uint64, ds event.DatasetID, lsn event.LSN) (tail.Record, bool) {
	st := t.readable(h)
	if r, ok := st.cur.findLSN(t.arena, h, ds, lsn); ok {
		return r, true
	}
	if st.old.mask == 0 {
		return tail.Record{}, false
	}
	return st.old.findLSN(t.arena, h, ds, lsn)
}

// readable returns the state of h's shard after inserting what recovery has left for it. A caller that holds the
// shard's lock finds nothing left, so that the lock is not taken twice.
func (t *Table) readable(h uint64) *state {
	i := h >> (64 - shardBits)
	st := t.states[i].Load()
	if st.pending {
		t.lockShard(int(i))
		st = t.states[i].Load()
		t.shards[i].mu.Unlock()
	}
	return st
}
