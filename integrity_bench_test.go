//go:build unix

package dyngo_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
)

var (
	treePairs   = flag.Int("tree.pairs", 0, "TestTreeCost: pairs of runs with and without a tree, 0 = skip it; 15 are the least that say something")
	treeTime    = flag.Duration("tree.time", 2*time.Second, "TestTreeCost: how long each run writes")
	treeWriters = flag.Int("tree.writers", 64, "TestTreeCost: writers")
)

// treeCost is what one run took.
type treeCost struct {
	perSecond float64
	cpu       float64 // of the process, in microseconds a put, until the tree has caught up
}

// durablePuts writes values of 100 bytes, each durable.
func durablePuts(t *testing.T, tree bool) (c treeCost) {
	t.Helper()
	db, err := dyngo.Open(t.TempDir(), &dyngo.Options{Integrity: tree, SigningKey: testKey})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	value, end, begun, cpu := make([]byte, 100), make(chan struct{}), time.Now(), cpuTime(t)
	for w := range *treeWriters {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				if _, err := ds.Put(fmt.Appendf(nil, "%d/%d", w, i%10000), value); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	time.AfterFunc(*treeTime, func() { close(end) })
	wg.Wait()
	c.perSecond = float64(n.Load()) / time.Since(begun).Seconds()
	if tree {
		if _, err := db.TreeHead(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	c.cpu = float64((cpuTime(t) - cpu).Nanoseconds()) / 1e3 / float64(n.Load())
	return c
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestTreeCost tells what a tree takes of durable puts: the medians over pairs of runs, first with and then without, then the
// other way round, of puts a second while they run, and of the processor's time for each until the tree has caught up.
func TestTreeCost(t *testing.T) {
	if *treePairs == 0 {
		t.Skip("-tree.pairs 15 runs it")
	}
	var speed, cpu, with, without []float64
	for i := range *treePairs {
		var on, off treeCost
		if i%2 == 0 {
			on, off = durablePuts(t, true), durablePuts(t, false)
		} else {
			off, on = durablePuts(t, false), durablePuts(t, true)
		}
		speed, cpu = append(speed, on.perSecond/off.perSecond), append(cpu, on.cpu/off.cpu)
		with, without = append(with, on.perSecond), append(without, off.perSecond)
	}
	for _, list := range [][]float64{speed, cpu, with, without} {
		slices.Sort(list)
	}
	n := len(speed)
	t.Logf("%d writers, %d pairs of %v: %.0f puts a second with a tree, %.0f without", *treeWriters, n, *treeTime, with[n/2], without[n/2])
	t.Logf("puts a second, with : without: median %.3f, quartiles %.3f and %.3f", speed[n/2], speed[n/4], speed[3*n/4])
	t.Logf("CPU for a put, with : without: median %.3f, quartiles %.3f and %.3f", cpu[n/2], cpu[n/4], cpu[3*n/4])
}
