package work

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// Crowds are how many clients there are one after the other: one, four times as many, up to most, and back.
func Crowds(most int) (up, down []int) {
	for n := 1; n <= most; n *= 4 {
		up = append(up, n)
	}
	for i := len(up) - 2; i >= 0; i-- {
		down = append(down, up[i])
	}
	return up, down
}

// firstPart is the part of a phase, after the number of clients has changed, that is held against the rest.
const firstPart = 4

// runCrowd has clients come and go: half gets by zipf of keys that are there, half puts of keys that are not, so that what is kept in
// memory grows, is flushed and leaves all the time. Each phase takes s.Seconds.
func runCrowd(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := load(e, s, loadBatch, true); err != nil {
		return nil, err
	}
	var (
		results []Result
		next    atomic.Uint64 // number of the next new key
		series  []stats.Point
		slowest []stats.Point
		passed  float64 // seconds of phases before this one
		pick    = newPicker(Zipf, s.Keys, s.Seed)
	)
	next.Store(uint64(s.Keys))
	phase := func(n int) error {
		first, rest := newRecorder(n), newRecorder(n)
		var end time.Time // of the first part
		loop := closedLoop{
			clients: newClients(n, s), duration: s.duration(), interval: s.Interval, minFree: s.MinFree, dir: s.Dir,
			op: func(c *client) (err error) {
				began := time.Time{}
				timed := c.every(sampleWrites)
				i := pick.pick(&c.rng, &c.pos)
				put := c.n%2 == 0
				if put {
					i = next.Add(1)
					putValue(c.value, i, c.n)
				}
				putKey(c.key, i)
				if timed {
					began = time.Now()
				}
				if put {
					err = e.Put(c.key, c.value)
				} else {
					found := false
					c.dst, found, err = e.Get(c.dst[:0], c.key)
					if err == nil && !found && s.Engine != "none" {
						err = fmt.Errorf("key %d was not found", i)
					}
				}
				if timed {
					rec := rest
					if began.Before(end) {
						rec = first
					}
					rec.record(c.id, time.Since(began))
				}
				return err
			},
		}
		m := startMeter(s.Dir)
		end = time.Now().Add(s.duration() / firstPart)
		lr, err := loop.run()
		if err != nil {
			return err
		}
		r := Result{Ops: lr.ops}
		m.stop(&r)
		if lr.full {
			r.Notes = append(r.Notes, "ended early: the disk was running full")
		}
		a, b := first.latency(), rest.latency()
		r.Latency = map[string]stats.Latency{"operation": b}
		r.Extra = map[string]float64{"clients": float64(n), "first_p999": float64(a.P999), "first_max": float64(a.Max)}
		if b.P999 > 0 {
			r.Extra["first_ratio"] = float64(a.P999) / float64(b.P999)
		}
		if t, ok := e.(engine.Tables); ok {
			f := t.Tables()
			r.Extra["moves"], r.Extra["longest_move_ns"], r.Extra["index_bytes"] = float64(f.Moves), float64(f.LongestNs), float64(f.IndexBytes)
		}
		for _, p := range lr.series {
			series = append(series, stats.Point{Seconds: passed + p.Seconds, Rate: p.Rate})
		}
		slowest = append(slowest, stats.Point{Seconds: passed + r.Seconds, Rate: float64(max(a.Max, b.Max)) / 1e6})
		passed += r.Seconds
		results = append(results, r)
		return nil
	}
	up, down := Crowds(s.Writers)
	for _, n := range slices.Concat(up, down) {
		if err := phase(n); err != nil {
			return results, err
		}
	}
	if err := e.Drain(); err != nil {
		return results, fmt.Errorf("drain: %w", err)
	}
	results[0].Series = map[string][]stats.Point{"all": series, "slowest": slowest}
	if next.Load() == uint64(s.Keys) {
		return results, errors.New("no key was put")
	}
	return results, nil
}
