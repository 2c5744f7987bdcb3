package corruption

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestLocateFillsThePlaceOnce(t *testing.T) {
	inner := New(7, "crc %08x, want %08x", 1, 2)
	err := Locate(Shift(inner, 10), "wal/a.log", 4096)
	if got, want := err.Error(), "wal/a.log at 4113: corrupt: crc 00000001, want 00000002"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if again := Locate(err, "other", 1); again != err {
		t.Fatalf("a located error moved to %v", again)
	}
	if inner.Offset != 7 || inner.File != "" {
		t.Fatalf("the original changed: %+v", inner)
	}
	if err := Locate(io.EOF, "f", 1); err != io.EOF {
		t.Fatalf("a foreign error changed: %v", err)
	}
	if Locate(nil, "f", 1) != nil {
		t.Fatal("nil became an error")
	}
}

func TestErrorMatchesErrCorruptAndItsCause(t *testing.T) {
	err := fmt.Errorf("open: %w", &Error{File: "f", Offset: 1, What: "short", Err: io.ErrUnexpectedEOF})
	if !errors.Is(err, ErrCorrupt) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Fatalf("wrong matches for %v", err)
	}
	if got, want := err.Error(), "open: f at 1: corrupt: short: unexpected EOF"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}
