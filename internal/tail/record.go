package tail

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
)

// HeaderBytes is the size of a record before its payload.
const HeaderBytes = 48

// Mem says how a record is kept in memory.
type Mem uint8

// Bits of Mem.
const (
	MemStub   Mem = 1 << 0 // the value in the payload is a Stub
	MemExpiry Mem = 1 << 1 // the parts hold an expiry
)

// Link is what the memtable knows of a record.
type Link uint8

// Bits of Link. They are only ever added.
const (
	LinkIndexed    Link = 1 << 0 // the memtable has taken the record
	LinkSuperseded Link = 1 << 1 // it is not the newest version of its key
)

const linkShift = 24

type header struct {
	prev       uint64    // atomic
	lsn        event.LSN // stored last, atomic
	time       int64
	logpos     uint64 // atomic
	size       uint32
	dataset    event.DatasetID
	state      uint32 // atomic
	payloadLen uint32
}

// Record is a record in an arena. The zero Record is none. It is a pointer into memory that Go's collector does not
// know: it must not be kept beyond the guard (or other right) under which it was found.
type Record struct{ h *header }

// IsZero reports whether r is no record.
func (r Record) IsZero() bool { return r.h == nil }

// Fill sets all fields but prev and logpos, and comes after the payload: from then on Piece.Filled yields the record. It must not
// be published yet.
func (r Record) Fill(lsn event.LSN, time int64, ds event.DatasetID, op event.Op, flags event.Flags, mem Mem) {
	r.h.time = time
	r.h.dataset = ds
	r.h.state = uint32(op) | uint32(flags)<<8 | uint32(mem)<<16
	atomic.StoreUint64((*uint64)(&r.h.lsn), uint64(lsn))
}

// Prev returns the version of the key before this one, 0 if there is none in memory.
func (r Record) Prev() Pos { return Pos(atomic.LoadUint64(&r.h.prev)) }

// Link sets prev and marks the record as indexed. The record must not be published yet; only the memtable calls it.
func (r Record) Link(prev Pos, l Link) {
	r.h.prev = uint64(prev)
	r.h.state |= uint32(l) << linkShift
}

// LSN returns the event's LSN.
func (r Record) LSN() event.LSN { return r.h.lsn }

// Time returns the event's log time in Unix nanoseconds.
func (r Record) Time() int64 { return r.h.time }

// LogPos returns where the event's wire bytes are: file sequence<<40 | offset. 0 means that they are not written yet.
func (r Record) LogPos() uint64 { return atomic.LoadUint64(&r.h.logpos) }

// SetLogPos sets what LogPos returns. It may be called on a published record.
func (r Record) SetLogPos(p uint64) { atomic.StoreUint64(&r.h.logpos, p) }

// Touch reads a byte of each cache line of the record, of the first maxBytes at most, and returns something computed from
// them. Called for several records one after the other it makes their cache misses overlap.
func (r Record) Touch(maxBytes int) byte {
	n := min(int(r.h.size), maxBytes)
	sum := *(*byte)(unsafe.Add(unsafe.Pointer(r.h), n-1)) // a record may begin anywhere in a line
	for i := 64; i < n; i += 64 {
		sum += *(*byte)(unsafe.Add(unsafe.Pointer(r.h), i))
	}
	return sum
}

// Size returns the bytes that the record takes, header and padding included.
func (r Record) Size() int { return int(r.h.size) }

// Dataset returns the event's dataset.
func (r Record) Dataset() event.DatasetID { return r.h.dataset }

// State returns op, flags, mem and link at one moment.
func (r Record) State() (event.Op, event.Flags, Mem, Link) {
	s := atomic.LoadUint32(&r.h.state)
	return event.Op(s), event.Flags(s >> 8), Mem(s >> 16), Link(s >> linkShift)
}

// Op returns what the event does.
func (r Record) Op() event.Op { return event.Op(atomic.LoadUint32(&r.h.state)) }

// Flags returns the event's flags.
func (r Record) Flags() event.Flags { return event.Flags(atomic.LoadUint32(&r.h.state) >> 8) }

// Mem says how the record is kept.
func (r Record) Mem() Mem { return Mem(atomic.LoadUint32(&r.h.state) >> 16) }

// Links returns what the memtable knows of the record.
func (r Record) Links() Link { return Link(atomic.LoadUint32(&r.h.state) >> linkShift) }

// AddLinks adds to what Links returns. Only the memtable calls it.
func (r Record) AddLinks(l Link) { atomic.OrUint32(&r.h.state, uint32(l)<<linkShift) }

// Payload returns the payload, which aliases the record. The caller fills it before the record is published and only
// reads it afterwards.
func (r Record) Payload() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(r.h), HeaderBytes)), r.h.payloadLen)
}

// Session returns the event's session.
func (r Record) Session() event.SessionID {
	s, _ := coding.Uvarint(r.Payload())
	return event.SessionID(s)
}

// Key returns the event's key, which aliases the record.
func (r Record) Key() []byte {
	p := r.Payload()
	i := 0
	for p[i] >= 0x80 { // session
		i++
	}
	n := int(p[i+1])
	i += 2
	if n >= 0x80 {
		n &= 0x7f
		for shift := 7; ; shift += 7 {
			c := p[i]
			i++
			n |= int(c&0x7f) << shift
			if c < 0x80 {
				break
			}
		}
	}
	return p[i : i+n : i+n]
}

// Split returns key, value and parts at once, as Key, Value and Parts do.
func (r Record) Split() (key, value, parts []byte) {
	p := r.Payload()
	if len(p) > 2 && p[0]|p[1] < 0x80 { // the usual lengths
		k := 2 + int(p[1])
		if v := p[k]; v < 0x80 {
			end := k + 1 + int(v)
			return p[2:k:k], p[k+1 : end : end], p[end:]
		}
	}
	_, key, value, parts, _ = event.SplitPayload(p)
	return key, value, parts
}

// Value returns the value as it is stored, which aliases the record: a Stub with MemStub, an encoded ValueRef with
// event.FlagValueRef, else the bytes of the event.
func (r Record) Value() []byte {
	_, _, value, _, _ := event.SplitPayload(r.Payload())
	return value
}

// Parts returns the event's encoded optional parts, which alias the record.
func (r Record) Parts() []byte {
	_, _, _, parts, _ := event.SplitPayload(r.Payload())
	return parts
}

// StubBytes is the size of an encoded Stub.
const StubBytes = 24

// Stub stands for a value whose bytes are in the log only.
type Stub struct {
	LogPos uint64 // of the value's bytes: file sequence<<40 | offset
	Len    uint32 // bytes
	CRC    uint32 // CRC-32C of the bytes
}

// Put encodes s into the first StubBytes of dst.
func (s Stub) Put(dst []byte) {
	_ = dst[StubBytes-1]
	binary.LittleEndian.PutUint64(dst, s.LogPos)
	binary.LittleEndian.PutUint32(dst[8:], s.Len)
	binary.LittleEndian.PutUint32(dst[12:], s.CRC)
	clear(dst[16:StubBytes])
}

// ParseStub decodes the value of a record with MemStub.
func ParseStub(value []byte) Stub {
	_ = value[StubBytes-1]
	return Stub{
		LogPos: binary.LittleEndian.Uint64(value),
		Len:    binary.LittleEndian.Uint32(value[8:]),
		CRC:    binary.LittleEndian.Uint32(value[12:]),
	}
}
