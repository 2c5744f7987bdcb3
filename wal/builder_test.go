package wal

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// built is a log of frames of two puts each, the second of a value that lies apart, with the log time of the frame's number.
type built struct {
	*Builder
	time int64
	next event.LSN
}

func build(t *testing.T, fs vfs.FS) (*built, error) {
	t.Helper()
	if err := fs.MkdirAll("/wal"); err != nil {
		return nil, err
	}
	b := &built{next: 1}
	var err error
	b.Builder, err = NewBuilder(BuilderOptions{FS: fs, Dir: "/wal", Clock: clock.NewManual(time.Unix(0, 0)), LogID: [16]byte{1}, Timeline: [16]byte{2},
		FileBytes: 32 << 10, Time: func() int64 { return b.time },
		Dictionary: func(event.LSN) []byte {
			return event.AppendDictionary(nil, &event.Dictionary{NextSession: 1, NextDataset: 2})
		}})
	return b, err
}

func (b *built) frame() error {
	b.time++
	value := make([]byte, 5000)
	pos, crc, err := b.Data(value)
	if err != nil {
		return err
	}
	n := uint32(len(value))
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: int64(n), Pieces: []event.Piece{{File: pos.File, Offset: uint64(pos.Offset),
		StoredLen: n, RawLen: n, CRC: crc}}})
	buf := make([]byte, FrameHeaderSize)
	buf = event.AppendWire(buf, event.OpPut, event.FlagMore, 1, 0, event.AppendPayload(nil, 0, []byte("small"), []byte("value"), nil))
	buf = event.AppendWire(buf, event.OpPut, event.FlagValueRef, 1, 0, event.AppendPayload(nil, 0, []byte("large"), ref, nil))
	f := Frame{Kind: KindCommit, BaseLSN: b.next, BaseTime: b.time, WallTime: b.time, Count: 2}
	b.next += 2
	return b.Commit(&f, buf)
}

// read returns the LSN that a log goes on with, having checked all of it, and whether it was closed.
func read(t *testing.T, fs vfs.FS) (event.LSN, bool) {
	t.Helper()
	r, err := Verify(t.Context(), fs, "/wal", nil)
	if err != nil || len(r.Defects) > 0 {
		t.Fatal(err, errors.Join(r.Defects...))
	}
	s, err := NewScanner(fs, "/wal", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		f, err := s.Next()
		if err == io.EOF {
			return s.Tail().NextLSN, s.Tail().Clean
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == KindCommit && f.BaseTime != int64(f.BaseLSN+1)/2 {
			t.Errorf("the frame of LSN %d has the time %d", f.BaseLSN, f.BaseTime)
		}
	}
}

func TestBuilder(t *testing.T) {
	fs := vfs.NewMem()
	b, err := build(t, fs)
	for range 30 {
		err = errors.Join(err, b.frame())
	}
	if err = errors.Join(err, b.Close(true)); err != nil {
		t.Fatal(err)
	}
	if next, clean := read(t, fs); next != 61 || !clean {
		t.Errorf("the log goes on with LSN %d, closed %t", next, clean)
	}
	if files, err := ListFiles(fs, "/wal"); err != nil || len(files) < 4 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// At any moment what was synced is a log, which knows how far it is durable.
func TestBuilderCutOff(t *testing.T) {
	for frames := range 12 {
		t.Run(fmt.Sprint(frames, " frames"), func(t *testing.T) {
			fs := vfs.NewCrash(uint64(frames) + 1)
			b, err := build(t, fs)
			err = errors.Join(err, fs.SyncDir("/"))
			for range frames {
				err = errors.Join(err, b.frame())
			}
			err = errors.Join(err, b.Sync())
			for range 3 {
				err = errors.Join(err, b.frame())
			}
			if err != nil {
				t.Fatal(err)
			}
			if next, _ := read(t, fs.PowerLoss(vfs.CrashOptions{Seed: uint64(frames), Garbage: frames%2 == 0})); next < event.LSN(2*frames+1) || next > event.LSN(2*frames+7) {
				t.Errorf("the log goes on with LSN %d, %d were synced", next, 2*frames)
			}
		})
	}
}

// A full disk ends it: nobody is there who could make room.
func TestBuilderFullDisk(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	b, err := build(t, fs)
	if err = errors.Join(err, b.frame()); err != nil {
		t.Fatal(err)
	}
	fs.SetQuota(64 << 10)
	for err == nil {
		err = b.frame()
	}
	if !vfs.IsNoSpace(err) || b.next > 40 {
		t.Errorf("at LSN %d: %v", b.next, err)
	}
	if err := b.Close(true); !vfs.IsNoSpace(err) {
		t.Errorf("closed as whole: %v", err)
	}
}
