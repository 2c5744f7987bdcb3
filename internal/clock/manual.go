package clock

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Manual is a clock that moves when told. Make one with NewManual.
type Manual struct {
	mu struct {
		sync.Mutex // guards the fields below and all timers; never held while a function of a timer runs

		start   int64 // Now at Mono 0
		mono    int64
		jump    int64 // Wall minus Now
		timers  []*manualTimer
		nextID  uint64
		changed chan struct{} // closed and replaced when a timer is set
	}
}

var _ Clock = (*Manual)(nil)

// NewManual returns a clock that stands at start, with Mono 0 and Wall equal to Now.
func NewManual(start time.Time) *Manual {
	m := &Manual{}
	m.mu.start = start.UnixNano()
	m.mu.changed = make(chan struct{})
	return m
}

// Now implements Clock.
func (m *Manual) Now() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.start + m.mu.mono
}

// Wall implements Clock.
func (m *Manual) Wall() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.start + m.mu.mono + m.mu.jump
}

// Mono implements Clock.
func (m *Manual) Mono() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.mono
}

// Jump moves the wall clock alone, forward or (d < 0) back, as when someone sets it.
func (m *Manual) Jump(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.jump += int64(d)
}

// Advance moves all clocks forward by d and fires each timer that falls due, in order of due time, each at its own
// time and before Advance returns; functions run in the calling goroutine. A timer set meanwhile fires too if it is
// due within d. Calls of Advance must not overlap.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	end := m.mu.mono + int64(max(d, 0))
	for {
		i := m.firstDueLocked(end)
		if i < 0 {
			break
		}
		t := m.mu.timers[i]
		m.mu.timers = slices.Delete(m.mu.timers, i, i+1)
		m.mu.mono = max(m.mu.mono, t.due)
		m.fireLocked(t)
	}
	m.mu.mono = end
	m.mu.Unlock()
}

// firstDueLocked returns the index of the timer to fire next up to end, or -1. Timers due together fire in the order in
// which they were set.
func (m *Manual) firstDueLocked(end int64) int {
	first := -1
	for i, t := range m.mu.timers {
		if t.due > end {
			continue
		}
		if first < 0 || t.before(m.mu.timers[first]) {
			first = i
		}
	}
	return first
}

// fireLocked lets go of the lock while a function runs.
func (m *Manual) fireLocked(t *manualTimer) {
	if t.f == nil {
		select {
		case t.c <- time.Unix(0, m.mu.start+m.mu.mono):
		default: // one that nobody has taken yet is as good
		}
		return
	}
	m.mu.Unlock()
	defer m.mu.Lock()
	t.f()
}

// Pending returns how many timers are set.
func (m *Manual) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mu.timers)
}

// AwaitPending waits until at least n timers are set, so that a test can move the clock after the goroutines under test
// have begun to wait. It returns the context's error if that ends first.
func (m *Manual) AwaitPending(ctx context.Context, n int) error {
	for {
		m.mu.Lock()
		enough, changed := len(m.mu.timers) >= n, m.mu.changed
		m.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// NewTimer implements Clock.
func (m *Manual) NewTimer(d time.Duration) Timer {
	return m.add(d, &manualTimer{m: m, c: make(chan time.Time, 1)})
}

// AfterFunc implements Clock. A function with d of zero or less runs in a goroutine of its own at once, since there is
// no Advance that it would wait for.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	return m.add(d, &manualTimer{m: m, f: f})
}

func (m *Manual) add(d time.Duration, t *manualTimer) Timer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setLocked(t, d)
	return t
}

func (m *Manual) setLocked(t *manualTimer, d time.Duration) {
	if d <= 0 {
		if t.f != nil {
			go t.f()
		} else {
			m.fireLocked(t)
		}
		return
	}
	m.mu.nextID++
	t.id, t.due = m.mu.nextID, m.mu.mono+int64(d)
	m.mu.timers = append(m.mu.timers, t)
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

type manualTimer struct {
	m *Manual
	f func()         // nil for a timer with a channel
	c chan time.Time // nil for a timer with a function

	// Guarded by Manual.mu.
	id  uint64
	due int64 // Mono
}

func (t *manualTimer) before(o *manualTimer) bool {
	return t.due < o.due || t.due == o.due && t.id < o.id
}

func (t *manualTimer) C() <-chan time.Time { return t.c }

func (t *manualTimer) Stop() bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.stopLocked()
}

func (t *manualTimer) stopLocked() bool {
	if t.c != nil {
		select {
		case <-t.c: // as time.Timer: nothing stale is left
		default:
		}
	}
	i := slices.Index(t.m.mu.timers, t)
	if i < 0 {
		return false
	}
	t.m.mu.timers = slices.Delete(t.m.mu.timers, i, i+1)
	return true
}

func (t *manualTimer) Reset(d time.Duration) bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	was := t.stopLocked()
	t.m.setLocked(t, d)
	return was
}
