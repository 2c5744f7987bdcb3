package wal

import "github.com/dyngodb/dyngo/internal/coding"

// runningCRC answers for the CRC-32C of any part of a byte slice in a time that depends on its length by a logarithm
// only. It keeps the CRC of every prefix whose length is a multiple of runningStep.
//
// The CRC of a part follows from those of two prefixes, because a CRC is linear: crc(ab) = shift(crc(a), len(b)) ^ crc(b),
// where shift multiplies by a power of x modulo the polynomial. (The way of crc32_combine in zlib.)
type runningCRC struct {
	b   []byte
	crc []uint32
}

const runningStep = 8

func newRunningCRC(b []byte) *runningCRC {
	r := &runningCRC{b: b, crc: make([]uint32, len(b)/runningStep+1)}
	for i := 1; i < len(r.crc); i++ {
		r.crc[i] = coding.UpdateCRC(r.crc[i-1], b[(i-1)*runningStep:i*runningStep])
	}
	return r
}

// prefix returns the CRC of b[:n].
func (r *runningCRC) prefix(n int) uint32 {
	i := n / runningStep
	return coding.UpdateCRC(r.crc[i], r.b[i*runningStep:n])
}

// of returns the CRC of b[from:to].
func (r *runningCRC) of(from, to int) uint32 {
	return r.prefix(to) ^ shiftCRC(r.prefix(from), to-from)
}

// castagnoliReversed is the polynomial, lowest power in the highest bit.
const castagnoliReversed = 0x82f63b78

// multiplyCRC multiplies two polynomials modulo the CRC's.
func multiplyCRC(a, b uint32) uint32 {
	var p uint32
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
		}
		low := b & 1
		b >>= 1
		if low != 0 {
			b ^= castagnoliReversed
		}
	}
	return p
}

// powersOfX[k] is x to the power of 8·2^k: it moves a CRC over 2^k bytes.
var powersOfX = func() (t [48]uint32) {
	t[0] = 1 << 23 // x^8
	for k := 1; k < len(t); k++ {
		t[k] = multiplyCRC(t[k-1], t[k-1])
	}
	return t
}()

// shiftCRC returns what the CRC of n more bytes must be combined with.
func shiftCRC(crc uint32, n int) uint32 {
	for k := 0; n != 0; k++ {
		if n&1 != 0 {
			crc = multiplyCRC(powersOfX[k], crc)
		}
		n >>= 1
	}
	return crc
}
