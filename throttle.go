package dyngo

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// throttle slows writers down when what is behind the log does not follow: each commit is held back a little, the more the
// further behind, so that nobody is stopped and queues stay bounded. The log itself slows down those who outrun its disk.
//
// Writers are stopped when the disk is so full that merging, which gives space back, could soon do nothing more: the log
// must not take the last of it.
type throttle struct {
	db *DB

	mu     sync.Mutex // guards the fields below; a leaf but for the log's atomic
	delays [causeCount]time.Duration
	told   throttleCause // that the listener knows of

	free    atomic.Int64 // bytes that the disk takes, as of the last look, 0 = not known
	looked  atomic.Int64 // Mono of the last look
	tried   atomic.Int64 // Mono of the last makeRoom
	looking sync.Mutex   // held while disk works; only ever tried
}

type throttleCause int

const (
	causeMemory    throttleCause = iota // recent events fill memory faster than they become segments
	causeMerges                         // segments are added faster than they are merged
	causeRetention                      // the log grows faster than retention drops it
	causeDisk                           // the disk is nearly full
	causeCount                          // none
)

func (c throttleCause) String() string {
	switch c {
	case causeMemory:
		return "recent events fill memory faster than they are written as segments"
	case causeMerges:
		return "segments are added faster than they are merged"
	case causeRetention:
		return "the log grows faster than retention drops log files"
	case causeDisk:
		return "the disk is nearly full: what is left is needed to merge segments and to drop log files; writes wait, deletes and reads go on"
	case causeCount:
		return ""
	}
	return fmt.Sprintf("throttleCause(%d)", int(c))
}

// memory says by how much writers are held back for memory.
func (t *throttle) memory(d time.Duration) { t.set(causeMemory, d) }

// How far merging may be behind, see compaction.Behind, before commits are held back, by how much for each unit beyond,
// and at most.
const (
	mergesBehind = 2
	mergesDelay  = time.Millisecond
	maxDelay     = 10 * time.Millisecond
)

// merges says how far merging is behind.
func (t *throttle) merges(behind float64) {
	over := max(behind-mergesBehind, 0)
	t.set(causeMerges, min(time.Duration(over*float64(mergesDelay)), maxDelay))
}

// retention says how far retention is behind, 1 = writers begin to notice.
func (t *throttle) retention(behind float64) {
	t.set(causeRetention, min(time.Duration(max(behind-1, 0)*float64(maxDelay)), maxDelay))
}

func (t *throttle) set(cause throttleCause, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.delays[cause] == d {
		return
	}
	t.delays[cause] = d
	d, cause = t.longest()
	t.db.log.SetPace(d)
	if cause == t.told {
		return
	}
	t.told = cause
	if l := t.db.opts.Listener.Slowed; l != nil {
		t.db.tell(func() { l(d, cause.String()) })
	}
}

func (t *throttle) longest() (d time.Duration, cause throttleCause) {
	cause = causeCount
	for c, delay := range t.delays {
		if delay > d {
			d, cause = delay, throttleCause(c)
		}
	}
	return d, cause
}

// now is the present delay and its reason.
func (t *throttle) now() (time.Duration, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, cause := t.longest()
	return d, cause.String()
}

const (
	// diskEvery is how often the disk is looked at while events become durable, diskWait while writers wait for it.
	diskEvery = 10 * time.Millisecond
	diskWait  = 100 * time.Millisecond
	// diskRetry is how often those that can make room try again while writers wait.
	diskRetry = time.Second
)

// diskSoon is disk, unless that was called a moment ago.
func (t *throttle) diskSoon() {
	if now := t.db.opts.Clock.Mono(); now-t.looked.Load() >= int64(diskEvery) {
		t.disk()
	}
}

// disk looks at the space that is left, and has writers wait while merges or retention could need it: as much as the largest merge
// and a pass of retention, or an eighth of a small disk. A store that has nothing to merge and nothing to drop leaves no space.
func (t *throttle) disk() {
	db := t.db
	if db.opts.InMemory || db.ctx.Err() != nil || !t.looking.TryLock() {
		return
	}
	defer t.looking.Unlock()
	t.looked.Store(db.opts.Clock.Mono())
	free, total, err := db.opts.FS.Free(db.dir)
	if err != nil || total <= 0 {
		return
	}
	t.free.Store(max(free, 1))
	keep := int64(0)
	s := db.sorted.acquire()
	if len(s.runs) > 1 && !db.compact.idle.Load() { // else waiting gains nothing
		keep = db.compact.opts.MaxJobBytes
	}
	s.release()
	keep = min(keep+db.retention.needs(), total/8)
	held := t.holds()
	if held {
		keep += keep / 4 // not off and on
	}
	low := free < keep
	if low == held {
		return
	}
	db.log.Hold(low)
	if !low {
		t.set(causeDisk, 0)
		return
	}
	t.set(causeDisk, maxPace)
	t.makeRoom()
	db.opts.Clock.AfterFunc(diskWait, t.diskAgain)
}

// makeRoom has those try who can give space back.
func (t *throttle) makeRoom() {
	t.tried.Store(t.db.opts.Clock.Mono())
	t.db.compact.nudge()
	t.db.retention.nudge()
}

// diskAgain looks at the disk as long as writers wait for it: others may have made room.
func (t *throttle) diskAgain() {
	t.disk()
	if !t.holds() || t.db.ctx.Err() != nil {
		return
	}
	if t.db.opts.Clock.Mono()-t.tried.Load() >= int64(diskRetry) {
		t.makeRoom()
	}
	t.db.opts.Clock.AfterFunc(diskWait, t.diskAgain)
}

// holds says that writers wait for disk space.
func (t *throttle) holds() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.delays[causeDisk] > 0
}
