package clock

import "time"

// Clock tells the time and wakes callers. Safe for concurrent use.
type Clock interface {
	// Now returns unix nanoseconds that follow the monotonic clock from the wall time at which the Clock was made.
	Now() int64

	// Wall returns the machine's wall time in unix nanoseconds. It may jump either way.
	Wall() int64

	// Mono returns the nanoseconds since the Clock was made.
	Mono() int64

	// NewTimer returns a timer that sends on its channel once, after d. A d of zero or less fires at once.
	NewTimer(d time.Duration) Timer

	// AfterFunc calls f once, after d, in a goroutine of its own (System) or in that of Advance (Manual). The timer's
	// channel is nil.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a pending wake-up.
type Timer interface {
	// C is the channel that a timer of NewTimer sends on. What is sent has no meaning. After Stop or Reset has
	// returned, nothing of an earlier setting arrives.
	C() <-chan time.Time

	// Stop cancels the timer and reports whether it was pending. It does not wait for a function that has begun.
	Stop() bool

	// Reset sets the timer anew, whether it is pending, fired or stopped, and reports whether it was pending.
	Reset(d time.Duration) bool
}

// Elapsed returns the time since an earlier reading of c.Mono.
func Elapsed(c Clock, since int64) time.Duration { return time.Duration(c.Mono() - since) }
