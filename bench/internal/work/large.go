package work

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
)

// runPrepare loads a store, lets it settle and closes it, for workers that measure it afterwards.
func runPrepare(s Spec) error {
	e, err := openFor(s)
	if err != nil {
		return err
	}
	if err := load(e, s, loadBatch, false); err != nil {
		return err
	}
	if err := e.Flush(); err != nil {
		return fmt.Errorf("flush after load: %w", err)
	}
	if err := e.Settle(); err != nil {
		return fmt.Errorf("settle after load: %w", err)
	}
	if !awaitQuiet(s.Dir, quietAtMost) {
		fmt.Fprintln(os.Stderr, "bench: the store did not come to rest after its load")
	}
	return e.Close()
}

const (
	quietStep   = 50 * time.Millisecond
	quietFor    = 10 // steps
	quietAtMost = time.Minute
)

// awaitQuiet waits until this process reads and writes nothing for a while and the files of dir stay as
// large as they are, so that flushes and merges are done. False if that takes too long.
func awaitQuiet(dir string, atMost time.Duration) bool {
	type state struct{ read, written, used int64 }
	tick := time.NewTicker(quietStep)
	defer tick.Stop()
	last, still := state{}, 0
	for began := time.Now(); time.Since(began) < atMost; <-tick.C {
		now := state{deviceRead(), deviceBytes(), diskUsage(dir)}
		if still++; now != last {
			still, last = 0, now
		}
		if still >= quietFor {
			return true
		}
	}
	return false
}

// openLarge opens the store of s for a measurement: what Prepare left, dropped from the page cache and
// under the memory limit, or a new one that is loaded first.
func openLarge(s Spec) (e engine.Engine, cold *coldOpen, done func(), err error) {
	cold = &coldOpen{spec: s}
	if !s.Prepared {
		e, err = openFor(s)
		if err != nil {
			return nil, nil, nil, err
		}
		if err := load(e, s, loadBatch, true); err != nil {
			return nil, nil, nil, err
		}
		return e, cold, func() { _ = e.Close() }, nil
	}
	dropped := dropCache(s.Dir)
	kept, release := limitMemory(s)
	cold.limit = kept
	if dropped != nil {
		cold.notes = append(cold.notes, dropped.Error())
	}
	began := time.Now()
	if e, err = openFor(s); err != nil {
		release()
		return nil, nil, nil, err
	}
	cold.opened = time.Since(began)
	c := newClients(1, s)[0]
	if err := readBack(e, s, c, c.rng.next()%uint64(s.Keys)); err != nil {
		release()
		_ = e.Close() // the first error counts
		return nil, nil, nil, fmt.Errorf("first read: %w", err)
	}
	cold.read = time.Since(began)
	return e, cold, func() { release(); _ = e.Close() }, nil
}

// coldOpen is how a prepared store was opened.
type coldOpen struct {
	spec         Spec
	limit        string
	opened, read time.Duration
	notes        []string
}

// addTo adds it to a result of the worker.
func (c *coldOpen) addTo(r *Result) {
	if c.limit == "" {
		return
	}
	anon, cached, notes := heldSoFar.take(c.spec)
	r.Limit, r.Notes = c.limit, slices.Concat(r.Notes, c.notes, notes)
	if r.Extra == nil {
		r.Extra = map[string]float64{}
	}
	r.Extra["own_memory"], r.Extra["page_cache"] = anon, cached
	r.Extra["open_s"], r.Extra["first_read_s"] = c.opened.Seconds(), c.read.Seconds()
}

// runGet measures gets in a loaded and settled store, one result for each way to pick keys.
func runGet(s Spec) ([]Result, error) {
	e, cold, done, err := openLarge(s)
	if err != nil {
		return nil, err
	}
	defer done()
	var results []Result
	for _, d := range s.Dists {
		r, err := measureGet(e, s, d)
		if err != nil {
			return results, fmt.Errorf("%s: %w", d, err)
		}
		r.Case = string(d)
		cold.addTo(&r)
		results = append(results, r)
	}
	return results, nil
}
