package dyngo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func hotOf(t *testing.T, db *dyngo.DB, name string) (d dyngo.HotDataset) {
	t.Helper()
	h, err := db.Hot()
	if err != nil {
		t.Fatal(err)
	}
	for _, d = range h.Datasets {
		if d.Name == name {
			return d
		}
	}
	return dyngo.HotDataset{}
}

// TestHot does so many operations of each kind a second, in memory and in segments, and finds them in the picture.
func TestHot(t *testing.T) {
	clk := manualClock()
	dir := shortDir(t)
	db := mustOpen(t, dir, &dyngo.Options{Live: true, Clock: clk})
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	other, err := db.CreateDataset("other", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) []byte { return fmt.Appendf(nil, "key%03d", i) }
	const perSecond, seconds = 500, 8
	part := func(from, to int) {
		b := db.NewBatch()
		for i := from; i < to; i++ {
			b.Put(ds, key(i%100), []byte("v"))
			if _, err := ds.Get(key(7)); err != nil {
				t.Fatal(err)
			}
			if _, err := ds.Get(key(i)); (i >= 100) != errors.Is(err, dyngo.ErrNotFound) {
				t.Fatal(err)
			}
			for _, err := range ds.Scan(dyngo.Range{From: key(50), Limit: 10}) {
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := other.Put(key(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		clk.Advance(time.Second / 10)
		db.Metrics() // takes in what was sampled, as happens in the background when the clock is a real one
	}
	b := db.NewBatch()
	for i := range 100 { // what is read from
		b.Put(ds, key(i), []byte("v"))
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	begun := time.Unix(0, clk.Now())
	for range seconds {
		for i := range 10 {
			part(i*perSecond/10, (i+1)*perSecond/10)
		}
	}
	d := hotOf(t, db, "d")
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"reads", d.Rates.Reads, perSecond + 100}, {"misses", d.Rates.Misses, perSecond - 100}, {"scans", d.Rates.Scans, perSecond},
		{"writes", d.Rates.Writes, perSecond}, {"writes of the other dataset", hotOf(t, db, "other").Rates.Writes, perSecond},
	} {
		if math.Abs(c.got-c.want) > c.want/5 {
			t.Errorf("%.0f %s a second, want %.0f", c.got, c.what, c.want)
		}
	}
	if len(d.Keys) == 0 || len(d.Keys) > 32 || string(d.Keys[0].Key) != "key007" || d.Keys[0].Cut || d.Keys[0].Rates.Reads < 0.8*perSecond {
		t.Errorf("the hottest key is not key007: %+v", d.Keys)
	}
	for i, r := range d.Ranges {
		if i == 0 && len(r.From) > 0 || i > 0 && !bytes.Equal(r.From, d.Ranges[i-1].To) || (r.To == nil) != (i == len(d.Ranges)-1) {
			t.Errorf("range %d is %q to %q", i, r.From, r.To)
		}
		if scanned := r.Rates.Scans > perSecond/2; scanned && (string(r.From) > "key059" || r.To != nil && string(r.To) <= "key050") {
			t.Errorf("range %q to %q is scanned %v times a second", r.From, r.To, r.Rates.Scans)
		}
	}
	h, err := db.Hot()
	if err != nil || h.Since.After(begun) || h.At.Sub(h.Since) < seconds*time.Second || h.SampledOneIn < 1 || h.Steps != 2 || h.Step != 5*time.Second {
		t.Errorf("picture from %v to %v, one in %d, %d steps of %v: %v", h.Since, h.At, h.SampledOneIn, h.Steps, h.Step, err)
	}
	var told dyngo.Hot
	if dialLive(t, dir).result("hot", &told); len(told.Datasets) != 2 || told.Datasets[0].Rates != d.Rates || len(told.Datasets[0].Ranges) != len(d.Ranges) {
		t.Errorf("told was %+v, want %+v", told, h)
	}
	m := db.Metrics()
	if ops := m.Operations; ops.Reads < 3000 || ops.Misses < 2000 || ops.Scans < 3000 || ops.Writes < 6000 || m.HeatBytes == 0 || m.HeatBytes > 1<<20 {
		t.Errorf("metrics have %+v, %d bytes", ops, m.HeatBytes)
	}
	if _, err := db.DropDataset("other"); err != nil {
		t.Fatal(err)
	}
	if got := hotOf(t, db, "other"); got.Name != "" {
		t.Errorf("a dropped dataset is hot: %+v", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Hot(); !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestHotScans: a scan counts as far as it has come, in both directions, whether it ends by itself, by its limit or by its caller.
func TestHotScans(t *testing.T) {
	clk := manualClock()
	db := mustOpen(t, t.TempDir(), &dyngo.Options{Clock: clk})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) []byte { return fmt.Appendf(nil, "key%03d", i) }
	for range 50 { // boundaries come to lie between the keys
		b := db.NewBatch()
		for i := range 100 {
			b.Put(ds, key(i), nil)
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		clk.Advance(time.Second)
		hotOf(t, db, "d")
	}
	for _, c := range []struct {
		name        string
		r           dyngo.Range
		take        int    // pairs until the caller leaves
		first, last string // what it visits; up to its To, which no key is needed for
	}{
		{"a part", dyngo.Range{From: key(20), To: key(60)}, 1000, "key020", "key059\xff"},
		{"limit", dyngo.Range{From: key(20), Limit: 40}, 1000, "key020", "key059"},
		{"left", dyngo.Range{From: key(20)}, 40, "key020", "key059"},
		{"reverse", dyngo.Range{From: key(20), To: key(60), Reverse: true}, 1000, "key020", "key059\xff"},
		{"reverse, limit", dyngo.Range{To: key(60), Limit: 40, Reverse: true}, 1000, "key020", "key059\xff"},
		{"all", dyngo.Range{}, 1000, "", "z"},
		{"nothing there", dyngo.Range{From: []byte("x")}, 1000, "x", "z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := hotOf(t, db, "d")
			for range 400 {
				n := 0
				for _, err := range ds.Scan(c.r) {
					if n++; err != nil {
						t.Fatal(err)
					} else if n == c.take {
						break
					}
				}
			}
			for i, r := range hotOf(t, db, "d").Ranges {
				visited := string(r.From) <= c.last && (r.To == nil || string(r.To) > c.first)
				if counted := r.Rates.Scans > before.Ranges[i].Rates.Scans; counted != visited {
					t.Errorf("range %q to %q: visited %v, counted %v", r.From, r.To, visited, counted)
				}
			}
			clk.Advance(5 * time.Minute) // all decays
		})
	}
}

// TestHotConcurrent looks while others read, scan and write.
func TestHotConcurrent(t *testing.T) {
	db := mustOpen(t, t.TempDir(), nil)
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1000)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				key := fmt.Appendf(nil, "%s%d", long[:w*300], i%50)
				if _, err := ds.Put(key, key); err != nil {
					t.Error(err)
				}
				if _, err := ds.Get(key); err != nil {
					t.Error(err)
				}
				for _, err := range ds.Scan(dyngo.Range{From: key, Limit: 2}) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 50 {
		hotOf(t, db, "d")
		db.Metrics()
	}
	wg.Wait()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// haltClock halts the goroutine that begins to time a get which is sampled, once, until what halt does is done.
type haltClock struct {
	*clock.Manual
	halt atomic.Pointer[func()]
}

func (c *haltClock) Mono() int64 {
	if c.halt.Load() != nil {
		var callers [8]uintptr
		frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers[:])])
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.HasSuffix(f.Function, ".findSampled") {
				if halt := c.halt.Swap(nil); halt != nil {
					(*halt)()
				}
			}
		}
	}
	return c.Manual.Mono()
}

// A get that is sampled sees at least what was there when it began, though what it could have found then has left memory and was merged
// away before it looks.
func TestSampledGetIsHeld(t *testing.T) {
	clk := &haltClock{Manual: manualClock()}
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), Clock: clk})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	version := uint64(0)
	put := func() {
		version++
		_, err := ds.Put([]byte("k"), binary.BigEndian.AppendUint64(nil, version))
		if err := errors.Join(err, db.LeaveMemory(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	put()
	halted := 0
	halt := func() {
		halted++
		put()
		if err := db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 10_000 {
		least := version
		clk.halt.Store(&halt)
		v, err := ds.Get([]byte("k"))
		clk.halt.Store(nil)
		if err != nil || binary.BigEndian.Uint64(v) < least {
			t.Fatalf("got %x, %v; version %d was there before", v, err, least)
		}
		if halted == 10 {
			return
		}
	}
	t.Fatalf("%d gets were halted: this tests nothing", halted)
}
