package coding

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestUvarintHasOneSpelling(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, 1<<21 - 1, 1 << 21, 1<<56 - 1, 1 << 63, math.MaxUint64} {
		b := AppendUvarint(nil, v)
		if len(b) != UvarintLen(v) {
			t.Errorf("%d: UvarintLen %d, encoded %d", v, UvarintLen(v), len(b))
		}
		if got, n := Uvarint(append(b, 0xff)); got != v || n != len(b) {
			t.Errorf("%d: decoded %d, %d bytes", v, got, n)
		}
		for cut := range b {
			if _, n := Uvarint(b[:cut]); n != 0 {
				t.Errorf("%d cut to %d bytes: n %d", v, cut, n)
			}
		}
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"no last byte", []byte{0x80}, ErrShort},
		{"zero in two bytes", []byte{0x80, 0}, ErrNotMinimal},
		{"one in three bytes", []byte{0x81, 0x80, 0}, ErrNotMinimal},
		{"65 bits", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, ErrOverflow},
		{"eleven bytes", bytes.Repeat([]byte{0x80}, 11), ErrOverflow},
		{"a zero tenth byte", []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}, ErrNotMinimal},
	} {
		if _, n := Uvarint(c.in); !errors.Is(UvarintError(n), c.want) {
			t.Errorf("%s: %v, want %v", c.name, UvarintError(n), c.want)
		}
	}
}

func TestReaderKeepsTheFirstFailure(t *testing.T) {
	r := NewReader([]byte{5, 'a', 'b'})
	if b := r.Bytes(); b != nil || r.Err() != ErrShort {
		t.Fatalf("got %q, %v", b, r.Err())
	}
	r.Fail(ErrOverflow)
	if r.Uvarint() != 0 || r.Byte() != 0 || r.Uint64() != 0 || r.End() != ErrShort || r.Offset() != 1 {
		t.Fatalf("a failed reader read on: %+v", r)
	}
	r = NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2})
	if n := r.Count(1); n != 0 || r.Err() != ErrShort || r.Offset() != 0 {
		t.Fatalf("count %d, %v at %d", n, r.Err(), r.Offset())
	}
	r = NewReader([]byte{1, 2, 3, 4, 9, 0, 0, 0, 0, 0, 0, 0, 2, 'h', 'i', 7})
	if v := r.Uint32(); v != 0x04030201 {
		t.Fatalf("uint32 %x", v)
	}
	if v := r.Uint64(); v != 9 {
		t.Fatalf("uint64 %d", v)
	}
	if s := r.Bytes(); string(s) != "hi" || cap(s) != 2 {
		t.Fatalf("bytes %q, cap %d", s, cap(s))
	}
	if r.End() != ErrTrailing {
		t.Fatalf("end: %v", r.Err())
	}
}

func TestAllZero(t *testing.T) {
	b := make([]byte, 100)
	for n := range b {
		if !AllZero(b[:n]) {
			t.Fatalf("%d zeros are not zero", n)
		}
		b[n] = 1
		if AllZero(b) {
			t.Fatalf("a one at %d was missed", n)
		}
		b[n] = 0
	}
}

func TestCRCIsCastagnoli(t *testing.T) {
	// The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
	if got := CRC([]byte("123456789")); got != 0xe3069283 {
		t.Fatalf("%08x", got)
	}
	if UpdateCRC(CRC([]byte("1234")), []byte("56789")) != 0xe3069283 {
		t.Fatal("in two steps")
	}
}

func FuzzUvarint(f *testing.F) {
	f.Add([]byte{0x80, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, n := Uvarint(b)
		if n > 0 && !bytes.Equal(AppendUvarint(nil, v), b[:n]) {
			t.Fatalf("%x is a second spelling of %d", b[:n], v)
		}
	})
}
