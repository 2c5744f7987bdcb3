package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// CopyCut copies a log file as if the log had ended with an LSN, which is the last of a batch in it, or follows on the file before:
// then only its header and dictionary are copied. The name is not taken; the copy is synced, its directory is the caller's. Frames
// stay what they are, in the same places. If the last one holds later events too, a frame with the same header and the events up to
// the LSN takes its place. step is as in vfs.CopyFile.
//
// It returns where a log ends that has the copy as its last file. A batch that goes on behind the LSN is an error.
func CopyCut(from vfs.FS, dir string, info FileInfo, lsn event.LSN, to vfs.FS, name string, step func(b []byte) error) (Tail, error) {
	t, last, err := findCut(from, dir, info, lsn)
	if err != nil {
		return Tail{}, err
	}
	if last == nil {
		_, err := vfs.CopyFile(from, path.Join(dir, info.Name), to, name, t.End, step)
		return t, err
	}
	whole := t.End
	t.End, t.Chain = whole+int64(len(last)), binary.LittleEndian.Uint32(last)
	if _, err := vfs.CopyFile(from, path.Join(dir, info.Name), to, name, whole, step); err != nil {
		return Tail{}, err
	}
	f, err := to.OpenRW(name)
	if err != nil {
		return Tail{}, err
	}
	_, err = f.WriteAt(last, whole)
	if err == nil {
		err = f.Sync()
	}
	return t, errors.Join(err, f.Close())
}

// findCut finds where the frames end that hold events up to an LSN alone, and makes the frame that follows on them, nil if none
// does.
func findCut(fsys vfs.FS, dir string, info FileInfo, lsn event.LSN) (t Tail, last []byte, err error) {
	s, err := NewScanner(fsys, dir, ScanOptions{ReadOnly: true, FromFile: info.Seq, Only: true})
	if err != nil {
		return Tail{}, nil, err
	}
	defer s.Close() // only read from
	t = Tail{File: info.Seq, FirstLSN: info.FirstLSN, NextLSN: lsn + 1}
	for t.End == 0 || s.Tail().NextLSN <= lsn {
		f, err := s.Next()
		if err == io.EOF {
			err = fmt.Errorf("%s ends before LSN %d", s.name, lsn)
		}
		if err != nil {
			return Tail{}, nil, err
		}
		switch {
		case f.Kind != KindCommit && f.Kind != KindDictionary:
			continue // it goes with what follows
		case f.Kind == KindCommit && s.Tail().NextLSN-1 > lsn:
			last, t.LastTime, err = f.upTo(lsn, &s.head)
			t.End = f.Offset
			return t, last, err
		}
		if t.LastTime, err = f.LastTime(); err != nil {
			return Tail{}, nil, err
		}
		t.End, t.Chain = f.Offset+f.Size(), f.OriginalCRC()
	}
	return t, nil, nil
}

// LastTime is the log time of the last event in a frame.
func (f *Frame) LastTime() (int64, error) {
	last := f.BaseTime
	if f.Kind == KindCommit && f.Flags&FrameSpilled == 0 {
		for e, err := range f.Events() {
			if err != nil {
				return 0, err
			}
			last = e.Time
		}
	}
	return last, nil
}

// upTo makes a frame of the first events of a frame, to stand in its place.
func (f *Frame) upTo(lsn event.LSN, head *Header) (b []byte, last int64, err error) {
	middle := fmt.Errorf("%s at %d: LSN %d lies in a batch that goes on: %w", f.Name, f.Offset, lsn, ErrMidBatch)
	if f.Flags&^FrameRedacted != 0 {
		return nil, 0, middle
	}
	rest, more := f.Body, false
	for range lsn - f.BaseLSN + 1 {
		e, _, n, err := event.ParseWire(rest)
		if err != nil {
			return nil, 0, corruption.Locate(err, f.Name, f.Offset)
		}
		rest, more, last = rest[n:], e.Flags&event.FlagMore != 0, f.BaseTime+e.Time
	}
	if more {
		return nil, 0, middle
	}
	body := f.Body[:len(f.Body)-len(rest)]
	cut := *f
	cut.Count, cut.Flags, cut.OrigCRC = uint32(lsn-f.BaseLSN+1), 0, 0 // it is a frame of its own
	b = make([]byte, FrameSize(len(body)))
	copy(b[FrameHeaderSize:], body)
	SealFrame(b, &cut, len(body), BodyCRC(body), &head.Salt, head.Seq, f.Offset)
	return b, last, nil
}

// ErrMidBatch is matched when a log would be cut within a batch.
var ErrMidBatch = errors.New("a batch is there whole or not at all")
