package main

import (
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// earlier are the figures that peers reached before, on the same kind of machine: the range that was
// seen while other jobs ran there, and for some what Pebble did when none did. A peer below
// stats.VoidBelow of the low end voids a run.
var earlier = []stats.Figure{
	{Suite: "durable", Case: "1 writer", Engine: "pebble", Metric: stats.OpsPerSecond, Low: 1300, High: 1500, Quiet: 7900},
	{Suite: "durable", Case: "16 writers", Engine: "pebble", Metric: stats.OpsPerSecond, Low: 8500, High: 21_500, Quiet: 54_000},
	{Suite: "durable", Case: "64 writers", Engine: "pebble", Metric: stats.OpsPerSecond, Low: 23_000, High: 40_000, Quiet: 154_000},
	{Suite: "durable", Case: "1024 writers", Engine: "pebble", Metric: stats.OpsPerSecond, Low: 95_000, High: 212_000, Quiet: 265_000},
	{Suite: "durable", Case: "1 writer", Engine: "badger", Metric: stats.OpsPerSecond, Low: 800},
	{Suite: "durable", Case: "16 writers", Engine: "badger", Metric: stats.OpsPerSecond, Low: 2100},
	{Suite: "durable", Case: "64 writers", Engine: "badger", Metric: stats.OpsPerSecond, Low: 1700},
	{Suite: "durable", Case: "1024 writers", Engine: "badger", Metric: stats.OpsPerSecond, Low: 1600},
	{Suite: "durable", Case: "1 writer", Engine: "bbolt", Metric: stats.OpsPerSecond, Low: 500},
	{Suite: "durable", Case: "16 writers", Engine: "bbolt", Metric: stats.OpsPerSecond, Low: 3700},
	{Suite: "durable", Case: "64 writers", Engine: "bbolt", Metric: stats.OpsPerSecond, Low: 11_900},
	{Suite: "durable", Case: "1024 writers", Engine: "bbolt", Metric: stats.OpsPerSecond, Low: 15_000},
	{Suite: "buffered", Case: "8 writers", Engine: "pebble", Metric: stats.OpsPerSecond, Low: 279_000},
	{Suite: "buffered", Case: "8 writers", Engine: "badger", Metric: stats.OpsPerSecond, Low: 95_000,
		Other: "64 writers"},
	{Suite: "buffered", Case: "8 writers", Engine: "bbolt", Metric: stats.OpsPerSecond, Low: 25_000,
		Other: "64 writers, 0.3 M keys"},
	{Suite: "get", Case: "uniform", Engine: "pebble", Metric: stats.OpsPerSecond, Low: 57_000},
	{Suite: "get", Case: "uniform", Engine: "badger", Metric: stats.OpsPerSecond, Low: 24_000},
	{Suite: "get", Case: "uniform", Engine: "bbolt", Metric: stats.OpsPerSecond, Low: 340_000,
		Other: "0.3 M keys, a third of the B+tree"},
	{Suite: "open", Case: "1 M unflushed events", Engine: "pebble", Metric: stats.Seconds, Low: 1.28},
}

// firstPuts is the length of the earlier buffered runs: a longer run is compared by its beginning,
// before compaction takes its share.
const firstPuts = 2e6

// checks compares every figure whose case was run.
func (r *benchRun) checks() []stats.Check {
	var out []stats.Check
	for _, f := range earlier {
		row := r.row(f.Suite, f.Case, f.Engine)
		if row == nil {
			continue
		}
		out = append(out, f.Against(row.summary(func(res work.Result) float64 {
			switch {
			case f.Metric == stats.Seconds:
				return res.Extra["first_read_s"]
			case f.Suite == "buffered":
				if rate, ok := stats.RateOfFirst(res.Series["put"], firstPuts); ok {
					return rate
				}
			}
			return res.OpsPerSec
		}).Median))
	}
	return out
}

// row finds what an engine did in a case; nil if it was not asked.
func (r *benchRun) row(suite, name, engine string) *row {
	for i := range r.Rows {
		if w := &r.Rows[i]; w.Suite == suite && w.Case == name && w.Engine == engine {
			return w
		}
	}
	return nil
}

// summary takes one number from each round.
func (w *row) summary(of func(work.Result) float64) stats.Summary {
	if w == nil {
		return stats.Summary{}
	}
	xs := make([]float64, len(w.Results))
	for i, res := range w.Results {
		xs[i] = of(res)
	}
	return stats.Summarize(xs)
}

func (w *row) extra(name string) stats.Summary {
	return w.summary(func(r work.Result) float64 { return r.Extra[name] })
}

func opsPerSec(r work.Result) float64 { return r.OpsPerSec }
func cpuPerOp(r work.Result) float64  { return r.CPU }
func allocs(r work.Result) float64    { return r.Allocs }
