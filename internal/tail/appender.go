package tail

import (
	"fmt"
	"math"
	"unsafe"
)

// MaxPayloadBytes is the longest payload of a record.
const MaxPayloadBytes = math.MaxUint32 - HeaderBytes - 7

// Appender hands out places for records, one after the other. One caller at a time.
type Appender struct {
	a     *Arena
	cur   *chunk
	off   int      // bytes used of cur
	asked bool     // a spare was asked for since cur began
	open  []*chunk // of the generation that is being filled, cur is the last
}

// NewAppender returns an appender with an empty generation. It takes its first chunk with the first Reserve.
func (a *Arena) NewAppender() *Appender { return &Appender{a: a} }

// Reserve returns the place for a record with a payload of the given length. Size and payload length are set, the
// other fields are zero, the payload holds anything: the caller fills it before anybody else may see it.
func (ap *Appender) Reserve(payloadLen int) Pos {
	if uint(payloadLen) > MaxPayloadBytes {
		panic(fmt.Sprintf("dyngo: bug: tail: payload of %d bytes", payloadLen))
	}
	size := recordSize(payloadLen)
	if ap.cur == nil || ap.off+size > len(ap.cur.mem) {
		ap.nextChunk(size)
	}
	c, off := ap.cur, ap.off
	h := (*header)(unsafe.Pointer(&c.mem[off]))
	*(*uint64)(unsafe.Add(unsafe.Pointer(h), size-8)) = 0 // padding
	*h = header{size: uint32(size), payloadLen: uint32(payloadLen)}
	ap.off = off + size
	c.used.Store(int64(ap.off))
	if !ap.asked && ap.off > ChunkBytes/2 {
		ap.asked = true
		ap.a.askSpare()
	}
	return makePos(c.no, off)
}

func recordSize(payloadLen int) int { return (HeaderBytes + payloadLen + 7) &^ 7 }

func (ap *Appender) nextChunk(size int) {
	c := ap.a.newChunk(size)
	if ap.cur != nil {
		ap.cur.next.Store(c)
	}
	ap.cur, ap.off, ap.asked = c, 0, false
	ap.open = append(ap.open, c)
}

// Bytes returns the memory of the chunks of the generation that is being filled, unused ends included.
func (ap *Appender) Bytes() int64 {
	n := int64(0)
	for _, c := range ap.open {
		n += int64(cap(c.mem))
	}
	return n
}

// Seal ends the generation that is being filled and returns it: it gets no more records. The next Reserve begins
// another one in a new chunk. The generation is empty if nothing was reserved since the last Seal.
func (ap *Appender) Seal() Generation {
	g := Generation{a: ap.a, chunks: ap.open}
	for _, c := range g.chunks {
		g.bytes += int64(cap(c.mem))
		g.used += c.used.Load()
	}
	ap.open = nil
	if ap.cur != nil {
		ap.off = len(ap.cur.mem) // so that the next Reserve takes a new chunk, linked from this one
	}
	return g
}
