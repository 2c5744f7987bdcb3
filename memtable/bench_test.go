package memtable

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/internal/tail"
)

const benchKeys = 1_000_000

// bench is a table with an appender, as the engine's commit path would use it.
type bench struct {
	a   *tail.Arena
	d   *epoch.Domain
	t   *Table
	ap  *tail.Appender
	lsn event.LSN
}

func newBench() *bench {
	a, d := tail.NewArena(), epoch.New()
	return &bench{a: a, d: d, t: New(a, d), ap: a.NewAppender()}
}

func (b *bench) close() {
	b.t.Close()
	b.d.Close()
	b.a.Close()
}

func benchKey(dst []byte, i uint64) []byte {
	dst = append(dst[:0], "user"...)
	return binary.BigEndian.AppendUint64(dst, i*0x9e3779b97f4a7c15)
}

func (b *bench) put(ds event.DatasetID, key, value []byte) {
	p := b.ap.Reserve(event.PayloadSize(1, key, value, nil))
	r := b.a.Record(p)
	b.lsn++
	r.Fill(b.lsn, int64(b.lsn), ds, event.OpPut, 0, 0)
	event.AppendPayload(r.Payload()[:0], 1, key, value, nil)
	h := b.t.Hash(ds, key)
	b.t.Lock(h)
	b.t.Insert(h, p)
	b.t.Unlock(h)
}

// cpuMeter reports processor time per operation, of all goroutines: on a shared machine it says more than the clock.
type cpuMeter struct{ since, sum int64 }

func (c *cpuMeter) start() { c.since = cpuTime() }
func (c *cpuMeter) stop()  { c.sum += cpuTime() - c.since }
func (c *cpuMeter) report(b *testing.B) {
	b.ReportMetric(float64(c.sum)/float64(b.N), "cpu-ns/op")
}

func BenchmarkInsert(b *testing.B) {
	value := make([]byte, 100)
	for _, name := range []string{"op=new", "op=overwrite"} {
		b.Run("keys=1M/value=100B/"+name, func(b *testing.B) {
			b.ReportAllocs()
			var bt *bench
			var key []byte
			n := uint64(0)
			var cpu cpuMeter
			cpu.start()
			for b.Loop() {
				if n%benchKeys == 0 && (bt == nil || name == "op=new" || bt.a.Bytes() > 4<<30) {
					b.StopTimer()
					cpu.stop()
					if bt != nil {
						bt.close()
					}
					bt = newBench()
					if name == "op=overwrite" {
						for i := range uint64(benchKeys) {
							key = benchKey(key, i)
							bt.put(1, key, value)
						}
					}
					cpu.start()
					b.StartTimer()
				}
				key = benchKey(key, n%benchKeys)
				bt.put(1, key, value)
				n++
			}
			cpu.stop()
			cpu.report(b)
			bt.close()
		})
	}
}

func BenchmarkGet(b *testing.B) {
	bt := newBench()
	defer bt.close()
	value := make([]byte, 100)
	var key []byte
	for i := range uint64(benchKeys) {
		key = benchKey(key, i)
		bt.put(1, key, value)
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 10, benchKeys-1)
	const picks = 1 << 20
	uniform, skewed := make([]uint32, picks), make([]uint32, picks)
	for i := range uniform {
		uniform[i] = uint32(rand.Uint64N(benchKeys))
		skewed[i] = uint32(zipf.Uint64() * 7919 % benchKeys)
	}
	for _, c := range []struct {
		name string
		pick func(i int) uint64
	}{
		{"dist=uniform", func(i int) uint64 { return uint64(uniform[i%picks]) }},
		{"dist=zipf", func(i int) uint64 { return uint64(skewed[i%picks]) }},
		{"dist=hot1000", func(i int) uint64 { return uint64(uniform[i%picks] % 1000) }},
		{"dist=missing", func(i int) uint64 { return uint64(uniform[i%picks]) + benchKeys }},
	} {
		b.Run("keys=1M/value=100B/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			found := 0
			var key, dst []byte
			i := 0
			var cpu cpuMeter
			cpu.start()
			for b.Loop() {
				key = benchKey(key, c.pick(i))
				g := bt.d.Enter()
				r, ok := bt.t.Get(bt.t.Hash(1, key), 1, key, event.MaxLSN)
				if ok {
					dst = append(dst[:0], r.Value()...)
					found++
				}
				g.Exit()
				i++
			}
			cpu.stop()
			cpu.report(b)
			if want := i; c.name != "dist=missing" && found != want || c.name == "dist=missing" && found != 0 {
				b.Fatalf("found %d of %d", found, want)
			}
		})
	}
}
