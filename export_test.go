package dyngo

import (
	"context"
	"errors"

	"github.com/dyngodb/dyngo/index"
)

// SpillFrom makes batches of more than batch bytes go to data frames of about piece bytes, so that tests with small batches
// take the way of large ones.
func (o *Options) SpillFrom(batch, piece int64) { o.spillBatch, o.spillPiece = batch, piece }

// PauseHeat has no operation sampled until it is called with false: for measurements of what sampling costs.
func (db *DB) PauseHeat(pause bool) { db.heat.Pause(pause) }

// LookHotOnly has hot ranges weighed by LookHot alone, not each second: by a clock that stands still all costs are nothing.
func (o *Options) LookHotOnly() { o.noHotLook = true }

// LogSealed has the tree catch up and logs the hashes of segments, as happens every second.
func (db *DB) LogSealed() error {
	return errors.Join(db.tree.look(db.ctx, false), db.tree.logSealed())
}

// LockKeys has all writes of keys wait for their places until it is undone.
func (db *DB) LockKeys() (unlock func()) {
	db.mem.LockAll()
	return db.mem.UnlockAll
}

// HoldsSubjects says whether a write of a subject keeps Erase waiting.
func (db *DB) HoldsSubjects() bool {
	if !db.sealing.TryLock() {
		return true
	}
	db.sealing.Unlock()
	return false
}

// BuildHot keeps a range of keys in key order from now on. It returns what that takes.
func (ds *Dataset) BuildHot(from, to []byte) (bytes int64, err error) {
	r, err := ds.buildHot(ds.db.ctx, from, to, true)
	if err != nil {
		return 0, err
	}
	_, bytes, _ = r.Ready()
	return bytes, nil
}

// DropHotAt has no range kept any more that a key lies in, and says whether one was.
func (ds *Dataset) DropHotAt(key []byte) bool {
	return ds.hot.remove(func(r *index.Range) bool { return r.Covers(key) }) > 0
}

// LookHot weighs hot ranges, as happens every second, as if pairs from memory were found to take 2 µs, those from hot ranges 40 ns and
// writes into them 10 µs.
func (db *DB) LookHot() {
	k := db.keeper
	k.one.Lock()
	defer k.one.Unlock()
	for _, s := range []*spent{&k.merged, &k.hot, &k.applied} {
		s.take(new(float64))
	}
	k.scans.Store(0)
	k.nanosMerged, k.nanosHot, k.nanosApplied = 2000, 40, 10_000
	k.lookLocked(db.ctx)
}

// HotRanges is how many there are.
func (ds *Dataset) HotRanges() int {
	list := ds.hot.list.Load()
	if list == nil {
		return 0
	}
	return len(*list)
}

// LeaveMemory has everything that was written so far in segments, and nothing of it in memory.
func (db *DB) LeaveMemory(ctx context.Context) error {
	lsn := db.LSN()
	if err := db.WaitDurable(ctx, lsn); err != nil {
		return err
	}
	return db.flusher.flushTo(lsn, lsn)
}

// StopLog has the log take no more, as when the manifest has failed.
func (db *DB) StopLog(err error) { db.log.Stop(err) }
