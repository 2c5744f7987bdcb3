package cache

import (
	"fmt"
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/offheap"
)

// Block is a buffer with a count of references. Make one with NewBlock.
type Block struct {
	buf   []byte // from offheap; set to nil by the last Release
	refs  atomic.Int32
	taken atomic.Bool // place is in use, or was
	place entry       // in a cache, so that the first one needs no memory of its own for it
}

// NewBlock returns a block of n zeroed bytes with one reference, the caller's. The caller fills it before anybody else
// sees it.
func NewBlock(n int) *Block {
	b := &Block{buf: offheap.Alloc(n)}
	b.refs.Store(1)
	return b
}

// Bytes returns the block's bytes. They are valid while the caller holds a reference, and read-only once the block was
// added to a cache. len is what NewBlock was asked for.
func (b *Block) Bytes() []byte { return b.buf }

// SizeBytes returns the memory that the buffer takes: n rounded up as package offheap does (to a power of two up to
// 1 MiB). Only who holds a reference may ask.
func (b *Block) SizeBytes() int64 { return int64(cap(b.buf)) }

// Acquire takes a further reference and reports whether there was one left to take it from: false means that the
// buffer is gone. Who already holds a reference always gets another.
func (b *Block) Acquire() bool {
	for {
		n := b.refs.Load()
		if n <= 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives back one reference. The last one frees the buffer.
func (b *Block) Release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		buf := b.buf
		b.buf = nil
		offheap.Free(buf)
	case n < 0:
		panic(fmt.Sprintf("dyngo: bug: cache: block released %d times too often", -n))
	}
}
