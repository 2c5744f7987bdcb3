package cache

// Key names a block: the number of its file, which is never used again, and where in the file it starts.
type Key struct{ File, Offset uint64 }

// Hash spreads keys over 64 bits; neighbours end up far apart. Different keys may share a hash.
func (k Key) Hash() uint64 {
	// The finish of splitmix64 over a sum in which each file has its own place.
	z := k.File*0x9e3779b97f4a7c15 + k.Offset
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Cache keeps some of the blocks that were added to it. Safe for concurrent use.
type Cache interface {
	// Get returns the block of k with a reference for the caller, who gives it back by Release. nil is a miss.
	Get(k Key) *Block

	// Add offers a block to the cache, which takes a reference of its own if it admits it. The caller's stays with
	// the caller. A key that is already there keeps its block.
	Add(k Key, b *Block)

	// Metrics tells what the cache holds and has done. The numbers are read one after the other.
	Metrics() Metrics

	// Close drops all blocks and waits for goroutines of the cache. Readers' references stay theirs. A second Close
	// does nothing.
	Close()
}

// Metrics is what a cache holds and has done since it was made.
type Metrics struct {
	Hits     int64 // Gets that found their block
	Misses   int64 // Gets that did not: many beside Hits mean that the cache is too small or reads have no favourites
	Added    int64 // blocks admitted
	Rejected int64 // blocks offered and not admitted: already there, too large, or not worth it
	Evicted  int64 // blocks dropped to make room

	Blocks        int64 // blocks held
	Bytes         int64 // memory of their buffers
	CapacityBytes int64 // what Bytes may reach
}
