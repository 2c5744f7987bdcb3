package manifest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

const (
	magic = "DYNGOMAN"
	// version of the manifest's files. A change that an older reader must not pass over either raises it or takes a
	// feature bit.
	version = 1

	headerSize       = 128
	recordHeaderSize = 24
	recordAlign      = 8
	// maxFileBytes bounds a file, and so what a reader takes into memory.
	maxFileBytes = 1 << 30
)

// Features that this version knows.
const (
	knownROCompat uint64 = 0
	knownIncompat uint64 = 0
)

// header is the first block of a file; see the package comment.
type header struct {
	logID                      [16]byte
	num                        uint64
	compat, roCompat, incompat uint64
	salt                       [32]byte
	seed                       [16]byte
	created                    int64
}

func (h *header) encode() [headerSize]byte {
	var b [headerSize]byte
	le := binary.LittleEndian
	copy(b[0:8], magic)
	le.PutUint32(b[12:], version)
	copy(b[16:32], h.logID[:])
	le.PutUint64(b[32:], h.num)
	le.PutUint64(b[40:], h.compat)
	le.PutUint64(b[48:], h.roCompat)
	le.PutUint64(b[56:], h.incompat)
	copy(b[64:96], h.salt[:])
	copy(b[96:112], h.seed[:])
	le.PutUint64(b[112:], uint64(h.created))
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

// parseHeader decodes the header at the start of b. The error is event.ErrUnsupported or corruption with an offset in
// b.
func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerSize {
		return h, corruption.New(int64(len(b)), "manifest: %d bytes, the header has %d", len(b), headerSize)
	}
	b = b[:headerSize]
	le := binary.LittleEndian
	if string(b[:8]) != magic {
		return h, corruption.New(0, "manifest: magic %q", b[:8])
	}
	if want, have := le.Uint32(b[8:]), coding.CRC(b[12:]); want != have {
		return h, corruption.New(8, "manifest header: crc %08x, want %08x", have, want)
	}
	switch v := le.Uint32(b[12:]); {
	case v == 0:
		return h, corruption.New(12, "manifest: version 0")
	case v != version:
		return h, event.Unsupported("manifest version %d", v)
	}
	h = header{num: le.Uint64(b[32:]), compat: le.Uint64(b[40:]), roCompat: le.Uint64(b[48:]), incompat: le.Uint64(b[56:]),
		created: int64(le.Uint64(b[112:]))}
	copy(h.logID[:], b[16:])
	copy(h.salt[:], b[64:])
	copy(h.seed[:], b[96:])
	switch {
	case h.incompat&^knownIncompat != 0:
		return h, event.Unsupported("manifest features %#x", h.incompat&^knownIncompat)
	case !coding.AllZero(b[120:]):
		return h, corruption.New(120, "manifest header: reserved bytes are not zero")
	case h.num == 0 || h.num > maxNumber:
		return h, corruption.New(32, "manifest header: number %d", h.num)
	}
	return h, nil
}

// checkWritable returns event.ErrUnsupported if a newer version asks that this one does not write.
func (h *header) checkWritable() error {
	if h.roCompat&^knownROCompat != 0 {
		return event.Unsupported("writing a manifest with features %#x", h.roCompat&^knownROCompat)
	}
	return nil
}

// kind says what a record holds. Never renumber.
type kind uint8

const (
	kindSnapshot kind = 1 // a whole version, first in each file and nowhere else
	kindEdit     kind = 2
	kindMark     kind = 3 // nothing, the last: what comes before it in the file was durable when it was written
)

func (k kind) String() string {
	switch k {
	case kindSnapshot:
		return "snapshot"
	case kindEdit:
		return "edit"
	case kindMark:
		return "mark"
	}
	return "unknown record"
}

// record is one record of a file.
type record struct {
	kind   kind
	edits  uint64 // edits up to this record, its own included
	body   []byte
	offset int64
	size   int64 // with header and padding
}

// appendRecord appends a record that is to lie at an offset of the file.
func (h *header) appendRecord(dst []byte, k kind, edits uint64, body func([]byte) []byte, offset int64) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHeaderSize)...)
	if body != nil {
		dst = body(dst)
	}
	n := len(dst) - start - recordHeaderSize
	for (len(dst)-start)%recordAlign != 0 {
		dst = append(dst, 0)
	}
	b, le := dst[start:], binary.LittleEndian
	le.PutUint32(b[4:], coding.CRC(b[recordHeaderSize:]))
	le.PutUint32(b[8:], uint32(n))
	b[12] = byte(k)
	le.PutUint64(b[16:], edits)
	le.PutUint32(b, h.recordCRC(b, offset))
	return dst
}

// recordCRC is the checksum of a record's header at an offset. It binds the record to its place: one that is copied
// elsewhere does not validate.
func (h *header) recordCRC(b []byte, offset int64) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], h.num)
	binary.LittleEndian.PutUint64(place[8:], uint64(offset))
	crc := coding.UpdateCRC(coding.CRC(b[4:recordHeaderSize]), h.salt[:])
	return coding.UpdateCRC(crc, place[:])
}

// soundHeader reports whether b begins with a record header that was written at the offset.
func (h *header) soundHeader(b []byte, offset int64) bool {
	return len(b) >= recordHeaderSize && binary.LittleEndian.Uint32(b) == h.recordCRC(b, offset)
}

// readRecord reads the record at an offset of a file whose content is b. defect says why there is none.
func (h *header) readRecord(b []byte, offset int64) (r record, defect string) {
	rest := b[offset:]
	if len(rest) < recordHeaderSize {
		return r, fmt.Sprintf("record header cut off after %d bytes", len(rest))
	}
	if !h.soundHeader(rest, offset) {
		return r, "record header: crc does not match"
	}
	le := binary.LittleEndian
	n := int64(le.Uint32(rest[8:]))
	size := (recordHeaderSize + n + recordAlign - 1) &^ (recordAlign - 1)
	if size > int64(len(rest)) {
		return r, fmt.Sprintf("record of %d bytes, but %d remain", size, len(rest))
	}
	if want, have := le.Uint32(rest[4:]), coding.CRC(rest[recordHeaderSize:size]); want != have {
		return r, fmt.Sprintf("record: crc %08x, want %08x", have, want)
	}
	return record{kind: kind(rest[12]), edits: le.Uint64(rest[16:]), offset: offset, size: size,
		body: rest[recordHeaderSize : recordHeaderSize+n : recordHeaderSize+n]}, ""
}

// checkRecord judges what a sound record says of itself, given how many edits came before it. There is no excuse for
// these: such a record was written whole.
func (h *header) checkRecord(b []byte, r *record, edits uint64) error {
	if r.kind < kindSnapshot || r.kind > kindMark {
		return event.Unsupported("manifest record of kind %d", r.kind)
	}
	want := edits
	if r.kind == kindEdit {
		want++
	}
	first := r.offset == headerSize
	head := b[r.offset : r.offset+recordHeaderSize]
	switch {
	case !coding.AllZero(head[13:16]) || !coding.AllZero(b[r.offset+recordHeaderSize+int64(len(r.body)):r.offset+r.size]):
		return corruption.New(r.offset+13, "record: reserved bytes are not zero")
	case first != (r.kind == kindSnapshot):
		return corruption.New(r.offset+12, "%s: a file has one snapshot, first", r.kind)
	case !first && r.edits != want:
		return corruption.New(r.offset+16, "%s number %d, want %d", r.kind, r.edits, want)
	case r.kind == kindMark && len(r.body) > 0:
		return corruption.New(r.offset+8, "mark of %d bytes", len(r.body))
	}
	return nil
}

// fileName returns the name of a manifest file within its directory.
func fileName(num uint64) string { return fmt.Sprintf("%010d.man", num) }

// parseFileName is the reverse of fileName.
func parseFileName(name string) (num uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".man")
	if !ok {
		return 0, false
	}
	return parseNumber(digits)
}
