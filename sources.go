package dyngo

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// sortedFiles is what lies on disk in key order: the manifest, the readers of its segments and the cache of their blocks.
type sortedFiles struct {
	db    *DB
	dir   string // of the segments
	set   *manifest.Set
	cache cache.Cache
	ahead *segment.AheadBudget // of scans

	// leaving is the LSN up to which events may not be in memory any more: what Open found in segments, or what has left
	// since. It rises before they leave, and before memtable.Departures does.
	leaving atomic.Uint64

	current atomic.Pointer[sources] // stored under mu; readers hold a guard of db.reads, or a reference

	mu    sync.Mutex                        // held while sources change
	files map[manifest.FileNum]*openSegment // every file that some version has; guarded by mu
	begun bool                              // the directory is there, and holds no orphans; guarded by mu

	alive   atomic.Int64 // sources that somebody holds
	closing atomic.Bool  // the last of them closes the files

	goneMu sync.Mutex         // guards gone; a leaf
	gone   []manifest.FileNum // files that no version has any more; sweep removes them
	freed  chan struct{}      // holds something when there is a new one in gone, or one was removed
}

type openSegment struct {
	*segment.Reader
	heat segmentHeat
}

// sources is what a read looks at beside memory: one version of the manifest with its readers. Immutable.
type sources struct {
	files   *sortedFiles
	version *manifest.Version
	runs    []sourceRun       // newest first: for each key, LSNs fall from run to run
	history []*segment.Reader // of version.History
	entries int64             // of all runs
	oldest  LSN               // of their events
	seed    uint64            // of the filters' hashes
	// recordTimes says that some version has a record time, so that deletes have to look.
	recordTimes bool
	refs        atomic.Int64 // one of sortedFiles.current, one of each scan or job; at zero the version is given back
}

// sourceRun is one run, in key order; its segments don't overlap.
type sourceRun struct {
	manifest.Run
	entries int64             // of all segments
	oldest  LSN               // the same
	readers []*segment.Reader // of Run.Segments
	heat    []*segmentHeat    // the same
}

// segmentHeat counts what looks into a segment. Point reads are sampled: one counts for all that it stands for.
type segmentHeat struct{ reads, scans atomic.Int64 }

// openSorted reads the manifest in the store's directory and opens the segments that it names.
func (db *DB) openSorted() error {
	f := &sortedFiles{db: db, dir: path.Join(db.dir, manifest.Dir), files: map[manifest.FileNum]*openSegment{}, freed: make(chan struct{}, 1)}
	db.sorted = f
	f.cache = cache.NewS3FIFO(cacheBytes(db.opts.MemoryBudget))
	f.ahead = segment.NewAheadBudget(cacheBytes(db.opts.MemoryBudget) / 4)
	for try := 0; ; try++ {
		set, err := manifest.Open(db.opts.FS, path.Join(db.dir, "manifest"), manifest.Options{
			ReadOnly: db.opts.ReadOnly, Obsolete: f.obsolete, Now: db.opts.Clock.Wall,
		})
		if err != nil {
			return err
		}
		f.set = set
		f.leaving.Store(uint64(set.Current().FlushedLSN))
		if err = f.check(); err == nil {
			err = f.install()
		}
		if err == nil || !db.opts.ReadOnly || try == maxOpenTries || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A writer has merged the file away since the manifest was read: read it again.
		if err := f.reset(); err != nil {
			return err
		}
	}
}

const maxOpenTries = 10

// check compares the manifest with the files that are there.
func (f *sortedFiles) check() error {
	names, err := f.db.opts.FS.List(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list %s: %w", f.dir, err)
	}
	if err := f.set.Check(names); err != nil {
		if f.db.opts.ReadOnly { // a writer may have removed the file since
			return fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
		}
		return err
	}
	return nil
}

// reset closes what a failed install has opened.
func (f *sortedFiles) reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := []error{f.set.Close()}
	for num, o := range f.files {
		errs = append(errs, o.Close())
		delete(f.files, num)
	}
	return errors.Join(errs...)
}

// install makes the manifest's current version what reads look at.
func (f *sortedFiles) install() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.set.Acquire()
	if err := f.openAll(v); err != nil {
		v.Release()
		return err
	}
	s := &sources{files: f, version: v, seed: f.seed(), oldest: event.MaxLSN}
	s.refs.Store(1)
	for _, run := range v.Runs {
		sr := sourceRun{Run: run, oldest: event.MaxLSN}
		for _, seg := range run.Segments {
			o := f.files[seg.Num]
			sr.readers, sr.heat = append(sr.readers, o.Reader), append(sr.heat, &o.heat)
			s.recordTimes = s.recordTimes || seg.RecordTimes > 0
			sr.entries += seg.Entries
			sr.oldest = min(sr.oldest, seg.MinLSN)
		}
		s.runs = append(s.runs, sr)
		s.entries += sr.entries
		s.oldest = min(s.oldest, sr.oldest)
	}
	for _, seg := range v.History {
		s.history = append(s.history, f.files[seg.Num].Reader)
	}
	f.alive.Add(1)
	old := f.current.Swap(s)
	if old != nil {
		f.db.reads.Retire(old.release) // reads without a reference hold a guard
	}
	return nil
}

// openers is how many segments are opened at a time: each waits for the device, in a store that was not open lately.
const openers = 16

// openAll opens the files of a version that are not open yet. f.mu is held.
func (f *sortedFiles) openAll(v *manifest.Version) error {
	var missing []*manifest.Segment
	note := func(seg *manifest.Segment) {
		if f.files[seg.Num] == nil {
			missing = append(missing, seg)
		}
	}
	for seg := range v.All() {
		note(seg)
	}
	for _, seg := range v.History {
		note(seg)
	}
	opened, errs := make([]*openSegment, len(missing)), make([]error, len(missing))
	var next atomic.Int64
	open := func() {
		for i := next.Add(1) - 1; i < int64(len(missing)); i = next.Add(1) - 1 {
			if opened[i], errs[i] = f.open(missing[i]); errs[i] != nil {
				next.Store(int64(len(missing))) // one error is enough
			}
		}
	}
	var wg sync.WaitGroup
	for range min(openers, len(missing)) - 1 {
		wg.Go(open)
	}
	open()
	wg.Wait()
	var failed error
	for i, seg := range missing {
		if opened[i] != nil {
			f.files[seg.Num] = opened[i]
		} else if failed == nil {
			failed = errs[i]
		}
	}
	return failed
}

// open opens the file of a segment.
func (f *sortedFiles) open(seg *manifest.Segment) (*openSegment, error) {
	name := segmentDisplayName(seg.Num)
	r, err := segment.Open(f.db.opts.FS, path.Join(f.dir, manifest.SegmentName(seg.Num)), segment.ReaderOptions{
		Cache: f.cache, Ahead: f.ahead, Num: uint64(seg.Num), HashSeed: f.seed(), DisplayName: name,
	})
	if errors.Is(err, fs.ErrNotExist) && !f.db.opts.ReadOnly {
		return nil, &corruption.Error{File: name, What: "the file is missing, the manifest names it", Err: err}
	}
	if err != nil {
		return nil, err
	}
	if p := r.Properties(); p.SHA256 != seg.SHA256 || p.SizeBytes != seg.SizeBytes {
		r.Close()
		return nil, &corruption.Error{File: name, What: "another file than the manifest names: size or hash differ"}
	}
	return &openSegment{Reader: r}, nil
}

// segmentDisplayName is the file's name relative to the store's directory, for messages.
func segmentDisplayName(n manifest.FileNum) string {
	return manifest.Dir + "/" + manifest.SegmentName(n)
}

// acquire returns the current sources with a reference, which the caller gives back by release.
func (f *sortedFiles) acquire() *sources {
	g := f.db.reads.Enter() // the current sources' own reference goes only after guards have been given back
	defer g.Exit()
	s := f.current.Load()
	s.refs.Add(1)
	return s
}

func (s *sources) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.version.Release()
	if s.files.alive.Add(-1) == 0 && s.files.closing.Load() {
		s.files.finish()
	}
}

// empty says that there are no segments, as in a store that fits into memory.
func (s *sources) empty() bool { return len(s.runs) == 0 }

// get finds the newest version of a key with an LSN ≤ max. e aliases b, which the caller releases. At most one device read
// for each part of a segment that is not cached.
func (s *sources) get(ds event.DatasetID, key []byte, max LSN, e *segment.Entry) (b *cache.Block, ok bool, err error) {
	return s.getLeft(ds, key, max, event.MaxLSN, 0, nil, e)
}

// getLeft is get for who has missed the key in memory, which has everything above left: runs that only have that are passed
// over. What it looks into counts as read so many times. look, if not nil, is asked before a block is read; if it has the version, that is
// not in e.
func (s *sources) getLeft(ds event.DatasetID, key []byte, max, left LSN, counts int64, look func() bool, e *segment.Entry) (b *cache.Block, ok bool, err error) {
	hash := segment.Hash(s.seed, ds, key)
	for i := range s.runs {
		r := &s.runs[i]
		if r.oldest > left {
			continue
		}
		n := r.firstFrom(ds, key)
		if n == len(r.Segments) || !r.holds(n, ds, key) || r.Segments[n].MinLSN > max {
			continue
		}
		if counts > 0 {
			r.heat[n].reads.Add(counts)
		}
		if look != nil {
			if has, err := r.readers[n].MayHave(ds, key, hash); err != nil || !has {
				if err != nil {
					return nil, false, err
				}
				continue
			}
			if look() {
				return nil, true, nil
			}
			look = nil
		}
		if b, ok, err = r.readers[n].Get(ds, key, hash, max, e); ok || err != nil {
			return b, ok, err
		}
	}
	return nil, false, nil
}

// getPast finds a key's newest version up to max, and whether there may be a newer one; where the filters of segments that have only
// newer events can tell, no data block is read for that.
func (s *sources) getPast(ds event.DatasetID, key []byte, max LSN, e *segment.Entry) (b *cache.Block, ok, newer bool, err error) {
	hash := segment.Hash(s.seed, ds, key)
	for i := range s.runs {
		r := &s.runs[i]
		n := r.firstFrom(ds, key)
		if n == len(r.Segments) || !r.holds(n, ds, key) {
			continue
		}
		if r.Segments[n].MinLSN > max {
			if !newer {
				newer, err = r.readers[n].MayHave(ds, key, hash)
			}
		} else {
			if !newer && r.Segments[n].MaxLSN > max {
				if b, ok, err = r.readers[n].Get(ds, key, hash, event.MaxLSN, e); ok && e.LSN > max {
					newer = true
					b.Release()
					b, ok = nil, false
				}
			}
			if err == nil && !ok {
				b, ok, err = r.readers[n].Get(ds, key, hash, max, e)
			}
		}
		if ok || err != nil {
			return b, ok, newer, err
		}
	}
	return nil, false, newer, nil
}

// readerOf is what a merge reads a segment with. The caller holds the sources meanwhile.
func (s *sources) readerOf(seg *manifest.Segment) (*segment.Reader, func(), error) {
	for i := range s.runs {
		for j := range s.runs[i].Segments {
			if s.runs[i].Segments[j].Num == seg.Num {
				return s.runs[i].readers[j], func() {}, nil
			}
		}
	}
	panic("dyngo: bug: segment " + seg.Num.String() + " is not part of the version that it was picked from")
}

// firstFrom is the index of the first segment that reaches to a key or beyond. Segments without keys come last.
func (r *sourceRun) firstFrom(ds event.DatasetID, key []byte) int {
	return sort.Search(len(r.Segments), func(i int) bool {
		s := r.Segments[i]
		return s.Entries == 0 || compareKey(&s.Largest, ds, key) >= 0
	})
}

// lastBefore is the index of the last segment that begins before a key, -1 = none.
func (r *sourceRun) lastBefore(ds event.DatasetID, key []byte) int {
	return sort.Search(len(r.Segments), func(i int) bool {
		s := r.Segments[i]
		return s.Entries == 0 || compareKey(&s.Smallest, ds, key) >= 0
	}) - 1
}

// holds says whether a key lies between the first and the last one of segment n, which reaches to it.
func (r *sourceRun) holds(n int, ds event.DatasetID, key []byte) bool {
	s := r.Segments[n]
	return s.Entries > 0 && compareKey(&s.Smallest, ds, key) <= 0
}

func compareKey(k *manifest.Key, ds event.DatasetID, key []byte) int {
	if k.Dataset != ds {
		return cmp.Compare(k.Dataset, ds)
	}
	return bytes.Compare(k.Key, key)
}

// rangeDeletes are those of all segments.
func (s *sources) rangeDeletes() []segment.RangeDelete {
	var all []segment.RangeDelete
	for i := range s.runs {
		for j, seg := range s.runs[i].Segments {
			if seg.RangeDeletes > 0 {
				all = append(all, s.runs[i].readers[j].RangeDeletes()...)
			}
		}
	}
	return all
}

// recordTime is the record time of a key's newest version in the segments.
func (f *sortedFiles) recordTime(ds event.DatasetID, key []byte) (int64, bool, error) {
	s := f.acquire()
	defer s.release()
	var e segment.Entry
	b, ok, err := s.get(ds, key, event.MaxLSN, &e)
	if !ok || err != nil {
		return 0, false, err
	}
	defer b.Release()
	t, ok := event.RecordTime(e.Parts)
	return t, ok, nil
}

// seed is what hashes in filters begin with.
func (f *sortedFiles) seed() uint64 {
	seed := f.set.HashSeed()
	return binary.LittleEndian.Uint64(seed[:])
}

// apply makes an edit durable and installs the version that it leads to.
func (f *sortedFiles) apply(e *manifest.Edit) error {
	if err := f.set.Apply(e); err != nil {
		return err
	}
	return f.install()
}

// begin makes manifest and directory ready for the first new file: what no version names is removed.
func (f *sortedFiles) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		return nil
	}
	fsys := f.db.opts.FS
	logID, err := f.db.logID()
	if err != nil {
		return err
	}
	if err := fsys.MkdirAll(f.dir); err != nil {
		return fmt.Errorf("create %s: %w", f.dir, err)
	}
	if err := f.set.Start(logID); err != nil { // it syncs the directory of both
		return err
	}
	names, err := fsys.List(f.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", f.dir, err)
	}
	orphans, err := f.set.Orphans(names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".seg.due") { // what a writer was sorting
			orphans = append(orphans, name)
		}
	}
	for _, name := range orphans {
		if err := fsys.Remove(path.Join(f.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s, which no version names: %w", name, err)
		}
	}
	f.begun = true
	return nil
}

// obsolete is told of each file that no version has any more.
func (f *sortedFiles) obsolete(num manifest.FileNum) {
	f.goneMu.Lock()
	defer f.goneMu.Unlock()
	f.gone = append(f.gone, num)
	f.tellFreed()
}

func (f *sortedFiles) tellFreed() {
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// sweep closes and removes files that no version has. A file that can't be removed is an orphan for the next Open.
func (f *sortedFiles) sweep() {
	f.goneMu.Lock()
	gone := f.gone
	f.gone = nil
	f.goneMu.Unlock()
	for _, num := range gone {
		f.mu.Lock()
		o := f.files[num]
		delete(f.files, num)
		f.mu.Unlock()
		if o != nil {
			o.Close() // only read from: nothing can be lost
		}
		if err := f.db.opts.FS.Remove(path.Join(f.dir, manifest.SegmentName(num))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.db.opts.Logger.Warn("dyngo: a segment that is no longer needed can't be removed", "file", manifest.SegmentName(num), "err", err)
		}
		f.tellFreed()
	}
}

// measure fills in the figures of segments. The caller holds a guard of db.reads.
func (f *sortedFiles) measure(m *Metrics) {
	s := f.current.Load()
	m.FlushedLSN, m.FloorLSN, m.Runs = s.version.FlushedLSN, s.version.FloorLSN, len(s.runs)
	for i := range s.runs {
		for j, seg := range s.runs[i].Segments {
			m.Segments++
			m.SegmentBytes += seg.SizeBytes
			m.ReaderBytes += s.runs[i].readers[j].MemoryBytes()
		}
	}
	for i, seg := range s.version.History {
		m.HistorySegments++
		m.HistoryBytes += seg.SizeBytes
		m.ReaderBytes += s.history[i].MemoryBytes()
	}
	c := f.cache.Metrics()
	m.CacheBytes, m.CacheHits, m.CacheMisses = c.Bytes, c.Hits, c.Misses
}

// close lets go of the files. A scan that is still going on, which finds the store closed with its next step, has them a
// moment longer; then it closes them.
func (f *sortedFiles) close() error {
	s := f.current.Load()
	if s == nil { // Open failed early
		if f.set == nil {
			return nil
		}
		return f.reset()
	}
	f.closing.Store(true)
	s.release()
	return nil
}

// finish closes everything, once. Files are only read from and the manifest's edits are durable: no error loses anything.
func (f *sortedFiles) finish() {
	if !f.closing.CompareAndSwap(true, false) {
		return
	}
	f.sweep()
	f.mu.Lock()
	defer f.mu.Unlock()
	for num, o := range f.files {
		o.Close()
		delete(f.files, num)
	}
	f.set.Close()
	f.cache.Close()
}
