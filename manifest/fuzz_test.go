package manifest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/formattest"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// known fails the test if a decoder's error is neither corruption within n bytes nor a newer version.
var known = formattest.Known(event.ErrUnsupported)

func FuzzHeader(f *testing.F) {
	h := header{logID: testLog, num: 7, compat: 1, salt: [32]byte{1, 2}, seed: [16]byte{3}, created: testTime}
	b := h.encode()
	f.Add(b[:], true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= headerSize {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[8:], coding.CRC(b[12:headerSize]))
		}
		h, err := parseHeader(b)
		if err != nil {
			known(t, err, len(b))
		} else if again := h.encode(); !bytes.Equal(again[:], b[:headerSize]) {
			t.Fatalf("%x is a second spelling of %+v", b[:headerSize], h)
		}
	})
}

// hasUnknown reports whether a body has fields that a reader passes over, so that it is not written again as it was.
func hasUnknown(b []byte) bool {
	r := coding.NewReader(b)
	for r.Len() > 0 && r.Err() == nil {
		if !field(r.Uvarint() >> 1).known() {
			return true
		}
		r.Bytes()
	}
	return false
}

func FuzzEdit(f *testing.F) {
	e := fullEdit()
	f.Add(appendEdit(nil, e), false)
	s := base(f).Whole()
	s.damaged = []Damaged{{seg(9, 2, "a", "b", 1, 2), "crc"}}
	f.Add(appendEdit(nil, s), true)
	f.Fuzz(func(t *testing.T, b []byte, snapshot bool) {
		k := kindEdit
		if snapshot {
			k = kindSnapshot
		}
		e, err := parseEdit(b, k)
		if err != nil {
			known(t, err, len(b))
			return
		}
		if again := appendEdit(nil, e); !bytes.Equal(again, b) && !hasUnknown(b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
		_, _ = (&Version{}).Apply(e) // no panic
		_, _ = base(t).Apply(e)
	})
}

// fullEdit has something in each field of an edit.
func fullEdit() *Edit {
	s := seg(11, 3, "a", "k", 3, 21)
	s.Tombstones, s.RangeDeletes, s.RecordTimes, s.Dues, s.MinDue, s.MaxDue = 1, 2, 3, 4, -5, 6
	s.RefBytes = 1 << 30
	s.extra = []byte{1 << 1, 1, 'x', 9 << 1, 0}
	return &Edit{
		Add:      []*Segment{s, seg(12, 3, "", "", 3, 21)},
		Remove:   []FileNum{1, 300},
		SetAside: []SetAside{{2, "block at 4096: crc"}, {4, ""}},
		AddValues: []*ValueFile{{Num: 13, From: 1, To: 2, SizeBytes: 70, SHA256: [32]byte{3}},
			{Num: 14, From: 3, To: 3, extra: []byte{2, 0}}},
		RemoveValues: []FileNum{5},
		AddHistory:   []*Segment{seg(15, 2, "h", "i", 1, 2)}, RemoveHistory: []FileNum{6, 7},
		FlushedLSN: lsn(21), FloorLSN: lsn(0), OldestLog: 3, NextFile: 15, NextRun: 4, Reason: "merge",
	}
}

// FuzzFile reads files whose records are the fuzzer's. With fix, what looks like a record gets the checksums and number
// that it should have.
func FuzzFile(f *testing.F) {
	fsys := newFS(f, vfs.NewMem())
	s := mustStart(f, fsys, testOptions())
	h := newHistory(s, 1)
	for range 5 {
		must(f, h.apply(h.next()))
	}
	b := content(f, fsys, 1)
	head := s.mu.head
	f.Add(b[headerSize:], true)
	f.Add(b[headerSize:], false)
	f.Add(b[headerSize:len(b)-30], false)
	encoded := head.encode()
	f.Fuzz(func(t *testing.T, records []byte, fix bool) {
		b := append(bytes.Clone(encoded[:]), records...)
		if fix {
			fixRecords(&head, b)
		}
		read, err := parseFile(b, "manifest/0000000001.man", 1)
		if err != nil {
			known(t, err, len(b))
			return
		}
		if read.tail.End > int64(len(b)) || read.tail.End+read.tail.CutBytes > int64(len(b)) {
			t.Fatalf("%+v of %d bytes", read.tail, len(b))
		}
		// What was read can be written and read again.
		next := read.head.appendRecord(encoded[:], kindSnapshot, read.version.Edits,
			func(b []byte) []byte { return appendEdit(b, read.version.Whole()) }, headerSize)
		again, err := parseFile(next, "manifest/0000000001.man", 1)
		if err != nil || describe(again.version) != describe(read.version) {
			t.Fatalf("%v: read again as %v, was %v", err, again, read.version)
		}
	})
}

// fixRecords seals what looks like records.
func fixRecords(h *header, b []byte) {
	le := binary.LittleEndian
	edits := uint64(0)
	for at := headerSize; at+recordHeaderSize <= len(b); {
		r := b[at:]
		n := int(le.Uint32(r[8:]))
		size := (recordHeaderSize + n + recordAlign - 1) &^ (recordAlign - 1)
		if size > len(r) {
			return
		}
		if kind(r[12]) == kindEdit {
			edits++
		}
		if at > headerSize {
			le.PutUint64(r[16:], edits)
		} else {
			edits = le.Uint64(r[16:])
		}
		clear(r[recordHeaderSize+n : size])
		le.PutUint32(r[4:], coding.CRC(r[recordHeaderSize:size]))
		le.PutUint32(r, h.recordCRC(r, int64(at)))
		at += size
	}
}
