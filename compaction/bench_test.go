package compaction

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/manifest"
)

// BenchmarkPick picks in a version of many segments, of which those above the oldest run have grown too large.
func BenchmarkPick(b *testing.B) {
	for _, files := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("segments=%d", files), func(b *testing.B) {
			s := newSim(b, 1<<30, 64<<20)
			s.entry = 1 << 20
			rng := rand.New(rand.NewPCG(1, 1))
			const upper, per = 8, 60
			for run := range manifest.RunID(upper + 1) {
				n := files / 40 // the runs above the oldest
				if run == 0 {
					n = files - upper*n
				}
				step := 1e12 / uint64(n*per)
				var es []simEntry
				for i := range n * per {
					s.lsn++
					es = append(es, simEntry{key: uint64(i)*step + rng.Uint64N(step), lsn: s.lsn})
				}
				s.nextRun++
				c := newCutter(nil, 0, 0, false, &Options{FileBytes: int64(per) << 20})
				s.apply(&manifest.Edit{Add: s.output(es, c, s.nextRun-1), FlushedLSN: &s.lsn})
			}
			in := s.input()
			b.ResetTimer()
			for range b.N {
				if _, ok := Pick(s.v, in); !ok {
					b.Fatal("nothing is picked")
				}
			}
		})
	}
}
