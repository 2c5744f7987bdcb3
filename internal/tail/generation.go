package tail

import (
	"iter"
	"unsafe"
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
