package tail

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/internal/offheap"
)

// ChunkBytes is the size of a chunk.
const ChunkBytes = offheap.ChunkBytes

const (
	offsetBits = 18 // of a Pos: the offset in its chunk, in units of 8 bytes
	maxChunkNo = 1<<(48-offsetBits) - 1
)

// Pos is the place of a record in an arena. 0 is none. It fits 48 bits.
type Pos uint64

func makePos(no uint32, offset int) Pos { return Pos(no)<<offsetBits | Pos(offset>>3) }

func (p Pos) chunkNo() uint32 { return uint32(p >> offsetBits) }

func (p Pos) offset() int { return int(p&(1<<offsetBits-1)) << 3 }

// String prints chunk number and offset.
func (p Pos) String() string { return fmt.Sprintf("%d+%d", p.chunkNo(), p.offset()) }

// Arena owns the chunks of any number of appenders. Its methods are safe for concurrent use.
type Arena struct {
	// dir holds the address of each chunk by its number. The array is replaced when it grows; an entry is set before
	// the first Pos in its chunk is given out, so whoever has a Pos finds the entry.
	dir atomic.Pointer[[]unsafe.Pointer]

	bytes atomic.Int64  // of all chunks, the spare included
	want  chan struct{} // capacity 1: a spare chunk is asked for
	done  chan struct{} // closed when the arena's goroutine has ended

	mu struct {
		sync.Mutex // guards the fields below

		chunks  []*chunk // by number, nil if free
		freeNos []uint32 // numbers to use again, oldest first
		spare   []byte   // ready for the next appender, or nil
		closed  bool
	}
}

// chunk is a piece of memory that one appender fills.
type chunk struct {
	mem  []byte
	no   uint32
	used atomic.Int64 // bytes reserved; only the appender stores it

	next atomic.Pointer[chunk] // the appender's next chunk
}

// NewArena returns an empty arena and starts its goroutine, which Close ends.
func NewArena() *Arena {
	a := &Arena{want: make(chan struct{}, 1), done: make(chan struct{})}
	dir := make([]unsafe.Pointer, 64)
	a.dir.Store(&dir)
	a.mu.chunks = make([]*chunk, 1, len(dir)) // number 0 is never used
	go a.keepSpare()
	return a
}

// Close ends the arena's goroutine and frees all chunks, also those of generations that were not released. Nobody may
// hold a record.
func (a *Arena) Close() {
	a.mu.Lock()
	if a.mu.closed {
		a.mu.Unlock()
		return
	}
	a.mu.closed = true
	a.mu.Unlock()
	close(a.want)
	<-a.done
	for _, c := range a.mu.chunks {
		if c != nil {
			a.release(c)
		}
	}
	offheap.Free(a.mu.spare)
	a.bytes.Add(-int64(len(a.mu.spare)))
	a.mu.spare = nil
}

// Bytes returns the memory of all chunks, including the one that is kept ready.
func (a *Arena) Bytes() int64 { return a.bytes.Load() }

// Record returns the record at p, which must live: the caller holds a guard, or a lock that keeps it.
func (a *Arena) Record(p Pos) Record {
	dir := *a.dir.Load()
	return Record{(*header)(unsafe.Add(dir[p>>offsetBits], p&(1<<offsetBits-1)<<3))}
}

// newChunk takes the spare chunk or makes one, of at least size bytes.
func (a *Arena) newChunk(size int) *chunk {
	c := &chunk{}
	if size <= ChunkBytes {
		a.mu.Lock()
		c.mem, a.mu.spare = a.mu.spare, nil
		a.mu.Unlock()
	}
	if c.mem == nil {
		c.mem = allocChunk(size)
		a.bytes.Add(int64(cap(c.mem)))
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.mu.chunks); len(a.mu.freeNos) > 0 && (n >= 4096 || len(a.mu.freeNos) > n/2) {
		c.no = a.mu.freeNos[0]
		a.mu.freeNos = a.mu.freeNos[1:]
		a.mu.chunks[c.no] = c
	} else {
		if n > maxChunkNo {
			panic(fmt.Sprintf("dyngo: bug: tail: %d chunks", n))
		}
		c.no = uint32(n)
		a.mu.chunks = append(a.mu.chunks, c)
	}
	dir := *a.dir.Load()
	if int(c.no) >= len(dir) {
		bigger := make([]unsafe.Pointer, 2*len(dir))
		copy(bigger, dir)
		dir = bigger
	}
	dir[c.no] = unsafe.Pointer(unsafe.SliceData(c.mem))
	if len(dir) != len(*a.dir.Load()) {
		a.dir.Store(&dir)
	}
	return c
}

func allocChunk(size int) []byte {
	if size <= ChunkBytes {
		return offheap.AllocChunk() // Reserve writes each header, and who fills a record its payload
	}
	return offheap.Alloc(size)
}

// release frees a chunk that nobody can reach any more.
func (a *Arena) release(c *chunk) {
	a.mu.Lock()
	if a.mu.chunks[c.no] != c {
		a.mu.Unlock()
		panic(fmt.Sprintf("dyngo: bug: tail: chunk %d is released twice", c.no))
	}
	a.mu.chunks[c.no] = nil
	a.mu.freeNos = append(a.mu.freeNos, c.no)
	(*a.dir.Load())[c.no] = nil
	a.mu.Unlock()
	a.bytes.Add(-int64(cap(c.mem)))
	offheap.Free(c.mem)
}

func (a *Arena) chunkAt(p Pos) *chunk {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.chunks[p.chunkNo()]
}

// askSpare has a chunk made ready. It does not wait.
func (a *Arena) askSpare() {
	select {
	case a.want <- struct{}{}:
	default:
	}
}

func (a *Arena) keepSpare() {
	defer close(a.done)
	for range a.want {
		a.mu.Lock()
		have := a.mu.spare != nil
		a.mu.Unlock()
		if have {
			continue
		}
		mem := allocChunk(ChunkBytes)
		for i := 0; i < len(mem); i += 4096 {
			mem[i] = 0 // the page fault happens here
		}
		a.bytes.Add(int64(cap(mem)))
		a.mu.Lock()
		a.mu.spare = mem
		a.mu.Unlock()
	}
}
