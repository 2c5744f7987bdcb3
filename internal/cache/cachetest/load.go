package cachetest

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo/internal/cache"
)

// testStress has readers look again and again at blocks that they hold while others push them out of the cache.
func testStress(t *testing.T, kind Kind) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounds := 20_000
	if testing.Short() {
		rounds = 4000
	}
	c := kind.New(128 << 10)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			type holding struct {
				k cache.Key
				b *cache.Block
			}
			var held []holding
			for range rounds {
				k := cache.Key{File: rng.Uint64N(3), Offset: rng.Uint64N(200)}
				b := c.Get(k)
				if b == nil {
					b = newBlock(k, 256+int(k.Hash()%4000))
					c.Add(k, b)
				}
				held = append(held, holding{k, b})
				if len(held) == 8 {
					i := rng.IntN(len(held))
					if !intact(held[i].k, held[i].b) {
						t.Errorf("the block of %v changed while it was held", held[i].k)
					}
					held[i].b.Release()
					held = slices.Delete(held, i, i+1)
				}
				if rng.IntN(64) == 0 {
					if m := c.Metrics(); m.Bytes > m.CapacityBytes+kind.OverBytes {
						t.Errorf("over capacity: %+v", m)
					}
					kind.settle(c)
				}
			}
			for _, h := range held {
				if !intact(h.k, h.b) {
					t.Errorf("the block of %v changed while it was held", h.k)
				}
				h.b.Release()
			}
		})
	}
	wg.Wait()
	m := c.Metrics()
	if m.Hits == 0 || m.Evicted == 0 || m.Hits+m.Misses != int64(4*rounds) {
		t.Errorf("the load did not do what it should: %+v", m)
	}
	c.Close()
}

// zipf returns a function that draws ranks below n, of which rank i comes with a probability ~ 1/(i+1)^theta.
func zipf(rng *rand.Rand, n int, theta float64) func() uint64 {
	sums, sum := make([]float64, n), 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -theta)
		sums[i] = sum
	}
	return func() uint64 {
		i, _ := slices.BinarySearch(sums, rng.Float64()*sum)
		return uint64(min(i, n-1))
	}
}

// testZipf holds the hit ratio against that of the best fixed choice: the most popular blocks that fit.
func testZipf(t *testing.T, kind Kind) {
	const blocks, fit, reads = 20_000, 2000, 200_000
	rng := rand.New(rand.NewPCG(1, 2))
	draw := zipf(rng, blocks, 0.99)
	c := kind.New(fit * 256)
	defer c.Close()
	hits, best := 0, 0
	for i := range reads {
		rank := draw()
		if hit := load(t, c, cache.Key{Offset: rank}, 256); i >= reads/4 && hit {
			hits++
		}
		if i >= reads/4 && rank < fit {
			best++
		}
		if i%64 == 0 {
			kind.settle(c)
		}
	}
	t.Logf("%d hits, %d with the most popular blocks", hits, best)
	if hits < best*85/100 {
		t.Errorf("%d hits; the most popular blocks that fit would give %d", hits, best)
	}
}

// testScan reads a hot set, which takes half of the cache, and between any two of its blocks one of a scan through ten
// times the cache. Plain LRU would hit 72 of 100 times.
func testScan(t *testing.T, kind Kind) {
	const hot, fit = 1000, 2000
	rng := rand.New(rand.NewPCG(1, 2))
	c := kind.New(fit * 256)
	defer c.Close()
	point := func() bool { return load(t, c, cache.Key{File: 1, Offset: rng.Uint64N(hot)}, 256) }
	for i := range 10 * hot {
		point()
		if i%64 == 0 {
			kind.settle(c)
		}
	}
	hits := 0
	for i := range uint64(10 * fit) {
		if point() {
			hits++
		}
		load(t, c, cache.Key{File: 2, Offset: i}, 256)
		if i%64 == 0 {
			kind.settle(c)
		}
	}
	t.Logf("%d of %d reads of hot blocks hit during the scan", hits, 10*fit)
	if hits < 10*fit*85/100 {
		t.Errorf("only %d of %d reads of hot blocks hit during the scan", hits, 10*fit)
	}
}
