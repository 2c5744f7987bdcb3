package wal

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func TestScanReadsAClosedLog(t *testing.T) {
	fsys := vfs.NewMem()
	b := smallLog(t, fsys)
	s, err := NewScanner(fsys, "db/wal", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var kinds []Kind
	for {
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, f.Kind)
	}
	want := []Kind{3, 1, 2, 4, 3, 1, 1, 4}
	if !slices.Equal(kinds, want) {
		t.Fatalf("got %v, want %v", kinds, want)
	}
	got := s.Tail()
	wantTail := Tail{File: 2, FirstLSN: 4, End: int64(b.end), Chain: b.chain, NextLSN: 6, LastTime: b.time, DurableLSN: 5, Clean: true, Unsure: int64(b.end)}
	if got != wantTail {
		t.Fatalf("got  %+v\nwant %+v", got, wantTail)
	}
}

// TestTheLogTellsHowFarItWasDurable: up to the last frame of which a later one says that its events were, and no further.
func TestTheLogTellsHowFarItWasDurable(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	want := func(what string, unsure int64) {
		t.Helper()
		b.store()
		s, err := NewScanner(fsys, b.dir, ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for err == nil {
			_, err = s.Next()
		}
		if got := s.Tail(); err != io.EOF || got.Unsure != unsure || got.End != int64(b.end) {
			t.Errorf("%s: durable up to %d of %d, want %d; %v", what, got.Unsure, got.End, unsure, err)
		}
	}
	b.start(EndingNone)
	want("a dictionary comes with the file", int64(b.end))
	one := b.puts(2).Offset
	want("one commit", one)
	b.durable = 1
	two := b.puts(1).Offset
	want("the first half of a commit", one)
	b.durable = 2
	piece := int64(b.data([]byte("a piece")).Offset)
	want("a commit, then a piece", two)
	b.durable = 3
	b.puts(1)
	want("what lies before a piece", piece)
	mark := b.watermark().Offset
	want("all but the watermark that says so", mark)
	b.puts(1)
	want("what follows says no more", mark)
	b.durable = 5
	last := b.puts(1).Offset
	want("all but what says so", last)
	b.start(EndingSealed)
	want("all of a file that was sealed", int64(b.end))
}

// TestSearchForEvidenceIsNotQuadratic has a torn value chosen so that each place in it looks like the header of a frame as
// long as the file allows: checking the CRC of each the plain way would read terabytes.
func TestSearchForEvidenceIsNotQuadratic(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	b.puts(3)
	fake := make([]byte, 4<<20)
	for i := 0; i < len(fake); i += 8 {
		n := len(fake) - i - 2*FrameHeaderSize
		if n < 0 {
			break
		}
		// Each word is the length of one header, the kind of the header before and the durable LSN of an earlier one.
		binary.LittleEndian.PutUint32(fake[i:], 1)
		binary.LittleEndian.PutUint32(fake[i+4:], uint32(n)&^0xffff|1)
	}
	b.file = append(append(b.file, "torn header ...."...), fake...)
	b.store()
	s, err := NewScanner(fsys, "db/wal", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for err == nil {
		_, err = s.Next()
	}
	if tail := s.Tail(); err != io.EOF || !tail.Cut || tail.NextLSN != 4 {
		t.Fatalf("%v, %+v", err, tail)
	}
}

func TestScannerGathersLongFrames(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	sizes := []int{1, 100, blockSlack - 1, blockSlack, blockSlack + 1, readAheadBytes - 70, 3 << 20, 5, 9 << 20, 9 << 20, 70_000, 70_000}
	for i, n := range sizes {
		b.commit(put("key", strings.Repeat(string(rune('a'+i)), n)))
	}
	b.clean()
	s, err := NewScanner(fsys, "db/wal", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for {
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != KindCommit {
			continue
		}
		for e, err := range f.Events() {
			if err != nil || len(e.Value) != sizes[i] || strings.Trim(string(e.Value), string(rune('a'+i))) != "" {
				t.Fatalf("event %d: %d bytes, %v", i, len(e.Value), err)
			}
		}
		i++
	}
	if err := s.Close(); err != nil || i != len(sizes) {
		t.Fatalf("%d frames, %v", i, err)
	}
}

// What a scanner reads into is outside of Go's heap, and given back by Close, wherever the scan ends and whatever fails.
func TestScannerGivesMemoryBack(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	for _, n := range []int{1, 70_000, 5, 2 << 20, 70_000} {
		b.commit(put("key", strings.Repeat("v", n)))
	}
	b.start(EndingSealed)
	b.commit(put("key", "value"))
	b.clean()
	before := offheap.InUse()
	for _, frames := range []int{0, 2, 3, 5, 12} {
		for fails := 1; fails < 20; fails++ {
			s, err := NewScanner(&failingFS{FS: fsys, after: fails, err: io.ErrClosedPipe}, "db/wal", ScanOptions{})
			if err != nil {
				continue
			}
			for i := 0; i < frames && err == nil; i++ {
				_, err = s.Next()
			}
			s.Close()
			s.Close()
			if got := offheap.InUse(); got != before {
				t.Fatalf("%d bytes are not given back after %d frames, read %d fails: %v", got-before, frames, fails, err)
			}
		}
	}
}

// TestScannerEndsWhereFilesFail lets each read fail in turn: the scan ends with that error, never with damage.
func TestScannerEndsWhereFilesFail(t *testing.T) {
	mem := vfs.NewMem()
	smallLog(t, mem)
	failure := errors.New("read failed")
	for k := 1; ; k++ {
		fsys := &failingFS{FS: mem, after: k, err: failure}
		s, err := NewScanner(fsys, "db/wal", ScanOptions{})
		if err == nil {
			for err == nil {
				_, err = s.Next()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if fsys.calls.Load() < int64(k) {
			if err != io.EOF || k < 5 {
				t.Fatalf("without a failure after %d reads: %v", k, err)
			}
			return
		}
		if !errors.Is(err, failure) {
			t.Fatalf("read %d: %v", k, err)
		}
	}
}

// failingFS fails one read of a file.
type failingFS struct {
	vfs.FS
	after int
	err   error
	calls atomic.Int64
}

func (f *failingFS) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	return failingFile{file, f}, err
}

type failingFile struct {
	vfs.File
	fs *failingFS
}

func (f failingFile) ReadAt(b []byte, off int64) (int, error) {
	if f.fs.calls.Add(1) == int64(f.fs.after) {
		return 0, f.fs.err
	}
	return f.File.ReadAt(b, off)
}
