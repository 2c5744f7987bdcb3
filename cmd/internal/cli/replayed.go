package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// noisyReplay is from how many bytes of log on a replay is told of.
const noisyReplay = 64 << 20

// replayed opens a temporary store whose log is that of s, so that memory is bounded however long it is: segments and side files go
// to a folder that done removes. Nothing is written to the log, and time stands still at its end.
func (s *Source) replayed(cmd *cobra.Command, o dyngo.Options) (db *dyngo.DB, done func() error, err error) {
	done = func() error { return nil }
	infos, err := wal.ListFiles(s.FS, s.WalDir())
	if err != nil {
		return nil, done, err
	}
	frozen, bytes := map[string]int64{}, int64(0)
	for i, info := range infos {
		if i == len(infos)-1 { // somebody may be writing to it
			tail, err := s.tailOf(info)
			if err != nil {
				return nil, done, err
			}
			if s.Kind != SourceLogs {
				info.Size = tail.End
			}
		}
		frozen[info.Name] = info.Size
		bytes += info.Size
	}
	dir, err := os.MkdirTemp("", "dyngo-replay-")
	if err != nil {
		return nil, done, err
	}
	done = func() error { return os.RemoveAll(dir) }
	if bytes >= noisyReplay {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: replaying %s of log into a temporary store, %s\n", cmd.Root().Name(), FormatBytes(bytes), dir)
	}
	dir = filepath.ToSlash(dir)
	db, err = s.replayInto(cmd, dir, frozen, o)
	if err != nil {
		return nil, func() error { return nil }, errors.Join(err, done())
	}
	return db, done, nil
}

// tailOf is where the newest log file ends, or its sound frames do, as it is now.
func (s *Source) tailOf(info wal.FileInfo) (wal.Tail, error) {
	sc, err := wal.NewScanner(s.FS, s.WalDir(), wal.ScanOptions{ReadOnly: true, FromFile: info.Seq, Only: true})
	if err != nil {
		return wal.Tail{}, err
	}
	defer sc.Close() // only read from
	for {
		if _, err := sc.Next(); err == io.EOF {
			return sc.Tail(), nil
		} else if err != nil {
			return sc.Tail(), err
		}
	}
}

func (s *Source) replayInto(cmd *cobra.Command, dir string, frozen map[string]int64, o dyngo.Options) (*dyngo.DB, error) {
	first, head, err := s.first()
	if err != nil {
		return nil, err
	}
	if head.PrevSeq != 0 {
		floor := first.FirstLSN - 1
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: the log begins with LSN %d: what was written before is not known, and looks as if it had never "+
			"been there\n", cmd.Root().Name(), first.FirstLSN)
		if err := createManifest(vfs.OS, dir, head, floor, floor); err != nil {
			return nil, err
		}
	}
	walDir := path.Join(dir, "wal")
	if err := vfs.OS.MkdirAll(walDir); err != nil {
		return nil, err
	}
	o.ReadOnly = false
	o.FS = newLogFS(cmd.Context(), vfs.OS, walDir, logLayer{fs: s.FS, dir: s.WalDir(), frozen: frozen})
	o.Clock = pastClock{clock.NewSystem()}
	db, err := dyngo.Open(dir, &o)
	if err != nil {
		return nil, err
	}
	if err := db.BuildSideFiles(cmd.Context()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// createManifest makes the manifest of a store that has nothing but the log from a file on. Its state at floor is taken for empty,
// that at flushed for known.
func createManifest(fsys vfs.FS, dir string, first wal.Header, floor, flushed event.LSN) error {
	var seed [16]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	name := path.Join(dir, "manifest")
	if err := fsys.MkdirAll(name); err != nil {
		return err
	}
	e := &manifest.Edit{FlushedLSN: &flushed, FloorLSN: &floor, NextFile: 1, NextRun: 1}
	if first.PrevSeq != 0 {
		e.OldestLog = first.Seq
	}
	return manifest.Create(fsys, name, manifest.Options{}, first.LogID, seed, e)
}

// logsOnly shows the log in emptyDir, with the hash tree over it if the store keeps one, as a store that has nothing else: opened for
// reading, it takes no memory, and knows no state.
func (s *Source) logsOnly(ctx context.Context) (vfs.FS, error) {
	first, head, err := s.first()
	if err != nil {
		return nil, err
	}
	mem := vfs.NewMem()
	if first.Seq > 0 {
		last, err := s.lastLSN()
		if err != nil {
			return nil, err
		}
		if err := createManifest(mem, emptyDir, head, first.FirstLSN-1, last); err != nil {
			return nil, err
		}
	}
	var below vfs.FS = mem
	if s.Kind != SourceLogs {
		below = &shownFS{FS: mem, name: path.Join(emptyDir, integrity.Dir), of: s.below, dir: path.Join(s.Dir, integrity.Dir)}
	}
	return newLogFS(ctx, below, path.Join(emptyDir, "wal"), logLayer{fs: s.FS, dir: s.WalDir()}), nil
}

// lastLSN is the LSN of the newest event.
func (s *Source) lastLSN() (event.LSN, error) {
	infos, err := wal.ListFiles(s.FS, s.WalDir())
	if err != nil || len(infos) == 0 {
		return 0, err
	}
	tail, err := s.tailOf(infos[len(infos)-1])
	if errors.Is(err, dyngo.ErrCorrupt) { // it is told when the log is read
		err = nil
	}
	return tail.NextLSN - min(tail.NextLSN, 1), err
}

// shownFS shows a folder of another file system, to read.
type shownFS struct {
	vfs.FS
	name string
	of   vfs.FS
	dir  string
}

func (f *shownFS) in(name string) (vfs.FS, string) {
	if rest, ok := strings.CutPrefix(path.Clean(name), f.name); ok && (rest == "" || rest[0] == '/') {
		return f.of, f.dir + rest
	}
	return f.FS, name
}

func (f *shownFS) Open(name string) (vfs.File, error) {
	fsys, name := f.in(name)
	return fsys.Open(name)
}

func (f *shownFS) List(name string) ([]string, error) {
	fsys, name := f.in(name)
	return fsys.List(name)
}

func (f *shownFS) Stat(name string) (vfs.Info, error) {
	fsys, name := f.in(name)
	return fsys.Stat(name)
}

func (f *shownFS) ReadFile(name string, limit int64) ([]byte, error) {
	fsys, name := f.in(name)
	return fsys.ReadFile(name, limit)
}

// IndexNew opens a store whose log was put there as a whole, so that segments and side files of it are written, and closes it. It
// writes no event but those of expiries that were due when the log ended.
func IndexNew(ctx context.Context, dir string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Clock: pastClock{clock.NewSystem()}})
	if err != nil {
		return err
	}
	return errors.Join(db.BuildSideFiles(ctx), db.Close())
}

// pastClock stands still before the beginning of all logs: log time then stays where the log ends, and nothing expires that had not
// by then.
type pastClock struct{ clock.Clock }

func (pastClock) Now() int64 { return 0 }
