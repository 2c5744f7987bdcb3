package work

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// The open loop of the records test: each goroutine has a timetable and never waits for an answer
// before the next operation is due. What is due late is done at once, and its latency counts from
// when it was due.
const (
	recordWriteEvery = time.Millisecond
	recordReadEvery  = 2 * time.Millisecond
	recordLoadBatch  = 16
	watchEvery       = 100 * time.Millisecond
)

// openLoop is one group of goroutines with the same timetable.
type openLoop struct {
	every    time.Duration
	clients  []*client
	due      *recorder // latency from the moment when the operation was due
	service  *recorder // latency from the moment when it was begun
	op       func(c *client) error
	lastOps  int64
	series   []stats.Point
	lastTime time.Time
}

func newOpenLoop(n int, every time.Duration, s Spec, op func(c *client) error) *openLoop {
	return &openLoop{
		every: every, clients: newClients(n, s),
		due: newRecorder(n), service: newRecorder(n), op: op,
	}
}

// start lets the goroutines go; their timetables are spread evenly over one period.
func (l *openLoop) start(began time.Time, stop *atomic.Bool, wg *sync.WaitGroup, fail func(error)) {
	l.lastTime = began
	for i, c := range l.clients {
		due := began.Add(l.every * time.Duration(i) / time.Duration(len(l.clients)))
		wg.Go(func() {
			for ; !stop.Load(); due = due.Add(l.every) {
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
				}
				c.n++
				t := time.Now()
				if err := l.op(c); err != nil {
					fail(err)
					return
				}
				end := time.Now()
				l.due.record(c.id, end.Sub(due))
				l.service.record(c.id, end.Sub(t))
				c.done.Add(1)
			}
		})
	}
}

func (l *openLoop) total() (n int64) {
	for _, c := range l.clients {
		n += c.done.Load()
	}
	return n
}

func (l *openLoop) sample(began, now time.Time) {
	ops, d := l.total(), now.Sub(l.lastTime).Seconds()
	l.series = append(l.series, stats.Point{
		Seconds: now.Sub(began).Seconds(), Rate: float64(ops-l.lastOps) / d,
	})
	l.lastOps, l.lastTime = ops, now
}

// runRecords loads s.Keys records and then offers writes and reads until the time is over or
// MaxBytes were written, the load included.
func runRecords(s Spec) ([]Result, error) {
	if loaded := int64(s.Keys) * int64(s.KeySize+recordSize); s.MaxBytes > 0 && loaded > s.MaxBytes/2 {
		return nil, fmt.Errorf("loading %d records writes %d bytes, more than half of the %d allowed", s.Keys, loaded, s.MaxBytes)
	}
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := loadRecords(e, s); err != nil {
		return nil, err
	}
	pick := newPicker(Uniform, s.Keys, s.Seed)
	writes := newOpenLoop(s.Writers, recordWriteEvery, s, func(c *client) error {
		i := pick.pick(&c.rng, &c.pos)
		putKey(c.key, i)
		c.dst = appendRecord(c.dst[:0], i, c.n)
		return e.Put(c.key, c.dst)
	})
	reads := newOpenLoop(s.Readers, recordReadEvery, s, func(c *client) error {
		i := pick.pick(&c.rng, &c.pos)
		putKey(c.key, i)
		v, found, err := e.Get(c.dst[:0], c.key)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("record %d is not there", i)
		}
		c.dst = v
		return checkRecord(v, i)
	})
	m := startMeter(s.Dir)
	elapsed, err := offer(s, writes, reads)
	if err != nil {
		return nil, err
	}
	drain := time.Now()
	if err := e.Drain(); err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	w, rd := writes.total(), reads.total()
	r := Result{Ops: w + rd, Drain: time.Since(drain).Seconds(), UserBytes: w * int64(s.KeySize+recordSize)}
	m.stop(&r)
	r.Extra = map[string]float64{
		"writes": float64(w), "reads": float64(rd), "offered_s": elapsed.Seconds(),
		"writes_per_s":         float64(w) / r.Seconds, // until all are durable
		"reads_per_s":          float64(rd) / elapsed.Seconds(),
		"offered_writes_per_s": float64(s.Writers) / recordWriteEvery.Seconds(),
		"offered_reads_per_s":  float64(s.Readers) / recordReadEvery.Seconds(),
		"loaded_bytes":         float64(s.Keys) * float64(s.KeySize+recordSize),
		"record_bytes":         float64(recordSize),
	}
	r.Latency = map[string]stats.Latency{
		"write due": writes.due.latency(), "write service": writes.service.latency(),
		"read due": reads.due.latency(), "read service": reads.service.latency(),
	}
	r.Histogram = map[string][]stats.Bucket{
		"write due": writes.due.buckets(), "write service": writes.service.buckets(),
		"read due": reads.due.buckets(), "read service": reads.service.buckets(),
	}
	r.Series = map[string][]stats.Point{"write": writes.series, "read": reads.series}
	return []Result{r}, nil
}

func loadRecords(e engine.Engine, s Spec) error {
	key := newKey(s.KeySize)
	value := make([]byte, 0, recordSize)
	err := e.Load(s.Keys, recordLoadBatch, func(i int) ([]byte, []byte) {
		putKey(key, uint64(i))
		value = appendRecord(value[:0], uint64(i), 0)
		return key, value
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if err := e.Drain(); err != nil {
		return fmt.Errorf("drain after load: %w", err)
	}
	return nil
}

// offer runs both loops until the time is over, the bytes are written, the disk runs full or an
// operation fails.
func offer(s Spec, writes, reads *openLoop) (time.Duration, error) {
	var (
		stop atomic.Bool
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	fail := func(err error) {
		mu.Lock()
		errs = append(errs, err)
		mu.Unlock()
		stop.Store(true)
	}
	began := time.Now()
	writes.start(began, &stop, &wg, fail)
	reads.start(began, &stop, &wg, fail)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	sampleAt := began.Add(s.Interval)
	for now := range tick.C {
		if s.Interval > 0 && !now.Before(sampleAt) {
			writes.sample(began, now)
			reads.sample(began, now)
			sampleAt = now.Add(s.Interval)
		}
		if reason := enough(s, writes, now.Sub(began)); reason || stop.Load() {
			break
		}
	}
	stop.Store(true)
	elapsed := time.Since(began)
	wg.Wait()
	return elapsed, errors.Join(errs...)
}

// enough tells whether the loops have to end. Bytes are counted both as records and as the system
// counts what the worker wrote; the larger count decides.
func enough(s Spec, writes *openLoop, elapsed time.Duration) bool {
	if elapsed >= s.duration() {
		return true
	}
	user := (writes.total() + int64(s.Keys)) * int64(s.KeySize+recordSize)
	if s.MaxBytes > 0 && max(user, deviceBytes()) >= s.MaxBytes {
		return true
	}
	free, err := FreeBytes(s.Dir)
	return s.MinFree > 0 && err == nil && free < s.MinFree
}
