package dyngo

import "errors"

// SpillFrom makes batches of more than batch bytes go to data frames of about piece bytes, so that tests with small batches
// take the way of large ones.
func (o *Options) SpillFrom(batch, piece int64) { o.spillBatch, o.spillPiece = batch, piece }

// PauseHeat has no operation sampled until it is called with false: for measurements of what sampling costs.
func (db *DB) PauseHeat(pause bool) { db.heat.Pause(pause) }

// LogSealed has the tree catch up and logs the hashes of segments, as happens every second.
func (db *DB) LogSealed() error {
	return errors.Join(db.tree.look(db.ctx, false), db.tree.logSealed())
}
