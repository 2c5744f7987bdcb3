package tail

import (
	"cmp"
	"iter"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/event"
)

// Generation is a sealed sequence of records. The zero Generation is empty.
type Generation struct {
	a      *Arena
	chunks []*chunk
	bytes  int64
	used   int64
}

// IsEmpty reports whether the generation has no records.
func (g Generation) IsEmpty() bool { return len(g.chunks) == 0 }

// Bytes returns the memory that Release gives back: whole chunks.
func (g Generation) Bytes() int64 { return g.bytes }

// UsedBytes returns the bytes of its records.
func (g Generation) UsedBytes() int64 { return g.used }

// Has reports whether p lies in the generation.
func (g Generation) Has(p Pos) bool {
	no := p.chunkNo()
	for _, c := range g.chunks {
		if c.no == no {
			return true
		}
	}
	return false
}

// Records yields the records in the order of Reserve, with their places.
func (g Generation) Records() iter.Seq2[Pos, Record] {
	return func(yield func(Pos, Record) bool) {
		for _, c := range g.chunks {
			if !c.walk(0, int(c.used.Load()), yield) {
				return
			}
		}
	}
}

// Depart has Lookup pass over the generation's records from now on: chunk by chunk in the order of Reserve, so that what
// has departed at any moment is the records up to some LSN, if generations depart in their order. Whoever found a record
// before may go on with it until Release.
func (g Generation) Depart() {
	if g.IsEmpty() {
		return
	}
	g.a.mu.Lock()
	defer g.a.mu.Unlock()
	d := g.a.dir.Load()
	for _, c := range g.chunks {
		d.at(c.no).held.Store(0)
	}
}

// Release gives the memory back. Nobody may be able to reach a record: call it through epoch.Domain.Retire, once.
func (g Generation) Release() {
	for _, c := range g.chunks {
		g.a.release(c)
	}
}

// Walk yields the records of one appender in the order of Reserve, across chunks and generations, from the record at
// from, which must live, up to but not including to; to = 0 means all that are reserved now. The caller sees to it that
// the records are filled and that no generation in between is released meanwhile.
func (a *Arena) Walk(from, to Pos) iter.Seq2[Pos, Record] {
	return func(yield func(Pos, Record) bool) {
		if from == 0 {
			return
		}
		off := from.offset()
		for c := a.chunkAt(from); c != nil; c = c.next.Load() {
			last := to != 0 && to.chunkNo() == c.no
			end := int(c.used.Load())
			if last {
				end = min(end, to.offset())
			}
			if !c.walk(off, end, yield) || last {
				return
			}
			off = 0
		}
	}
}

// Piece is a chunk as far as records are reserved in it.
type Piece struct {
	a   *Arena
	c   *chunk
	end int
}

// Pieces returns all that has not departed, in about the order of Reserve.
func (a *Arena) Pieces() []Piece {
	a.mu.Lock()
	defer a.mu.Unlock()
	pieces := make([]Piece, 0, a.mu.count)
	for _, c := range a.mu.chunks {
		if p := (Piece{a: a, c: c}); c != nil && !p.departed() {
			p.end = int(c.used.Load())
			pieces = append(pieces, p)
		}
	}
	slices.SortFunc(pieces, func(a, b Piece) int { return cmp.Compare(a.c.no, b.c.no) })
	return pieces
}

func (p Piece) departed() bool { return p.a.dir.Load().at(p.c.no).held.Load() != p.c.no+1 }

// Filled yields the records up to an LSN that are filled, published or not, unless the piece departs: of them only LSN, dataset and key
// may be read. The caller holds a guard meanwhile.
func (p Piece) Filled(max event.LSN) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		if p.departed() { // it may be freed while the guard is held
			return
		}
		p.c.walk(0, p.end, func(_ Pos, r Record) bool {
			lsn := event.LSN(atomic.LoadUint64((*uint64)(&r.h.lsn)))
			return lsn == 0 || lsn > max || yield(r)
		})
	}
}

func (c *chunk) walk(off, end int, yield func(Pos, Record) bool) bool {
	for off < end {
		r := Record{(*header)(unsafe.Pointer(&c.mem[off]))}
		next := off + r.Size() // before the yield: the caller may be the one who releases the chunk
		if !yield(makePos(c.no, off), r) {
			return false
		}
		off = next
	}
	return true
}
