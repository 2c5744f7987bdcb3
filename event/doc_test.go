package event

import (
	"testing"

	"github.com/dyngodb/dyngo/internal/formattest"
)

// TestDocExample decodes the bytes of the example in the package comment.
func TestDocExample(t *testing.T) {
	b := formattest.Drawn(t, "# Example", "# Downsides")
	parts := AppendAnnotations(AppendExpiry(nil, 1700000000000000000), []Annotation{{"reason", "test"}})
	want := AppendWire(nil, OpPut, FlagMore, 1, 1000, AppendPayload(nil, 300, []byte("k"), []byte("hello"), parts))
	if string(b) != string(want) {
		t.Fatalf("the example has\n% x, want\n% x", b, want)
	}
	e, _, n, err := ParseWire(b)
	if err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes: %v", n, len(b), err)
	}
	reason, _ := FindAnnotation(e.Parts, "reason")
	expiry, _ := Expiry(e.Parts)
	if string(e.Key) != "k" || string(e.Value) != "hello" || e.Session != 300 || e.Time != 1000 || e.Flags != FlagMore ||
		expiry != 1700000000000000000 || string(reason) != "test" {
		t.Fatalf("%+v", e)
	}
}
