package epoch

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"
)

// stripeCount is a power of two. More stripes cost a longer look per grace period and make it rarer that two running
// goroutines share a cache line.
const stripeCount = 64

// Domain is a set of readers and of things to free once those have left. Its methods are safe for concurrent use.
type Domain struct {
	epoch    atomic.Uint64 // only the domain's goroutine stores it
	draining atomic.Uint64 // epoch whose guards are waited for, 0 = none
	_        [112]byte     // readers load the two words above all the time; keep writes away from their line

	stripes [stripeCount]stripe

	work chan struct{} // capacity 1: the queue has something, or the domain closes
	idle chan struct{} // capacity 1: a counter of the draining epoch went to zero
	done chan struct{} // closed when the goroutine has ended

	waiting atomic.Int64 // functions retired and not yet run

	mu struct {
		sync.Mutex // guards the fields below; never held while a function runs

		queue   []func()
		closing bool // Close was called
		ended   bool // the goroutine takes nothing more from the queue
	}
}

// stripe counts the guards of epochs of even and of odd number, alone on its pair of cache lines: those that are held in the lower
// half of a counter, and in its upper half how many were taken ever, which overflows.
type stripe struct {
	held [2]atomic.Int64
	_    [112]byte
}

const taken = 1<<32 + 1 // one guard more

// New returns a domain and starts its goroutine, which Close ends.
func New() *Domain {
	d := &Domain{
		work: make(chan struct{}, 1),
		idle: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	d.epoch.Store(1)
	go d.run()
	return d
}

// Guard is a reader's stay. The zero Guard is not valid.
type Guard struct {
	d    *Domain
	held *atomic.Int64
	stay uint64 // the lower half of the epoch, and above it the guard's tick: one word, so that copies are cheap
}

// Tick numbers the guards that were taken at the same stripe, so those that a goroutine takes one after the other mostly have
// consecutive ticks. It costs nothing beside Enter, so that sampling can go by it.
func (g Guard) Tick() uint32 { return uint32(g.stay >> 32) }

// Stripe is where the guard is counted, from 0 to Stripes-1: two goroutines that run at the same time rarely share one.
func (g Guard) Stripe() int {
	return int((uintptr(unsafe.Pointer(g.held)) - uintptr(unsafe.Pointer(&g.d.stripes))) / unsafe.Sizeof(stripe{}))
}

// Stripes is how many stripes a domain has.
const Stripes = stripeCount

// Enter begins a stay: what the caller finds from here on is not freed before Exit. Stays may nest and may end on
// another goroutine. They should be short: an operation, not a user's loop.
func (d *Domain) Enter() Guard {
	s := &d.stripes[stripeIndex()]
	for {
		e := d.epoch.Load()
		g := Guard{d: d, held: &s.held[e&1]}
		g.stay = uint64(g.held.Add(taken))>>32<<32 | e&math.MaxUint32
		if d.epoch.Load() == e {
			return g
		}
		g.Exit() // the epoch moved on in between, see reason 5 in the package comment
	}
}

// Exit ends the stay. Each guard exits once.
func (g Guard) Exit() {
	if n := int32(g.held.Add(-1)); n <= 0 { // small enough to be inlined
		g.last(n)
	}
}

// Cancel is Exit of a guard that is to be taken anew: the next one has its tick.
func (g Guard) Cancel() {
	if n := int32(g.held.Add(-taken)); n <= 0 {
		g.last(n)
	}
}

func (g Guard) last(n int32) {
	if n < 0 {
		panic(fmt.Sprintf("dyngo: bug: epoch: guard of epoch %d exits twice", uint32(g.stay)))
	}
	// By parity, since an interrupted Enter lowers the counter of an epoch long gone; a signal too many does no harm.
	if e := g.d.draining.Load(); e != 0 && e&1 == g.stay&1 {
		signal(g.d.idle)
	}
}

// stripeIndex spreads goroutines by the address of their stack, which differs by at least 2 KiB between any two.
func stripeIndex() uintptr {
	var b byte
	x := uint64(uintptr(unsafe.Pointer(&b)) >> 11)
	return uintptr(x * 0x9e3779b97f4a7c15 >> 58)
}

// Retire runs f once all current guards have exited. It never waits. f runs on the domain's goroutine: it may call
// Retire, it must not call Synchronize or Close, and it should be short. After Close there are no readers, so f runs at
// once, on the caller's goroutine.
func (d *Domain) Retire(f func()) {
	d.mu.Lock()
	if d.mu.ended {
		d.mu.Unlock()
		f()
		return
	}
	d.mu.queue = append(d.mu.queue, f)
	d.waiting.Add(1)
	d.mu.Unlock()
	signal(d.work)
}

// Synchronize waits until all guards that existed at the call have exited and all functions retired before have run.
// The caller must hold no guard.
func (d *Domain) Synchronize() {
	c := make(chan struct{})
	d.Retire(func() { close(c) })
	<-c
}

// Waiting returns how many retired functions have not yet run. A number that stays up means that a guard is held for
// long.
func (d *Domain) Waiting() int { return int(d.waiting.Load()) }

// Close waits for the guards to exit, runs what was retired and ends the goroutine. Nobody may call Enter afterwards.
// A second Close does nothing.
func (d *Domain) Close() {
	d.mu.Lock()
	d.mu.closing = true
	d.mu.Unlock()
	signal(d.work)
	<-d.done
}

func (d *Domain) run() {
	defer close(d.done)
	for {
		d.mu.Lock()
		batch := d.mu.queue
		d.mu.queue = nil
		d.mu.ended = d.mu.closing && len(batch) == 0
		ended := d.mu.ended
		d.mu.Unlock()
		switch {
		case len(batch) > 0:
			d.advance()
			for _, f := range batch {
				f()
				d.waiting.Add(-1)
			}
		case ended:
			return
		default:
			<-d.work
		}
	}
}

// advance moves to the next epoch and waits for the guards of the one before. The package comment has the reasons.
func (d *Domain) advance() {
	e := d.epoch.Load()
	d.draining.Store(e)
	d.epoch.Store(e + 1)
	for i := range d.stripes {
		for int32(d.stripes[i].held[e&1].Load()) != 0 {
			<-d.idle
		}
	}
	d.draining.Store(0)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
