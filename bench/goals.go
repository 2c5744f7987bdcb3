package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// What the reference system of the field tests reached.
const (
	refRecordWrites = 2232
	refRecordReads  = 18_090
	refClientsMean  = 100_961
	refClientsPeak  = 115_809
)

// goalRow is one of DynGO's goals with what came out.
type goalRow struct {
	what, goal, dyngo, other, result string
	cpu                              string // the same peer's processor time per operation over DynGO's
	met                              bool
}

var peers = []string{"pebble", "badger", "bbolt"}

// goals lists those whose cases were run with DynGO and with something to compare.
func (r *benchRun) goals() []goalRow {
	var out []goalRow
	add := func(g goalRow, ok bool) {
		if ok {
			out = append(out, g)
		}
	}
	add(r.goalLatency("durable", "1 writer"))
	add(r.goalRatio("durable", "16 writers", "durable put, 16 writers", 2))
	add(r.goalRatio("durable", "64 writers", "durable put, 64 writers", 2))
	add(r.goalRatio("durable", "1024 writers", "durable put, 1024 writers", 4))
	add(r.goalRatio("buffered", "8 writers", "buffered put, 8 writers, drain included", 2))
	add(r.goalCPU("buffered", "8 writers", 1))
	for _, d := range []string{"zipf", "uniform", "missing"} {
		add(r.goalRatio("get", d, "get in memory, "+d, 3))
		add(r.goalAllocs("get", d))
	}
	add(r.goalRatio("mixed", "zipf, 8 clients", "half read, half update, zipf", 2))
	for _, d := range []string{"zipf", "uniform", "missing"} {
		add(r.goalRatio("large", d, "get, data 8× memory, "+d, 1.5))
	}
	for _, c := range []string{"full, in memory", "full, 8× memory", "100, 8× memory"} {
		add(r.goalRatio("scan", c, "scan, "+c, 1.5))
	}
	add(r.goalRatio("scan", "100, in memory", "scan, 100, in memory, zipf", 2))
	add(r.goalOver("values100k", "put", "pebble", "durable put of 100 KB, 16 writers", 1.6))
	add(r.goalRatio("values100k", "get", "get of 100 KB", 1))
	add(r.goalWritten("values100k", "put", 1.05))
	for _, d := range []string{"uniform", "zipf"} {
		add(r.goalSpace("amplification", d))
		add(r.goalResident("amplification", d))
	}
	add(r.goalOverload("amplification", "overload", 20))
	add(r.goalOpen("open", "1 M unflushed events"))
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			if s.Name == "open" && strings.HasSuffix(c, ", closed") {
				add(r.goalOpenClosed("open", c, 0.05))
			}
		}
	}
	nanos := func(ns float64) string { return chart.Nanos(ns) }
	times := func(x float64) string { return fmt.Sprintf("%.2f×", x) }
	perOp := func(x work.Result) float64 { return 1e9 / x.OpsPerSec }
	add(r.goalPast("view, opened and closed", "a view", "< 1 µs", 1000, nanos, perOp))
	add(r.goalPast("get as of, key unchanged since", "get as of an LSN, in memory", "≤ 2× a get", 2, times, extraOf("ratio")))
	add(r.goalPast("get as of, key changed since", "the same of a key that was changed since", "≤ 2× a get", 2, times, extraOf("ratio")))
	add(r.goalPast("get as of, cold", "get as of an LSN, cold: device reads", "≤ 2", 2, func(x float64) string { return fmt.Sprintf("%.2f", x) },
		extraOf("reads")))
	for _, bytes := range []string{"100", "1024"} {
		add(r.goalPast("verify --level tree, "+bytes+" B", "verify --level tree, events of "+bytes+" B", "≥ 80 % of SHA-256's speed", 1/0.8, times,
			extraOf("ratio")))
	}
	add(r.goalPast("durable put with a tree", "durable put with a tree, 64 writers", "≤ 5 % slower", 1.05, times, extraOf("ratio")))
	add(r.goalPast("restore to an LSN, bytes", "restore of 10 GB to an LSN", "≥ 80 % of plain writes", 1/0.8, times, extraOf("ratio")))
	seconds := func(s float64) string { return chart.Nanos(s * 1e9) }
	add(r.goalPast("history of a key", "history of a key, warm", "≤ 100 ms", 0.1, seconds, extraOf("seconds")))
	add(r.goalPast("bisect", "bisect", "≤ 10 s", 10, seconds, extraOf("seconds")))
	add(r.goalPast("every event read and counted", "replay", "≥ 2 M events/s", 1.0/2e6, func(s float64) string { return chart.Short(1/s) + "/s" },
		func(x work.Result) float64 { return 1 / x.OpsPerSec }))
	add(r.goalOf("adaptive", "scan, zipf", "zipf scans of 100, hot ranges on ÷ off", "≤ 0.5× the time", 0.5, times, extraOf("ratio")))
	for _, name := range slices.Concat(adaptiveCases[1:], shapeCases) {
		add(r.goalOf("adaptive", name, name+": hot ranges on ÷ off", "≤ 1.03× the time", 1.03, times, extraOf("ratio")))
	}
	add(r.goalOf("order", orderCases[0], "the first scan of a dataset in memory: 100 pairs", "< 10 ms", 10e6, nanos,
		func(x work.Result) float64 { return float64(x.Latency["100 pairs"].P50) }))
	add(r.goalOf("order", orderCases[1], "put to a dataset never scanned ÷ to one that was", "≤ 1×", 1, times, extraOf("ratio")))
	add(r.goalCrowd())
	for _, name := range besideCases {
		add(r.goalOf("beside", name+", all jobs running", name+": p99 beside all background jobs ÷ without", "≤ 1.5×", 1.5, times, extraOf("ratio")))
	}
	seconds1 := func(s float64) string { return fmt.Sprintf("%.1f s", s) }
	add(r.goalOf("adaptive", movingCases[0], movingCases[0]+": the slowest to adapt", "< 5 s", 5, seconds1, extraOf("adapt_s")))
	add(r.goalOf("adaptive", movingCases[1], movingCases[1]+": hot ranges on ÷ off", "≤ 1.03× the time", 1.03, times, extraOf("ratio")))
	add(r.goalOf("adaptive", recordCases[0], recordCases[0]+": records on ÷ off", "≤ 0.77× the time", 1/1.3, times, extraOf("ratio")))
	for _, name := range recordCases[1:] {
		add(r.goalOf("adaptive", name, name+": records on ÷ off", "≤ 1.03× the time", 1.03, times, extraOf("ratio")))
	}
	add(r.goalMemory("memory", "all in memory"))
	for _, mode := range []string{"durable", "buffered"} {
		add(r.goalField("records", mode, "writes_per_s", "records, "+mode+": writes", refRecordWrites))
		add(r.goalField("records", mode, "reads_per_s", "records, "+mode+": reads", refRecordReads))
	}
	for _, mode := range []string{"buffered", "durable"} {
		add(r.goalField("clients", mode, "", "clients, "+mode+": mean", refClientsMean))
		add(r.goalField("clients", mode, "peak", "clients, "+mode+": peak", refClientsPeak))
	}
	return out
}

// bestPeer returns the peer with the highest value, or with less the lowest.
func (r *benchRun) bestPeer(suite, name string, of func(work.Result) float64, less bool) (string, float64) {
	best, value := "", math.NaN()
	for _, p := range peers {
		s := r.row(suite, name, p).summary(of)
		if s.N > 0 && s.Median > 0 && (best == "" || (s.Median > value) != less) {
			best, value = p, s.Median
		}
	}
	return best, value
}

func (r *benchRun) goalRatio(suite, name, what string, atLeast float64) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").summary(opsPerSec)
	peer, _ := r.bestPeer(suite, name, opsPerSec, false)
	if own.N == 0 || peer == "" {
		return goalRow{}, false
	}
	g := r.ratioTo(suite, name, peer, what, atLeast)
	g.goal = fmt.Sprintf("≥ %g× best peer", atLeast)
	return g, true
}

// goalOver compares with one peer.
func (r *benchRun) goalOver(suite, name, peer, what string, atLeast float64) (goalRow, bool) {
	if r.row(suite, name, "dyngo").summary(opsPerSec).N == 0 || r.row(suite, name, peer).summary(opsPerSec).N == 0 {
		return goalRow{}, false
	}
	g := r.ratioTo(suite, name, peer, what, atLeast)
	g.goal = fmt.Sprintf("≥ %g× %s", atLeast, peer)
	return g, true
}

// ratioTo compares the rates of DynGO and a peer that both ran a case.
func (r *benchRun) ratioTo(suite, name, peer, what string, atLeast float64) goalRow {
	own, best := r.row(suite, name, "dyngo").summary(opsPerSec), r.row(suite, name, peer).summary(opsPerSec).Median
	cpu := r.row(suite, name, peer).summary(cpuPerOp).Median / r.row(suite, name, "dyngo").summary(cpuPerOp).Median
	return goalRow{
		what: what, cpu: fmt.Sprintf("%.1f×", cpu),
		dyngo: chart.Short(own.Median) + "/s", other: chart.Short(best) + "/s " + peer,
		result: fmt.Sprintf("%.2f×", own.Median/best), met: own.Median >= atLeast*best,
	}
}

func (r *benchRun) goalLatency(suite, name string) (goalRow, bool) {
	p50 := func(res work.Result) float64 { return float64(res.Latency["put"].P50) }
	own := r.row(suite, name, "dyngo").summary(p50)
	peer, best := r.bestPeer(suite, name, p50, true)
	if own.N == 0 || peer == "" {
		return goalRow{}, false
	}
	return goalRow{
		what: "durable put, 1 writer", goal: "p50 no worse than best peer",
		dyngo: chart.Nanos(own.Median), other: chart.Nanos(best) + " " + peer,
		result: fmt.Sprintf("%.2f× the time", own.Median/best), met: own.Median <= best,
	}, true
}

func (r *benchRun) goalCPU(suite, name string, atMost float64) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").summary(cpuPerOp)
	peer, best := r.bestPeer(suite, name, cpuPerOp, true)
	other := "–"
	if peer != "" {
		other = fmt.Sprintf("%.2f µs %s", best, peer)
	}
	return goalRow{
		what: "buffered put, processor time", goal: fmt.Sprintf("≤ %g µs", atMost),
		dyngo: fmt.Sprintf("%.2f µs", own.Median), other: other,
		result: fmt.Sprintf("%.2f µs", own.Median), met: own.Median <= atMost,
	}, own.N > 0
}

func (r *benchRun) goalAllocs(suite, name string) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").summary(allocs)
	peer, best := r.bestPeer(suite, name, allocs, true)
	other := "–"
	if peer != "" {
		other = fmt.Sprintf("%.2f %s", best, peer)
	}
	return goalRow{
		what: "get in memory, " + name + ": allocations", goal: "0 per get",
		dyngo: fmt.Sprintf("%.4f", own.Median), other: other,
		// The worker itself allocates a few dozen times in millions of gets.
		result: fmt.Sprintf("%.4f", own.Median), met: own.Median < 0.001,
	}, own.N > 0
}

func (r *benchRun) goalOpen(suite, name string) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").extra("first_read_s")
	pebble := r.row(suite, name, "pebble").extra("first_read_s")
	if own.N == 0 || pebble.N == 0 {
		return goalRow{}, false
	}
	return goalRow{
		what: "open after kill -9 to a random key", goal: "≤ ¼ of Pebble's time",
		dyngo: chart.Nanos(own.Median * 1e9), other: chart.Nanos(pebble.Median*1e9) + " pebble",
		result: fmt.Sprintf("%.2f× the time", own.Median/pebble.Median), met: own.Median <= pebble.Median/4,
	}, true
}

func (r *benchRun) goalMemory(suite, name string) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").extra("bytes_per_key")
	return goalRow{
		what: "memory: (heap + mapped − tail bytes) / keys", goal: "≤ 64 B",
		dyngo: fmt.Sprintf("%.1f B", own.Median), other: "–",
		result: fmt.Sprintf("%.1f B", own.Median), met: own.Median <= 64,
	}, own.N > 0
}

// goalField compares a field test with the reference system. Without a name it takes the mean.
func (r *benchRun) goalField(suite, name, extra, what string, reference float64) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").summary(func(res work.Result) float64 {
		if extra == "" {
			return res.OpsPerSec
		}
		return res.Extra[extra]
	})
	return goalRow{
		what: what, goal: "beside the reference",
		dyngo: chart.Short(own.Median) + "/s", other: chart.Short(reference) + "/s reference",
		result: fmt.Sprintf("%.2f×", own.Median/reference), met: own.Median >= reference,
	}, own.N > 0
}
