package dyngo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// flusher bounds the memory of recent events. It seals the newest as generations; when memory fills it writes the oldest
// generations that are durable as a segment, and lets flushed ones leave memory: from then on their keys are found in
// segments. Flushing bounds recovery and prepares leaving; a flushed generation goes on serving reads while there is room.
type flusher struct {
	db   *DB
	wake chan struct{}
	grew chan struct{} // recent events have taken memory

	hurry atomic.Int32 // callers that wait for a flush

	one    sync.Mutex   // one flush at a time; guards gens and packed
	gens   []generation // sealed and in no segment, oldest first
	packed float64      // size of the last flush as a share of its records' memory

	leaving sync.Mutex   // one departure at a time, also while a flush goes on; guards flushed
	flushed []generation // that are in memory still, oldest first

	sealed atomic.Int64  // bytes of gens
	spent  atomic.Int64  // bytes of flushed, and of what is leaving
	index  atomic.Int64  // bytes of what finds recent events, when it was last looked at
	left   atomic.Uint64 // LSN of the last event that has left memory

	tailDurable atomic.Bool // all that Open has found in the log's newest file

	pressing sync.Mutex // held by press, so that what it says last is what was so last

	mu     sync.Mutex     // guards ranges; a leaf, taken under shard locks
	ranges []pendingRange // range deletes that no segment holds, LSNs ascending
}

// generation is sealed events with the LSN of the last one.
type generation struct {
	tail.Generation
	last LSN
}

// pendingRange is a range delete on its way into a segment.
type pendingRange segment.RangeDelete

func newFlusher(db *DB) *flusher {
	return &flusher{db: db, wake: make(chan struct{}, 1), grew: make(chan struct{}, 1), packed: 0.5}
}

// The budget is shared: five eighths for recent events and their index, a quarter for blocks of segments; the rest is what flushes,
// merges and scans have in hand, and by how much writers outrun a flush.
func (f *flusher) limit() int64 {
	n := recentBytes(f.db.opts.MemoryBudget) - f.db.keeper.memory.Used()
	if r := f.db.records; r != nil {
		n -= min(r.Bytes(), minRecordBytes(f.db.opts.MemoryBudget))
	}
	return n
}
func recentBytes(budget int64) int64 { return budget * 5 / 8 }
func cacheBytes(budget int64) int64  { return budget / 4 }

// generationBytes is how much is sealed at a time.
func generationBytes(budget int64) int64 { return min(max(budget/8, 2<<20), 64<<20) }

// used is the memory of recent events and of what finds them.
func (f *flusher) used() int64 {
	index := f.db.mem.Metrics().Bytes()
	f.index.Store(index)
	return f.db.arena.Bytes() + index
}

// room is what of the limit is there for events: what finds them takes the rest.
func (f *flusher) room() int64 { return max(f.limit()-f.index.Load(), f.limit()/4) }

// nudge is called when events became durable. It must not block.
func (f *flusher) nudge() {
	f.db.throttle.diskSoon()
	f.flushSoon()
}

// flushSoon wakes the flusher when there is something to seal or to flush.
func (f *flusher) flushSoon() {
	waiting := f.press()
	if f.db.log.HotBytes() < generationBytes(f.db.opts.MemoryBudget) && (f.sealed.Load() == 0 || waiting < f.room()/2) {
		return
	}
	f.wakeUp()
}

// grown is called when recent events have taken memory. It must not block.
func (f *flusher) grown() {
	f.press()
	f.leaveSoon()
}

// leaveSoon has runLeave look whether memory is needed.
func (f *flusher) leaveSoon() {
	select {
	case f.grew <- struct{}{}:
	default:
	}
}

// runLeave takes out of memory what is flushed as soon as its memory is needed, also while a flush goes on or nothing becomes durable.
// It ends with db.ctx.
func (f *flusher) runLeave() {
	for {
		select {
		case <-f.grew:
			f.makeLeave()
			f.flushSoon()
		case <-f.db.ctx.Done():
			return
		}
	}
}

func (f *flusher) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// press says how badly room is needed, by the bytes that are in no segment yet, which it returns. A flush begins at half of the room. From
// there on it gets more and more of processor and disk, and where it gets all of them, writers are slowed down: at first not
// noticeably, when there is no more room by paceDelay. Beyond it, where only flushes that fail lead to, it is maxPace. So are those who
// outrun what is leaving memory.
func (f *flusher) press() (waiting int64) {
	f.pressing.Lock()
	defer f.pressing.Unlock()
	waiting = f.sealed.Load() + f.db.log.HotBytes()
	share := float64(waiting) / float64(f.room())
	f.db.pacer.SetUrgency(pacer.Flush, urgencyOf(max(share-1./2, 0)*8, f.hurried()))
	if f.hurried() { // since before the line above: who hurries sets the urgency himself, which may just have been undone
		f.db.pacer.SetUrgency(pacer.Flush, 1)
	}
	x := (share - 5./8) / (3. / 8)
	if over := min(f.db.arena.Bytes()+f.index.Load()-f.limit(), f.spent.Load()); over > 0 {
		f.leaveSoon()
		x = max(x, min(float64(over-tail.ChunkBytes)/float64(max(f.limit()/8, tail.ChunkBytes)), 1))
	}
	switch {
	case x <= 0:
		f.db.throttle.memory(0)
	case x > 4./3:
		f.db.throttle.memory(maxPace)
	default:
		f.db.throttle.memory(time.Duration(min(x, 1) * x * x * float64(paceDelay)))
	}
	return waiting
}

const (
	paceDelay = 10 * time.Millisecond
	maxPace   = 50 * time.Millisecond
)

// run ends with db.ctx.
func (f *flusher) run() {
	retry := f.db.opts.Clock.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-f.wake:
		case <-retry.C():
		case <-f.db.ctx.Done():
			return
		}
		err := f.makeRoom()
		if err != nil && f.db.ctx.Err() == nil { // once more at once: what fails once need not fail again
			f.failed(err)
			err = f.makeRoom()
		}
		if err != nil && f.db.ctx.Err() == nil {
			f.failed(err)
			retry.Reset(flushRetry)
		}
	}
}

// flushRetry is how long after a failed flush it is tried again.
const flushRetry = time.Second

// failed tells that a flush failed. The log has all events, so nothing is lost: memory fills, and writers are slowed down. If
// the manifest takes no more edits, memory can never be given back, so no more writes are taken either.
func (f *flusher) failed(err error) {
	if errors.Is(err, manifest.ErrFailed) {
		f.db.log.Stop(err)
	}
	f.db.count.flushErrors.Add(1)
	f.db.tell(func() {
		f.db.opts.Logger.Error("dyngo: recent events can't be written as a segment; memory fills until they can", "err", err)
		if l := f.db.opts.Listener.FlushFailed; l != nil {
			l(err)
		}
	})
}

// makeRoom keeps memory within its limit: what is flushed leaves when room is needed. Half of the room is flushed at a
// time, as one run; the other half takes what is written meanwhile.
func (f *flusher) makeRoom() error {
	f.one.Lock()
	defer f.one.Unlock()
	for {
		f.sealFull()
		f.makeLeave()
		waiting := f.press()
		if len(f.gens) == 0 || waiting < f.room()/2 && f.used() <= f.limit() {
			return nil
		}
		if err := f.flush(); err != nil {
			return err
		}
	}
}

// makeLeave takes flushed generations out of memory until it is within its limit, and a little below: writers go on meanwhile.
func (f *flusher) makeLeave() {
	f.leaving.Lock()
	defer f.leaving.Unlock()
	for {
		used := f.used() // looked at in any case: press goes by what the index takes, also while a flush is stuck
		if len(f.flushed) == 0 || used+min(f.limit()/16, tail.ChunkBytes) <= f.limit() {
			return
		}
		f.leave()
	}
}

// sealFull makes a generation of the newest events once there are enough. f.one is held.
func (f *flusher) sealFull() {
	if f.db.log.HotBytes() >= generationBytes(f.db.opts.MemoryBudget) {
		f.seal()
	}
}

func (f *flusher) seal() {
	if g, last := f.db.log.SealGeneration(); !g.IsEmpty() {
		f.add(generation{Generation: g, last: last})
	}
}

func (f *flusher) add(g generation) {
	f.gens = append(f.gens, g)
	f.sealed.Add(g.Bytes())
	f.fitRecords()
}

// leave takes the oldest generation, which is flushed, out of memory. f.leaving is held.
func (f *flusher) leave() {
	g := f.flushed[0]
	f.flushed = f.flushed[1:]
	f.db.forgetRecords(g)
	f.db.sorted.leaving.Store(uint64(g.last)) // before the first key goes: who misses it looks into segments
	f.db.mem.Leave(g.Generation)
	f.left.Store(uint64(g.last))
	f.db.reads.Synchronize() // now the memory is free, and used tells the truth
	f.spent.Add(-g.Bytes())
	f.db.count.evictions.Add(1)
	if l := f.db.opts.Listener.Evicted; l != nil {
		f.db.tell(func() { l(g.Bytes()) })
	}
}

// flush writes all sealed generations that are not in segments as those of a new run. f.one is held.
//
//  1. Wait until the last event is durable: a segment never holds what a crash takes back.
//  2. Settle which versions a read may still ask for: the newest, and the newest at each view.
//  3. Write and sync the files, then their directory.
//  4. One edit makes them part of the store, together with the LSN up to which segments now hold everything.
//
// A crash before 4 leaves files that nothing names; the events are in the log. After 4 recovery begins behind that LSN.
func (f *flusher) flush() error {
	return f.flushUpTo(f.gens[len(f.gens)-1].last)
}

// flushUpTo is flush for the generations up to the one that ends with last.
func (f *flusher) flushUpTo(last LSN) error {
	db := f.db
	if err := f.waitDurable(last); err != nil {
		return err
	}
	durable := f.floor(last)
	var gens []tail.Generation
	for _, g := range f.gens {
		if g.last <= last {
			gens = append(gens, g.Generation)
		}
	}
	began := db.opts.Clock.Mono()
	work := db.pacer.Begin(pacer.Flush)
	defer work.End()
	defer f.wakeUp() // if this fails and nobody calls again: there may be too little room
	edit, err := f.write(work, gens, last, memtable.SortedOptions{Durable: durable, Pins: db.views.hold()})
	if err != nil {
		return err
	}
	if err := db.sorted.apply(edit); err != nil {
		return err
	}
	f.leaving.Lock()
	f.flushed = append(f.flushed, f.gens[:len(gens)]...)
	f.leaving.Unlock()
	for _, g := range gens {
		f.sealed.Add(-g.Bytes())
		f.spent.Add(g.Bytes())
	}
	f.gens = f.gens[len(gens):]
	f.dropRanges(last)
	db.count.flushes.Add(1)
	bytes := int64(0)
	for _, s := range edit.Add {
		bytes += s.SizeBytes
	}
	db.count.flushedBytes.Add(bytes)
	if l := db.opts.Listener.Flushed; l != nil {
		took := time.Duration(db.opts.Clock.Mono() - began)
		db.tell(func() { l(last, bytes, took) })
	}
	if db.log != nil { // else Open flushes
		f.press()
		db.compact.flushed()
	}
	return nil
}

// waitDurable waits until lsn is. While the store is opened the log's newest file is made so, once: nobody adds to it meanwhile.
func (f *flusher) waitDurable(lsn LSN) error {
	if f.db.log != nil {
		return f.db.log.WaitDurable(f.db.ctx, lsn) // at once if it is
	}
	files, err := wal.ListFiles(f.db.opts.FS, f.db.walDir())
	if err != nil || len(files) == 0 {
		return err
	}
	newest := files[len(files)-1]
	if f.tailDurable.Load() || newest.FirstLSN > lsn {
		return nil
	}
	err = wal.SyncTail(f.db.opts.FS, f.db.walDir(), wal.Tail{File: newest.Seq, FirstLSN: newest.FirstLSN}, f.db.opts.ReadOnly)
	f.tailDurable.Store(err == nil)
	return err
}

// floor is an LSN that all reads without a view reach, those in progress included. While the store is opened nobody reads.
func (f *flusher) floor(last LSN) LSN {
	if f.db.log == nil {
		return last
	}
	return f.db.raiseFloor()
}

// write writes what a flush keeps of the generations and returns the edit that installs it.
func (f *flusher) write(work *pacer.Job, gens []tail.Generation, last LSN, o memtable.SortedOptions) (*manifest.Edit, error) {
	sorted := f.db.mem.Sorted(gens, o)
	defer sorted.Free()
	out, err := f.db.sorted.newOutput(last, int64(float64(sorted.Bytes())*f.packed))
	if err != nil {
		return nil, err
	}
	parts := sorted.Parts(f.parallel(sorted.Bytes()))
	outs, errs := []*output{out}, make([]error, len(parts))
	var wg sync.WaitGroup
	for i, records := range parts {
		if i > 0 {
			outs = append(outs, out.beside())
		}
		to, ranges := outs[i], []pendingRange(nil)
		if i == len(parts)-1 {
			ranges = f.rangesUpTo(last)
		}
		wg.Go(func() { errs[i] = f.writePart(work, records, ranges, to) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			for _, to := range outs {
				to.abort()
			}
			return nil, err
		}
	}
	for _, to := range outs[1:] {
		out.join(to)
	}
	added, err := out.finish()
	if err != nil {
		return nil, err
	}
	if size := out.size(); size > 0 && sorted.Bytes() > 0 {
		f.packed = float64(size) / float64(sorted.Bytes())
	}
	return &manifest.Edit{Add: added, FlushedLSN: &last, Reason: "flush"}, nil
}

// writePart writes records, in order, and range deletes as segments.
func (f *flusher) writePart(work *pacer.Job, records iter.Seq[tail.Record], ranges []pendingRange, out *output) error {
	var value []byte
	step := 0
	for r := range records {
		if step += r.Size(); step >= pacer.StepBytes/2 {
			if err := f.pause(work, int64(step)); err != nil {
				return err
			}
			step = 0
		}
		e := segment.Entry{
			Dataset: r.Dataset(), Key: r.Key(), LSN: r.LSN(), Time: r.Time(), Op: r.Op(), Flags: r.Flags() & event.ValueFlags,
			Session: r.Session(), Value: r.Value(), Parts: r.Parts(),
		}
		if r.Mem()&tail.MemStub != 0 { // of a batch too big for a commit frame
			var err error
			if value, err = f.fetch(value[:0], tail.ParseStub(r.Value())); err != nil {
				return err
			}
			e.Value = value
		}
		if err := out.add(&e); err != nil {
			return err
		}
	}
	for _, r := range ranges {
		if err := out.addRange(segment.RangeDelete(r)); err != nil {
			return err
		}
	}
	return out.end()
}

// flushParallel is by how many goroutines a flush is written at most.
const flushParallel = 4

// parallel is by how many goroutines so many bytes of records are written: each has half a generation at least.
func (f *flusher) parallel(bytes int64) int {
	if !f.alone() {
		return 1 // others need the processors
	}
	return int(max(min(2*bytes/generationBytes(f.db.opts.MemoryBudget), int64(runtime.GOMAXPROCS(0)), flushParallel), 1))
}

// alone says that nobody reads or writes while a flush goes on: Open or Close waits for it.
func (f *flusher) alone() bool { return f.db.log == nil || f.db.ctx.Err() != nil }

// pause lets the foreground go first, the less the nearer memory is to its limit.
func (f *flusher) pause(work *pacer.Job, bytes int64) error {
	if f.db.log == nil { // Open waits for it
		return f.db.ctx.Err()
	}
	if f.db.ctx.Err() != nil { // Close waits for it
		return nil
	}
	f.sealFull()
	f.makeLeave()
	f.press()
	return work.Wait(f.db.ctx, bytes)
}

// hurried says that somebody waits for a flush.
func (f *flusher) hurried() bool { return f.hurry.Load() > 0 || f.db.retention.waited() }

// fetch appends the value that a stub stands for.
func (f *flusher) fetch(dst []byte, s tail.Stub) ([]byte, error) {
	pos := wal.SplitLogPos(s.LogPos)
	dst = append(dst, make([]byte, s.Len)...)
	if err := f.db.files.ReadAt(dst, pos); err != nil {
		return dst, err
	}
	if crc := coding.CRC(dst); crc != s.CRC {
		return dst, &corruption.Error{File: f.db.files.Name(pos.File), Offset: pos.Offset,
			What: fmt.Sprintf("value of %d bytes: crc %08x, want %08x", s.Len, crc, s.CRC)}
	}
	return dst, nil
}

// addRange remembers a range delete until a segment holds it. Shard locks are held.
func (f *flusher) addRange(r segment.RangeDelete) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ranges = append(f.ranges, pendingRange(r))
}

func (f *flusher) rangesUpTo(lsn LSN) []pendingRange {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.ranges {
		if f.ranges[i].LSN > lsn {
			return f.ranges[:i:i]
		}
	}
	return f.ranges[:len(f.ranges):len(f.ranges)]
}

func (f *flusher) dropRanges(upTo LSN) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.ranges) > 0 && f.ranges[0].LSN <= upTo {
		f.ranges = f.ranges[1:]
	}
}

// flushAll writes everything that is durable now as segments.
func (f *flusher) flushAll() error {
	f.hurry.Add(1)
	defer f.hurry.Add(-1)
	f.db.pacer.SetUrgency(pacer.Flush, 1) // for one that runs already, which is waited for
	f.one.Lock()
	defer f.one.Unlock()
	f.seal()
	if len(f.gens) > 0 {
		return f.flush()
	}
	return nil
}

// flushTo writes events up to lsn as segments; those up to left also leave memory. Both are durable.
func (f *flusher) flushTo(lsn, left LSN) error {
	f.one.Lock()
	defer f.one.Unlock()
	lsn = max(lsn, left)
	flushed := f.db.sorted.set.Current().FlushedLSN
	if n := len(f.gens); lsn > flushed && (n == 0 || f.gens[n-1].last < lsn) {
		f.seal()
	}
	if lsn > flushed {
		for _, g := range f.gens {
			if flushed = g.last; flushed >= lsn {
				break
			}
		}
		if err := f.flushUpTo(flushed); err != nil {
			return err
		}
	}
	f.leaving.Lock()
	defer f.leaving.Unlock()
	for len(f.flushed) > 0 && LSN(f.left.Load()) < left {
		f.leave()
	}
	return nil
}

// Flush writes what is only in the log and in memory as segments, so that the next Open has nothing to replay. It is done in
// the background when memory fills; nobody has to call it.
func (db *DB) Flush(ctx context.Context) error {
	g, err := db.enterCall()
	if err != nil {
		return err
	}
	defer g.Exit()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err = db.flusher.flushAll(); err != nil && db.closed.Load() {
		return ErrClosed
	}
	return openError(db.dir, err)
}

// output writes the segments of a new run.
type output struct {
	f       *sortedFiles
	run     manifest.RunID
	flushed LSN
	cutter  *compaction.Cutter // ends a segment where that makes it cheap to merge
	w       *segment.Writer
	num     manifest.FileNum
	last    segment.Key // added last
	added   []*manifest.Segment
	names   []string // of files begun, for abort
	extra   []segment.Property
}

// newOutput begins a run that is newer than all others, holds events up to flushed, and will have about so many bytes.
func (f *sortedFiles) newOutput(flushed LSN, bytes int64) (*output, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	cutter := compaction.NewCutter(f.set.Current(), bytes, f.db.compact.opts)
	return &output{f: f, run: f.set.NewRunID(), flushed: flushed, cutter: cutter}, nil
}

// beside returns another output for a part of the same run, which join adds to o.
func (o *output) beside() *output {
	return &output{f: o.f, run: o.run, flushed: o.flushed, cutter: o.cutter.Again(), extra: o.extra}
}

// join adds what another output has to o.
func (o *output) join(other *output) {
	o.added, o.names = append(o.added, other.added...), append(o.names, other.names...)
}

func (o *output) writer() (*segment.Writer, error) {
	if o.w != nil {
		return o.w, nil
	}
	o.num = o.f.set.NewFileNum()
	name := path.Join(o.f.dir, manifest.SegmentName(o.num))
	w, err := segment.Create(o.f.db.opts.FS, name, segment.WriterOptions{
		Num: uint64(o.num), Run: uint64(o.run), CreatedAt: o.f.db.opts.Clock.Wall(), FlushedLSN: o.flushed, HashSeed: o.f.seed(), Extra: o.extra,
	})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	o.names = append(o.names, name)
	o.w = w
	return w, nil
}

// add appends an entry. Versions of a key stay in one segment.
func (o *output) add(e *segment.Entry) error {
	if e.Dataset != o.last.Dataset || !bytes.Equal(e.Key, o.last.Key) {
		size := int64(0)
		if o.w != nil {
			size = o.w.SizeEstimate()
		}
		if o.cutter.Cut(e.Dataset, e.Key, size) && o.w != nil {
			if err := o.seal(); err != nil {
				return err
			}
		}
		o.last.Dataset, o.last.Key = e.Dataset, append(o.last.Key[:0], e.Key...)
	}
	w, err := o.writer()
	if err != nil {
		return err
	}
	return w.Add(e)
}

// size is that of the segments that are finished.
func (o *output) size() (bytes int64) {
	for _, s := range o.added {
		bytes += s.SizeBytes
	}
	return bytes
}

func (o *output) addRange(r segment.RangeDelete) error {
	w, err := o.writer()
	if err != nil {
		return err
	}
	w.AddRangeDelete(r)
	return nil
}

func (o *output) seal() error {
	p, err := o.w.Finish()
	if err != nil {
		return fmt.Errorf("write %s: %w", manifest.SegmentName(o.num), err)
	}
	o.w = nil
	o.added = append(o.added, compaction.SegmentOf(p))
	return nil
}

// end ends the segment that has been begun.
func (o *output) end() error {
	if o.w == nil {
		return nil
	}
	return o.seal()
}

// finish makes the files durable and describes them.
func (o *output) finish() ([]*manifest.Segment, error) {
	err := o.end()
	if err == nil && len(o.added) > 0 {
		err = o.f.db.opts.FS.SyncDir(o.f.dir)
	}
	if err != nil {
		o.abort()
		return nil, err
	}
	return o.added, nil
}

// abort removes what was written. What can't be removed is an orphan, which the next Open removes.
func (o *output) abort() {
	if o.w != nil {
		o.w.Abort()
		o.w = nil
	}
	for _, name := range o.names {
		if err := o.f.db.opts.FS.Remove(name); err != nil {
			continue
		}
	}
}

// close flushes what the next Open would have to replay, if that is more than a moment's work. The log is closed: everything
// in it is durable. What fails here costs the next Open time and nothing else.
func (f *flusher) close() {
	f.one.Lock()
	defer f.one.Unlock()
	f.seal()
	unflushed := int64(0)
	for _, g := range f.gens {
		unflushed += g.UsedBytes()
	}
	if unflushed < flushOnClose || f.db.log.Err() != nil && !errors.Is(f.db.log.Err(), wal.ErrClosed) {
		return
	}
	if err := f.flush(); err != nil {
		f.db.opts.Logger.Warn("dyngo: the newest events were not written as a segment; the next Open reads them from the log", "err", err)
	}
}

// flushOnClose is how many bytes of events Close writes as segments rather than leaving them to the next Open.
const flushOnClose = 8 << 20
