package work

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// Cases of order on demand: DynGO keeps keys in order only of datasets that were scanned.
const (
	firstScanCase = "first scan of a dataset"
	unscannedCase = "put, dataset never scanned"
)

// runOrder measures what the first scan of s.Keys keys in memory costs beside the next one, or puts to a dataset that was never scanned
// beside those to one that was.
func runOrder(s Spec) (_ []Result, err error) {
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	p := &past{s: s}
	if s.Case == firstScanCase {
		return p.firstScans()
	}
	db, err := dyngo.Open(s.Dir, &dyngo.Options{MemoryBudget: s.MemoryBudget, HotRangeBytes: -1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	client := func(name string) (*adapted, error) {
		ds, err := p.dataset(db, name)
		return &adapted{db: db, ds: ds, c: newClients(1, s)[0], keys: s.Keys, size: s.ValueSize, uniform: newPicker(Uniform, s.Keys, s.Seed),
			zipf: newPicker(Zipf, s.Keys, s.Seed)}, err
	}
	var never, scanned *adapted
	opens := []func() error{
		func() (err error) { never, err = client("never"); return err },
		func() (err error) { scanned, err = client("scanned"); return err },
	}
	if s.Seed%2 == 0 { // as in runAdapt
		slices.Reverse(opens)
	}
	for _, f := range opens {
		if err := f(); err != nil {
			return nil, err
		}
	}
	if err := scanned.scanZipf(); err != nil {
		return nil, err
	}
	puts := func(a *adapted) func() (int64, error) {
		return func() (n int64, err error) {
			for end := time.Now().Add(s.duration() / 4); time.Now().Before(end); n += 16 {
				for range 16 {
					a.c.n++
					if err := a.put(a.uniform); err != nil {
						return n, err
					}
				}
			}
			return n, nil
		}
	}
	p.settle = func() error { return db.WaitDurable(context.Background(), db.LSN()) } // neither waits for what the other has written
	err = p.pair(unscannedCase, "put, dataset that was scanned", puts(never), puts(scanned))
	return p.results, err
}

// dataset makes one of s.Keys keys.
func (p *past) dataset(db *dyngo.DB, name string) (*dyngo.Dataset, error) {
	ds, err := db.CreateDataset(name, &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err == nil {
		err = p.puts(db, ds, p.s.Keys, func(i int) (uint64, uint64) { return uint64(i), 0 })
	}
	if err == nil {
		err = db.WaitDurable(context.Background(), db.LSN())
	}
	return ds, err
}

// firstScans measures the time until the first scanPairs pairs of a dataset are there, and of the next scan when all is sorted, each in a
// store of its own.
func (p *past) firstScans() ([]Result, error) {
	rec, next := newRecorder(1), newRecorder(1)
	var ratios []float64
	var cpu, total time.Duration
	for i := range max(p.s.Pairs, 1) {
		first, second, took, err := p.firstScan(filepath.Join(p.s.Dir, fmt.Sprint(i)))
		if err != nil {
			return nil, err
		}
		cpu += took
		total += first
		rec.record(0, first)
		next.record(0, second)
		ratios = append(ratios, float64(first)/float64(second))
	}
	n, sum := float64(len(ratios)), stats.Summarize(ratios)
	return []Result{
		{Case: firstScanCase, Ops: int64(n), Seconds: total.Seconds(), OpsPerSec: n / total.Seconds(), CPU: float64(cpu.Microseconds()) / n,
			Latency: map[string]stats.Latency{"100 pairs": rec.latency()},
			Extra:   map[string]float64{"pairs": n, "ratio": sum.Median, "ratio_min": sum.Min, "ratio_max": sum.Max}},
		{Case: "next scan of it", Ops: int64(n), Latency: map[string]stats.Latency{"100 pairs": next.latency()}},
	}, nil
}

// firstScan measures it in one store; cpu is all that the first scan causes.
func (p *past) firstScan(dir string) (first, second, cpu time.Duration, err error) {
	db, err := dyngo.Open(dir, &dyngo.Options{MemoryBudget: p.s.MemoryBudget, HotRangeBytes: -1})
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close(), os.RemoveAll(dir)) }()
	ds, err := p.dataset(db, "bench")
	if err != nil {
		return 0, 0, 0, err
	}
	scan := func(limit int) (time.Duration, error) {
		n, began := 0, time.Now()
		for _, err := range ds.Scan(dyngo.Range{Limit: limit}) {
			if err != nil {
				return 0, err
			}
			n++
		}
		took := time.Since(began)
		if n != min(limit, p.s.Keys) {
			return 0, fmt.Errorf("%d pairs", n)
		}
		return took, nil
	}
	cpu = ownCPU()
	if first, err = scan(scanPairs); err != nil {
		return 0, 0, 0, err
	}
	if _, err = scan(4096); err != nil { // until all is sorted
		return 0, 0, 0, err
	}
	cpu = ownCPU() - cpu
	second, err = scan(scanPairs)
	return first, second, cpu, err
}
