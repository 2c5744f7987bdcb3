package work

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
)

// fillBatch is small, so that recovery has many records of the log to read.
const fillBatch = 100

// runFill leaves a store whose keys are in the log and in memory but not in sorted files, says so
// and waits to be killed: nothing is closed. Touch does so with s.Ops pairs of a store that has them.
func runFill(s Spec, waiting func()) error {
	e, err := openFor(s)
	if err != nil {
		return err
	}
	if s.Kind == Touch {
		if err := e.Ready(); err != nil {
			return err
		}
		s.Keys = int(min(s.Ops, int64(s.Keys)))
	}
	if err := load(e, s, fillBatch, false); err != nil {
		return err
	}
	waiting()
	select {}
}

// runReopen measures what a user waits for after a crash, then reads every key that Fill had made
// durable.
func runReopen(s Spec) ([]Result, error) {
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	c := newClients(1, s)[0]
	first := c.rng.next() % uint64(s.Keys)
	m := startMeter(s.Dir)
	began := time.Now()
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	opened := time.Since(began)
	if err := readBack(e, s, c, first); err != nil {
		return nil, fmt.Errorf("first read: %w", err)
	}
	read := time.Since(began)
	fresh, version := uint64(s.Keys), uint64(1)
	if s.Prepared {
		fresh, version = first, 0 // others measure this store too: it stays as it is
	}
	putKey(c.key, fresh)
	putValue(c.value, fresh, version)
	if err := e.Put(c.key, c.value); err != nil {
		return nil, fmt.Errorf("first put: %w", err)
	}
	put := time.Since(began)
	if err := e.Ready(); err != nil {
		return nil, fmt.Errorf("wait for the rest of recovery: %w", err)
	}
	ready := time.Since(began)
	r := Result{Ops: int64(s.Keys)}
	m.stop(&r)
	r.Extra = map[string]float64{
		"open_s":       opened.Seconds(),
		"first_read_s": read.Seconds(),
		"first_put_s":  put.Seconds(),
		"ready_s":      ready.Seconds(),
	}
	n, err := readBackAll(e, s, c)
	if err != nil {
		return nil, fmt.Errorf("after a crash: %w", err)
	}
	r.Extra["checked"] = float64(n)
	return []Result{r}, nil
}

// readBackTime bounds the check after a crash where an engine reads slowly.
const readBackTime = 3 * time.Second

// readBackAll reads the durable keys, in an order that has no pattern, until all are read or the time
// is over.
func readBackAll(e engine.Engine, s Spec, c *client) (n int, err error) {
	step := coprime(uint64(s.Keys))
	for began := time.Now(); n < s.Keys; n++ {
		if n%1000 == 0 && time.Since(began) > readBackTime {
			return n, nil
		}
		if err := readBack(e, s, c, uint64(n)*step%uint64(s.Keys)); err != nil {
			return n, err
		}
	}
	return n, nil
}

// runMemory puts each key, overwrites each once, and counts what the engine holds for them.
func runMemory(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	m := startMeter(s.Dir)
	for version := range uint64(2) {
		if err := putAll(e, s, version); err != nil {
			return nil, err
		}
	}
	if err := e.Drain(); err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	r := Result{Ops: 2 * int64(s.Keys)}
	m.stop(&r)
	r.UserBytes = r.Ops * int64(s.KeySize+s.ValueSize)
	runtime.GC()
	runtime.GC() // the second one collects what finalizers and pools held back
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	keys := float64(s.Keys)
	r.RSS = statusBytes("VmRSS")
	r.Extra = map[string]float64{
		"keys":        keys,
		"heap":        float64(mem.HeapInuse),
		"rss_per_key": float64(r.RSS) / keys,
	}
	if own, ok := e.Memory(); ok {
		r.Extra["mapped"] = float64(own.Mapped)
		r.Extra["tail"] = float64(own.Tail)
		r.Extra["bytes_per_key"] = (float64(mem.HeapInuse) + float64(own.Mapped) - float64(own.Tail)) / keys
	}
	return []Result{r}, readEvery(e, s, 997)
}

// putAll puts every key once in the given version, by s.Writers goroutines.
func putAll(e engine.Engine, s Spec, version uint64) error {
	var wg sync.WaitGroup
	errs := make([]error, s.Writers)
	for _, c := range newClients(s.Writers, s) {
		wg.Go(func() {
			for i := uint64(c.id); i < uint64(s.Keys); i += uint64(s.Writers) {
				putKey(c.key, i)
				putValue(c.value, i, version)
				if err := e.Put(c.key, c.value); err != nil {
					errs[c.id] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readEvery checks one key in step.
func readEvery(e engine.Engine, s Spec, step int) error {
	key := newKey(s.KeySize)
	var dst []byte
	for i := 0; i < s.Keys; i += step {
		putKey(key, uint64(i))
		v, found, err := e.Get(dst[:0], key)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("key %d was acknowledged and is not there", i)
		}
		if err := checkValue(v, uint64(i), s.ValueSize); err != nil {
			return err
		}
		dst = v
	}
	return nil
}
