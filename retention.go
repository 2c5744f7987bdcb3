package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// retention drops log files that Options.Retention no longer wants, oldest first. It works when a file was sealed, and from
// time to time for the age of events.
//
// A file goes in these steps; a crash behind one leaves the store as it was, or with a floor that is one file higher.
//
//  1. What the file's events say is in segments: the flusher is asked for it.
//  2. Nothing reads from it any more but through references in segments: no value in it is referred to by memory or by an
//     event that is not yet in a segment, nothing in it is ahead of its commit, nobody holds it.
//  3. The file is copied to the archive, if there is one (archive.go).
//  4. What was current at the new floor and was overwritten since is written to history segments (floor.go).
//  5. The pieces of large values that segments refer to are written to value files (move.go), durably as in 3 and 4.
//  6. One edit of the manifest raises the floor and the oldest log file and adds these files. From here on recovery does not
//     look for the log file.
//  7. Reads of values that had begun end.
//  8. The file is removed, and the directory synced. What a crash leaves of it is removed when the log is next started.
type retention struct {
	db   *DB
	wake chan struct{}

	one   sync.Mutex                            // one pass at a time; guards the fields below
	heads map[uint64]wal.Header                 // of log files, by sequence
	refs  map[manifest.FileNum]map[uint64]int64 // what a segment's large values take in each log file; of segments that were read
	stale []*manifest.ValueFile                 // no version has them; they go when nobody reads from them
	low   bool                                  // DiskLow was told
	most  int                                   // log files that the next pass drops

	next    atomic.Uint64                  // where the floor is about to be, 0 = where it is
	catalog atomic.Pointer[catalogAtFloor] // nil = there is no floor

	disk diskUse

	mu      sync.Mutex // guards the fields below; it may be held while the pacer's and the throttle's are taken
	waiting int
	grown   int64 // bytes of log files that were sealed since the last pass began that did what it could

	files, bytes, newest atomic.Int64 // of the log: sealed files, their bytes, those of the newest
}

func newRetention(db *DB) *retention {
	return &retention{db: db, wake: make(chan struct{}, 1), heads: map[uint64]wal.Header{}, refs: map[manifest.FileNum]map[uint64]int64{},
		most: firstFiles}
}

// retentionEvery is how often the age of events and the space on disk are looked at.
const retentionEvery = time.Minute

func (o Retention) bounded() bool { return o.Age > 0 || o.Bytes > 0 }

// nudge has run look at the log. It does not block.
func (r *retention) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// open looks at the log when the store is opened.
func (r *retention) open() error {
	if o := &r.db.opts; !o.ReadOnly && !o.InMemory && !o.Retention.bounded() {
		o.Logger.Warn("dyngo: the log is kept for ever and grows with every write; Options.Retention bounds it")
	}
	if r.db.opts.ReadOnly {
		r.db.files.Renew = r.renew
	}
	v := r.db.sorted.set.Current()
	r.db.files.Drop(v.OldestLog)
	r.db.files.Move(r.valueInfos(v.Values))
	if !r.db.opts.ReadOnly {
		r.diskLow()
	}
	if v.FloorLSN > 0 {
		r.catalog.Store(r.readCatalog(v.FloorLSN, v.OldestLog))
	}
	_, err := r.list()
	return err
}

// renew learns from the manifest what the process that writes has moved since this read-only store was opened.
func (r *retention) renew() bool {
	set, err := manifest.Open(r.db.opts.FS, path.Join(r.db.dir, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return false // the read fails as it did
	}
	defer set.Close() // only read from
	v := set.Current()
	r.db.files.Move(r.valueInfos(v.Values))
	r.db.files.Drop(v.OldestLog)
	return v.Edits > r.db.sorted.set.Current().Edits
}

// run ends with db.ctx.
func (r *retention) run() {
	timer := r.db.opts.Clock.NewTimer(retentionEvery)
	defer timer.Stop()
	for {
		select {
		case <-r.wake:
		case <-timer.C():
		case <-r.db.ctx.Done():
			return
		}
		if err := r.look(); err != nil && r.db.ctx.Err() == nil {
			r.failed(err)
		}
		timer.Reset(retentionEvery)
	}
}

func (r *retention) failed(err error) {
	r.db.count.retentionErrors.Add(1)
	r.db.tell(func() {
		r.db.opts.Logger.Error("dyngo: log files could not be dropped; the log grows until they can", "err", err)
	})
}

// look is what run does each time.
func (r *retention) look() error {
	r.diskLow()
	if !r.db.opts.Retention.bounded() || !r.db.wanted.Load() || r.db.log.Err() != nil {
		_, err := r.list()
		return err
	}
	_, more, err := r.pass(r.db.ctx, false)
	if more {
		r.nudge()
	}
	return err
}

// needs is how many bytes of the disk a pass may take before it gives some back: for what it writes of a log file, and for the
// events that no segment has.
func (r *retention) needs() int64 {
	o := &r.db.opts
	if o.Retention.Bytes == 0 || r.bytes.Load()+r.newest.Load() < o.Retention.Bytes {
		return 0
	}
	return 3*o.LogFileBytes + r.db.flusher.sealed.Load() + r.db.log.HotBytes()
}

// list returns the log files that the store needs, oldest first.
func (r *retention) list() ([]wal.FileInfo, error) {
	files, err := wal.ListFiles(r.db.opts.FS, r.db.walDir())
	if err != nil {
		return nil, err
	}
	oldest := r.db.sorted.set.Current().OldestLog
	files = slices.DeleteFunc(files, func(f wal.FileInfo) bool { return f.Seq < oldest })
	bytes, newest := int64(0), int64(0)
	for _, f := range files {
		bytes, newest = bytes+newest, f.Size
	}
	r.files.Store(int64(len(files)))
	r.bytes.Store(bytes)
	r.newest.Store(newest)
	return files, nil
}

// measure fills in the figures of the log.
func (r *retention) measure(m *Metrics) {
	m.LogFiles, m.LogBytes = int(r.files.Load()), r.bytes.Load()
	if m.Log.File > 0 {
		m.LogFiles, m.LogBytes = max(m.LogFiles, 1), m.LogBytes+m.Log.FileEnd
	} else {
		m.LogBytes += r.newest.Load()
	}
	m.FilesDropped, m.RetentionErrors = r.db.count.filesDropped.Load(), r.db.count.retentionErrors.Load()
	m.FilesArchived = r.db.count.filesArchived.Load()
	v := r.db.sorted.current.Load().version
	m.ValueFiles, m.ValueBytes = len(v.Values), valueBytes(v)
	live := int64(0)
	for s := range v.All() {
		live += s.RawBytes + s.RefBytes
	}
	if live > 0 {
		m.BytesPerLiveByte = float64(m.LogBytes+m.ValueBytes+m.SegmentBytes+m.HistoryBytes) / float64(live)
	}
}

// due says of each file but the newest why retention wants it gone, "" = it does not. Files that are due come first.
func (r *retention) due(files []wal.FileInfo) ([]string, error) {
	o := r.db.opts.Retention
	why := make([]string, len(files))
	after := int64(0)
	for i := len(files) - 1; i >= 0; i-- {
		if i+1 < len(files) {
			after += files[i+1].Size
			if o.Bytes > 0 && after >= o.Bytes {
				why[i] = fmt.Sprintf("the log files after it take %d bytes, %d bytes are wanted", after, o.Bytes)
				continue
			}
			if o.Age > 0 {
				next, err := r.head(files[i+1])
				if err != nil {
					return nil, err
				}
				if age := time.Duration(r.db.now() - next.FirstTime); age > o.Age {
					why[i] = fmt.Sprintf("its events are older than %v", o.Age)
				}
			}
		}
	}
	for i := len(why) - 2; i >= 0; i-- { // in order: what lies before a file that goes goes
		if why[i] == "" {
			why[i] = why[i+1]
		}
	}
	return why, nil
}

// head returns the header of a file. r.one is held.
func (r *retention) head(f wal.FileInfo) (wal.Header, error) {
	if h, ok := r.heads[f.Seq]; ok {
		return h, nil
	}
	h, err := wal.ReadHeader(r.db.opts.FS, r.db.walDir(), f)
	if err == nil {
		r.heads[f.Seq] = h
	}
	return h, err
}

// firstFiles is how many log files the first pass of a process drops at most, each later one twice as many as the one before. So
// what a crash takes back is in proportion to how long the process has lived: else one that does not live long would begin anew
// each time, with more, and never end. Passes of one file each would write again and again what only the floors between them need.
const firstFiles = 8

// pass finds out what stays and why, and drops the rest unless dry, or as much as a pass does: then there is more.
func (r *retention) pass(ctx context.Context, dry bool) (plan GCPlan, more bool, err error) {
	r.one.Lock()
	defer r.one.Unlock()
	db := r.db
	if !dry {
		r.mu.Lock()
		seen := r.grown
		r.mu.Unlock()
		defer func() {
			switch {
			case errors.Is(err, vfs.ErrNoSpace): // it is behind, and slow writers give it time
			case more:
				r.grow(-min(seen, plan.RemoveBytes))
			default:
				r.grow(-seen)
			}
		}()
		r.removeDropped() // what was being read from
		r.removeStale()
	}
	files, err := r.list()
	if err != nil {
		return GCPlan{}, false, err
	}
	why, err := r.due(files)
	if err != nil {
		return GCPlan{}, false, err
	}
	n, limit := slices.Index(append(why, ""), ""), len(files) // files that are due
	if !dry && n > r.most {
		n, limit = r.most, r.most
	}
	// 1. Their events are written as segments; of those whose values memory reads from the log, memory lets go.
	var full error // the disk is: what needs less space goes
	if n > 0 && !dry {
		flushed, left := db.holds.needs(files[n-1].Seq)
		err := db.flusher.flushTo(max(flushed, files[n].FirstLSN-1), left)
		if err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			return GCPlan{}, false, err
		}
		full = err
	}
	// 2. The sources come before the holds: who was in flight then is either held or in these sources.
	s := db.sorted.acquire()
	defer s.release()
	if n > 0 && !dry {
		db.tree.reach(ctx)
	}
	if db.log != nil {
		db.holds.settle(s.version.FlushedLSN, LSN(db.flusher.left.Load()))
	}
	plan = r.base(s, files)
	d := dropping{sources: s, files: files, damaged: r.damaged(s), limit: limit, because: "it goes next, a few files at a time"}
	if n > 0 || dry || len(s.version.Values) > 0 {
		if err := r.refer(ctx, s); err != nil {
			return GCPlan{}, false, err
		}
	}
	r.decide(&plan, &d, why)
	if dry {
		return plan, false, r.plan(&plan, &d)
	}
	if h := r.raise(&d); h != "" {
		plan, d = r.again(&d, 0, h)
		r.decide(&plan, &d, why)
	}
	for {
		err := r.drop(ctx, &plan, &d)
		if d.n > 0 && err == nil && full != nil {
			r.nudge() // there is more space than before
		}
		if d.n == 0 && d.frugal || !errors.Is(err, vfs.ErrNoSpace) {
			if more = limit < len(files) && d.n == limit && err == nil; more {
				r.most *= 2
			}
			return plan, more, errors.Join(full, err)
		}
		if d.n > 0 { // else value files were to be written anew, which has time until there is room
			full = err
		}
		plan, d = r.again(&d, d.without, err.Error())
		d.frugal = true
		if err := r.refer(ctx, s); err != nil {
			return plan, false, err
		}
		r.decide(&plan, &d, why)
	}
}

// dropping is what a pass does.
type dropping struct {
	*sources
	damaged string         // a segment of which nothing is known, empty = there is none
	files   []wal.FileInfo // of the log
	limit   int            // at most so many of the first go:
	because string         // for this reason
	frugal  bool           // value files are not written anew
	n       int            // the first of them go
	without int            // of these, the first need less space

	added, merged []*manifest.Segment // of history
	readers       []*segment.Reader   // of added

	moves []moving // by log file
	dead  []*manifest.ValueFile
}

// again begins another plan with fewer files.
func (r *retention) again(d *dropping, limit int, because string) (GCPlan, dropping) {
	return r.base(d.sources, d.files), dropping{sources: d.sources, files: d.files, damaged: d.damaged, limit: limit, because: because}
}

// raise tells the holds that files go, and returns one that came meanwhile, "" = none did. r.one is held.
func (r *retention) raise(d *dropping) string {
	if d.n == 0 {
		return ""
	}
	r.db.holds.raise(d.files[d.n].Seq) // whoever comes back with what he has written ahead is refused from here on
	// A hold that came between is of the newest file, or comes back with an older one.
	return blocking(r.db.holds.list(), d.files[0].Seq, d.files[d.n-1].Seq)
}

// damaged names a segment whose events, and what it refers to, only the log knows; empty = there is none.
func (r *retention) damaged(s *sources) string {
	_, met, _ := r.db.compact.look()
	nums := slices.Collect(maps.Keys(met))
	for _, d := range s.version.Damaged {
		nums = append(nums, d.Segment.Num)
	}
	if len(nums) == 0 {
		return ""
	}
	return slices.Min(nums).String()
}

// sealed tells that a log file was sealed. It does not block.
func (r *retention) sealed() {
	if r.db.opts.Retention.Bytes > 0 {
		r.grow(r.db.opts.LogFileBytes)
	}
	r.nudge()
}

// grow counts bytes that no pass has looked at. The more the log grows beside a pass the less that is held back, and where it
// is held back no more, writers are slowed down: else the log would outgrow what retention allows without bound.
func (r *retention) grow(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grown += bytes
	r.pressLocked()
}

func (r *retention) pressLocked() {
	behind := r.behindLocked()
	r.db.pacer.SetUrgency(pacer.Verify, urgencyOf(min(behind, 1), r.waiting > 0))
	if behind >= 1 || r.waiting > 0 {
		r.db.pacer.SetUrgency(pacer.Flush, 1) // until the flusher sees it
	}
	r.db.throttle.retention(behind)
}

// behindLocked says how far a pass is behind the log, 1 = it must not be held back any more.
func (r *retention) behindLocked() float64 {
	return float64(r.grown) / float64(r.db.opts.Retention.Bytes/8+2*r.db.opts.LogFileBytes)
}

// hurry tells that d more callers wait for a pass: until they have it, neither it nor a flush is held back.
func (r *retention) hurry(d int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting += d
	r.pressLocked()
}

// waited says whether somebody waits for a pass, writers that are slowed down among them.
func (r *retention) waited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting > 0 || r.behindLocked() >= 1
}

// decide says of each log file what becomes of it. r.one is held.
func (r *retention) decide(plan *GCPlan, d *dropping, why []string) {
	holds, files := r.db.holds.list(), d.files
	for i := range files {
		f := &plan.Files[i]
		keep := func(format string, args ...any) { f.Reason = fmt.Sprintf(format, args...) }
		switch {
		case i+1 == len(files):
			keep("the newest log file")
		case why[i] == "" && !r.db.opts.Retention.bounded():
			keep("retention keeps everything")
		case why[i] == "":
			keep("within retention")
		case d.n < i:
			keep("log file %d before it stays", files[d.n].Seq)
		case d.n == d.limit:
			keep("%s", d.because)
		case files[i+1].FirstLSN-1 > d.version.FlushedLSN:
			keep("segments have events up to LSN %d only", d.version.FlushedLSN)
		case d.damaged != "":
			keep("segment %s is damaged: its events are only in the log", d.damaged)
		case r.db.tree.keeps(d.version.FlushedLSN) != "":
			keep("%s", r.db.tree.keeps(d.version.FlushedLSN))
		default:
			if h := blocking(holds, files[0].Seq, files[i].Seq); h != "" {
				keep("%s", h)
			} else {
				f.Remove, f.Reason = true, why[i]
				d.n++
			}
		}
	}
}

// blocking is the first hold that keeps one of some log files, "" = none does.
func blocking(holds []Hold, from, to uint64) string {
	for _, h := range holds {
		if from <= h.LogFile && h.LogFile <= to {
			return "hold of a " + h.Name + ": " + h.Reason
		}
	}
	return ""
}

// drop does what was decided. When the disk is full, nothing is done. r.one is held.
func (r *retention) drop(ctx context.Context, plan *GCPlan, d *dropping) (err error) {
	db := r.db
	edit := manifest.Edit{Reason: "retention"}
	sure := true // that the manifest does not name what was written
	defer func() {
		for _, reader := range d.readers {
			reader.Close() // only read from
		}
		if err != nil && sure {
			r.discard(&edit)
		}
	}()
	if d.n > 0 {
		if err := db.sorted.begin(); err != nil {
			return err
		}
		if err := r.archive(ctx, d); err != nil {
			return err
		}
		floor := d.files[d.n].FirstLSN - 1
		edit.FloorLSN, edit.OldestLog = &floor, d.files[d.n].Seq
		was, is := r.catalog.Load(), r.readCatalog(floor, edit.OldestLog)
		r.next.Store(uint64(floor))
		r.catalog.Store(is.with(was))
		defer func() {
			if r.next.Store(0); err != nil {
				is = is.with(was)
			}
			r.catalog.Store(is)
		}()
		if edit.AddHistory, err = r.keepHistory(ctx, d); err != nil {
			d.without = min(1, d.n-1)
			return err
		}
		for _, seg := range d.merged {
			edit.RemoveHistory = append(edit.RemoveHistory, seg.Num)
		}
	}
	if err := r.plan(plan, d); err != nil || d.n == 0 && len(d.moves)+len(d.dead) == 0 {
		return err
	}
	if err := db.sorted.begin(); err != nil { // when value files alone change
		return err
	}
	if edit.AddValues, err = r.move(ctx, d); err != nil {
		return err
	}
	for i := range d.moves {
		d.dead = append(d.dead, d.moves[i].replaces...)
	}
	for _, v := range d.dead {
		edit.RemoveValues = append(edit.RemoveValues, v.Num)
	}
	sure = false
	if err := db.sorted.apply(&edit); err != nil {
		return err
	}
	r.stale = append(r.stale, d.dead...)
	r.installValues()
	for _, f := range d.files[:d.n] {
		delete(r.heads, f.Seq)
		db.count.filesDropped.Add(1)
		if l := db.opts.Listener.FileDropped; l != nil {
			db.tell(func() { l(f.Seq, f.Size, *edit.FloorLSN) })
		}
	}
	db.reads.Synchronize() // who has found a reference, and not yet begun to read the value
	db.valueReads.Synchronize()
	db.sorted.sweep()
	r.removeDropped()
	r.removeStale()
	_, err = r.list()
	return err
}

// removeDropped removes log files that the manifest has dropped, oldest first, unless somebody still reads one. What stays
// is removed the next time. That they are gone is made durable: should the manifest be lost later, it is made anew from the files that are
// there, see relist, and a part of what was dropped would be taken for the log's beginning.
func (r *retention) removeDropped() {
	db := r.db
	oldest := db.sorted.set.Current().OldestLog
	if oldest == 0 {
		return
	}
	files, err := wal.ListFiles(db.opts.FS, db.walDir())
	if err != nil {
		r.failed(err)
		return
	}
	if len(files) > 0 && db.holds.pinned(files[0].Seq, oldest-1) {
		return
	}
	db.files.Drop(oldest)
	removed := false
	for _, f := range files {
		if f.Seq >= oldest {
			break
		}
		if err := db.opts.FS.Remove(path.Join(db.walDir(), f.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.failed(fmt.Errorf("remove a log file that was dropped: %w", err))
			return
		}
		removed = true
		db.files.Forget(f.Seq)
	}
	if removed {
		if err := db.opts.FS.SyncDir(db.walDir()); err != nil {
			r.failed(fmt.Errorf("make durable that log files are gone: %w", err))
		}
	}
}
