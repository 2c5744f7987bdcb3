package event

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/dyngodb/dyngo/internal/coding"
)

// annotationValueHash is the annotation of a redact event that has the commitment to the value in the hash tree, in hexadecimal.
const annotationValueHash = "value-hash"

// AppendRedaction appends the parts of a redact event: the LSN of the version whose value is destroyed, why, and what the hash
// tree has of the value. The annotations are sorted by key.
func AppendRedaction(dst []byte, lsn LSN, why []Annotation, valueHash [32]byte) []byte {
	as := append(append([]Annotation{}, why...), Annotation{Key: annotationValueHash, Value: hex.EncodeToString(valueHash[:])})
	return AppendAnnotations(AppendPrevLSN(dst, lsn), as)
}

// RedactedHash is what the hash tree has of the value that a redact event says was destroyed; false if the event does not say.
func RedactedHash(parts []byte) (hash [32]byte, ok bool) {
	text, _ := FindAnnotation(parts, annotationValueHash)
	if len(text) != hex.EncodedLen(len(hash)) {
		return hash, false
	}
	_, err := hex.Decode(hash[:], text)
	return hash, err == nil
}

// Redact destroys the value of a put in its wire form, in place: zeros take its place, the flag says so, and the length stays.
// What a reference stands for lies elsewhere; it is returned, and stays in the event. An event that can't be redacted is an error.
func Redact(wire []byte) (pieces []Piece, err error) {
	e, _, n, err := ParseWire(wire)
	switch {
	case err != nil:
		return nil, err
	case n != len(wire):
		return nil, corrupt(n, "%d bytes after the event", len(wire)-n)
	case e.Op != OpPut:
		return nil, fmt.Errorf("a %s event has no value to redact", e.Op)
	case e.Flags&FlagRedacted != 0:
		return nil, errors.New("its value is redacted already")
	}
	if _, salted := FindPart(e.Parts, TagValueSalt); salted {
		return nil, Unsupported("redaction of a value with a salt")
	}
	if e.Flags&FlagValueRef != 0 {
		ref, err := ParseValueRef(e.Value)
		if err != nil {
			return nil, err
		}
		pieces = ref.Pieces
	} else {
		clear(e.Value)
	}
	_, k := coding.Uvarint(wire)
	wire[k+1] |= byte(FlagRedacted)
	_, _, _, err = ParseWire(wire)
	return pieces, err
}
