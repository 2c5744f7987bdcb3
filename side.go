package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// sideFiles are the side files of sealed log files: those that are missing are built in the background, some are kept open.
type sideFiles struct {
	db   *DB
	dir  string
	wake chan struct{}

	memory int // of a build, in bytes

	one sync.Mutex // one look at a time

	mu      sync.Mutex // guards the fields below; held while a file is opened, not while it is read
	sizes   map[uint64]int64
	listed  bool
	open    map[uint64]*sideFile
	without map[uint64]bool    // log files that get none
	inMem   map[*sideFile]bool // overlays, see past
	serial  uint64             // of the files opened, for the cache
	done    bool
}

// sideFile is an open side file. It is closed when it is dropped from the map and nobody reads it.
type sideFile struct {
	*segment.Reader
	*sideProps
	seed    uint64
	used    uint64
	readers int
	dropped bool
}

// maxOpenSides bounds the side files that are kept open.
const maxOpenSides = 64

func newSideFiles(db *DB) *sideFiles {
	return &sideFiles{db: db, dir: path.Join(db.dir, sideDir), wake: make(chan struct{}, 1), memory: sideMemory(&db.opts),
		sizes: map[uint64]int64{}, open: map[uint64]*sideFile{}, without: map[uint64]bool{}, inMem: map[*sideFile]bool{}}
}

func (s *sideFiles) name(seq uint64) string { return path.Join(s.dir, fmt.Sprintf("%010d.side", seq)) }

// sideDir is the name of the directory of side files within that of the store.
const sideDir = "side"

// isMissing says that a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// nudge has run look for work. It does not block.
func (s *sideFiles) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sideEvery is how often work is looked for when no log file was sealed.
const sideEvery = 10 * time.Second

// run ends with db.ctx. It begins with waiting: a process that opens the store for a moment builds nothing.
func (s *sideFiles) run() {
	timer := s.db.opts.Clock.NewTimer(sideEvery)
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
		case <-timer.C():
		case <-s.db.ctx.Done():
			return
		}
		if err := s.look(s.db.ctx); err != nil && s.db.ctx.Err() == nil {
			s.db.tell(func() {
				s.db.opts.Logger.Warn("dyngo: a side file can't be built; histories read the log file instead", "err", err)
			})
		}
		timer.Reset(sideEvery)
	}
}

// BuildSideFiles builds the side files that sealed log files lack, which is done in the background else, and returns when they are
// there: History, ViewAt and Diff then read of these log files only what they are about, and keep nothing of them in memory. For a
// log that was put there as a whole. ErrReadOnly for a read-only store.
func (db *DB) BuildSideFiles(ctx context.Context) error {
	call := db.calls.Enter() // Close waits
	defer call.Exit()
	switch {
	case db.closed.Load():
		return ErrClosed
	case db.opts.ReadOnly:
		return ErrReadOnly
	}
	return db.side.look(ctx)
}

// look builds the side files that are missing, and removes what a crash left.
func (s *sideFiles) look(ctx context.Context) error {
	s.one.Lock()
	defer s.one.Unlock()
	files, err := wal.ListFiles(s.db.opts.FS, s.db.walDir())
	if err != nil || len(files) == 0 {
		return err
	}
	if err := s.list(); err != nil {
		return err
	}
	s.dropBelow(files[0].Seq)
	for _, file := range files[:len(files)-1] {
		if s.has(file.Seq) {
			continue
		}
		if err := s.build(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

func (s *sideFiles) has(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sizes[seq] > 0 || s.without[seq]
}

// build makes one side file. It is not synced: a torn one is found out when it is read.
func (s *sideFiles) build(ctx context.Context, file wal.FileInfo) error {
	fsys := s.db.opts.FS
	if err := fsys.MkdirAll(s.dir); err != nil {
		return err
	}
	temp := s.name(file.Seq) + ".tmp"
	props, err := s.db.buildSide(ctx, file, temp)
	if err == nil {
		err = fsys.Rename(temp, s.name(file.Seq))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, errTooWide):
		s.without[file.Seq] = true
	case err != nil:
		return fmt.Errorf("side file of log file %d: %w", file.Seq, err)
	default:
		s.sizes[file.Seq] = props.SizeBytes
	}
	return nil
}

// list takes stock once, and removes what a crash left unless the store is read-only.
func (s *sideFiles) list() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listed {
		return nil
	}
	names, err := s.db.opts.FS.List(s.dir)
	if err != nil && !isMissing(err) {
		return err
	}
	for _, name := range names {
		full := path.Join(s.dir, name)
		seq, err := strconv.ParseUint(strings.TrimSuffix(name, ".side"), 10, 64)
		if err != nil || path.Base(s.name(seq)) != name {
			if !s.db.opts.ReadOnly {
				_ = s.db.opts.FS.Remove(full) // the next process tries again
			}
			continue
		}
		if info, err := s.db.opts.FS.Stat(full); err == nil {
			s.sizes[seq] = info.Size
		}
	}
	s.listed = true
	return nil
}

// dropBelow removes the side files of log files with a lower sequence, which are gone.
func (s *sideFiles) dropBelow(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := range s.sizes {
		if old < seq {
			s.remove(old)
		}
	}
}

// discard has a side file built anew that is of no use.
func (s *sideFiles) discard(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(seq)
	s.nudge()
}

// remove gives a side file up; mu is held.
func (s *sideFiles) remove(seq uint64) {
	s.drop(seq)
	if s.db.opts.ReadOnly {
		return
	}
	if err := s.db.opts.FS.Remove(s.name(seq)); err == nil || isMissing(err) {
		delete(s.sizes, seq)
	}
}

// drop forgets an open side file; mu is held.
func (s *sideFiles) drop(seq uint64) {
	f := s.open[seq]
	if f == nil {
		return
	}
	delete(s.open, seq)
	f.dropped = true
	if f.readers == 0 {
		_ = f.Close() // only read from: nothing can be lost
	}
}

// get returns the side file of a log file, nil if there is none that fits. next is the log file after it. put gives it
// back.
func (s *sideFiles) get(file, next wal.FileInfo) *sideFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	s.serial++
	f := s.open[file.Seq]
	if f == nil {
		var err error
		if f, err = s.load(file, next); err != nil {
			if !isMissing(err) {
				s.remove(file.Seq)
				s.nudge()
			}
			return nil
		}
		if len(s.open) >= maxOpenSides {
			oldest, used := uint64(0), s.serial
			for seq, o := range s.open {
				if o.used < used {
					oldest, used = seq, o.used
				}
			}
			s.drop(oldest)
		}
		s.open[file.Seq] = f
	}
	f.used = s.serial
	f.readers++
	return f
}

func (s *sideFiles) put(f *sideFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.readers--; f.readers == 0 && f.dropped {
		_ = f.Close() // only read from: nothing can be lost
	}
}

// again gives a side file that somebody holds to one more reader.
func (s *sideFiles) again(f *sideFile) *sideFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.readers++
	return f
}

// openOverlay opens what takes the place of a side file, in a file system of its own. dropOverlay gives it up.
func (s *sideFiles) openOverlay(fsys vfs.FS, name string) (*sideFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil, ErrClosed
	}
	s.serial++
	seed := s.db.sorted.seed()
	r, err := segment.Open(fsys, name, segment.ReaderOptions{Cache: s.db.sorted.cache, Num: 1<<63 | s.serial, HashSeed: seed,
		DisplayName: name})
	if err != nil {
		return nil, err
	}
	props, err := parseSideProps(r.Properties().Unknown)
	if err != nil {
		_ = r.Close() // only read from: nothing can be lost
		return nil, err
	}
	f := &sideFile{Reader: r, sideProps: props, seed: seed}
	s.inMem[f] = true
	return f, nil
}

// dropOverlay closes an overlay once nobody reads it; nil is none.
func (s *sideFiles) dropOverlay(f *sideFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil || !s.inMem[f] {
		return
	}
	delete(s.inMem, f)
	f.dropped = true
	if f.readers == 0 {
		_ = f.Close() // only read from: nothing can be lost
	}
}

// load opens a side file and holds it against the log file that it should belong to; mu is held.
func (s *sideFiles) load(file, next wal.FileInfo) (*sideFile, error) {
	seed := s.db.sorted.seed()
	r, err := segment.Open(s.db.opts.FS, s.name(file.Seq), segment.ReaderOptions{Cache: s.db.sorted.cache,
		Num: 1<<63 | s.serial, HashSeed: seed, DisplayName: path.Join(sideDir, path.Base(s.name(file.Seq)))})
	if err != nil {
		return nil, err
	}
	props, err := parseSideProps(r.Properties().Unknown)
	if err == nil {
		var head wal.Header
		head, err = wal.ReadHeader(s.db.opts.FS, s.db.walDir(), next)
		want := origin{logID: head.LogID, seq: head.PrevSeq, end: head.PrevEnd, chain: head.PrevChain}
		if err == nil && (props.origin != want || want.seq != file.Seq) {
			err = errSideProps
		}
	}
	if err != nil {
		_ = r.Close() // only read from: nothing can be lost
		return nil, err
	}
	return &sideFile{Reader: r, sideProps: props, seed: seed}, nil
}

// measure returns how many side files there are and how large they are.
func (s *sideFiles) measure() (n int, bytes int64) {
	_ = s.list() // what can't be listed is not counted
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, size := range s.sizes {
		bytes += size
	}
	return len(s.sizes), bytes
}

// close closes the files. Reads in progress must have ended.
func (s *sideFiles) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	for seq := range s.open {
		s.drop(seq)
	}
	for f := range s.inMem {
		delete(s.inMem, f)
		if f.dropped = true; f.readers == 0 {
			_ = f.Close() // only read from: nothing can be lost
		}
	}
}
