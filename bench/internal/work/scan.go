package work

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

const (
	scanChunk = 1 << 18 // pairs of a full scan between two looks at the clock
	shortScan = 100     // pairs of a scan from some start
	cacheLine = 64
)

// runScan measures scans of everything, then scans of shortScan pairs from keys picked by Zipf.
func runScan(s Spec) ([]Result, error) {
	e, cold, done, err := openLarge(s)
	if err != nil {
		return nil, err
	}
	defer done()
	var warm time.Duration
	if !s.Prepared {
		// In memory the first one may sort, or fill a cache.
		began := time.Now()
		if _, err := scanAll(e, s, 0); err != nil {
			return nil, err
		}
		warm = time.Since(began)
	}
	full, err := measureFull(e, s)
	if err != nil {
		return nil, fmt.Errorf("full scan: %w", err)
	}
	full.Case = "full"
	full.Extra["warm_up_s"] = warm.Seconds()
	cold.addTo(&full)
	short, err := measureShort(e, s)
	if err != nil {
		return []Result{full}, fmt.Errorf("scans of %d: %w", shortScan, err)
	}
	short.Case = fmt.Sprint(shortScan)
	cold.addTo(&short)
	return []Result{full, short}, nil
}

// pass is one scan of everything, or of what the time allowed.
type pass struct {
	pairs int
	sum   uint64 // over all pairs, in any order
	whole bool
}

// pairSum reads every cache line of a pair.
func pairSum(key, value []byte) uint64 {
	sum := binary.BigEndian.Uint64(key[len(key)-8:]) * golden
	for i := 0; i < len(value); i += cacheLine {
		sum = sum*31 + uint64(value[i])
	}
	if len(value) > 0 {
		sum = sum*31 + uint64(value[len(value)-1])
	}
	return sum
}

// scanAll scans from the first key on until the end or, between two chunks, the time is reached; 0 = no
// end. It checks that keys ascend.
func scanAll(e engine.Engine, s Spec, atMost time.Duration) (p pass, err error) {
	var (
		from     = newKey(s.KeySize)
		last     uint64
		seen     int
		disorder bool
	)
	putKey(from, 0) // the lowest one
	for began := time.Now(); ; {
		n, err := e.Scan(from, scanChunk, func(key, value []byte) {
			now := binary.BigEndian.Uint64(key[len(key)-8:])
			disorder = disorder || seen > 0 && now <= last
			last = now
			seen++
			p.sum += pairSum(key, value)
		})
		p.pairs = seen
		switch {
		case err != nil:
			return p, err
		case disorder:
			return p, errors.New("keys that don't ascend")
		case n < scanChunk:
			p.whole = true
			return p, nil
		case atMost > 0 && time.Since(began) > atMost:
			return p, nil
		}
		binary.BigEndian.PutUint64(from[len(from)-8:], last+1)
	}
}

// measureFull repeats scans of everything until the time is over. One that takes four times as long is
// cut.
func measureFull(e engine.Engine, s Spec) (Result, error) {
	rec := newRecorder(1)
	r := Result{Extra: map[string]float64{}}
	passes := []pass{}
	m := startMeter(s.Dir)
	for began := time.Now(); len(passes) == 0 || time.Since(began) < s.duration(); {
		t := time.Now()
		p, err := scanAll(e, s, 4*s.duration())
		if err != nil {
			return r, err
		}
		rec.record(0, time.Since(t))
		passes = append(passes, p)
		r.Ops += int64(p.pairs)
		if !p.whole {
			r.Notes = append(r.Notes, fmt.Sprintf("the full scan was cut after %d of %d pairs", p.pairs, s.Keys))
			break
		}
	}
	m.stop(&r)
	r.Latency = map[string]stats.Latency{"whole scan": rec.latency()}
	r.Extra["passes"] = float64(len(passes))
	if s.Engine == "none" {
		r.Ops = 1
		return r, nil
	}
	want := expectedSum(s)
	for _, p := range passes {
		if p.whole && (p.pairs != s.Keys || p.sum != want) {
			return r, fmt.Errorf("%d pairs with sum %x, want %d with %x", p.pairs, p.sum, s.Keys, want)
		}
	}
	return r, nil
}

// expectedSum is what a scan of a loaded store must come to.
func expectedSum(s Spec) (sum uint64) {
	k, v := newKey(s.KeySize), newValue(s.ValueSize)
	for i := range uint64(s.Keys) {
		putKey(k, i)
		putValue(v, i, 0)
		sum += pairSum(k, v)
	}
	return sum
}

// measureShort measures scans of shortScan pairs; an operation is one scan.
func measureShort(e engine.Engine, s Spec) (Result, error) {
	pick := newLivePicker(Zipf, s.Keys)
	rec := newRecorder(s.Readers)
	loop := closedLoop{clients: newClients(s.Readers, s), duration: s.warmUp(), dir: s.Dir}
	sums := make([]uint64, s.Readers)
	pairs := make([]int64, s.Readers)
	loop.op = func(c *client) error {
		i := pick.pick(&c.rng, &c.pos)
		putKey(c.key, i)
		first, sum := true, uint64(0)
		var wrong error
		t := time.Now()
		n, err := e.Scan(c.key, shortScan, func(key, value []byte) {
			if first {
				first = false
				if string(key) != string(c.key) {
					wrong = fmt.Errorf("a scan from key %d begins with %x", i, key)
				} else {
					wrong = checkValue(value, i, s.ValueSize)
				}
			}
			sum += pairSum(key, value)
		})
		rec.record(c.id, time.Since(t))
		sums[c.id] += sum
		pairs[c.id] += int64(n)
		if err == nil && first && s.Engine != "none" {
			err = fmt.Errorf("a scan from key %d is empty", i)
		}
		return errors.Join(err, wrong)
	}
	if _, err := loop.run(); err != nil {
		return Result{}, err
	}
	rec, pairs = newRecorder(s.Readers), make([]int64, s.Readers)
	loop.duration = s.duration()
	m := startMeter(s.Dir)
	lr, err := loop.run()
	if err != nil {
		return Result{}, err
	}
	r := Result{Ops: lr.ops}
	m.stop(&r)
	r.Latency = map[string]stats.Latency{"scan": rec.latency()}
	total := int64(0)
	for _, n := range pairs {
		total += n
	}
	r.Extra = map[string]float64{"pairs_per_s": float64(total) / r.Seconds}
	return r, nil
}
