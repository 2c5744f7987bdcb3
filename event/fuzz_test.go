package event

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/dyngodb/dyngo/internal/formattest"
)

// known fails the test if a decoder's error is neither corruption within n bytes nor a newer version.
var known = formattest.Known(ErrUnsupported)

func allParts() []byte {
	parts := AppendRecordTime(AppendExpiry(nil, 5), -6)
	parts = AppendTransaction(parts, Transaction{Back: 7, Last: true})
	parts = AppendPrevLSN(parts, 300)
	parts = AppendAnnotations(parts, []Annotation{{"correlation", "c"}, {"reason", "r"}, {"ticket", "t"}})
	parts = AppendSchema(parts, 8)
	parts = AppendCodec(parts, CodecZstd, 900)
	parts = AppendValueSalt(parts, [16]byte{1, 15: 2})
	parts = AppendSubjectKey(parts, 9)
	parts = AppendSource(parts, []byte("file:12"))
	parts = AppendReadSet(parts, []uint64{10, 11})
	parts = AppendPartition(parts, 12)
	parts = AppendEpoch(parts, 13)
	return AppendStream(parts, "orders", 14)
}

func FuzzParts(f *testing.F) {
	f.Add(allParts())
	f.Add(AppendTransaction(nil, Transaction{}))
	f.Add([]byte{0x7e, 1, 0xff})
	f.Fuzz(func(t *testing.T, parts []byte) {
		if err := CheckParts(parts); err != nil {
			known(t, err, len(parts))
			return
		}
		var again []byte
		for tag := Tag(0); tag <= maxTag; tag++ {
			again = appendAgain(again, parts, tag)
		}
		for rest := parts; len(rest) > 0; { // parts that may be skipped stay as they are
			tag, _, _, n := nextPart(rest)
			if tag > maxTag {
				again = append(again, rest[:n]...)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(again, parts) {
			t.Fatalf("%x is a second spelling of %x", parts, again)
		}
	})
}

// appendAgain encodes what the accessor of a tag read.
func appendAgain(dst, parts []byte, tag Tag) []byte {
	switch tag {
	case TagExpiry:
		if v, ok := Expiry(parts); ok {
			return AppendExpiry(dst, v)
		}
	case TagRecordTime:
		if v, ok := RecordTime(parts); ok {
			return AppendRecordTime(dst, v)
		}
	case TagTransaction:
		if v, ok := TransactionOf(parts); ok {
			return AppendTransaction(dst, v)
		}
	case TagPrevLSN:
		if v, ok := PrevLSN(parts); ok {
			return AppendPrevLSN(dst, v)
		}
	case TagAnnotations:
		if v := Annotations(parts); v != nil {
			return AppendAnnotations(dst, v)
		}
	case TagSchema:
		if v, ok := Schema(parts); ok {
			return AppendSchema(dst, v)
		}
	case TagCodec:
		if c, v, ok := CodecOf(parts); ok {
			return AppendCodec(dst, c, v)
		}
	case TagValueSalt:
		if v, ok := ValueSalt(parts); ok {
			return AppendValueSalt(dst, v)
		}
	case TagSubjectKey:
		if v, ok := SubjectKey(parts); ok {
			return AppendSubjectKey(dst, v)
		}
	case TagSource:
		if v, ok := Source(parts); ok {
			return AppendSource(dst, v)
		}
	case TagReadSet:
		if v := ReadSet(parts); v != nil {
			return AppendReadSet(dst, v)
		}
	case TagPartition:
		if v, ok := Partition(parts); ok {
			return AppendPartition(dst, v)
		}
	case TagEpoch:
		if v, ok := Epoch(parts); ok {
			return AppendEpoch(dst, v)
		}
	case TagStream:
		if name, v, ok := Stream(parts); ok {
			return AppendStream(dst, string(name), v)
		}
	}
	return dst
}

func FuzzValueRef(f *testing.F) {
	f.Add(AppendValueRef(nil, ValueRef{RawSize: 9, Pieces: []Piece{{File: 1, Offset: 4096, StoredLen: 9, RawLen: 9}}}))
	f.Add(AppendValueRef(nil, ValueRef{RawSize: 1<<20 + 7, Pieces: []Piece{
		{File: 1, Offset: 1 << 40, StoredLen: 9, RawLen: 1 << 20, Codec: CodecS2, CRC: 5},
		{File: 900, Offset: 4160, StoredLen: 7, RawLen: 7, CRC: 6}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseValueRef(b)
		if err != nil {
			known(t, err, len(b))
			return
		}
		if again := AppendValueRef(nil, v); !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
		if size, err := ValueRefSize(b); err != nil || size != v.RawSize {
			t.Fatalf("size %d, %v, want %d", size, err, v.RawSize)
		}
	})
}

func testDictionary() *Dictionary {
	options := AppendDatasetOptions(nil, DatasetOptions{Consistency: Causal, TTL: 5e9, LargeValue: 8192, Compression: CodecS2})
	return &Dictionary{
		Sessions: []Session{{ID: 3, Opened: 4, Actor: "ann", Address: "127.0.0.1", Client: "cli"}, {ID: 300, Opened: -1}},
		Datasets: []DatasetInfo{{ID: 1, Created: 2, Name: "scores", Options: options},
			{ID: 1 << 31, Created: 3, Name: "x", Options: options}},
		Merges:      []MergeFunc{{ID: 0, Name: "sum"}, {ID: 1, Name: "max"}},
		Keys:        []KeyInfo{{ID: 7, Info: []byte("info")}, {ID: 9}},
		NextSession: 301, NextDataset: 1<<31 + 1,
	}
}

func FuzzDictionary(f *testing.F) {
	b := AppendDictionary(nil, testDictionary())
	f.Add(b)
	f.Add(AppendDictionary(nil, &Dictionary{NextSession: 1, NextDataset: 1}))
	f.Add(append(append([]byte{b[0] + 1}, b[1:]...), 0x80, 3, 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDictionary(b)
		if err != nil {
			known(t, err, len(b))
			return
		}
		again := AppendDictionary(nil, d)
		if len(again) == len(b) && !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
		if len(again) > len(b) {
			t.Fatalf("%x grew to %x", b, again)
		}
		back, err := ParseDictionary(again)
		if err != nil || !reflect.DeepEqual(back, d) {
			t.Fatalf("%+v came back as %+v, %v", d, back, err)
		}
	})
}

func FuzzSession(f *testing.F) {
	f.Add(AppendSession(nil, Session{ID: 1, Opened: 2, Actor: "a", Address: "b", Client: "c"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSession(b)
		if err != nil {
			known(t, err, len(b))
		} else if again := AppendSession(nil, s); !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
	})
}

func FuzzDatasetOptions(f *testing.F) {
	f.Add(AppendDatasetOptions(nil, DatasetOptions{Consistency: Strong, LargeValue: 8192}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseDatasetOptions(b)
		if err != nil {
			known(t, err, len(b))
		} else if again := AppendDatasetOptions(nil, o); !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
	})
}
