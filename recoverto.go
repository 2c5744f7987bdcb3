package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
)

// Options.RecoverTo sets a store back, in these steps. The lock is held.
//
//  1. Find the state. If the log's next event is a fork there, it was done before; if nothing follows, there is nothing to do.
//  2. Restore to recovering, a folder in the store's directory; log files and segments that don't change get second names.
//  3. RECOVER, the bytes of a SNAPSHOT of the newest state of the old timeline, is written durably: from here on, whoever opens the
//     store for writing goes on, and who opens it for reading is told so.
//  4. The old files move to a folder of snapshots under a temporary name, with that SNAPSHOT; durably.
//  5. recovering is renamed to recovered, durably: the old files are aside.
//  6. What recovered holds moves to where the old files were; durably.
//  7. The folder of the old files gets the name timeline-<first digits of the timeline>-<LSN>: a snapshot like others.
//  8. RECOVER goes, durably.
//
// A crash before 3 leaves the store as it was, and a folder that the next owner removes. After 3 each step can be done again.
const (
	recoverFile   = "RECOVER"
	recoveringDir = "recovering"
	recoveredDir  = "recovered"
)

// storeParts are the folders of a store that belong to its timeline.
var storeParts = []string{"wal", "manifest", manifest.Dir, sideDir, integrity.Dir}

// recoverTo sets the store in dir back to Options.RecoverTo, or finishes what a crash interrupted. The lock of dir is held.
func recoverTo(dir string, opts *Options) error {
	c := recovering{fs: opts.FS, dir: dir, opts: opts}
	if err := c.finish(); err != nil || opts.RecoverTo == (Target{}) {
		return err
	}
	there, err := vfs.Exists(opts.FS, path.Join(dir, "wal"))
	if err != nil || !there { // the store is about to be made
		return err
	}
	if err := c.recover(); err != nil {
		return fmt.Errorf("recover to %v: %w", opts.RecoverTo, err)
	}
	return nil
}

type recovering struct {
	fs   vfs.FS
	dir  string
	opts *Options
}

func (c *recovering) path(name string) string { return path.Join(c.dir, name) }

func (c *recovering) recover() error {
	ctx := context.Background()
	o := RestoreOptions{FS: c.fs, Clock: c.opts.Clock, Session: c.opts.Session}
	r := newRestoring(ctx, c.dir, c.path(recoveringDir), c.opts.RecoverTo, &o)
	r.link = true
	// Step 1.
	done := false
	err := r.again(func() (err error) {
		if err = r.look(); err == nil {
			done, err = c.isDone(r)
		}
		return err
	})
	if err != nil || done {
		return err
	}
	// Step 2. What an earlier try has finished is of no use: more may have been written since.
	if pending, err := vfs.Exists(c.fs, path.Join(r.dst, snapshot.PendingName)); err != nil {
		return err
	} else if !pending {
		if err := removeAll(c.fs, r.dst); err != nil {
			return err
		}
	}
	r.after = c.opts.RecoverTo.time
	r.target = AtLSN(r.plan.LSN) // a time may mean another one in a moment
	if err := r.run(); err != nil {
		return err
	}
	// Step 3.
	old := snapshot.Info{LogID: r.logID, Timeline: r.parent, LSN: r.plan.Last, Time: c.opts.Clock.Now(), Created: c.opts.Clock.Wall(),
		Files: int64(len(r.plan.Files)), Bytes: r.plan.Bytes}
	b := old.Encode()
	if err := vfs.WriteFileSync(c.fs, c.path(recoverFile), b[:]); err != nil {
		return err
	}
	c.opts.Logger.Warn("dyngo: the store is set back; what it was is kept as a snapshot", "lsn", uint64(r.plan.LSN), "was", uint64(old.LSN),
		"snapshot", oldName(&old))
	return c.finish()
}

// isDone says that nothing follows the state that was found, or only what came after an earlier recovery to it.
func (c *recovering) isDone(r *restoring) (bool, error) {
	if r.plan.LSN == r.plan.Last {
		return true, nil
	}
	_, line, err := readLineage(c.fs, c.path("wal"), r.version)
	if err != nil {
		return false, err
	}
	for _, lsn := range line.forks {
		if lsn == r.plan.LSN {
			return true, nil
		}
	}
	return false, nil
}

// oldName is the name of the snapshot of what a store was before it was set back.
func oldName(old *snapshot.Info) string {
	return fmt.Sprintf("timeline-%x-%d", old.Timeline[:4], old.LSN)
}

// finish does the steps 4 to 8, if 3 was done, and else removes what a crash before 3 has left.
func (c *recovering) finish() error {
	b, err := c.fs.ReadFile(c.path(recoverFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		if c.opts.RecoverTo != (Target{}) {
			return nil // it may go on
		}
		return removeAll(c.fs, c.path(recoveringDir))
	}
	if err != nil {
		return err
	}
	info, err := snapshot.Parse(b)
	if err != nil {
		return fmt.Errorf("%s: %w", recoverFile, err)
	}
	snapshots := c.path(snapshot.Dir)
	old := path.Join(snapshots, snapshot.Temp(oldName(&info)))
	aside, err := vfs.Exists(c.fs, c.path(recoveredDir))
	if err != nil {
		return err
	}
	if !aside {
		// Is all done but step 8?
		there, err := vfs.Exists(c.fs, c.path(recoveringDir))
		if err != nil {
			return err
		}
		if !there {
			return c.end()
		}
		// Step 4.
		if err := c.fs.MkdirAll(old); err != nil {
			return err
		}
		for _, dir := range []string{c.dir, snapshots} { // the folder is there before anything moves into it
			if err := c.fs.SyncDir(dir); err != nil {
				return err
			}
		}
		if err := c.move(c.dir, old); err != nil {
			return err
		}
		if err := vfs.WriteFileSync(c.fs, path.Join(old, snapshot.FileName), b); err != nil { // it syncs the folder
			return err
		}
		if err := c.fs.SyncDir(c.dir); err != nil {
			return err
		}
		// Step 5.
		if err := c.fs.Rename(c.path(recoveringDir), c.path(recoveredDir)); err != nil {
			return err
		}
		if err := c.fs.SyncDir(c.dir); err != nil {
			return err
		}
	}
	// Step 6.
	if err := c.move(c.path(recoveredDir), c.dir); err != nil {
		return err
	}
	if err := c.fs.SyncDir(c.dir); err != nil {
		return err
	}
	// Step 7.
	there, err := vfs.Exists(c.fs, old)
	if err == nil && there {
		err = c.fs.Rename(old, path.Join(snapshots, oldName(&info)))
	}
	if err == nil {
		err = c.fs.SyncDir(snapshots)
	}
	if err == nil {
		err = removeAll(c.fs, c.path(recoveredDir))
	}
	if err == nil {
		err = c.fs.SyncDir(c.dir)
	}
	if err != nil {
		return err
	}
	return c.end()
}

// end does step 8.
func (c *recovering) end() error {
	if err := c.fs.Remove(c.path(recoverFile)); err != nil {
		return err
	}
	return c.fs.SyncDir(c.dir)
}

// move moves the parts of a store that are there.
func (c *recovering) move(from, to string) error {
	for _, part := range storeParts {
		there, err := vfs.Exists(c.fs, path.Join(from, part))
		if err == nil && there {
			err = c.fs.Rename(path.Join(from, part), path.Join(to, part))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
