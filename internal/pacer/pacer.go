package pacer

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Amounts that the pacer counts in.
const (
	// StepBytes is the most that passes at once. Wait takes more in several steps.
	StepBytes = 256 << 10

	// OpBytes is what an operation of the foreground counts beside its bytes: about what a processor could copy and
	// check in the time that it takes.
	OpBytes = 512

	// busyBytesPerSec is from where on the foreground finds a processor free; turnAtMost is how long a step may take to count as at work.
	busyBytesPerSec = 64 << 10
	turnAtMost      = 10 * time.Millisecond
)

// Class says what a job is for. Classes are in the order of their weights.
type Class uint8

// The classes.
const (
	Flush      Class = iota // makes room in memory
	Compaction              // makes reads cheap and gives disk back
	Index                   // builds indexes
	Verify                  // verification, retention and what else has time
	ClassCount
)

// price is what a byte of a class counts where classes are weighed against each other.
var price = [ClassCount]int64{1, 4, 16, 64}

func (c Class) String() string {
	return [ClassCount]string{"flush", "compaction", "index", "verify"}[c]
}

// Options of a Pacer. The zero value learns the capacity.
type Options struct {
	// BytesPerSec is what foreground and background may do together. 0 = learned from the jobs.
	BytesPerSec int64

	// FloorBytesPerSec is what background work gets however busy the foreground is. 0 = 1/16 of the capacity, but at
	// least 1 MiB/s.
	FloorBytesPerSec int64

	// Cores is how many jobs can work side by side; it multiplies a learned speed. While the foreground is busy, one fewer do, but at
	// least one. 0 = 1.
	Cores int
}

// Clock is what a Pacer wants of a clock; clock.Clock is one.
type Clock[T Timer] interface {
	Mono() int64 // nanoseconds that only go forward
	AfterFunc(d time.Duration, f func()) T
}

// Timer is a pending call of a function.
type Timer interface {
	Stop() bool
}

// Pacer shares out what the foreground leaves. Make one with New.
type Pacer struct {
	opts       Options
	mono       func() int64
	afterFunc  func(time.Duration, func()) Timer
	foreground stripes

	mu struct {
		sync.Mutex // guards the fields below and those of jobs; the clock's lock may be taken under it

		classes [ClassCount]class
		working []*Job // those that have passed and have not asked again
		timer   Timer  // set while a job waits, else nil
		closed  bool
		budget  budget
		virtual int64 // tag of the class that passed last
	}
}

// class is a class of jobs and those of them that wait.
type class struct {
	queue   []*waiter // in order of arrival
	urgency float64
	tag     int64 // bytes that have passed, at their price; never below the tags of those that passed before it came
	metrics ClassMetrics
}

type waiter struct {
	job   *Job
	bytes int64
	since int64         // Mono
	pass  chan struct{} // closed when it passes
}

// New returns a Pacer that goes by c.
func New[T Timer](c Clock[T], o Options) *Pacer {
	o.Cores = max(o.Cores, 1)
	p := &Pacer{opts: o, mono: c.Mono, afterFunc: func(d time.Duration, f func()) Timer { return c.AfterFunc(d, f) }}
	p.mu.budget = newBudget(o, c.Mono())
	for i := range p.mu.classes {
		p.mu.classes[i].metrics.Class = Class(i)
	}
	return p
}

// Foreground notes operations of the foreground and their bytes in all. It takes some nanoseconds and never waits.
func (p *Pacer) Foreground(ops, bytes int) { p.foreground.add(int64(ops)*OpBytes + int64(bytes)) }

// SetUrgency says how badly a class is needed, from 0, as at the beginning, to 1, not to be held back at all. It should
// follow what the class relieves: memory that fills, a disk that is nearly full, ranges with too many sources.
func (p *Pacer) SetUrgency(c Class, urgency float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.classes[c].urgency = min(max(urgency, 0), 1)
	p.passLocked()
}

// Close lets everybody pass who waits or comes later. Jobs end by their contexts; the pacer's owner awaits them.
func (p *Pacer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	p.passLocked()
}

// Job is a piece of background work.
type Job struct {
	p     *Pacer
	class Class

	// Guarded by Pacer.mu. What has passed since the job's speed was last taken, how long it worked on that, and since
	// when it works, 0 = it has not begun.
	bytes, nanos, since int64
	passed              int64 // Mono of when it last passed
}

// Begin registers a job, which must End.
func (p *Pacer) Begin(c Class) *Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.mu.classes[c].metrics
	m.Begun++
	m.Running++
	return &Job{p: p, class: c}
}

// End says that the job has ended.
func (j *Job) End() {
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	j.p.mu.classes[j.class].metrics.Running--
	j.p.restLocked(j)
	j.p.passLocked()
}

// Wait returns nil when the job may go on with so many bytes, reads and writes together. Jobs ask in steps of StepBytes
// or less. It returns the context's error if that ends first.
func (j *Job) Wait(ctx context.Context, bytes int64) error {
	if bytes < 0 {
		panic(fmt.Sprintf("dyngo: bug: pacer: a step of %d bytes", bytes))
	}
	j.stopWork()
	for left := bytes; ; left -= StepBytes {
		if err := j.p.wait(ctx, j, min(left, StepBytes)); err != nil {
			return err
		}
		if left <= StepBytes {
			runtime.Gosched() // who is ready goes first: Go itself would have him wait for up to 10 ms
			j.startWork(bytes)
			return nil
		}
	}
}

func (j *Job) stopWork() {
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	j.p.restLocked(j)
	now := j.p.mono()
	if j.since != 0 {
		j.nanos += now - j.since
	}
	if j.bytes >= learnBytes && j.nanos > 0 {
		j.p.mu.budget.learn(float64(j.bytes)/float64(j.nanos)*1e9, now)
		j.bytes, j.nanos = 0, 0
	}
}

func (j *Job) startWork(bytes int64) {
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	j.bytes += bytes
	j.since = max(j.p.mono(), 1)
}

func (p *Pacer) wait(ctx context.Context, j *Job, bytes int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &waiter{job: j, bytes: bytes, since: p.mono(), pass: make(chan struct{})}
	p.mu.Lock()
	k := &p.mu.classes[j.class]
	p.restLocked(j) // of the step before, if this is one of several
	if len(k.queue) == 0 {
		k.tag = max(k.tag, p.mu.virtual) // who was away has saved nothing
	}
	k.queue = append(k.queue, w)
	p.passLocked()
	p.mu.Unlock()

	select {
	case <-w.pass:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(k.queue, w)
	if i < 0 {
		return nil // it passed before the lock was taken
	}
	k.queue = slices.Delete(k.queue, i, i+1)
	p.passLocked()
	return ctx.Err()
}

// passLocked lets pass who may, and sees to it that it is called again in time if somebody is left.
func (p *Pacer) passLocked() {
	now := p.mono()
	b := &p.mu.budget
	b.look(now, p.foreground.sum(), p.urgencyLocked())
	k := p.nextLocked()
	for ; k != nil && (b.account >= 0 && p.untilTurnLocked(now) == 0 || k.urgency == 1 || p.mu.closed); k = p.nextLocked() {
		w := k.queue[0]
		k.queue = slices.Delete(k.queue, 0, 1)
		b.take(w.bytes)
		p.mu.virtual = k.tag
		k.tag += w.bytes * price[k.metrics.Class]
		k.metrics.Bytes += w.bytes
		k.metrics.Waited += time.Duration(now - w.since)
		w.job.passed = now
		p.mu.working = append(p.mu.working, w.job)
		close(w.pass)
	}
	switch {
	case k == nil && p.mu.timer != nil:
		p.mu.timer.Stop()
		p.mu.timer = nil
	case k != nil && p.mu.timer == nil:
		p.mu.timer = p.afterFunc(max(b.untilPaid(), p.untilTurnLocked(now)), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.mu.timer = nil
			p.passLocked()
		})
	}
}

// restLocked says that a job does not work for now.
func (p *Pacer) restLocked(j *Job) {
	if i := slices.Index(p.mu.working, j); i >= 0 {
		p.mu.working = slices.Delete(p.mu.working, i, i+1)
	}
}

// untilTurnLocked returns when to look again whether one more job may work beside a foreground that is busy, 0 = it may now. Whoever has
// worked on a step for long does not count: he may wait for the disk, or for somebody who waits here.
func (p *Pacer) untilTurnLocked(now int64) time.Duration {
	if p.mu.budget.foreground < busyBytesPerSec {
		return 0
	}
	n, first := 0, int64(0)
	for _, j := range p.mu.working { // those that passed first come first
		if left := j.passed + int64(turnAtMost) - now; left > 0 {
			if n++; n == 1 {
				first = left
			}
		}
	}
	if n < max(p.opts.Cores-1, 1) {
		return 0
	}
	return time.Duration(first)
}

// nextLocked returns the class whose first waiter passes next: one of urgency 1 if there is one, else, and among those,
// the one with the lowest tag. It returns nil if nobody waits.
func (p *Pacer) nextLocked() (next *class) {
	for i := range p.mu.classes {
		k := &p.mu.classes[i]
		if len(k.queue) == 0 {
			continue
		}
		mostUrgent, urgent := next != nil && next.urgency == 1, k.urgency == 1
		if next == nil || urgent && !mostUrgent || urgent == mostUrgent && k.tag < next.tag {
			next = k
		}
	}
	return next
}

// urgencyLocked returns the highest urgency of those that wait.
func (p *Pacer) urgencyLocked() (u float64) {
	for i := range p.mu.classes {
		if k := &p.mu.classes[i]; len(k.queue) > 0 {
			u = max(u, k.urgency)
		}
	}
	return u
}
