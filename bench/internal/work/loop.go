package work

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// client is one goroutine of a closed loop: its number, its own randomness and its own buffers.
type client struct {
	id    int
	rng   rng
	pos   uint32 // in a picker's table
	key   []byte
	value []byte
	dst   []byte
	n     uint64 // operations begun

	_    [64]byte
	done atomic.Int64 // operations done, read by the sampler
	_    [64]byte
}

// newClients returns n clients with buffers for s and seeds that differ.
func newClients(n int, s Spec) []*client {
	cs := make([]*client, n)
	for i := range cs {
		c := &client{
			id:    i,
			rng:   rng(s.Seed + uint64(i)*0x5851F42D4C957F2D),
			key:   newKey(s.KeySize),
			value: newValue(s.ValueSize),
			dst:   make([]byte, 0, s.ValueSize+64),
		}
		c.pos = uint32(c.rng.next() % zipfTableSize)
		cs[i] = c
	}
	return cs
}

// closedLoop runs op on each client again and again until the time is over, the number of
// operations is reached or an operation fails.
type closedLoop struct {
	clients  []*client
	duration time.Duration
	ops      int64         // 0 = until the time is over
	interval time.Duration // of the series, 0 = none
	minFree  int64         // ends early with less room on the disk of dir
	dir      string
	op       func(c *client) error
}

// opsClaim is how many operations a client takes at once from the common budget.
const opsClaim = 32

type loopResult struct {
	ops    int64
	series []stats.Point
	full   bool // ended early for lack of disk space
}

func (l *closedLoop) run() (loopResult, error) {
	var (
		stop    atomic.Bool
		left    atomic.Int64
		failure atomic.Pointer[error]
		wg      sync.WaitGroup
		start   = make(chan struct{})
	)
	left.Store(l.ops)
	for _, c := range l.clients {
		c.done.Store(0)
		wg.Go(func() {
			<-start
			claimed := int64(0)
			for !stop.Load() {
				if l.ops > 0 {
					if claimed == 0 {
						claimed = min(opsClaim, left.Add(-opsClaim)+opsClaim)
						if claimed <= 0 {
							return
						}
					}
					claimed--
				}
				c.n++
				if err := l.op(c); err != nil {
					// A copy, since a variable whose address is taken would be allocated in each round.
					first := err
					failure.CompareAndSwap(nil, &first)
					stop.Store(true)
					return
				}
				c.done.Store(c.done.Load() + 1)
			}
		})
	}
	finished := make(chan struct{})
	began := time.Now()
	close(start)
	go func() { wg.Wait(); close(finished) }()
	res := l.watch(began, finished, &stop)
	res.ops = l.total()
	if err := failure.Load(); err != nil {
		return res, fmt.Errorf("operation %d: %w", res.ops, *err)
	}
	return res, nil
}

// watch samples the clients' progress until they are finished, and stops them in time.
func (l *closedLoop) watch(began time.Time, finished <-chan struct{}, stop *atomic.Bool) loopResult {
	var res loopResult
	end := time.NewTimer(l.duration)
	defer end.Stop()
	every := l.interval
	if every == 0 {
		every = time.Second // for the disk
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, lastOps := began, int64(0)
	sample := func(now time.Time) {
		ops := l.total()
		// A rest shorter than half a step would be noise.
		if d := now.Sub(last).Seconds(); l.interval > 0 && d > every.Seconds()/2 {
			res.series = append(res.series, stats.Point{
				Seconds: now.Sub(began).Seconds(),
				Rate:    float64(ops-lastOps) / d,
			})
		}
		last, lastOps = now, ops
	}
	for {
		select {
		case <-end.C:
			stop.Store(true)
		case <-tick.C:
			sample(time.Now())
			if free, err := FreeBytes(l.dir); l.minFree > 0 && err == nil && free < l.minFree {
				res.full = true
				stop.Store(true)
			}
		case <-finished:
			sample(time.Now())
			return res
		}
	}
}

func (l *closedLoop) total() int64 {
	n := int64(0)
	for _, c := range l.clients {
		n += c.done.Load()
	}
	return n
}

// every reports whether an operation is one of those whose latency is sampled: each of them where a
// device is involved, about one in 2^shift where reading the clock would cost as much as the
// operation. It goes by pairs, so that a loop that reads and writes in turn samples both.
func (c *client) every(shift uint) bool { return c.n>>1&(1<<shift-1) == 0 }
