package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
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
