package heat

import (
	"testing"
	"time"

	"github.com/dyngodb/dyngo/internal/clock"
)

// BenchmarkDue is what each operation pays.
func BenchmarkDue(b *testing.B) {
	s := New(clock.NewSystem())
	s.setShift(maxShift)
	tick, due := uint32(0), 0
	for b.Loop() {
		if tick++; s.Due(tick) {
			due++
		}
	}
}

// BenchmarkSample is what a sampled operation pays, and what taking it in costs, with all that Run does beside: a tenth of a second of
// samples at a time.
func BenchmarkSample(b *testing.B) {
	for _, name := range []string{"add", "collect"} {
		b.Run(name, func(b *testing.B) {
			clk := clock.NewManual(time.Unix(1e9, 0))
			s := New(clk)
			keys := make([][]byte, 10_000)
			for i := range keys {
				keys[i] = key(i * 7919 % len(keys))
			}
			const batch = samplesPerSecond / 10
			n := 0
			var adding, collecting time.Duration
			for b.Loop() {
				begun := time.Now()
				for i := range batch {
					n++
					k := keys[n*n%len(keys)]
					s.Add(i, Kind(n%2)*Write, 1, uint64(n*n%len(keys)), k, time.Microsecond)
				}
				added := time.Now()
				clk.Advance(pollBusy)
				s.collect(time.Second)
				adding, collecting = adding+added.Sub(begun), collecting+time.Since(added)
			}
			spent := map[string]time.Duration{"add": adding, "collect": collecting}[name]
			b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "ns/sample")
			b.ReportMetric(0, "ns/op")
		})
	}
}
