package cache

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Sizes of S3FIFO.
const (
	minShardBytes = 8 << 20 // smaller shards would not hold the larger blocks, such as filters
	maxShards     = 256
	smallShare    = 10 // the small queue aims at one tenth of the memory
	maxUses       = 3  // uses of a block are counted up to this
)

// S3FIFO is a Cache with three queues: S3-FIFO of Yang and others, "FIFO queues are all you need for cache eviction",
// SOSP 2023. A new block enters the small queue. At that queue's end, it moves to the main queue if it was used more
// than once; otherwise it is dropped and its key is remembered for a while, as a ghost. A ghost that is added again
// enters the main queue. At the main queue's end, a used block goes round once more with one use less, and an unused
// one is dropped. So a scan, which uses each block once, passes through a tenth of the memory.
//
// Keys are spread over shards that share nothing. Get takes no lock: it looks into the shard's table and raises two
// counters. Add takes the shard's lock for some hundred nanoseconds; blocks are freed under it, so that the memory of
// the cache never exceeds its capacity, not even for a moment. What comes beside the buffers are about 150 bytes a
// block on Go's heap. There is no goroutine.
type S3FIFO struct {
	capacityBytes int64
	shift         int // the shard of a hash is what remains to the right of so many bits
	shards        []shard
	gets          counters
}

var _ Cache = (*S3FIFO)(nil)

type shard struct {
	table atomic.Pointer[table] // stored under mu, loaded freely

	mu struct {
		sync.Mutex // guards the fields below and changes of the table; nothing else is locked under it but offheap's

		capacityBytes int64
		small, main   queue
		ghosts        ghosts
		full          bool // something had to go once
		closed        bool

		added, rejected, evicted int64
	}
	_ [40]byte // the next shard's table is on another cache line
}

// entry is a block in a shard. What readers see without lock never changes, but for uses.
type entry struct {
	key   Key
	hash  uint64
	block *Block
	size  int64 // of the block
	uses  atomic.Int32
	next  *entry // in its queue, toward the newer; guarded by the shard's lock
}

// NewS3FIFO returns a cache of blocks that take capacityBytes at most, which is more than 0. A block larger than half a
// shard is not admitted; a shard has 8 MiB at least, or what there is.
func NewS3FIFO(capacityBytes int64) *S3FIFO {
	if capacityBytes <= 0 {
		panic(fmt.Sprintf("dyngo: bug: cache: capacity of %d bytes", capacityBytes))
	}
	n := int64(1)
	for n < maxShards && capacityBytes/(2*n) >= minShardBytes {
		n *= 2
	}
	c := &S3FIFO{capacityBytes: capacityBytes, shift: 64 - bits.TrailingZeros64(uint64(n)), shards: make([]shard, n)}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.capacityBytes = capacityBytes / n
		s.resizeLocked(minTable)
	}
	return c
}

func (c *S3FIFO) shardOf(hash uint64) *shard { return &c.shards[hash>>c.shift] }

// Get implements Cache.
func (c *S3FIFO) Get(k Key) *Block {
	h := k.Hash()
	e := c.shardOf(h).table.Load().find(k, h)
	n := c.gets.stripe()
	if e == nil || !e.block.Acquire() {
		n.misses.Add(1)
		return nil
	}
	// A use that is lost to another one's at the same time is no loss.
	if n := e.uses.Load(); n < maxUses {
		e.uses.CompareAndSwap(n, n+1)
	}
	n.hits.Add(1)
	return e.block
}

// Add implements Cache.
func (c *S3FIFO) Add(k Key, b *Block) {
	h, size := k.Hash(), b.SizeBytes()
	s := c.shardOf(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || size > s.mu.capacityBytes/2 || s.table.Load().find(k, h) != nil {
		s.mu.rejected++
		return
	}
	if !b.Acquire() {
		panic(fmt.Sprintf("dyngo: bug: cache: add of a block that was released: file %d at %d", k.File, k.Offset))
	}
	for s.bytesLocked()+size > s.mu.capacityBytes {
		s.mu.full = true
		s.stepLocked()
	}
	e := &b.place
	if !b.taken.CompareAndSwap(false, true) { // in another cache, or was dropped and comes again
		e = &entry{}
	}
	e.key, e.hash, e.block, e.size = k, h, b, size
	// Until something has to go, the small queue takes no more than its share: what comes first would fill all of it
	// and then leave it together.
	if s.mu.ghosts.take(h, s.mu.main.count) || !s.mu.full && s.mu.small.bytes+size > s.mu.capacityBytes/smallShare {
		s.mu.main.push(e)
	} else {
		s.mu.small.push(e)
	}
	if t := s.table.Load(); 2*s.countLocked() > len(t.slots) {
		s.resizeLocked(2 * len(t.slots))
	} else {
		t.insert(e)
	}
	s.mu.added++
}

func (s *shard) bytesLocked() int64 { return s.mu.small.bytes + s.mu.main.bytes }
func (s *shard) countLocked() int   { return s.mu.small.count + s.mu.main.count }

// stepLocked takes the oldest entry of one queue and moves it on or drops it. Repeated, it makes room: each step drops
// an entry, or takes one from the small queue, or takes a use from an entry.
func (s *shard) stepLocked() {
	if s.mu.main.count == 0 || s.mu.small.bytes > s.mu.capacityBytes/smallShare {
		if e := s.mu.small.pop(); e.uses.Load() > 1 {
			e.uses.Store(0)
			s.mu.main.push(e)
		} else {
			s.mu.ghosts.add(e.hash)
			s.dropLocked(e)
		}
		return
	}
	if e := s.mu.main.pop(); e.uses.Load() > 0 {
		e.uses.Add(-1)
		s.mu.main.push(e)
	} else {
		s.dropLocked(e)
	}
}

// dropLocked forgets an entry that is in no queue any more.
func (s *shard) dropLocked(e *entry) {
	s.table.Load().remove(e)
	e.block.Release()
	s.mu.evicted++
}

// resizeLocked makes a table of n slots for what the queues hold. The ghosts are forgotten: while a shard grows, there
// are few.
func (s *shard) resizeLocked(n int) {
	t := newTable(n)
	for _, q := range []*queue{&s.mu.small, &s.mu.main} {
		for e := q.first; e != nil; e = e.next {
			t.insert(e)
		}
	}
	s.table.Store(t)
	s.mu.ghosts = newGhosts(n)
}

// Metrics implements Cache.
func (c *S3FIFO) Metrics() Metrics {
	m := Metrics{CapacityBytes: c.capacityBytes}
	m.Hits, m.Misses = c.gets.sum()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		m.Added += s.mu.added
		m.Rejected += s.mu.rejected
		m.Evicted += s.mu.evicted
		m.Blocks += int64(s.countLocked())
		m.Bytes += s.bytesLocked()
		s.mu.Unlock()
	}
	return m
}

// Close implements Cache. A Get that comes late is a miss and an Add is refused.
func (c *S3FIFO) Close() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.mu.closed = true
		for _, q := range []*queue{&s.mu.small, &s.mu.main} {
			for q.count > 0 {
				q.pop().block.Release()
			}
		}
		s.resizeLocked(minTable)
		s.mu.Unlock()
	}
}

// queue is a list of entries, oldest first.
type queue struct {
	first, last *entry
	count       int
	bytes       int64
}

func (q *queue) push(e *entry) {
	if q.last == nil {
		q.first = e
	} else {
		q.last.next = e
	}
	q.last = e
	q.count++
	q.bytes += e.size
}

// pop takes the oldest entry, which must exist.
func (q *queue) pop() *entry {
	e := q.first
	q.first, e.next = e.next, nil
	if q.first == nil {
		q.last = nil
	}
	q.count--
	q.bytes -= e.size
	return e
}
