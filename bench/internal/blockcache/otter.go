package blockcache

import (
	"github.com/maypok86/otter/v2"

	"github.com/dyngodb/dyngo/internal/cache"
)

// Otter is a cache.Cache on otter v2. It stores at once and makes room a little later, on a goroutine of its own, so
// that it exceeds its capacity by what is written meanwhile: up to 128 writes for each processor (rounded up to a power
// of two), after which writers help. Each way out of the table ends in OnAtomicDeletion.
type Otter struct {
	tally
	c *otter.Cache[cache.Key, *cache.Block]
}

// NewOtter returns an empty cache.
func NewOtter(capacityBytes int64) (*Otter, error) {
	o := &Otter{}
	o.capacity = capacityBytes
	var err error
	o.c, err = otter.New(&otter.Options[cache.Key, *cache.Block]{
		MaximumWeight: uint64(capacityBytes),
		Weigher:       func(_ cache.Key, b *cache.Block) uint32 { return uint32(b.SizeBytes()) },
		OnAtomicDeletion: func(e otter.DeletionEvent[cache.Key, *cache.Block]) {
			if e.WasEvicted() {
				o.evicted.Add(1)
			}
			o.drop(e.Value)
		},
	})
	return o, err
}

// Get implements cache.Cache.
func (o *Otter) Get(k cache.Key) *cache.Block {
	b, ok := o.c.GetIfPresent(k)
	if !ok || !b.Acquire() {
		o.got(false)
		return nil
	}
	o.got(true)
	return b
}

// Add implements cache.Cache.
func (o *Otter) Add(k cache.Key, b *cache.Block) {
	if b.SizeBytes() > o.capacity/2 || !b.Acquire() {
		o.rejected.Add(1)
		return
	}
	o.take(b)
	if _, ok := o.c.SetIfAbsent(k, b); !ok {
		o.rejected.Add(1)
		o.drop(b)
		return
	}
	o.added.Add(1)
}

// Close implements cache.Cache.
func (o *Otter) Close() {
	o.c.InvalidateAll()
	o.c.CleanUp()
	o.c.StopAllGoroutines()
}
