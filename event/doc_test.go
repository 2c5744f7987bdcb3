package event

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
)

var hexLine = regexp.MustCompile(`^//\t((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2,}.*)?$`)

// TestDocExample decodes the bytes of the example in the package comment.
func TestDocExample(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(doc), "# Example")
	example, _, _ = strings.Cut(example, "# Downsides")
	var b []byte
	for _, line := range strings.Split(example, "\n") {
		if m := hexLine.FindStringSubmatch(line); m != nil {
			part, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, part...)
		}
	}
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
