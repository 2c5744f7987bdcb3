package compaction

import (
	"errors"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// output writes entries in order into files, cut where the Cutter says.
type output struct {
	o      *RunOptions
	opts   segment.WriterOptions
	cutter *Cutter

	w    *segment.Writer // of the last file, nil if there is none
	num  manifest.FileNum
	done []*manifest.Segment

	dataset event.DatasetID // of the entry before
	key     []byte
}

// add adds a version of a key.
func (out *output) add(e *segment.Entry) error {
	if out.w == nil || e.Dataset != out.dataset || string(e.Key) != string(out.key) {
		size := int64(0)
		if out.w != nil {
			size = out.w.SizeEstimate()
		}
		if out.cutter.Cut(e.Dataset, e.Key, size) {
			if err := out.finish(); err != nil {
				return err
			}
		}
		out.dataset, out.key = e.Dataset, append(out.key[:0], e.Key...)
	}
	if err := out.begin(); err != nil {
		return err
	}
	return out.w.Add(e)
}

// begin makes a file if there is none.
func (out *output) begin() (err error) {
	if out.w != nil {
		return nil
	}
	out.num = out.o.NewFile()
	opts := out.opts
	opts.Num = uint64(out.num)
	name := path.Join(out.o.Dir, manifest.SegmentName(out.num))
	if out.w, err = segment.Create(out.o.FS, name, opts); err != nil && !errors.Is(err, fs.ErrExist) {
		_ = out.o.FS.Remove(name) // a call that failed may have made it
	}
	return err
}

// finish ends the file, if there is one.
func (out *output) finish() error {
	if out.w == nil {
		return nil
	}
	p, err := out.w.Finish()
	if err != nil {
		return err
	}
	out.done = append(out.done, SegmentOf(p))
	out.w = nil
	return nil
}

// abort removes what was written.
func (out *output) abort() {
	if out.w != nil {
		out.w.Abort()
		out.w = nil
	}
	for _, s := range out.done {
		_ = out.o.FS.Remove(path.Join(out.o.Dir, manifest.SegmentName(s.Num))) // an orphan for the next Open, at worst
	}
	out.done = nil
}

// SegmentOf is what the manifest knows of a segment that was written.
func SegmentOf(p *segment.Properties) *manifest.Segment {
	return &manifest.Segment{
		Num: manifest.FileNum(p.Num), Run: manifest.RunID(p.Run),
		SizeBytes: p.SizeBytes, RawBytes: p.RawBytes, RefBytes: p.RefBytes,
		Smallest: manifest.Key(p.Smallest), Largest: manifest.Key(p.Largest), MinLSN: p.MinLSN, MaxLSN: p.MaxLSN,
		MinReplacing: p.MinReplacing, MaxReplacing: p.MaxReplacing,
		Entries: p.Entries, Keys: p.Keys, Tombstones: p.Tombstones, RangeDeletes: p.RangeDeletes, RecordTimes: p.RecordTimes,
		Dues: p.Dues, MinTime: p.MinTime, MaxTime: p.MaxTime, MinDue: p.MinDue, MaxDue: p.MaxDue, CreatedAt: p.CreatedAt,
		SHA256: p.SHA256,
	}
}
