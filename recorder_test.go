package dyngo

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/wal"
)

// recorderFrame is a frame of one event: a value, or a reference to a piece at an offset.
func recorderFrame(lsn LSN, value []byte, piece uint64) *wal.Frame {
	var flags event.Flags
	if piece > 0 {
		flags = event.FlagValueRef
		value = event.AppendValueRef(nil, event.ValueRef{RawSize: 1, Pieces: []event.Piece{{File: 1, Offset: piece, StoredLen: 1, RawLen: 1}}})
	}
	payload := event.AppendPayload(nil, 0, []byte("k"), value, nil)
	return &wal.Frame{Kind: wal.KindCommit, Count: 1, BaseLSN: lsn, Name: "wal/test.log",
		Body: event.AppendWire(nil, event.OpPut, flags, 1, 0, payload)}
}

// Frames of all sizes are handed on in the order in which they came, with their records, and in bounded memory.
func TestRecorderKeepsTheOrder(t *testing.T) {
	src := leafSource(nil, nil)
	var next LSN = 1
	var want []integrity.Hash
	r := newRecorder(2, src, func(f *recorded) error {
		if f.err != nil || f.BaseLSN != next || f.record.Hash() != want[next-1] {
			t.Fatalf("LSN %d, want %d, with its record: %v", f.BaseLSN, next, f.err)
		}
		next++
		return nil
	})
	defer r.close()
	const frames = 300
	for lsn := LSN(1); lsn <= frames; lsn++ {
		size := 10
		if lsn%3 == 0 {
			size = recordingBytes / 2
		}
		if lsn > frames-8 {
			size = maxAheadBytes / 4
		}
		f := recorderFrame(lsn, bytes.Repeat([]byte{byte(lsn)}, size), 0)
		record, err := src.RecordOf(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, record.Hash())
		err = r.add(f)
		clear(f.Body) // it is the caller's
		if err != nil {
			t.Fatal(err)
		}
		if len(r.ahead) > cap(r.work) || r.bytes > maxAheadBytes {
			t.Fatalf("%d recordings of %d bytes wait", len(r.ahead), r.bytes)
		}
	}
	if err := r.finish(); err != nil || next != frames+1 {
		t.Fatalf("%v, LSN %d is next", err, next)
	}
}

// The first error in the order of the frames counts, though the second frame fails long before the first.
func TestRecorderFailsInOrder(t *testing.T) {
	errs := []error{errors.New("first"), errors.New("second")}
	second := make(chan struct{})
	src := leafSource(nil, nil)
	src.Piece = func(p event.Piece) ([]byte, error) {
		if p.Offset == 1<<10 {
			<-second
			return nil, errs[0]
		}
		close(second)
		return nil, errs[1]
	}
	var got []LSN
	r := newRecorder(2, src, func(f *recorded) error {
		got = append(got, f.BaseLSN)
		return f.err
	})
	defer r.close()
	r.next.add(recorderFrame(1, []byte("v"), 0))
	r.next.add(recorderFrame(2, nil, 1<<10))
	r.give()
	r.next.add(recorderFrame(3, nil, 2<<10))
	if err := r.finish(); !errors.Is(err, errs[0]) || !slices.Equal(got, []LSN{1, 2}) {
		t.Fatalf("%v after LSN %v", err, got)
	}
	if err := r.finish(); !errors.Is(err, errs[0]) {
		t.Fatalf("then %v", err)
	}
}
