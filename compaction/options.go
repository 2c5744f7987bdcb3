package compaction

import (
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// Options shape the runs. The zero value works: each zero field has its default.
type Options struct {
	// FileBytes is the size at which an output is ended. Default 64 MiB.
	FileBytes int64

	// MaxJobBytes bounds what one job reads, and so the disk it needs for a while; a single file that is larger is a
	// job of its own. Default 512 MiB. Lower: less disk for a while, more bytes rewritten in large stores.
	MaxJobBytes int64

	// SpaceShare bounds the bytes of all runs above the oldest, as a share of the oldest. What is overwritten lies
	// there twice, so a store takes at most 1 + SpaceShare of its live bytes. Default 0.2. Lower: less disk, more
	// rewriting.
	SpaceShare float64

	// FreeBytes in runs above the oldest are no reason to merge, however small the oldest run is. Default 16 MiB.
	FreeBytes int64

	// MaxSources bounds the runs that hold any one key, so what a read has to look into. Default 8.
	MaxSources int

	// ZstdBytes is the size of the oldest run from which on it is compressed well but slowly; what is above it always
	// is compressed fast. Default 256 MiB. Lower: less disk, more processor time for merges.
	ZstdBytes int64
}

func (o Options) withDefaults() Options {
	if o.FileBytes == 0 {
		o.FileBytes = 64 << 20
	}
	if o.MaxJobBytes == 0 {
		o.MaxJobBytes = 512 << 20
	}
	if o.SpaceShare == 0 {
		o.SpaceShare = 0.2
	}
	if o.FreeBytes == 0 {
		o.FreeBytes = 16 << 20
	}
	if o.MaxSources == 0 {
		o.MaxSources = 8
	}
	if o.ZstdBytes == 0 {
		o.ZstdBytes = 256 << 20
	}
	return o
}

// Heat is how often a segment is looked into, a second.
type Heat struct {
	Reads float64 // of one key, that got as far as this segment
	Scans float64 // that were placed in it
}

// Input is what Pick decides by, beside the version.
type Input struct {
	Options Options

	// Full asks for work until one run is left with nothing in it to give up, whatever that costs.
	Full bool

	// DiskBytes is what the disk still takes, 0 = not known. No merge is picked that needs more than three quarters of it,
	// jobs under way included, and the runs above the oldest may have no more than half of it.
	DiskBytes int64

	// Durable is an LSN that every read has reached which is not at one of Pins, ascending.
	Durable event.LSN
	Pins    []event.LSN

	// Running are the jobs under way. What is picked touches none of their segments and fits beside them.
	Running []Job

	// Avoid says that a segment must be left alone, since it is damaged for instance. nil: none.
	Avoid func(manifest.FileNum) bool

	// Heat holds the segments that are read.
	Heat map[manifest.FileNum]Heat

	// Dropped returns the LSN at which a dataset was dropped, 0 if it was not. nil: none was.
	Dropped func(event.DatasetID) event.LSN

	// RangeDeletes are those that may cover something, in any order.
	RangeDeletes []segment.RangeDelete

	// ExpiredUntil promises that each version that was due at or before it has a newer version, its expire event or
	// another, which is at or below Durable and all Pins that see the version itself. 0: no promise.
	ExpiredUntil int64

	// Replaced is the share of entries in newer runs that turned out to replace an older one: Result.Replaced of
	// Result.Newer. 0: not known, one half is assumed. The less it is, the more the runs above the oldest may have, and the
	// less a job is expected to reclaim.
	Replaced float64
}
