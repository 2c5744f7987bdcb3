package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/formattest"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// known fails the test if a decoder's error is neither corruption within n bytes nor a newer version.
var known = formattest.Known(event.ErrUnsupported)

// fixCRC gives a block with a CRC at offset 8 the right one, so that a fuzzer gets behind it.
func fixCRC(b []byte, size int) {
	if len(b) >= size {
		binary.LittleEndian.PutUint32(b[8:], coding.CRC(b[12:size]))
	}
}

func FuzzHeader(f *testing.F) {
	h := Header{Seq: 2, PrevSeq: 1, PrevEnd: 4168, PrevEnding: EndingSealed, HashID: HashSHA256, FirstLSN: 1}
	b := h.Encode()
	f.Add(b[:headerUsed], true)
	f.Add(b[:headerUsed], false)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if len(b) <= headerUsed { // keeps inputs short
			b = append(bytes.Clone(b), make([]byte, HeaderSize-len(b))...)
		}
		if fix {
			fixCRC(b, HeaderSize)
		}
		h, err := ParseHeader(b)
		if err != nil {
			known(t, err, len(b))
		} else if again := h.Encode(); !bytes.Equal(again[:], b[:HeaderSize]) {
			t.Fatalf("%x is a second spelling of %+v", b[:headerUsed], h)
		}
	})
}

func FuzzClean(f *testing.F) {
	c := Clean{Seq: 1, End: 4168, Chain: 7, NextLSN: 9, LastTime: 11}
	b := c.Encode()
	f.Add(b[:], true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			fixCRC(b, cleanSize)
		}
		c, err := ParseClean(b)
		if err != nil {
			known(t, err, len(b))
		} else if again := c.Encode(); !bytes.Equal(again[:], b) {
			t.Fatalf("%x is a second spelling of %+v", b, c)
		}
	})
}

func FuzzSpill(f *testing.F) {
	var s Spill
	s.Add(Position{File: 1, Offset: 4168}, 100, 7)
	s.Add(Position{File: 2, Offset: 5000}, 1<<20, 9)
	s.NotApplied = []uint64{0, 1, 5}
	f.Add(s.Append(nil), uint32(20))
	f.Fuzz(func(t *testing.T, b []byte, count uint32) {
		s, err := ParseSpill(b, count)
		if err != nil {
			known(t, err, len(b))
			return
		}
		for _, i := range s.NotApplied {
			if i >= uint64(count) {
				t.Fatalf("event %d of %d", i, count)
			}
		}
		if again := s.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
	})
}

// frameFile is a file in memory that holds b from off on.
type frameFile struct {
	off int64
	b   []byte
}

func (f frameFile) ReadAt(p []byte, off int64) (int, error) {
	if off < f.off || off > f.off+int64(len(f.b)) {
		return 0, io.EOF
	}
	n := copy(p, f.b[off-f.off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func FuzzFrame(f *testing.F) {
	head := Header{Seq: 3, Salt: [32]byte{1, 2, 3}}
	add := func(fr Frame, body []byte) {
		b := append(make([]byte, FrameHeaderSize), body...)
		SealFrame(b, &fr, len(body), BodyCRC(body), &head.Salt, head.Seq, HeaderSize)
		f.Add(b, true)
		f.Add(b, false)
	}
	add(Frame{Kind: KindCommit, Count: 1, BaseLSN: 5, DurableLSN: 4}, put("k", "v"))
	add(Frame{Kind: KindData, BaseLSN: 5, Flags: FrameRedacted, OrigCRC: 9}, []byte("data"))
	add(Frame{Kind: KindWatermark, BaseLSN: 5, DurableLSN: 4}, nil)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		b = bytes.Clone(b)
		for len(b)%frameAlign != 0 {
			b = append(b, 0)
		}
		if fix && len(b) >= FrameHeaderSize {
			if n, ok := bodyLength(b); ok && n <= len(b)-FrameHeaderSize {
				whole := b[:FrameHeaderSize+n]
				crc := frameCRC(coding.CRC(whole[FrameHeaderSize:]), whole, &head.Salt, head.Seq, HeaderSize)
				binary.LittleEndian.PutUint32(b, crc)
			}
		}
		fr, err := ReadFrameAt(frameFile{HeaderSize, b}, &head, "wal/x.log", HeaderSize)
		if err != nil {
			known(t, err, HeaderSize+len(b))
			return
		}
		again := make([]byte, fr.Size())
		copy(again[FrameHeaderSize:], fr.Body)
		SealFrame(again, fr, len(fr.Body), BodyCRC(fr.Body), &head.Salt, head.Seq, HeaderSize)
		if !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
		if fr.Kind == KindCommit && fr.Flags&FrameSpilled == 0 {
			for _, err := range fr.Events() {
				if err != nil {
					known(t, err, HeaderSize+len(b))
				}
			}
		}
	})
}

// FuzzScanner reads files whose frames are the fuzzer's. With fix, what looks like a frame gets the CRC, chain and LSN that
// it should have.
func FuzzScanner(f *testing.F) {
	add := func(build func(*builder)) {
		b := newBuilder(vfs.NewMem(), "db/wal")
		b.start(EndingNone)
		n := len(b.file)
		build(b)
		f.Add(b.file[n:], true, false)
		f.Add(b.file[n:], false, true)
	}
	add(func(b *builder) { b.puts(2); b.watermark(); b.puts(1) })
	add(func(b *builder) { b.data([]byte("data")); b.puts(1); b.file = append(b.file, make([]byte, 100)...) })
	f.Fuzz(func(t *testing.T, tail []byte, fix, clean bool) {
		fsys := vfs.NewMem()
		b := newBuilder(fsys, "db/wal")
		b.start(EndingNone)
		at := len(b.file)
		b.file = append(b.file, tail...)
		if fix {
			b.fix(at)
		}
		if clean {
			b.end = (len(b.file) + 7) &^ 7
			b.clean()
		} else {
			b.store()
		}
		for _, o := range []ScanOptions{{}, {ReadOnly: true}} {
			s, err := NewScanner(fsys, "db/wal", o)
			if err != nil {
				t.Fatal(err)
			}
			end := int64(HeaderSize)
			for {
				fr, err := s.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					known(t, err, len(b.file))
					break
				}
				if fr.Offset != end {
					t.Fatalf("frame at %d, want %d", fr.Offset, end)
				}
				end += fr.Size()
			}
			if got := s.Tail().End; got != end {
				t.Fatalf("tail at %d, want %d", got, end)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Verify(context.Background(), fsys, "db/wal", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range r.Defects {
			known(t, err, len(b.file))
		}
	})
}

// fix seals what looks like frames from offset at on.
func (b *builder) fix(at int) {
	le := binary.LittleEndian
	for at+FrameHeaderSize <= len(b.file) {
		h := b.file[at:]
		n, ok := bodyLength(h)
		if !ok || FrameSize(n) > len(h) {
			return
		}
		le.PutUint32(h[48:], b.chain)
		if Kind(h[8]) == KindCommit {
			le.PutUint64(h[16:], uint64(b.next))
			b.next += event.LSN(le.Uint32(h[12:]))
		}
		crc := frameCRC(coding.CRC(h[FrameHeaderSize:FrameHeaderSize+n]), h, &b.head.Salt, b.head.Seq, int64(at))
		le.PutUint32(h, crc)
		b.chain = crc
		at += FrameSize(n)
	}
}
