package event

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/corruption"
)

func put(key, value string, parts []byte) []byte {
	return AppendPayload(nil, 7, []byte(key), []byte(value), parts)
}

func TestWireRoundTrip(t *testing.T) {
	parts := AppendAnnotations(AppendExpiry(nil, -5), []Annotation{{"reason", "tidy up"}, {"ticket", ""}})
	payload := put("key", "value", parts)
	if got := PayloadSize(7, []byte("key"), []byte("value"), parts); got != len(payload) {
		t.Fatalf("PayloadSize %d, encoded %d", got, len(payload))
	}
	wire := AppendWire([]byte("before"), OpPut, FlagMore, 300, 1e9, payload)[6:]
	if got := WireSize(OpPut, FlagMore, 300, 1e9, len(payload)); got != len(wire) {
		t.Fatalf("WireSize %d, encoded %d", got, len(wire))
	}
	e, p, n, err := ParseWire(append(wire, 99))
	if err != nil || n != len(wire) || !bytes.Equal(p, payload) {
		t.Fatalf("payload %x, %d of %d bytes, %v", p, n, len(wire), err)
	}
	if e.Op != OpPut || e.Flags != FlagMore || e.Dataset != 300 || e.Time != 1e9 || e.Session != 7 || e.LSN != 0 ||
		string(e.Key) != "key" || string(e.Value) != "value" || !bytes.Equal(e.Parts, parts) {
		t.Fatalf("got %+v", e)
	}
}

func TestParseWireAllocatesNothing(t *testing.T) {
	ref := AppendValueRef(nil, ValueRef{RawSize: 9, Pieces: []Piece{{File: 1, Offset: 4096, StoredLen: 9, RawLen: 9}}})
	b := AppendWire(nil, OpPut, FlagValueRef, 1, 0,
		AppendPayload(nil, 1, []byte("k"), ref, AppendPrevLSN(AppendExpiry(nil, 1), 2)))
	if n := testing.AllocsPerRun(100, func() {
		if _, _, _, err := ParseWire(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestParseWireRefuses(t *testing.T) {
	long := strings.Repeat("k", MaxKeyBytes+1)
	ref := AppendValueRef(nil, ValueRef{RawSize: 9, Pieces: []Piece{{File: 1, Offset: 4096, StoredLen: 9, RawLen: 9}}})
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, corruption.ErrCorrupt},
		{"a size of zero", []byte{0}, corruption.ErrCorrupt},
		{"a size beyond the end", []byte{9, 1, 0, 1, 0, 0, 0, 0}, corruption.ErrCorrupt},
		{"a huge size", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0}, corruption.ErrCorrupt},
		{"op 0", AppendWire(nil, 0, 0, 1, 0, put("k", "v", nil)), corruption.ErrCorrupt},
		{"an op of a newer version", AppendWire(nil, 30, 0, 1, 0, []byte("whatever")), ErrUnsupported},
		{"the last op that must be understood", AppendWire(nil, 0x7f, 0, 1, 0, nil), ErrUnsupported},
		{"a flag of a newer version", AppendWire(nil, OpPut, 32, 1, 0, put("k", "v", nil)), ErrUnsupported},
		{"a dataset of 33 bits", []byte{9, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0}, corruption.ErrCorrupt},
		{"a put into no dataset", AppendWire(nil, OpPut, 0, 0, 0, put("k", "v", nil)), corruption.ErrCorrupt},
		{"a put without a key", AppendWire(nil, OpPut, 0, 1, 0, put("", "v", nil)), corruption.ErrCorrupt},
		{"a put with a long key", AppendWire(nil, OpPut, 0, 1, 0, put(long, "v", nil)), corruption.ErrCorrupt},
		{"a delete with a value", AppendWire(nil, OpDelete, 0, 1, 0, put("k", "v", nil)), corruption.ErrCorrupt},
		{"a delete with a reference", AppendWire(nil, OpDelete, FlagValueRef, 1, 0,
			put("k", string(ref), nil)), corruption.ErrCorrupt},
		{"a broken reference", AppendWire(nil, OpPut, FlagValueRef, 1, 0, put("k", "v", nil)), corruption.ErrCorrupt},
		{"a reference and a codec", AppendWire(nil, OpPut, FlagValueRef, 1, 0,
			put("k", string(ref), AppendCodec(nil, CodecS2, 9))), corruption.ErrCorrupt},
		{"a sealed value of no key", AppendWire(nil, OpPut, FlagSealed, 1, 0, put("k", "v", nil)), corruption.ErrCorrupt},
		{"a sealed delete", AppendWire(nil, OpDelete, FlagSealed, 1, 0, put("k", "", AppendSubjectKey(nil, 1))), corruption.ErrCorrupt},
		{"a sealed value and a codec", AppendWire(nil, OpPut, FlagSealed, 1, 0,
			put("k", "v", AppendSubjectKey(AppendCodec(nil, CodecS2, 9), 1))), corruption.ErrCorrupt},
		{"an expiry of nothing", AppendWire(nil, OpExpire, 0, 1, 0, put("k", "", nil)), corruption.ErrCorrupt},
		{"an expiry of version 0", AppendWire(nil, OpExpire, 0, 1, 0, put("k", "", AppendPrevLSN(nil, 0))),
			corruption.ErrCorrupt},
		{"a session in a dataset", AppendWire(nil, OpSessionOpened, 0, 1, 0,
			put("", string(AppendSession(nil, Session{ID: 1})), nil)), corruption.ErrCorrupt},
		{"half a session", AppendWire(nil, OpSessionOpened, 0, 0, 0, put("", "\x01", nil)), corruption.ErrCorrupt},
		{"a dataset without options", AppendWire(nil, OpDatasetCreated, 0, 1, 0, put("n", "", nil)), corruption.ErrCorrupt},
		{"a dataset with an option of a newer version", AppendWire(nil, OpDatasetCreated, 0, 1, 0,
			put("n", string(append(AppendDatasetOptions(nil, DatasetOptions{Consistency: Strong}), 1)), nil)), ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, _, err := ParseWire(c.in); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestParseWireSkipsWhatMayBeSkipped(t *testing.T) {
	b := AppendWire(nil, 0x80, FlagMore, 3, 4, []byte("no payload of ours"))
	e, p, n, err := ParseWire(b)
	if err != nil || n != len(b) || string(p) != "no payload of ours" {
		t.Fatalf("%q, %d of %d bytes, %v", p, n, len(b), err)
	}
	if e.Op.Known() || e.Flags != FlagMore || e.Dataset != 3 || e.Time != 4 || e.Key != nil || e.Parts != nil {
		t.Fatalf("got %+v", e)
	}
}

func TestCorruptionPointsAtTheByte(t *testing.T) {
	// size 12, op, flags, dataset, delta, session, 1 "k", 1 "v", then part 1 whose body is one byte long.
	b := AppendWire(nil, OpPut, 0, 1, 0, put("k", "v", []byte{TagExpiryMust, 1, 0xee}))
	_, _, _, err := ParseWire(b)
	var ce *corruption.Error
	if !errors.As(err, &ce) || ce.Offset != int64(len(b)-1) {
		t.Fatalf("got %v, want offset %d", err, len(b)-1)
	}
}

// TagExpiryMust is the tag of the expiry part as it is spelled.
const TagExpiryMust = byte(TagExpiry)<<1 | 1

func FuzzParseWire(f *testing.F) {
	f.Add(AppendWire(nil, OpPut, 0, 1, 5, put("key", "value", AppendExpiry(nil, 1))))
	f.Add(AppendWire(nil, OpDeleteRange, FlagMore, 1, 0, put("a", "b", nil)))
	f.Add(AppendWire(nil, OpExpire, 0, 1, 0, put("k", "", AppendPrevLSN(nil, 9))))
	f.Add(AppendWire(nil, OpSessionOpened, 0, 0, 0, put("", string(AppendSession(nil, Session{ID: 1, Actor: "me"})), nil)))
	f.Add(AppendWire(nil, 0x90, 0, 1, 0, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, payload, n, err := ParseWire(b)
		if err != nil {
			if !errors.Is(err, corruption.ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("neither corrupt nor unsupported: %v", err)
			}
			return
		}
		if e.Op.Known() {
			if again := AppendPayload(nil, e.Session, e.Key, e.Value, e.Parts); !bytes.Equal(again, payload) {
				t.Fatalf("payload %x is a second spelling of %x", payload, again)
			}
		}
		if again := AppendWire(nil, e.Op, e.Flags, e.Dataset, e.Time, payload); !bytes.Equal(again, b[:n]) {
			t.Fatalf("%x is a second spelling of %x", b[:n], again)
		}
	})
}

func BenchmarkParseWire(b *testing.B) {
	wire := AppendWire(nil, OpPut, 0, 1, 12345, AppendPayload(nil, 3, make([]byte, 16), make([]byte, 110),
		AppendExpiry(nil, 1)))
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := ParseWire(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKnownOpsHaveNames(t *testing.T) {
	for o := range Op(255) {
		named := int(o) < len(opNames) && opNames[o] != ""
		if named != o.Known() {
			t.Errorf("%s: known %t", o, o.Known())
		}
	}
}
