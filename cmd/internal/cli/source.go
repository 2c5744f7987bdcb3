package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// SourceKind is what a Source is.
type SourceKind int

// The kinds.
const (
	SourceStore  SourceKind = iota // a store, which may be in use, a copy of one or a snapshot
	SourceBackup                   // a backup of a store
	SourceLogs                     // log files alone: an archive, or one file
)

// A Source is what a command reads: a store, a backup, an archive of log files or one log file, where log files that a store has
// dropped may be read from its archive.
type Source struct {
	Kind SourceKind
	// FS shows it as the store in Dir. Log files alone look like one that has nothing else.
	FS      vfs.FS
	Dir     string
	Archive string // folder of the archive beside it, empty = none

	name  string // for people
	below vfs.FS // FS without an archive
	one   string // the only log file, empty = all
}

// AddSource declares the persistent flags of a program that reads archives and backups too.
func AddSource(root *cobra.Command) {
	f := root.PersistentFlags()
	f.String("archive", "", "`folder` to which log files were archived")
	f.String("backup", "", "`id` of a backup, of those in --dir (default the newest)")
}

// placeFlags are the flags of AddSource; ok is false for a program that reads stores only.
func placeFlags(cmd *cobra.Command) (archive, id string, ok bool) {
	f := cmd.Root().PersistentFlags()
	if f.Lookup("archive") == nil {
		return "", "", false
	}
	archive, err := f.GetString("archive")
	if err == nil {
		id, err = f.GetString("backup")
	}
	if err != nil {
		panic("dyngo: bug: " + err.Error())
	}
	return archive, id, true
}

const emptyDir = "logs" // of log files alone

// OpenSource finds what --dir, --archive and --backup name.
func OpenSource(cmd *cobra.Command) (*Source, error) {
	dir := GlobalsOf(cmd).Dir
	archive, id, ok := placeFlags(cmd)
	s := &Source{FS: vfs.OS, below: vfs.OS, Dir: filepath.ToSlash(dir), Archive: filepath.ToSlash(archive), name: dir}
	if !ok || StoreExists(dir) {
		if id != "" {
			return nil, Usage("leave --backup out", "%s is a store, not a folder of backups", dir)
		}
		return s.withArchive(cmd.Context(), CheckStore(dir))
	}
	if HasBackups(dir) {
		objects := backup.NewDir(vfs.OS, s.Dir)
		b, err := backup.Find(cmd.Context(), objects, id)
		if err != nil {
			return nil, err
		}
		s.Kind, s.FS, s.Dir, s.name = SourceBackup, backup.FS(cmd.Context(), objects, &b), ".", "backup "+b.ID
		s.below = s.FS
		return s.withArchive(cmd.Context(), nil)
	}
	layer, err := logsIn(dir)
	if layer == nil || err != nil {
		return nil, errors.Join(err, CheckStore(dir))
	}
	if archive != "" || id != "" {
		return nil, Usage("leave --archive and --backup out", "%s has log files alone: no store and no backups", dir)
	}
	s.logs(cmd.Context(), *layer)
	return s, nil
}

// logs makes s one of log files alone.
func (s *Source) logs(ctx context.Context, layer logLayer) {
	s.Kind, s.Dir = SourceLogs, emptyDir
	s.FS = newLogFS(ctx, vfs.NewMem(), path.Join(emptyDir, "wal"), layer)
	s.below = s.FS
	for name := range layer.frozen {
		s.one = name
	}
}

// withArchive shows the log files of the archive, if there is one, beside those of the store.
func (s *Source) withArchive(ctx context.Context, err error) (*Source, error) {
	if err != nil || s.Archive == "" {
		return s, err
	}
	layer, err := logsIn(s.Archive)
	if err == nil && (layer == nil || layer.frozen != nil) {
		err = Fail(ExitNotFound, "the folder that Options.Archive names", "--archive: no archived log files in %s", s.Archive)
	}
	if err != nil {
		return nil, err
	}
	s.FS = newLogFS(ctx, s.below, s.WalDir(), logLayer{fs: s.below, dir: s.WalDir()}, *layer)
	id, err := wal.ReadLogID(s.below, s.WalDir())
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	infos, err := wal.ListFiles(s.FS, s.WalDir())
	if err != nil || len(infos) == 0 {
		return s, err
	}
	head, err := wal.ReadHeader(s.FS, s.WalDir(), infos[0])
	if err == nil && id != [16]byte{} && head.LogID != id {
		err = Usage("the archive of this store", "--archive: %s is of another store, with log %x", s.Archive, head.LogID)
	}
	return s, err
}

// logsIn says where log files are: in a folder, or the one at a path. It is nil if there are none.
func logsIn(name string) (*logLayer, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		base, ok := logName(filepath.Base(name))
		if !ok {
			return nil, nil
		}
		return &logLayer{fs: vfs.OS, dir: filepath.ToSlash(filepath.Dir(name)), frozen: map[string]int64{base: math.MaxInt64}}, nil
	}
	names, err := vfs.OS.List(filepath.ToSlash(name))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(names, func(n string) bool { _, ok := logName(n); return ok }) {
		return nil, nil
	}
	return &logLayer{fs: vfs.OS, dir: filepath.ToSlash(name)}, nil
}

// HasBackups says whether a folder is one of backups.
func HasBackups(folder string) bool {
	info, err := os.Stat(filepath.Join(folder, "backups"))
	return err == nil && info.IsDir() && !StoreExists(folder)
}

// WalDir is the directory of log files in FS.
func (s *Source) WalDir() string { return path.Join(s.Dir, "wal") }

// Log is the log. What is missed at its beginning is told on stderr.
func (s *Source) Log(cmd *cobra.Command) (*LogSource, error) {
	l := &LogSource{FS: s.FS, Dir: s.WalDir(), store: s.Dir}
	why := "retention has dropped their log files"
	switch {
	case s.one != "":
		l.Only, _, _ = wal.ParseFileName(s.one)
	case s.Archive != "":
		why = "their log files are neither in the store nor in the archive"
	case s.Kind == SourceLogs:
		why = "their log files are not there"
	default:
		v, err := readVersion(s.FS, s.Dir)
		if err != nil {
			return nil, err
		}
		l.Oldest = max(v.OldestLog, 1)
	}
	l.Missed = func(first, last event.LSN) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: LSN %d to %d are gone: %s\n", cmd.Root().Name(), first, last, why)
	}
	return l, nil
}

// readVersion is what the manifest of a store says, which is empty if there is none.
func readVersion(fsys vfs.FS, dir string) (*manifest.Version, error) {
	set, err := manifest.Open(fsys, path.Join(dir, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return set.Current(), set.Close()
}

// first is the oldest log file and its header.
func (s *Source) first() (info wal.FileInfo, head wal.Header, err error) {
	infos, err := wal.ListFiles(s.FS, s.WalDir())
	if err != nil || len(infos) == 0 {
		return info, head, err
	}
	head, err = wal.ReadHeader(s.FS, s.WalDir(), infos[0])
	return infos[0], head, err
}

// whole says whether the log begins with its first file.
func (s *Source) whole() (bool, error) {
	_, head, err := s.first()
	return head.PrevSeq == 0, err
}

// Open opens it for reading, as Open of a read-only store does. Log files alone, and a log that goes on in an archive, are
// replayed into a temporary store; not if targets are given which the store itself can tell. CloseStore and then done, which is
// never nil, give everything back.
func (s *Source) Open(cmd *cobra.Command, targets ...dyngo.Target) (db *dyngo.DB, done func() error, err error) {
	o := dyngo.Options{ReadOnly: true, FS: s.below, KeyRing: OpenKeys(cmd)}
	nothing := func() error { return nil }
	if s.Kind == SourceLogs {
		return s.replayed(cmd, o)
	}
	if db, err = dyngo.Open(s.Dir, &o); err != nil {
		return nil, nothing, err
	}
	tells := len(targets) > 0
	for _, t := range targets {
		v, err := db.ViewAt(cmd.Context(), t)
		if tells = tells && err == nil; err == nil {
			v.Close() // only read from
		}
	}
	replay := false
	if !tells {
		replay, err = s.needsArchive(cmd)
	}
	if !replay && err == nil {
		tellMissing(cmd, db)
		return db, nothing, nil
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, nothing, err
	}
	return s.replayed(cmd, o)
}

// OpenAny opens for reading what --dir, --archive and --backup name, see Source.Open. end gives everything back, and reports as
// CloseStore does.
func OpenAny(cmd *cobra.Command, targets ...dyngo.Target) (db *dyngo.DB, end func(err *error), err error) {
	src, err := OpenSource(cmd)
	if err != nil {
		return nil, nil, err
	}
	db, done, err := src.Open(cmd, targets...)
	if err != nil {
		return nil, nil, err
	}
	return db, func(err *error) {
		CloseStore(db, err)
		if derr := done(); *err == nil {
			*err = derr
		}
	}, nil
}

// needsArchive says whether the archive has what the store has dropped.
func (s *Source) needsArchive(cmd *cobra.Command) (bool, error) {
	if s.Archive == "" {
		return false, nil
	}
	v, err := readVersion(s.below, s.Dir)
	if err != nil || v.OldestLog == 0 {
		return false, err
	}
	whole, err := s.whole()
	if err == nil && !whole {
		info, _, err := s.first()
		if err != nil {
			return false, err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: the archive begins with LSN %d: states before LSN %d can't be told, since nobody has what the "+
			"store held then; dump and stat read all of it\n", cmd.Root().Name(), info.FirstLSN, v.FloorLSN)
	}
	return whole, err
}
