package dyngo

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
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
//   - A value file of which less than half is referred to is written anew; when nothing is, it goes.
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
		case live == 0:
			d.dead = append(d.dead, v)
		case live < v.SizeBytes/2:
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
			d.moves = append(d.moves, moving{from: f.Seq, to: f.Seq, bytes: live, whole: &d.files[i]})
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

// move writes the value files, durably. When the disk is full, the first of them are there. r.one is held.
func (r *retention) move(ctx context.Context, d *dropping) (made []*manifest.ValueFile, err error) {
	if len(d.moves) == 0 {
		return nil, nil
	}
	f := r.db.sorted
	work := r.db.pacer.Begin(pacer.Verify)
	defer work.End()
	for i := range d.moves {
		v := &manifest.ValueFile{Num: f.set.NewFileNum()}
		if err = r.moveOne(ctx, work, d, &d.moves[i], v); err != nil {
			break
		}
		made = append(made, v)
	}
	if len(made) > 0 && (err == nil || errors.Is(err, vfs.ErrNoSpace)) {
		if serr := r.db.opts.FS.SyncDir(f.dir); serr == nil {
			return made, err
		} else {
			err = fmt.Errorf("make value files durable: %w", serr)
		}
	}
	for _, v := range made { // what can't be removed is an orphan
		_ = r.db.opts.FS.Remove(path.Join(f.dir, manifest.ValueName(v.Num)))
	}
	return nil, err
}

func (r *retention) moveOne(ctx context.Context, work *pacer.Job, d *dropping, m *moving, v *manifest.ValueFile) (err error) {
	db := r.db
	name := path.Join(db.sorted.dir, manifest.ValueName(v.Num))
	if m.whole != nil {
		// A file system without hard links copies.
		if err := db.opts.FS.Link(path.Join(db.walDir(), m.whole.Name), name); err == nil {
			v.From, v.To, v.SizeBytes = m.from, m.to, m.whole.Size
			if v.SHA256, err = r.hash(ctx, work, name); err != nil {
				_ = db.opts.FS.Remove(name) // what stays is an orphan
			}
			return err
		}
	}
	pieces, err := r.pieces(ctx, work, d.sources, m.from, m.to)
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
func (r *retention) pieces(ctx context.Context, work *pacer.Job, s *sources, from, to uint64) (pieces []event.Piece, err error) {
	for i := range s.runs {
		for j, seg := range s.runs[i].Segments {
			refers := false
			for seq := range r.refs[seg.Num] {
				refers = refers || from <= seq && seq <= to
			}
			if !refers {
				continue
			}
			err := eachPiece(ctx, s.runs[i].readers[j], work, func(p event.Piece) {
				if from <= p.File && p.File <= to {
					pieces = append(pieces, p)
				}
			})
			if err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(pieces, func(a, b event.Piece) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset))
	})
	return slices.CompactFunc(pieces, func(a, b event.Piece) bool { return a.File == b.File && a.Offset == b.Offset }), nil
}

// hash is the SHA-256 of a file.
func (r *retention) hash(ctx context.Context, work *pacer.Job, name string) (sum [32]byte, err error) {
	file, err := r.db.opts.FS.Open(name)
	if err != nil {
		return sum, err
	}
	defer file.Close() // only read from
	h, buf := sha256.New(), make([]byte, pacer.StepBytes)
	for at := int64(0); ; at += int64(len(buf)) {
		n, err := file.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return sum, err
		}
		h.Write(buf[:n])
		if err == io.EOF {
			return [32]byte(h.Sum(nil)), nil
		}
		if err := work.Wait(ctx, int64(n)); err != nil {
			return sum, err
		}
	}
}

// cut keeps the first of the moves and what can go without the others. why says what is against them.
func (d *dropping) cut(plan *GCPlan, made int, why string) {
	for _, m := range d.moves[made:] {
		plan.MoveBytes -= m.bytes
		if m.whole != nil {
			plan.MoveBytes, plan.RemoveBytes = plan.MoveBytes+m.bytes, plan.RemoveBytes+m.whole.Size
			m.logs = []uint64{m.from}
		}
		if len(m.logs) > 0 {
			d.n = min(d.n, slices.IndexFunc(d.files, func(f wal.FileInfo) bool { return f.Seq == m.logs[0] }))
		}
		for i, v := range d.version.Values {
			if slices.Contains(m.replaces, v) {
				plan.Files[len(d.files)+i].keep(plan, why)
			}
		}
	}
	d.moves = d.moves[:made]
	for i := range plan.Files[:len(d.files)] {
		if f := &plan.Files[i]; i >= d.n && f.Remove {
			f.keep(plan, why)
		}
	}
	if plan.FloorLSN = d.version.FloorLSN; d.n > 0 {
		plan.FloorLSN = d.files[d.n].FirstLSN - 1
	}
}

// keep takes back that a file goes.
func (f *GCFile) keep(plan *GCPlan, why string) {
	plan.RemoveBytes -= f.Bytes
	f.Remove, f.Reason = false, why
}

// valueInfos says where value files lie.
func (r *retention) valueInfos(files []*manifest.ValueFile) (infos []wal.ValueInfo) {
	for _, v := range files {
		infos = append(infos, wal.ValueInfo{Num: uint64(v.Num), Path: path.Join(r.db.sorted.dir, manifest.ValueName(v.Num)),
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
