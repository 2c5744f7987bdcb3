package wal

import (
	"cmp"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Spill is the body of a spilled commit frame: a batch too big for a frame lies in data frames that were written ahead.
// Each piece holds whole events, so that a reader needs memory for one piece only.
type Spill struct {
	Total      uint64        // bytes of the events' wire form, the sum of the pieces' lengths
	Pieces     []event.Piece // in the order of the events; not compressed
	NotApplied []uint64      // indexes, ascending, of the events that lost; the flag in the event itself is clear
}

// Add adds a piece of n bytes with a body CRC, whose data frame lies at pos.
func (s *Spill) Add(pos Position, n int, crc uint32) {
	s.Total += uint64(n)
	s.Pieces = append(s.Pieces, event.Piece{
		File: pos.File, Offset: uint64(pos.Offset), StoredLen: uint32(n), RawLen: uint32(n), CRC: crc,
	})
}

// from is the oldest file that a piece lies in.
func (s *Spill) from() uint64 {
	return slices.MinFunc(s.Pieces, func(a, b event.Piece) int { return cmp.Compare(a.File, b.File) }).File
}

// Append appends the encoding of s.
func (s *Spill) Append(dst []byte) []byte {
	dst = coding.AppendUvarint(dst, s.Total)
	dst = coding.AppendUvarint(dst, uint64(len(s.Pieces)))
	for _, p := range s.Pieces {
		dst = event.AppendPiece(dst, p)
	}
	dst = coding.AppendUvarint(dst, uint64(len(s.NotApplied)))
	next := uint64(0)
	for _, i := range s.NotApplied {
		dst = coding.AppendUvarint(dst, i-next)
		next = i + 1
	}
	return dst
}

// ParseSpill decodes a Spill of a batch of count events, which must be all of b. The error is event.ErrUnsupported or
// corruption with an offset in b.
func ParseSpill(b []byte, count uint32) (Spill, error) {
	r := coding.NewReader(b)
	s := Spill{Total: r.Uvarint()}
	n := r.Count(event.MinPieceBytes)
	s.Pieces = make([]event.Piece, 0, n)
	var sum uint64
	for range n {
		at := r.Offset()
		p, err := event.ReadPiece(&r)
		if err != nil {
			return Spill{}, err
		}
		if p.Codec != event.CodecNone {
			return Spill{}, corruption.New(int64(at), "spilled batch: piece with codec %s", p.Codec)
		}
		sum += uint64(p.RawLen)
		s.Pieces = append(s.Pieces, p)
	}
	m := r.Count(1)
	next := uint64(0)
	for range m {
		at := r.Offset()
		d := r.Uvarint()
		if r.Err() == nil && d >= uint64(count)-next {
			return Spill{}, corruption.New(int64(at), "spilled batch: event %d+%d of %d not applied", next, d, count)
		}
		s.NotApplied = append(s.NotApplied, next+d)
		next += d + 1
	}
	if err := r.End(); err != nil {
		return Spill{}, &corruption.Error{Offset: int64(r.Offset()), What: "spilled batch", Err: err}
	}
	if n == 0 || sum != s.Total || uint64(count) > s.Total/event.MinWireBytes {
		return Spill{}, corruption.New(0, "spilled batch: %d events, %d pieces of %d bytes, %d expected", count, n, sum, s.Total)
	}
	return s, nil
}
