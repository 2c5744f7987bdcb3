package segment

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const benchKeys = 1_000_000

// reportCPU reports processor time per operation since from, of all goroutines: on a shared machine it says more than
// the clock.
func reportCPU(b *testing.B, from int64) {
	b.ReportMetric(float64(cpuTime()-from)/float64(b.N), "cpu-ns/op")
}

// benchKey is key i of a set whose keys share a prefix; odd ones are missing.
func benchKey(dst []byte, i int) []byte { return fmt.Appendf(dst, "user:%012d", 2*i) }

// benchSegment is a segment of 1 M keys of 17 bytes and values of 100 bytes that compress by half.
func benchSegment(b *testing.B, o WriterOptions) (vfs.FS, *Properties) {
	fsys := vfs.NewMem()
	w, err := Create(fsys, "a.seg", o)
	if err != nil {
		b.Fatal(err)
	}
	e := Entry{Dataset: 1, Op: event.OpPut, Session: 3, Value: make([]byte, 100)}
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range benchKeys {
		e.Key = benchKey(e.Key[:0], i)
		e.LSN = event.LSN(1 + uint64(i)*2654435761%benchKeys)
		e.Time = testTime + int64(e.LSN)*1000
		for k := 0; k < 50; k += 8 {
			binary.LittleEndian.PutUint64(e.Value[k:], rnd.Uint64())
		}
		if err := w.Add(&e); err != nil {
			b.Fatal(err)
		}
	}
	p, err := w.Finish()
	if err != nil {
		b.Fatal(err)
	}
	return fsys, p
}

func BenchmarkGet(b *testing.B) {
	fsys, _ := benchSegment(b, WriterOptions{HashSeed: testSeed})
	c := newMapCache()
	b.Cleanup(c.Close)
	r := open(b, fsys, "a.seg", c)
	it := r.NewIter(IterOptions{}) // fills the cache
	for ok := it.First(); ok; ok = it.Next() {
	}
	it.Close()
	keys := make([][]byte, 1<<16)
	rnd := rand.New(rand.NewPCG(2, 2))
	var e Entry
	run := func(odd byte, among int) func(b *testing.B) {
		return func(b *testing.B) {
			for i := range keys {
				keys[i] = benchKey(nil, rnd.IntN(among))
				keys[i][len(keys[i])-1] += odd
			}
			b.ReportAllocs()
			found, cpu := 0, cpuTime()
			for i := 0; b.Loop(); i++ {
				key := keys[i%len(keys)]
				blk, ok, err := r.Get(1, key, Hash(testSeed, 1, key), event.MaxLSN, &e)
				if err != nil {
					b.Fatal(err)
				}
				if ok {
					found++
					blk.Release()
				}
			}
			reportCPU(b, cpu)
			b.ReportMetric(float64(found)/float64(b.N), "found")
		}
	}
	b.Run("hit/keys=1M/value=100B/cache=warm/uniform", run(0, benchKeys))
	b.Run("hit/keys=1M/value=100B/cache=warm/of=10k", run(0, 10_000))
	b.Run("miss/keys=1M/value=100B/cache=warm", run(1, benchKeys))
}

func BenchmarkScan(b *testing.B) {
	for _, o := range []IterOptions{{}, {NoFill: true}, {KeysOnly: true}} {
		b.Run(fmt.Sprintf("keys=1M/value=100B/keysonly=%t/nofill=%t", o.KeysOnly, o.NoFill), func(b *testing.B) {
			fsys, _ := benchSegment(b, WriterOptions{HashSeed: testSeed})
			c := newMapCache()
			b.Cleanup(c.Close)
			r := open(b, fsys, "a.seg", c)
			it := r.NewIter(o)
			defer it.Close()
			for ok := it.First(); ok; ok = it.Next() {
			}
			b.ReportAllocs()
			b.ResetTimer()
			sum, cpu := 0, cpuTime()
			for range b.N {
				if !it.Valid() || !it.Next() {
					it.First()
				}
				e := it.Entry()
				sum += int(e.LSN) + len(e.Key) + len(e.Value)
			}
			reportCPU(b, cpu)
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, o := range []WriterOptions{{}, {Compression: Zstd}, {Compression: NoCompression}} {
		for _, size := range []int{10, 100} {
			b.Run(fmt.Sprintf("value=%dB/codec=%s/sync=mem", size, o.Compression.codec()), func(b *testing.B) {
				w, err := Create(vfs.NewMem(), "a.seg", o)
				if err != nil {
					b.Fatal(err)
				}
				e := Entry{Dataset: 1, Op: event.OpPut, Session: 3, Value: make([]byte, size)}
				rnd := rand.New(rand.NewPCG(1, 1))
				key := benchKey(nil, 0)
				b.ReportAllocs()
				b.ResetTimer()
				cpu := cpuTime()
				for i := range b.N {
					for k, v := len(key)-1, i; k >= 5; k, v = k-1, v/10 {
						key[k] = '0' + byte(v%10)
					}
					e.Key, e.LSN, e.Time = key, event.LSN(i+1), testTime+int64(i)
					for k := 0; k < size/2; k += 8 {
						binary.LittleEndian.PutUint64(e.Value[k:], rnd.Uint64())
					}
					if err := w.Add(&e); err != nil {
						b.Fatal(err)
					}
				}
				p, err := w.Finish()
				if err != nil {
					b.Fatal(err)
				}
				reportCPU(b, cpu)
				b.ReportMetric(float64(p.SizeBytes)/float64(b.N), "file-B/op")
			})
		}
	}
}
