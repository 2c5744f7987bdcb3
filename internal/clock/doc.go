// Package clock is where DynGO gets its time from. It promises nothing to other modules.
//
// A Clock gives three readings. Mono only ever goes forward and says how much time has passed. Now is wall time read
// once, when the clock was made, plus Mono since: it is close to the time of day and never goes back either. Wall is
// the machine's wall time, which someone may set at any moment in either direction; Now and Wall drift apart by such
// jumps, which is how a caller notices them.
//
// System is the machine's clock. Manual is a clock for tests that stands still until it is told to move; its timers
// fire when it is moved past them, so that no test has to sleep.
package clock
