package manifest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Errors of a Set.
var (
	// ErrFailed is returned for every edit after a write or sync of the manifest failed, and for the edit in flight then,
	// whose outcome is unknown: the files that it adds and removes must all stay for the next owner to decide.
	ErrFailed = errors.New("manifest: the manifest failed and takes no more edits")
	// ErrReadOnly is returned for changes of a Set that was opened to read.
	ErrReadOnly = errors.New("manifest: opened read-only")
	// ErrClosed is returned once Close has begun.
	ErrClosed = errors.New("manifest: closed")
)

// newFileName is what a manifest file is called until its snapshot is durable.
const newFileName = "new.tmp"

// Options configure Open. The zero value opens for writing.
type Options struct {
	// ReadOnly is for a reader that holds no lock: a writer may be at work. Nothing is created or changed.
	ReadOnly bool

	// Obsolete is called with the number of a segment file once no version that anybody holds has it, ObsoleteValues with
	// that of a value file. Each number is told at most once, by whoever gave the last reference back, with no lock held.
	// The edit that removed the file is durable then. It should be quick; nil leaves the files to the next owner.
	Obsolete       func(FileNum)
	ObsoleteValues func(FileNum)

	// RotateBytes is the size below which a manifest file is never rotated; default 1 MiB. Above it, a file is rotated
	// when it would grow beyond four times the snapshot that it began with: reading stays in proportion to what is there,
	// and each byte is rewritten less than once on average.
	RotateBytes int64

	// Now gives the wall time to note in new files, Unix nanoseconds, for people; nil notes 0.
	Now func() int64

	random io.Reader // of salt and hash seed; default crypto/rand
}

func (o Options) withDefaults() Options {
	if o.RotateBytes == 0 {
		o.RotateBytes = 1 << 20
	}
	if o.Now == nil {
		o.Now = func() int64 { return 0 }
	}
	if o.random == nil {
		o.random = rand.Reader
	}
	return o
}

// Set is the version set: the current version, those that are still read, and the log of edits on disk.
//
// Safe for concurrent use. Readers of versions take no lock. Lock order: Set.mu, Set.lives.
type Set struct {
	fs    vfs.FS
	dir   string
	opts  Options
	found bool     // there was a manifest when the set was opened
	tail  Tail     // as it was found
	seed  [16]byte // for hashes on disk

	current  atomic.Pointer[Version] // stored under mu, loaded freely
	nextFile atomic.Uint64
	nextRun  atomic.Uint64
	begun    atomic.Bool // Start has returned nil
	numbered atomic.Bool // a file number was given out

	mu struct {
		sync.Mutex // guards the fields below; held while an edit is written and synced, never while Obsolete is called

		file          vfs.File // nil until Start
		head          header   // of the file, or of the one that was found
		end           int64    // where the next edit goes, over the mark of the last
		snapshotBytes int64    // header and snapshot of the file
		unsynced      bool     // a mark was written, or an edit cut off, since the last sync
		files         []uint64 // numbers of the files that are to be removed once there is a newer one
		err           error    // final
		closed        bool
	}

	lives lives
}

// Open reads the newest manifest in dir, a directory within the database directory. No manifest is an empty set. It
// changes nothing on disk: see Start. The error is of the file system, corruption or event.ErrUnsupported.
func Open(fsys vfs.FS, dir string, opts Options) (*Set, error) {
	s := &Set{fs: fsys, dir: dir, opts: opts.withDefaults()}
	f, nums, err := load(fsys, dir, opts.ReadOnly)
	if err != nil {
		return nil, err
	}
	v := &Version{NextFile: 1, NextRun: 1}
	if f != nil {
		s.found, s.tail, s.seed = true, f.tail, f.head.seed
		s.mu.head, s.mu.files = f.head, nums
		v = f.version
	} else if !opts.ReadOnly {
		if _, err := io.ReadFull(s.opts.random, s.seed[:]); err != nil {
			return nil, fmt.Errorf("read random bytes for the hash seed: %w", err)
		}
	}
	v.set = s
	v.refs.Store(1) // the set's own
	s.lives.init(v)
	s.current.Store(v)
	s.nextFile.Store(uint64(v.NextFile))
	s.nextRun.Store(uint64(v.NextRun))
	return s, nil
}

// SyncFound makes durable what Open has found and nothing says was: before the owner takes away files that are no more named, or
// serves what depends on it. It changes no byte. Start does the same by a new file.
func (s *Set) SyncFound() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.found || s.tail.Marked || s.begun.Load() {
		return nil
	}
	f, err := s.fs.OpenRW(path.Join(s.dir, fileName(s.mu.head.num)))
	if err != nil {
		return fmt.Errorf("open the manifest to make it durable: %w", err)
	}
	if err = vfs.WriteAgain(f, 0, s.tail.End); err == nil {
		err = f.SyncData()
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("make the manifest durable: %w", err)
	}
	return nil
}

// Create makes a manifest that holds what an edit adds, in one step and in place of whatever is in dir: of a database whose
// manifest was lost. seed is that of its hashes on disk.
func Create(fsys vfs.FS, dir string, opts Options, logID, seed [16]byte, e *Edit) error {
	nums, err := listFiles(fsys, dir)
	if err != nil {
		return err
	}
	v, err := (&Version{}).Apply(e)
	if err != nil {
		return fmt.Errorf("make a manifest anew: %w", err)
	}
	s := &Set{fs: fsys, dir: dir, opts: opts.withDefaults(), seed: seed}
	s.lives.init(v)
	s.current.Store(v)
	for _, num := range nums {
		s.mu.head.num = max(s.mu.head.num, num)
	}
	s.mu.files = nums
	return errors.Join(s.Start(logID), s.Close())
}

// Found reports whether there was a manifest when the set was opened.
func (s *Set) Found() bool { return s.found }

// Tail says how the manifest ended that was found.
func (s *Set) Tail() Tail { return s.tail }

// LogID returns the id of the log that the manifest belongs to, zero while there is no manifest.
func (s *Set) LogID() [16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.head.logID
}

// HashSeed returns the seed for hashes on disk, such as those in the filters of segments. It is drawn when the first
// manifest is made and stays with the database.
func (s *Set) HashSeed() [16]byte { return s.seed }

// Current returns the newest version, for a look at what it lists. The caller has no reference to it: files of it may
// go at any moment. See Acquire.
func (s *Set) Current() *Version { return s.current.Load() }

// Acquire returns the newest version with a reference that the caller must Release.
func (s *Set) Acquire() *Version {
	for {
		// A version whose last reference is gone was replaced before that: look again.
		if v := s.current.Load(); v.acquire() {
			return v
		}
	}
}

// NewFileNum returns the next number for a segment or value file. The set must have been started: so there is a
// manifest before there is any file, and files without one are known to have lost it.
func (s *Set) NewFileNum() FileNum {
	s.mustBeStarted("NewFileNum")
	s.numbered.Store(true)
	return FileNum(s.nextFile.Add(1) - 1)
}

// NewRunID returns the next id for a run: newer than all that exist. The set must have been started.
func (s *Set) NewRunID() RunID {
	s.mustBeStarted("NewRunID")
	return RunID(s.nextRun.Add(1) - 1)
}

func (s *Set) mustBeStarted(call string) {
	if !s.begun.Load() {
		panic("dyngo: bug: manifest: " + call + " before Start")
	}
}

// Start makes the set writable: it begins a new file with a snapshot of what was found, which makes that durable too.
// This is the first change on disk since Open. logID is the id of the log that the database belongs to; a manifest of
// another log is corruption. After an error it may be tried again unless that matches ErrFailed. A second Start does
// nothing.
func (s *Set) Start(logID [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usableLocked(); err != nil || s.begun.Load() {
		return err
	}
	h := &s.mu.head
	if s.found && h.logID != logID {
		return corruption.At(s.tail.File, 16, "the manifest belongs to log %x, not %x", h.logID, logID)
	}
	if err := h.checkWritable(); err != nil {
		return corruption.Locate(err, s.tail.File, 0)
	}
	if err := s.fs.MkdirAll(s.dir); err != nil {
		return fmt.Errorf("make the directory of the manifest: %w", err)
	}
	// Whoever made the directory may not have come to this line.
	if err := s.fs.SyncDir(path.Dir(s.dir)); err != nil {
		return s.failLocked(fmt.Errorf("make the directory of the manifest durable: %w", err))
	}
	err := s.startFileLocked(logID, s.current.Load())
	s.begun.Store(err == nil)
	return err
}

func (s *Set) usableLocked() error {
	switch {
	case s.mu.closed:
		return ErrClosed
	case s.opts.ReadOnly:
		return ErrReadOnly
	}
	return s.mu.err
}

// failLocked makes err final. What it returns never looks like a full disk, which callers wait out.
func (s *Set) failLocked(err error) error {
	if vfs.IsNoSpace(err) {
		s.mu.err = fmt.Errorf("%w: %v", ErrFailed, err)
	} else {
		s.mu.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return s.mu.err
}

// Err returns the failure that stopped the set, nil while it takes edits.
func (s *Set) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// Apply makes an edit durable and the version after it current. The files that it adds, and their directory entries,
// must be durable before; those that it removes stay until Obsolete tells of them. The edit's segments belong to the
// set from here on; the edit itself does not.
//
// An edit that breaks a rule is a bug and panics. An error that matches vfs.ErrNoSpace (see vfs.IsNoSpace) has changed
// nothing: the same edit or another may be tried at any time. Any other error of a write or sync matches ErrFailed and
// is final: see there. The set must have been started.
func (s *Set) Apply(e *Edit) error {
	before, err := s.apply(e)
	if err != nil {
		return err
	}
	before.Release()
	return nil
}

// apply does all but give back the set's reference to the version before, which may call out.
func (s *Set) apply(e *Edit) (before *Version, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usableLocked(); err != nil {
		return nil, err
	}
	s.mustBeStarted("Apply")
	edit := *e
	edit.NextFile = max(edit.NextFile, FileNum(s.nextFile.Load()))
	edit.NextRun = max(edit.NextRun, RunID(s.nextRun.Load()))
	before = s.current.Load()
	next, removed := s.mustApply(before, &edit)
	if err := s.writeLocked(&edit, next); err != nil {
		return nil, err
	}
	raise(&s.nextFile, uint64(next.NextFile))
	raise(&s.nextRun, uint64(next.NextRun))
	next.set = s
	next.refs.Store(1) // the set's own
	s.lives.install(next, &edit, removed)
	s.current.Store(next)
	return before, nil
}

// mustApply returns the version after an edit and the files that leave.
func (s *Set) mustApply(v *Version, e *Edit) (*Version, []removal) {
	b := newBuilder(v)
	removed, err := b.apply(e)
	if err != nil {
		panic(fmt.Sprintf("dyngo: bug: manifest: edit %d: %v", v.Edits+1, err))
	}
	next, _, err := b.build()
	if err != nil {
		panic(fmt.Sprintf("dyngo: bug: manifest: edit %d: %v", v.Edits+1, err))
	}
	return next, removed
}

// raise sets a counter to at least v.
func raise(counter *atomic.Uint64, v uint64) {
	for {
		old := counter.Load()
		if old >= v || counter.CompareAndSwap(old, v) {
			return
		}
	}
}

// writeLocked makes an edit durable, as a record or as part of the snapshot of a new file.
func (s *Set) writeLocked(e *Edit, next *Version) error {
	m := &s.mu
	rec := m.head.appendRecord(nil, kindEdit, next.Edits, func(b []byte) []byte { return appendEdit(b, e) }, m.end)
	if m.end+int64(len(rec)) > max(s.opts.RotateBytes, 4*m.snapshotBytes) {
		err := s.startFileLocked(m.head.logID, next)
		if err == nil || !vfs.IsNoSpace(err) {
			return err
		}
		// With the disk full, the room left in the last block of the old file lets edits go on that free space.
	}
	n, err := m.file.WriteAt(rec, m.end)
	switch {
	case vfs.IsNoSpace(err) && n < len(rec):
		// What was written is no record. It is cut off as well as can be, and the mark that it was written over put back.
		_ = m.file.Truncate(m.end)
		m.unsynced = true
		if m.end > m.snapshotBytes {
			s.markLocked(next.Edits - 1)
		}
		return fmt.Errorf("write edit %d: %w", next.Edits, err)
	case err != nil:
		return s.failLocked(fmt.Errorf("write edit %d: %w", next.Edits, err))
	}
	if err := m.file.SyncData(); err != nil {
		return s.failLocked(fmt.Errorf("sync edit %d: %w", next.Edits, err))
	}
	m.end += int64(len(rec))
	m.unsynced = false
	s.markLocked(next.Edits)
	return nil
}

// markLocked writes a mark behind an edit that was synced: once it has reached the disk, the edit can no longer be
// taken for a torn tail. That it fails costs only this. The next edit is written over the mark: behind it, it could
// reach the disk without the mark, and look as if what is between had been durable.
func (s *Set) markLocked(edits uint64) {
	m := &s.mu
	mark := m.head.appendRecord(nil, kindMark, edits, nil, m.end)
	if _, err := m.file.WriteAt(mark, m.end); err != nil {
		_ = m.file.Truncate(m.end) // the next edit is written over what is left
		return
	}
	m.unsynced = true
}

// startFileLocked begins a new file with a snapshot of v. A crash between any two steps leaves the old file or the new
// one, each whole:
//
//  1. write header and snapshot under a temporary name, and sync them
//  2. give the file its name, and sync the directory: from here on the new file counts
//  3. remove the older files
//
// Until a rename was tried the old file goes on as if nothing had happened.
func (s *Set) startFileLocked(logID [16]byte, v *Version) error {
	m := &s.mu
	h := header{logID: logID, num: m.head.num + 1, seed: s.seed, created: s.opts.Now()}
	if _, err := io.ReadFull(s.opts.random, h.salt[:]); err != nil {
		return fmt.Errorf("read random bytes for the salt: %w", err)
	}
	head := h.encode()
	body := func(b []byte) []byte { return appendEdit(b, v.Whole()) }
	b := h.appendRecord(head[:], kindSnapshot, v.Edits, body, headerSize)

	// Step 1.
	tmp, name := path.Join(s.dir, newFileName), path.Join(s.dir, fileName(h.num))
	f, err := s.createLocked(tmp, b)
	if err != nil {
		return err
	}
	// Step 2.
	if err := s.fs.Rename(tmp, name); err != nil {
		f.Close() // it was synced, and holds nothing that counts
		if vfs.IsNoSpace(err) {
			_ = s.fs.Remove(tmp) // else the next try does
			return fmt.Errorf("name the manifest file: %w", err)
		}
		return s.failLocked(fmt.Errorf("name the manifest file: %w", err))
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		f.Close()
		return s.failLocked(fmt.Errorf("name the manifest file: %w", err))
	}
	// Step 3.
	if m.file != nil {
		m.file.Close() // the new file holds all that it did
	}
	m.file, m.head, m.end, m.snapshotBytes, m.unsynced = f, h, int64(len(b)), int64(len(b)), false
	s.removeOldLocked()
	m.files = append(m.files, h.num)
	return nil
}

// createLocked writes and syncs a file, which replaces what a crash or a full disk left of its name.
func (s *Set) createLocked(name string, b []byte) (vfs.File, error) {
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the unfinished manifest file: %w", err)
	}
	f, err := s.fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create a manifest file: %w", err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		_ = s.fs.Remove(name) // gives the space back; else the next try does
		return nil, fmt.Errorf("write a manifest file: %w", err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, s.failLocked(fmt.Errorf("sync a manifest file: %w", err))
	}
	return f, nil
}

// removeOldLocked removes the files before the newest. One that stays is ignored by readers and removed at the next
// rotation or by the next owner.
func (s *Set) removeOldLocked() {
	m := &s.mu
	kept := m.files[:0]
	for _, num := range m.files {
		if err := s.fs.Remove(path.Join(s.dir, fileName(num))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			kept = append(kept, num)
		}
	}
	m.files = kept
}

// Close ends the set. Every edit is durable already; what is synced is the mark that says so. Versions that are still
// held may be looked at and released, but Obsolete is not called any more.
func (s *Set) Close() error {
	s.lives.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.mu
	if m.closed {
		return nil
	}
	m.closed = true
	if m.file == nil {
		return nil
	}
	var err error
	if m.unsynced && m.err == nil {
		err = m.file.Sync()
	}
	return errors.Join(err, m.file.Close())
}
