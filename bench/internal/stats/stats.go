// Package stats holds the few statistics of the benchmark: median, spread, latency summaries and
// the check of peers against the figures that were measured for them earlier.
package stats

import (
	"math"
	"slices"
	"time"
)

// Summary is what several rounds of one case come to.
type Summary struct {
	N      int     `json:"n"`      // rounds
	Median float64 `json:"median"` // of the rounds; the mean of the middle two if N is even
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	MAD    float64 `json:"mad"` // median absolute deviation from Median
}

// Summarize returns the summary of xs, which it leaves as it is. NaNs are left out. No values
// give a zero Summary.
func Summarize(xs []float64) Summary {
	s := make([]float64, 0, len(xs))
	for _, x := range xs {
		if !math.IsNaN(x) {
			s = append(s, x)
		}
	}
	if len(s) == 0 {
		return Summary{}
	}
	slices.Sort(s)
	m := median(s)
	dev := make([]float64, len(s))
	for i, x := range s {
		dev[i] = math.Abs(x - m)
	}
	slices.Sort(dev)
	return Summary{N: len(s), Median: m, Min: s[0], Max: s[len(s)-1], MAD: median(dev)}
}

// median of a sorted slice with at least one element.
func median(s []float64) float64 {
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// Point is one step of a series over time: Rate operations a second during the step that ended
// Seconds after the start.
type Point struct {
	Seconds float64 `json:"s"`
	Rate    float64 `json:"rate"`
}

// RateOfFirst returns the operations a second until the n-th operation was done, taken from a
// series of evenly sampled steps, and false if the series ends before. The last step counts in
// proportion.
func RateOfFirst(series []Point, n float64) (float64, bool) {
	done, last := 0.0, 0.0
	for _, p := range series {
		step := p.Seconds - last
		ops := p.Rate * step
		if done+ops >= n && ops > 0 {
			at := last + step*(n-done)/ops
			return n / at, at > 0
		}
		done, last = done+ops, p.Seconds
	}
	return 0, false
}

// Peak returns the highest rate of a series after its first skip steps, 0 if there is none.
func Peak(series []Point, skip int) float64 {
	peak := 0.0
	for i, p := range series {
		if i >= skip {
			peak = max(peak, p.Rate)
		}
	}
	return peak
}

// Latency is a summary of sampled latencies in nanoseconds.
type Latency struct {
	Samples int64 `json:"samples"`
	P50     int64 `json:"p50"`
	P99     int64 `json:"p99"`
	P999    int64 `json:"p999"`
	Max     int64 `json:"max"`
}

// Bucket is one bar of a latency histogram: Count samples in [From, To) nanoseconds.
type Bucket struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	Count int64 `json:"count"`
}

// LogBuckets returns bounds that grow by the factor 10^(1/perDecade) from lo until they pass hi.
func LogBuckets(lo, hi time.Duration, perDecade int) []int64 {
	var bounds []int64
	for i := 0; ; i++ {
		b := float64(lo) * math.Pow(10, float64(i)/float64(perDecade))
		bounds = append(bounds, int64(math.Round(b)))
		if b > float64(hi) {
			return bounds
		}
	}
}
