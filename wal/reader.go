package wal

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// ReadFrameAt reads the frame at offset off of a file whose header is head and whose name, for errors, is name. CRC and
// padding are checked, and what the frame says of itself; not how it follows the one before. The body is the caller's.
func ReadFrameAt(file io.ReaderAt, head *Header, name string, off int64) (*Frame, error) {
	var h [FrameHeaderSize]byte
	if _, err := readFull(file, h[:], off); err != nil {
		return nil, readError(err, name, off)
	}
	n, ok := bodyLength(h[:])
	if !ok {
		return nil, corruption.At(name, off, "frame of %d bytes", n)
	}
	if n > readAheadBytes { // before so much is allocated, the file must be long enough
		var last [1]byte
		if _, err := readFull(file, last[:], off+int64(FrameSize(n))-1); err != nil {
			return nil, readError(err, name, off)
		}
	}
	b := make([]byte, FrameSize(n))
	if _, err := readFull(file, b, off); err != nil {
		return nil, readError(err, name, off)
	}
	whole := b[:FrameHeaderSize+n]
	if !crcMatches(whole, &head.Salt, head.Seq, off) {
		return nil, corruption.At(name, off, "frame: crc does not match")
	}
	f := &Frame{File: head.Seq, Offset: off, Name: name}
	if err := f.decode(whole); err != nil {
		return nil, locate(err, name, off)
	}
	if !coding.AllZero(b[len(whole):]) {
		return nil, corruption.At(name, off+int64(len(whole)), "padding of the frame is not zero")
	}
	return f, nil
}

// ReadPiece reads the piece p from the file that p names, checks it in full and returns its stored bytes, which are the
// caller's.
func ReadPiece(file io.ReaderAt, head *Header, name string, p event.Piece) ([]byte, error) {
	f, err := ReadFrameAt(file, head, name, int64(p.Offset))
	if err != nil {
		return nil, err
	}
	return f.Body, checkPiece(f, p)
}

// readPiece is ReadPiece for a piece in any file.
func (f *Files) readPiece(p event.Piece) ([]byte, error) {
	of, err := f.get(p.File)
	if err != nil {
		return nil, err
	}
	defer f.put(of)
	return ReadPiece(of, &of.head, of.name, p)
}

// checkPiece checks that the frame is what p refers to.
func checkPiece(f *Frame, p event.Piece) error {
	if f.Kind != KindData {
		return corruption.At(f.Name, f.Offset, "%s frame where a piece should be", f.Kind)
	}
	if crc := BodyCRC(f.Body); len(f.Body) != int(p.StoredLen) || crc != p.CRC && f.Flags&FrameRedacted == 0 {
		return corruption.At(f.Name, f.Offset, "piece of %d bytes, crc %08x, want %d bytes, crc %08x", len(f.Body), crc,
			p.StoredLen, p.CRC)
	}
	return nil
}

// readError is corruption if the file ends too early; what the file system says stays what it is.
func readError(err error, name string, off int64) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return corruption.At(name, off, "frame: the file ends in it")
	}
	return fmt.Errorf("%s: %w", name, err)
}

// CheckPiece returns corruption if p does not lie before the frame: a commit frame only refers backwards.
func (f *Frame) CheckPiece(p event.Piece) error {
	if at := (Position{File: p.File, Offset: int64(p.Offset)}); !at.Before(f.Position()) || at.Offset < HeaderSize {
		return corruption.At(f.Name, f.Offset, "frame: refers to %d of file %d, which is not before it", p.Offset, p.File)
	}
	return nil
}

// Events yields the events of a commit frame that is not spilled, in LSN order, with LSN and log time. An event is valid
// until the next; it aliases the body. The last pair may be an error, which names file and offset.
func (f *Frame) Events() iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		if f.Kind != KindCommit || f.Flags&FrameSpilled != 0 {
			panic(fmt.Sprintf("dyngo: bug: events of a %s frame, flags %#x", f.Kind, f.Flags))
		}
		err := f.each(func(e *event.Event, _ int64, _ []byte) error {
			if !yield(e, nil) {
				return errDone
			}
			return nil
		})
		if err != nil && err != errDone {
			yield(nil, err)
		}
	}
}

var errDone = errors.New("done")

// each visits the events of a commit frame that is not spilled: at is the offset in the file of the wire form. An error of visit
// ends it.
func (f *Frame) each(visit func(e *event.Event, at int64, wire []byte) error) error {
	var e event.Event
	b := f.Body
	at := func() int64 { return f.Offset + FrameHeaderSize + int64(len(f.Body)-len(b)) }
	for i := range f.Count {
		next, _, n, err := event.ParseWire(b)
		if err == nil && next.Time > math.MaxInt64-max(f.BaseTime, 0) {
			err = corruption.New(0, "event: log time overflows")
		}
		if err != nil {
			return locate(err, f.Name, at())
		}
		e = next
		e.LSN, e.Time = f.BaseLSN+event.LSN(i), f.BaseTime+next.Time
		if err := visit(&e, at(), b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return corruption.At(f.Name, at(), "commit frame: %d bytes after its %d events", len(b), f.Count)
	}
	return nil
}

// SpilledEvents is Events for a spilled commit frame. piece reads one piece of the batch; its result is not used after
// the events in it.
func (f *Frame) SpilledEvents(piece func(event.Piece) ([]byte, error)) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		s, err := ParseSpill(f.Body, f.Count)
		if err != nil {
			yield(nil, locate(err, f.Name, f.Offset+FrameHeaderSize))
			return
		}
		r := spillReader{frame: f, notApplied: s.NotApplied}
		for _, p := range s.Pieces {
			err := f.CheckPiece(p)
			var b []byte
			if err == nil {
				b, err = piece(p)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !r.events(b, p, yield) {
				return
			}
		}
		if r.index != f.Count {
			yield(nil, corruption.At(f.Name, f.Offset, "commit frame: %d events, its pieces hold %d", f.Count, r.index))
		}
	}
}

// spillReader counts the events of a spilled batch across its pieces.
type spillReader struct {
	frame      *Frame
	index      uint32   // of the next event
	notApplied []uint64 // indexes not yet met
}

// events yields the events of one piece, and reports whether to go on.
func (r *spillReader) events(b []byte, p event.Piece, yield func(*event.Event, error) bool) bool {
	f := r.frame
	for rest := b; len(rest) > 0; r.index++ {
		e, _, n, err := event.ParseWire(rest)
		if err == nil {
			err = r.place(&e)
		}
		if err != nil {
			yield(nil, f.inPiece(p, err))
			return false
		}
		if !yield(&e, nil) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

// inPiece adds to an error about an event of a spilled batch which frame and piece it is in.
func (f *Frame) inPiece(p event.Piece, err error) error {
	what := fmt.Sprintf("batch in the data frame at %d of file %d", p.Offset, p.File)
	if errors.Is(err, event.ErrUnsupported) {
		return locate(fmt.Errorf("%s: %w", what, err), f.Name, f.Offset)
	}
	return &corruption.Error{File: f.Name, Offset: f.Offset, What: what, Err: err}
}

// place gives an event of the batch its LSN and time and sets the flag that was decided after it was written.
func (r *spillReader) place(e *event.Event) error {
	f := r.frame
	switch {
	case r.index >= f.Count:
		return corruption.New(0, "more than the batch's %d events", f.Count)
	case e.Time != 0:
		return corruption.New(0, "time delta %d in a spilled batch", e.Time)
	case e.Flags&event.FlagNotApplied != 0:
		return corruption.New(0, "flag not-applied in a spilled batch")
	}
	e.LSN, e.Time = f.BaseLSN+event.LSN(r.index), f.BaseTime
	if len(r.notApplied) > 0 && r.notApplied[0] == uint64(r.index) {
		e.Flags |= event.FlagNotApplied
		r.notApplied = r.notApplied[1:]
	}
	return nil
}
