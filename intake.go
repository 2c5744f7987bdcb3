package dyngo

import (
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// intake takes the generations that recovery fills. When they have filled memory they are flushed, and from then on whenever they take
// half of it, beside the reading of the log, which waits only while there is no memory for more. What fits into memory is not flushed:
// Open would wait. A read-only store writes nothing: it keeps in memory what the log holds above the segments. The fields are of the
// goroutine that reads the log.
type intake struct {
	f        *flusher
	waiting  []generation // filled while a flush goes on, which has those before
	flushing chan error   // how the flush under way has ended; nil = none is
	filled   bool         // memory has been full
}

// take takes a generation and returns when there is memory for more, or when a flush has failed.
func (r *intake) take(g tail.Generation, last LSN) error {
	f := r.f
	r.waiting = append(r.waiting, generation{Generation: g, last: last})
	if len(r.flushing) > 0 {
		if _, err := r.await(); err != nil {
			return err
		}
	}
	for {
		if err := f.db.ctx.Err(); err != nil {
			return err
		}
		r.flush()
		f.makeLeave()
		if r.flushing == nil || f.used() <= f.limit() {
			return nil
		}
		if full, err := r.await(); full || err != nil {
			return err
		}
	}
}

// flush begins to write as segments what was filled, if it is time to and no flush goes on.
func (r *intake) flush() {
	f := r.f
	if r.flushing != nil {
		return
	}
	f.one.Lock()
	for _, g := range r.waiting {
		f.add(g)
	}
	f.one.Unlock()
	r.waiting = nil
	over := f.used() > f.limit()
	r.filled = r.filled || over
	if f.db.opts.ReadOnly || len(f.gens) == 0 || !over && (!r.filled || f.sealed.Load() < f.room()/2) {
		return
	}
	ended := make(chan error, 1)
	r.flushing = ended
	go func() {
		f.one.Lock()
		defer f.one.Unlock()
		ended <- f.flush()
	}()
}

// await waits for the flush under way. A full disk is no error: a store on it must open, so that something can be deleted.
func (r *intake) await() (full bool, err error) {
	err = <-r.flushing
	r.flushing = nil
	if vfs.IsNoSpace(err) {
		r.f.db.opts.Logger.Warn("dyngo: the disk is full: what the log holds stays in memory, beyond MemoryBudget", "err", err)
		return true, nil
	}
	return false, err
}

// end waits for the flush under way: the log has been read, or can't be.
func (r *intake) end() (err error) {
	if r.flushing != nil {
		_, err = r.await()
	}
	f := r.f
	f.one.Lock()
	defer f.one.Unlock()
	for _, g := range r.waiting {
		f.add(g)
	}
	return err
}
