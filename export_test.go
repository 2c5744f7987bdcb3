package dyngo

// SpillFrom makes batches of more than batch bytes go to data frames of about piece bytes, so that tests with small batches
// take the way of large ones.
func (o *Options) SpillFrom(batch, piece int64) { o.spillBatch, o.spillPiece = batch, piece }
