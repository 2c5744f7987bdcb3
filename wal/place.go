package wal

import (
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// ReadHeader reads the header of a log file in dir, whose sequence and first LSN must be those of its name.
func ReadHeader(fsys vfs.FS, dir string, info FileInfo) (Header, error) {
	file, head, err := openHeader(fsys, dir, info)
	if err != nil {
		return Header{}, err
	}
	return head, file.Close()
}

// Places visits the events of a commit frame, spilled or not, in LSN order, with LSN, log time and where each lies: at is
// where its wire form begins, which for a spilled batch may be in an earlier file. piece reads one piece of a spilled
// batch, see SpilledEvents. Event and wire are valid during the call. An error of visit ends it.
func (f *Frame) Places(piece func(event.Piece) ([]byte, error),
	visit func(e *event.Event, at Position, wire []byte) error) error {
	if f.Flags&FrameSpilled != 0 {
		return f.spilledPlaces(piece, visit)
	}
	return f.each(func(e *event.Event, at int64, wire []byte) error {
		return visit(e, Position{File: f.File, Offset: at}, wire)
	})
}

func (f *Frame) spilledPlaces(piece func(event.Piece) ([]byte, error),
	visit func(e *event.Event, at Position, wire []byte) error) error {
	var now event.Piece // the one whose events come
	var body []byte
	at := 0
	for e, err := range f.SpilledEvents(func(p event.Piece) (b []byte, err error) {
		b, err = piece(p)
		now, body, at = p, b, 0
		return b, err
	}) {
		if err != nil {
			return err
		}
		_, _, n, err := event.ParseWire(body[at:])
		if err != nil {
			return f.inPiece(now, err)
		}
		pos := Position{File: now.File, Offset: int64(now.Offset) + FrameHeaderSize + int64(at)}
		if err := visit(e, pos, body[at:][:n]); err != nil {
			return err
		}
		at += n
	}
	return nil
}
