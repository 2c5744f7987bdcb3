package blockcache

import (
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/dyngodb/dyngo/internal/cache"
)

// Ristretto is a cache.Cache on ristretto v2. What becomes of the reference that Add takes, path by path (v2.4.2):
//
//  1. Set returns false: the queue of Sets (32 Ki items) is full. The item was stored nowhere and no callback comes.
//     Add gives the reference back.
//  2. The item is queued; the policy refuses it, or finds the key there already: OnReject, then OnExit.
//  3. The policy admits it. It is stored and later evicted: OnExit.
//  4. The key is in the store when Set is called. ShouldUpdate says no for the same key, so that the item goes the way
//     of 2 and the store keeps its block. For another key with the same 64-bit hash it says yes: the store swaps the
//     blocks at once and calls OnExit for the old one; the item goes through the queue for its cost only.
//  5. Close empties the queue (OnExit), then the store (OnExit), and ends both goroutines. A Set or Get at that time
//     may panic in ristretto, so nobody may call them, as cache.Cache says.
//
// Expiry is not used; its ticker wakes the goroutine every 2.5 s and finds nothing.
//
// Queued blocks are memory beyond ristretto's MaxCost: up to 32 Ki of them. So they are counted, the capacity is shared
// between MaxCost and queue, and an Add beyond the queue's share is refused, unless the queue has no bound. When an
// item leaves the queue, ristretto asks for its cost, since Set gives none: that is where the queue is told. Capacity
// may be exceeded by two blocks: one for which victims are being dropped, and one that is alone in the queue and larger
// than its share.
type Ristretto struct {
	tally
	c      *ristretto.Cache[uint64, held]
	queued atomic.Int64 // bytes
	atMost int64        // of queued
}

type held struct {
	key cache.Key
	b   *cache.Block
}

// NewRistretto returns an empty cache for blocks of about blockBytes. queueBytes is the part of the capacity that
// queued blocks may take; 0: there is no bound, and the queue comes on top.
func NewRistretto(capacityBytes, blockBytes, queueBytes int64) (*Ristretto, error) {
	r := &Ristretto{atMost: queueBytes}
	r.capacity = capacityBytes
	var err error
	r.c, err = ristretto.NewCache(&ristretto.Config[uint64, held]{
		NumCounters:        max(10*capacityBytes/blockBytes, 100), // ten times the blocks, as its documentation advises
		MaxCost:            capacityBytes - r.atMost,
		BufferItems:        64,
		IgnoreInternalCost: true,
		KeyToHash:          func(h uint64) (uint64, uint64) { return h, 0 }, // else each Get would allocate
		ShouldUpdate:       func(now, before held) bool { return now.key != before.key },
		Cost: func(h held) int64 {
			r.queued.Add(-h.b.SizeBytes())
			r.added.Add(1)
			return h.b.SizeBytes()
		},
		OnReject: func(*ristretto.Item[held]) {
			r.added.Add(-1)
			r.rejected.Add(1)
		},
		OnEvict: func(i *ristretto.Item[held]) {
			if i.Value.b != nil { // its sample may hold a victim twice
				r.evicted.Add(1)
			}
		},
		OnExit: func(h held) {
			if h.b != nil {
				r.drop(h.b)
			}
		},
	})
	return r, err
}

// Get implements cache.Cache.
func (r *Ristretto) Get(k cache.Key) *cache.Block {
	h, ok := r.c.Get(k.Hash())
	if !ok || h.key != k || !h.b.Acquire() {
		r.got(false)
		return nil
	}
	r.got(true)
	return h.b
}

// Add implements cache.Cache.
func (r *Ristretto) Add(k cache.Key, b *cache.Block) {
	size := b.SizeBytes()
	if n := r.queued.Add(size); r.atMost > 0 && n > r.atMost && n > size || !b.Acquire() {
		r.queued.Add(-size)
		r.rejected.Add(1)
		return
	}
	r.take(b)
	if !r.c.Set(k.Hash(), held{k, b}, 0) {
		r.queued.Add(-size)
		r.rejected.Add(1)
		r.drop(b)
	}
}

// Close implements cache.Cache.
func (r *Ristretto) Close() { r.c.Close() }
