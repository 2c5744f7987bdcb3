package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// RepairOptions say how to repair.
type RepairOptions struct {
	// DryRun finds what is wrong and what would be done, takes no lock and changes nothing.
	DryRun bool
	// Confirm is asked before the first change, with what was found and the steps to come; false ends Repair there. nil =
	// go on. The store is locked meanwhile.
	Confirm func(RepairReport) bool
	// Progress is told what is being done and how far that is, in bytes. May be nil.
	Progress func(what string, done, total int64)
}

// RepairReport tells what Repair found and did.
type RepairReport struct {
	Found []error      // damage, with file and offset
	Steps []RepairStep // what was done, or would be; empty = there is nothing to do
	Done  bool         // the steps were done
	// What the store holds afterwards.
	LastLSN      LSN
	Segments     int
	SegmentBytes int64
}

// RepairStep is one thing done to a file or directory, which is relative to the store's directory.
type RepairStep struct{ File, What string }

// repairDir is where Repair puts what it replaces until the new files are there.
const repairDir = "repair.old"

// Repair builds anew what is derived from the log, if something of it is damaged or missing: manifest and segments. It
// reads every byte of the store first. When the log itself is damaged, or does not hold all that the segments hold,
// the log can't replace them: then nothing is changed, and the error matches ErrCorrupt. Options are those of Open.
//
// Of a log that has dropped files, segments and value files are a part of the truth. Only the manifest can be built anew then,
// if all else is sound and the store was closed: see relisting.
//
//  1. Lock the store and verify it.
//  2. Remove what a repair that was interrupted has put aside: the log is sound, so nothing in there is needed.
//  3. Put what is derived aside, durably. A crash between leaves a store that Open refuses since manifest or segments
//     are missing, or one that it reads from the log alone.
//  4. Open the store, which reads the whole log, and flush. A crash here leaves a store that opens.
//  5. Verify the new files and remove what was put aside.
//
// So whenever it is interrupted, the store opens, or another Repair mends it. Between 3 and 4 the lock is given back
// for a moment; a process that opens the store then has a sound one, and Repair ends with ErrLocked.
func Repair(ctx context.Context, dir string, o *Options, r RepairOptions) (RepairReport, error) {
	opts := o.withDefaults()
	if err := opts.validate(); err != nil {
		return RepairReport{}, err
	}
	if opts.InMemory || opts.ReadOnly {
		return RepairReport{}, errors.New("dyngo: Repair with Options.InMemory or Options.ReadOnly")
	}
	m := &mender{ctx: ctx, opts: opts, dir: dir, how: r}
	err := m.run()
	return m.report, openError(dir, err)
}

// mender is a repair in progress.
type mender struct {
	ctx    context.Context
	opts   Options
	dir    string
	how    RepairOptions
	report RepairReport

	relist *relisting // the manifest is to be made anew from what is there, nil = it is not

	aside []string // names to put aside, relative to dir
	anew  bool     // manifest and segments are to be written
}

func (m *mender) run() error {
	if err := unfinished(m.opts.FS, m.dir); err != nil {
		return err
	}
	if exists, err := vfs.Exists(m.opts.FS, m.path("wal")); err != nil || !exists {
		if err == nil {
			err = fmt.Errorf("%w: %s", ErrNoStore, m.dir)
		}
		return err
	}
	if _, is, err := snapshot.Read(m.opts.FS, m.dir, ""); is || err != nil {
		return errors.Join(err, fmt.Errorf("%w: %s", ErrSnapshot, m.dir))
	}
	// Step 1.
	if m.how.DryRun {
		return m.diagnose()
	}
	lock, err := m.opts.FS.Lock(m.path("LOCK"))
	if err != nil {
		return fmt.Errorf("lock %s: %w", m.dir, err)
	}
	err = m.diagnose()
	goOn := err == nil && len(m.report.Steps) > 0 && (m.how.Confirm == nil || m.how.Confirm(m.report))
	switch {
	case goOn && m.relist != nil:
		err = m.relist.run()
	case goOn:
		err = m.putAside()
	}
	if err := errors.Join(err, lock.Close()); err != nil || !goOn {
		return err
	}
	if m.relist != nil || m.anew || len(m.aside) > 0 {
		err = m.rebuild()
	}
	m.report.Done = err == nil
	return err
}

func (m *mender) path(name string) string { return path.Join(m.dir, name) }

func (m *mender) step(file, format string, args ...any) {
	m.report.Steps = append(m.report.Steps, RepairStep{file, fmt.Sprintf(format, args...)})
}

// diagnose verifies the store and decides what to do.
func (m *mender) diagnose() error {
	found, err := Verify(m.ctx, m.dir, &m.opts, func(done, total int64) { m.tell("verify", done, total) })
	if err != nil {
		return err
	}
	m.report.Found = found.All()
	m.report.LastLSN = found.Log.Tail.NextLSN - min(found.Log.Tail.NextLSN, 1)
	m.report.Segments, m.report.SegmentBytes = found.Segments, found.Bytes
	left, err := vfs.Exists(m.opts.FS, m.path(repairDir))
	if err != nil {
		return err
	}
	if found.Count() > 0 {
		if m.relist, err = m.relistable(&found); err != nil {
			return err
		}
		if m.relist != nil {
			m.step("manifest", "write anew")
			m.step(manifest.Dir, "write the state at LSN %d anew from the segments, keep value files; the log goes on from there", m.relist.floor)
			return nil
		}
		if err := m.logSuffices(&found); err != nil {
			return err
		}
	}
	if left {
		m.step(repairDir, "remove what a repair that was interrupted has put aside")
		there, err := vfs.Exists(m.opts.FS, m.path("manifest"))
		if err != nil {
			return err
		}
		m.anew = !there
	}
	if len(found.Log.Defects) > 0 { // of CLEAN, see logSuffices
		m.aside = append(m.aside, "wal/"+wal.CleanName)
		m.step("wal/"+wal.CleanName, "remove: the log then counts as not closed, and ends where its last event does")
	}
	if m.anew = m.anew || len(found.Defects) > 0; m.anew {
		for _, name := range []string{"manifest", manifest.Dir} {
			exists, err := vfs.Exists(m.opts.FS, m.path(name))
			if err != nil {
				return err
			}
			if exists {
				m.aside = append(m.aside, name)
			}
		}
		m.step("manifest", "write anew")
		m.step(manifest.Dir, "write anew from the log, %d bytes with events up to LSN %d", found.Log.Bytes, m.report.LastLSN)
	}
	return nil
}

// logSuffices returns an error unless the log is sound and holds everything.
func (m *mender) logSuffices(found *VerifyReport) error {
	for _, d := range found.Log.Defects {
		var damage *corruption.Error
		if !errors.As(d, &damage) || damage.File != "wal/"+wal.CleanName || found.Log.Tail.Cut {
			return fmt.Errorf("the log itself is damaged, so that nothing can be built from it: %w", d)
		}
	}
	files, err := wal.ListFiles(m.opts.FS, m.path("wal"))
	if err != nil {
		return err
	}
	switch first := event0(files); {
	case first > 1 || found.OldestLog > 1:
		return corruption.At("wal/"+files[0].Name, 0, "the log begins with LSN %d: what lies before is in segments alone, "+
			"and they can't be built from it (%v)", first, found.All()[0])
	case found.NewestLSN > m.report.LastLSN:
		return corruption.At("wal", 0, "segments hold events up to LSN %d, but the log ends with %d: "+
			"they can't be built from it", found.NewestLSN, m.report.LastLSN)
	}
	return nil
}

// event0 is the LSN that the log begins with, 1 for an empty one.
func event0(files []wal.FileInfo) LSN {
	if len(files) == 0 {
		return 1
	}
	return files[0].FirstLSN
}

func (m *mender) tell(what string, done, total int64) {
	if m.how.Progress != nil {
		m.how.Progress(what, done, total)
	}
}

// clear removes what was put aside, for good.
func (m *mender) clear() error {
	if err := removeAll(m.opts.FS, m.path(repairDir)); err != nil {
		return err
	}
	if err := m.opts.FS.SyncDir(m.dir); err != nil {
		return fmt.Errorf("remove %s for good: %w", repairDir, err)
	}
	return nil
}

// putAside does the steps 2 and 3.
func (m *mender) putAside() error {
	if err := m.clear(); err != nil || len(m.aside) == 0 {
		return err
	}
	fsys, old := m.opts.FS, m.path(repairDir)
	if err := fsys.MkdirAll(old); err != nil {
		return fmt.Errorf("create %s: %w", old, err)
	}
	for _, name := range m.aside {
		if err := fsys.Rename(m.path(name), path.Join(old, path.Base(name))); err != nil {
			return fmt.Errorf("put %s aside: %w", name, err)
		}
	}
	// The moves become durable with the directory that they go to. Should that be lost itself, nothing that is needed
	// goes.
	if err := fsys.SyncDir(old); err != nil {
		return fmt.Errorf("put what is derived aside: %w", err)
	}
	return nil
}

// rebuild does the steps 4 and 5.
func (m *mender) rebuild() error {
	size := int64(0)
	if files, err := wal.ListFiles(m.opts.FS, m.path("wal")); err == nil {
		for _, f := range files {
			size += f.Size
		}
	}
	m.tell("rebuild", 0, size)
	db, err := Open(m.dir, &m.opts)
	if err != nil {
		return err
	}
	err = db.flusher.flushAll()
	m.tell("rebuild", size, size)
	if err == nil {
		err = m.check()
	}
	if err == nil {
		err = m.clear()
	}
	return errors.Join(err, db.Close())
}

// check verifies the new files.
func (m *mender) check() error {
	tell := func(done, total int64) { m.tell("check", done, total) }
	c := fileCheck{verification: &verification{fs: m.opts.FS, dir: m.dir, progress: tell}, ctx: m.ctx}
	if err := c.segments(); err != nil {
		return err
	}
	m.report.Segments, m.report.SegmentBytes = c.found.Segments, c.found.Bytes
	return errors.Join(c.found.Defects...)
}

// removeAll removes a directory with what is in it; one that is not there is no error.
func removeAll(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if err != nil {
			break
		}
		name = path.Join(dir, name)
		var info vfs.Info
		switch info, err = fsys.Stat(name); {
		case err != nil:
		case info.Dir:
			err = removeAll(fsys, name)
		default:
			err = fsys.Remove(name)
		}
	}
	if err == nil {
		err = fsys.Remove(dir)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
