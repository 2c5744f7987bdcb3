package dyngo

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// moving is one value file to be made: of the pieces of large values in log files from…to that segments refer to. References
// stay what they are. The log files of value files in one version don't overlap; so what is referred to in a value file
// follows from the log files that segments refer to.
type moving struct {
	from, to uint64
	bytes    int64                 // that are referred to
	whole    *wal.FileInfo         // most of this log file is: it stays as it is, under another name
	logs     []uint64              // log files that are copied from
	replaces []*manifest.ValueFile // value files that are copied from, and go
}

// plan decides which values move and says what becomes of each value file. r.one is held.
//
//   - Of a log file that goes, what is referred to is copied. When that is more than three quarters, the file stays whole.
//   - A value file of which less than three quarters are referred to is written anew; when nothing is, it goes.
//   - A small value file is written anew together with what follows it, so that there are never many of them.
func (r *retention) plan(plan *GCPlan, d *dropping) error {
	var small *manifest.ValueFile // healthy, waits for one that is copied
	open := false                 // the last of d.moves takes more
	take := func(from, to uint64, live int64) *moving {
		if n := len(d.moves); !open || d.moves[n-1].bytes+live > r.db.opts.LogFileBytes {
			d.moves = append(d.moves, moving{from: from})
		}
		open = true
		m := &d.moves[len(d.moves)-1]
		m.to, m.bytes = to, m.bytes+live
		plan.MoveBytes += live
		return m
	}
	rewrite := func(v *manifest.ValueFile, live int64) {
		m := take(v.From, v.To, live)
		m.replaces = append(m.replaces, v)
	}
	takeSmall := func() {
		if small != nil {
			rewrite(small, r.referred(small.From, small.To))
			small = nil
		}
	}
	for _, v := range d.version.Values {
		live := r.referred(v.From, v.To)
		switch {
		case d.damaged != "": // it may refer to anything
		case d.frugal && live > 0:
		case live == 0:
			d.dead = append(d.dead, v)
		case live < v.SizeBytes/4*3:
			takeSmall()
			rewrite(v, live)
		case v.SizeBytes >= r.db.opts.LogFileBytes/8:
			open, small = false, nil
		case open:
			rewrite(v, live)
		default:
			small = v
		}
	}
	for i, f := range d.files[:d.n] {
		live := r.referred(f.Seq, f.Seq)
		if live == 0 {
			continue
		}
		next, err := r.head(d.files[i+1])
		if err != nil {
			return err
		}
		if live > f.Size/4*3 && next.PrevEnding == wal.EndingSealed && int64(next.PrevEnd) == f.Size {
			d.moves = append(d.moves, moving{from: f.Seq, to: f.Seq, bytes: live, whole: &d.files[i], logs: []uint64{f.Seq}})
			open, small = false, nil
			continue
		}
		takeSmall()
		m := take(f.Seq, f.Seq, live)
		m.logs = append(m.logs, f.Seq)
	}
	r.tell(plan, d)
	return nil
}

// tell completes the plan of what was decided.
func (r *retention) tell(plan *GCPlan, d *dropping) {
	if d.n > 0 {
		plan.FloorLSN = d.files[d.n].FirstLSN - 1
	}
	remove := func(f *GCFile, format string, args ...any) {
		f.Remove, f.Reason = true, fmt.Sprintf(format, args...)
		plan.RemoveBytes += f.Bytes
	}
	for i := range d.files[:d.n] {
		f := &plan.Files[i]
		plan.RemoveBytes += f.Bytes
		if live := r.referred(d.files[i].Seq, d.files[i].Seq); live > 0 {
			f.Reason += fmt.Sprintf("; %d bytes of large values stay, in a value file", live)
		}
	}
	for i := range d.moves {
		if d.moves[i].whole != nil {
			plan.RemoveBytes -= d.moves[i].whole.Size
		}
	}
	for i, v := range d.version.Values {
		f := &plan.Files[len(d.files)+i]
		live := r.referred(v.From, v.To)
		switch {
		case d.damaged != "":
			f.Reason = fmt.Sprintf("segment %s is damaged and may refer to it", d.damaged)
		case live == 0:
			remove(f, "nothing refers to it any more")
		case slices.ContainsFunc(d.moves, func(m moving) bool { return slices.Contains(m.replaces, v) }):
			remove(f, "written anew: %d bytes are referred to", live)
		default:
			f.Reason = fmt.Sprintf("%d bytes of large values are read from it", live)
		}
	}
}

// refer learns which log files the large values of segments and history lie in. Each segment is read once. r.one is held.
func (r *retention) refer(ctx context.Context, s *sources) error {
	known := map[manifest.FileNum]map[uint64]int64{}
	for seg, reader := range s.referring() {
		refs, ok := r.refs[seg.Num]
		if !ok {
			var err error
			if refs, err = r.references(ctx, reader); err != nil {
				return err
			}
			r.refs[seg.Num] = refs
		}
		known[seg.Num] = refs
	}
	r.refs = known
	return nil
}

// referring yields the segments that refer to large values, those of history too.
func (s *sources) referring() iter.Seq2[*manifest.Segment, *segment.Reader] {
	return func(yield func(*manifest.Segment, *segment.Reader) bool) {
		for i := range s.runs {
			for j, seg := range s.runs[i].Segments {
				if seg.RefBytes > 0 && !yield(seg, s.runs[i].readers[j]) {
					return
				}
			}
		}
		for i, seg := range s.version.History {
			if seg.RefBytes > 0 && !yield(seg, s.history[i]) {
				return
			}
		}
	}
}

// references adds up what a segment's large values take in each log file.
func (r *retention) references(ctx context.Context, sr *segment.Reader) (map[uint64]int64, error) {
	work := r.db.pacer.Begin(pacer.Verify)
	defer work.End()
	refs := map[uint64]int64{}
	return refs, eachPiece(ctx, sr, work, func(p event.Piece) { refs[p.File] += int64(p.StoredLen) })
}

// eachPiece visits the pieces that a segment refers to.
func eachPiece(ctx context.Context, sr *segment.Reader, work *pacer.Job, visit func(event.Piece)) error {
	it := sr.NewIter(segment.IterOptions{NoFill: true})
	defer it.Close()
	step := 0
	for ok := it.First(); ok; ok = it.Next() {
		e := it.Entry()
		if step += len(e.Key) + len(e.Value); step >= pacer.StepBytes {
			if err := work.Wait(ctx, int64(step)); err != nil {
				return err
			}
			step = 0
		}
		if e.Flags&event.FlagValueRef == 0 || e.Flags&event.FlagRedacted != 0 {
			continue
		}
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			return fmt.Errorf("value of LSN %d: %w", e.LSN, err)
		}
		for _, p := range ref.Pieces {
			visit(p)
		}
	}
	return it.Err()
}

// referred is how many bytes of large values the segments refer to in some log files. r.one is held.
func (r *retention) referred(from, to uint64) (n int64) {
	for _, refs := range r.refs {
		for seq, bytes := range refs {
			if from <= seq && seq <= to {
				n += bytes
			}
		}
	}
	return n
}

// move writes the value files, durably. r.one is held.
func (r *retention) move(ctx context.Context, d *dropping) (made []*manifest.ValueFile, err error) {
	if len(d.moves) == 0 {
		return nil, nil
	}
	f := r.db.sorted
	work := r.db.pacer.Begin(pacer.Verify)
	defer work.End()
	for i := range d.moves {
		v := &manifest.ValueFile{Num: f.set.NewFileNum()}
		if err := r.moveOne(ctx, work, d, &d.moves[i], v); err != nil {
			anew := func(m moving) bool { return len(m.replaces) > 0 }
			if logs := d.moves[i].logs; len(logs) == 0 || slices.ContainsFunc(d.moves[:i+1], anew) {
				d.without = d.n // value files may stay as they are
			} else {
				first := slices.IndexFunc(d.files, func(f wal.FileInfo) bool { return f.Seq == logs[0] })
				d.without = max(first, d.n/2) // fewer need less
			}
			return made, err
		}
		made = append(made, v)
	}
	if err := r.db.opts.FS.SyncDir(f.dir); err != nil {
		return made, fmt.Errorf("make value files durable: %w", err)
	}
	return made, nil
}

func (r *retention) moveOne(ctx context.Context, work *pacer.Job, d *dropping, m *moving, v *manifest.ValueFile) (err error) {
	db := r.db
	name := path.Join(db.sorted.dir, manifest.ValueName(v.Num))
	if m.whole != nil {
		// A file system without hard links copies.
		if err := db.opts.FS.Link(path.Join(db.walDir(), m.whole.Name), name); err == nil {
			v.From, v.To, v.SizeBytes = m.from, m.to, m.whole.Size
			pace := func(bytes int64) error { return work.Wait(ctx, bytes) }
			if v.SHA256, err = hashFile(db.opts.FS, name, pace); err != nil {
				_ = db.opts.FS.Remove(name) // what stays is an orphan
			}
			return err
		}
	}
	pieces, err := r.pieces(ctx, work, d, m.from, m.to)
	if err != nil {
		return err
	}
	w, err := wal.CreateValueFile(db.opts.FS, name, wal.ValueHead{LogID: db.sorted.set.LogID(), Num: uint64(v.Num), Created: db.opts.Clock.Wall()})
	if err != nil {
		return err
	}
	defer w.Abort() // does nothing after Finish
	var buf []byte
	for _, p := range pieces {
		buf = slices.Grow(buf[:0], int(p.StoredLen))[:p.StoredLen]
		pos := wal.Position{File: p.File, Offset: int64(p.Offset)}
		if err := db.files.ReadPiece(buf, pos, p.CRC); err != nil {
			return fmt.Errorf("a large value in log file %d can't be moved: %w", p.File, err)
		}
		if err := w.Add(pos, buf); err != nil {
			return err
		}
		if err := work.Wait(ctx, 2*int64(p.StoredLen)); err != nil {
			return err
		}
	}
	v.From, v.To = pieces[0].File, pieces[len(pieces)-1].File
	v.SizeBytes, v.SHA256, err = w.Finish()
	return err
}

// pieces are those that segments refer to in some log files, each once, by position.
func (r *retention) pieces(ctx context.Context, work *pacer.Job, d *dropping, from, to uint64) (pieces []event.Piece, err error) {
	take := func(num manifest.FileNum, reader *segment.Reader) error {
		refers := false
		for seq := range r.refs[num] {
			refers = refers || from <= seq && seq <= to
		}
		if !refers {
			return nil
		}
		return eachPiece(ctx, reader, work, func(p event.Piece) {
			if from <= p.File && p.File <= to {
				pieces = append(pieces, p)
			}
		})
	}
	for seg, reader := range d.referring() {
		if err := take(seg.Num, reader); err != nil {
			return nil, err
		}
	}
	for i, reader := range d.readers {
		if err := take(d.added[i].Num, reader); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(pieces, func(a, b event.Piece) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset))
	})
	return slices.CompactFunc(pieces, func(a, b event.Piece) bool { return a.File == b.File && a.Offset == b.Offset }), nil
}

// discard removes what was written for an edit that is not made. What stays is an orphan.
func (r *retention) discard(e *manifest.Edit) {
	var names []string
	for _, s := range e.AddHistory {
		names = append(names, manifest.SegmentName(s.Num))
	}
	for _, v := range e.AddValues {
		names = append(names, manifest.ValueName(v.Num))
	}
	for _, name := range names {
		_ = r.db.opts.FS.Remove(path.Join(r.db.sorted.dir, name))
	}
}

// valueInfos says where value files lie.
func (r *retention) valueInfos(files []*manifest.ValueFile) (infos []wal.ValueInfo) {
	return valueInfosIn(r.db.sorted.dir, files)
}

// valueInfosIn is valueInfos of a store that is not open; dir is the folder of its segments.
func valueInfosIn(dir string, files []*manifest.ValueFile) (infos []wal.ValueInfo) {
	for _, v := range files {
		infos = append(infos, wal.ValueInfo{Num: uint64(v.Num), Path: path.Join(dir, manifest.ValueName(v.Num)),
			Name: valueDisplayName(v.Num), From: v.From, To: v.To})
	}
	return infos
}

// valueDisplayName is the file's name relative to the store's directory, for messages.
func valueDisplayName(n manifest.FileNum) string { return manifest.Dir + "/" + manifest.ValueName(n) }

// valueBytes is the size of the value files.
func valueBytes(v *manifest.Version) (n int64) {
	for _, f := range v.Values {
		n += f.SizeBytes
	}
	return n
}

// installValues has values read from the value files of the current version, and from those that somebody may still read
// from. r.one is held.
func (r *retention) installValues() {
	r.db.files.Move(r.valueInfos(append(slices.Clone(r.stale), r.db.sorted.set.Current().Values...)))
}

// removeStale removes value files that no version has, unless somebody reads from one. What stays is removed the next time,
// and after a crash as an orphan. r.one is held.
func (r *retention) removeStale() {
	var gone []*manifest.ValueFile
	r.stale = slices.DeleteFunc(r.stale, func(v *manifest.ValueFile) bool {
		if r.db.holds.pinned(v.From, v.To) {
			return false
		}
		gone = append(gone, v)
		return true
	})
	if len(gone) == 0 {
		return
	}
	r.installValues()
	for _, v := range gone {
		if err := r.db.opts.FS.Remove(path.Join(r.db.sorted.dir, manifest.ValueName(v.Num))); err != nil {
			r.db.opts.Logger.Warn("dyngo: a value file that is no longer needed can't be removed", "file", manifest.ValueName(v.Num), "err", err)
		}
	}
}
