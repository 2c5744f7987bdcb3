// Package coding holds the primitive encodings of every DynGO file: minimal-length varints, little-endian integers
// read with bounds, and CRC-32C.
//
// A number has exactly one spelling: a varint that is longer than it must be is an error. Nothing here allocates by a
// length it has read; Reader hands out slices of the bytes it was given. The package makes no promise of
// compatibility.
package coding

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
)

// Errors of malformed input. Callers turn them into corruption with a place.
var (
	ErrShort      = errors.New("unexpected end")
	ErrOverflow   = errors.New("varint overflows 64 bits")
	ErrNotMinimal = errors.New("varint is longer than it must be")
	ErrTrailing   = errors.New("bytes after the end")
)

// MaxVarintLen is the length of the longest varint.
const MaxVarintLen = binary.MaxVarintLen64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC returns the CRC-32C of b.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// UpdateCRC returns the CRC-32C of what crc covers followed by b.
func UpdateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// AppendUvarint appends v in its one spelling.
func AppendUvarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, v)
}

// UvarintLen returns how many bytes AppendUvarint adds.
func UvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// AppendBytes appends the length of b and b.
func AppendBytes[T ~[]byte | ~string](dst []byte, b T) []byte {
	return append(AppendUvarint(dst, uint64(len(b))), b...)
}

// Uvarint decodes a varint from the start of b and returns its length, which is ≤ 0 if there is none: UvarintError
// says why.
func Uvarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return uvarintLong(b)
}

func uvarintLong(b []byte) (v uint64, n int) {
	var shift uint
	for i, c := range b {
		if i == MaxVarintLen-1 && c > 1 {
			return 0, -1
		}
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, -2
			}
			return v | uint64(c)<<shift, i + 1
		}
		v |= uint64(c&0x7f) << shift
		shift += 7
	}
	return 0, 0
}

// UvarintError returns the error for a length that Uvarint returned, nil if it is positive.
func UvarintError(n int) error {
	switch {
	case n > 0:
		return nil
	case n == 0:
		return ErrShort
	case n == -1:
		return ErrOverflow
	}
	return ErrNotMinimal
}

// AllZero reports whether b holds only zero bytes.
func AllZero(b []byte) bool {
	for len(b) >= 32 {
		if binary.LittleEndian.Uint64(b)|binary.LittleEndian.Uint64(b[8:])|
			binary.LittleEndian.Uint64(b[16:])|binary.LittleEndian.Uint64(b[24:]) != 0 {
			return false
		}
		b = b[32:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
