package dyngo

import (
	"fmt"
	"sync"
	"time"
)

// throttle slows writers down when what is behind the log does not follow: each commit is held back a little, the more the
// further behind, so that nobody is stopped and queues stay bounded. The log itself slows down those who outrun its disk.
type throttle struct {
	db *DB

	mu     sync.Mutex // guards the fields below; a leaf but for the log's atomic
	delays [causeCount]time.Duration
	told   throttleCause // that the listener knows of
}

type throttleCause int

const (
	causeMemory throttleCause = iota // recent events fill memory faster than they become segments
	causeMerges                      // segments are added faster than they are merged
	causeCount                       // none
)

func (c throttleCause) String() string {
	switch c {
	case causeMemory:
		return "recent events fill memory faster than they are written as segments"
	case causeMerges:
		return "segments are added faster than they are merged"
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
	mergesBehind  = 2
	mergesDelay   = time.Millisecond
	maxMergeDelay = 10 * time.Millisecond
)

// merges says how far merging is behind.
func (t *throttle) merges(behind float64) {
	over := max(behind-mergesBehind, 0)
	t.set(causeMerges, min(time.Duration(over*float64(mergesDelay)), maxMergeDelay))
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
