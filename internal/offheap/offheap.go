package offheap

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Sizes of the allocator, in bytes.
const (
	ChunkBytes = 2 << 20 // unit of slabs; allocations of exactly this size are recycled

	minBlockBytes = 256
	maxBlockBytes = 1 << 20
	pageBytes     = 4096
	maxSpare      = 8        // freed chunks kept mapped, and no more than 1/16 of what is in use
	keptBytes     = 64 << 10 // of a slab in small pages that stays when it is empty: what was used of it
)

const (
	minClass   = 8  // 1<<minClass == minBlockBytes
	maxClass   = 20 // 1<<maxClass == maxBlockBytes
	classCount = maxClass - minClass + 1
)

// heap is the process-wide allocator. Blocks outlive the structures of one database only by mistake, so that one
// instance with one account is enough.
var heap allocator

type allocator struct {
	inUse  atomic.Int64 // bytes given out, rounded to class or page
	mapped atomic.Int64 // bytes obtained from the system; of a slab in small pages, those that were used

	mu struct {
		sync.Mutex // guards the fields below

		slabs   map[uintptr]*slab   // by address of the slab
		partial [classCount][]*slab // slabs with at least one free block
		count   [classCount]int     // slabs
		spare   []chunk             // freed chunks, not zeroed
	}
}

// chunk is 2 MiB, aligned to 2 MiB.
type chunk struct {
	p    unsafe.Pointer
	zero bool // never used since it was mapped
}

// slab is a chunk cut into blocks of one class.
type slab struct {
	p     unsafe.Pointer
	class int
	free  []uint16 // indices of freed blocks, to be zeroed before use
	fresh int      // blocks [fresh, count) were never used
	used  int      // blocks given out
	zero  bool     // the fresh blocks are known to be zero
	small bool     // in small pages, so that only blocks that were used are there: the first one of its class, of which little may be used
	place int      // index in partial[class], -1 when full
}

// Alloc returns n zeroed bytes. len is n, cap is the size of the block, which counts in InUse. Alloc(0) is nil. It
// panics when the system has no memory, as the Go runtime does.
func Alloc(n int) []byte {
	switch {
	case n == 0:
		return nil
	case n < 0:
		panic(fmt.Sprintf("dyngo: bug: offheap: allocation of %d bytes", n))
	case n <= maxBlockBytes:
		return heap.allocBlock(n)
	case n == ChunkBytes:
		b, zero := heap.allocChunk()
		if !zero {
			clear(b)
		}
		return b
	}
	size := (n + pageBytes - 1) &^ (pageBytes - 1)
	p := osAlloc(size, true)
	heap.mapped.Add(int64(size))
	heap.inUse.Add(int64(size))
	return unsafe.Slice((*byte)(p), size)[:n]
}

// AllocChunk returns ChunkBytes bytes that may hold anything: for who writes before reading.
func AllocChunk() []byte {
	b, _ := heap.allocChunk()
	return b
}

func (h *allocator) allocChunk() (b []byte, zero bool) {
	h.mu.Lock()
	c := h.takeChunkLocked()
	h.mu.Unlock()
	h.inUse.Add(ChunkBytes)
	return unsafe.Slice((*byte)(c.p), ChunkBytes), c.zero
}

// Free gives back b, which must be a slice that Alloc returned (its start and capacity are looked at, its length is
// not). The memory must not be used afterwards. Free(nil) does nothing.
func Free(b []byte) {
	size := cap(b)
	if size == 0 {
		return
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	poison(b[:size])
	heap.inUse.Add(-int64(size))
	switch {
	case size <= maxBlockBytes:
		heap.freeBlock(p, size)
	case size == ChunkBytes:
		heap.mu.Lock()
		heap.giveChunkLocked(chunk{p: p})
		heap.mu.Unlock()
	default:
		osFree(p, size)
		heap.mapped.Add(-int64(size))
	}
}

// InUse returns the bytes given out and not given back, rounding included.
func InUse() int64 { return heap.inUse.Load() }

// Mapped returns the bytes obtained from the system: InUse plus free blocks of slabs and spare chunks.
func Mapped() int64 { return heap.mapped.Load() }

// Size returns the bytes that Alloc(n) takes.
func Size(n int) int {
	switch {
	case n <= 0:
		return 0
	case n <= maxBlockBytes:
		return 1 << (classOf(n) + minClass)
	case n == ChunkBytes:
		return n
	}
	return (n + pageBytes - 1) &^ (pageBytes - 1)
}

func classOf(n int) int {
	if n <= minBlockBytes {
		return 0
	}
	return bits.Len(uint(n-1)) - minClass
}

func (h *allocator) allocBlock(n int) []byte {
	class := classOf(n)
	size := minBlockBytes << class

	h.mu.Lock()
	if len(h.mu.partial[class]) == 0 {
		h.addSlabLocked(class)
	}
	list := h.mu.partial[class]
	s := list[len(list)-1]
	i, dirty := 0, false
	if k := len(s.free); k > 0 {
		i, dirty = int(s.free[k-1]), true
		s.free = s.free[:k-1]
	} else {
		i, dirty = s.fresh, !s.zero
		s.fresh++
		if s.small {
			h.mapped.Add(int64(size))
		}
	}
	s.used++
	if s.used == ChunkBytes/size {
		s.place = -1
		h.mu.partial[class] = list[:len(list)-1]
	}
	h.mu.Unlock()

	h.inUse.Add(int64(size))
	b := unsafe.Slice((*byte)(unsafe.Add(s.p, i*size)), size)
	if dirty {
		clear(b)
	}
	return b[:n]
}

func (h *allocator) freeBlock(p unsafe.Pointer, size int) {
	base := uintptr(p) &^ (ChunkBytes - 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.mu.slabs[base]
	if s == nil || minBlockBytes<<s.class != size || (uintptr(p)-base)%uintptr(size) != 0 || s.used == 0 {
		panic(fmt.Sprintf("dyngo: bug: offheap: free of %d bytes at %#x, which were not given out", size, uintptr(p)))
	}
	s.free = append(s.free, uint16((uintptr(p)-base)/uintptr(size)))
	s.used--
	if s.place < 0 {
		s.place = len(h.mu.partial[s.class])
		h.mu.partial[s.class] = append(h.mu.partial[s.class], s)
	}
	if s.used == 0 {
		h.dropSlabLocked(s)
	}
}

func (h *allocator) addSlabLocked(class int) {
	s := &slab{class: class, place: len(h.mu.partial[class])}
	if h.mu.count[class] == 0 {
		s.p, s.zero, s.small = osAlloc(ChunkBytes, false), true, true
	} else {
		c := h.takeChunkLocked()
		s.p, s.zero = c.p, c.zero
	}
	h.mu.count[class]++
	if h.mu.slabs == nil {
		h.mu.slabs = make(map[uintptr]*slab)
	}
	h.mu.slabs[uintptr(s.p)] = s
	h.mu.partial[class] = append(h.mu.partial[class], s)
}

// dropSlabLocked gives a slab back of which no block is in use. One that has hardly been used stays for the next block.
func (h *allocator) dropSlabLocked(s *slab) {
	touched := s.fresh * (minBlockBytes << s.class)
	if s.small && touched <= keptBytes {
		return
	}
	h.mu.count[s.class]--
	list := h.mu.partial[s.class]
	last := list[len(list)-1]
	list[s.place] = last
	last.place = s.place
	list[len(list)-1] = nil
	h.mu.partial[s.class] = list[:len(list)-1]
	delete(h.mu.slabs, uintptr(s.p))
	if s.small {
		osFree(s.p, ChunkBytes)
		h.mapped.Add(-int64(touched))
		return
	}
	h.giveChunkLocked(chunk{p: s.p})
}

func (h *allocator) takeChunkLocked() chunk {
	if k := len(h.mu.spare); k > 0 {
		c := h.mu.spare[k-1]
		h.mu.spare = h.mu.spare[:k-1]
		return c
	}
	h.mapped.Add(ChunkBytes)
	return chunk{p: osAlloc(ChunkBytes, true), zero: true}
}

func (h *allocator) giveChunkLocked(c chunk) {
	if n := len(h.mu.spare); n == 0 || n < maxSpare && int64(n+1)*16*ChunkBytes <= h.inUse.Load() {
		h.mu.spare = append(h.mu.spare, c)
		return
	}
	osFree(c.p, ChunkBytes)
	h.mapped.Add(-ChunkBytes)
}
