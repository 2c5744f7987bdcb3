package compaction

import (
	"fmt"
	"strings"
	"testing"
)

func TestBehind(t *testing.T) {
	oldest := "run 1\n1 a-m 512M\n2 n-z 512M\n"
	flushes := func(n int, size string) string {
		var b strings.Builder
		for i := n; i > 0; i-- {
			fmt.Fprintf(&b, "run %d\n%d a-z %s\n", i+1, i+10, size)
		}
		return b.String() + oldest
	}
	for _, c := range []struct {
		name, version string
		least, most   float64
		replaced      float64
	}{
		{"an empty store", "", 0, 0, 0},
		{"within the bounds", flushes(7, "20M"), 0, 0, 0},
		{"a little too much above the oldest run", flushes(4, "64M"), 0.05, 0.2, 0},
		{"twice too many runs", flushes(15, "1M"), 1, 1, 0},
		{"some too many runs", flushes(9, "1M"), 0.2, 0.3, 0},
		{"three times too many runs", flushes(23, "1M"), 2, 2, 0},
		{"half as much again above the oldest, all of it new keys", flushes(7, "70M"), 0, 0, 0.001},
		{"half as much again, all of it overwritten", flushes(7, "70M"), 0.5, 1, 1},
		{"far too much", flushes(7, "500M"), 5, 8, 0},
	} {
		if got := Behind(parseVersion(t, c.version), Input{Replaced: c.replaced}); got < c.least || got > c.most {
			t.Errorf("%s: %.2f, want %.2f to %.2f", c.name, got, c.least, c.most)
		}
	}
}
