package compaction

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
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

// BenchmarkRun merges four runs of 10 MB into one.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name  string
		zstd  int64
		value int
	}{{"s2/value=100", 1 << 40, 100}, {"zstd/value=100", 1, 100}, {"s2/value=1000", 1 << 40, 1000}} {
		b.Run(c.name, func(b *testing.B) {
			s := newStore(b, vfs.NewMem())
			s.opts.ZstdBytes = c.zstd
			rng := rand.New(rand.NewPCG(1, 1))
			value := make([]byte, c.value)
			bytes := 0
			for range 4 {
				for range 40_000_000 / (c.value + 100) / 4 {
					for i := range value {
						value[i] = "abcdefgh"[rng.IntN(8)]
					}
					key := fmt.Sprintf("user:%09d:name", rng.IntN(1e9))
					s.put(key, string(value))
					bytes += len(key) + len(value)
				}
				s.flush()
			}
			j := everything(s.v)
			o := s.runOptions()
			b.SetBytes(int64(bytes))
			b.ResetTimer()
			for range b.N {
				res, err := Run(context.Background(), &j, o)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(res.Read), "ns/entry")
				for _, seg := range res.Add {
					if err := s.fs.Remove(path.Join(segmentsDir, manifest.SegmentName(seg.Num))); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
