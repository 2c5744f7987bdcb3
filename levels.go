package dyngo

import "time"

// Levels is a picture of the sorted files at one moment.
type Levels struct {
	// FlushedLSN is the LSN up to which segments hold every event.
	FlushedLSN LSN
	// Runs hold the segments, newest first: for each key, versions get older from run to run.
	Runs []LevelRun
	// Running says what is being merged now and why; empty = nothing.
	Running string
}

// LevelRun is a list of segments whose key ranges don't overlap.
type LevelRun struct {
	ID        uint64 // larger = newer
	SizeBytes int64
	Segments  []LevelSegment // in key order; those with range deletes only come last
}

// LevelSegment describes one sorted file.
type LevelSegment struct {
	File      string // relative to the store's directory
	SizeBytes int64
	RawBytes  int64 // keys and values before compression
	RefBytes  int64 // large values in the log that it refers to
	// First and Last are the keys of its first and last entry, of the datasets named. A dropped dataset's name is empty.
	// Keys are ordered by the dataset's id first.
	First, Last                   []byte
	FirstDataset, LastDataset     string
	FirstDatasetID, LastDatasetID uint32
	MinLSN, MaxLSN                LSN
	Entries, Keys                 int64 // versions; distinct keys
	Tombstones, RangeDeletes      int64
	Created                       time.Time
	ReadsPerSecond                float64 // of one key, that got as far as this segment; a moving average
	ScansPerSecond                float64 // that looked into it
	Damage                        string  // what a merge met in it; empty = nothing is known
}

// Levels describes the segments. It is cheap: no file is read.
func (db *DB) Levels() (Levels, error) {
	g := db.reads.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return Levels{}, ErrClosed
	}
	s := db.sorted.current.Load()
	l := Levels{FlushedLSN: s.version.FlushedLSN}
	names := map[uint32]string{}
	for _, d := range db.Datasets() {
		names[d.ID] = d.Name
	}
	rates, damage, running := db.compact.look()
	l.Running = running
	for i := range s.runs {
		run := LevelRun{ID: uint64(s.runs[i].ID)}
		for _, seg := range s.runs[i].Segments {
			run.SizeBytes += seg.SizeBytes
			heat := rates[seg.Num]
			run.Segments = append(run.Segments, LevelSegment{
				File: segmentDisplayName(seg.Num), SizeBytes: seg.SizeBytes, RawBytes: seg.RawBytes, RefBytes: seg.RefBytes,
				First: seg.Smallest.Key, Last: seg.Largest.Key,
				FirstDataset: names[uint32(seg.Smallest.Dataset)], LastDataset: names[uint32(seg.Largest.Dataset)],
				FirstDatasetID: uint32(seg.Smallest.Dataset), LastDatasetID: uint32(seg.Largest.Dataset),
				MinLSN: seg.MinLSN, MaxLSN: seg.MaxLSN, Entries: seg.Entries, Keys: seg.Keys,
				Tombstones: seg.Tombstones, RangeDeletes: seg.RangeDeletes, Created: unixTime(seg.CreatedAt),
				ReadsPerSecond: heat.Reads, ScansPerSecond: heat.Scans, Damage: damage[seg.Num],
			})
		}
		l.Runs = append(l.Runs, run)
	}
	return l, nil
}
