package dyngo

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
)

// compactor merges segments in the background: package compaction picks what pays and does the work, the compactor gives it
// what reads may still ask for, and installs the result.
//
// Jobs run beside each other, since a large one takes seconds in which flushes go on adding runs. Which may do so is Pick's
// to say. A second one begins only while the runs are beyond their bounds: otherwise the foreground has better uses for a
// processor.
type compactor struct {
	db   *DB
	opts compaction.Options
	wake [compactJobs]chan struct{} // one for each goroutine

	hurry atomic.Int32  // callers that wait for merges
	share atomic.Uint64 // see replaced
	idle  atomic.Bool   // there is nothing to do until something changes

	one         sync.Mutex       // held while a job is picked and while a result is installed; guards the fields up to mu
	jobs        []compaction.Job // under way
	ended       chan struct{}    // closed when the next job ends
	newer, over int64            // versions that merges have read in newer runs, and that replaced an older one
	written     LSN              // as of the last look
	quietSince  int64            // Mono of the first look that found it

	mu      sync.Mutex                       // guards the fields below; a leaf
	damaged map[manifest.FileNum]string      // segments that a job met damage in: they are left alone, reads of what is sound go on
	heat    map[manifest.FileNum]segmentRate // of segments, as of the last look
	running []string                         // what runs now and why, for people
}

// segmentRate is a moving average of what looks into a segment, and the counters that it was last computed from.
type segmentRate struct {
	compaction.Heat
	at           int64
	reads, scans int64
}

func newCompactor(db *DB) *compactor {
	c := &compactor{
		db: db, opts: db.compactionOptions(), ended: make(chan struct{}), damaged: map[manifest.FileNum]string{},
	}
	for n := range c.wake {
		c.wake[n] = make(chan struct{}, 1)
	}
	return c
}

// compactionOptions go with the size of flushes: where little memory makes small runs, jobs of half a gigabyte would keep
// them waiting. And with the disk: the space that a job needs for a while must be there, and what is kept free for it is lost
// to the data.
func (db *DB) compactionOptions() compaction.Options {
	file := min(max(db.opts.MemoryBudget/2, 16<<20), 64<<20)
	if _, total, err := db.opts.FS.Free(db.dir); err == nil && total > 0 {
		file = min(file, max(total/64, 256<<10))
	}
	return compaction.Options{FileBytes: file, MaxJobBytes: 8 * file}
}

// nudge has all look for work. It does not block.
func (c *compactor) nudge() {
	for _, wake := range c.wake {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

const (
	// compactEvery is how often work is looked for when no segment was added: reads may have become hot, views closed.
	compactEvery = 10 * time.Second
	// compactFirst is when a store that was opened is first looked at: a process that opens it for a moment merges nothing.
	compactFirst = time.Second
	// compactQuiet is after how long without a write the bound on what lies on disk twice becomes quietShare, which is half of what
	// it is else. The look after the last write and the next one are compactEvery apart.
	compactQuiet = compactEvery / 2
	quietShare   = 0.1
	quietReads   = 10 // a second
	// compactRetry is how long after a job failed the next one begins.
	compactRetry = time.Second
	// compactJobs is how many jobs run at a time.
	compactJobs = 2
)

// compactParallel is by how many goroutines a job is done. Jobs and what goes on beside them share the cores.
func compactParallel(cores int) int { return min(max(cores/(2*compactJobs), 1), 4) }

// start runs the goroutines that merge. They end with db.ctx.
func (c *compactor) start() {
	for n := range compactJobs {
		c.db.start(func() { c.run(n) })
	}
}

func (c *compactor) run(n int) {
	timer := c.db.opts.Clock.NewTimer(compactFirst)
	defer timer.Stop()
	for {
		select {
		case <-c.wake[n]:
		case <-timer.C():
		case <-c.db.ctx.Done():
			return
		}
		wait := compactEvery
		for did := n == 0 || c.behind() > 0; did; did = did && (n == 0 || c.behind() > 0) {
			var err error
			did, err = c.once(c.db.ctx, compaction.Pick, false)
			if c.db.ctx.Err() != nil {
				return
			}
			if err != nil {
				c.failed(err)
				did, wait = false, compactRetry
			}
			if did {
				c.nudge() // what was busy is not any more
			}
			c.db.sorted.sweep() // after each job: there may always be a next one
			c.db.throttle.disk()
		}
		timer.Reset(wait)
	}
}

// behind says how far the runs are beyond their bounds, see compaction.Behind.
func (c *compactor) behind() float64 {
	s := c.db.sorted.acquire()
	defer s.release()
	return compaction.Behind(s.version, compaction.Input{Options: c.opts, Replaced: c.replaced(), DiskBytes: c.db.throttle.free.Load()})
}

// replaced is the share of versions in newer runs that replaced an older one. Until the first merge after Open tells, it counts as
// small: a store that was at rest when it was closed is at rest.
func (c *compactor) replaced() float64 {
	if s := math.Float64frombits(c.share.Load()); s > 0 {
		return s
	}
	return unknownReplaced
}

const unknownReplaced = 0.1

// flushed is told that a run was added. While merging is behind it hurries, and far behind writers are slowed down.
func (c *compactor) flushed() {
	behind := c.behind()
	c.db.pacer.SetUrgency(pacer.Compaction, urgencyOf(min(behind, 1), c.hurry.Load() > 0))
	c.db.throttle.merges(behind)
	c.idle.Store(false)
	c.nudge()
}

func (c *compactor) failed(err error) {
	c.db.count.compactionErrors.Add(1)
	c.db.tell(func() {
		c.db.opts.Logger.Error("dyngo: segments could not be merged; what they hold stays readable as it was", "err", err)
		if l := c.db.opts.Listener.CompactionFailed; l != nil {
			l(err)
		}
	})
}

// pickFunc chooses a job, such as compaction.Pick does.
type pickFunc = func(*manifest.Version, compaction.Input) (compaction.Job, bool)

// once picks a job and runs it. It reports whether there was one; those under way are not waited for.
//
// A crash before the edit leaves files that nothing names. After it the inputs go with the last read of them.
func (c *compactor) once(ctx context.Context, pick pickFunc, full bool) (bool, error) {
	db := c.db
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(db.ctx, cancel)()
	s, in, job, err := c.begin(pick, full)
	if s == nil || err != nil {
		return err != nil, err
	}
	defer s.release()
	defer c.end(&job)
	c.nudge() // there may be more work, beside this
	began := db.opts.Clock.Mono()
	work := db.pacer.Begin(pacer.Compaction)
	defer work.End()
	result, err := compaction.Run(ctx, &job, compaction.RunOptions{
		Options: in.Options, Version: s.version, FS: db.opts.FS, Dir: db.sorted.dir, Open: s.readerOf, NewFile: db.sorted.set.NewFileNum,
		HashSeed: s.seed, CreatedAt: db.opts.Clock.Wall(), FlushedLSN: s.version.FlushedLSN,
		Pace:     func(ctx context.Context, bytes int64) error { return c.pause(ctx, work, bytes) },
		Parallel: compactParallel(runtime.GOMAXPROCS(0)),
		Live:     compaction.Liveness{Durable: in.Durable, Pins: in.Pins, Dropped: in.Dropped, Ranges: covering(in.RangeDeletes)},
	})
	if err != nil {
		var input *compaction.InputError
		if errors.As(err, &input) {
			c.setAside(input)
		}
		return true, err
	}
	if err := c.install(&job, result); err != nil {
		return true, err
	}
	db.count.compactions.Add(1)
	db.count.compactedBytes.Add(result.WriteBytes)
	db.count.compactReadBytes.Add(result.ReadBytes)
	if l := db.opts.Listener.Compacted; l != nil {
		took := time.Duration(db.opts.Clock.Mono() - began)
		db.tell(func() { l(job.Why, result.ReadBytes, result.WriteBytes, took) })
	}
	db.ttl.nudge()
	return true, nil
}

// begin picks a job and enters it among those under way. The caller releases the sources, which are nil if there is no job.
func (c *compactor) begin(pick pickFunc, full bool) (s *sources, in compaction.Input, job compaction.Job, err error) {
	c.db.throttle.disk()
	c.one.Lock()
	defer c.one.Unlock()
	s = c.db.sorted.acquire()
	in = c.input(s, full)
	job, ok := pick(s.version, in)
	if ok {
		err = c.db.sorted.begin()
	}
	c.idle.Store(!ok && len(c.jobs) == 0)
	if !ok || err != nil {
		s.release()
		return nil, in, job, err
	}
	c.db.pacer.SetUrgency(pacer.Compaction, urgencyOf(min(c.behind(), 1), c.hurry.Load() > 0))
	c.jobs = append(c.jobs, job)
	c.note()
	return s, in, job, nil
}

// install makes a result what reads look at.
func (c *compactor) install(job *compaction.Job, result *compaction.Result) error {
	c.one.Lock()
	defer c.one.Unlock()
	if err := c.db.sorted.apply(result.Edit("compaction: " + job.Reason.String())); err != nil {
		return err
	}
	c.learn(result)
	c.db.throttle.merges(c.behind())
	c.db.forgetRanges()
	return nil
}

// learn notes how much was overwritten; old merges fade. c.one is held.
func (c *compactor) learn(r *compaction.Result) {
	c.newer, c.over = c.newer+r.Newer, c.over+r.Replaced
	if c.newer == 0 {
		return
	}
	c.share.Store(math.Float64bits(max(float64(c.over)/float64(c.newer), 1e-3)))
	if c.newer > learnVersions {
		c.newer, c.over = c.newer/2, c.over/2
	}
}

// learnVersions is how many versions count at most in the share of those that replaced an older one.
const learnVersions = 4 << 20

// end takes a job from those under way.
func (c *compactor) end(job *compaction.Job) {
	c.one.Lock()
	defer c.one.Unlock()
	same := func(j compaction.Job) bool { return j.Inputs[0].Num == job.Inputs[0].Num }
	c.jobs = slices.DeleteFunc(c.jobs, same)
	c.note()
	close(c.ended)
	c.ended = make(chan struct{})
}

// wait waits until one of the jobs under way ends, as ended tells.
func (c *compactor) wait(ctx context.Context, ended <-chan struct{}) error {
	select {
	case <-ended:
	case <-ctx.Done():
	case <-c.db.ctx.Done():
	}
	return ctx.Err()
}

// pause lets the foreground go first, unless somebody waits for the merge.
func (c *compactor) pause(ctx context.Context, work *pacer.Job, bytes int64) error {
	if c.hurry.Load() > 0 || c.db.throttle.holds() {
		c.db.pacer.SetUrgency(pacer.Compaction, 1)
	}
	return work.Wait(ctx, bytes)
}

// urgencyOf is 1 for what somebody waits for.
func urgencyOf(u float64, waited bool) float64 {
	if waited {
		return 1
	}
	return u
}

// input is what a job may know of the store: which versions a read can still ask for, what hides them, what is read.
func (c *compactor) input(s *sources, full bool) compaction.Input {
	db := c.db
	durable := db.raiseFloor() // before the views are listed: a view opened later is at durable or above
	heat := c.measure(s)
	in := compaction.Input{
		Options: c.optionsNow(heat), Full: full, Replaced: c.replaced(), DiskBytes: c.room(),
		Running: slices.Clone(c.jobs), Durable: durable, Pins: db.pins(), Dropped: db.droppedAt,
		Avoid: c.avoid, Heat: heat, RangeDeletes: s.rangeDeletes(),
	}
	for _, r := range db.flusher.rangesUpTo(durable) {
		in.RangeDeletes = append(in.RangeDeletes, segment.RangeDelete(r))
	}
	return in
}

// room is how much of the disk merges may take for a while, 0 = it is not known. Retention that is behind comes first: it gives back
// more for what it needs.
func (c *compactor) room() int64 {
	free := c.db.throttle.free.Load()
	if free > 0 && c.db.retention.waited() {
		free = max(free-c.db.retention.needs(), 1)
	}
	return free
}

// optionsNow are tighter while nothing is written and hardly anything read from segments: the disk comes back then, and nobody
// else needs it. c.one is held.
func (c *compactor) optionsNow(heat map[manifest.FileNum]compaction.Heat) compaction.Options {
	o, now, reads := c.opts, c.db.opts.Clock.Mono(), 0.0
	for _, h := range heat {
		reads += h.Reads + h.Scans
	}
	if lsn := c.db.LSN(); lsn != c.written || reads > quietReads || c.quietSince == 0 {
		c.written, c.quietSince = lsn, now
	}
	if now-c.quietSince >= int64(compactQuiet) {
		o.SpaceShare, o.FreeBytes = quietShare, o.FileBytes/4
	}
	return o
}

// covering makes lists of range deletes, by dataset.
func covering(ranges []segment.RangeDelete) func(event.DatasetID) compaction.Covering {
	slices.SortFunc(ranges, func(a, b segment.RangeDelete) int { return cmp.Compare(a.LSN, b.LSN) })
	lists := map[event.DatasetID]*memtable.RangeDeletes{}
	for _, r := range ranges {
		l := lists[r.Dataset]
		if l == nil {
			l = &memtable.RangeDeletes{}
			lists[r.Dataset] = l
		}
		l.Add(r.From, r.To, r.LSN, 0)
	}
	return func(ds event.DatasetID) compaction.Covering {
		if l := lists[ds]; l != nil {
			return l
		}
		return nil
	}
}

// setAside leaves a damaged segment alone from now on: reads of what is sound in it go on, repair rebuilds it.
func (c *compactor) setAside(e *compaction.InputError) {
	if !errors.Is(e, ErrCorrupt) {
		return // the device may read it next time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.damaged[e.Num] == "" {
		c.damaged[e.Num] = e.Err.Error()
		c.db.count.setsAside.Add(1)
	}
}

func (c *compactor) avoid(n manifest.FileNum) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.damaged[n] != ""
}

// measure turns the counters of reads into rates.
func (c *compactor) measure(s *sources) map[manifest.FileNum]compaction.Heat {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.db.opts.Clock.Mono()
	next := make(map[manifest.FileNum]segmentRate)
	rates := make(map[manifest.FileNum]compaction.Heat)
	for i := range s.runs {
		for j, seg := range s.runs[i].Segments {
			h := s.runs[i].heat[j]
			r := segmentRate{at: now, reads: h.reads.Load(), scans: h.scans.Load()}
			if before, ok := c.heat[seg.Num]; ok && now > before.at {
				dt := float64(now-before.at) / float64(time.Second)
				keep := 1 / (1 + dt/heatSeconds)
				r.Reads = keep*before.Reads + (1-keep)*float64(r.reads-before.reads)/dt
				r.Scans = keep*before.Scans + (1-keep)*float64(r.scans-before.scans)/dt
			}
			next[seg.Num], rates[seg.Num] = r, r.Heat
		}
	}
	c.heat = next
	return rates
}

// look returns what is known of segments and of the jobs that run, for people.
func (c *compactor) look() (rates map[manifest.FileNum]compaction.Heat, damaged map[manifest.FileNum]string, running string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rates = make(map[manifest.FileNum]compaction.Heat)
	for n, r := range c.heat {
		rates[n] = r.Heat
	}
	return rates, maps.Clone(c.damaged), strings.Join(c.running, "; ")
}

// heatSeconds is how long a read counts in the average.
const heatSeconds = 60

// note keeps what runs for look. c.one is held.
func (c *compactor) note() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = c.running[:0]
	for i := range c.jobs {
		c.running = append(c.running, c.jobs[i].Kind.String()+", "+c.jobs[i].Why)
	}
}

// Compact merges segments until one run is left and nothing in it can be given up. It takes as long as reading and writing
// everything; reads and writes go on. The background does what pays by itself; nobody has to call it.
func (db *DB) Compact(ctx context.Context) error {
	g, err := db.enterCall()
	if err != nil {
		return err
	}
	defer g.Exit()
	if err := db.flusher.flushAll(); err != nil {
		return openError(db.dir, err)
	}
	// A job of the background that holds back for others would be waited for.
	db.compact.hurry.Add(1)
	defer db.compact.hurry.Add(-1)
	db.pacer.SetUrgency(pacer.Compaction, 1)
	rewritten := false
	var ended <-chan struct{} // nil = there are no jobs
	pick := func(v *manifest.Version, in compaction.Input) (job compaction.Job, ok bool) {
		if ended = nil; len(in.Running) > 0 {
			ended = db.compact.ended
		}
		if job, ok = compaction.Pick(v, in); !ok {
			job, ok = compaction.Rewrite(v, in)
			rewritten = ok
		}
		return job, ok
	}
	for did := true; did && !rewritten; {
		if did, err = db.compact.once(ctx, pick, true); err == nil && !did && ended != nil {
			did, err = true, db.compact.wait(ctx, ended) // what it was busy with may be merged then
		}
		if db.closed.Load() {
			return ErrClosed
		}
		if err != nil {
			return openError(db.dir, err)
		}
	}
	db.reads.Synchronize() // the last reads of what was merged end, but for scans
	db.sorted.sweep()
	return nil
}

// forgetRanges lets range deletes go under which nothing is left, neither in segments nor in memory.
//
//  1. Up to left, range deletes are in segments, unless a merge found nothing under them; memory holds nothing as old.
//  2. The segments are looked at after that, so that what a flush has just written counts.
//  3. Reads that look at older segments have ended; scans have a list of their own, which they took before the segments.
func (db *DB) forgetRanges() {
	left := db.flusher.left.Load()
	s := db.sorted.acquire()
	inSegments := map[LSN]bool{}
	for _, r := range s.rangeDeletes() {
		inSegments[r.LSN] = true
	}
	s.release()
	db.reads.Synchronize()
	for _, ds := range *db.catalog.byName.Load() {
		if ds.ranges.Any() {
			ds.ranges.Forget(func(lsn event.LSN) bool {
				gone := uint64(lsn) <= left && !inSegments[lsn]
				if gone && db.records != nil {
					db.records.Clear() // what lies under it
				}
				return gone
			})
		}
	}
}
