package stats

import (
	"math"
	"testing"
	"time"
)

func TestSummarize(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []float64
		want Summary
	}{
		{"nothing", nil, Summary{}},
		{"one round", []float64{7}, Summary{N: 1, Median: 7, Min: 7, Max: 7}},
		{"odd", []float64{9, 1, 4}, Summary{N: 3, Median: 4, Min: 1, Max: 9, MAD: 3}},
		{"even takes the middle two", []float64{4, 1, 2, 100}, Summary{N: 4, Median: 3, Min: 1, Max: 100, MAD: 1.5}},
		{"an outlier moves neither", []float64{10, 11, 10, 9, 1e9}, Summary{N: 5, Median: 10, Min: 9, Max: 1e9, MAD: 1}},
		{"a failed round is left out", []float64{math.NaN(), 3}, Summary{N: 1, Median: 3, Min: 3, Max: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := append([]float64(nil), tc.in...)
			if got := Summarize(in); got != tc.want {
				t.Fatalf("Summarize(%v) = %+v, want %+v", tc.in, got, tc.want)
			}
			for i := range in {
				if in[i] != tc.in[i] && !math.IsNaN(in[i]) {
					t.Fatal("Summarize changed its argument")
				}
			}
		})
	}
}

func TestRateOfFirst(t *testing.T) {
	series := []Point{{1, 100}, {2, 300}, {3, 10}}
	for _, tc := range []struct {
		n    float64
		want float64
		ok   bool
	}{
		{100, 100, true},      // exactly the first step
		{50, 100, true},       // inside the first step
		{250, 500. / 3, true}, // 1 s for 100 and half a second for 150
		{410, 410. / 3, true},
		{411, 0, false},
	} {
		got, ok := RateOfFirst(series, tc.n)
		if ok != tc.ok || math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("RateOfFirst(%v) = %v, %v, want %v, %v", tc.n, got, ok, tc.want, tc.ok)
		}
	}
	if _, ok := RateOfFirst(nil, 1); ok {
		t.Error("an empty series has a rate")
	}
	if p := Peak(series, 0); p != 300 {
		t.Errorf("Peak = %v, want 300", p)
	}
	if p := Peak(series, 2); p != 10 {
		t.Errorf("Peak after two steps = %v, want 10", p)
	}
}

func TestLogBuckets(t *testing.T) {
	b := LogBuckets(time.Microsecond, time.Millisecond, 3)
	if b[0] != 1000 || b[3] != 10_000 || b[6] != 100_000 || b[9] != 1_000_000 {
		t.Fatalf("bounds %v: every third must be a power of ten", b)
	}
	if last := b[len(b)-1]; last <= int64(time.Millisecond) {
		t.Fatalf("the last bound %d does not pass the end", last)
	}
}

func TestFigureAgainst(t *testing.T) {
	durable := Figure{Suite: "durable", Case: "16 writers", Engine: "pebble", Metric: OpsPerSecond, Low: 8500, High: 21500}
	opening := Figure{Suite: "open", Case: "kill -9", Engine: "pebble", Metric: Seconds, Low: 1.28}
	other := Figure{Suite: "get", Case: "uniform", Engine: "bbolt", Metric: OpsPerSecond, Low: 340_000, Other: "fewer keys"}
	for _, tc := range []struct {
		name     string
		figure   Figure
		measured float64
		ratio    float64
		void     bool
	}{
		{"above the range", durable, 85_000, 10, false},
		{"at the low end", durable, 8500, 1, false},
		{"just enough", durable, 0.7 * 8500, 0.7, false},
		{"too slow", durable, 0.69 * 8500, 0.69, true},
		{"nothing measured", durable, 0, 0, true},
		{"a time that is shorter is better", opening, 0.64, 2, false},
		{"a time that is too long", opening, 2.56, 0.5, true},
		{"other conditions never void", other, 34_000, 0.1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := tc.figure.Against(tc.measured)
			if math.Abs(c.Ratio-tc.ratio) > 1e-9 || c.Void != tc.void {
				t.Fatalf("ratio %v void %v, want %v %v", c.Ratio, c.Void, tc.ratio, tc.void)
			}
		})
	}
}
