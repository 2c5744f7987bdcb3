package event

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dyngodb/dyngo/internal/corruption"
)

// A redacted event is as long as before and says the same but for the value; what it refers to is named.
func TestRedact(t *testing.T) {
	piece := Piece{File: 3, Offset: 4168, StoredLen: 10, RawLen: 10, CRC: 7}
	ref := AppendValueRef(nil, ValueRef{RawSize: 10, Pieces: []Piece{piece}})
	parts := AppendAnnotations(AppendExpiry(nil, 77), []Annotation{{Key: "reason", Value: "why"}})
	subject := AppendSubjectKey(nil, 9)
	for _, c := range []struct {
		name  string
		flags Flags
		value []byte
		parts []byte
	}{
		{"plain", FlagMore, []byte("secret"), nil},
		{"with parts", FlagNotApplied, bytes.Repeat([]byte("secret"), 100), parts},
		{"compressed", 0, []byte("packed"), AppendCodec(nil, CodecS2, 100)},
		{"sealed", FlagSealed, []byte("sealed"), subject},
		{"in pieces", FlagValueRef, ref, parts},
	} {
		t.Run(c.name, func(t *testing.T) {
			payload := AppendPayload(nil, 5, []byte("key"), c.value, c.parts)
			before := AppendWire(nil, OpPut, c.flags, 1, 12, payload)
			wire := bytes.Clone(before)
			pieces, err := Redact(wire)
			if err != nil || len(wire) != len(before) {
				t.Fatal(err)
			}
			want := make([]byte, len(c.value))
			if c.flags&FlagValueRef != 0 {
				want = c.value
				if len(pieces) != 1 || pieces[0] != piece {
					t.Errorf("pieces %+v", pieces)
				}
			} else if len(pieces) != 0 {
				t.Errorf("pieces %+v", pieces)
			}
			e, _, n, err := ParseWire(wire)
			if err != nil || n != len(wire) || e.Op != OpPut || e.Flags != c.flags|FlagRedacted || string(e.Key) != "key" ||
				!bytes.Equal(e.Value, want) || !bytes.Equal(e.Parts, c.parts) || e.Session != 5 || e.Time != 12 || e.Dataset != 1 {
				t.Errorf("%+v, %v", e, err)
			}
			if _, err := Redact(wire); err == nil {
				t.Error("redacted twice")
			}
		})
	}
	salted := AppendWire(nil, OpPut, 0, 1, 0, AppendPayload(nil, 1, []byte("k"), []byte("v"), AppendValueSalt(nil, [16]byte{1})))
	if _, err := Redact(bytes.Clone(salted)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a salted value: %v", err)
	}
	if _, err := Redact(AppendWire(nil, OpDelete, 0, 1, 0, AppendPayload(nil, 1, []byte("k"), nil, nil))); err == nil {
		t.Error("a delete")
	}
	wrong := AppendWire(nil, OpPut, FlagRedacted, 1, 0, AppendPayload(nil, 1, []byte("k"), []byte("v"), nil))
	if _, _, _, err := ParseWire(wrong); !errors.Is(err, corruption.ErrCorrupt) {
		t.Errorf("a redacted value that is there: %v", err)
	}
}

// A redact event says what the hash tree has of the value, after the annotations of who redacted.
func TestRedactedHash(t *testing.T) {
	hash := [32]byte{1, 2, 3}
	parts := AppendRedaction(nil, 12, []Annotation{{Key: "reason", Value: "why"}, {Key: "ticket", Value: "T-1"}}, hash)
	lsn, ok := PrevLSN(parts)
	got, has := RedactedHash(parts)
	reason, _ := FindAnnotation(parts, "reason")
	if CheckParts(parts) != nil || lsn != 12 || !ok || got != hash || !has || string(reason) != "why" {
		t.Errorf("%d, %x, %q", lsn, got, reason)
	}
	if _, has := RedactedHash(AppendPrevLSN(nil, 3)); has {
		t.Error("a hash that is not there")
	}
}
