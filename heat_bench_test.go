//go:build unix

package dyngo_test

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
)

var (
	heatPairs = flag.Int("heat.pairs", 0, "TestHeatCost: pairs of runs with and without sampling, 0 = skip it; some thousand say something on a busy machine")
	heatOps   = flag.Int("heat.ops", 2000, "TestHeatCost: operations of each run")
)

// TestHeatCost tells what sampling takes of gets and puts in memory: the medians over pairs of runs of the same store, first
// with and then without, then the other way round, of the time and of the processor's time for an operation.
func TestHeatCost(t *testing.T) {
	if *heatPairs == 0 {
		t.Skip("-heat.pairs 5001 runs it")
	}
	const keys = 300_000
	open := func(t *testing.T) (*dyngo.DB, *dyngo.Dataset) {
		db := mustOpen(t, "", &dyngo.Options{InMemory: true, MemoryBudget: 2 << 30})
		ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
		if err != nil {
			t.Fatal(err)
		}
		return db, ds
	}
	value := make([]byte, 100)
	fill := func(t *testing.T, db *dyngo.DB, ds *dyngo.Dataset) {
		batch := db.NewBatch()
		for i := range keys {
			if batch.Put(ds, benchKey(nil, i), value); batch.Len() == 1000 || i == keys-1 {
				if _, err := batch.Commit(); err != nil {
					t.Fatal(err)
				}
				batch.Reset()
			}
		}
	}
	pick := func(zipf bool) func(*rand.Rand) func() int {
		return func(rng *rand.Rand) func() int {
			if !zipf {
				return func() int { return rng.IntN(keys) }
			}
			z := rand.NewZipf(rng, 1.1, 1, keys-1)
			return func() int { return int(z.Uint64()) }
		}
	}
	for _, c := range []struct {
		name  string
		write bool
		next  func(*rand.Rand) func() int
	}{
		{"get zipf", false, pick(true)}, {"get uniform", false, pick(false)}, {"put uniform", true, pick(false)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ns, cpu [2][]float64
			var speed, work []float64
			done := 0
			db, ds := open(t)
			fill(t, db, ds)
			for pair := range *heatPairs {
				if done += 2 * *heatOps; c.write && done > 2_000_000 { // nothing is flushed meanwhile
					done = 0
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
					db, ds = open(t)
					fill(t, db, ds)
					runtime.GC()
				}
				for turn := range 2 {
					on := (pair + turn) % 2
					db.PauseHeat(on == 0)
					var wg sync.WaitGroup
					begun, used := time.Now(), cpuTime(t)
					workers := runtime.GOMAXPROCS(0)
					for w := range workers {
						wg.Go(func() {
							next := c.next(rand.New(rand.NewPCG(uint64(2*pair+turn), uint64(w))))
							key, dst := make([]byte, 0, 12), make([]byte, 0, 128)
							for range *heatOps / workers {
								key = benchKey(key, next())
								var err error
								if c.write {
									_, err = ds.Put(key, value)
								} else {
									dst, err = ds.AppendGet(dst[:0], key)
								}
								if err != nil {
									t.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
					ops := float64(*heatOps)
					ns[on] = append(ns[on], float64(time.Since(begun).Nanoseconds())/ops)
					cpu[on] = append(cpu[on], float64((cpuTime(t)-used).Nanoseconds())/ops)
				}
				speed, work = append(speed, ns[1][pair]/ns[0][pair]), append(work, cpu[1][pair]/cpu[0][pair])
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			for _, list := range [][]float64{ns[0], ns[1], cpu[0], cpu[1], speed, work} {
				slices.Sort(list)
			}
			n := len(speed)
			for _, q := range []int{n / 4, n / 2} {
				t.Logf("%d pairs of %d operations: %d of 100 take %.1f ns each with, %.1f without; CPU %.1f ns and %.1f",
					n, *heatOps, 100*q/n, ns[1][q], ns[0][q], cpu[1][q], cpu[0][q])
			}
			t.Logf("time, with : without: median %.4f, quartiles %.4f and %.4f", speed[n/2], speed[n/4], speed[3*n/4])
			t.Logf("CPU, with : without: median %.4f, quartiles %.4f and %.4f", work[n/2], work[n/4], work[3*n/4])
		})
	}
}
