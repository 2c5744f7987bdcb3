package clock

import "time"

// System is the machine's clock. Make one with NewSystem.
type System struct {
	start time.Time // with its monotonic reading
	wall  int64     // of start, unix nanoseconds
}

var _ Clock = (*System)(nil)

// NewSystem returns the machine's clock, with Mono 0 and Now the present wall time.
func NewSystem() *System {
	now := time.Now()
	return &System{start: now, wall: now.UnixNano()}
}

// Now implements Clock.
func (s *System) Now() int64 { return s.wall + s.Mono() }

// Wall implements Clock.
func (s *System) Wall() int64 { return time.Now().UnixNano() }

// Mono implements Clock. time.Since of a time with a monotonic reading reads the monotonic clock only.
func (s *System) Mono() int64 { return int64(time.Since(s.start)) }

// NewTimer implements Clock.
func (s *System) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

// AfterFunc implements Clock.
func (s *System) AfterFunc(d time.Duration, f func()) Timer {
	return systemTimer{time.AfterFunc(d, f)}
}

type systemTimer struct{ t *time.Timer }

func (t systemTimer) C() <-chan time.Time        { return t.t.C }
func (t systemTimer) Stop() bool                 { return t.t.Stop() }
func (t systemTimer) Reset(d time.Duration) bool { return t.t.Reset(d) }
