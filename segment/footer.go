package segment

import (
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

const (
	headerMagic = "DYNGOSEG"
	footerMagic = "DYNGOEND"

	// version of the file format. A change that an older reader must not pass over either raises it or takes a feature
	// bit.
	version = 1

	headerBytes = 64
	footerBytes = 160
	footerTail  = 20 // the end of a footer, the same in all versions
	saltBytes   = 16

	maxFooterBytes = 4096 // in any version
)

// FooterBytes is the length of the footer, which the SHA-256 of a file leaves out.
const FooterBytes = footerBytes

// Features that this version knows.
const knownIncompat uint64 = 0

// header is the start of a file: for who has only that.
type header struct {
	salt    [saltBytes]byte
	num     uint64
	run     uint64
	created int64
}

func (h *header) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, headerBytes)...)
	b, le := dst[at:], binary.LittleEndian
	copy(b, headerMagic)
	le.PutUint32(b[12:], version)
	copy(b[16:], h.salt[:])
	le.PutUint64(b[32:], h.num)
	le.PutUint64(b[40:], h.run)
	le.PutUint64(b[48:], uint64(h.created))
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return dst
}

// parseHeader decodes the header at the start of b. The error is event.ErrUnsupported or corruption with an offset in
// b.
func parseHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	if len(b) < headerBytes {
		return h, corruption.New(int64(len(b)), "segment: %d bytes, the header has %d", len(b), headerBytes)
	}
	b = b[:headerBytes]
	if string(b[:8]) != headerMagic {
		return h, corruption.New(0, "segment: magic %q", b[:8])
	}
	if want, have := le.Uint32(b[8:]), coding.CRC(b[12:]); want != have {
		return h, corruption.New(8, "segment header: crc %08x, want %08x", have, want)
	}
	if err := checkVersion(le.Uint32(b[12:]), 12); err != nil {
		return h, err
	}
	if !coding.AllZero(b[56:]) {
		return h, corruption.New(56, "segment header: reserved bytes are not zero")
	}
	copy(h.salt[:], b[16:])
	h.num, h.run, h.created = le.Uint64(b[32:]), le.Uint64(b[40:]), int64(le.Uint64(b[48:]))
	return h, nil
}

func checkVersion(v uint32, at int64) error {
	switch v {
	case version:
		return nil
	case 0:
		return corruption.New(at, "segment version 0")
	}
	return event.Unsupported("segment version %d", v)
}

// footer is the end of a file: where everything else is found.
type footer struct {
	sha256       [32]byte
	salt         [saltBytes]byte
	compat       uint64 // feature bits that a reader may ignore
	incompat     uint64 // feature bits that a reader must know
	properties   handle
	top          handle // length 0: there are no entries
	dueIndex     handle // length 0: no entry has an expiry
	rangeDeletes handle // of all their blocks together; length 0: there are none
	size         uint64 // of the file
}

func (f *footer) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, footerBytes)...)
	b, le := dst[at:], binary.LittleEndian
	copy(b, f.sha256[:])
	copy(b[32:], f.salt[:])
	le.PutUint64(b[48:], f.compat)
	le.PutUint64(b[56:], f.incompat)
	for i, h := range f.handles() {
		le.PutUint64(b[64+16*i:], h.offset)
		le.PutUint64(b[72+16*i:], h.length)
	}
	le.PutUint64(b[128:], f.size)
	le.PutUint32(b[footerBytes-20:], footerBytes)
	le.PutUint32(b[footerBytes-16:], version)
	copy(b[footerBytes-8:], footerMagic)
	le.PutUint32(b[footerBytes-12:], coding.CRC(b[:footerBytes-12]))
	return dst
}

func (f *footer) handles() [4]*handle {
	return [4]*handle{&f.properties, &f.top, &f.dueIndex, &f.rangeDeletes}
}

// parseFooter decodes the footer at the end of b, the end of a file of size bytes. Checked in this order: length,
// magic, CRC, version, features, the rest. The error is event.ErrUnsupported or corruption with an offset in the file.
func parseFooter(b []byte, size int64) (f footer, err error) {
	if len(b) < footerTail {
		return f, corruption.New(0, "segment: %d bytes, the footer has %d", size, footerBytes)
	}
	tail, le := b[len(b)-footerTail:], binary.LittleEndian
	if string(tail[12:]) != footerMagic {
		return f, corruption.New(size-8, "segment: magic %q at the end", tail[12:])
	}
	n := int64(le.Uint32(tail))
	if n < footerTail || n > maxFooterBytes || n > int64(len(b)) {
		return f, corruption.New(size-footerTail, "segment: footer of %d bytes in a file of %d", n, size)
	}
	b = b[int64(len(b))-n:]
	base := size - n
	if want, have := le.Uint32(tail[8:]), coding.CRC(b[:n-12]); want != have {
		return f, corruption.New(base, "segment footer: crc %08x, want %08x", have, want)
	}
	if err := checkVersion(le.Uint32(tail[4:]), size-16); err != nil {
		return f, err
	}
	if n != footerBytes {
		return f, corruption.New(base, "segment footer of %d bytes", n)
	}
	copy(f.sha256[:], b)
	copy(f.salt[:], b[32:])
	f.compat, f.incompat = le.Uint64(b[48:]), le.Uint64(b[56:])
	if f.incompat&^knownIncompat != 0 {
		return f, event.Unsupported("segment features %#x", f.incompat&^knownIncompat)
	}
	f.size = le.Uint64(b[128:])
	if f.size != uint64(size) {
		return f, corruption.New(base+128, "segment: file of %d bytes, written were %d", size, f.size)
	}
	for i, h := range f.handles() {
		h.offset, h.length = le.Uint64(b[64+16*i:]), le.Uint64(b[72+16*i:])
		absent := h.length == 0 && i > 0
		if absent && h.offset != 0 || !absent && (h.length <= blockHead || h.length > maxBlockBytes ||
			h.offset < headerBytes || h.offset > uint64(base) || h.length > uint64(base)-h.offset) {
			return f, corruption.New(base+64+16*int64(i), "segment footer: %d bytes at %d of %d", h.length, h.offset, size)
		}
	}
	if !coding.AllZero(b[136 : footerBytes-footerTail]) {
		return f, corruption.New(base+136, "segment footer: reserved bytes are not zero")
	}
	return f, nil
}
