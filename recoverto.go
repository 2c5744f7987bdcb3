package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
)

// Options.RecoverTo sets a store back, in these steps. The lock is held.
//
//  1. If RECOVERED-TO names the target, it was done before: the store opens as it is. Find the state. If nothing follows, there is
//     nothing to do but to write RECOVERED-TO, durably, before anything else is.
//  2. Restore to recovering, a folder in the store's directory; log files and segments that don't change get second names.
//     RECOVERED-TO is written there, durably.
//  3. RECOVER, the bytes of a SNAPSHOT of the newest state of the old timeline, is written durably: from here on, whoever opens the
//     store for writing goes on, and who opens it for reading is told so.
//  4. The old files move to a folder of snapshots under a temporary name, with that SNAPSHOT; durably.
//  5. recovering is renamed to recovered, durably: the old files are aside.
//  6. What recovered holds moves to where the old files were, and RECOVERED-TO to where an older one was; durably.
//  7. The folder of the old files gets the name timeline-<first digits of the timeline>-<LSN>, with a number behind it if a snapshot
//     has that name: a snapshot like others.
//  8. RECOVER goes, durably.
//
// A crash before 3 leaves the store as it was, and a folder that the next owner removes. After 3 each step can be done again.
const (
	recoverFile   = "RECOVER"
	recoveredFile = "RECOVERED-TO" // RECOVERED would be recoveredDir to a file system that folds case
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
	if err := c.once(); err != nil {
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

// once sets the store back unless it was.
func (c *recovering) once() error {
	switch target, lsn, err := c.readRecord(); {
	case err != nil:
		return fmt.Errorf("%w; without Options.RecoverTo the store opens as it is, without the file it is set back", err)
	case target == c.opts.RecoverTo.String():
		c.opts.Logger.Info("dyngo: RecoverTo was carried out before", "to", target, "lsn", uint64(lsn))
		return removeAll(c.fs, c.path(recoveringDir)) // of one to another target that a crash interrupted
	}
	there, err := vfs.Exists(c.fs, c.path("wal"))
	if err != nil {
		return err
	}
	if !there { // the store is about to be made
		return c.writeRecord(c.dir, 0)
	}
	return c.recover()
}

func (c *recovering) recover() error {
	ctx := context.Background()
	o := RestoreOptions{FS: c.fs, Clock: c.opts.Clock, Session: c.opts.Session}
	r := newRestoring(ctx, c.dir, c.path(recoveringDir), c.opts.RecoverTo, &o)
	r.link = true
	// Step 1.
	if err := r.again(r.look); err != nil {
		return err
	}
	if r.plan.LSN == r.plan.Last {
		return errors.Join(c.writeRecord(c.dir, r.plan.LSN), removeAll(c.fs, r.dst))
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
	if err := c.writeRecord(r.dst, r.plan.LSN); err != nil { // it syncs the folder
		return err
	}
	// Step 3.
	old := snapshot.Info{LogID: r.logID, Timeline: r.parent, LSN: r.plan.Last, Time: c.opts.Clock.Now(), Created: c.opts.Clock.Wall(),
		Files: int64(len(r.plan.Files)), Bytes: r.plan.Bytes}
	if err := c.clear(&old); err != nil {
		return err
	}
	b := old.Encode()
	if err := vfs.WriteFileSync(c.fs, c.path(recoverFile), b[:]); err != nil {
		return err
	}
	c.opts.Logger.Warn("dyngo: the store is set back", "lsn", uint64(r.plan.LSN), "was", uint64(old.LSN))
	return c.finish()
}

// writeRecord writes RECOVERED-TO to a folder, durably: the target and the LSN that it was, as lines of text with a checksum.
func (c *recovering) writeRecord(folder string, lsn LSN) error {
	return vfs.WriteFileSync(c.fs, path.Join(folder, recoveredFile), encodeRecord(c.opts.RecoverTo.String(), lsn))
}

const recordMagic = "dyngo recovered "

func encodeRecord(target string, lsn LSN) []byte {
	b := fmt.Appendf(nil, "%s1\n%s\n%d\n", recordMagic, target, lsn)
	return fmt.Appendf(b, "crc %08x\n", coding.CRC(b))
}

// readRecord reads RECOVERED-TO; target is empty if there is none.
func (c *recovering) readRecord() (target string, lsn LSN, err error) {
	b, err := c.fs.ReadFile(c.path(recoveredFile), 4096)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, nil
	case errors.Is(err, vfs.ErrTooLarge):
		return "", 0, corruption.At(recoveredFile, 4096, "more than 4096 bytes")
	case err != nil:
		return "", 0, err
	}
	lines := strings.Split(string(b), "\n")
	if v, ok := strings.CutPrefix(lines[0], recordMagic); ok && v != "1" {
		return "", 0, event.Unsupported("%s version %q", recoveredFile, v)
	}
	if len(lines) == 5 {
		n, err := strconv.ParseUint(lines[2], 10, 63)
		if err == nil && string(encodeRecord(lines[1], LSN(n))) == string(b) {
			return lines[1], LSN(n), nil
		}
	}
	return "", 0, corruption.At(recoveredFile, 0, "not the lines of a recovery with their checksum")
}

// oldName is the name of the snapshot of what a store was before it was set back.
func oldName(old *snapshot.Info) string {
	return fmt.Sprintf("timeline-%x-%d", old.Timeline[:4], old.LSN)
}

// clear removes what a crash has left of a snapshot under the temporary name that the old files are to move to.
func (c *recovering) clear(old *snapshot.Info) error {
	temp := path.Join(c.path(snapshot.Dir), snapshot.Temp(oldName(old)))
	there, err := vfs.Exists(c.fs, temp)
	if err == nil && there {
		err = removeAll(c.fs, temp)
	}
	if err == nil && there {
		err = c.fs.SyncDir(c.path(snapshot.Dir))
	}
	return err
}

// publish gives the folder of the old files a name that no snapshot has.
func (c *recovering) publish(folder, name string) error {
	snapshots := c.path(snapshot.Dir)
	free := name
	for i := 2; ; i++ {
		taken, err := vfs.Exists(c.fs, path.Join(snapshots, free))
		if err != nil {
			return err
		}
		if !taken {
			break
		}
		free = fmt.Sprintf("%s-%d", name, i)
	}
	if err := c.fs.Rename(folder, path.Join(snapshots, free)); err != nil {
		return err
	}
	c.opts.Logger.Warn("dyngo: what the store was before it was set back is kept as a snapshot", "snapshot", free)
	return nil
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
		if err := c.move(c.dir, old, storeParts); err != nil {
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
	if err := c.move(c.path(recoveredDir), c.dir, append([]string{recoveredFile}, storeParts...)); err != nil {
		return err
	}
	if err := c.fs.SyncDir(c.dir); err != nil {
		return err
	}
	// Step 7.
	there, err := vfs.Exists(c.fs, old)
	if err == nil && there {
		err = c.publish(old, oldName(&info))
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

// move moves those parts of a store that are there.
func (c *recovering) move(from, to string, parts []string) error {
	for _, part := range parts {
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
