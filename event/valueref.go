package event

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/dyngodb/dyngo/internal/coding"
)

// Codec says how bytes are compressed. Never renumber.
type Codec uint8

// The codecs.
const (
	CodecNone Codec = 0
	CodecS2   Codec = 1
	CodecZstd Codec = 2
)

// String returns the codec's name.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecS2:
		return "s2"
	case CodecZstd:
		return "zstd"
	}
	return "codec(" + strconv.Itoa(int(c)) + ")"
}

// Piece says where a piece of a large value or of a spilled batch lies: one data frame.
type Piece struct {
	File      uint64 // sequence of the log file, ≥ 1
	Offset    uint64 // of the frame in it: a multiple of 8, < 2^63
	StoredLen uint32 // length of the frame's body, in [1, MaxPieceBytes]
	RawLen    uint32 // the same before compression, in [1, MaxPieceBytes]; equal without
	Codec     Codec
	CRC       uint32 // CRC-32C of the body
}

// MinPieceBytes is the length of the shortest encoded Piece: it bounds a count of pieces by the bytes that hold them.
const MinPieceBytes = 1 + 1 + 1 + 1 + 1 + 4

// AppendPiece appends the encoding of p.
func AppendPiece(dst []byte, p Piece) []byte {
	dst = coding.AppendUvarint(dst, p.File)
	dst = coding.AppendUvarint(dst, p.Offset)
	dst = coding.AppendUvarint(dst, uint64(p.StoredLen))
	dst = coding.AppendUvarint(dst, uint64(p.RawLen))
	return binary.LittleEndian.AppendUint32(append(dst, byte(p.Codec)), p.CRC)
}

// ReadPiece decodes a Piece. The error is ErrUnsupported or corruption with an offset in what r reads.
func ReadPiece(r *coding.Reader) (Piece, error) {
	at := r.Offset()
	file, offset, stored, raw := r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	codec, crc := Codec(r.Byte()), r.Uint32()
	switch {
	case r.Err() != nil:
		return Piece{}, corruptIn("piece", r)
	case codec > CodecZstd:
		return Piece{}, Unsupported("piece codec %d", uint8(codec))
	case file == 0 || offset%8 != 0 || offset > math.MaxInt64:
		return Piece{}, corrupt(at, "piece at %d of file %d", offset, file)
	case stored == 0 || stored > MaxPieceBytes || raw == 0 || raw > MaxPieceBytes || codec == CodecNone && stored != raw:
		return Piece{}, corrupt(at, "piece of %d bytes, %d raw, codec %s", stored, raw, codec)
	}
	return Piece{File: file, Offset: offset, StoredLen: uint32(stored), RawLen: uint32(raw), Codec: codec,
		CRC: crc}, nil
}

// ValueRef stands for a value whose bytes lie in data frames.
type ValueRef struct {
	RawSize int64   // of the value before compression, the sum of the pieces' RawLen; at most MaxValueBytes
	Pieces  []Piece // in the order of the value's bytes, at least one
}

// AppendValueRef appends the encoding of v.
func AppendValueRef(dst []byte, v ValueRef) []byte {
	dst = coding.AppendUvarint(dst, uint64(v.RawSize))
	dst = coding.AppendUvarint(dst, uint64(len(v.Pieces)))
	for _, p := range v.Pieces {
		dst = AppendPiece(dst, p)
	}
	return dst
}

// ParseValueRef decodes a ValueRef, which must be all of b. The error is ErrUnsupported or corruption with an offset in b.
func ParseValueRef(b []byte) (ValueRef, error) {
	var v ValueRef
	size, err := eachPiece(b, func(n int, p Piece) {
		if v.Pieces == nil {
			v.Pieces = make([]Piece, 0, n)
		}
		v.Pieces = append(v.Pieces, p)
	})
	if err != nil {
		return ValueRef{}, err
	}
	v.RawSize = size
	return v, nil
}

// ValueRefSize returns the length of the value that an encoded ValueRef stands for, without looking at its pieces.
func ValueRefSize(b []byte) (int64, error) {
	v, n := coding.Uvarint(b)
	if n <= 0 || v > MaxValueBytes {
		return 0, corrupt(0, "length of the referenced value")
	}
	return int64(v), nil
}

func checkValueRef(b []byte) error {
	_, err := eachPiece(b, func(int, Piece) {})
	return err
}

// eachPiece decodes a ValueRef; do gets the number of pieces and each of them.
func eachPiece(b []byte, do func(n int, p Piece)) (size int64, err error) {
	r := coding.NewReader(b)
	want := r.Uvarint()
	n := r.Count(MinPieceBytes)
	var sum uint64
	for range n {
		p, err := ReadPiece(&r)
		if err != nil {
			return 0, err
		}
		sum += uint64(p.RawLen)
		do(n, p)
	}
	if r.End() != nil {
		return 0, corruptIn("value reference", &r)
	}
	if sum != want || n == 0 || want > MaxValueBytes {
		return 0, corrupt(0, "value reference: %d pieces of %d bytes for a value of %d", n, sum, want)
	}
	return int64(want), nil
}
