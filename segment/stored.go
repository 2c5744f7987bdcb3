package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

const (
	// blockHead is the length of the header in front of each block.
	blockHead = 16

	// maxPackedRaw is the longest block that may be compressed: what a reader allocates before it knows more. An event
	// of the largest frame of the log fits.
	maxPackedRaw = 32 << 20

	// maxBlockBytes is the longest block, header included. One that is not compressed is in the file as it is, so a
	// reader allocates no more than the file has.
	maxBlockBytes = 1 << 30
)

// handle says where a block lies.
type handle struct {
	offset uint64
	length uint64 // header included
}

func (h handle) end() uint64 { return h.offset + h.length }

// storedHead is the header of a block.
type storedHead struct {
	crc    uint32
	stored uint32 // bytes of the body
	raw    uint32 // the same before compression
	kind   byte
	codec  event.Codec
}

// parseStored reads the header at the start of b, which has at least blockHead bytes, and judges it without the CRC.
// The error is event.ErrUnsupported or corruption.
func parseStored(b []byte) (storedHead, error) {
	le := binary.LittleEndian
	h := storedHead{crc: le.Uint32(b), stored: le.Uint32(b[4:]), raw: le.Uint32(b[8:]), kind: b[12],
		codec: event.Codec(b[13])}
	switch {
	case h.stored == 0 || h.stored > maxBlockBytes-blockHead:
		return h, corruption.New(4, "block of %d bytes", h.stored)
	case b[14]|b[15] != 0:
		return h, corruption.New(14, "block header: reserved bytes are not zero")
	}
	return h, nil
}

// check judges what only means something if the CRC holds.
func (h *storedHead) check() error {
	switch {
	case h.kind == 0 || int(h.kind) >= len(kindNames):
		return event.Unsupported("segment block of kind %d", h.kind)
	case h.codec > event.CodecZstd:
		return event.Unsupported("segment block codec %d", uint8(h.codec))
	case h.codec == event.CodecNone && h.raw != h.stored:
		return corruption.New(8, "block of %d bytes, %d raw, not compressed", h.stored, h.raw)
	case h.codec != event.CodecNone && (h.raw > maxPackedRaw || h.raw <= h.stored):
		return corruption.New(8, "block of %d bytes, %d raw, codec %s", h.stored, h.raw, h.codec)
	}
	return nil
}

// placer computes CRCs of the blocks of one file: they cover the file's salt and the block's offset, so that a block
// that is copied elsewhere never validates.
type placer struct{ salt [saltBytes]byte }

func (p *placer) crc(body, head []byte, offset uint64) uint32 {
	place := places.Get().(*[saltBytes + 8]byte)
	copy(place[:], p.salt[:])
	binary.LittleEndian.PutUint64(place[saltBytes:], offset)
	crc := coding.UpdateCRC(coding.CRC(body), head[4:blockHead])
	crc = coding.UpdateCRC(crc, place[:])
	places.Put(place)
	return crc
}

// places keeps memory for what a CRC covers beside the block, which would escape to the heap for each of them.
var places = sync.Pool{New: func() any { return new([saltBytes + 8]byte) }}

// seal fills in the header at the start of b, whose rest is the body.
func (p *placer) seal(b []byte, kind byte, codec event.Codec, raw int, offset uint64) {
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(len(b)-blockHead))
	le.PutUint32(b[8:], uint32(raw))
	b[12], b[13], b[14], b[15] = kind, byte(codec), 0, 0
	le.PutUint32(b, p.crc(b[blockHead:], b, offset))
}

// open checks a block that lies at an offset of the file, and returns its header. The error is event.ErrUnsupported or
// corruption with an offset in b.
func (p *placer) open(b []byte, offset uint64) (storedHead, error) {
	h, err := parseStored(b)
	if err != nil {
		return h, err
	}
	if int(h.stored) != len(b)-blockHead {
		return h, corruption.New(4, "block of %d bytes where %d were expected", h.stored, len(b)-blockHead)
	}
	if crc := p.crc(b[blockHead:], b, offset); crc != h.crc {
		return h, corruption.New(0, "block of %d bytes: crc %08x, want %08x", len(b), crc, h.crc)
	}
	return h, h.check()
}

// checkRaw judges the bytes of a block before compression.
func checkRaw(kind byte, raw []byte) error {
	switch kind {
	case kindFilter:
		return checkFilter(raw)
	case kindRangeDeletes, kindProperties:
		return nil // their decoders judge
	}
	var s sorted
	if !s.parse(raw, kind) {
		return corruption.New(0, "%s block: broken layout of %d bytes", kindNames[kind], len(raw))
	}
	return s.check(kind)
}

var zstdCoders = sync.OnceValue(func() (c struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}) {
	// Both are safe for concurrent EncodeAll and DecodeAll and start no goroutines for those. Errors are impossible with
	// these options. Blocks are short: a window of the largest that is usual keeps the encoder small.
	c.enc, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
	c.dec, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPackedRaw),
		zstd.WithDecodeAllCapLimit(true))
	return c
})

// pack appends src compressed if that saves at least an eighth, and else src itself, and returns the codec.
func pack(dst []byte, codec event.Codec, src []byte) ([]byte, event.Codec) {
	if codec == event.CodecNone || len(src) > maxPackedRaw {
		return append(dst, src...), event.CodecNone
	}
	start := len(dst)
	if codec == event.CodecZstd {
		dst = zstdCoders().enc.EncodeAll(src, dst)
	} else {
		need := s2.MaxEncodedLen(len(src))
		if cap(dst)-start < need {
			dst = append(make([]byte, 0, 2*cap(dst)+need), dst...)
		}
		dst = dst[:start+len(s2.Encode(dst[start:start+need], src))]
	}
	if len(dst)-start > len(src)-len(src)/8 {
		return append(dst[:start], src...), event.CodecNone
	}
	return dst, codec
}

var errSize = errors.New("other length")

// unpack fills dst, whose length is the raw length that the header states, from a body.
func unpack(dst []byte, codec event.Codec, body []byte) error {
	bad := func(err error) error {
		what := fmt.Sprintf("block of %d bytes, %d raw, codec %s", len(body), len(dst), codec)
		return &corruption.Error{Offset: blockHead, What: what, Err: err}
	}
	switch codec {
	case event.CodecNone:
		copy(dst, body)
	case event.CodecS2:
		if n, err := s2.DecodedLen(body); err != nil || n != len(dst) {
			return bad(errors.Join(err, errSize))
		}
		if _, err := s2.Decode(dst, body); err != nil {
			return bad(err)
		}
	case event.CodecZstd:
		out, err := zstdCoders().dec.DecodeAll(body, dst[:0:len(dst)])
		if err != nil || len(out) != len(dst) {
			return bad(errors.Join(err, errSize))
		}
		if &out[0] != &dst[0] {
			copy(dst, out)
		}
	}
	return nil
}
