package wal

import (
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// HeaderSize is the length of a file header; the first frame follows it.
const HeaderSize = 4096

const (
	logMagic = "DYNGOLOG"
	// version of the log's files. A change that an older reader must not pass over either raises it or takes a feature
	// bit.
	version = 1

	headerUsed = 168 // bytes of the header that hold fields
)

// Ending says how the previous file ended. Never renumber.
type Ending uint8

// The endings.
const (
	EndingNone   Ending = 0 // there is no previous file
	EndingSealed Ending = 1 // nothing or zeros follow its end
	EndingCut    Ending = 2 // a crash left it: bytes after its end are ignored
)

// HashSHA256 is the id of the log's hash. Never renumber.
const HashSHA256 = 1

// CompatRedacted is the compat feature of a file that was written anew to remove a value: it is another file than an older copy
// of the same name and size.
const CompatRedacted uint64 = 1 << 0

// Features that this version knows.
const (
	knownROCompat uint64 = 0
	knownIncompat uint64 = 0
)

// Header is the first block of a log file; see the package comment.
type Header struct {
	LogID      [16]byte
	TimelineID [16]byte
	Seq        uint64 // of this file, ≥ 1
	PrevSeq    uint64 // of the file before, 0 = none
	PrevEnd    uint64 // where the file before ends
	PrevChain  uint32 // original CRC of its last frame
	PrevEnding Ending
	HashID     uint8
	CipherID   uint8
	Compat     uint64 // feature bits that a reader may ignore
	ROCompat   uint64 // feature bits that only a writer must know
	Incompat   uint64 // feature bits that a reader must know
	KeyID      uint64 // of the file's cipher
	Salt       [32]byte
	FirstLSN   event.LSN // of the first event in this file or, if it holds none, of the next one; ≥ 1
	FirstTime  int64     // log time when the file was made, Unix nanoseconds
	Created    int64     // wall time when the file was made, Unix nanoseconds
}

// Encode returns the header as it stands in the file.
func (h *Header) Encode() [HeaderSize]byte {
	var b [HeaderSize]byte
	le := binary.LittleEndian
	copy(b[0:8], logMagic)
	le.PutUint32(b[12:], version)
	copy(b[16:32], h.LogID[:])
	copy(b[32:48], h.TimelineID[:])
	le.PutUint64(b[48:], h.Seq)
	le.PutUint64(b[56:], h.PrevSeq)
	le.PutUint64(b[64:], h.PrevEnd)
	le.PutUint32(b[72:], h.PrevChain)
	b[76], b[77], b[78] = byte(h.PrevEnding), h.HashID, h.CipherID
	le.PutUint64(b[80:], h.Compat)
	le.PutUint64(b[88:], h.ROCompat)
	le.PutUint64(b[96:], h.Incompat)
	le.PutUint64(b[104:], h.KeyID)
	copy(b[112:144], h.Salt[:])
	le.PutUint64(b[144:], uint64(h.FirstLSN))
	le.PutUint64(b[152:], uint64(h.FirstTime))
	le.PutUint64(b[160:], uint64(h.Created))
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

// ParseHeader decodes the header at the start of b, a file or the first HeaderSize bytes of one. The error is
// event.ErrUnsupported or corruption with an offset in b. Feature bits that only a writer must know are not judged here:
// see Header.CheckWritable.
func ParseHeader(b []byte) (Header, error) {
	if err := checkBlock(b, HeaderSize, logMagic, "log file"); err != nil {
		return Header{}, err
	}
	b = b[:HeaderSize]
	le := binary.LittleEndian
	h := Header{
		Seq: le.Uint64(b[48:]), PrevSeq: le.Uint64(b[56:]), PrevEnd: le.Uint64(b[64:]), PrevChain: le.Uint32(b[72:]),
		PrevEnding: Ending(b[76]), HashID: b[77], CipherID: b[78],
		Compat: le.Uint64(b[80:]), ROCompat: le.Uint64(b[88:]), Incompat: le.Uint64(b[96:]), KeyID: le.Uint64(b[104:]),
		FirstLSN: event.LSN(le.Uint64(b[144:])), FirstTime: int64(le.Uint64(b[152:])), Created: int64(le.Uint64(b[160:])),
	}
	copy(h.LogID[:], b[16:32])
	copy(h.TimelineID[:], b[32:48])
	copy(h.Salt[:], b[112:144])
	if b[79] != 0 || !coding.AllZero(b[headerUsed:]) {
		return Header{}, corruption.New(headerUsed, "log file header: reserved bytes are not zero")
	}
	return h, h.check()
}

// check judges the fields of a header whose CRC holds.
func (h *Header) check() error {
	switch {
	case h.Incompat&^knownIncompat != 0:
		return event.Unsupported("log file features %#x", h.Incompat&^knownIncompat)
	case h.HashID != HashSHA256:
		return event.Unsupported("log file hash %d", h.HashID)
	case h.CipherID != 0:
		return event.Unsupported("log file cipher %d", h.CipherID)
	case h.PrevEnding > EndingCut:
		return event.Unsupported("log file ending %d", h.PrevEnding)
	case h.Seq == 0 || h.PrevSeq >= h.Seq:
		return corruption.New(48, "log file header: sequence %d after %d", h.Seq, h.PrevSeq)
	case (h.PrevSeq == 0) != (h.PrevEnding == EndingNone):
		return corruption.New(76, "log file header: ending %d of file %d", h.PrevEnding, h.PrevSeq)
	case h.PrevSeq == 0 && (h.PrevEnd != 0 || h.PrevChain != 0):
		return corruption.New(64, "log file header: end %d of no file", h.PrevEnd)
	case h.PrevSeq != 0 && (h.PrevEnd <= HeaderSize || h.PrevEnd%frameAlign != 0 || h.PrevEnd > 1<<62):
		return corruption.New(64, "log file header: end %d of file %d", h.PrevEnd, h.PrevSeq)
	case h.FirstLSN == 0 || h.FirstLSN > event.MaxLSN:
		return corruption.New(144, "log file header: first LSN %d", h.FirstLSN)
	}
	return nil
}

// SameFile says whether two headers are of one log file: it may have been written anew without a value between.
func (h *Header) SameFile(o *Header) bool {
	a, b := *h, *o
	a.Compat, b.Compat = a.Compat|CompatRedacted, b.Compat|CompatRedacted
	return a == b
}

// CheckWritable returns event.ErrUnsupported if a newer version asks that this one does not write to the log.
func (h *Header) CheckWritable() error {
	if h.ROCompat&^knownROCompat != 0 {
		return event.Unsupported("writing a log with features %#x", h.ROCompat&^knownROCompat)
	}
	return nil
}

// checkBlock checks what all versions of a fixed block agree on, in this order: length, magic, CRC, version.
func checkBlock(b []byte, size int, magic, what string) error {
	if len(b) < size {
		return corruption.New(int64(len(b)), "%s: %d bytes, the header has %d", what, len(b), size)
	}
	if string(b[:8]) != magic {
		return corruption.New(0, "%s: magic %q", what, b[:8])
	}
	want, have := binary.LittleEndian.Uint32(b[8:]), coding.CRC(b[12:size])
	if want != have {
		return corruption.New(8, "%s header: crc %08x, want %08x", what, have, want)
	}
	switch v := binary.LittleEndian.Uint32(b[12:]); {
	case v == 0:
		return corruption.New(12, "%s: version 0", what)
	case v != version:
		return event.Unsupported("%s version %d", what, v)
	}
	return nil
}
