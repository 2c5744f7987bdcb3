package work

import (
	"fmt"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

const (
	loadBatch = 1000
	warmUp    = 300 * time.Millisecond
)

// sampling shifts: one in 2^shift operations is timed.
const (
	sampleAll    = 0 // where a device is waited for
	sampleWrites = 3
	sampleReads  = 6
)

func (s Spec) duration() time.Duration { return time.Duration(s.Seconds * float64(time.Second)) }

func (s Spec) writeSampling() uint {
	if s.Mode == engine.Durable {
		return sampleAll
	}
	return sampleWrites
}

// load writes the first s.Keys keys, makes them durable and lets the engine settle.
func load(e engine.Engine, s Spec, batch int, settle bool) error {
	k, v := newKey(s.KeySize), newValue(s.ValueSize)
	err := e.Load(s.Keys, batch, func(i int) ([]byte, []byte) {
		putKey(k, uint64(i))
		putValue(v, uint64(i), 0)
		return k, v
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if err := e.Drain(); err != nil {
		return fmt.Errorf("drain after load: %w", err)
	}
	if settle {
		if err := e.Settle(); err != nil {
			return fmt.Errorf("settle after load: %w", err)
		}
	}
	return nil
}

// openFor opens the engine of s after checking what it asks for.
func openFor(s Spec) (engine.Engine, error) {
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	return engine.Open(s.Engine, s.config())
}

// runPut measures puts of Writers goroutines, from the first to the moment when all are durable.
func runPut(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	rec := newRecorder(s.Writers)
	pick := newPicker(Uniform, max(s.Keys, 1), s.Seed)
	shift := s.writeSampling()
	number := func(c *client) uint64 {
		if s.Keys > 0 {
			return pick.pick(&c.rng, &c.pos)
		}
		return (c.n-1)*uint64(s.Writers) + uint64(c.id)
	}
	loop := closedLoop{
		clients: newClients(s.Writers, s), duration: s.duration(), ops: s.Ops,
		interval: s.Interval, minFree: s.MinFree, dir: s.Dir,
		op: func(c *client) error {
			return putOne(e, c, number(c), shift, rec)
		},
	}
	r, lr, err := measure(e, s, &loop)
	if err != nil {
		return nil, err
	}
	r.UserBytes = lr.ops * int64(s.KeySize+s.ValueSize)
	r.Latency = map[string]stats.Latency{"put": rec.latency()}
	if lr.series != nil {
		r.Series = map[string][]stats.Point{"put": lr.series}
	}
	if lr.full {
		r.Notes = append(r.Notes, "ended early: the disk was running full")
	}
	return []Result{r}, checkSome(e, s, loop.clients)
}

// measure runs a loop and drains the engine.
func measure(e engine.Engine, s Spec, loop *closedLoop) (r Result, lr loopResult, err error) {
	m := startMeter(s.Dir)
	if lr, err = loop.run(); err != nil {
		return r, lr, err
	}
	drain := time.Now()
	if err := e.Drain(); err != nil {
		return r, lr, fmt.Errorf("drain: %w", err)
	}
	r = Result{Ops: lr.ops, Drain: time.Since(drain).Seconds()}
	m.stop(&r)
	return r, lr, nil
}

// putOne puts key i, and times some of the puts.
func putOne(e engine.Engine, c *client, i uint64, shift uint, rec *recorder) error {
	putKey(c.key, i)
	putValue(c.value, i, c.n)
	if !c.every(shift) {
		return e.Put(c.key, c.value)
	}
	t := time.Now()
	err := e.Put(c.key, c.value)
	rec.record(c.id, time.Since(t))
	return err
}

// checkSome reads back what each client of runPut wrote last, if it wrote keys of its own.
func checkSome(e engine.Engine, s Spec, clients []*client) error {
	if s.Keys > 0 || s.Engine == "none" {
		return nil
	}
	for _, c := range clients {
		if c.done.Load() == 0 {
			continue
		}
		i := uint64(c.done.Load()-1)*uint64(s.Writers) + uint64(c.id)
		if err := readBack(e, s, c, i); err != nil {
			return err
		}
	}
	return nil
}

func readBack(e engine.Engine, s Spec, c *client, i uint64) error {
	putKey(c.key, i)
	v, found, err := e.Get(c.dst[:0], c.key)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("key %d was acknowledged and is not there", i)
	}
	c.dst = v
	return checkValue(v, i, s.ValueSize)
}

// warmUp is how long a measurement of reads is run before it counts.
func (s Spec) warmUp() time.Duration {
	if s.WarmUp > 0 {
		return time.Duration(s.WarmUp * float64(time.Second))
	}
	return warmUp
}

func measureGet(e engine.Engine, s Spec, d Dist) (Result, error) {
	pick := newPicker(d, s.Keys, s.Seed)
	if s.Prepared {
		pick = newLivePicker(d, s.Keys)
	}
	rec := newRecorder(s.Readers)
	want := d != Missing && s.Engine != "none"
	loop := closedLoop{
		clients: newClients(s.Readers, s), duration: s.warmUp(), dir: s.Dir,
		op: func(c *client) error { return getOne(e, s, c, pick, want, rec) },
	}
	if _, err := loop.run(); err != nil {
		return Result{}, err
	}
	rec = newRecorder(s.Readers)
	loop.duration, loop.interval = s.duration(), s.Interval
	m := startMeter(s.Dir)
	lr, err := loop.run()
	if err != nil {
		return Result{}, err
	}
	r := Result{Ops: lr.ops}
	m.stop(&r)
	r.Latency = map[string]stats.Latency{"get": rec.latency()}
	return r, nil
}

// getOne reads one key into the client's buffer and checks what came back.
func getOne(e engine.Engine, s Spec, c *client, p *picker, want bool, rec *recorder) error {
	i := p.pick(&c.rng, &c.pos)
	putKey(c.key, i)
	var (
		v     []byte
		found bool
		err   error
	)
	if c.every(sampleReads) {
		t := time.Now()
		v, found, err = e.Get(c.dst[:0], c.key)
		rec.record(c.id, time.Since(t))
	} else {
		v, found, err = e.Get(c.dst[:0], c.key)
	}
	switch {
	case err != nil:
		return err
	case found != want:
		return fmt.Errorf("key %d: found %v, want %v", i, found, want)
	case found:
		c.dst = v
		return checkValue(v, i, s.ValueSize)
	}
	return nil
}

// runMixed measures goroutines that read and update in turn, keys by Zipf.
func runMixed(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := load(e, s, loadBatch, true); err != nil {
		return nil, err
	}
	loop, gets, puts := halfAndHalf(e, s, newPicker(Zipf, s.Keys, s.Seed))
	r, lr, err := measure(e, s, loop)
	if err != nil {
		return nil, err
	}
	r.Latency = map[string]stats.Latency{"get": gets.latency(), "put": puts.latency()}
	r.UserBytes = lr.ops / 2 * int64(s.KeySize+s.ValueSize)
	return []Result{r}, nil
}

// halfAndHalf is a loop of s.Writers clients, each of which reads and puts in turn.
func halfAndHalf(e engine.Engine, s Spec, pick *picker) (loop *closedLoop, gets, puts *recorder) {
	gets, puts = newRecorder(s.Writers), newRecorder(s.Writers)
	shift := s.writeSampling()
	want := s.Engine != "none"
	loop = &closedLoop{
		clients: newClients(s.Writers, s), duration: s.duration(), ops: s.Ops,
		interval: s.Interval, minFree: s.MinFree, dir: s.Dir,
	}
	loop.op = func(c *client) error {
		if (c.n+uint64(c.id))&1 == 0 {
			return getOne(e, s, c, pick, want, gets)
		}
		return putOne(e, c, pick.pick(&c.rng, &c.pos), shift, puts)
	}
	return loop, gets, puts
}

// runClients measures many clients in process over time: reads and writes in turn over loaded keys.
func runClients(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := load(e, s, loadBatch, false); err != nil {
		return nil, err
	}
	loop, gets, puts := halfAndHalf(e, s, newPicker(Uniform, s.Keys, s.Seed))
	r, lr, err := measure(e, s, loop)
	if err != nil {
		return nil, err
	}
	r.Latency = map[string]stats.Latency{"get": gets.latency(), "put": puts.latency()}
	r.Series = map[string][]stats.Point{"all": lr.series}
	r.UserBytes = lr.ops / 2 * int64(s.KeySize+s.ValueSize)
	r.Extra = map[string]float64{"peak": stats.Peak(lr.series, 0), "asked": float64(s.Ops)}
	if s.Ops > 0 && lr.ops < s.Ops {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d operations in the time allowed", lr.ops, s.Ops))
	}
	return []Result{r}, nil
}
