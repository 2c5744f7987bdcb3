package dyngo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// SnapshotInfo describes a snapshot.
type SnapshotInfo struct {
	Name string
	// Dir is its folder, which Open opens with Options.ReadOnly.
	Dir string
	// LSN of the state, and its log time: that of the LSN, or later by the time in which nothing was written.
	LSN  LSN
	Time time.Time
	// Created is when it was made, by the wall clock.
	Created time.Time
	// Timeline is the line of LSNs that LSN belongs to, 32 hexadecimal digits.
	Timeline string
	// Files and Bytes are what the state takes. Where the file system has hard links, the store has the same files, and the
	// snapshot takes room only for those that the store has given up since.
	Files, Bytes int64
}

// Snapshot keeps the state as it is now, all datasets at one durable LSN, under a name: 1 to 128 letters, digits, dots, dashes
// and underscores, the first a letter or digit. The state stays when retention has dropped the log files and merges have
// replaced the segments that it lies in, until DropSnapshot. It is durable on return, and holds nobody up: one log file is
// sealed, and files get second names; a file system without hard links copies them. ViewAt with AtSnapshot reads the state as
// long as it is in the window; its folder opens read-only.
//
// A name that is taken gives ErrSnapshotExists, a name that can't be one ErrLimit. Whatever fails leaves no snapshot.
func (db *DB) Snapshot(ctx context.Context, name string) (SnapshotInfo, error) {
	if err := checkSnapshotName(name); err != nil {
		return SnapshotInfo{}, err
	}
	g, err := db.enterCall()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer g.Exit()
	db.snapshots.Lock()
	defer db.snapshots.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(db.ctx, cancel)()
	if db.unfinished != nil { // else the value that is to go gets another name
		if err := db.finishRedaction(); err != nil {
			return SnapshotInfo{}, fmt.Errorf("snapshot %q: first a redaction that was begun must be carried out: %w", name, openError(db.dir, err))
		}
	}
	info, err := db.makeSnapshot(ctx, name)
	if err != nil && db.closed.Load() {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return info, openError(db.dir, err)
}

func checkSnapshotName(name string) error {
	if !snapshot.ValidName(name) {
		return limitError("snapshot name %q: allowed are 1 to %d letters, digits, dots, dashes and underscores, the first a letter or digit",
			name, snapshot.MaxName)
	}
	return nil
}

func (db *DB) snapshotDir(name string) string { return path.Join(db.dir, snapshot.Dir, name) }

// makeSnapshot makes a snapshot under a temporary name, logs that, and gives it its name. db.snapshots is held.
func (db *DB) makeSnapshot(ctx context.Context, name string) (_ SnapshotInfo, err error) {
	fsys, dir, temp := db.opts.FS, db.snapshotDir(name), db.snapshotDir(snapshot.Temp(name))
	if exists, err := vfs.Exists(fsys, dir); err != nil || exists {
		if err == nil {
			err = fmt.Errorf("%w: %q", ErrSnapshotExists, name)
		}
		return SnapshotInfo{}, err
	}
	renamed := false
	defer func() {
		if err != nil && !renamed {
			_ = removeAll(fsys, temp) // what stays counts for nothing, and goes with the next start
		}
	}()
	var made snapshot.Info
	for try := 0; ; try++ {
		if err := removeAll(fsys, temp); err != nil {
			return SnapshotInfo{}, err
		}
		made, err = db.snapshotFiles(ctx, temp)
		if !errors.Is(err, errFilesWent) || try == maxSnapshotTries {
			break
		}
	}
	if err == nil {
		err = db.snapshotTree(ctx, temp, made.LSN)
	}
	if err == nil && db.closed.Load() {
		err = context.Canceled // Close doesn't wait for an event to be logged
	}
	if err != nil {
		return SnapshotInfo{}, fmt.Errorf("snapshot %q: %w", name, err)
	}
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{kind: event.OpSnapshot, key: []byte(name), value: coding.AppendUvarint(nil, uint64(made.LSN))})
	if err := db.commit(c, wal.Ack{Durable: true}, false, db.now()); err != nil {
		return SnapshotInfo{}, err
	}
	renamed = true
	if err := fsys.Rename(temp, dir); err != nil {
		renamed = false
		return SnapshotInfo{}, fmt.Errorf("snapshot %q: %w", name, err)
	}
	err = fsys.SyncDir(path.Join(db.dir, snapshot.Dir))
	if err == nil {
		err = fsys.SyncDir(db.dir)
	}
	if err != nil { // whether it will be there is not known, so it must not be
		_ = db.dropSnapshot(name)
		return SnapshotInfo{}, fmt.Errorf("snapshot %q: make its name durable: %w", name, err)
	}
	return snapshotInfo(name, dir, &made), nil
}

// maxSnapshotTries bounds how often a snapshot is begun again because retention has dropped files of it.
const maxSnapshotTries = 10

// errFilesWent says that files went while the log was being rotated.
var errFilesWent = errors.New("retention drops files faster than a snapshot can be made of them")

// snapshotFiles makes a snapshot in a folder.
//
// Segments must hold nothing beyond the LSN where the log is cut, so their version is taken before. Until the folder has its
// files too, no pass of retention may drop log files or value files; segments stay by the reference. The rotation itself can't
// come under retention.one: on a full disk it waits for what retention gives back.
func (db *DB) snapshotFiles(ctx context.Context, folder string) (snapshot.Info, error) {
	if err := db.log.WaitDurable(ctx, db.log.AppliedLSN()); err != nil { // what the caller has seen is to be in it
		return snapshot.Info{}, err
	}
	s := db.sorted.acquire()
	defer s.release()
	end, err := db.log.Rotate()
	if err != nil {
		return snapshot.Info{}, err
	}
	if err := db.log.WaitDurable(ctx, end.NextLSN-1); err != nil {
		return snapshot.Info{}, err
	}
	db.retention.hurry(1)
	db.retention.one.Lock()
	db.retention.hurry(-1)
	defer db.retention.one.Unlock()
	if now := db.sorted.set.Current(); now.OldestLog != s.version.OldestLog || !slices.Equal(now.Values, s.version.Values) {
		return snapshot.Info{}, errFilesWent
	}
	return snapshot.Make(ctx, snapshot.Source{FS: db.opts.FS, Dir: db.dir, Version: s.version, LogID: db.id, Timeline: db.timeline,
		Seed: db.sorted.set.HashSeed(), End: end, Now: db.opts.Clock.Wall()}, folder)
}

// snapshotTree gives a snapshot in a folder the tree over the log, as far as it has come, so that the folder proves what it has even of
// log files that are gone.
func (db *DB) snapshotTree(ctx context.Context, folder string, lsn LSN) error {
	fsys, dst := db.opts.FS, path.Join(folder, integrity.Dir)
	_, err := copyTree(fsys, db.dir, fsys, dst, integrity.CopyOptions{LogID: db.id, LSN: lsn, Link: true, Step: func([]byte) error { return ctx.Err() }})
	if errors.Is(err, ErrCorrupt) || errors.Is(err, event.ErrUnsupported) {
		db.opts.Logger.Warn("dyngo: the tree over the log is damaged, the snapshot has none; verify tells more", "err", err)
		err = removeAll(fsys, dst)
	}
	if err == nil {
		err = fsys.SyncDir(folder)
	}
	return err
}

func snapshotInfo(name, folder string, i *snapshot.Info) SnapshotInfo {
	return SnapshotInfo{Name: name, Dir: folder, LSN: i.LSN, Time: unixTime(i.Time), Created: unixTime(i.Created),
		Timeline: hex.EncodeToString(i.Timeline[:]), Files: i.Files, Bytes: i.Bytes}
}

// Snapshots lists the snapshots by name. One that is damaged is an error that names it; the others are listed.
func (db *DB) Snapshots() ([]SnapshotInfo, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	return ListSnapshots(db.dir, &db.opts)
}

// ListSnapshots lists the snapshots of the store in dir by name, as DB.Snapshots does. It takes no lock and opens nothing. Of the
// options only FS is used.
func ListSnapshots(dir string, o *Options) ([]SnapshotInfo, error) {
	fsys := o.withDefaults().FS
	names, _, err := snapshot.List(fsys, path.Join(dir, snapshot.Dir))
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var list []SnapshotInfo
	var errs []error
	for _, name := range names {
		info, err := readSnapshot(fsys, dir, name)
		switch {
		case errors.Is(err, ErrNoSnapshot): // dropped meanwhile
		case err != nil:
			errs = append(errs, err)
		default:
			list = append(list, info)
		}
	}
	return list, errors.Join(errs...)
}

func readSnapshot(fsys vfs.FS, dir, name string) (SnapshotInfo, error) {
	if err := checkSnapshotName(name); err != nil {
		return SnapshotInfo{}, err
	}
	folder := path.Join(dir, snapshot.Dir, name)
	info, ok, err := snapshot.Read(fsys, folder, path.Join(snapshot.Dir, name))
	if err == nil && !ok {
		err = fmt.Errorf("%w: %q", ErrNoSnapshot, name)
	}
	if err != nil {
		return SnapshotInfo{}, err
	}
	return snapshotInfo(name, folder, &info), nil
}

// DropSnapshot removes a snapshot, durably: what nothing else needs gives its room back. Who has its folder open may find files
// missing. ErrNoSnapshot says that there is none of this name.
func (db *DB) DropSnapshot(name string) error {
	if err := checkSnapshotName(name); err != nil {
		return err
	}
	g, err := db.enterCall()
	if err != nil {
		return err
	}
	defer g.Exit()
	db.snapshots.Lock()
	defer db.snapshots.Unlock()
	if exists, err := vfs.Exists(db.opts.FS, db.snapshotDir(name)); err != nil || !exists {
		if err == nil {
			err = fmt.Errorf("%w: %q", ErrNoSnapshot, name)
		}
		return err
	}
	if err := db.dropSnapshot(name); err != nil {
		return fmt.Errorf("drop snapshot %q: %w", name, err)
	}
	return nil
}

// dropSnapshot takes a snapshot its name, durably, then removes its files. db.snapshots is held.
func (db *DB) dropSnapshot(name string) error {
	fsys, temp := db.opts.FS, db.snapshotDir(snapshot.Temp(name))
	err := removeAll(fsys, temp)
	if err == nil {
		err = fsys.Rename(db.snapshotDir(name), temp)
	}
	if err == nil {
		err = fsys.SyncDir(path.Join(db.dir, snapshot.Dir))
	}
	if err == nil {
		err = removeAll(fsys, temp)
	}
	return err
}

// removeLeftSnapshots removes what a crash has left of snapshots that were being made or dropped.
func (db *DB) removeLeftSnapshots() error {
	dir := path.Join(db.dir, snapshot.Dir)
	_, left, err := snapshot.List(db.opts.FS, dir)
	for _, name := range left {
		err = errors.Join(err, removeAll(db.opts.FS, path.Join(dir, name)))
	}
	return err
}

// named finds the LSN of a target that is a snapshot.
func (db *DB) named(t Target) (Target, error) { return named(db.opts.FS, db.dir, t) }

func named(fsys vfs.FS, dir string, t Target) (Target, error) {
	if t.kind != targetSnapshot {
		return t, nil
	}
	if err := checkSnapshotName(t.name); err != nil {
		return t, err
	}
	info, ok, err := snapshot.Read(fsys, path.Join(dir, snapshot.Dir, t.name), path.Join(snapshot.Dir, t.name))
	if err == nil && !ok {
		err = fmt.Errorf("%w: %q", ErrNoSnapshot, t.name)
	}
	if err != nil {
		return t, err
	}
	// The store may have been set back since.
	_, line, err := readLineage(fsys, path.Join(dir, "wal"), &manifest.Version{})
	if err == nil {
		err = line.check(Token{info.LogID, info.Timeline, info.LSN})
	}
	if err != nil {
		return t, fmt.Errorf("snapshot %q: %w", t.name, err)
	}
	return Target{kind: targetLSN, lsn: info.LSN, name: t.name}, nil
}
