// Package blockcache compares block caches on traces of what readers of segments ask for: it records the traces from
// real segments, and replays them.
package blockcache

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/internal/cache"
)

// Names lists the caches that can be compared, DynGO's own first. ristretto-open is ristretto with its own long queue
// of Adds, whatever memory that takes.
func Names() []string { return []string{"s3fifo", "ristretto", "ristretto-open", "otter"} }

// None is the name of the cache that keeps nothing: its cost is that of misses.
const None = "none"

// New returns a cache by its name.
func New(name string, capacityBytes int64) (cache.Cache, error) {
	switch name {
	case "s3fifo":
		return cache.NewS3FIFO(capacityBytes), nil
	case "ristretto":
		return NewRistretto(capacityBytes, 16<<10, min(capacityBytes/8, 4<<20))
	case "ristretto-open":
		return NewRistretto(capacityBytes, 16<<10, 0)
	case "otter":
		return NewOtter(capacityBytes)
	case None:
		return nothing{}, nil
	}
	return nil, fmt.Errorf("no cache %q", name)
}

type nothing struct{}

func (nothing) Get(cache.Key) *cache.Block  { return nil }
func (nothing) Add(cache.Key, *cache.Block) {}
func (nothing) Metrics() cache.Metrics      { return cache.Metrics{} }
func (nothing) Close()                      {}

// tally counts what a cache of others does with blocks, in the same way and at the same price for all of them.
type tally struct {
	capacity                                int64
	added, rejected, evicted, blocks, bytes atomic.Int64
	gets                                    [16]struct {
		hits, misses atomic.Int64
		_            [112]byte
	}
}

// take counts a block that the cache holds from now on, be it in a queue.
func (t *tally) take(b *cache.Block) {
	t.blocks.Add(1)
	t.bytes.Add(b.SizeBytes())
}

// drop counts a block that the cache no longer holds and gives back the cache's reference.
func (t *tally) drop(b *cache.Block) {
	t.blocks.Add(-1)
	t.bytes.Add(-b.SizeBytes())
	b.Release()
}

func (t *tally) got(hit bool) {
	var b byte
	x := uint64(uintptr(unsafe.Pointer(&b)) >> 11)
	n := &t.gets[x*0x9e3779b97f4a7c15>>60]
	if hit {
		n.hits.Add(1)
	} else {
		n.misses.Add(1)
	}
}

// Metrics implements cache.Cache.
func (t *tally) Metrics() cache.Metrics {
	m := cache.Metrics{
		Added: t.added.Load(), Rejected: t.rejected.Load(), Evicted: t.evicted.Load(),
		Blocks: t.blocks.Load(), Bytes: t.bytes.Load(), CapacityBytes: t.capacity,
	}
	for i := range t.gets {
		m.Hits += t.gets[i].hits.Load()
		m.Misses += t.gets[i].misses.Load()
	}
	return m
}
