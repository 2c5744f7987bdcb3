package cache_test

import (
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/cache/cachetest"
)

func TestS3FIFO(t *testing.T) {
	cachetest.Run(t, cachetest.Kind{New: func(n int64) cache.Cache { return cache.NewS3FIFO(n) }})
}

func TestS3FIFOHitAllocatesNothing(t *testing.T) {
	c := cache.NewS3FIFO(1 << 20)
	defer c.Close()
	b := cache.NewBlock(1000)
	c.Add(cache.Key{File: 1}, b)
	b.Release()
	if n := testing.AllocsPerRun(1000, func() { c.Get(cache.Key{File: 1}).Release() }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// TestS3FIFOQueues follows single blocks through the queues: ten blocks fit, one of them in the small queue.
func TestS3FIFOQueues(t *testing.T) {
	c := cache.NewS3FIFO(10 * 256)
	defer c.Close()
	add := func(offsets ...uint64) {
		for _, o := range offsets {
			b := cache.NewBlock(256)
			c.Add(cache.Key{Offset: o}, b)
			b.Release()
		}
	}
	use := func(o uint64) bool {
		b := c.Get(cache.Key{Offset: o})
		if b != nil {
			b.Release()
		}
		return b != nil
	}
	add(0, 1, 2, 3, 4, 5, 6, 7, 8, 9) // 0 is in the small queue, which is full with it, the others in the main one
	add(10)
	if use(1) || !use(0) {
		t.Fatal("the oldest of the main queue, unused, should have gone")
	}
	use(0)
	add(11) // 0, used more than once, moves to the main queue; 10 stays in the small one; 2 goes
	if use(2) || !use(0) || !use(10) || !use(11) {
		t.Fatal("a block of the small queue that was used twice should have moved, and one more of the main queue gone")
	}
	add(12) // 10 was used once, so it becomes a ghost
	if use(10) {
		t.Fatal("a block of the small queue that was used once should have gone")
	}
	add(10, 13, 14, 15, 16, 17, 18) // back as a ghost: into the main queue, where a scan does not reach it
	if !use(10) || use(13) || !use(18) {
		t.Fatal("a block that came back should stay, and those of a scan go")
	}
}

func TestS3FIFORefusesWhenClosed(t *testing.T) {
	c := cache.NewS3FIFO(1 << 20)
	c.Close()
	b := cache.NewBlock(256)
	c.Add(cache.Key{}, b)
	if c.Get(cache.Key{}) != nil {
		t.Fatal("a closed cache holds a block")
	}
	b.Release()
	if b.Acquire() {
		t.Fatal("a closed cache took a reference")
	}
}

func TestS3FIFOAddOfAFreedBlockPanics(t *testing.T) {
	b := cache.NewBlock(256)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	cache.NewS3FIFO(1<<20).Add(cache.Key{}, b)
}

func BenchmarkS3FIFO(b *testing.B) {
	const blocks = 4000
	keys := make([]cache.Key, 1<<16)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range keys {
		keys[i] = cache.Key{File: rng.Uint64N(8), Offset: rng.Uint64N(blocks/8) << 14}
	}
	for _, c := range []struct {
		name  string
		bytes int64
	}{{"hits", 2 * blocks << 14}, {"half of it misses", blocks << 13}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			s := cache.NewS3FIFO(c.bytes)
			defer s.Close()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(len(keys)); pb.Next(); i++ {
					k := keys[i%len(keys)]
					block := s.Get(k)
					if block == nil {
						block = cache.NewBlock(1 << 14)
						s.Add(k, block)
					}
					block.Release()
				}
			})
		})
	}
}
