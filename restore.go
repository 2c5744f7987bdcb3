package dyngo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// Restore makes a store in the folder dst that is as the one in src was at a target: the log up to there, with all its history, and
// a new timeline that goes on behind it. A hash tree over the log comes along as far as it is that of the new store, and goes on. src is
// a store, which may be in use, or the folder of a snapshot; nothing in it is changed. dst must be empty or not be there. The files of dst are its own.
//
// Until Restore returns, dst is no store, and Open says so: ErrUnfinished. When it was interrupted, by a crash or a full disk, the
// same call goes on where it was, and one for another target begins again.
//
// Errors: ErrNotEmpty, ErrLocked while another one restores into dst, *WindowError for a target that src does not have,
// ErrMidBatch for an LSN within a batch, ErrNoBatch, ErrNoSnapshot, ErrNoStore, ErrUnfinished, ErrCorrupt for damage in src: of a log that
// is damaged, what lies before that can be restored by its LSN.
func Restore(ctx context.Context, src, dst string, t Target) error {
	_, err := RestoreWith(ctx, src, dst, t, nil)
	return err
}

// RestoreOptions configure RestoreWith and PlanRestore. The zero value is the default.
type RestoreOptions struct {
	// Session says who restores. It is logged in the new store.
	Session Session
	// Progress is told the bytes copied and in all, by one goroutine at a time. May be nil.
	Progress func(done, total int64)
	// Delta lets dst be a store of the same log, as an earlier restore, which is replaced: files that the new state has too, with the same
	// SHA-256, stay and are not copied again. From the first change on dst is no store until all is done. One that has snapshots is
	// refused.
	Delta bool

	// FS and Clock replace the operating system in tests.
	FS    vfs.FS
	Clock clock.Clock
	// From is the file system of src if that is another one: the view of a backup, see package backup.
	From vfs.FS
}

// RestorePlan says what a restore does.
type RestorePlan struct {
	// LSN is where the new timeline leaves the one that src is in, which is Timeline; Time is the log time of that event.
	LSN      LSN
	Time     time.Time
	Timeline string
	// Next is the first event of src that is left out, 0 = none is, at NextTime. Last is the newest event of src.
	Next, Last LSN
	NextTime   time.Time
	// Files are those of src that are used. Bytes is what dst takes, but for what is written anew.
	Files []RestoreFile
	Bytes int64
	// ReplayBytes of the log are read and applied, since segments don't have that state.
	ReplayBytes int64
	// Tree is how many frames of the hash tree have come along. TreeErr is why none has, though src has a tree: it is damaged. The new
	// store computes one from its log then. Both are set by RestoreWith.
	Tree    int64
	TreeErr error
	// Reused is the bytes of files that Delta had not to copy.
	Reused int64
}

// RestoreFile is a file that a restore uses.
type RestoreFile struct {
	Name  string `json:"name"` // relative to dst, and to src or From
	Bytes int64  `json:"bytes"`
	// From is the folder in src that has it, of a snapshot from which less is to be replayed; empty = src itself.
	From string `json:"from,omitempty"`
	// Use says what for: "copy", "cut" for the log file that the LSN lies in, "base" for segments that the state at the floor
	// is made of, "tree" for the hash tree, as far as it is needed.
	Use string `json:"use"`
}

// PlanRestore says what Restore would do. It changes nothing.
func PlanRestore(ctx context.Context, src string, t Target, o *RestoreOptions) (RestorePlan, error) {
	r := newRestoring(ctx, src, "", t, o)
	err := r.again(r.look)
	return r.plan, openError(src, err)
}

// RestoreWith is Restore with options. It returns what was done.
func RestoreWith(ctx context.Context, src, dst string, t Target, o *RestoreOptions) (RestorePlan, error) {
	r := newRestoring(ctx, src, dst, t, o)
	err := r.run()
	return r.plan, openError(dst, err)
}

// restoring is a restore in progress.
//
//  1. Lock dst and see that it is empty, or what an interrupted restore to the same state has left. Find the state in src.
//  2. RESTORE is there, durably, before any file of the store is: dst is no store.
//  3. Copy log files before the one with the LSN, and value files. Copy that one as far as the LSN.
//     If segments hold nothing beyond the LSN, they are copied with their manifest; if those of a snapshot in src don't, they are
//     (restore_near.go). Else the state at the floor of src is written anew as segments, nothing if there is no floor, and the log
//     is applied to it. Each file gets its name when it is
//     durable; an interrupted restore goes on with those that have theirs. The tree over the log is cut before the frame that the
//     LSN lies in, and catches up when the store is open.
//  4. Open dst: the log goes on in a new file, which states the cut and begins the new timeline with a fork event.
//  5. RESTORE goes, durably: now dst is a store. Close.
type restoring struct {
	ctx      context.Context
	opts     Options // FS is that of dst
	from     vfs.FS  // that of src
	src, dst string
	target   Target
	progress func(done, total int64)
	plan     RestorePlan

	set     *manifest.Set // of src; nil before look
	version *manifest.Version
	files   []wal.FileInfo // of the log, up to the one to cut; empty if src is
	base    bool           // the state at the floor is written anew
	folder  string         // of the snapshot that has set's files; empty = src itself
	alone   bool           // snapshots are none of src's files
	older   []wal.FileInfo // log files of the snapshot before those of src
	link    bool           // dst is within src: files that don't change get second names
	delta   bool           // see RestoreOptions
	damage  error          // behind the last event of src that can be read; nil = none
	after   int64          // log time that the new timeline begins after
	logID   [16]byte
	parent  [16]byte // timeline that src is in

	counting sync.Mutex // guards done; held while progress is told
	done     int64
}

func newRestoring(ctx context.Context, src, dst string, t Target, o *RestoreOptions) *restoring {
	if o == nil {
		o = &RestoreOptions{}
	}
	opts := (&Options{FS: o.FS, Clock: o.Clock, Session: o.Session}).withDefaults()
	from := o.From
	if from == nil {
		from = opts.FS
	}
	return &restoring{ctx: ctx, opts: opts, from: from, src: path.Clean(src), dst: path.Clean(dst), target: t, progress: o.Progress, delta: o.Delta}
}

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
		if in, err = w.locate(r.ctx, lsn+1); err != nil {
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
	return r.list()
}

// unfinished returns an error that matches ErrUnfinished if a restore into a folder, or a recovery of the store in it, was
// interrupted: what is there is no store, or part of two.
func unfinished(fsys vfs.FS, dir string) error {
	if err := unrestored(fsys, dir); err != nil {
		return err
	}
	pending, err := vfs.Exists(fsys, path.Join(dir, recoverFile))
	if err == nil && pending {
		err = fmt.Errorf("%w: %s; opened for writing it goes on by itself", ErrUnfinished, dir)
	}
	return err
}

// unrestored is unfinished of a restore only.
func unrestored(fsys vfs.FS, dir string) error {
	pending, err := vfs.Exists(fsys, path.Join(dir, snapshot.PendingName))
	if err == nil && pending {
		err = fmt.Errorf("%w: %s", ErrUnfinished, dir)
	}
	return err
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

func (r *restoring) run() (err error) {
	fsys := r.opts.FS
	// Step 1.
	if err := r.source(); err != nil {
		return err
	}
	if err := r.occupied(); err != nil { // before a lock file is made there
		return err
	}
	if err := fsys.MkdirAll(r.dst); err != nil {
		return fmt.Errorf("create %s: %w", r.dst, err)
	}
	lock, err := fsys.Lock(path.Join(r.dst, "LOCK"))
	if err != nil {
		return fmt.Errorf("lock %s: %w", r.dst, err)
	}
	defer func() {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := r.again(r.fill); err != nil {
		return err
	}
	held := lock
	lock = nil
	return r.fork(held)
}

// fill does the steps 1 to 3.
func (r *restoring) fill() error {
	if err := r.look(); err != nil {
		return err
	}
	if err := r.prepare(); err != nil {
		return err
	}
	r.done = 0
	if err := r.reuse(); err != nil {
		return err
	}
	if err := r.room(); err != nil {
		return err
	}
	if err := r.copies(); err != nil {
		return err
	}
	for _, f := range r.plan.Files {
		if f.Use == "cut" {
			if err := r.cut(f.Bytes); err != nil {
				return fmt.Errorf("restore %s: %w", f.Name, err)
			}
		}
	}
	fsys := r.opts.FS
	for _, dir := range []string{"wal", manifest.Dir} {
		if err := fsys.SyncDir(path.Join(r.dst, dir)); err != nil {
			return err
		}
	}
	if err := r.manifest(); err != nil {
		return err
	}
	if err := r.tree(); err != nil {
		return err
	}
	return syncAncestors(fsys, r.dst)
}

// occupied returns an error if dst holds something that no restore has left.
func (r *restoring) occupied() error {
	names, err := r.opts.FS.List(r.dst)
	if errors.Is(err, fs.ErrNotExist) || slices.Contains(names, snapshot.PendingName) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		replaced := slices.Contains(storeParts, name) || name == recoveredFile || name == liveName
		if name == snapshot.Dir {
			list, err := r.opts.FS.List(path.Join(r.dst, name))
			if err != nil {
				return err
			}
			replaced = len(list) == 0
		}
		if name != "LOCK" && name != snapshot.PendingName+".tmp" && !(r.delta && replaced) {
			return fmt.Errorf("%w: %s holds %s", ErrNotEmpty, r.dst, name)
		}
	}
	return nil
}

// earlierDir is where Delta puts the files of the store that was in dst until it is known which of them stay.
const earlierDir = "earlier"

// aside moves the files of the store that was in dst aside, or what a restore to another state has left. RESTORE is there, and says
// that dst has nothing of the state that it is to have.
func (r *restoring) aside() error {
	fsys, earlier := r.opts.FS, path.Join(r.dst, earlierDir)
	if err := fsys.MkdirAll(earlier); err != nil {
		return err
	}
	for _, part := range storeParts {
		from, to := path.Join(r.dst, part), path.Join(earlier, part)
		there, err := vfs.Exists(fsys, from)
		if err != nil || !there {
			if err != nil {
				return err
			}
			continue
		}
		taken, err := vfs.Exists(fsys, to)
		switch {
		case err != nil:
			return err
		case taken || part != "wal" && part != manifest.Dir:
			err = removeAll(fsys, from)
		default:
			err = fsys.Rename(from, to)
		}
		if err != nil {
			return err
		}
	}
	if err := fsys.Remove(path.Join(r.dst, recoveredFile)); err != nil && !isMissing(err) {
		return err
	}
	return fsys.SyncDir(earlier)
}

// reuse takes back what aside has moved and the state has too. The rest goes, so that there is room.
func (r *restoring) reuse() error {
	fsys, earlier := r.opts.FS, path.Join(r.dst, earlierDir)
	there, err := vfs.Exists(fsys, earlier)
	if err != nil || !there {
		return err
	}
	pace := func(int64) error { return r.ctx.Err() }
	for _, f := range r.plan.Files {
		name := path.Join(earlier, f.Name)
		info, err := fsys.Stat(name)
		if f.Use != "copy" || isMissing(err) || err == nil && info.Size != f.Bytes {
			continue
		}
		var have [32]byte
		if err == nil {
			have, err = hashFile(fsys, name, pace)
		}
		if err != nil {
			return err
		}
		var want [32]byte
		if from, ok := r.from.(interface{ Sum(name string) *[32]byte }); ok {
			if sum := from.Sum(path.Join(r.src, f.Name)); sum != nil {
				want = *sum
			}
		} else if want, err = hashFile(r.from, path.Join(r.src, f.From, f.Name), pace); err != nil {
			return err
		}
		if have != want {
			continue
		}
		if err := fsys.Rename(name, path.Join(r.dst, f.Name)); err != nil {
			return err
		}
		r.plan.Reused += f.Bytes
	}
	return removeAll(fsys, earlier)
}

// sameLog returns an error if dst is not a store of the log that src is of, or is src itself, under another path perhaps.
func (r *restoring) sameLog() error {
	fsys := r.opts.FS
	if err := unfinished(fsys, r.dst); err != nil {
		return err
	}
	probe := snapshot.PendingName + ".tmp" // which occupied passes over
	if err := fsys.Remove(path.Join(r.dst, probe)); err != nil && !isMissing(err) {
		return err
	}
	f, err := fsys.Create(path.Join(r.dst, probe))
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	before, err := vfs.Exists(r.from, path.Join(r.src, probe))
	if rerr := fsys.Remove(path.Join(r.dst, probe)); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	if before {
		after, err := vfs.Exists(r.from, path.Join(r.src, probe))
		if err == nil && !after {
			err = fmt.Errorf("%w: %s is the store that is to be restored", ErrNotEmpty, r.dst)
		}
		if err != nil {
			return err
		}
	}
	id, err := wal.ReadLogID(fsys, path.Join(r.dst, "wal"))
	if isMissing(err) { // it has no store
		return nil
	}
	if err == nil && id != r.logID {
		err = fmt.Errorf("%w: %s is a store of another log, %x, than %s, %x", ErrNotEmpty, r.dst, id, r.src, r.logID)
	}
	return err
}

// prepare sees to it that dst holds nothing but files of the state that is to be restored.
func (r *restoring) prepare() error {
	fsys := r.opts.FS
	info := snapshot.Info{LogID: r.logID, Timeline: r.parent, LSN: r.plan.LSN, Time: r.plan.Time.UnixNano(), Files: int64(len(r.plan.Files)), Bytes: r.plan.Bytes}
	if err := r.occupied(); err != nil {
		return err
	}
	have, pending, err := snapshot.ReadPending(fsys, r.dst)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if r.delta && !pending && err == nil {
		if err := r.sameLog(); err != nil {
			return err
		}
		none := (&snapshot.Info{}).Encode()
		if err := vfs.WriteFileSync(fsys, path.Join(r.dst, snapshot.PendingName), none[:]); err != nil {
			return err
		}
		pending = true
	}
	if (pending || err != nil) && (err != nil || have.LogID != info.LogID || have.Timeline != info.Timeline || have.LSN != info.LSN) {
		if r.delta {
			err = r.aside()
		} else {
			for _, name := range append([]string{earlierDir}, storeParts...) {
				if err := removeAll(fsys, path.Join(r.dst, name)); err != nil {
					return err
				}
			}
			err = nil
		}
		if err != nil {
			return err
		}
		if err := fsys.SyncDir(r.dst); err != nil { // before RESTORE says that what is there is of another state
			return err
		}
	}
	// Step 2.
	b := info.Encode()
	if err := vfs.WriteFileSync(fsys, path.Join(r.dst, snapshot.PendingName), b[:]); err != nil {
		return err
	}
	for _, dir := range []string{"wal", manifest.Dir} {
		if err := fsys.MkdirAll(path.Join(r.dst, dir)); err != nil {
			return err
		}
	}
	return r.removeTail()
}

// removeTail removes what an interrupted restore has written beyond copies: the log from the file with the LSN on, the manifest, the
// tree, and segments that are not those of src.
func (r *restoring) removeTail() error {
	fsys := r.opts.FS
	for _, dir := range []string{"manifest", sideDir, integrity.Dir} {
		if err := removeAll(fsys, path.Join(r.dst, dir)); err != nil {
			return err
		}
	}
	keep := map[string]bool{}
	for _, f := range r.plan.Files {
		if f.Use == "copy" {
			keep[f.Name] = true
		}
	}
	for _, dir := range []string{"wal", manifest.Dir} {
		names, err := fsys.List(path.Join(r.dst, dir))
		if err != nil {
			return err
		}
		for _, name := range names {
			if name = path.Join(dir, name); !keep[name] {
				if err := fsys.Remove(path.Join(r.dst, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// room returns an error if the disk has too little for what is to be copied.
func (r *restoring) room() error {
	if r.link {
		return nil
	}
	need := r.plan.Bytes
	for _, f := range r.plan.Files {
		if info, err := r.opts.FS.Stat(path.Join(r.dst, f.Name)); err == nil && f.Use == "copy" && info.Size == f.Bytes {
			need -= info.Size
		}
	}
	if free, _, err := r.opts.FS.Free(r.dst); err == nil && free < need {
		return fmt.Errorf("%d bytes are to be copied to %s, %d are free: %w", need, r.dst, free, vfs.ErrNoSpace)
	}
	return nil
}

// copiesAtOnce is how many files are copied at a time: while one is made durable, another is read and written.
const copiesAtOnce = 2

// copies copies the files that don't change.
func (r *restoring) copies() error {
	todo := make(chan RestoreFile)
	failed := make(chan error, copiesAtOnce)
	var wg sync.WaitGroup
	n := copiesAtOnce
	if r.link {
		n = 1 // names are given in no time
	}
	for range n {
		wg.Go(func() {
			for f := range todo {
				if err := r.copy(f); err != nil {
					failed <- fmt.Errorf("restore %s: %w", f.Name, err)
					return
				}
			}
		})
	}
	var err error
	for _, f := range r.plan.Files {
		if f.Use == "copy" && err == nil {
			select {
			case todo <- f:
			case err = <-failed:
			}
		}
	}
	close(todo)
	wg.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return err
}

// step counts what was copied.
func (r *restoring) step(b []byte) error {
	r.count(int64(len(b)))
	return r.ctx.Err()
}

// count tells that so many bytes more are there.
func (r *restoring) count(n int64) {
	r.counting.Lock()
	defer r.counting.Unlock()
	r.done += n
	if r.progress != nil {
		r.progress(r.done, r.plan.Bytes)
	}
}

// copy copies one file, unless it is there. A segment or value file must be the one that the manifest means.
func (r *restoring) copy(f RestoreFile) error {
	fsys, src, dst := r.opts.FS, path.Join(r.src, f.From, f.Name), path.Join(r.dst, f.Name)
	if info, err := fsys.Stat(dst); err == nil && info.Size == f.Bytes {
		r.count(f.Bytes)
		return nil
	}
	if r.link {
		err := fsys.Link(src, dst)
		if err == nil {
			r.count(f.Bytes)
			return r.ctx.Err()
		}
		if !vfs.IsNoLinks(err) {
			return err
		}
	}
	h, temp := sha256.New(), dst+".new"
	if err := fsys.Remove(temp); err != nil && !isMissing(err) {
		return err
	}
	want, covered := r.sum(f.Name, f.Bytes)
	_, err := vfs.CopyFile(r.from, src, fsys, temp, -1, func(b []byte) error {
		part := b[:min(int64(len(b)), max(covered, 0))]
		h.Write(part)
		covered -= int64(len(part))
		return r.step(b)
	})
	if err != nil {
		return err
	}
	if want != nil && !bytes.Equal(h.Sum(nil), want[:]) {
		_ = fsys.Remove(temp)
		return corruption.At(path.Join(f.From, f.Name), 0, "SHA-256 is %x, want %x", h.Sum(nil), want[:])
	}
	return fsys.Rename(temp, dst)
}

// sum is the SHA-256 that the manifest, or the backup, has of a file, nil if it has none, and of how many bytes.
func (r *restoring) sum(name string, size int64) (*[32]byte, int64) {
	if from, ok := r.from.(interface{ Sum(name string) *[32]byte }); ok { // a backup knows all
		return from.Sum(path.Join(r.src, name)), size
	}
	num, _, ok := manifest.ParseName(path.Base(name))
	if !ok {
		return nil, 0
	}
	for _, f := range r.version.Values {
		if f.Num == num {
			return &f.SHA256, size
		}
	}
	if s := r.version.Segment(num); s != nil {
		return &s.SHA256, size - segment.FooterBytes
	}
	for _, s := range r.version.History {
		if s.Num == num {
			return &s.SHA256, size - segment.FooterBytes
		}
	}
	return nil, 0
}

// cut copies the log file that the LSN lies in. An interrupted one has no name that counts.
func (r *restoring) cut(size int64) error {
	fsys, f := r.opts.FS, r.files[len(r.files)-1]
	dst := path.Join(r.dst, "wal", f.Name)
	if err := fsys.Remove(dst + ".new"); err != nil && !isMissing(err) {
		return err
	}
	if _, err := wal.CopyCut(r.from, path.Join(r.src, "wal"), f, r.plan.LSN, fsys, dst+".new", func([]byte) error { return r.ctx.Err() }); err != nil {
		return err
	}
	r.count(size)
	return fsys.Rename(dst+".new", dst)
}

// manifest makes the manifest of dst, with a base state if segments of src go beyond the LSN.
func (r *restoring) manifest() error {
	fsys, dir := r.opts.FS, path.Join(r.dst, "manifest")
	o := manifest.Options{Now: r.opts.Clock.Wall}
	switch {
	case !r.set.Found() || r.base && r.version.FloorLSN == 0:
		return nil // the log has everything
	case !r.base:
		return manifest.Create(fsys, dir, o, r.set.LogID(), r.set.HashSeed(), r.version.Whole())
	}
	v := r.version
	b := baseState{ctx: r.ctx, fs: fsys, dir: path.Join(r.dst, manifest.Dir), now: r.opts.Clock.Wall, floor: v.FloorLSN,
		seed: r.set.HashSeed(), next: v.NextFile}
	defer b.close()
	if _, err := b.readCatalog(r.from, path.Join(r.src, "wal"), r.files[0].Seq); err != nil {
		return err
	}
	for _, seg := range slices.AppendSeq([]*manifest.Segment{}, v.All()) {
		if err := r.openBase(&b, seg); err != nil {
			return err
		}
	}
	for _, seg := range v.History {
		if err := r.openBase(&b, seg); err != nil {
			return err
		}
	}
	if err := b.write(); err != nil {
		return err
	}
	for _, temp := range b.temps {
		if err := fsys.Rename(temp, strings.TrimSuffix(temp, ".new")); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir(b.dir); err != nil {
		return err
	}
	return manifest.Create(fsys, dir, o, r.set.LogID(), b.seed, b.edit(v.OldestLog, v.Values))
}

// tree copies the tree over the log, if src has one. It is no reason to fail: what the log has, it tells again.
func (r *restoring) tree() error {
	dst := path.Join(r.dst, integrity.Dir)
	frames, err := copyTree(r.from, r.src, r.opts.FS, dst, integrity.CopyOptions{LogID: r.logID, LSN: r.plan.LSN, Link: r.link, Step: r.step})
	if errors.Is(err, ErrCorrupt) || errors.Is(err, event.ErrUnsupported) {
		r.plan.TreeErr = err
		if err = removeAll(r.opts.FS, dst); err == nil {
			err = r.opts.FS.MkdirAll(dst)
		}
	}
	r.plan.Tree = frames
	return err
}

// copyTree copies the tree of the store in a folder; none is no error.
func copyTree(from vfs.FS, dir string, to vfs.FS, dst string, o integrity.CopyOptions) (frames int64, err error) {
	there, err := vfs.Exists(from, path.Join(dir, integrity.Dir))
	if err != nil || !there {
		return 0, err
	}
	return integrity.Copy(from, path.Join(dir, integrity.Dir), to, dst, o)
}

func (r *restoring) openBase(b *baseState, seg *manifest.Segment) error {
	seed := r.set.HashSeed()
	reader, err := segment.Open(r.from, path.Join(r.src, segmentDisplayName(seg.Num)), segment.ReaderOptions{Num: uint64(seg.Num),
		HashSeed: binary.LittleEndian.Uint64(seed[:]), DisplayName: segmentDisplayName(seg.Num)})
	if err != nil {
		return err
	}
	b.readers = append(b.readers, reader)
	return nil
}

// fork does the steps 4 and 5 under the lock, which ends with it.
func (r *restoring) fork(lock io.Closer) error {
	o, fsys := r.opts, r.opts.FS
	o.fork = &fork{parent: r.parent, lsn: r.plan.LSN, after: r.after, lock: lock}
	db, err := Open(r.dst, &o)
	if err != nil {
		return err
	}
	err = func() error {
		if last := db.Recovery().LastLSN; last != r.plan.LSN {
			return corruption.At("wal", 0, "the log ends at LSN %d, not at %d", last, r.plan.LSN)
		}
		g, err := db.enterCall() // it starts the log
		if err != nil {
			return err
		}
		g.Exit()
		if err := db.WaitDurable(r.ctx, r.plan.LSN+1); err != nil {
			return err
		}
		if err := fsys.Remove(path.Join(r.dst, snapshot.PendingName)); err != nil {
			return err
		}
		return fsys.SyncDir(r.dst)
	}()
	return errors.Join(err, db.Close())
}
