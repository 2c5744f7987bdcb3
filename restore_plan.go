package dyngo

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// maxRestoreTries bounds how often src is looked at again because its owner has removed files meanwhile.
const maxRestoreTries = 10

// again calls f until no file of src has gone meanwhile. If files of a snapshot are damaged, it is done without one.
func (r *restoring) again(f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if r.set != nil {
			r.set.Close() // only read from
			r.set = nil
		}
		if errors.Is(err, ErrCorrupt) && r.folder != "" && !r.alone {
			r.alone = true
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoStore) || try == maxRestoreTries {
			return err
		}
	}
}

// look finds the state in src, and what is needed for it.
func (r *restoring) look() (err error) {
	fsys := r.from
	if err := r.source(); err != nil {
		return err
	}
	t, err := named(fsys, r.src, r.target)
	unnamed := errors.Is(err, ErrNoSnapshot) && r.isBackup() // the log may tell
	if err != nil && !unnamed {
		return err
	}
	// The manifest comes first: what it says that segments have, the log has too.
	if r.set, err = manifest.Open(fsys, path.Join(r.src, "manifest"), manifest.Options{ReadOnly: true}); err != nil {
		return err
	}
	v := r.set.Current()
	r.version, r.plan = v, RestorePlan{}
	opts := r.opts
	opts.FS = r.from
	w := window{db: &DB{opts: opts, dir: r.src}}
	if w.files, err = wal.ListFiles(fsys, w.db.walDir()); err != nil {
		return err
	}
	w.files = slices.DeleteFunc(w.files, func(f wal.FileInfo) bool { return f.Seq < v.OldestLog })
	if err := r.end(&w); err != nil {
		return err
	}
	if unnamed {
		if t, err = w.logged(r.ctx, r.target); err != nil {
			return err
		}
	}
	lsn, _, err := w.resolve(r.ctx, t)
	if errors.Is(err, ErrOutsideWindow) && len(w.files) > 0 { // which begins where it should not, perhaps
		err = cmp.Or(r.gap(w.files[:1]), err)
	}
	if r.damage != nil && (err != nil || t.kind != targetLSN && lsn == w.durable) {
		err = fmt.Errorf("the log is damaged behind LSN %d, up to which it can be restored by that LSN: %w", w.durable, r.damage)
	}
	if err != nil {
		return err
	}
	p := &r.plan
	p.LSN, p.Last = lsn, w.durable
	r.files, r.base, r.folder, r.older = nil, lsn < v.FlushedLSN, "", nil
	if len(w.files) == 0 {
		return nil
	}
	in, err := w.locate(r.ctx, lsn)
	if err != nil {
		return err
	}
	if in.last > lsn {
		return fmt.Errorf("%w: LSN %d lies in that of LSN %d to %d; restore to %d or %d", ErrMidBatch, lsn, in.first, in.last, in.first-1, in.last)
	}
	p.Time = unixTime(in.time)
	if lsn < w.durable {
		if in, err = w.locate(r.ctx, lsn+1); err != nil && !errors.Is(err, ErrCorrupt) { // it is not needed
			return err
		}
		p.Next, p.NextTime = lsn+1, unixTime(in.time)
	}
	if r.base && !r.alone {
		if err := r.nearest(&w, lsn); err != nil {
			return err
		}
	}
	r.files = slices.Concat(r.older, w.files[:w.fileOf(lsn)+1])
	if err := r.gap(r.files); err != nil {
		return err
	}
	return r.list()
}

// gap is the error for a log file that is missing before the newest of these: where the new store's log is to begin, or between them. It
// matches fs.ErrNotExist if src has dropped its oldest files while they were listed.
func (r *restoring) gap(files []wal.FileInfo) error {
	dir, oldest := path.Join(r.src, "wal"), max(r.version.OldestLog, 1)
	var missing *corruption.Error
	if files[0].Seq > oldest {
		missing = wal.Missing(dir, oldest)
	}
	for i := 1; i < len(files) && missing == nil; i++ {
		missing = wal.Gap(dir, files[i-1], files[i])
	}
	if missing == nil {
		return nil
	}
	set, err := manifest.Open(r.from, path.Join(r.src, r.folder, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	if set.Current().OldestLog > oldest {
		missing.Err = fs.ErrNotExist
	}
	return errors.Join(missing, set.Close())
}

// source returns an error if src is no whole store.
func (r *restoring) source() error {
	if err := unfinished(r.from, r.src); err != nil {
		return err
	}
	there, err := vfs.Exists(r.from, path.Join(r.src, "wal"))
	if err == nil && !there {
		err = fmt.Errorf("%w: %s", ErrNoStore, r.src)
	}
	return err
}

// isBackup says whether src is the view of a backup, which has no snapshots and knows the hashes of its files.
func (r *restoring) isBackup() bool {
	_, ok := r.from.(interface{ Sum(name string) *[32]byte })
	return ok
}

// end learns where the log of src ends, from its newest file, and which log and timeline it is.
func (r *restoring) end(w *window) error {
	if len(w.files) == 0 {
		return nil
	}
	newest := w.files[len(w.files)-1]
	s, err := wal.NewScanner(r.from, w.db.walDir(), wal.ScanOptions{ReadOnly: true, FromFile: newest.Seq})
	if err != nil {
		return err
	}
	defer s.Close() // only read from
	for {
		_, err := s.Next()
		if errors.Is(err, ErrCorrupt) && s.Tail().NextLSN > 0 { // what lies before it is sound
			r.damage = err
			break
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
	}
	w.durable, r.logID, r.parent = s.Tail().NextLSN-1, s.LogID(), s.TimelineID()
	return nil
}

// list lists the files that are needed.
func (r *restoring) list() error {
	p := &r.plan
	cut := r.files[len(r.files)-1]
	p.Timeline = fmt.Sprintf("%x", r.parent)
	add := func(use, from, name string, size int64) {
		p.Files = append(p.Files, RestoreFile{Name: name, Bytes: size, From: from, Use: use})
		if use != "base" {
			p.Bytes += size
		}
	}
	for i, f := range r.files {
		use, from := "copy", ""
		if f.Seq == cut.Seq {
			use = "cut"
		}
		if i < len(r.older) {
			from = r.folder
		}
		add(use, from, path.Join("wal", f.Name), f.Size)
		if r.base || f.Seq == cut.Seq || f.FirstLSN > r.version.FlushedLSN {
			p.ReplayBytes += f.Size
		}
	}
	use := "copy"
	if r.base {
		use = "base"
	}
	if !r.base || r.version.FloorLSN > 0 {
		for s := range r.version.All() {
			add(use, r.folder, segmentDisplayName(s.Num), s.SizeBytes)
		}
		for _, s := range r.version.History {
			add(use, r.folder, segmentDisplayName(s.Num), s.SizeBytes)
		}
		for _, f := range r.version.Values {
			add("copy", r.folder, valueDisplayName(f.Num), f.SizeBytes)
		}
	}
	names, err := r.from.List(path.Join(r.src, integrity.Dir))
	if err != nil && !isMissing(err) {
		return err
	}
	for _, name := range names {
		if _, ok := integrity.ParseName(name); ok {
			name = path.Join(integrity.Dir, name)
			info, err := r.from.Stat(path.Join(r.src, name))
			if err != nil {
				return err
			}
			add("tree", "", name, info.Size)
		}
	}
	return nil
}
