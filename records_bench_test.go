package dyngo_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo"
)

// BenchmarkRecordCache gets values of 100 bytes, keys by zipf, all alike or not there, from a store eight times as large as its MemoryBudget, with
// and without the cache of records. Both stores take turns; the system's page cache has all files, so that a block costs no device read.
func BenchmarkRecordCache(b *testing.B) {
	const n, budget = 1_200_000, 16 << 20
	open := func(off bool) (*dyngo.DB, *dyngo.Dataset) {
		db := mustOpen(b, b.TempDir(), &dyngo.Options{MemoryBudget: budget, NoRecordCache: off})
		b.Cleanup(func() { db.Close() })
		ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
		if err != nil {
			b.Fatal(err)
		}
		key, value := make([]byte, 0, 12), make([]byte, 100)
		for i := range n {
			key = benchKey(key, i)
			if _, err := ds.Put(key, value); err != nil {
				b.Fatal(err)
			}
		}
		if err := db.Compact(context.Background()); err != nil {
			b.Fatal(err)
		}
		return db, ds
	}
	on, withRecords := open(false)
	_, without := open(true)
	rng := rand.New(rand.NewPCG(1, 1))
	zipf := newZipf(rng, n)
	for _, c := range []struct {
		name string
		next func() int
	}{{"zipf", zipf}, {"uniform", func() int { return rng.IntN(n) }}, {"missing", func() int { return n + rng.IntN(n) }}} {
		get := func(b *testing.B, ds *dyngo.Dataset, times int) {
			var key, value []byte
			var err error
			for range times {
				key = benchKey(key, c.next())
				if value, err = ds.AppendGet(value[:0], key); (err != nil) != (c.name == "missing") {
					b.Fatal(err)
				}
			}
		}
		for range 500_000 { // so that caches have what is hot
			for _, ds := range []*dyngo.Dataset{withRecords, without} {
				get(b, ds, 1)
			}
		}
		before := on.Metrics()
		b.Run(fmt.Sprintf("%s/records=on", c.name), func(b *testing.B) { get(b, withRecords, b.N) })
		m := on.Metrics()
		hits, misses := m.RecordHits-before.RecordHits, m.RecordMisses-before.RecordMisses
		b.Logf("%.1f %% of %d gets of segments hit, %d bytes", 100*float64(hits)/float64(max(hits+misses, 1)), hits+misses, m.RecordBytes)
		b.Run(fmt.Sprintf("%s/records=off", c.name), func(b *testing.B) { get(b, without, b.N) })
	}
}

// newZipf picks numbers below n with theta 0.99 (approximately, by the inverse of the integral), the hot ones anywhere.
func newZipf(rng *rand.Rand, n int) func() int {
	const a = 1 - 0.99
	top := math.Pow(float64(n), a)
	return func() int {
		rank := int(math.Pow(rng.Float64()*(top-1)+1, 1/a)) - 1
		return int(uint64(rank) * 0x9E3779B97F4A7C15 % uint64(n))
	}
}
