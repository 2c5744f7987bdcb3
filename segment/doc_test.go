package segment

import (
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/formattest"
)

// TestDocExample decodes the bytes of the example in the package comment.
func TestDocExample(t *testing.T) {
	b := formattest.Drawn(t, "# Example", "# Downsides")
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
