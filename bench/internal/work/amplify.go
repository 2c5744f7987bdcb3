package work

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// logDir is where DynGO keeps its log. The log is the history that its retention keeps, so its bytes are
// counted apart from those of the files that hold the present. sideDir has the files that say where in the
// log the events of a key lie: they serve reads of the past.
const (
	logDir  = "wal"
	sideDir = "side"
)

// runAmplify loads s.Keys keys and overwrites some of them s.Ops times. What it costs the device is
// counted until everything has come to rest.
func runAmplify(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	r, empty := Result{}, statusBytes("VmRSS")
	rest := func(when string) {
		if !awaitQuiet(s.Dir, quietAtMost) {
			r.Notes = append(r.Notes, fmt.Sprintf("still at work a minute after %s", when))
		}
	}
	if err := load(e, s, loadBatch, false); err != nil {
		return nil, err
	}
	rest("the load")
	rec := newRecorder(s.Writers)
	loop := overwrites(e, s, s.Dists[0], rec)
	loop.duration, loop.ops = s.duration(), s.Ops
	m := startMeter(s.Dir)
	lr, err := loop.run()
	if err != nil {
		return nil, err
	}
	drain := time.Now()
	if err := e.Drain(); err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	r.Ops, r.Drain = lr.ops, time.Since(drain).Seconds()
	m.stop(&r)
	if lr.full {
		r.Notes = append(r.Notes, "ended early: the disk was running full")
	}
	r.UserBytes = lr.ops * int64(s.KeySize+s.ValueSize)
	r.Latency = map[string]stats.Latency{"put": rec.latency()}
	r.Series = map[string][]stats.Point{"put": lr.series}
	if err := e.Flush(); err != nil {
		return nil, fmt.Errorf("flush: %w", err)
	}
	rest("the overwrites")
	r.Device = deviceBytes() - m.device
	r.PeakRSS = statusBytes("VmHWM")
	r.Extra = map[string]float64{
		"settle_s":  time.Since(drain).Seconds(),
		"written":   float64(r.Device) / float64(max(r.UserBytes, 1)),
		"live":      float64(s.Keys) * float64(s.KeySize+s.ValueSize),
		"used":      float64(diskUsage(s.Dir)),
		"used_log":  float64(diskUsage(filepath.Join(s.Dir, logDir))),
		"used_side": float64(diskUsage(filepath.Join(s.Dir, sideDir))),
		"budget":    float64(s.MemoryBudget),
		"rss_limit": float64(s.MemoryBudget)*1.25 + 32<<20,
		"rss_empty": float64(empty), // the driver's share, code of all engines included
	}
	r.Case = string(s.Dists[0])
	return []Result{r}, readEvery(e, s, max(s.Keys/100_000, 1)|1)
}

// overwrites is a loop of s.Writers clients that put keys which exist.
func overwrites(e engine.Engine, s Spec, d Dist, rec *recorder) *closedLoop {
	pick := newPicker(d, s.Keys, s.Seed)
	shift := s.writeSampling()
	return &closedLoop{
		clients: newClients(s.Writers, s), interval: s.Interval, minFree: s.MinFree, dir: s.Dir,
		op: func(c *client) error {
			return putOne(e, c, pick.pick(&c.rng, &c.pos), shift, rec)
		},
	}
}

const (
	overload    = 2 // times the rate of the closed loop
	rateShare   = 6 // the closed loop takes a sixth of the time of the open one
	slowestUnit = float64(time.Millisecond)
)

// runOffer finds the rate of puts that a closed loop sustains, then offers twice as many by a timetable.
// The rate is that of the loop's second half, when memory is full.
func runOffer(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := load(e, s, loadBatch, false); err != nil {
		return nil, err
	}
	closed := overwrites(e, s, Uniform, newRecorder(s.Writers))
	rate, err := sustained(closed, s.duration()/rateShare)
	if err != nil {
		return nil, err
	}
	var slowest atomic.Int64
	op := closed.op
	puts := newOpenLoop(s.Writers, time.Duration(float64(time.Second)*float64(s.Writers)/(overload*rate)), s,
		func(c *client) error {
			t := time.Now()
			err := op(c)
			for took := int64(time.Since(t)); ; {
				if last := slowest.Load(); took <= last || slowest.CompareAndSwap(last, took) {
					return err
				}
			}
		})
	r := Result{}
	m := startMeter(s.Dir)
	var worst []stats.Point
	elapsed, err := offerAlone(s, puts, func(at time.Duration) {
		worst = append(worst, stats.Point{Seconds: at.Seconds(), Rate: float64(slowest.Swap(0)) / slowestUnit})
	})
	if err != nil {
		return nil, err
	}
	if err := e.Drain(); err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	r.Ops = puts.total()
	m.stop(&r)
	r.UserBytes = r.Ops * int64(s.KeySize+s.ValueSize)
	r.Latency = map[string]stats.Latency{"put": puts.service.latency(), "put, from when due": puts.due.latency()}
	r.Series = map[string][]stats.Point{"put": puts.series, "slowest": worst}
	r.Extra = map[string]float64{"offered_per_s": overload * rate, "offered_s": elapsed.Seconds()}
	r.Case = "overload"
	return []Result{r}, nil
}

// sustained runs the loop and returns its rate in the second half of the time.
func sustained(l *closedLoop, d time.Duration) (float64, error) {
	rate := 0.0
	for range 2 {
		l.duration = d / 2
		began := time.Now()
		lr, err := l.run()
		if err != nil {
			return 0, err
		}
		rate = float64(lr.ops) / time.Since(began).Seconds()
	}
	if rate == 0 {
		return 0, fmt.Errorf("no put was done in %v", d)
	}
	return rate, nil
}

// offerAlone runs one open loop until the time is over, the disk runs full or an operation fails, and
// calls sampled after each interval.
func offerAlone(s Spec, l *openLoop, sampled func(at time.Duration)) (time.Duration, error) {
	var (
		stop    atomic.Bool
		wg      sync.WaitGroup
		failure atomic.Pointer[error]
	)
	began := time.Now()
	l.start(began, &stop, &wg, func(err error) {
		failure.CompareAndSwap(nil, &err)
		stop.Store(true)
	})
	tick := time.NewTicker(max(s.Interval, time.Millisecond))
	defer tick.Stop()
	for now := range tick.C {
		l.sample(began, now)
		sampled(now.Sub(began))
		free, err := FreeBytes(s.Dir)
		if now.Sub(began) >= s.duration() || stop.Load() || s.MinFree > 0 && err == nil && free < s.MinFree {
			break
		}
	}
	stop.Store(true)
	elapsed := time.Since(began)
	wg.Wait()
	if err := failure.Load(); err != nil {
		return elapsed, *err
	}
	return elapsed, nil
}
