package work

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dyngodb/dyngo"
)

// What DynGO adapts to is measured on against off: two stores with the same data in one process, one of which keeps hot ranges, take
// turns. Before that, the load runs until the one has adapted.

// adaptCases are what Adapt measures, by Spec.Case: an operation of each.
var adaptCases = map[string]func(*adapted) error{
	"scan, zipf":                  (*adapted).scanZipf,
	"scan and write":              (*adapted).scanAndWrite,
	"get, zipf":                   func(a *adapted) error { return a.get(a.zipf) },
	"get, uniform":                func(a *adapted) error { return a.get(a.uniform) },
	"put, uniform":                func(a *adapted) error { return a.put(a.uniform) },
	"put, zipf, and scans before": func(a *adapted) error { return a.put(a.zipf) },
}

// adapted is one of the two stores with a client of its own.
type adapted struct {
	db            *dyngo.DB
	ds            *dyngo.Dataset
	c             *client
	size          int // of values
	zipf, uniform *picker
	n             int
}

// scanPairs is how many pairs a scan reads.
const scanPairs = 100

func (a *adapted) scan(p *picker) error {
	putKey(a.c.key, p.pick(&a.c.rng, &a.c.pos))
	sum := byte(0)
	for kv, err := range a.ds.Scan(dyngo.Range{From: a.c.key, Limit: scanPairs}) {
		if err != nil {
			return err
		}
		for at := 0; at < len(kv.Value); at += 64 { // each cache line
			sum += kv.Value[at]
		}
	}
	a.c.dst = append(a.c.dst[:0], sum)
	return nil
}

func (a *adapted) scanZipf() error { return a.scan(a.zipf) }

func (a *adapted) scanAndWrite() error {
	if a.n++; a.n%2 == 0 {
		return a.put(a.zipf)
	}
	return a.scan(a.zipf)
}

func (a *adapted) get(p *picker) (err error) {
	i := p.pick(&a.c.rng, &a.c.pos)
	putKey(a.c.key, i)
	if a.c.dst, err = a.ds.AppendGet(a.c.dst[:0], a.c.key); err != nil {
		return err
	}
	return checkValue(a.c.dst, i, a.size)
}

func (a *adapted) put(p *picker) error {
	i := p.pick(&a.c.rng, &a.c.pos)
	putKey(a.c.key, i)
	putValue(a.c.value, i, a.c.n)
	_, err := a.ds.Put(a.c.key, a.c.value)
	return err
}

// runAdapt measures a case in pairs of s.Seconds each.
func runAdapt(s Spec) (_ []Result, err error) {
	op, ok := adaptCases[s.Case]
	if !ok {
		return nil, fmt.Errorf("no case %q", s.Case)
	}
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	p := &past{s: s}
	open := func(name string, hot int64) (*adapted, error) {
		db, err := dyngo.Open(filepath.Join(s.Dir, name), &dyngo.Options{MemoryBudget: s.MemoryBudget, HotRangeBytes: hot})
		if err != nil {
			return nil, err
		}
		a := &adapted{db: db, c: newClients(1, s)[0], size: s.ValueSize, zipf: newPicker(Zipf, s.Keys, s.Seed), uniform: newPicker(Uniform, s.Keys, s.Seed)}
		if a.ds, err = db.CreateDataset("bench", &dyngo.DatasetOptions{Consistency: dyngo.Eventual}); err == nil {
			err = p.puts(db, a.ds, s.Keys, func(i int) (uint64, uint64) { return uint64(i), 0 })
		}
		if err == nil {
			err = db.WaitDurable(context.Background(), db.LSN())
		}
		for i := 0; err == nil && i < 200; i++ { // both keep their order
			err = a.scanZipf()
		}
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return a, nil
	}
	on, err := open("on", s.MemoryBudget/4)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, on.db.Close()) }()
	off, err := open("off", -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, off.db.Close()) }()
	run := func(a *adapted, seconds float64) (n int64, err error) {
		for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); {
			for range 16 {
				a.c.n++
				n++
				if err := op(a); err != nil {
					return n, err
				}
			}
		}
		return n, nil
	}
	for _, a := range []*adapted{on, off} {
		if s.Case == "put, zipf, and scans before" { // what was promoted has to go again
			for range int(s.WarmUp * 20_000) {
				if err := a.scanZipf(); err != nil {
					return nil, err
				}
			}
		}
		if _, err := run(a, s.WarmUp); err != nil {
			return nil, err
		}
	}
	err = p.pair(s.Case, s.Case+", off",
		func() (int64, error) { return run(on, s.Seconds) }, func() (int64, error) { return run(off, s.Seconds) })
	if err != nil {
		return nil, err
	}
	m := on.db.Metrics()
	p.results[0].Extra["hot_ranges"], p.results[0].Extra["hot_bytes"] = float64(m.HotRanges), float64(m.HotRangeBytes)
	p.results[0].Extra["decisions"] = float64(len(on.db.HotDecisions()))
	return p.results, nil
}
