package manifest

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/dyngodb/dyngo/internal/formattest"
)

// exampleFile is what the example in the package comment describes.
func exampleFile() []byte {
	h := header{num: 3, created: testTime}
	for i := range h.logID {
		h.logID[i] = 1
	}
	for i := range h.salt {
		h.salt[i] = byte(i)
	}
	for i := range h.seed {
		h.seed[i] = 0xa0 + byte(i)
	}
	s := &Segment{Num: 9, Run: 4, SizeBytes: 300, RawBytes: 2, Entries: 1, Keys: 1,
		Smallest: Key{1, []byte("k")}, Largest: Key{1, []byte("k")},
		MinLSN: 5, MaxLSN: 5, MinTime: testTime, MaxTime: testTime, CreatedAt: testTime}
	for i := range s.SHA256 {
		s.SHA256[i] = 0xee
	}
	v := &Version{FlushedLSN: 4, NextFile: 9, NextRun: 4}
	e := &Edit{Add: []*Segment{s}, FlushedLSN: lsn(5), NextFile: 10, NextRun: 5}
	head := h.encode()
	b := h.appendRecord(head[:], kindSnapshot, 7, func(b []byte) []byte { return appendEdit(b, v.Whole()) }, headerSize)
	b = h.appendRecord(b, kindEdit, 8, func(b []byte) []byte { return appendEdit(b, e) }, int64(len(b)))
	return h.appendRecord(b, kindMark, 8, nil, int64(len(b)))
}

// TestDocExample decodes the bytes of the example in the package comment.
func TestDocExample(t *testing.T) {
	b := formattest.Drawn(t, "# Example", "# Downsides")
	if !bytes.Equal(b, exampleFile()) {
		t.Fatalf("the example is\n%s\nwant\n%s", hex.Dump(b), hex.Dump(exampleFile()))
	}
	f, err := parseFile(b, "manifest/0000000003.man", 3)
	if err != nil {
		t.Fatal(err)
	}
	v := f.version
	s := v.Segment(9)
	if v.Edits != 8 || v.FlushedLSN != 5 || v.NextFile != 10 || v.NextRun != 5 || len(v.Runs) != 1 ||
		v.Runs[0].ID != 4 || s == nil || s.Smallest.String() != `1/"k"` || s.MaxLSN != 5 || s.SizeBytes != 300 ||
		!f.tail.Marked || f.tail.End != int64(len(b)) {
		t.Fatalf("%+v: %s", f.tail, v)
	}
}
