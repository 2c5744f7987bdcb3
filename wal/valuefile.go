package wal

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const (
	valueMagic      = "DYNGOVAL"
	valueHeaderSize = 64
	valueFooterSize = 32
	minMovedBytes   = 1 + 1 + 1 + 4 // of a piece in the index
	maxMoved        = 1<<61 - 1     // sequence and offset
)

// ValueHead is what a value file says of itself.
type ValueHead struct {
	LogID    [16]byte
	Num      uint64 // of the file, from 1
	Incompat uint64 // feature bits that a reader must know
	Created  int64  // wall time, Unix nanoseconds
}

func (h *ValueHead) encode() (b [valueHeaderSize]byte) {
	le := binary.LittleEndian
	copy(b[0:8], valueMagic)
	le.PutUint32(b[12:], version)
	copy(b[16:32], h.LogID[:])
	le.PutUint64(b[32:], h.Num)
	le.PutUint64(b[40:], h.Incompat)
	le.PutUint64(b[48:], uint64(h.Created))
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

func parseValueHead(b []byte) (ValueHead, error) {
	if err := checkBlock(b, valueHeaderSize, valueMagic, "value file"); err != nil {
		return ValueHead{}, err
	}
	le := binary.LittleEndian
	h := ValueHead{Num: le.Uint64(b[32:]), Incompat: le.Uint64(b[40:]), Created: int64(le.Uint64(b[48:]))}
	copy(h.LogID[:], b[16:])
	switch {
	case h.Incompat != 0:
		return h, event.Unsupported("value file features %#x", h.Incompat)
	case h.Num == 0:
		return h, corruption.New(32, "value file header: number 0")
	case !coding.AllZero(b[56:valueHeaderSize]):
		return h, corruption.New(56, "value file header: reserved bytes are not zero")
	}
	return h, nil
}

// moved is a piece that a value file holds.
type moved struct {
	from Position // of its data frame in the log
	at   int64    // where its stored bytes lie now
	n    uint32
	crc  uint32 // of them
}

func compareMoved(a, b Position) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset))
}

// ValueFile is an open value file. Safe for concurrent use.
type ValueFile struct {
	// LogID is that of the log whose pieces it holds; From and To are the first and the last log file of them.
	LogID    [16]byte
	From, To uint64
	Size     int64 // bytes

	file   vfs.File
	name   string
	whole  *Header // of the log file that it is, nil = it holds the pieces:
	pieces []moved // by position
}

// OpenValueFile opens a value file. name is relative to the database directory, for messages. The index is checked, pieces
// are when they are read.
func OpenValueFile(fsys vfs.FS, full, name string) (*ValueFile, error) {
	file, err := fsys.Open(full)
	if err != nil {
		return nil, fmt.Errorf("open value file: %w", err)
	}
	v := &ValueFile{file: file, name: name}
	if err := v.load(); err != nil {
		file.Close() // only read from
		return nil, locate(err, name, 0)
	}
	return v, nil
}

func (v *ValueFile) load() (err error) {
	if v.Size, err = v.file.Size(); err != nil {
		return err
	}
	b := make([]byte, min(v.Size, HeaderSize))
	if _, err := v.read(b, 0); err != nil {
		return err
	}
	if len(b) >= 8 && string(b[:8]) == logMagic {
		h, err := ParseHeader(b)
		if err != nil {
			return err
		}
		v.whole, v.LogID, v.From, v.To = &h, h.LogID, h.Seq, h.Seq
		return nil
	}
	h, err := parseValueHead(b)
	if err != nil {
		return err
	}
	if v.LogID = h.LogID; v.Size < valueHeaderSize+valueFooterSize {
		return corruption.New(v.Size, "value file: %d bytes, header and footer have %d", v.Size, valueHeaderSize+valueFooterSize)
	}
	return v.loadIndex()
}

// read reads all of b.
func (v *ValueFile) read(b []byte, off int64) (int, error) {
	n, err := readFull(v.file, b, off)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return n, corruption.New(off, "value file: it ends after %d of %d bytes", n, len(b))
	}
	return n, err
}

func (v *ValueFile) loadIndex() error {
	le := binary.LittleEndian
	var foot [valueFooterSize]byte
	end := v.Size - valueFooterSize
	if _, err := v.read(foot[:], end); err != nil {
		return err
	}
	start, count := int64(le.Uint64(foot[0:])), le.Uint64(foot[8:])
	switch crc := coding.CRC(foot[:20]); {
	case string(foot[24:]) != valueMagic:
		return corruption.New(end+24, "value file footer: magic %q", foot[24:])
	case crc != le.Uint32(foot[20:]):
		return corruption.New(end+20, "value file footer: crc %08x, want %08x", crc, le.Uint32(foot[20:]))
	case start < valueHeaderSize || start > end:
		return corruption.New(end, "value file footer: the index begins at %d of %d bytes", start, v.Size)
	case count == 0 || count > uint64(end-start)/minMovedBytes:
		return corruption.New(end+8, "value file footer: %d pieces in an index of %d bytes", count, end-start)
	}
	b := make([]byte, end-start)
	if _, err := v.read(b, start); err != nil {
		return err
	}
	if crc := coding.CRC(b); crc != le.Uint32(foot[16:]) {
		return corruption.New(start, "value file index: crc %08x, want %08x", crc, le.Uint32(foot[16:]))
	}
	pieces, err := parseMoved(b, count, start)
	if err != nil {
		return corruption.Shift(err, int(start))
	}
	v.pieces, v.From, v.To = pieces, pieces[0].from.File, pieces[len(pieces)-1].from.File
	return nil
}

// parseMoved decodes an index of count pieces, which end at an offset of the file.
func parseMoved(b []byte, count uint64, end int64) ([]moved, error) {
	r := coding.NewReader(b)
	pieces := make([]moved, 0, count)
	last, at := moved{}, int64(valueHeaderSize)
	for range count {
		where := r.Offset()
		seq, off, n := r.Uvarint(), r.Uvarint(), r.Uvarint()
		m := moved{at: at, n: uint32(n), crc: r.Uint32()}
		if r.Err() != nil {
			break
		}
		if max(seq, off) > maxMoved {
			return nil, corruption.New(int64(where), "value file index: piece %d behind, in the %dth log file from there", off, seq)
		}
		m.from = Position{File: last.from.File + seq, Offset: int64(off)}
		if seq == 0 {
			m.from.Offset += last.from.Offset
		}
		switch {
		case m.from.File > maxMoved || m.from.Offset > maxMoved || m.from.Offset < HeaderSize ||
			m.from.Offset%frameAlign != 0 || !last.from.Before(m.from) || m.from.File == 0:
			return nil, corruption.New(int64(where), "value file index: piece at %d of log file %d after %d of %d", m.from.Offset,
				m.from.File, last.from.Offset, last.from.File)
		case n == 0 || n > MaxDataBytes || at+int64(n) > end:
			return nil, corruption.New(int64(where), "value file index: piece of %d bytes at %d, pieces end at %d", n, at, end)
		}
		pieces = append(pieces, m)
		last, at = m, at+int64(n)
	}
	if r.End() != nil {
		return nil, &corruption.Error{Offset: int64(r.Offset()), What: "value file index", Err: r.Err()}
	}
	if at != end {
		return nil, corruption.New(0, "value file index: pieces end at %d, want %d", at, end)
	}
	return pieces, nil
}

// place is where the n stored bytes of the piece lie that was at a position of the log. ok is false if it is not there.
func (v *ValueFile) place(pos Position, n int) (at int64, ok bool) {
	if v.whole != nil {
		at = pos.Offset + FrameHeaderSize
		return at, pos.File == v.whole.Seq && pos.Offset >= HeaderSize && at <= v.Size-int64(n)
	}
	i, ok := slices.BinarySearchFunc(v.pieces, pos, func(m moved, p Position) int { return compareMoved(m.from, p) })
	if !ok || int(v.pieces[i].n) != n {
		return 0, false
	}
	return v.pieces[i].at, true
}

// Verify reads every byte and checks it. progress, if not nil, is called with the bytes done.
func (v *ValueFile) Verify(ctx context.Context, progress func(done int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	if v.whole != nil {
		return v.verifyFrames(ctx, progress)
	}
	b := make([]byte, 0, MaxDataBytes)
	for _, m := range v.pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		b = b[:m.n]
		if _, err := v.read(b, m.at); err != nil {
			return locate(err, v.name, 0)
		}
		if crc := coding.CRC(b); crc != m.crc {
			return corruption.At(v.name, m.at, "piece of %d bytes: crc %08x, want %08x", m.n, crc, m.crc)
		}
		progress(m.at)
	}
	return nil
}

func (v *ValueFile) verifyFrames(ctx context.Context, progress func(done int64)) error {
	for at := int64(HeaderSize); at < v.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := ReadFrameAt(v.file, v.whole, v.name, at)
		if err != nil {
			return err
		}
		at += f.Size()
		progress(at)
	}
	return nil
}

// Close closes the file.
func (v *ValueFile) Close() error { return v.file.Close() }
