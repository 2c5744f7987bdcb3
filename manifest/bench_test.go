package manifest

import (
	"fmt"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// large is a set with n segments in runs of 100.
func large(b *testing.B, fsys vfs.FS, n int) *Set {
	s := mustStart(b, newFS(b, fsys), testOptions())
	e := &Edit{FlushedLSN: lsn(100)}
	run := s.NewRunID()
	for i := range n {
		if i%100 == 0 {
			run = s.NewRunID()
		}
		key := fmt.Sprintf("user:%08d", i)
		e.Add = append(e.Add, seg(s.NewFileNum(), run, key, key+"~", 1, 100))
	}
	must(b, s.Apply(e))
	return s
}

// BenchmarkApply adds a segment and removes one, without the time of a disk.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("segments=%d", n), func(b *testing.B) {
			s := large(b, vfs.NewMem(), n)
			last := addOne(b, s, "k")
			b.ReportAllocs()
			for b.Loop() {
				num, v := s.NewFileNum(), s.Current()
				added := seg(num, v.Runs[0].ID, "k", "k", v.FlushedLSN, v.FlushedLSN)
				must(b, s.Apply(&Edit{Add: []*Segment{added}, Remove: []FileNum{last}}))
				last = num
			}
		})
	}
}

// BenchmarkOpen reads a manifest whose edits take three times the room of its snapshot.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("segments=%d", n), func(b *testing.B) {
			fsys := vfs.NewMem()
			s := large(b, fsys, n)
			for s.mu.end < 3*s.mu.snapshotBytes || s.mu.end < 1<<19 {
				addOne(b, s, "k")
			}
			b.SetBytes(s.mu.end)
			for b.Loop() {
				mustOpen(b, fsys, testOptions())
			}
		})
	}
}
