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

// Where the disk is nearly full, less is allowed above the oldest run, and no merge is picked that has no room.
func TestPickWithLittleDisk(t *testing.T) {
	v := parseVersion(t, "run 4\n4 a-m 40M\nrun 3\n3 n-z 4M\nrun 2\n2 a-m 40M\nrun 1\n1 n-z 400M\n")
	if got := Behind(v, Input{}); got > 0.1 {
		t.Errorf("with much disk merging is %.2f behind", got)
	}
	if got := Behind(v, Input{DiskBytes: 40 << 20}); got < 0.2 {
		t.Errorf("with 40 MiB of disk merging is %.2f behind", got)
	}
	for disk := int64(1 << 20); disk <= 1<<30; disk *= 2 {
		j, ok := Pick(v, Input{DiskBytes: disk, Full: true, Durable: 1 << 40})
		if ok && j.Kind == Merge && j.WriteBytes > disk*3/4 {
			t.Errorf("with %s of disk a merge is picked that writes %s", formatBytes(disk), formatBytes(j.WriteBytes))
		}
		if disk >= 128<<20 && !ok {
			t.Errorf("with %s of disk nothing is picked", formatBytes(disk))
		}
		beside := Input{DiskBytes: disk, Full: true, Durable: 1 << 40, Running: []Job{{Kind: Merge, WriteBytes: disk}}}
		if j, ok := Pick(v, beside); ok && j.Kind == Merge {
			t.Errorf("a job beside takes all %s of disk, and one is picked that writes %s", formatBytes(disk), formatBytes(j.WriteBytes))
		}
	}
}
