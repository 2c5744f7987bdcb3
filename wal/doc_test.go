package wal

import (
	"testing"

	"github.com/dyngodb/dyngo/internal/formattest"
)

// TestDocExample decodes the bytes of the example in the package comment.
func TestDocExample(t *testing.T) {
	b := formattest.Drawn(t, "# Example", "# Downsides")
	head := Header{Seq: 7}
	for i := range head.Salt {
		head.Salt[i] = byte(i)
	}
	f, err := ReadFrameAt(frameFile{4160, b}, &head, "wal/example.log", 4160)
	if err != nil {
		t.Fatal(err)
	}
	if f.Kind != KindCommit || f.BaseLSN != 9 || f.DurableLSN != 8 || f.Chain != 0x01020304 || f.Count != 1 ||
		f.HLC != 1700000000000<<16 || f.Size() != int64(len(b)) {
		t.Fatalf("%+v", f)
	}
	for e, err := range f.Events() {
		if err != nil || string(e.Key) != "k" || string(e.Value) != "v" || e.LSN != 9 || e.Session != 3 || e.Dataset != 1 ||
			e.Time != 1700000000000000000 {
			t.Fatalf("%+v, %v", e, err)
		}
	}
}
