package dyngo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
)

var (
	bigLoadGB  = flag.Float64("bigload.gb", 0, "GB of keys and values of TestBigLoad, 0 = skip it; 20 is the size to hold")
	bigLoadMiB = flag.Int64("bigload.mib", 512, "MemoryBudget of TestBigLoad in MiB")
	bigLoadDir = flag.String("bigload.dir", "", "folder for the store of TestBigLoad (default: for temporary files)")
)

// bigLoad is a set of pairs of which half the bytes are in values of 100 KB and half in values of 100 B. Each value
// follows from its key, and the keys in order are the numbers from 0 on: what a scan must give needs no memory.
type bigLoad struct {
	pairs uint64
	every uint64 // one pair in so many has a large value
	step  uint64 // the order of writing: number i*step%pairs is the i-th
}

const (
	bigKey, bigSmall, bigLarge = 16, 100, 100_000
	bigBatch                   = 1000
	bigWriters                 = 4
	bigSample                  = 20_000 // keys read one by one
	bigReport                  = 3 * time.Second
)

func newBigLoad(userBytes float64) bigLoad {
	large := uint64(userBytes / 2 / (bigKey + bigLarge))
	small := uint64(userBytes / 2 / (bigKey + bigSmall))
	l := bigLoad{pairs: max(large+small, 1), every: max((large+small)/max(large, 1), 1)}
	for l.step = l.pairs*618/1000 | 1; greatestCommon(l.step, l.pairs) != 1; l.step += 2 {
	}
	return l
}

func greatestCommon(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (l bigLoad) key(dst []byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst[:0], "big load"...), number)
}

func (l bigLoad) size(number uint64) int {
	if number%l.every == 0 {
		return bigLarge
	}
	return bigSmall
}

// value fills dst with bytes that no codec makes smaller: a splitmix64 sequence of the number's own.
func (l bigLoad) value(dst []byte, number uint64) []byte {
	dst = dst[:0]
	for x, n := mix(number), l.size(number); len(dst) < n; {
		x += 0x9e3779b97f4a7c15
		dst = binary.LittleEndian.AppendUint64(dst, mix(x))
	}
	return dst[:l.size(number)]
}

// mix is the output function of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// sum hashes all pairs in key order, as an export would give them.
func (l bigLoad) sum() []byte {
	h := sha256.New()
	var k, v []byte
	for i := range l.pairs {
		k, v = l.key(k, i), l.value(v, i)
		hashPair(h, k, v)
	}
	return h.Sum(nil)
}

func hashPair(h hash.Hash, key, value []byte) {
	var lengths [8]byte
	binary.LittleEndian.PutUint32(lengths[:], uint32(len(key)))
	binary.LittleEndian.PutUint32(lengths[4:], uint32(len(value)))
	h.Write(lengths[:])
	h.Write(key)
	h.Write(value)
}

// TestBigLoad writes much more than memory holds, closes, opens, and compares all that a scan gives with what was written.
// On the way it holds the process to its memory: 1.25 × MemoryBudget and 32 MiB.
func TestBigLoad(t *testing.T) {
	if *bigLoadGB <= 0 {
		t.Skip("writes many GB: run with -bigload.gb=20 -timeout=2h -v; the disk needs 2.5 times as much")
	}
	dir, err := os.MkdirTemp(*bigLoadDir, "bigload-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l := newBigLoad(*bigLoadGB * 1e9)
	w := watchMemory(t, *bigLoadMiB<<20)
	db, ds := openBigLoad(t, dir)
	w.loaded(db, func() {
		began := time.Now()
		if err := l.write(db, ds, w); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		t.Logf("%d pairs, %.1f GB in %v: %.0f MB/s",
			l.pairs, *bigLoadGB, took.Round(time.Millisecond), *bigLoadGB*1e3/took.Seconds())
	})
	w.check("load")
	w.checkFiles(db, dir)
	closing := time.Now()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed in %v", time.Since(closing).Round(time.Millisecond))

	opening := time.Now()
	db, ds = openBigLoad(t, dir)
	defer db.Close()
	l.get(t, ds, l.pairs/3)
	t.Logf("first correct read %v after the call of Open", time.Since(opening).Round(10*time.Microsecond))
	w.loaded(db, func() { l.verify(t, ds, w) })
	w.check("reading")
	if m := db.Metrics(); m.FlushErrors+m.CompactionErrors+m.DamagedSegments > 0 {
		t.Errorf("flushes failed %d times, merges %d times, %d segments are damaged",
			m.FlushErrors, m.CompactionErrors, m.DamagedSegments)
	}
}

func openBigLoad(t *testing.T, dir string) (*dyngo.DB, *dyngo.Dataset) {
	t.Helper()
	db, err := dyngo.Open(dir, &dyngo.Options{MemoryBudget: *bigLoadMiB << 20})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := db.CreateDataset("big", nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, ds
}

// write puts all pairs in durable batches, each by the writer that is free.
func (l bigLoad) write(db *dyngo.DB, ds *dyngo.Dataset, w *memoryWatch) error {
	var next atomic.Uint64
	var wg sync.WaitGroup
	errs := make([]error, bigWriters)
	for i := range errs {
		wg.Go(func() {
			b := db.NewBatch()
			var k, v []byte
			for {
				end := next.Add(bigBatch)
				if end-bigBatch >= l.pairs {
					return
				}
				for j := end - bigBatch; j < min(end, l.pairs); j++ {
					n := l.at(j)
					k, v = l.key(k, n), l.value(v, n)
					b.Put(ds, k, v)
					w.user.Add(int64(len(k) + len(v)))
				}
				if _, errs[i] = b.Commit(); errs[i] != nil {
					return
				}
				b.Reset()
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return db.WaitDurable(context.Background(), db.LSN())
}

// at is the number written as the i-th. Pairs are fewer than 2^32, so that the product fits.
func (l bigLoad) at(i uint64) uint64 { return i * l.step % l.pairs }

func (l bigLoad) get(t *testing.T, ds *dyngo.Dataset, number uint64) {
	t.Helper()
	v, err := ds.Get(l.key(nil, number))
	if err != nil {
		t.Fatalf("key %d: %v", number, err)
	}
	if !bytes.Equal(v, l.value(nil, number)) {
		t.Fatalf("key %d has a wrong value of %d bytes", number, len(v))
	}
}

// verify reads a sample by key, then everything in order beside what everything should be.
func (l bigLoad) verify(t *testing.T, ds *dyngo.Dataset, w *memoryWatch) {
	began := time.Now()
	sample := min(bigSample, l.pairs)
	for i := range sample {
		l.get(t, ds, l.at(i*(l.pairs/sample)))
	}
	t.Logf("%d gets one by one: %v each", sample, (time.Since(began) / time.Duration(sample)).Round(100*time.Nanosecond))

	want := make(chan []byte, 1)
	go func() { want <- l.sum() }()
	began = time.Now()
	h, n := sha256.New(), uint64(0)
	for kv, err := range ds.Scan(dyngo.Range{}) {
		if err != nil {
			t.Errorf("scan after %d pairs: %v", n, err)
			break
		}
		hashPair(h, kv.Key, kv.Value)
		w.user.Add(int64(len(kv.Key) + len(kv.Value)))
		n++
	}
	took := time.Since(began)
	got, sum := h.Sum(nil), <-want
	t.Logf("exported %d pairs in %v, %.0f MB/s: SHA-256 %x",
		n, took.Round(time.Millisecond), *bigLoadGB*1e3/took.Seconds(), got)
	if n != l.pairs || !bytes.Equal(got, sum) {
		t.Errorf("the export has %d pairs with SHA-256 %x, want %d with %x", n, got, l.pairs, sum)
	}
}

// memoryWatch samples the resident set and reports the engine's metrics while something runs.
type memoryWatch struct {
	t      *testing.T
	budget int64
	user   atomic.Int64 // bytes of keys and values written or read
	peak   int64
	began  time.Time
}

func watchMemory(t *testing.T, budget int64) *memoryWatch {
	return &memoryWatch{t: t, budget: budget, began: time.Now()}
}

// loaded calls do and reports until it returns.
func (w *memoryWatch) loaded(db *dyngo.DB, do func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		sample, report := time.NewTicker(50*time.Millisecond), time.NewTicker(bigReport)
		defer sample.Stop()
		defer report.Stop()
		last := w.user.Load()
		for {
			select {
			case <-stop:
				return
			case <-sample.C:
				w.peak = max(w.peak, residentSet())
			case <-report.C:
				now := w.user.Load()
				w.t.Log(w.line(db.Metrics(), float64(now-last)/1e6/bigReport.Seconds()))
				last = now
			}
		}
	})
	defer func() { close(stop); wg.Wait() }() // also when do ends the test
	do()
}

func (w *memoryWatch) line(m dyngo.Metrics, rate float64) string {
	gb := func(n int64) string { return fmt.Sprintf("%.2f GB", float64(n)/1e9) }
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return fmt.Sprintf("%5.0f s  %s at %4.0f MB/s  resident %d MiB, peak %d  heap %d off-heap %d: tail %d index %d cache %d readers %d MiB  "+
		"flushed %d of %d durable  flushes %d  runs %d  segments %d with %s  merges %d, read %s, wrote %s  disk free %s",
		time.Since(w.began).Seconds(), gb(w.user.Load()), rate, residentSet()>>20, w.peak>>20,
		(heap.Sys-heap.HeapReleased)>>20, m.OffHeapBytes>>20,
		m.TailBytes>>20, m.IndexBytes>>20, m.CacheBytes>>20, m.ReaderBytes>>20, m.FlushedLSN, m.DurableLSN,
		m.Flushes, m.Runs, m.Segments, gb(m.SegmentBytes),
		m.Compactions, gb(m.CompactReadBytes), gb(m.CompactWrittenBytes), gb(m.DiskFreeBytes))
}

// check holds the peak against what the budget promises.
func (w *memoryWatch) check(when string) {
	limit := w.budget + w.budget/4 + 32<<20
	w.t.Logf("%s: resident at most %d MiB, allowed are %d", when, w.peak>>20, limit>>20)
	if w.peak > limit {
		w.t.Errorf("%s: resident set of %d MiB, want at most %d", when, w.peak>>20, limit>>20)
	}
	w.peak = 0
}

// checkFiles compares the segments on disk with those that the store has: what merges have replaced goes, also while one job
// follows the other.
func (w *memoryWatch) checkFiles(db *dyngo.DB, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil {
		w.t.Fatal(err)
	}
	const beingMerged = 64 // or being written
	if have := db.Metrics().Segments; len(files) > have+beingMerged {
		w.t.Errorf("%d files of segments, the store has %d", len(files), have)
	}
}

var vmRSS = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// residentSet is the resident set of this process in bytes, 0 where the system does not tell.
func residentSet() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	m := vmRSS.FindSubmatch(b)
	if m == nil {
		return 0
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}

// TestBigLoadValues: half the bytes are in large values, each number is written once, and a value follows from its number.
func TestBigLoadValues(t *testing.T) {
	const userBytes = 20e6
	l := newBigLoad(userBytes)
	large, small, seen := 0, 0, make(map[uint64]bool, l.pairs)
	for i := range l.pairs {
		n := l.at(i)
		if seen[n] || n >= l.pairs {
			t.Fatalf("number %d is the %d-th, and was before or is none of %d", n, i, l.pairs)
		}
		seen[n] = true
		if l.size(n) == bigLarge {
			large += bigKey + bigLarge
		} else {
			small += bigKey + bigSmall
		}
	}
	if share := float64(large) / float64(large+small); share < 0.48 || share > 0.52 {
		t.Errorf("%.3f of the bytes are in large values", share)
	}
	if got := float64(large + small); got < 0.97*userBytes || got > 1.03*userBytes {
		t.Errorf("%.0f bytes, asked for %.0f", got, userBytes)
	}
	a, b := l.value(nil, 1), l.value(make([]byte, 0, bigLarge), 1)
	if !bytes.Equal(a, b) || len(l.value(nil, 0)) != bigLarge {
		t.Error("values don't follow from their numbers")
	}
	if part := a[16:32]; bytes.Contains(l.value(nil, 2), part) || bytes.Contains(l.value(nil, 3), part) {
		t.Error("values of neighbours share bytes, so that a codec makes blocks of them smaller")
	}
}
