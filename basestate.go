package dyngo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// baseState writes what was current at the floor of a store as one run: of each key the newest version at or below the floor, if
// that is a value. Segments and history segments have it; the log goes on from there.
type baseState struct {
	ctx   context.Context
	fs    vfs.FS
	dir   string // of the new segments
	now   func() int64
	floor LSN
	seed  [16]byte

	readers []*segment.Reader        // of runs, then of history: of the same version, that of a run comes first
	known   map[event.DatasetID]bool // datasets that were there at the floor
	next    manifest.FileNum         // of the next new segment

	temps []string // the new segments, under names that count for nothing: with .new behind
	w     *segment.Writer
	added []*manifest.Segment
}

// readCatalog learns from the oldest log file which datasets there were at the floor. It returns the log's id.
func (b *baseState) readCatalog(fsys vfs.FS, walDir string, first uint64) (logID [16]byte, err error) {
	s, err := wal.NewScanner(fsys, walDir, wal.ScanOptions{ReadOnly: true, FromFile: first, Only: true})
	if err != nil {
		return logID, err
	}
	defer s.Close() // only read from
	f, err := s.Next()
	if err != nil {
		return logID, err
	}
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return logID, corruption.Locate(err, f.Name, f.Offset)
	}
	b.known = map[event.DatasetID]bool{}
	for _, ds := range d.Datasets {
		b.known[ds.ID] = true
	}
	return s.LogID(), nil
}

// baseStateBytes is about how large the segments are.
const baseStateBytes = 64 << 20

// write writes and syncs the segments.
func (b *baseState) write() error {
	var its []*segment.Iter
	var ranges []segment.RangeDelete
	for _, reader := range b.readers {
		for _, d := range reader.RangeDeletes() {
			if d.LSN <= b.floor {
				ranges = append(ranges, d)
			}
		}
		it := reader.NewIter(segment.IterOptions{NoFill: true})
		defer it.Close()
		its = append(its, it)
	}
	covers := covering(ranges)
	var last segment.Key
	done := false // with the key
	err := mergeEntries(its, func(_ int, e *segment.Entry) error {
		if e.Dataset != last.Dataset || !bytes.Equal(e.Key, last.Key) {
			last.Dataset, last.Key, done = e.Dataset, append(last.Key[:0], e.Key...), false
		}
		if done || e.LSN > b.floor {
			return b.ctx.Err()
		}
		done = true
		c := covers(e.Dataset)
		if e.Op != event.OpPut && e.Op != event.OpMerge || !b.known[e.Dataset] || c != nil && c.Covers(e.Key, e.LSN, b.floor) {
			return nil
		}
		if b.w != nil && b.w.SizeEstimate() > baseStateBytes {
			if err := b.seal(); err != nil {
				return err
			}
		}
		if b.w == nil {
			if err := b.begin(); err != nil {
				return err
			}
		}
		return b.w.Add(e)
	})
	if err == nil && b.w != nil {
		err = b.seal()
	}
	return err
}

func (b *baseState) begin() (err error) {
	num := b.next
	temp := path.Join(b.dir, manifest.SegmentName(num)+".new")
	if err := b.fs.Remove(temp); err != nil && !isMissing(err) {
		return err
	}
	b.next++
	b.temps = append(b.temps, temp)
	b.w, err = segment.Create(b.fs, temp, segment.WriterOptions{Num: uint64(num), Run: 1, CreatedAt: b.now(), FlushedLSN: b.floor,
		HashSeed: binary.LittleEndian.Uint64(b.seed[:])})
	return err
}

func (b *baseState) seal() error {
	p, err := b.w.Finish()
	if err != nil {
		return fmt.Errorf("write the base state: %w", err)
	}
	b.w = nil
	b.added = append(b.added, compaction.SegmentOf(p))
	return nil
}

// edit makes a manifest of the base state and of value files, for a log that begins with a file.
func (b *baseState) edit(oldestLog uint64, values []*manifest.ValueFile) *manifest.Edit {
	return &manifest.Edit{Add: b.added, AddValues: values, FlushedLSN: &b.floor, FloorLSN: &b.floor, OldestLog: oldestLog,
		NextFile: b.next, NextRun: 2}
}

func (b *baseState) close() {
	for _, reader := range b.readers {
		reader.Close() // only read from
	}
	if b.w != nil {
		b.w.Abort()
	}
}
