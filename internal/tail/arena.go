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
	dir atomic.Pointer[directory] // stored under mu

	bytes   atomic.Int64           // of all chunks, the spare included
	onChunk atomic.Pointer[func()] // nil = nobody wants to know
	want    chan struct{}          // capacity 1: a spare chunk is asked for
	done    chan struct{}          // closed when the arena's goroutine has ended

	mu struct {
		sync.Mutex // guards the fields below

		chunks []*chunk // as in dir, nil if free
		count  int      // of chunks
		lastNo uint32   // number given out last
		spare  []byte   // ready for the next appender, or nil
		closed bool
	}
}

// directory finds chunks by their number: a number's place is given by its low bits, and while a chunk has a place no
// other number with the same low bits is given out. The directory is replaced by a larger one when it is full. A place is
// set before the first Pos in its chunk is given out, so whoever has a Pos finds it.
type directory struct {
	first *place // of a power of two
	mask  uint64 // places less one
}

// place is where the chunk with a number is.
type place struct {
	mem  unsafe.Pointer
	held atomic.Uint32 // number of the chunk plus 1; 0 = none, or one that has departed
}

const firstPlaces = 64

func newDirectory(count int) *directory {
	return &directory{first: unsafe.SliceData(make([]place, count)), mask: uint64(count) - 1}
}

func (d *directory) at(no uint32) *place {
	return (*place)(unsafe.Add(unsafe.Pointer(d.first), uintptr(uint64(no)&d.mask)*unsafe.Sizeof(place{})))
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
	a.dir.Store(newDirectory(firstPlaces))
	a.mu.chunks = make([]*chunk, firstPlaces)
	go a.keepSpare()
	return a
}

// OnChunk has f called, by a goroutine of the arena's own, when a chunk more was taken, from now on. f must not block.
func (a *Arena) OnChunk(f func()) { a.onChunk.Store(&f) }

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
	pl := a.dir.Load().at(p.chunkNo())
	return Record{(*header)(unsafe.Add(pl.mem, p.offset()))}
}

// Lookup returns the record at p unless its generation has departed. The caller holds a guard, or what Depart's caller
// waits for. p may be as old as it likes but for the limit that the package comment gives.
func (a *Arena) Lookup(p Pos) (Record, bool) {
	pl := a.dir.Load().at(p.chunkNo())
	if pl.held.Load() != p.chunkNo()+1 {
		return Record{}, false
	}
	return Record{(*header)(unsafe.Add(pl.mem, p.offset()))}, true
}

// Has reports whether Lookup finds the record at p. It may be called without a guard.
func (a *Arena) Has(p Pos) bool { return a.dir.Load().at(p.chunkNo()).held.Load() == p.chunkNo()+1 }

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
	a.mu.count++
	d := a.dir.Load()
	if a.mu.count > len(a.mu.chunks) {
		d = a.grownLocked(d)
	}
	// Numbers go up, so that one comes again only after all others. Those whose place is taken are left out.
	no := (a.mu.lastNo + 1) & maxChunkNo
	for no == 0 || a.mu.chunks[uint64(no)&d.mask] != nil {
		no = (no + 1) & maxChunkNo
	}
	a.mu.lastNo, c.no = no, no
	a.mu.chunks[uint64(no)&d.mask] = c
	pl := d.at(no)
	pl.mem = unsafe.Pointer(unsafe.SliceData(c.mem))
	pl.held.Store(no + 1)
	a.dir.Store(d)
	return c
}

// grownLocked returns a directory of twice the size with all that is in d. It is not stored yet.
func (a *Arena) grownLocked(d *directory) *directory {
	count := 2 * len(a.mu.chunks)
	if count > maxChunkNo/2 {
		panic(fmt.Sprintf("dyngo: bug: tail: %d chunks", a.mu.count))
	}
	bigger, chunks := newDirectory(count), make([]*chunk, count)
	for _, c := range a.mu.chunks {
		if c != nil {
			chunks[uint64(c.no)&bigger.mask] = c
			from, to := d.at(c.no), bigger.at(c.no)
			to.mem = from.mem
			to.held.Store(from.held.Load())
		}
	}
	a.mu.chunks = chunks
	return bigger
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
	d := a.dir.Load()
	if i := uint64(c.no) & d.mask; a.mu.chunks[i] == c {
		a.mu.chunks[i] = nil
	} else {
		a.mu.Unlock()
		panic(fmt.Sprintf("dyngo: bug: tail: chunk %d is released twice", c.no))
	}
	a.mu.count--
	pl := d.at(c.no)
	pl.held.Store(0)
	pl.mem = nil
	a.mu.Unlock()
	a.bytes.Add(-int64(cap(c.mem)))
	offheap.Free(c.mem)
}

func (a *Arena) chunkAt(p Pos) *chunk {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.chunks[uint64(p.chunkNo())&a.dir.Load().mask]
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
		if !have {
			mem := allocChunk(ChunkBytes)
			for i := 0; i < len(mem); i += 4096 {
				mem[i] = 0 // the page fault happens here
			}
			a.bytes.Add(int64(cap(mem)))
			a.mu.Lock()
			a.mu.spare = mem
			a.mu.Unlock()
		}
		if f := a.onChunk.Load(); f != nil {
			(*f)()
		}
	}
}
