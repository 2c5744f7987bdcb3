package segment

import (
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// How an Iter gets its data blocks: short visits as points do, block by block through the cache; the longer one goes on,
// the more is read at a time, and what a long one reads is kept from the cache, where it would only push out others.

const (
	// readAhead is the most that an Iter reads at a time. With NoFill it always does; else each read that goes on where
	// the last one ended is twice as large. When so much was read, blocks are not put into the cache any more.
	readAhead = 256 << 10

	// smallAhead is up to where the buffer for that is an Iter's own, on Go's heap. More comes out of the AheadBudget.
	smallAhead = 16 << 10

	// maxGap is the most that lies between two data blocks that are read at once.
	maxGap = 4 << 10

	// maxUnpacked is the largest buffer for a block before compression that an Iter keeps.
	maxUnpacked = 64 << 10
)

// AheadBudget bounds the memory into which iterators read ahead in large pieces, over all Readers that have it. Who gets
// none reads in small ones; with NoFill nobody asks.
type AheadBudget struct{ left atomic.Int64 }

// NewAheadBudget returns a budget of so many bytes.
func NewAheadBudget(bytes int64) *AheadBudget {
	b := &AheadBudget{}
	b.left.Store(bytes)
	return b
}

// take takes room for one Iter. It reports false if there is none. A nil budget has no bound.
func (b *AheadBudget) take() bool {
	if b == nil || b.left.Add(-readAhead) >= 0 {
		return true
	}
	b.give()
	return false
}

func (b *AheadBudget) give() {
	if b != nil {
		b.left.Add(readAhead)
	}
}

// fetch returns a data block before compression: from the cache, from what was read ahead, or from the file.
func (it *Iter) fetch(at int, h handle) ([]byte, error) {
	c, k := it.r.opts.Cache, cache.Key{File: it.r.opts.Num, Offset: h.offset}
	if c != nil && !it.opts.NoFill {
		if it.dataBlock = c.Get(k); it.dataBlock != nil {
			if !it.hasAhead(h) {
				it.window /= 2 // reading ahead brings less than it seemed
			}
			return it.dataBlock.Bytes(), nil
		}
	}
	if h.length <= blockHead || h.offset < headerBytes || h.end() > it.end {
		return nil, corruption.At(it.r.name, int64(min(h.offset, it.end)),
			"data block of %d bytes at %d, the last index ends at %d", h.length, h.offset, it.end)
	}
	fill := c != nil && !it.opts.NoFill && it.read < readAhead
	if !it.hasAhead(h) {
		if err := it.readAhead(at, h); err != nil {
			return nil, err
		}
	}
	b := it.ahead[h.offset-it.aheadAt:][:h.length]
	if !fill {
		return it.unpack(b, h)
	}
	block, err := it.r.decodeBlock(b, kindData, h)
	if err != nil {
		return nil, err
	}
	c.Add(k, block)
	it.dataBlock = block
	return block.Bytes(), nil
}

// unpack returns a data block that lies in b, or in unpacked if it is compressed.
func (it *Iter) unpack(b []byte, h handle) ([]byte, error) {
	head, err := it.r.openStored(b, kindData, h)
	if err != nil {
		return nil, err
	}
	raw := b[blockHead:]
	if head.codec == event.CodecNone {
		return raw, it.r.checkRaw(kindData, raw, h)
	}
	if cap(it.unpacked) < int(head.raw) {
		it.unpacked = make([]byte, max(head.raw, 4<<10))
	}
	raw = it.unpacked[:head.raw]
	return raw, it.r.unpack(raw, head, b, h)
}

// hasAhead reports whether a block was read ahead.
func (it *Iter) hasAhead(h handle) bool {
	return h.offset >= it.aheadAt && h.end() <= it.aheadAt+uint64(len(it.ahead))
}

// readAhead reads data block at of the index and, in the direction of the Iter, the blocks that follow it, as far as the
// window goes.
func (it *Iter) readAhead(at int, h handle) error {
	if it.window > smallAhead && !it.opts.NoFill && !it.roomy {
		if it.roomy = it.r.opts.Ahead.take(); !it.roomy {
			it.window = smallAhead
		}
	}
	from, to := h.offset, h.end()
	for i := at; ; {
		if it.back {
			i--
		} else {
			i++
		}
		if i < 0 || i >= it.index.n {
			break
		}
		next := it.index.handle(i)
		if it.back && (next.end() > from || next.offset < headerBytes || from-next.end() > maxGap || to-next.offset > uint64(it.window)) {
			break
		}
		if !it.back && (next.offset < to || next.end() > it.end || next.offset-to > maxGap || next.end()-from > uint64(it.window)) {
			break
		}
		from, to = min(from, next.offset), max(to, next.end())
	}
	it.ahead = nil
	b := it.room(int(to - from))
	if err := it.r.readAt(b, int64(from)); err != nil {
		return err
	}
	it.ahead, it.aheadAt = b, from
	it.read += int64(len(b))
	if it.window >= readAhead && !it.back && to < it.end {
		vfs.Prefetch(it.r.file, int64(to), int64(min(readAhead, it.end-to))) // while this piece is visited
	}
	it.window = min(max(2*it.window, 2*len(b)), readAhead)
	if known := int64(it.opts.Ahead); it.read-int64(len(b)) < known { // what is visited beyond that, block by block at first
		it.window = int(min(int64(it.window), max(known-it.read, 0)))
	}
	return nil
}

// room returns a buffer of n bytes. What was in it is gone.
func (it *Iter) room(n int) []byte {
	if n <= smallAhead {
		if cap(it.small) < n {
			it.small = make([]byte, min(max(2*n, 8<<10), smallAhead))
		}
		return it.small[:n]
	}
	if cap(it.large) < n {
		offheap.Free(it.large)
		it.large = offheap.Alloc(max(n, readAhead))
	}
	return it.large[:n]
}
