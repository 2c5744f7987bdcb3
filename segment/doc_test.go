package segment

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
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
	r := &Reader{name: "example.seg"}
	for i := range r.place.salt {
		r.place.salt[i] = byte(i)
	}
	raw, err := r.decode(b, kindData, handle{offset: 64}, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		t.Fatal(err)
	}
	var s sorted
	if !s.parse(raw, kindData) || s.n != 2 {
		t.Fatalf("%d entries", s.n)
	}
	for i, want := range []Entry{
		{LSN: 9, Time: 1700000000000000300, Op: event.OpPut, Session: 3, Value: []byte("red")},
		{LSN: 8, Time: 1700000000000000000, Op: event.OpDelete, Session: 3},
	} {
		var got Entry
		s.fill(i, &got)
		if key := s.appendKey(nil, i); string(key) != "\x00\x00\x00\x01apple" || !equal(&got, &want) {
			t.Fatalf("entry %d is %q %s, want %s", i, key, show(&got), show(&want))
		}
	}
}
