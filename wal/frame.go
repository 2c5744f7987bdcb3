package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

const (
	// FrameHeaderSize is the length of a frame's header; the body follows it.
	FrameHeaderSize = 64

	// MaxCommitBytes is the longest body of a commit or dictionary frame.
	MaxCommitBytes = 16 << 20

	// MaxDataBytes is the longest body of a data frame.
	MaxDataBytes = event.MaxPieceBytes

	// frameAlign is what each frame's offset is a multiple of.
	frameAlign = 8
)

// Kind says what a frame holds. Never renumber.
type Kind uint8

// The kinds.
const (
	KindCommit     Kind = 1 // the events of a commit group, with the next dense LSNs
	KindData       Kind = 2 // a piece of a large value or batch that a later commit frame refers to
	KindDictionary Kind = 3 // an encoded event.Dictionary, first in each file
	KindWatermark  Kind = 4 // nothing but the durable LSN
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindCommit:
		return "commit"
	case KindData:
		return "data"
	case KindDictionary:
		return "dictionary"
	case KindWatermark:
		return "watermark"
	}
	return "unknown"
}

// FrameFlags are properties of a frame. Unknown bits are unsupported. Never renumber.
type FrameFlags uint8

const (
	// FrameSpilled says that the body of a commit frame is a Spill.
	FrameSpilled FrameFlags = 1 << 0
	// FrameRedacted says that the body was rewritten to remove a value; OrigCRC is the frame's CRC before.
	FrameRedacted FrameFlags = 1 << 1

	knownFrameFlags = FrameSpilled | FrameRedacted
)

// Frame is one entry of a log file.
type Frame struct {
	Kind     Kind
	Flags    FrameFlags
	Count    uint32    // events in a commit frame, else 0
	BaseLSN  event.LSN // of a commit frame: of its first event; else the next LSN to be assigned when it was written
	BaseTime int64     // log time, Unix nanoseconds; the events' times count from it
	WallTime int64     // raw wall time, Unix nanoseconds
	HLC      uint64    // hybrid logical clock: 48 bits of milliseconds, 16 bits of counter
	Chain    uint32    // original CRC of the frame before, 0 in the first frame of a log
	CRC      uint32    // set by reading
	OrigCRC  uint32    // of a redacted frame: its CRC when it was first written; else 0
	// DurableLSN was known to be durable when the frame was written: less than BaseLSN.
	DurableLSN event.LSN
	Body       []byte // set by reading

	File   uint64 // sequence of the file; set by reading
	Offset int64  // of the frame in it; set by reading
	Name   string // of the file, relative to the database directory; set by reading
}

// Position is where the frame lies.
func (f *Frame) Position() Position { return Position{File: f.File, Offset: f.Offset} }

// Size is how many bytes of the file the frame takes, padding included.
func (f *Frame) Size() int64 { return int64(FrameSize(len(f.Body))) }

// OriginalCRC is what the next frame has as its chain value.
func (f *Frame) OriginalCRC() uint32 {
	if f.Flags&FrameRedacted != 0 {
		return f.OrigCRC
	}
	return f.CRC
}

// FrameSize returns how many bytes a frame takes, header and padding included.
func FrameSize(bodyLen int) int {
	return (FrameHeaderSize + bodyLen + frameAlign - 1) &^ (frameAlign - 1)
}

// BodyCRC returns the CRC-32C of a body: the first step of a frame's CRC, and the CRC of a piece.
func BodyCRC(body []byte) uint32 { return coding.CRC(body) }

// SealFrame writes the header of a frame into the first FrameHeaderSize bytes of b and returns the frame's CRC, which is
// the chain value for the next one. The body of bodyLen bytes has the CRC bodyCRC; the frame goes to offset off of file
// seq. Body and CRC fields of f are not looked at.
func SealFrame(b []byte, f *Frame, bodyLen int, bodyCRC uint32, salt *[32]byte, seq uint64, off int64) uint32 {
	h := b[:FrameHeaderSize]
	le := binary.LittleEndian
	le.PutUint32(h[4:], uint32(bodyLen))
	h[8], h[9], h[10], h[11] = byte(f.Kind), byte(f.Flags), 0, 0
	le.PutUint32(h[12:], f.Count)
	le.PutUint64(h[16:], uint64(f.BaseLSN))
	le.PutUint64(h[24:], uint64(f.BaseTime))
	le.PutUint64(h[32:], uint64(f.WallTime))
	le.PutUint64(h[40:], f.HLC)
	le.PutUint32(h[48:], f.Chain)
	le.PutUint32(h[52:], f.OrigCRC)
	le.PutUint64(h[56:], uint64(f.DurableLSN))
	crc := frameCRC(bodyCRC, h, salt, seq, off)
	le.PutUint32(h[0:], crc)
	return crc
}

// frameCRC continues the CRC of a body over what ties the frame to its place: the rest of its header, the file's salt and
// sequence and the offset. A frame that was copied elsewhere never validates.
func frameCRC(bodyCRC uint32, h []byte, salt *[32]byte, seq uint64, off int64) uint32 {
	b := crcScratch.Get().(*[FrameHeaderSize - 4 + 32 + 16]byte) // on the stack it would escape, one allocation a frame
	defer crcScratch.Put(b)
	copy(b[:], h[4:FrameHeaderSize])
	copy(b[FrameHeaderSize-4:], salt[:])
	binary.LittleEndian.PutUint64(b[FrameHeaderSize-4+32:], seq)
	binary.LittleEndian.PutUint64(b[FrameHeaderSize-4+40:], uint64(off))
	return coding.UpdateCRC(bodyCRC, b[:])
}

var crcScratch = sync.Pool{New: func() any { return new([FrameHeaderSize - 4 + 32 + 16]byte) }}

// bodyLength returns the body's length that a frame header states, and whether any frame can have it.
func bodyLength(h []byte) (int, bool) {
	n := binary.LittleEndian.Uint32(h[4:])
	return int(n), n <= MaxCommitBytes
}

// crcMatches reports whether a whole frame, padding excluded, is what was written at this offset of this file.
func crcMatches(b []byte, salt *[32]byte, seq uint64, off int64) bool {
	crc := frameCRC(coding.CRC(b[FrameHeaderSize:]), b, salt, seq, off)
	return crc == binary.LittleEndian.Uint32(b)
}

// decode fills f from a frame whose CRC holds; b is header and body. What the header says is checked as far as it can be
// without the frames before. The body aliases b. The error is event.ErrUnsupported or corruption with an offset in b.
func (f *Frame) decode(b []byte) error {
	le := binary.LittleEndian
	*f = Frame{
		Kind: Kind(b[8]), Flags: FrameFlags(b[9]), Count: le.Uint32(b[12:]), BaseLSN: event.LSN(le.Uint64(b[16:])),
		BaseTime: int64(le.Uint64(b[24:])), WallTime: int64(le.Uint64(b[32:])), HLC: le.Uint64(b[40:]),
		Chain: le.Uint32(b[48:]), CRC: le.Uint32(b), OrigCRC: le.Uint32(b[52:]), DurableLSN: event.LSN(le.Uint64(b[56:])),
		Body: b[FrameHeaderSize:], File: f.File, Offset: f.Offset, Name: f.Name,
	}
	switch {
	case f.Kind == 0:
		return corruption.New(8, "frame of kind 0")
	case f.Kind > KindWatermark:
		return event.Unsupported("frame kind %d", uint8(f.Kind))
	case f.Flags&^knownFrameFlags != 0:
		return event.Unsupported("frame flags %#x", uint8(f.Flags&^knownFrameFlags))
	case le.Uint16(b[10:]) != 0:
		return corruption.New(10, "%s frame: reserved bytes are not zero", f.Kind)
	case f.Flags&FrameSpilled != 0 && f.Kind != KindCommit:
		return corruption.New(9, "%s frame: spilled", f.Kind)
	case f.Flags&FrameRedacted == 0 && f.OrigCRC != 0:
		return corruption.New(52, "%s frame: original crc %08x of a frame that was not redacted", f.Kind, f.OrigCRC)
	case f.BaseLSN == 0 || f.BaseLSN > event.MaxLSN || f.DurableLSN >= f.BaseLSN:
		return corruption.New(16, "%s frame: LSN %d, durable %d", f.Kind, f.BaseLSN, f.DurableLSN)
	}
	n := len(f.Body)
	ok := f.Count == 0
	switch f.Kind {
	case KindCommit:
		ok = f.Count > 0 && uint64(f.Count) <= uint64(event.MaxLSN-f.BaseLSN)+1
		if f.Flags&FrameSpilled == 0 {
			ok = ok && uint64(f.Count)*event.MinWireBytes <= uint64(n)
		}
	case KindData:
		ok = ok && n > 0 && n <= MaxDataBytes
	case KindDictionary:
		ok = ok && n > 0
	case KindWatermark:
		ok = ok && n == 0
	}
	if !ok {
		return corruption.New(4, "%s frame: %d events in %d bytes", f.Kind, f.Count, n)
	}
	return nil
}

// locate adds the place to an error that was met while decoding what lies at base of a file: corruption gets file and
// offset, what is unsupported is wrapped in both.
func locate(err error, name string, base int64) error {
	if errors.Is(err, event.ErrUnsupported) {
		return fmt.Errorf("%s at %d: %w", name, base, err)
	}
	return corruption.Locate(err, name, base)
}
