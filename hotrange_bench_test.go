package dyngo_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo"
)

// BenchmarkScanHot scans 100 pairs from any start among 1,000,000, by two distributions, beside the same without a hot range, and
// overwrites the pairs.
func BenchmarkScanHot(b *testing.B) {
	o := &dyngo.Options{MemoryBudget: 1 << 30, HotRangeBytes: 256 << 20}
	o.LookHotOnly() // so that nothing but what is asked for is kept
	db := mustOpen(b, b.TempDir(), o)
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		b.Fatal(err)
	}
	const n = 1_000_000
	key, value := make([]byte, 12), make([]byte, 100)
	keyOf := func(i int) []byte {
		binary.BigEndian.PutUint64(key[4:], uint64(i)*0x9E3779B97F4A7C15)
		return key
	}
	for i := range n {
		if _, err := ds.Put(keyOf(i), value); err != nil {
			b.Fatal(err)
		}
	}
	for _, hot := range []bool{false, true} {
		if hot {
			size, err := ds.BuildHot(nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("%d bytes for %d", size, n*112)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		zipf := rand.NewZipf(rng, 1.01, 1, n-1)
		starts := map[string]func() int{"uniform": func() int { return rng.IntN(n) }, "zipf": func() int { return int(zipf.Uint64()) }}
		for _, dist := range []string{"uniform", "zipf"} {
			start := starts[dist]
			b.Run(fmt.Sprintf("scan/%s/hot=%v", dist, hot), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					sum := byte(0)
					for kv, err := range ds.Scan(dyngo.Range{From: keyOf(start()), Limit: 100}) {
						if err != nil {
							b.Fatal(err)
						}
						sum += kv.Value[0] + kv.Value[64]
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/pair")
			})
		}
		b.Run(fmt.Sprintf("put/hot=%v", hot), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := ds.Put(keyOf(rng.IntN(n)), value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
