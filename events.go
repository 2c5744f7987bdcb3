package dyngo

import "time"

// Listener is told of what happens inside the engine. Every field may be nil. Functions are called without locks, one at
// a time for each field, from the engine's goroutines: they should return soon and must not call Close. While one
// hangs, 1024 notices wait; more are dropped.
type Listener struct {
	// Expired tells of a version whose time to live ended and whose expire event was logged at lsn. late is how long
	// after due that was: a few ms, or the time the store was closed.
	Expired func(dataset string, key []byte, lsn LSN, due time.Time, late time.Duration)
	// DiskFull tells that writes wait for disk space (true) or go on (false).
	DiskFull func(full bool)
	// LogFailed tells that a write or sync of the log failed: no more writes are acknowledged, reads go on.
	LogFailed func(err error)
	// ClockJumped tells that the wall clock moved by d against the monotonic clock. Log time does not follow the jump.
	ClockJumped func(d time.Duration)
	// FileSealed tells that a log file is sealed, as it is full or somebody needs it so, and the next one begins. Close seals the newest
	// one if it has more than 8 MiB, and returns when that was told too.
	FileSealed func(file uint64)
	// FileDropped tells that retention has dropped a log file of that size, with all events up to lsn.
	FileDropped func(file uint64, bytes int64, lsn LSN)
	// ViewOld tells, once for each view, that one has been open for long: it holds back old versions, and one of the past holds
	// back retention.
	ViewOld func(lsn LSN, age time.Duration)
	// HotRange tells of each decision on which key ranges are kept in key order; see DB.HotDecisions.
	HotRange func(d HotDecision)
	// DiskLow tells that less than a tenth of the disk is free, once until there is more again.
	DiskLow func(freeBytes, totalBytes int64)
	// Flushed tells that all events up to lsn are in segments now, with the bytes written and the time it took.
	Flushed func(lsn LSN, bytes int64, took time.Duration)
	// FlushFailed tells that recent events could not be written as a segment. They are safe in the log; memory fills and
	// writers slow down until a flush succeeds.
	FlushFailed func(err error)
	// Slowed tells that each commit is now held back by so long, and why: what is behind the log does not follow. It is
	// called when the reason changes, and with 0 and "" when writers are free again. Metrics has the present delay.
	Slowed func(delay time.Duration, reason string)
	// Compacted tells that segments were merged: why, the bytes read and written, the time it took.
	Compacted func(why string, readBytes, writtenBytes int64, took time.Duration)
	// CompactionFailed tells that segments could not be merged; damage names the file, which is left alone from then on.
	CompactionFailed func(err error)
	// Evicted tells that the oldest events left memory and how many bytes that gave back.
	Evicted func(bytes int64)
}
