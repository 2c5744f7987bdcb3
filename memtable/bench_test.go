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

// fill puts all keys.
func (b *bench) fill(value []byte) {
	var key []byte
	for i := range uint64(benchKeys) {
		key = benchKey(key, i)
		b.put(1, key, value)
	}
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
	event.AppendPayload(r.Payload()[:0], 1, key, value, nil)
	r.Fill(b.lsn, int64(b.lsn), ds, event.OpPut, 0, 0)
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
						bt.fill(value)
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
	bt.fill(value)
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

func BenchmarkScan(b *testing.B) {
	value := make([]byte, 100)
	for _, c := range []struct {
		name  string
		setup func(bt *bench)
	}{
		{"records=arrival", func(*bench) {}},
		{"records=overwritten", nil}, // all keys, before each scan of all
	} {
		bt := newBench()
		bt.fill(value)
		bt.t.EnableOrder(1)
		if c.setup != nil {
			c.setup(bt)
		}
		items := make([]tail.Record, 128)
		for _, length := range []int{100, benchKeys} {
			name := "keys=1M/value=100B/" + c.name + "/length=100"
			if length == benchKeys {
				name = "keys=1M/value=100B/" + c.name + "/length=all"
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				var cpu cpuMeter
				var from []byte
				rng := rand.New(rand.NewPCG(1, 1))
				cpu.start()
				pairs := 0
				sum := byte(0)
				for b.Loop() {
					if length < benchKeys {
						from = benchKey(from, rng.Uint64N(benchKeys))
					} else if c.setup == nil {
						b.StopTimer()
						cpu.stop()
						bt.fill(value)
						cpu.start()
						b.StartTimer()
					}
					it := bt.t.Scan(1, ScanOptions{From: from, Max: event.MaxLSN})
					for left := length; left > 0; {
						g := bt.d.Enter()
						n := it.Next(items[:min(left, len(items))])
						for i := range items[:n] {
							v := items[i].Value()
							sum += v[0] + v[len(v)-1] + items[i].Key()[0]
						}
						g.Exit()
						if n == 0 {
							break
						}
						pairs += n
						left -= n
					}
					from = nil
				}
				cpu.stop()
				_ = sum
				b.ReportMetric(float64(cpu.sum)/float64(pairs), "cpu-ns/pair")
				b.ReportMetric(0, "ns/op")
			})
		}
		bt.close()
	}
}

func BenchmarkFirstScan(b *testing.B) {
	b.Run("keys=1M/value=100B", func(b *testing.B) {
		var cpu cpuMeter
		value := make([]byte, 100)
		for b.Loop() {
			b.StopTimer()
			bt := newBench()
			bt.fill(value)
			b.StartTimer()
			cpu.start()
			bt.t.EnableOrder(1)
			cpu.stop()
			b.StopTimer()
			bt.close()
			b.StartTimer()
		}
		b.ReportMetric(float64(cpu.sum)/float64(b.N)/benchKeys, "cpu-ns/key")
	})
}

// BenchmarkLeave has generations of 100 K records leave while ten are in memory.
func BenchmarkLeave(b *testing.B) {
	const records, inMemory = 100_000, 10
	for _, c := range []struct {
		name  string
		order bool
		keys  uint64 // written again and again
	}{
		{"keys=new/order=off", false, 1 << 60},
		{"keys=new/order=on", true, 1 << 60},
		{"keys=300K/order=off", false, 300_000},
		{"keys=300K/order=on", true, 300_000},
		{"keys=1K/order=off", false, 1000},
	} {
		b.Run("records=100K/value=100B/"+c.name, func(b *testing.B) {
			var cpu cpuMeter
			value := make([]byte, 100)
			bt := newBench()
			defer bt.close()
			if c.order {
				bt.t.EnableOrder(1)
			}
			var key []byte
			var gens []tail.Generation
			n := uint64(0)
			fill := func() {
				for range records {
					key = benchKey(key, n%c.keys)
					bt.put(1, key, value)
					n++
				}
				gens = append(gens, bt.ap.Seal())
			}
			for range inMemory {
				fill()
			}
			for b.Loop() {
				b.StopTimer()
				fill()
				b.StartTimer()
				cpu.start()
				bt.t.Leave(gens[0])
				cpu.stop()
				gens = gens[1:]
			}
			b.ReportMetric(float64(cpu.sum)/float64(b.N)/records, "cpu-ns/record")
		})
	}
}

// BenchmarkSorted sorts a generation of 100 K records; another one has come after it.
func BenchmarkSorted(b *testing.B) {
	const records = 100_000
	for _, c := range []struct {
		name string
		keys uint64 // 0 = new ones only
		pins int
	}{
		{"keys=new", 0, 0},
		{"keys=zipf300K", 300_000, 0},
		{"keys=zipf300K/pins=3", 300_000, 3},
	} {
		b.Run("records=100K/value=100B/"+c.name, func(b *testing.B) {
			var cpu cpuMeter
			value := make([]byte, 100)
			bt := newBench()
			defer bt.close()
			var zipf *rand.Zipf
			if c.keys > 0 {
				zipf = rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 10, c.keys-1)
			}
			var key []byte
			fill := func() tail.Generation {
				for range records {
					k := uint64(bt.lsn)
					if zipf != nil {
						k = zipf.Uint64()
					}
					key = benchKey(key, k)
					bt.put(1, key, value)
				}
				return bt.ap.Seal()
			}
			fill()
			g := fill()
			fill()
			o := SortedOptions{Durable: bt.lsn}
			for i := range c.pins {
				o.Pins = append(o.Pins, event.LSN(records+records/c.pins*i))
			}
			kept, sum := 0, byte(0)
			for b.Loop() {
				cpu.start()
				s := bt.t.Sorted([]tail.Generation{g}, o)
				for r := range s.Records() {
					v := r.Value()
					sum += r.Key()[0] + v[0] + v[len(v)-1]
				}
				cpu.stop()
				kept = s.Len()
				s.Free()
			}
			_ = sum
			b.ReportMetric(float64(cpu.sum)/float64(b.N)/records, "cpu-ns/record")
			b.ReportMetric(float64(kept)/records, "kept/record")
		})
	}
}
