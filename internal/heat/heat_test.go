package heat

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
)

// load does operations as an engine would, by one goroutine.
type load struct {
	t    testing.TB
	s    *Sampler
	clk  *clock.Manual
	rng  *rand.Rand
	tick uint32
	done int
}

func newLoad(t testing.TB) *load {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	clk := clock.NewManual(time.Unix(1e9, 0))
	return &load{t: t, s: New(clk), clk: clk, rng: rand.New(rand.NewPCG(seed, 0))}
}

// hash is that of a key; tests know no collisions.
func hash(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// op is one operation.
func (l *load) op(kind Kind, ds event.DatasetID, key []byte) {
	l.done++
	if l.tick++; l.s.Due(l.tick) {
		l.s.Add(int(l.tick%7), kind, ds, hash(key), key, time.Microsecond)
	}
}

// run spreads operations over a time, as so many a second.
func (l *load) run(d time.Duration, perSecond int, op func()) {
	const part = 50 * time.Millisecond
	for ; d > 0; d -= part {
		for range int(float64(perSecond) * part.Seconds()) {
			op()
		}
		l.clk.Advance(part)
		l.s.collect(time.Second)
	}
}

// check holds what the sampler believes of its ranges against what must be true of any.
func (l *load) check() {
	l.t.Helper()
	list := l.s.cells.list
	if len(list) > maxCells {
		l.t.Errorf("%d cells", len(list))
	}
	for i, x := range list {
		first := i == 0 || list[i-1].dataset != x.dataset
		if first != (len(x.from) == 0) {
			l.t.Errorf("cell %d of dataset %d begins at %q", i, x.dataset, x.from)
		}
		if i > 0 && list[i-1].compare(x.dataset, x.from) >= 0 {
			l.t.Errorf("cell %d is not behind the one before", i)
		}
		for k := range kinds {
			if !(x.now[k] >= 0) {
				l.t.Errorf("cell %d has %v", i, x.now)
			}
		}
	}
	for i := 1; i < len(l.s.keys.heap); i++ {
		if l.s.keys.total(i) < l.s.keys.total((i-1)/2) {
			l.t.Errorf("the heap of keys is in disorder at %d", i)
		}
	}
	if len(l.s.keys.index) != len(l.s.keys.list) {
		l.t.Errorf("%d keys are watched, %d are in the index", len(l.s.keys.list), len(l.s.keys.index))
	}
	if n := l.s.Bytes(); n > MaxBytes {
		l.t.Errorf("it takes %d bytes, more than %d", n, MaxBytes)
	}
}

func key(i int) []byte { return fmt.Appendf(nil, "user%08d", i) }

// near says whether a figure is within a tenth, or some units, of what it should be.
func near(got, want float64) bool { return math.Abs(got-want) <= want/10+5 }

// TestZipf: the hottest keys of a skewed load are found with their rates, and the ranges they lie in are small.
func TestZipf(t *testing.T) {
	l := newLoad(t)
	const perSecond, seconds = 16_000, 15
	truth := map[string]float64{}
	zipf := rand.NewZipf(l.rng, 1.2, 1, 100_000)
	place := l.rng.Perm(100_001) // the hottest keys are not neighbours
	l.run(seconds*time.Second, perSecond, func() {
		k := key(place[zipf.Uint64()])
		truth[string(k)]++
		l.op(Read, 1, k)
	})
	l.check()
	hottest := slices.SortedFunc(maps.Keys(truth), func(a, b string) int { return int(truth[b] - truth[a]) })
	p := l.s.Look(32)
	found := map[string]float64{}
	for _, k := range p.Datasets[0].Keys {
		found[string(k.Key)] = k.Rates.Reads
	}
	missing := 0
	for i, k := range hottest[:20] {
		want := truth[k] / seconds
		if found[k] == 0 {
			missing++
		} else if i < 4 && math.Abs(found[k]-want) > want/4 {
			t.Errorf("key %d of the hottest is read %.0f times a second, told were %.0f", i, want, found[k])
		}
	}
	if missing > 1 {
		t.Errorf("%d of the 20 hottest keys were not found", missing)
	}
	sum := 0.0
	for _, r := range p.Datasets[0].Ranges {
		sum += r.Rates.Reads
	}
	if !near(sum, perSecond) {
		t.Errorf("all ranges together are read %.0f times a second, want %d", sum, perSecond)
	}
	hot := hottestRanges(l.s, 1)
	if string(hot[0].From) != hottest[0] || string(hot[0].To) != hottest[0]+"\x00" {
		t.Errorf("the hottest range is %q to %q, want the key %q alone", hot[0].From, hot[0].To, hottest[0])
	}
	if got := l.s.Totals(); !near(float64(got.Reads), float64(l.done)) || got.Writes != 0 || got.ReadP50Ns < 900 || got.ReadP50Ns > 1200 {
		t.Errorf("totals %+v of %d operations", got, l.done)
	}
}

// TestMovingHotSpot: ranges become small where the load is, within seconds of its move, and wide where it was.
func TestMovingHotSpot(t *testing.T) {
	l := newLoad(t)
	const keys, hot, perSecond = 1_000_000, 1000, 10_000
	for range 2 {
		at := l.rng.IntN(keys - hot)
		spot := func() {
			i := at + l.rng.IntN(hot)
			if l.rng.IntN(10) == 0 {
				i = l.rng.IntN(keys) // a tenth goes anywhere
			}
			l.op(Kind(l.rng.IntN(2))*Write, 7, key(i))
		}
		l.run(12*time.Second, perSecond, spot)
		l.check()
		inside, small := 0.0, 0
		for _, r := range hottestRanges(l.s, 7) {
			if bytes.Compare(r.From, key(at)) >= 0 && r.To != nil && bytes.Compare(r.To, key(at+hot)) <= 0 {
				inside += r.Rates.Sum()
				small++
			}
		}
		if small < 20 || inside < 0.5*perSecond {
			t.Errorf("%d ranges lie within the hot spot, with %.0f operations a second of %d", small, inside, perSecond)
		}
	}
}

// hottestRanges are the ranges of a dataset, the hottest first.
func hottestRanges(s *Sampler, ds event.DatasetID) (list []Range) {
	for _, d := range s.Look(0).Datasets {
		for _, r := range d.Ranges {
			if d.ID == ds {
				list = append(list, r.Range)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Range) int { return cmp.Compare(b.Rates.Sum(), a.Rates.Sum()) })
	return list
}

// TestRecent: what went on in the present step and the one before counts, in full, and nothing else; so do the ranges of a scan.
func TestRecent(t *testing.T) {
	l := newLoad(t)
	total := func(ds event.DatasetID) (r Rates, perScan float64, n int) {
		for _, d := range l.s.Recent() {
			if d.Dataset != ds {
				continue
			}
			perScan, n = d.RangesPerScan, len(d.Ranges)
			for i, x := range d.Ranges {
				if i > 0 && (d.Ranges[i-1].To == nil || bytes.Compare(d.Ranges[i-1].To, x.From) > 0) {
					t.Fatalf("range %d begins at %q, the one before ends at %q", i, x.From, d.Ranges[i-1].To)
				}
				r = Rates{Reads: r.Reads + x.Rates.Reads, Misses: r.Misses + x.Rates.Misses, Scans: r.Scans + x.Rates.Scans, Writes: r.Writes + x.Rates.Writes}
			}
		}
		return r, perScan, n
	}
	if list := l.s.Recent(); len(list) > 0 {
		t.Errorf("before anything was done: %+v", list)
	}
	l.run(8*StepTime, 2000, func() { // ranges and rates have settled
		l.op(Read, 1, key(l.rng.IntN(1000)))
		l.op(Write, 1, key(l.rng.IntN(1000)))
		if l.tick++; l.s.Due(l.tick) {
			i := l.rng.IntN(1000)
			l.s.AddScan(0, 1, key(i), key(i+100), Before)
		}
		l.op(Miss, 2, []byte("x"))
	})
	one, perScan, n := total(1)
	if !near(one.Reads, 2000) || !near(one.Writes, 2000) || one.Misses != 0 || n < 20 {
		t.Errorf("%+v in %d ranges, want 2000 reads and writes a second", one, n)
	}
	if perScan < 2 || !near(one.Scans, 2000*perScan) {
		t.Errorf("%.0f scans a second, each of %.1f ranges, want 2000", one.Scans, perScan)
	}
	if two, perScan, n := total(2); !near(two.Misses, 2000) || two.Reads+two.Scans+two.Writes != 0 || perScan != 0 || n != 1 {
		t.Errorf("%+v in %d ranges, %.1f of them in a scan, want 2000 misses a second in one", two, n, perScan)
	}
	l.clk.Advance(2 * StepTime)
	if one, _, n := total(1); n != 0 {
		t.Errorf("%+v in %d ranges, two steps after all had ended", one, n)
	}
}

// TestKindsApart: reads, misses, scans and writes are counted each for itself, in each dataset, and decay together.
func TestKindsApart(t *testing.T) {
	l := newLoad(t)
	l.run(30*time.Second, 1000, func() {
		l.op(Read, 1, []byte("a"))
		l.op(Miss, 1, []byte("b"))
		l.op(Write, 2, []byte("c"))
		if l.tick++; l.s.Due(l.tick) {
			l.s.AddScan(0, 1, []byte("a"), []byte("m"), Before)
		}
	})
	sum := func(ds event.DatasetID) (r Rates) {
		for _, x := range hottestRanges(l.s, ds) {
			r.Reads, r.Misses, r.Writes = r.Reads+x.Rates.Reads, r.Misses+x.Rates.Misses, r.Writes+x.Rates.Writes
			r.Scans = max(r.Scans, x.Rates.Scans)
		}
		return r
	}
	for range 2 {
		one, two := sum(1), sum(2)
		for _, r := range []float64{one.Reads, one.Misses, one.Scans, two.Writes} {
			if math.Abs(r-1000) > 150 {
				t.Errorf("a kind has %v operations a second, want 1000: %+v, %+v", r, one, two)
			}
		}
		if one.Writes != 0 || two.Reads+two.Misses+two.Scans != 0 {
			t.Errorf("kinds are mixed: %+v, %+v", one, two)
		}
		l.run(10*time.Second, 500, func() { // as half of what was goes on, and half decays
			l.op(Read, 1, []byte("a"))
			l.op(Miss, 1, []byte("b"))
			l.op(Write, 2, []byte("c"))
			if l.tick++; l.s.Due(l.tick) {
				l.s.AddScan(0, 1, []byte("a"), []byte("m"), Before)
			}
			l.op(Read, 1, []byte("a"))
			l.op(Miss, 1, []byte("b"))
			l.op(Write, 2, []byte("c"))
			if l.tick++; l.s.Due(l.tick) {
				l.s.AddScan(0, 1, []byte("a"), []byte("m"), Before)
			}
		})
	}
	if d := l.s.Look(0).Datasets[0]; math.Abs(d.Rates.Scans-1000) > 150 {
		t.Errorf("the dataset has %v scans a second, want 1000", d.Rates.Scans)
	}
	before := sum(1).Reads
	l.clk.Advance(HalfLife)
	if after := sum(1).Reads; math.Abs(after-before/2) > before/50 {
		t.Errorf("after a half-life without load %v of %v is left", after, before)
	}
}

// TestScansCountWhereTheyPass: in each range that they have visited, nowhere else.
func TestScansCountWhereTheyPass(t *testing.T) {
	l := newLoad(t)
	l.run(5*time.Second, 20_000, func() { l.op(Write, 1, key(l.rng.IntN(1000))) })
	bound := l.s.cells.list[len(l.s.cells.list)/2].from
	for _, c := range []struct {
		from, last []byte
		reach      Reach
	}{
		{key(300), key(599), Through}, {key(300), key(599), Before}, {key(300), nil, ToEnd}, {nil, key(1), Through}, {nil, nil, ToEnd},
		{key(300), bound, Through}, {key(300), bound, Before}, {bound, bound, Through},
		{key(300), []byte(string(key(599)) + strings.Repeat("x", 100)), Before},
	} {
		before := l.s.Look(0).Datasets[0].Ranges
		for range 100 {
			l.s.AddScan(0, 1, c.from, c.last, c.reach)
		}
		for i, r := range l.s.Look(0).Datasets[0].Ranges {
			end := bytes.Compare(r.From, c.last)
			passed := (c.reach == ToEnd || end < 0 || end == 0 && c.reach == Through) && (r.To == nil || bytes.Compare(c.from, r.To) < 0)
			if passed != (r.Rates.Scans > before[i].Rates.Scans) {
				t.Errorf("range %q to %q: a scan of %q to %.20q, %d, counts there: %v", r.From, r.To, c.from, c.last, c.reach, !passed)
			}
		}
	}
}

// TestScanOfLongKeys: of the key that a scan has come to, its beginning is kept; the scan has visited keys that begin so.
func TestScanOfLongKeys(t *testing.T) {
	l := newLoad(t)
	long := strings.Repeat("x", maxScanKey)
	l.s.AddScan(0, 1, nil, nil, ToEnd)
	l.s.collect(time.Second)
	l.s.cells.cut(0, []byte(long), 0)
	l.s.AddScan(0, 1, nil, []byte(long+"y"), Before)
	l.clk.Advance(time.Millisecond)
	if r := l.s.Look(0).Datasets[0].Ranges; len(r) != 2 || r[1].Rates.Scans == 0 {
		t.Errorf("a scan through keys behind %q counts there: %+v", long, r)
	}
}

// TestLostSamples: when more are sampled than rings take, those that got in stand for all.
func TestLostSamples(t *testing.T) {
	l := newLoad(t)
	const samples = 10 * ringSlots
	for i := range samples {
		l.s.Add(i, Write, 1, hash(key(i%100)), key(i%100), 0)
	}
	if got, want := l.s.Totals().Writes, int64(samples<<minShift); got != want {
		t.Errorf("%d writes are told of %d", got, want)
	}
}

// TestPast: each step of the past has what was done then, the oldest goes, and a split keeps the sum.
func TestPast(t *testing.T) {
	l := newLoad(t)
	for n := range Steps + 10 {
		l.run(StepTime, 60*(n%3), func() { l.op(Read, 1, key(l.rng.IntN(1000))) })
	}
	d := l.s.Look(0).Datasets[0]
	if len(d.Ranges) < 10 {
		t.Errorf("%d ranges", len(d.Ranges))
	}
	for i := range Steps - 1 {
		sum := 0.0
		for _, r := range d.Ranges {
			if r.Past.Reads == nil {
				continue // it is new and small
			}
			if len(r.Past.Reads) != Steps || r.Past.Writes != nil {
				t.Fatalf("%d steps of reads, %d of writes", len(r.Past.Reads), len(r.Past.Writes))
			}
			sum += r.Past.Reads[i]
		}
		if want := float64(60 * ((11 + i) % 3)); math.Abs(sum-want) > 20 {
			t.Errorf("step %d has %v reads a second, want %v", i, sum, want)
		}
	}
}

// TestAdversarialKeys: whatever keys come, memory stays within its bound and ranges in order.
func TestAdversarialKeys(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	n := 0
	for name, next := range map[string]func(*load) (event.DatasetID, []byte){
		"64 KiB": func(l *load) (event.DatasetID, []byte) {
			return 1, binary.BigEndian.AppendUint64([]byte(long[:64<<10-8]), l.rng.Uint64())
		},
		"random 64 KiB": func(l *load) (event.DatasetID, []byte) {
			b := []byte(long)
			binary.BigEndian.PutUint64(b, l.rng.Uint64())
			return 1, b
		},
		"common prefix": func(l *load) (event.DatasetID, []byte) {
			return 1, fmt.Appendf(nil, "%s%d", long[:200], l.rng.IntN(1000))
		},
		"0xff": func(l *load) (event.DatasetID, []byte) { return 1, bytes.Repeat([]byte{0xff}, 1+l.rng.IntN(300)) },
		"sequential": func(l *load) (event.DatasetID, []byte) {
			n++
			return 1, binary.BigEndian.AppendUint64(nil, uint64(n))
		},
		"falling": func(l *load) (event.DatasetID, []byte) {
			n++
			return 1, binary.BigEndian.AppendUint64(nil, uint64(1<<40-n))
		},
		"many datasets": func(l *load) (event.DatasetID, []byte) { return event.DatasetID(l.rng.Uint32()), key(l.rng.IntN(9)) },
		"one key":       func(l *load) (event.DatasetID, []byte) { return 1, []byte("k") },
		"zeros":         func(l *load) (event.DatasetID, []byte) { return 1, make([]byte, 1+l.rng.IntN(100)) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoad(t)
			l.run(3*time.Second, 300, func() {
				ds, k := next(l)
				l.s.Add(int(l.rng.Uint32()), Kind(l.rng.IntN(2))*Write, ds, hash(k[len(k)-min(len(k), 8):]), k, time.Second)
				if l.rng.IntN(100) == 0 {
					_, to := next(l)
					if bytes.Compare(k, to) > 0 {
						k, to = to, k
					}
					l.s.AddScan(0, ds, k, to, Reach(l.rng.IntN(3)))
				}
			})
			l.check()
			for _, k := range l.s.Look(10).Datasets[0].Keys {
				if len(k.Key) > MaxKeyBytes || k.Cut && len(k.Key) != MaxKeyBytes {
					t.Errorf("a key of %d bytes is told, cut: %v", len(k.Key), k.Cut)
				}
			}
		})
	}
}

// TestSequentialWrites: the newest keys are in small ranges, however far the sequence has gone.
func TestSequentialWrites(t *testing.T) {
	l := newLoad(t)
	n := 0
	l.run(20*time.Second, 5_000, func() { n++; l.op(Write, 1, key(n)) })
	l.check()
	wide := 0
	for _, r := range l.s.Look(0).Datasets[0].Ranges {
		if bytes.Compare(r.From, key(n/2)) < 0 {
			wide++
		}
	}
	if all := len(l.s.cells.list); wide > all/2 {
		t.Errorf("%d of %d ranges begin in the colder half of the keys", wide, all)
	}
}

// TestLoops: a load that repeats itself with any period has all its keys sampled alike.
func TestLoops(t *testing.T) {
	s := New(clock.NewManual(time.Unix(1e9, 0)))
	s.setShift(6)
	for _, period := range []uint32{1, 2, 3, 5, 8, 13, 21, 64, 100, 144, 1000} {
		sampled := make([]int, period)
		for tick := range period * 64 * 100 {
			if s.Due(tick) {
				sampled[tick%period]++
			}
		}
		for i, n := range sampled {
			if n < 70 || n > 130 {
				t.Fatalf("key %d of %d was sampled %d times, want about 100", i, period, n)
			}
		}
	}
}

// TestBatches: of batches as many operations are sampled as of single ones, at all places; of batches of one those that are due.
func TestBatches(t *testing.T) {
	s := New(clock.NewManual(time.Unix(1e9, 0)))
	for tick := range uint32(100_000) {
		if first, every := s.FirstDue(tick); (first == 0) != s.Due(tick) || every != s.Interval() {
			t.Fatalf("tick %d: first %d, due %v", tick, first, s.Due(tick))
		}
	}
	const size, batches = 100, 10_000
	var at [size]int
	all := 0
	for tick := range uint32(batches) {
		for i, every := s.FirstDue(tick); i < size; i += every {
			at[i]++
			all++
		}
	}
	if want := size * batches / s.Interval(); !near(float64(all), float64(want)) {
		t.Errorf("%d operations were sampled, want %d", all, want)
	}
	for i, n := range at {
		if want := batches / s.Interval(); !near(float64(n), float64(want)) {
			t.Errorf("operation %d was sampled %d times, want %d", i, n, want)
		}
	}
	s.Pause(true)
	if first, _ := s.FirstDue(0); s.Due(0) || first < math.MaxInt || s.Interval() != 0 {
		t.Error("one that pauses samples")
	}
	if s.Pause(false); !s.Due(0) {
		t.Error("one that goes on samples nothing")
	}
}

// TestInterval: it follows the load, so that samples stay few, and what is told does not depend on it.
func TestInterval(t *testing.T) {
	l := newLoad(t)
	for _, perSecond := range []int{1000, 1_000_000, 1000} {
		op := func() { l.op(Read, 1, []byte("k")) }
		l.run(2*time.Second, perSecond, op) // the interval finds its place
		before := l.s.Totals().Reads
		l.done = 0
		l.run(time.Second, perSecond, op)
		if got := float64(l.s.Totals().Reads - before); !near(got, float64(l.done)) {
			t.Errorf("%d operations, told were %.0f", l.done, got)
		}
		rate := perSecond / l.s.Interval()
		if rate > samplesPerSecond || perSecond > 10_000 && rate < samplesPerSecond/8 || perSecond < 10_000 && l.s.Interval() != 1<<minShift {
			t.Errorf("at %d operations a second one in %d is sampled", perSecond, l.s.Interval())
		}
	}
}

// TestConcurrent: writers, Run and readers at a time; nothing is counted twice or lost without being told.
func TestConcurrent(t *testing.T) {
	clk := clock.NewManual(time.Unix(1e9, 0))
	s := New(clk)
	const writers, each = 8, 20_000
	var wg, readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Look(5)
				s.Recent()
				s.Totals()
				clk.Advance(time.Millisecond)
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				k := key(i % 100)
				if w == 0 && i%10 == 0 {
					s.AddScan(w, 1, k, k, Through)
				} else {
					s.Add(w, Read, event.DatasetID(w%3), hash(k), k, time.Duration(i))
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	s.collect(time.Second)
	total := 0.0
	for _, n := range s.total {
		total += n
	}
	for i := range s.rings { // the next sample would stand for these
		total += s.rings[i].owed * (1 << minShift)
	}
	// The interval may have grown meanwhile; without that, each stands for 1<<minShift.
	if least := float64(writers * each << minShift); total < least*0.99 {
		t.Errorf("%v operations are told of at least %v", total, least)
	}
}

func TestLatencies(t *testing.T) {
	var l latencies
	for _, ns := range []uint32{0, 1, 3, 4, 7, 8, 1000, 1 << 20, math.MaxUint32} {
		got := latencyOf(latencyBucket(ns))
		if d := math.Abs(float64(got) - float64(ns)); d > float64(ns)/8+1 {
			t.Errorf("%d ns are told as %v", ns, got)
		}
	}
	if l.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for i := range uint32(1000) {
		l.add(i*1000, 1)
	}
	for q, want := range map[float64]float64{0.5: 500_000, 0.99: 990_000} {
		if got := float64(l.quantile(q)); math.Abs(got-want) > want/7 {
			t.Errorf("quantile %v is %v ns, want about %v", q, got, want)
		}
	}
}

func TestRound(t *testing.T) {
	for in, want := range map[float64]float64{0: 0, 1e-9: 0, 0.12345: 0.123, 1.2345: 1.23, 123.45: 123, 123456: 123000} {
		if got := round(in); got != want {
			t.Errorf("round(%v) = %v, want %v", in, got, want)
		}
	}
}
