package wal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Errors of the writing end.
var (
	// ErrClosed is returned once Close has begun.
	ErrClosed = errors.New("wal: closed")
	// ErrFailed is returned for every write after a write or sync of the log failed. What was acknowledged is safe;
	// reopening recovers it.
	ErrFailed = errors.New("wal: the log failed and takes no more writes")
	// ErrOutcomeUnknown is returned to the callers whose commit was in flight when the log failed: it may or may not be
	// found after reopening.
	ErrOutcomeUnknown = errors.New("wal: the log failed while this commit was being written; its outcome is unknown")
)

const (
	// maxGroupBytes closes a group: the next commit goes to a new one, so that no commit frame delays others by much. Where little may
	// wait for the disk, a sixteenth of that closes it, but not less than minGroupBytes: who reads the log holds a frame in memory.
	maxGroupBytes = 4 << 20
	minGroupBytes = 256 << 10
	// flushBytes is when commits that nobody waits for are written without waiting for their window.
	flushBytes = 1 << 20
	// maxCohortWait bounds how long a leader waits for the writers that it has just released to come back.
	maxCohortWait = 60 * time.Microsecond
	// watermarkDelay is how long after the last write the durable LSN is written down.
	watermarkDelay = 100 * time.Millisecond
	// ringSize bounds the commits that have an LSN but are not yet applied. A power of two.
	ringSize = 1 << 13
)

// LogOptions configure NewLog. FS, Dir, Clock, Now, Arena and Dictionary are required.
type LogOptions struct {
	FS         vfs.FS
	Dir        string // of the log files; exists
	Clock      clock.Clock
	Now        func() int64 // log time as it is now
	Arena      *tail.Arena
	LogID      [16]byte
	TimelineID [16]byte
	Tail       Tail  // where recovery found the end; the zero Tail starts a new log
	FileBytes  int64 // a file is sealed beyond this many bytes; default 64 MiB
	MaxPending int64 // bytes in memory that may wait for the disk; default 64 MiB
	// Dictionary is the body of the dictionary frame of a file whose first LSN is next: what was there before next. It is
	// called under the writer's lock and must not call back.
	Dictionary func(next event.LSN) []byte
	// Reserve keeps a few MiB of disk for deletes and for what is in flight when the disk is full.
	Reserve bool
	// NoPreWrite turns pre-writing off (see docs/ARCHITECTURE.md for what it is worth).
	NoPreWrite bool
	// OnDurable is called by whoever made lsn durable, in order; it must not block.
	OnDurable func(lsn event.LSN)
	// OnRotate is called with the sequence of a file when it has begun and the one before is sealed, also by Close; it must not block.
	OnRotate  func(file uint64)
	OnFull    func(full bool)
	OnFailure func(err error)
	// OnClockJump tells that the wall clock and the monotonic clock moved apart by d since the last group.
	OnClockJump func(d time.Duration)
}

// Log is the writing end of the log. A commit goes through it in four steps:
//
//	Admit    wait while the disk is full, a loss window is exceeded or too much waits for the disk
//	Begin    assign LSNs, log time and places in memory; join the open group
//	Applied  the caller has filled its records and put them into the memtable
//	Wait     until the group is durable; the first caller that finds no sync in flight leads it
//
// Safe for concurrent use. Lock order: memtable shard, Log.mu, writer.mu.
type Log struct {
	opts   LogOptions
	writer atomic.Pointer[writer] // set by Start

	mu struct {
		sync.Mutex // guards the fields below; held for tens of nanoseconds, never during I/O

		next     event.LSN
		seq      uint64 // of the next commit, see ring
		lastTime int64  // log time never goes back
		hot      *tail.Appender
		hotBytes int64    // reserved since the last generation was sealed
		open     *group   // takes commits
		sealed   []*group // full, waiting for a leader; oldest first
		flight   []*group // being written by the leader
		free     []*group // to use again
		closed   bool
	}
	// applied is the LSN up to which every event is in the memtable; durable the LSN up to which the log is on disk.
	applied atomic.Uint64
	_       [56]byte
	durable atomic.Uint64
	_       [56]byte
	// pending is how many bytes of memory hold events that are not durable.
	pending   atomic.Int64
	deadline  atomic.Int64                  // log time by which the oldest event must be durable that was acknowledged before it was; 0 = none
	timers    sync.Pool                     // of writers that are held back
	pace      atomic.Int64                  // ns by which each commit is held back
	unpaced   atomic.Pointer[chan struct{}] // closed when pace becomes 0
	held      atomic.Bool                   // see Hold
	leading   atomic.Bool                   // a leader writes and syncs
	openGroup atomic.Pointer[group]         // mu.open, for the leader's look while it waits for its cohort
	failure   atomic.Pointer[failure]

	// ring holds one entry per commit between Begin and the moment all before it are applied; entry seq%ringSize is
	// ready when its seq field is seq+1.
	ring [ringSize]ringEntry
	head atomic.Uint64 // seq of the first commit that is not yet applied

	cohort struct { // leader only
		size     int          // writers released by the last sync
		timeouts int          // waits in a row that did not bring them back
		syncNs   atomic.Int64 // moving average
	}
	buf       []byte    // leader only: the frame being built
	skew      int64     // leader only: wall minus monotonic clock when the last group was written
	lastWrite int64     // leader only: monotonic time of the last sync
	hlc       uint64    // leader only: never goes back
	marked    event.LSN // leader only: durable LSN of the last watermark frame

	startedAt int64 // monotonic time of Start

	handOver  chan struct{} // leadership passed to run
	arm       chan struct{} // a group wants to be written within its window
	stop      chan struct{} // ends run
	closing   chan struct{} // ends waiting for space and pace
	interrupt sync.Once
	stopped   sync.WaitGroup

	telling  sync.Mutex // held while OnFull is called; only ever tried
	toldFull atomic.Bool

	groups, groupEvents atomic.Int64
	stalled             atomic.Int64 // ns that writers waited in Admit
}

type ringEntry struct {
	ready atomic.Uint64
	last  atomic.Uint64
}

type failure struct {
	err error
	lsn event.LSN // durable when it happened
}

// A group is the commits that share a frame and a sync.
type group struct {
	first, last event.LSN
	from        tail.Pos
	count       int
	bytes       int64 // in memory
	wire        int64 // upper bound of the body on disk
	baseTime    int64
	waiters     atomic.Int32
	deadline    int64 // log time by which it must be durable; 0 = nobody was told early
	flushAt     int64 // log time at which to begin writing it for that
	done        chan struct{}
	told        bool   // done is closed; guarded by Log.mu
	spill       *Spill // the group is one batch that lies in data frames
}

// Ack says when a commit is acknowledged, and so which loss window it has.
type Ack struct {
	Durable bool          // wait until durable
	Window  time.Duration // else: at most this long after
}

// Commit is one batch on its way through the log. It may be reused after Wait or, without Wait, after Applied.
type Commit struct {
	Ack   Ack
	Sizes []int      // payload length of each event, in order; set by the caller
	Wire  int64      // upper bound of the events' bytes on disk
	Pos   []tail.Pos // where each record is to be filled; set by Begin, len(Sizes)
	First event.LSN  // of the first event; the others follow densely
	Time  int64      // log time of all events
	Spill *Spill     // set by the caller when the events already lie in data frames

	seq  uint64
	done chan struct{}
}

// Last is the LSN of the last event.
func (c *Commit) Last() event.LSN { return c.First + event.LSN(len(c.Sizes)) - 1 }

// NewLog makes the writing end of a log behind what recovery found. It touches no file until Start.
func NewLog(o LogOptions) *Log {
	if o.FileBytes == 0 {
		o.FileBytes = 64 << 20
	}
	if o.MaxPending == 0 {
		o.MaxPending = 64 << 20
	}
	l := &Log{opts: o, handOver: make(chan struct{}, 1), arm: make(chan struct{}, 1), stop: make(chan struct{}), closing: make(chan struct{})}
	free := make(chan struct{})
	l.unpaced.Store(&free)
	l.mu.next = max(o.Tail.NextLSN, 1)
	l.mu.lastTime = o.Tail.LastTime
	l.mu.hot = o.Arena.NewAppender()
	l.skew = o.Clock.Wall() - o.Clock.Mono()
	l.applied.Store(uint64(l.mu.next - 1))
	l.durable.Store(uint64(l.mu.next - 1))
	l.openNext()
	return l
}

// Start makes the log writable: it continues or starts a file, which is the first change on disk since the store was
// opened. It must have returned nil before any other call but the readers of LSNs and Close. After an error it may be
// tried again, unless a sync failed: then the log has failed.
func (l *Log) Start() error {
	if err := l.Err(); err != nil || l.writer.Load() != nil {
		return err
	}
	o := l.opts
	o.Tail.NextLSN = l.mu.next
	w, err := openWriter(writerConfig{
		fs: o.FS, dir: o.Dir, fileBytes: o.FileBytes, logID: o.LogID, timelineID: o.TimelineID, tail: o.Tail,
		now: l.times, dictionary: o.Dictionary, durable: l.DurableLSN, onRotate: o.OnRotate, onFull: l.diskFull, stopped: l.closing,
		clock: o.Clock, preWrite: !o.NoPreWrite, reserveSpace: o.Reserve,
	})
	if errors.Is(err, errSync) {
		l.fail(err)
		return l.Err()
	}
	if err != nil {
		return err
	}
	l.startedAt = o.Clock.Mono()
	l.leading.Store(true)
	defer l.leading.Store(false)
	l.writer.Store(w)
	if err := l.appendWatermark(); err != nil {
		l.fail(err)
	}
	l.stopped.Add(1)
	go l.run()
	l.flushSoon()
	return l.Err()
}

// diskFull is called by the writer when it has found the disk full. It sees to it that run looks for space.
func (l *Log) diskFull() {
	l.flushSoon()
	if l.writer.Load() != nil { // else Start is not through, and run looks after it
		l.tellFull()
	}
}

// tellFull tells whether the disk is full, if that has changed, in order: whoever finds another telling leaves it to him,
// who looks again when he is done. So the function that is told may itself use the log.
func (l *Log) tellFull() {
	full := &l.writer.Load().full
	for full.Load() != l.toldFull.Load() && l.telling.TryLock() {
		if now := full.Load(); now != l.toldFull.Load() {
			l.toldFull.Store(now)
			if l.opts.OnFull != nil {
				l.opts.OnFull(now)
			}
		}
		l.telling.Unlock()
	}
}

// times returns the log time to note in a frame that holds no events, and the raw wall time.
func (l *Log) times() (int64, int64) { return l.opts.Now(), l.opts.Clock.Wall() }

// sealGroup queues the open group for a leader and opens the next. l.mu is held.
func (l *Log) sealGroup() *group {
	l.mu.sealed = append(l.mu.sealed, l.mu.open)
	return l.openNext()
}

// openNext opens an empty group, one that was used before if there is any: only its channel is new. l.mu is held.
func (l *Log) openNext() *group {
	var g *group
	if n := len(l.mu.free); n > 0 {
		g = l.mu.free[n-1]
		l.mu.free = l.mu.free[:n-1]
		g.waiters.Store(0)
		g.count, g.bytes, g.wire, g.deadline, g.flushAt, g.spill, g.told = 0, 0, 0, 0, 0, nil, false
	} else {
		g = &group{}
	}
	g.done = make(chan struct{})
	l.mu.open = g
	l.openGroup.Store(g)
	return g
}

// Applied is the LSN up to which reads of Causal and Eventual datasets see everything.
func (l *Log) AppliedLSN() event.LSN { return event.LSN(l.applied.Load()) }

// DurableLSN is the LSN up to which everything survives power loss.
func (l *Log) DurableLSN() event.LSN { return event.LSN(l.durable.Load()) }

// LastLSN is the newest LSN that was assigned, applied or not.
func (l *Log) LastLSN() event.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.next - 1
}

// HotBytes is how much memory the events take that were not yet sealed.
func (l *Log) HotBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.hotBytes
}

// SealGeneration makes a generation of the events so far and returns it with the LSN of its last event. The events may
// not be durable, nor applied, yet.
func (l *Log) SealGeneration() (tail.Generation, event.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.hotBytes = 0
	return l.mu.hot.Seal(), l.mu.next - 1
}

// SetPace holds each commit back by d from now on, and once more for each paceBytes that it takes in memory; 0 = not at all,
// and those who wait go on. It is for what is behind the log and does not follow. One goroutine at a time.
func (l *Log) SetPace(d time.Duration) {
	if l.pace.Swap(int64(d)) != 0 && d == 0 {
		free := make(chan struct{})
		close(*l.unpaced.Swap(&free))
	}
}

// Hold has commits wait, but for those that give space back, as if the disk were full, until it is called with false.
func (l *Log) Hold(held bool) { l.held.Store(held) }

// Stop has the log take no more, because what is behind it has failed for good.
func (l *Log) Stop(err error) { l.fail(err) }

// Interrupt ends waiting for disk space and pace: the waiting calls return ErrClosed. It comes before Close.
func (l *Log) Interrupt() { l.interrupt.Do(func() { close(l.closing) }) }

// Err is the failure that stopped the log, nil while it works.
func (l *Log) Err() error {
	if f := l.failure.Load(); f != nil {
		return fmt.Errorf("%w: %w", ErrFailed, f.err)
	}
	return nil
}

func (l *Log) groupBytes() int64 {
	return min(max(l.opts.MaxPending/16, minGroupBytes), maxGroupBytes)
}

// Admit waits until a commit may enter: while the disk is full (frees says that the commit gives space back, then it does
// not wait), while the oldest event that was acknowledged early exceeds its window, and for a moment that grows with
// what waits for the disk. bytes is what the commit takes in memory. now is the clock's present; waited says
// that it has passed. No lock may be held.
func (l *Log) Admit(now int64, bytes int, frees bool) (waited bool, err error) {
	if l.failure.Load() != nil {
		return false, l.Err()
	}
	if d := l.deadline.Load(); d != 0 && now > d {
		return true, l.admitSlow(frees)
	}
	if l.pending.Load() > l.opts.MaxPending/2 || l.held.Load() || l.writer.Load().full.Load() {
		return true, l.admitSlow(frees)
	}
	if l.pace.Load() == 0 {
		return false, nil
	}
	free := *l.unpaced.Load()
	if d := l.pace.Load(); d > 0 { // also after free was taken: it will be closed
		began := l.opts.Clock.Mono()
		l.wait(free, time.Duration(d)*time.Duration(1+min(bytes/paceBytes, maxPaces)))
		l.stalled.Add(l.opts.Clock.Mono() - began)
		return true, nil
	}
	return false, nil
}

// What one pace is for, and how many a commit waits at most.
const (
	paceBytes = 16 << 10
	maxPaces  = 100
)

func (l *Log) admitSlow(frees bool) error {
	began := l.opts.Clock.Mono()
	defer func() { l.stalled.Add(l.opts.Clock.Mono() - began) }()
	for {
		if err := l.Err(); err != nil {
			return err
		}
		select {
		case <-l.closing:
			return ErrClosed
		default:
		}
		pending, deadline := l.pending.Load(), l.deadline.Load()
		switch {
		case (l.held.Load() || l.writer.Load().full.Load()) && !frees:
			l.wait(nil, 20*time.Millisecond)
		case pending > l.opts.MaxPending || deadline != 0 && l.opts.Now() > deadline:
			l.waitOldest()
		case pending > l.opts.MaxPending/2:
			// From half of the limit on, a delay that grows linearly to 1 ms: writers slow down to the pace of the
			// disk, nobody is stopped. It is paid once per commit.
			l.flushSoon()
			l.wait(nil, time.Duration(2*(pending-l.opts.MaxPending/2)*int64(time.Millisecond)/l.opts.MaxPending))
			return nil
		default:
			return nil
		}
	}
}

// waitOldest waits until the oldest group that is not durable is, if it is late or too much is pending. What was so when the caller looked
// may have become durable since: the oldest group that is left may have its window before it, and run lets it fill.
func (l *Log) waitOldest() {
	now := l.opts.Now()
	l.mu.Lock()
	deadline := l.deadline.Load() // that of the oldest group: changed with mu held
	late := l.pending.Load() > l.opts.MaxPending || deadline != 0 && now > deadline
	g := l.mu.open
	if len(l.mu.flight) > 0 {
		g = l.mu.flight[0]
	} else if len(l.mu.sealed) > 0 {
		g = l.mu.sealed[0]
	}
	done, count := g.done, g.count
	l.mu.Unlock()
	if count == 0 || !late {
		return
	}
	l.flushSoon()
	select {
	case <-done:
	case <-l.closing:
	}
}

// wait waits for d, for until if that is not nil, or for Interrupt.
func (l *Log) wait(until <-chan struct{}, d time.Duration) {
	t, ok := l.timers.Get().(clock.Timer)
	if ok {
		t.Reset(d)
	} else {
		t = l.opts.Clock.NewTimer(d)
	}
	select {
	case <-t.C():
	case <-until:
	case <-l.closing:
	}
	t.Stop()
	l.timers.Put(t)
}

// Begin gives the commit its LSNs, its log time and places for its records, and joins it to the open group. The caller
// holds the memtable shards of the keys, so the order of LSNs is the order of versions. now is the clock's present.
//
// Every Begin that returns nil must be followed by Applied.
func (l *Log) Begin(c *Commit, now int64) error {
	l.mu.Lock()
	for l.mu.seq-l.head.Load() >= ringSize {
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	if l.mu.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if l.failure.Load() != nil {
		l.mu.Unlock()
		return l.Err()
	}
	g := l.mu.open
	if g.count > 0 && (g.wire+c.Wire > l.groupBytes() || c.Spill != nil || g.spill != nil) {
		g = l.sealGroup()
	}
	// 1. Log time before the LSN, so that time never goes back along the LSNs.
	if now < l.mu.lastTime {
		now = l.mu.lastTime
	}
	l.mu.lastTime = now
	c.Time = now
	// 2. LSN and place in memory together: records lie in the order of their LSNs.
	c.First = l.mu.next
	l.mu.next += event.LSN(len(c.Sizes))
	var bytes int64
	for i, n := range c.Sizes {
		c.Pos[i] = l.mu.hot.Reserve(n)
		bytes += int64(n+tail.HeaderBytes+7) &^ 7
	}
	// 3. The group.
	if g.count == 0 {
		g.first, g.from, g.baseTime, g.spill = c.First, c.Pos[0], now, c.Spill
	}
	g.last = c.First + event.LSN(len(c.Sizes)) - 1
	g.count += len(c.Sizes)
	g.bytes += bytes
	l.mu.hotBytes += bytes
	g.wire += c.Wire
	armed := false
	if c.Ack.Durable {
		g.waiters.Add(1)
	} else if d := now + int64(c.Ack.Window); g.deadline == 0 || d < g.deadline {
		g.deadline, g.flushAt = d, now+int64(c.Ack.Window)/2
		if old := l.deadline.Load(); old == 0 || d < old {
			l.deadline.Store(d)
		}
		armed = true
	}
	armed = armed || g.wire > flushBytes && g.wire-c.Wire <= flushBytes
	c.seq, c.done = l.mu.seq, g.done
	l.mu.seq++
	l.mu.Unlock()
	l.pending.Add(bytes)
	if armed {
		l.flushSoon()
	}
	return nil
}

func (l *Log) flushSoon() {
	select {
	case l.arm <- struct{}{}:
	default:
	}
}

// Applied tells that the commit's records are filled and in the memtable. When all commits before it are applied too,
// its LSNs become visible to reads at the applied LSN.
//
// Why no lock is needed: (1) entry i is written by one commit at a time, because Begin waits while seq-head >= ringSize;
// (2) last is stored before ready, so whoever sees ready == seq+1 reads this commit's last; (3) head moves by
// compare-and-swap from h to h+1 only after entry h was seen ready, so every commit before head is applied; (4) applied
// only grows, to the last LSN of a commit all of whose predecessors are applied; (5) the caller that stores ready last
// finds all entries before it ready, so no commit stays behind.
func (l *Log) Applied(c *Commit) {
	e := &l.ring[c.seq%ringSize]
	e.last.Store(uint64(c.Last()))
	e.ready.Store(c.seq + 1)
	for {
		h := l.head.Load()
		e := &l.ring[h%ringSize]
		if e.ready.Load() != h+1 {
			return
		}
		last := e.last.Load()
		if !l.head.CompareAndSwap(h, h+1) {
			continue
		}
		for {
			a := l.applied.Load()
			if a >= last || l.applied.CompareAndSwap(a, last) {
				break
			}
		}
	}
}

// WaitApplied waits until reads at the applied LSN see the commit: for the commits before it that are being filled.
func (l *Log) WaitApplied(c *Commit) {
	for l.applied.Load() < uint64(c.Last()) {
		runtime.Gosched()
	}
}

// Wait returns when the commit is durable, or with ErrOutcomeUnknown when the log failed first. The commit's Ack must have
// been Durable. No lock may be held.
func (l *Log) Wait(c *Commit) error {
	last := c.Last()
	if l.leading.CompareAndSwap(false, true) {
		l.lead(last, true)
	}
	if l.durable.Load() < uint64(last) {
		<-c.done
	}
	return l.outcome(last)
}

func (l *Log) outcome(last event.LSN) error {
	if l.durable.Load() >= uint64(last) {
		return nil
	}
	if f := l.failure.Load(); f != nil {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, f.err)
	}
	return ErrClosed
}

// WaitDurable waits until lsn is durable, bringing that about. It fails when the context ends or the log fails or closes
// first, and at once when lsn was never assigned.
func (l *Log) WaitDurable(ctx context.Context, lsn event.LSN) error {
	for l.durable.Load() < uint64(lsn) {
		if l.failure.Load() != nil {
			return l.outcome(lsn)
		}
		done, err := l.groupOf(lsn)
		if err != nil {
			return err
		}
		if done == nil {
			continue // it became durable between the two looks
		}
		l.flushSoon() // not by itself: a leader can't be called back by a context
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// groupOf finds the group that will make lsn durable, counts the caller among those who wait for it, and returns the
// channel that tells when it is.
func (l *Log) groupOf(lsn event.LSN) (<-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lsn >= l.mu.next {
		return nil, fmt.Errorf("wait for LSN %d: the log ends at %d", lsn, l.mu.next-1)
	}
	for _, gs := range [][]*group{l.mu.flight, l.mu.sealed, {l.mu.open}} {
		for _, g := range gs {
			if g.count > 0 && lsn >= g.first && lsn <= g.last {
				g.waiters.Add(1)
				return g.done, nil
			}
		}
	}
	return nil, nil
}

// LogMetrics are the figures of the writing end. Counters count since Start.
type LogMetrics struct {
	// Groups are syncs that made commits durable, Events what was in them. Few events a group at many writers means that
	// writers don't meet.
	Groups, Events int64
	// BytesWritten went to the file system, zeros written ahead included; Syncs are calls of fsync and fdatasync.
	BytesWritten, Syncs int64
	// Rotations are files sealed.
	Rotations int64
	// PendingBytes is memory whose events wait for the disk; writers slow down from half of its limit on.
	PendingBytes int64
	// StalledNs is how long writers were held back for that, for a loss window, or for a full disk, all together.
	StalledNs int64
	// SyncNs is the moving average of one write and sync.
	SyncNs int64
	// DiskFull says that writes wait for space, Failed that the log takes no more.
	DiskFull, Failed bool
	// File is the sequence of the newest log file, FileEnd where it ends.
	File    uint64
	FileEnd int64
}

// Rotate seals the newest file and starts the next, durably, and states the next as if the log ended in it, with nothing but
// its dictionary. Writers wait meanwhile as they do whenever a file is full. Commits that are in flight may lie in the sealed
// file: they are durable with it, but are acknowledged later; see WaitDurable.
func (l *Log) Rotate() (Clean, error) {
	if err := l.Err(); err != nil {
		return Clean{}, err
	}
	end, err := l.writer.Load().rotateNow()
	if err != nil {
		l.fail(err)
		return Clean{}, l.Err()
	}
	return end, nil
}

// File is the sequence of the newest log file, 0 before Start.
func (l *Log) File() uint64 {
	if w := l.writer.Load(); w != nil {
		return uint64(w.seq.Load())
	}
	return 0
}

// Metrics returns the present figures.
func (l *Log) Metrics() LogMetrics {
	m := LogMetrics{
		Groups: l.groups.Load(), Events: l.groupEvents.Load(), PendingBytes: l.pending.Load(), StalledNs: l.stalled.Load(),
		SyncNs: l.cohort.syncNs.Load(), Failed: l.failure.Load() != nil,
	}
	w := l.writer.Load()
	if w == nil {
		return m
	}
	m.BytesWritten, m.Syncs, m.Rotations, m.DiskFull = w.bytesWritten.Load(), w.syncs.Load(), w.rotations.Load(), w.full.Load()
	m.File, m.FileEnd = uint64(w.seq.Load()), w.fileEnd.Load()
	return m
}
