package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestVerifyReportsEveryFlippedByte flips each byte of each file of a closed log.
func TestVerifyReportsEveryFlippedByte(t *testing.T) {
	fsys := vfs.NewMem()
	smallLog(t, fsys)
	r, err := Verify(context.Background(), fsys, "db/wal", nil)
	if err != nil || len(r.Defects) > 0 {
		t.Fatalf("before: %v, %v", err, r.Defects)
	}
	if !r.Tail.Clean || r.Events != 5 || r.DataFrames != 1 || r.Unreferenced != 0 || r.Files != 2 || r.FirstLSN != 1 {
		t.Fatalf("before: %+v", r)
	}
	names, err := fsys.List("db/wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		file := path.Join("db/wal", name)
		content, err := fsys.ReadFile(file, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		f, err := fsys.OpenRW(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range content {
			write(t, f, []byte{content[i] ^ 1<<(i%8)}, i)
			r, err := Verify(context.Background(), fsys, "db/wal", nil)
			if err != nil {
				t.Fatal(err)
			}
			var ce *corruption.Error
			if len(r.Defects) == 0 || !errors.As(r.Defects[0], &ce) || ce.File != "wal/"+name || ce.Offset > int64(i) && i > 8 {
				t.Fatalf("%s byte %d: %v", name, i, r.Defects)
			}
			write(t, f, content[i:i+1], i)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, f vfs.File, b []byte, at int) {
	t.Helper()
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyTellsProgress(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	for range 5 {
		b.data(bytes.Repeat([]byte("large"), 150_000))
	}
	b.clean()
	var calls []int64
	total := int64(len(b.file))
	r, err := Verify(context.Background(), fsys, "db/wal", func(done, all int64) {
		if all != total {
			t.Errorf("%d bytes in all, want %d", all, total)
		}
		calls = append(calls, done)
	})
	if err != nil || r.Unreferenced != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	if len(calls) < 3 || calls[len(calls)-1] != total {
		t.Fatalf("called with %v of %d", calls, total)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, fsys, "db/wal", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

// TestVerifyHandsOnCommitFrames has verification hand on the commit frames, all of a sound log, those before the first damage of one
// that is not.
func TestVerifyHandsOnCommitFrames(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	var at []int64
	for range 6 {
		at = append(at, b.puts(2).Offset)
		b.watermark()
	}
	b.clean()
	verify := func() (got []int64, r VerifyReport) {
		t.Helper()
		r, err := VerifyWith(t.Context(), fsys, "db/wal", VerifyOptions{Commit: func(f *Frame) error {
			got = append(got, f.Offset)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return got, r
	}
	if got, r := verify(); !slices.Equal(got, at) || r.Broken || len(r.Defects) > 0 {
		t.Errorf("frames at %v, want %v: %+v", got, at, r)
	}
	failed := errors.New("no more")
	n := 0
	_, err := VerifyWith(t.Context(), fsys, "db/wal", VerifyOptions{Commit: func(*Frame) error {
		if n++; n == 3 {
			return failed
		}
		return nil
	}})
	if !errors.Is(err, failed) || n != 3 {
		t.Errorf("%v after %d frames", err, n)
	}
	name := path.Join("db/wal", FileName(1, 1))
	content := bytes.Clone(b.file)
	content[at[3]+FrameHeaderSize] ^= 1
	overwrite(fsys, name, content)
	if got, r := verify(); !slices.Equal(got, at[:3]) || !r.Broken || len(r.Defects) == 0 || r.Events != 10 {
		t.Errorf("frames at %v, want %v: %+v", got, at[:3], r)
	}
}

// TestVerifyReadsForgottenPiecesAgain refers to a data frame long after it was read.
func TestVerifyReadsForgottenPiecesAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("writes as many data frames as are remembered: run without -short")
	}
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	first := b.data([]byte("first"))
	for range rememberedDataFrames {
		b.data([]byte("x"))
	}
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: 5, Pieces: []event.Piece{first}})
	first.CRC++
	bad := event.AppendValueRef(nil, event.ValueRef{RawSize: 5, Pieces: []event.Piece{first}})
	for i, ref := range [][]byte{ref, bad} {
		key := fmt.Appendf(nil, "key-%d", i)
		b.commit(event.AppendWire(nil, event.OpPut, event.FlagValueRef, 1, 0, event.AppendPayload(nil, 1, key, ref, nil)))
	}
	b.clean()
	r, err := Verify(context.Background(), fsys, "db/wal", nil)
	if err != nil || r.Unreferenced != rememberedDataFrames || len(r.Defects) != 1 {
		t.Fatalf("%d unreferenced, defects %v, %v", r.Unreferenced, r.Defects, err)
	}
}
