package coding

import "encoding/binary"

// Reader decodes a slice front to back. The first failure is kept: later reads return zero values, so a decoder may
// read a whole structure and look at Err once, as long as it bounds counts by Len before it allocates.
type Reader struct {
	buf []byte
	off int
	err error
}

// NewReader returns a Reader over b. What it hands out aliases b.
func NewReader(b []byte) Reader { return Reader{buf: b} }

// Len returns how many bytes remain.
func (r *Reader) Len() int { return len(r.buf) - r.off }

// Offset returns how many bytes were read; after a failure, where it was met.
func (r *Reader) Offset() int { return r.off }

// Err returns the first failure.
func (r *Reader) Err() error { return r.err }

// Fail keeps err as the failure unless there is one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// End fails if bytes remain, and returns the first failure.
func (r *Reader) End() error {
	if r.Len() > 0 {
		r.Fail(ErrTrailing)
	}
	return r.err
}

// Uvarint reads a varint.
func (r *Reader) Uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := Uvarint(r.buf[r.off:])
	if n <= 0 {
		r.err = UvarintError(n)
		return 0
	}
	r.off += n
	return v
}

// Count reads a varint that counts items of at least minBytes (≥ 1) each, and fails if so many cannot follow.
func (r *Reader) Count(minBytes int) int {
	at := r.off
	n := r.Uvarint()
	if r.err == nil && n > uint64(r.Len()/minBytes) {
		r.off, r.err = at, ErrShort
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Next reads n bytes.
func (r *Reader) Next(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(r.Len()) {
		r.err = ErrShort
		return nil
	}
	b := r.buf[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return b
}

// Bytes reads a length and that many bytes.
func (r *Reader) Bytes() []byte { return r.Next(r.Uvarint()) }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if b := r.Next(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint32 reads a little-endian 32-bit integer.
func (r *Reader) Uint32() uint32 {
	if b := r.Next(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads a little-endian 64-bit integer.
func (r *Reader) Uint64() uint64 {
	if b := r.Next(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
