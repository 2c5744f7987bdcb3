package work

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// What DynGO adapts to is measured on against off: two stores with the same data in one process, one of which keeps hot ranges, or
// records of segments, take turns. Before that, the load runs until the one has adapted.

// adaptCases are what Adapt measures, by Spec.Case: an operation of each.
var adaptCases = map[string]func(*adapted) error{
	"scan, zipf":                   (*adapted).scanZipf,
	"scan and write":               (*adapted).scanAndWrite,
	"get, zipf":                    func(a *adapted) error { return a.get(a.zipf) },
	"get, uniform":                 func(a *adapted) error { return a.get(a.uniform) },
	"put, uniform":                 func(a *adapted) error { return a.put(a.uniform) },
	"put, zipf, and scans before":  func(a *adapted) error { return a.put(a.zipf) },
	"scan, zipf" + longKeys:        (*adapted).scanZipf,
	"scan, zipf" + ordinalKeys:     (*adapted).scanZipf,
	"get, zipf" + longKeys:         func(a *adapted) error { return a.get(a.zipf) },
	"get, zipf" + ordinalKeys:      func(a *adapted) error { return a.get(a.zipf) },
	"scan and write" + longKeys:    (*adapted).scanAndWrite,
	"scan and write" + ordinalKeys: (*adapted).scanAndWrite,
	"put" + longKeys:               func(a *adapted) error { return a.put(a.uniform) },
	"put" + ordinalKeys:            (*adapted).putNext,
	movingCase:                     (*adapted).scanSpot,
	restlessCase:                   (*adapted).scanSpot,
	recordsCase + "get, zipf":      func(a *adapted) error { return a.get(a.zipf) },
	recordsCase + "get, uniform":   func(a *adapted) error { return a.get(a.uniform) },
	recordsCase + "get, missing":   (*adapted).getMissing,
	recordsCase + "get and put":    (*adapted).getAndPut,
}

// Ends of the names of cases with keys that have a long prefix in common, and with keys in the order in which they were written.
const (
	longKeys    = ", long common prefix"
	ordinalKeys = ", sequential keys"
)

// recordsCase begins the names of cases on data eight times as large as memory, of stores with and without the cache of records.
const recordsCase = "8x memory: "

// Cases of scans that begin in a twentieth of all keys, nine in ten of them. That part moves twice, or every other pair of turns.
const (
	movingCase   = "scan, moving hot spot"
	restlessCase = "scan, restless hot spot"
)

// moveEvery is after how many turns of a case the hot spot moves, 0 = never.
func (s *Spec) moveEvery() int {
	switch s.Case {
	case movingCase:
		return max(s.Pairs/3, 1)
	case restlessCase:
		return 2
	}
	return 0
}

// adapted is one of the two stores with a client of its own.
type adapted struct {
	db            *dyngo.DB
	ds            *dyngo.Dataset
	c             *client
	keys, size    int // of values
	zipf, uniform *picker
	n, next       int
	ordinal       bool          // keys are in the order of their numbers
	spot          int           // which part of the keys is hot
	turn          int           // that the next one is, from 0
	series        []stats.Point // operations a second of each turn
}

// scanPairs is how many pairs a scan reads.
const scanPairs = 100

func (a *adapted) scan(p *picker) error {
	putKey(a.c.key, a.number(p.pick(&a.c.rng, &a.c.pos)))
	return a.scanFromKey()
}

// scanSpot scans from a start in the hot spot of the turn, or anywhere.
func (a *adapted) scanSpot() error {
	x := a.c.rng.next()
	if x%10 != 0 {
		spots := [...]uint64{3, 11, 6, 15, 1, 9, 18, 13}
		x = spots[a.spot%len(spots)]*(math.MaxUint64/20) + x/20
	}
	binary.BigEndian.PutUint64(a.c.key[len(a.c.key)-8:], x)
	return a.scanFromKey()
}

// scanFromKey reads pairs from the client's key on.
func (a *adapted) scanFromKey() error {
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
	i := a.number(p.pick(&a.c.rng, &a.c.pos))
	putKey(a.c.key, i)
	if a.c.dst, err = a.ds.AppendGet(a.c.dst[:0], a.c.key); err != nil {
		return err
	}
	return checkValue(a.c.dst, i, a.size)
}

// getMissing looks for a key that is not there.
func (a *adapted) getMissing() (err error) {
	putKey(a.c.key, uint64(a.keys)+a.uniform.pick(&a.c.rng, &a.c.pos))
	if a.c.dst, err = a.ds.AppendGet(a.c.dst[:0], a.c.key); !errors.Is(err, dyngo.ErrNotFound) {
		return fmt.Errorf("a key that is not there: %q, %w", a.c.dst, err)
	}
	return nil
}

func (a *adapted) getAndPut() error {
	if a.n++; a.n%2 == 0 {
		return a.put(a.zipf)
	}
	return a.get(a.zipf)
}

func (a *adapted) put(p *picker) error {
	return a.putNumber(p.pick(&a.c.rng, &a.c.pos))
}

// putNext puts a key behind all others.
func (a *adapted) putNext() error {
	a.next++
	return a.putNumber(uint64(a.keys + a.next))
}

func (a *adapted) putNumber(i uint64) error {
	i = a.number(i)
	putKey(a.c.key, i)
	putValue(a.c.value, i, a.c.n)
	_, err := a.ds.Put(a.c.key, a.c.value)
	return err
}

// number is what a key's number is for putKey.
func (a *adapted) number(i uint64) uint64 {
	if a.ordinal {
		return i * ordered
	}
	return i
}

// runAdapt measures a case in pairs of s.Seconds each.
func runAdapt(s Spec) (_ []Result, err error) {
	if s.Case == firstScanCase || s.Case == unscannedCase {
		return runOrder(s)
	}
	op, ok := adaptCases[s.Case]
	if !ok {
		return nil, fmt.Errorf("no case %q", s.Case)
	}
	if strings.HasSuffix(s.Case, longKeys) {
		s.KeySize = longKeySize
	}
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	p := &past{s: s}
	records := strings.HasPrefix(s.Case, recordsCase)
	open := func(name string, hot int64) (*adapted, error) {
		o := &dyngo.Options{MemoryBudget: s.MemoryBudget, HotRangeBytes: hot}
		if records {
			o.HotRangeBytes, o.NoRecordCache = 0, hot < 0
		}
		db, err := dyngo.Open(filepath.Join(s.Dir, name), o)
		if err != nil {
			return nil, err
		}
		a := &adapted{db: db, c: newClients(1, s)[0], keys: s.Keys, size: s.ValueSize, zipf: newPicker(Zipf, s.Keys, s.Seed),
			uniform: newPicker(Uniform, s.Keys, s.Seed), ordinal: strings.HasSuffix(s.Case, ordinalKeys)}
		if a.ds, err = db.CreateDataset("bench", &dyngo.DatasetOptions{Consistency: dyngo.Eventual}); err == nil {
			err = p.puts(db, a.ds, s.Keys, func(i int) (uint64, uint64) { return a.number(uint64(i)), 0 })
		}
		if err == nil {
			err = db.WaitDurable(context.Background(), db.LSN())
		}
		if records && err == nil {
			err = db.Compact(context.Background())
		}
		for i := 0; err == nil && !records && i < 200; i++ { // both keep their order
			err = a.scanZipf()
		}
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return a, nil
	}
	var on, off *adapted
	opens := []func() error{
		func() (err error) { on, err = open("on", s.MemoryBudget/4); return err },
		func() (err error) { off, err = open("off", -1); return err },
	}
	if s.Seed%2 == 0 { // where memory lies goes by the order, and the same code differs by some percent for it
		slices.Reverse(opens)
	}
	defer func() {
		for _, a := range []*adapted{on, off} {
			if a != nil {
				err = errors.Join(err, a.db.Close())
			}
		}
	}()
	for _, f := range opens {
		if err := f(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	run := func(a *adapted, seconds float64) (n int64, err error) {
		if every := s.moveEvery(); every > 0 {
			a.spot = a.turn / every
		}
		a.turn++
		start := time.Now()
		defer func() {
			a.series = append(a.series, stats.Point{Seconds: time.Since(began).Seconds(), Rate: float64(n) / time.Since(start).Seconds()})
		}()
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
		if s.WarmUp > 0 {
			if _, err := run(a, s.WarmUp); err != nil {
				return nil, err
			}
		}
		a.turn, a.series = 0, nil
	}
	p.settle = func() error { // neither waits for what the other has written
		return errors.Join(on.db.WaitDurable(context.Background(), on.db.LSN()), off.db.WaitDurable(context.Background(), off.db.LSN()))
	}
	began = time.Now()
	err = p.pair(s.Case, s.Case+", off",
		func() (int64, error) { return run(on, s.Seconds) }, func() (int64, error) { return run(off, s.Seconds) })
	if err != nil {
		return nil, err
	}
	m := on.db.Metrics()
	p.results[0].Extra["hot_ranges"], p.results[0].Extra["hot_bytes"] = float64(m.HotRanges), float64(m.HotRangeBytes)
	p.results[0].Extra["record_bytes"], p.results[0].Extra["record_hits"] = float64(m.RecordBytes), float64(m.RecordHits)/float64(max(m.RecordHits+m.RecordMisses, 1))
	if every := s.moveEvery(); every > 0 {
		p.results[0].Series, p.results[1].Series = map[string][]stats.Point{"scan": on.series}, map[string][]stats.Point{"scan": off.series}
		p.results[0].Extra["adapt_s"] = slowestToAdapt(on.series, every)
	}
	p.results[0].Extra["decisions"] = float64(len(on.db.HotDecisions()))
	return p.results, nil
}

// slowestToAdapt is how long it took at most, after a move, until as much was done as in the second half of the time to the next move, but
// for a tenth.
func slowestToAdapt(series []stats.Point, every int) (seconds float64) {
	for at := every; at+every <= len(series); at += every {
		phase := series[at : at+every]
		var late []float64
		for _, p := range phase[every/2:] {
			late = append(late, p.Rate)
		}
		level := 0.9 * stats.Summarize(late).Median
		for _, p := range phase {
			if p.Rate >= level {
				seconds = max(seconds, p.Seconds-series[at-1].Seconds)
				break
			}
		}
	}
	return seconds
}
