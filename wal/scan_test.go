package wal

import (
	"io"
	"testing"

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
	t.Log(kinds)
	got := s.Tail()
	want := Tail{File: 2, FirstLSN: 4, End: int64(b.end), Chain: b.chain, NextLSN: 6, LastTime: b.time, DurableLSN: 5, Clean: true}
	if got != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}
