package pacer

import (
	"math"
	"time"
)

const (
	lookEvery    = 20 * time.Millisecond // while somebody waits
	lookAtMost   = time.Millisecond      // between two looks of the timer
	averageOver  = 25 * time.Millisecond // time constant of the foreground's average
	floorPart    = 16                    // of the capacity
	minFloor     = 1 << 20               // bytes a second
	firstSpeed   = 64 << 20              // bytes a second, until a job's is known
	learnBytes   = 1 << 20               // a speed is taken over so many bytes at least
	learnedFades = time.Minute           // by half
)

// budget is what background work may do: an account that fills at a rate. All rates are in bytes a second.
type budget struct {
	opts    Options
	at      int64   // Mono of the last look
	account float64 // bytes; negative = debt

	noted      int64   // by the foreground, at the last look
	foreground float64 // rate, averaged
	rate       float64 // of background work
	speed      float64 // of one job, learned
	learnedAt  int64   // Mono
}

func newBudget(o Options, now int64) budget {
	b := budget{opts: o, at: now, learnedAt: now, speed: firstSpeed}
	b.rate = b.capacity()
	return b
}

func (b *budget) capacity() float64 {
	if b.opts.BytesPerSec > 0 {
		return float64(b.opts.BytesPerSec)
	}
	return b.speed * float64(b.opts.Cores)
}

func (b *budget) floor() float64 {
	if b.opts.FloorBytesPerSec > 0 {
		return float64(b.opts.FloorBytesPerSec)
	}
	return max(b.capacity()/floorPart, minFloor)
}

// look brings the account up to now, at which the foreground has noted so many bytes in all, and sets the rate.
func (b *budget) look(now, noted int64, urgency float64) {
	if passed := float64(now - b.at); passed > 0 {
		// A look weighs as much as the time it is over: often or seldom, the average is the same.
		last := float64(noted-b.noted) / passed * 1e9
		b.foreground = last + (b.foreground-last)*math.Exp(-passed/float64(averageOver))
		b.account += b.rate * passed / 1e9
		b.at, b.noted = now, noted
	}
	b.rate = max(b.capacity()-b.foreground, b.floor())
	b.rate += urgency * max(b.capacity()-b.rate, 0)
	// What was not used is not saved up, but for the time until the next look.
	b.account = min(b.account, b.rate*lookEvery.Seconds())
}

// take pays for a step. Those who need not wait can't ruin the others: the debt is never more than a step.
func (b *budget) take(bytes int64) { b.account = max(b.account-float64(bytes), -StepBytes) }

// untilPaid returns when to look again: when the debt is paid, and soon, since rates change.
func (b *budget) untilPaid() time.Duration {
	debt := time.Duration(math.Ceil(-b.account / b.rate * 1e9))
	return min(max(debt, lookAtMost), lookEvery)
}

// learn notes the speed of a job while it worked.
func (b *budget) learn(speed float64, now int64) {
	faded := b.speed * math.Exp2(-float64(now-b.learnedAt)/float64(learnedFades))
	b.speed, b.learnedAt = max(speed, faded), now
}
