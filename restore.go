package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// Restore makes a store in the folder dst that is as the one in src was at a target: the log up to there, with all its history, and
// a new timeline that goes on behind it. A hash tree over the log comes along as far as it is that of the new store, and goes on. src is
// a store, which may be in use, or the folder of a snapshot; nothing in it is changed. dst must be empty or not be there. The files of dst are its own.
//
// Until Restore returns, dst is no store, and Open says so: ErrUnfinished. When it was interrupted, by a crash or a full disk, the
// same call goes on where it was, and one for another target begins again. A target that is refused leaves dst as it was.
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
	// Next is the first event of src that is left out, 0 = none is, at NextTime, zero if it is damaged. Last is the newest event of src.
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
//  1. Find the state in src. Lock dst and see that it is empty, or what an interrupted restore to the same state has left. What src
//     does not have leaves no trace in dst.
//  2. RESTORE is there, durably, before any file of the store is: dst is no store.
//  3. Copy log files before the one with the LSN, and value files. Copy that one as far as the LSN.
//     If segments hold nothing beyond the LSN, they are copied with their manifest; if those of a snapshot in src don't, they are
//     (restore_near.go). Else the state at the floor of src is written anew as segments, nothing if there is no floor, and the log
//     is applied to it. Each file gets its name when it is
//     durable; an interrupted restore goes on with those that have theirs. The tree over the log is cut before the frame that the
//     LSN lies in, and catches up when the store is open.
//  4. Open dst: the log goes on in a new file, which states the cut and begins the new timeline with a fork event. Log files that are
//     applied go on being copied meanwhile (restore_arrive.go).
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
	parent  [16]byte  // timeline that src is in
	lock    io.Closer // of dst; nil = not locked

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

func (r *restoring) run() (err error) {
	defer func() {
		if r.lock != nil {
			err = errors.Join(err, r.lock.Close())
		}
	}()
	// Step 1.
	if err := r.source(); err != nil {
		return err
	}
	if err := r.occupied(); err != nil { // before src is read
		return err
	}
	var forked error
	err = r.again(func() error {
		logs, err := r.fill()
		if err != nil {
			return err
		}
		held := r.lock
		r.lock = nil
		forked = r.fork(held, logs)
		return logs.stop() // which is why it can't be opened, or src has lost a file meanwhile
	})
	if err != nil {
		return err
	}
	return forked
}

// enter makes the folder dst unless it is there, and locks it.
func (r *restoring) enter() (err error) {
	if r.lock != nil { // src is looked at again
		return nil
	}
	fsys := r.opts.FS
	if err := fsys.MkdirAll(r.dst); err != nil {
		return fmt.Errorf("create %s: %w", r.dst, err)
	}
	if r.lock, err = fsys.Lock(path.Join(r.dst, "LOCK")); err != nil {
		return fmt.Errorf("lock %s: %w", r.dst, err)
	}
	return nil
}

// fill does the steps 1 to 3. What it returns goes on copying the log files that are to be applied; the caller stops it.
func (r *restoring) fill() (logs *arriving, err error) {
	if err := r.look(); err != nil {
		return nil, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	r.done = 0
	if err := r.reuse(); err != nil {
		return nil, err
	}
	if err := r.room(); err != nil {
		return nil, err
	}
	var now, later []RestoreFile
	for _, f := range r.plan.Files {
		switch {
		case f.Use != "copy":
		case r.base && path.Dir(f.Name) == "wal":
			later = append(later, f)
		default:
			now = append(now, f)
		}
	}
	if err := r.begin(now).wait(); err != nil {
		return nil, err
	}
	logs = r.begin(later)
	if err := r.rest(); err != nil {
		return nil, errors.Join(err, logs.stop())
	}
	return logs, nil
}

// rest makes what is not copied whole.
func (r *restoring) rest() error {
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

// fork does the steps 4 and 5 under the lock, which ends with it.
func (r *restoring) fork(lock io.Closer, logs *arriving) error {
	o, fsys := r.opts, r.opts.FS
	o.FS = logs
	o.fork = &fork{ctx: r.ctx, parent: r.parent, lsn: r.plan.LSN, after: r.after, lock: lock}
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
		if err := logs.wait(); err != nil {
			return err
		}
		if err := fsys.SyncDir(path.Join(r.dst, "wal")); err != nil {
			return err
		}
		if err := fsys.Remove(path.Join(r.dst, snapshot.PendingName)); err != nil {
			return err
		}
		return fsys.SyncDir(r.dst)
	}()
	return errors.Join(err, db.Close())
}
