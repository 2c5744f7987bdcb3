package work

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// runProbe finds the limits that every number stands beside: one small append with fdatasync, one
// long sequential write, and one core's speed in a loop that is always the same.
func runProbe(s Spec) ([]Result, error) {
	name := filepath.Join(s.Dir, "probe")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(name)
	defer f.Close()
	m := startMeter(s.Dir)
	syncs, at, err := probeSync(f, s.duration())
	if err != nil {
		return nil, fmt.Errorf("probe fdatasync: %w", err)
	}
	r := Result{Ops: syncs.TotalCount()}
	m.stop(&r)
	r.Latency = map[string]stats.Latency{"fdatasync": summarize(syncs)}
	rate, err := probeWrite(f, at, s.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("probe write: %w", err)
	}
	r.Extra = map[string]float64{"write_MB_per_s": rate / 1e6, "cpu_ms": probeCPU().Seconds() * 1e3}
	return []Result{r}, nil
}

// probeSync appends 512 bytes and syncs them, again and again.
func probeSync(f *os.File, d time.Duration) (h histogram, at int64, err error) {
	rec := newRecorder(1)
	block := noise[:512]
	for began := time.Now(); time.Since(began) < d; at += int64(len(block)) {
		t := time.Now()
		if _, err := f.WriteAt(block, at); err != nil {
			return nil, 0, err
		}
		if err := syncData(f); err != nil {
			return nil, 0, err
		}
		rec.record(0, time.Since(t))
	}
	return rec.merged(), at, nil
}

// probeWrite writes n bytes in pieces of a megabyte, syncs once, and returns bytes a second.
func probeWrite(f *os.File, at, n int64) (float64, error) {
	began := time.Now()
	written := int64(0)
	for ; written < n; written += int64(len(noise)) {
		if _, err := f.WriteAt(noise, at+written); err != nil {
			return 0, err
		}
	}
	if err := syncData(f); err != nil {
		return 0, err
	}
	return float64(written) / time.Since(began).Seconds(), nil
}

// probeCPU times a fixed piece of work of about a tenth of a second: the best of three, so that it
// tells the speed of the core and not who else used it.
func probeCPU() time.Duration {
	best := time.Hour
	table := crc32.MakeTable(crc32.Koopman) // has no instruction of its own
	for range 3 {
		began := time.Now()
		sum := uint32(0)
		for range 100 {
			sum = crc32.Update(sum, table, noise)
		}
		if sum != 0 { // the result is used, so that the loop stays
			best = min(best, time.Since(began))
		}
	}
	return best
}
