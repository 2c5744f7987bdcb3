package dyngo

import (
	"time"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/wal"
)

// evictor keeps the memory of events within the budget: it seals the newest events as generations and, when too much is in
// memory, makes the oldest generation leave. A generation whose events are mostly superseded gives the live ones to a new
// one; else only keys stay, with the place of their value in the log.
type evictor struct {
	db       *DB
	wake     chan struct{}
	gens     []sealed // oldest first; only run touches it after Open
	coldKept int64    // bytes that were alive when the copies of evicted events were last looked through
}

// sealed is a generation with the LSN of its last event.
type sealed struct {
	tail.Generation
	last LSN
}

func newEvictor(db *DB) *evictor { return &evictor{db: db, wake: make(chan struct{}, 1)} }

// used is the memory that counts against the budget.
func (e *evictor) used() int64 { return e.db.arena.Bytes() }

// limit is when events begin to leave: the budget less what the tail needs to take new ones meanwhile.
func (e *evictor) limit() int64 { return e.db.opts.MemoryBudget * 3 / 4 }

// generationBytes is how much is sealed at a time.
func generationBytes(budget int64) int64 { return min(max(budget/8, 2<<20), 64<<20) }

// nudge is called when events became durable. It must not block.
func (e *evictor) nudge() {
	if e.db.log.HotBytes() < generationBytes(e.db.opts.MemoryBudget) {
		return
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run ends with db.ctx.
func (e *evictor) run() {
	for {
		select {
		case <-e.wake:
		case <-e.db.ctx.Done():
			return
		}
		e.seal()
		for e.used() > e.limit() && len(e.gens) > 0 {
			e.pace()
			if !e.evict(e.gens[0]) {
				return
			}
			e.gens = e.gens[1:]
			e.sealCold()
			e.seal()
		}
		e.db.log.SetPace(0)
	}
}

// seal makes a generation of the newest events once there are enough.
func (e *evictor) seal() {
	if e.db.log.HotBytes() >= generationBytes(e.db.opts.MemoryBudget) {
		g, last := e.db.log.SealGeneration()
		e.gens = append(e.gens, sealed{g, last})
	}
}

// pace slows writers down when they fill memory faster than it is given back: the longer the queue of generations, the
// more, up to 1 ms a commit. So the queue is bounded by what they can still do.
func (e *evictor) pace() {
	waiting := int64(0)
	for _, g := range e.gens {
		waiting += g.Bytes()
	}
	if over := waiting - e.db.opts.MemoryBudget/2; over > 0 {
		e.db.log.SetPace(time.Duration(min(1000, 1+100*over/e.db.opts.MemoryBudget)) * time.Microsecond)
	} else {
		e.db.log.SetPace(0)
	}
}

// sealCold puts what evictions have kept into the queue as well, once it has grown to twice what was alive when it was last
// looked through: most of it is superseded then, if keys are overwritten.
func (e *evictor) sealCold() {
	cold := e.db.mem.ColdBytes()
	if cold < generationBytes(e.db.opts.MemoryBudget) || cold < 2*e.coldKept {
		return
	}
	g := e.db.mem.SealCold()
	if !e.evict(sealed{g, 0}) {
		return
	}
	e.coldKept = e.db.mem.ColdBytes()
}

// recovered takes a generation that recovery filled. When memory runs out while the log is read, the oldest leaves at once.
func (e *evictor) recovered(g tail.Generation, last LSN) {
	e.gens = append(e.gens, sealed{g, last})
	for e.used() > e.limit() && len(e.gens) > 0 {
		e.db.mem.Evict(e.gens[0].Generation, memtable.EvictOptions{Durable: last, Stub: stubOf})
		e.db.count.evictions.Add(1)
		e.gens = e.gens[1:]
	}
}

// evict makes one generation leave memory. It reports false when the store is closing or the log failed.
func (e *evictor) evict(g sealed) bool {
	db := e.db
	if err := db.log.WaitDurable(db.ctx, g.last); g.last > 0 && err != nil {
		return false
	}
	// Versions are dropped that no read can ask for. Reads without a view ask for an LSN that was visible when they
	// began, so those that began before durable was read must have ended first.
	durable := db.raiseFloor()
	res := db.mem.Evict(g.Generation, memtable.EvictOptions{Durable: durable, Hold: db.views.hold(), Stub: stubOf})
	db.reads.Synchronize() // now the memory is free, and used tells the truth
	db.count.evictions.Add(1)
	if f := db.opts.Listener.Evicted; f != nil {
		f(res.FreedBytes - res.CopiedBytes)
	}
	return true
}

// stubOf fills the stub of a value that leaves memory. It reports false for one that is not larger than its stub.
func stubOf(dst []byte, r tail.Record) bool {
	v := r.Value()
	if len(v) <= tail.StubBytes || r.LogPos() == 0 {
		return false
	}
	payload := r.Payload()
	pos := wal.SplitLogPos(r.LogPos())
	pos.Offset += int64(len(payload) - len(r.Parts()) - len(v))
	tail.Stub{LogPos: wal.JoinLogPos(pos), Len: uint32(len(v)), CRC: coding.CRC(v)}.Put(dst)
	return true
}
