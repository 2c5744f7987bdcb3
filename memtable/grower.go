package memtable

import (
	"sync"

	"github.com/dyngodb/dyngo/internal/offheap"
)

// grower makes the next tables of shards ready, so that no writer waits for the system's memory, and drains old tables
// when writers don't.
type grower struct {
	t    *Table
	work chan uint8 // shards; each is in it once at most per reason, so that it never is full
	done sync.WaitGroup
}

func (g *grower) start(t *Table) {
	g.t = t
	g.work = make(chan uint8, 2*shardCount)
	g.done.Go(g.run)
}

func (g *grower) close() {
	close(g.work)
	g.done.Wait()
}

// ask never waits: if the queue should be full, the writers do the work themselves.
func (g *grower) ask(shard int) {
	select {
	case g.work <- uint8(shard):
	default:
	}
}

func (g *grower) run() {
	for i := range g.work {
		g.drain(int(i))
		g.prepare(int(i))
	}
}

func (g *grower) prepare(i int) {
	s := &g.t.shards[i]
	s.mu.Lock()
	size := nextSize(g.t.states[i].Load().cur, s.keys)
	wanted := s.asked && s.ready == nil
	s.mu.Unlock()
	if !wanted {
		return
	}
	b := offheap.Alloc(size)
	for k := 0; k < len(b); k += 4096 {
		b[k] = 0 // the page fault happens here
	}
	s.mu.Lock()
	if s.ready == nil && size == nextSize(g.t.states[i].Load().cur, s.keys) {
		s.ready, b = b, nil
	}
	s.mu.Unlock()
	offheap.Free(b)
}

// drain empties the shard's old table in short steps.
func (g *grower) drain(i int) {
	s := &g.t.shards[i]
	for {
		s.mu.Lock()
		draining := g.t.states[i].Load().old.mask != 0
		if draining {
			began := g.t.clock.Mono()
			g.t.drainLocked(i, s, drainBatch)
			s.longest = max(s.longest, g.t.clock.Mono()-began)
		}
		s.mu.Unlock()
		if !draining {
			return
		}
	}
}
