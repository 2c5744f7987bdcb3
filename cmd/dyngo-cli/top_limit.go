package main

import (
	"fmt"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// alarm says how bad what is told is.
type alarm int

const (
	calm alarm = iota
	slowed
	stopped
)

// Shares of the time, or of looks, from which on something counts as what limits.
const (
	heldShare = 0.1 // of writers held back: in writer's seconds a second
	syncShare = 0.5 // of the time that a sync is under way
	missShare = 0.2 // of looks for a block that go to the disk,
	missRate  = 50  // if there are so many a second
	lowDisk   = 0.1 // of the disk is free
	idleRate  = 1   // operations a second
)

// limitedBy says in a sentence what limits a process that was seen twice, so many seconds apart: the first of these that
// holds, from what stops it to what only slows it down.
func limitedBy(before, now *dyngo.Metrics, seconds float64) (alarm, string) {
	per := func(a, b int64) float64 { return max(float64(b-a), 0) / max(seconds, 1e-3) }
	was, is := &before.Operations, &now.Operations
	ops := per(was.Reads+was.Misses+was.Scans+was.Writes, is.Reads+is.Misses+is.Scans+is.Writes)
	syncs := per(before.Log.Groups, now.Log.Groups)
	misses, looks := per(before.CacheMisses, now.CacheMisses), per(before.CacheHits+before.CacheMisses, now.CacheHits+now.CacheMisses)
	switch held := per(before.Log.StalledNs, now.Log.StalledNs) / 1e9; {
	case now.Log.Failed:
		return stopped, "the log failed: nothing is written any more, reads go on; reopen the store"
	case now.Log.DiskFull:
		return stopped, "the disk is full: writes wait for space, deletes and reads go on"
	case now.FlushErrors > before.FlushErrors:
		return stopped, "recent events can't be written as segments: memory fills; see what the process logs"
	case now.CompactionErrors > before.CompactionErrors:
		return slowed, "segments can't be merged: reads get slower; see what the process logs"
	case now.RetentionErrors > before.RetentionErrors:
		return slowed, "log files can't be dropped: the log grows; see what the process logs"
	case now.WriteDelay > 0:
		return slowed, fmt.Sprintf("writers are slowed by %s a commit: %s", round2(now.WriteDelay), now.WriteDelayReason)
	case float64(now.DiskFreeBytes) < lowDisk*float64(now.DiskBytes):
		return slowed, fmt.Sprintf("the disk is nearly full: %s of %s are free", cli.FormatBytes(now.DiskFreeBytes), cli.FormatBytes(now.DiskBytes))
	case held > heldShare:
		return slowed, "writers are held back: the disk takes the log slower than they write"
	case syncs*float64(now.Log.SyncNs)/1e9 > syncShare:
		text := fmt.Sprintf("writers wait for fdatasync: %s each", round2(time.Duration(now.Log.SyncNs)))
		if events := per(before.Log.Events, now.Log.Events) / syncs; events >= 1.5 {
			text += fmt.Sprintf(", %.0f events share one", events)
		}
		return calm, text
	case misses > missRate && misses > missShare*looks:
		return calm, fmt.Sprintf("reads wait for the disk: %.0f%% of looks for a block go there", 100*misses/looks)
	case ops < idleRate && now.FlushJobs+now.MergeJobs+now.OtherJobs > 0:
		return calm, "idle, but for jobs in the background"
	case ops < idleRate:
		return calm, "idle"
	}
	return calm, "nothing holds it back: neither the disk nor what is behind the log"
}

// round2 leaves a duration two or three digits.
func round2(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
