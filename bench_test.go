package dyngo_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo"
)

// Comparisons with other engines are in the module bench. These are for profiles.

func benchKey(dst []byte, i int) []byte {
	dst = append(dst[:0], "user"...)
	return binary.BigEndian.AppendUint64(dst, uint64(i)*0x9e3779b97f4a7c15)
}

func benchStore(b *testing.B, c dyngo.Consistency, keys int) (*dyngo.DB, *dyngo.Dataset) {
	b.Helper()
	db, err := dyngo.Open(b.TempDir(), &dyngo.Options{MemoryBudget: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: c})
	if err != nil {
		b.Fatal(err)
	}
	batch, value, key := db.NewBatch(), make([]byte, 100), []byte(nil)
	for i := range keys {
		key = benchKey(key, i)
		batch.Put(ds, key, value)
		if batch.Len() == 1000 || i == keys-1 {
			if _, err := batch.Commit(); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	return db, ds
}

func BenchmarkPut(b *testing.B) {
	for _, c := range []dyngo.Consistency{dyngo.Strong, dyngo.Causal, dyngo.Eventual} {
		for _, writers := range []int{1, 8, 64, 1024} {
			b.Run(fmt.Sprintf("%s/writers=%d/value=100B", c, writers), func(b *testing.B) {
				_, ds := benchStore(b, c, 0)
				var next atomic.Int64
				value := make([]byte, 100)
				var wg sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range writers {
					wg.Go(func() {
						key := make([]byte, 0, 12)
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							key = benchKey(key, int(i))
							if _, err := ds.Put(key, value); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	const keys = 1_000_000
	_, ds := benchStore(b, dyngo.Strong, keys)
	for _, mode := range []string{"uniform", "hot", "missing"} {
		b.Run(mode+"/keys=1M/value=100B", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
				key, dst := make([]byte, 0, 12), make([]byte, 0, 128)
				for pb.Next() {
					i := rng.IntN(keys)
					switch mode {
					case "hot":
						i %= 1000
					case "missing":
						i += keys
					}
					key = benchKey(key, i)
					var err error
					if dst, err = ds.AppendGet(dst[:0], key); (err != nil) != (mode == "missing") {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// benchDisk is a store whose pairs lie in segments, in blocks that the system has in memory and DynGO's cache for the most
// part has not.
func benchDisk(b *testing.B, keys int) *dyngo.Dataset {
	b.Helper()
	dir, options := b.TempDir(), &dyngo.Options{MemoryBudget: 16 << 20}
	for _, load := range []bool{true, false} {
		db, err := dyngo.Open(dir, options)
		if err != nil {
			b.Fatal(err)
		}
		ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
		if err != nil {
			b.Fatal(err)
		}
		if !load {
			b.Cleanup(func() { db.Close() })
			return ds
		}
		batch, value, key, rng := db.NewBatch(), make([]byte, 100), []byte(nil), rand.NewChaCha8([32]byte{})
		for i := range keys {
			key = benchKey(key, i)
			rng.Read(value)
			batch.Put(ds, key, value)
			if batch.Len() == 1000 || i == keys-1 {
				if _, err := batch.Commit(); err != nil {
					b.Fatal(err)
				}
				batch.Reset()
			}
		}
		if err := db.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := db.Compact(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return nil
}

func BenchmarkScan(b *testing.B) {
	const keys = 1_000_000
	scan := func(b *testing.B, ds *dyngo.Dataset, r dyngo.Range, want int) {
		n, sum := 0, byte(0)
		for kv, err := range ds.Scan(r) {
			if err != nil {
				b.Fatal(err)
			}
			n++
			sum += kv.Value[0] + kv.Value[64]
		}
		if n != want {
			b.Fatalf("%d pairs, want %d", n, want)
		}
	}
	for _, place := range []string{"memory", "flushed", "disk"} {
		b.Run(place, func(b *testing.B) {
			var ds *dyngo.Dataset
			if place == "disk" {
				ds = benchDisk(b, keys)
			} else {
				var db *dyngo.DB
				db, ds = benchStore(b, dyngo.Eventual, keys)
				if place == "flushed" { // and still in memory
					if err := db.Flush(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			}
			scan(b, ds, dyngo.Range{}, keys)
			b.Run("full", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					scan(b, ds, dyngo.Range{}, keys)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/keys, "ns/pair")
			})
			b.Run("pairs=100", func(b *testing.B) {
				b.ReportAllocs()
				rng, key := rand.New(rand.NewPCG(1, 1)), []byte(nil)
				for b.Loop() {
					key = benchKey(key, rng.IntN(keys))
					n := 0
					for kv, err := range ds.Scan(dyngo.Range{From: key, Limit: 100}) {
						if err != nil {
							b.Fatal(err)
						}
						n += len(kv.Value)
					}
					if n == 0 {
						b.Fatal("nothing")
					}
				}
			})
		})
	}
}

func BenchmarkGetFromDisk(b *testing.B) {
	const keys = 1_000_000
	ds := benchDisk(b, keys)
	for _, mode := range []string{"uniform", "missing"} {
		b.Run(mode, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
				key, dst := make([]byte, 0, 12), make([]byte, 0, 128)
				for pb.Next() {
					i := rng.IntN(keys)
					if mode == "missing" {
						i += keys
					}
					key = benchKey(key, i)
					var err error
					if dst, err = ds.AppendGet(dst[:0], key); (err != nil) != (mode == "missing") {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkGetLarge(b *testing.B) {
	const keys, size = 1000, 100_000
	_, ds := benchStore(b, dyngo.Eventual, 0)
	value, rng := make([]byte, size), rand.NewChaCha8([32]byte{})
	rng.Read(value)
	for i := range keys {
		if _, err := ds.Put(benchKey(nil, i), value); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		key, dst := make([]byte, 0, 12), make([]byte, 0, size)
		for pb.Next() {
			key = benchKey(key, rng.IntN(keys))
			var err error
			if dst, err = ds.AppendGet(dst[:0], key); err != nil || len(dst) != size {
				b.Error(len(dst), err)
				return
			}
		}
	})
}
