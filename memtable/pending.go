package memtable

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/tail"
)

// pendingBatch is how many records DrainPending inserts under one hold of a shard's lock.
const pendingBatch = 128

// AddPending hands over the filled record at p, to be inserted when its shard is first used or by DrainPending. One
// goroutine calls it, in the order of the LSNs; readers, Sorted and Leave may already be there, writers not. A read sees
// the records that were handed over before it began.
func (t *Table) AddPending(h uint64, p tail.Pos) {
	i := int(h >> (64 - shardBits))
	s := &t.shards[i]
	s.mu.Lock()
	s.pending.add(h)
	s.pending.add(uint64(p))
	t.pendingCount.Add(1)
	if st := t.states[i].Load(); !st.pending {
		t.publish(i, &state{cur: st.cur, old: st.old, pending: true})
	}
	s.mu.Unlock()
}

// DrainPending inserts all that was handed to AddPending, with the given number of goroutines. It returns early, with
// the context's error, when ctx is done; what is left is then inserted on first use.
func (t *Table) DrainPending(ctx context.Context, workers int) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range max(workers, 1) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < shardCount && ctx.Err() == nil; i = next.Add(1) - 1 {
				s := &t.shards[i]
				for more := true; more && ctx.Err() == nil; {
					s.mu.Lock()
					more = t.states[i].Load().pending && t.insertPendingLocked(int(i), s, pendingBatch)
					s.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// insertPendingLocked inserts the next n pending records of a shard, 0 = all, and reports whether some are left.
func (t *Table) insertPendingLocked(i int, s *shard, n int) bool {
	end := s.pending.n
	if n > 0 {
		end = min(end, s.pendingDone+2*n)
	}
	for ; s.pendingDone < end; s.pendingDone += 2 {
		h, p := s.pending.at(s.pendingDone), tail.Pos(s.pending.at(s.pendingDone+1))
		t.insertLocked(i, s, h, p)
		t.pendingCount.Add(-1)
	}
	if end < s.pending.n {
		return true
	}
	s.pending.free()
	s.pendingDone = 0
	st := t.states[i].Load()
	t.publish(i, &state{cur: st.cur, old: st.old})
	return false
}
