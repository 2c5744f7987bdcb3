package dyngo

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/keyring"
	"github.com/dyngodb/dyngo/wal"
)

const (
	// pieceBytes is how much of a large value goes into one data frame. Small commits wait for one piece at most.
	pieceBytes = 256 << 10
	// minCompress is the smallest value that is worth compressing.
	minCompress = 64
)

// store gives the op's value the form in which it is logged: as it is, compressed, or written ahead in pieces with a
// reference in its place.
func (c *commit) store(db *DB, o *op, k *keyring.Key) error {
	if len(o.value) >= o.ds.opts.LargeValue {
		if c.hold == nil {
			c.hold = db.beginHold("a large value is being written")
		}
		ref, err := db.storeLarge(o.ds, &sliceReader{b: o.value}, int64(len(o.value)), o.key, k)
		if err != nil {
			return err
		}
		o.value = event.AppendValueRef(nil, ref)
		o.flags |= event.FlagValueRef
		return nil
	}
	stored, codec := o.value, event.CodecNone
	if o.ds.opts.Compression != NoCompression && len(o.value) >= minCompress {
		start := len(c.value)
		c.value = compress(c.value, o.ds.opts.Compression, o.value)
		if packed := c.value[start:]; len(packed) < len(o.value)-len(o.value)/8 {
			stored, codec = packed, event.Codec(o.ds.opts.Compression)
		}
	}
	switch {
	case k != nil:
		o.value = k.Seal(nil, keyring.Piece{Key: o.key, Last: true}, codec, len(o.value), stored)
	case codec != event.CodecNone:
		c.scratch = event.AppendCodec(c.scratch, codec, len(o.value))
		o.value = stored
	}
	return nil
}

// sliceReader hands out its slice piece by piece without copying.
type sliceReader struct{ b []byte }

func (r *sliceReader) next(_ []byte, n int) ([]byte, error) {
	n = min(n, len(r.b))
	p := r.b[:n]
	r.b = r.b[n:]
	return p, nil
}

type pieceReader interface {
	// next returns the next n bytes, in buf or elsewhere.
	next(buf []byte, n int) ([]byte, error)
}

type ioReader struct{ r io.Reader }

func (r ioReader) next(buf []byte, n int) ([]byte, error) {
	return buf[:n], readFull(r.r, buf[:n])
}

// readFull fills b. A reader that ends early gives io.ErrUnexpectedEOF, wherever it ends.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// storeLarge writes size bytes ahead of their commit, sealed with k unless that is nil. If the commit never comes, the pieces are
// garbage.
func (db *DB) storeLarge(ds *Dataset, r pieceReader, size int64, key []byte, k *keyring.Key) (ref event.ValueRef, err error) {
	if k != nil && size > maxSealedBytes {
		return ref, limitError("value of %d bytes, one of a subject has at most %d", size, maxSealedBytes)
	}
	var buf, packed, box []byte
	if _, ok := r.(ioReader); ok {
		buf = make([]byte, min(size, pieceBytes))
	}
	for left := size; left > 0; {
		raw, err := r.next(buf, int(min(left, pieceBytes)))
		if err != nil {
			return ref, fmt.Errorf("dyngo: read the value's bytes %d of %d: %w", size-left, size, err)
		}
		left -= int64(len(raw))
		p := event.Piece{RawLen: uint32(len(raw)), StoredLen: uint32(len(raw))}
		stored := raw
		if ds.opts.Compression != NoCompression {
			packed = compress(packed[:0], ds.opts.Compression, raw)
			if len(packed) < len(raw)-len(raw)/8 {
				stored, p.Codec, p.StoredLen = packed, event.Codec(ds.opts.Compression), uint32(len(packed))
			}
		}
		if k != nil {
			box = k.Seal(box[:0], keyring.Piece{Key: key, Index: uint32(len(ref.Pieces)), Last: left == 0}, p.Codec, len(raw), stored)
			stored, p.Codec = box, event.CodecNone
			p.StoredLen, p.RawLen = uint32(len(box)), uint32(len(box))
		}
		if _, err := db.log.Admit(db.now(), 0, false); err != nil {
			return ref, err
		}
		pos, crc, err := db.log.AppendData(stored)
		if err != nil {
			return ref, err
		}
		p.File, p.Offset, p.CRC = pos.File, uint64(pos.Offset), crc
		ref.Pieces = append(ref.Pieces, p)
		ref.RawSize += int64(p.RawLen)
	}
	return ref, nil
}

// appendLarge appends the value that ref refers to.
func (db *DB) appendLarge(dst []byte, ref event.ValueRef) ([]byte, error) {
	if ref.RawSize > MaxValueBytes {
		return dst, &corruption.Error{What: fmt.Sprintf("reference to a value of %d bytes", ref.RawSize)}
	}
	base := len(dst)
	if need := base + int(ref.RawSize); cap(dst) < need {
		dst = append(make([]byte, 0, need), dst...)
	}
	var err error
	for _, p := range ref.Pieces {
		if dst, err = db.appendPiece(dst, p); err != nil {
			return dst[:base], err
		}
	}
	return dst, nil
}

// appendPiece appends the raw bytes of one piece, checked. The event may not say yet that it was redacted: its file is renamed last.
func (db *DB) appendPiece(dst []byte, p event.Piece) (_ []byte, err error) {
	defer func() {
		if errors.Is(err, wal.ErrRedacted) {
			err = ErrRedacted
		}
	}()
	pos := wal.Position{File: p.File, Offset: int64(p.Offset)}
	if p.Codec == 0 {
		start, end := len(dst), len(dst)+int(p.StoredLen)
		if cap(dst) < end {
			dst = slices.Grow(dst, end-start)
		}
		dst = dst[:end] // not cleared: it is filled now
		return dst, db.files.ReadPiece(dst[start:], pos, p.CRC)
	}
	stored := make([]byte, p.StoredLen)
	if err := db.files.ReadPiece(stored, pos, p.CRC); err != nil {
		return dst, err
	}
	return decompress(dst, p.Codec, stored, int(p.RawLen))
}

// plain says that the stored bytes of a record in memory are the value.
func plain(flags event.Flags, mem tail.Mem, parts []byte) bool {
	if mem&tail.MemStub != 0 || flags&event.ValueFlags != 0 {
		return false
	}
	if len(parts) == 0 {
		return true
	}
	_, _, packed := event.CodecOf(parts)
	return !packed
}

var zstdCoders = sync.OnceValue(func() (c struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}) {
	// Both are safe for concurrent EncodeAll and DecodeAll. Errors are impossible with these options.
	c.enc, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	c.dec, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxValueBytes))
	return c
})

// compress appends src compressed.
func compress(dst []byte, c Compression, src []byte) []byte {
	if c == Zstd {
		return zstdCoders().enc.EncodeAll(src, dst)
	}
	start, need := len(dst), s2.MaxEncodedLen(len(src))
	if cap(dst)-start < need {
		dst = append(make([]byte, 0, start+need), dst...)
	}
	return dst[:start+len(s2.Encode(dst[start:start+need], src))]
}

// decompress appends src, which had raw bytes. A size that does not agree is damage.
func decompress(dst []byte, codec event.Codec, src []byte, raw int) ([]byte, error) {
	start := len(dst)
	bad := func(err error) ([]byte, error) {
		return dst[:start], &corruption.Error{What: fmt.Sprintf("compressed value of %d bytes, %d raw", len(src), raw), Err: err}
	}
	if raw > MaxValueBytes {
		return bad(errors.New("size out of range"))
	}
	switch codec {
	case event.CodecS2:
		if n, err := s2.DecodedLen(src); err != nil || n != raw {
			return bad(errors.Join(err, errors.New("size differs")))
		}
		dst = append(dst, make([]byte, raw)...)
		if _, err := s2.Decode(dst[start:], src); err != nil {
			return bad(err)
		}
		return dst, nil
	case event.CodecZstd:
		var h zstd.Header
		if err := h.Decode(src); err != nil || h.HasFCS && h.FrameContentSize != uint64(raw) {
			return bad(errors.Join(err, errors.New("size differs")))
		}
		out, err := zstdCoders().dec.DecodeAll(src, dst)
		if err != nil || len(out)-start != raw {
			return bad(err)
		}
		return out, nil
	}
	return dst, fmt.Errorf("%w: value codec %d", ErrUnsupported, codec)
}
