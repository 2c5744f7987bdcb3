package work

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// besideCases are what Beside measures, by Spec.Case: which clients there are and what each does.
var besideCases = map[string]func(*beside, *client) error{
	"get":         (*beside).get,
	"durable put": (*beside).put,
}

// beside is a store of which one dataset is measured, while the jobs of another one run or not.
type beside struct {
	db         *dyngo.DB
	main, work *dyngo.Dataset
	s          Spec
	zipf       *picker
	number     uint64 // of the next pair that makes work
	bursts     int
	waited     atomic.Uint64 // number of the next pair that is waited for
}

func (b *beside) get(c *client) (err error) {
	i := b.zipf.pick(&c.rng, &c.pos)
	putKey(c.key, i)
	if c.dst, err = b.main.AppendGet(c.dst[:0], c.key); err != nil {
		return err
	}
	return checkValue(c.dst, i, b.s.ValueSize)
}

func (b *beside) put(c *client) error {
	i := b.waited.Add(1)
	putKey(c.key, i)
	putValue(c.value, i, 0)
	_, err := b.main.PutWith(c.key, c.value, dyngo.WriteOptions{Ack: dyngo.AckDurable})
	return err
}

// makeWork leaves the jobs of a burst to be done, and returns when they have begun: s.MaxBytes are written as fast as can be, of which
// side files of log files, flushes, merges and retention follow, and a part of the measured keys is scanned until it would be kept in
// key order.
func (b *beside) makeWork() error {
	p, c := &past{s: b.s}, newClients(1, b.s)[0]
	a := adapted{db: b.db, ds: b.main, c: c, keys: b.s.Keys, size: b.s.ValueSize, spot: b.bursts}
	b.bursts++
	for range 3000 {
		if err := a.scanSpot(); err != nil {
			return err
		}
	}
	first := b.number
	n := int(b.s.MaxBytes) / (b.s.KeySize + b.s.ValueSize)
	if err := p.puts(b.db, b.work, n, func(i int) (uint64, uint64) { return (first + uint64(i)) % uint64(2*n), first }); err != nil {
		return err
	}
	b.number += uint64(n)
	return b.db.WaitDurable(context.Background(), b.db.LSN()) // or durable puts would wait for what is before them
}

// rest waits until no job runs, and none has for a moment.
func (b *beside) rest() error {
	quiet := 0
	for began := time.Now(); quiet < 20; time.Sleep(10 * time.Millisecond) {
		m := b.db.Metrics()
		if quiet++; m.FlushJobs+m.MergeJobs+m.OtherJobs > 0 {
			quiet = 0
		}
		if time.Since(began) > time.Minute {
			return errors.New("jobs still run a minute later")
		}
	}
	return nil
}

// besideTurn is what one turn came to.
type besideTurn struct {
	ops     int64
	seconds float64
	cpu     float64 // µs for an operation, jobs included
	latency stats.Latency
	jobs    float64 // share of the looks at which a job ran
}

func (b *beside) turn(op func(*beside, *client) error, clients int) (t besideTurn, err error) {
	rec := newRecorder(clients)
	shift := uint(sampleWrites)
	if b.s.Case == "durable put" {
		shift = sampleAll
	}
	loop := closedLoop{clients: newClients(clients, b.s), duration: b.s.duration(), dir: b.s.Dir, op: func(c *client) error {
		if !c.every(shift) {
			return op(b, c)
		}
		began := time.Now()
		err := op(b, c)
		rec.record(c.id, time.Since(began))
		return err
	}}
	done, looked := make(chan struct{}), make(chan struct{})
	busy, looks := 0, 0
	go func() {
		defer close(looked)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				m := b.db.Metrics()
				if looks++; m.FlushJobs+m.MergeJobs+m.OtherJobs > 0 {
					busy++
				}
			}
		}
	}()
	cpu, began := ownCPU(), time.Now()
	lr, err := loop.run()
	t.seconds, t.cpu = time.Since(began).Seconds(), float64((ownCPU()-cpu).Nanoseconds())/1e3/float64(max(lr.ops, 1))
	close(done)
	<-looked
	t.ops, t.latency, t.jobs = lr.ops, rec.latency(), float64(busy)/float64(max(looks, 1))
	return t, err
}

// runBeside measures a case in pairs of turns: with the jobs of work that was just written, and without any.
func runBeside(s Spec) (_ []Result, err error) {
	op, ok := besideCases[s.Case]
	if !ok {
		return nil, fmt.Errorf("no case %q", s.Case)
	}
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	b := &beside{s: s, zipf: newPicker(Zipf, s.Keys, s.Seed)}
	if b.db, err = dyngo.Open(s.Dir, &dyngo.Options{MemoryBudget: s.MemoryBudget}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.db.Close()) }()
	if b.main, err = b.db.CreateDataset("measured", &dyngo.DatasetOptions{Consistency: dyngo.Eventual}); err != nil {
		return nil, err
	}
	if b.work, err = b.db.CreateDataset("work", &dyngo.DatasetOptions{Consistency: dyngo.Eventual}); err != nil {
		return nil, err
	}
	p := &past{s: s}
	if err := p.puts(b.db, b.main, s.Keys, func(i int) (uint64, uint64) { return uint64(i), 0 }); err != nil {
		return nil, err
	}
	b.waited.Store(uint64(s.Keys))
	if err := b.db.Compact(context.Background()); err != nil {
		return nil, err
	}
	clients := max(s.Readers, s.Writers)
	with := func() (t besideTurn, err error) {
		if err := b.makeWork(); err != nil {
			return t, err
		}
		return b.turn(op, clients)
	}
	without := func() (besideTurn, error) {
		if err := b.rest(); err != nil {
			return besideTurn{}, err
		}
		return b.turn(op, clients)
	}
	if _, err := without(); err != nil { // caches fill
		return nil, err
	}
	var one, other besideSum
	var p50, p99, p999 []float64
	for i := range max(s.Pairs, 1) {
		first, second := with, without
		if i%2 == 1 {
			first, second = second, first
		}
		x, err := first()
		if err != nil {
			return nil, err
		}
		y, err := second()
		if err != nil {
			return nil, err
		}
		if i%2 == 1 {
			x, y = y, x
		}
		one.add(x)
		other.add(y)
		p50 = append(p50, float64(x.latency.P50)/float64(y.latency.P50))
		p99 = append(p99, float64(x.latency.P99)/float64(y.latency.P99))
		p999 = append(p999, float64(x.latency.P999)/float64(y.latency.P999))
	}
	r, alone := one.result(s.Case+", all jobs running"), other.result(s.Case+", none")
	ratios := stats.Summarize(p99)
	r.Extra["pairs"], r.Extra["ratio"], r.Extra["ratio_min"], r.Extra["ratio_max"] = float64(ratios.N), ratios.Median, ratios.Min, ratios.Max
	r.Extra["p50_ratio"], r.Extra["p999_ratio"] = stats.Summarize(p50).Median, stats.Summarize(p999).Median
	return []Result{r, alone}, nil
}

// besideSum collects the turns of one kind.
type besideSum struct {
	ops                            int64
	seconds, cpu                   float64
	rates, p50, p99, p999, slowest []float64
	jobs                           []float64
	samples                        int64
}

func (b *besideSum) add(t besideTurn) {
	b.ops += t.ops
	b.seconds += t.seconds
	b.cpu += t.cpu * float64(t.ops)
	b.samples += t.latency.Samples
	b.rates = append(b.rates, float64(t.ops)/t.seconds)
	b.p50 = append(b.p50, float64(t.latency.P50))
	b.p99 = append(b.p99, float64(t.latency.P99))
	b.p999 = append(b.p999, float64(t.latency.P999))
	b.slowest = append(b.slowest, float64(t.latency.Max))
	b.jobs = append(b.jobs, t.jobs)
}

// result has the medians of all turns.
func (b *besideSum) result(name string) Result {
	median := func(x []float64) int64 { return int64(stats.Summarize(x).Median) }
	return Result{
		Case: name, Ops: b.ops, Seconds: b.seconds, OpsPerSec: stats.Summarize(b.rates).Median, CPU: b.cpu / float64(max(b.ops, 1)),
		Latency: map[string]stats.Latency{"operation": {Samples: b.samples, P50: median(b.p50), P99: median(b.p99), P999: median(b.p999),
			Max: int64(stats.Summarize(b.slowest).Max)}},
		Extra: map[string]float64{"jobs": stats.Summarize(b.jobs).Median},
	}
}
