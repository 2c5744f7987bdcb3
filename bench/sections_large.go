package main

import (
	"fmt"
	"strings"

	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// limits says what kept the memory of a suite's workers in bounds.
func (r *benchRun) limits(p *page, s suiteOf) {
	var seen []string
	r.each(s, func(w *row) {
		for _, res := range w.Results {
			if res.Limit != "" && !strings.Contains(strings.Join(seen, "\n"), res.Limit) {
				seen = append(seen, res.Limit)
			}
		}
	})
	for _, l := range seen {
		reason := ""
		if r.NoGroup != "" {
			reason = " (no cgroup: " + r.NoGroup + ")"
		}
		p.f("\nMemory was limited by %s%s.", l, reason)
	}
}

// largeTable shows what gets and scans read from the device, and what opening the cold store took.
func (r *benchRun) largeTable(p *page, s suiteOf) {
	r.limits(p, s)
	p.table("case", "engine", "-read B/op", "-reads/op", "-opened cold", "-first read", "-budget MB",
		"-limit MB", "-process MB", "-its page cache MB")
	r.each(s, func(w *row) {
		if w.Spec.MemoryLimit == 0 {
			return
		}
		per := func(of func(work.Result) int64) float64 {
			return w.summary(func(x work.Result) float64 { return float64(of(x)) / float64(max(x.Ops, 1)) }).Median
		}
		at := func(name string) string { return chart.Nanos(w.extra(name).Median * 1e9) }
		mb := func(bytes float64) string {
			if bytes == 0 {
				return "–" // a cgroup does not tell them apart
			}
			return fmt.Sprintf("%.0f", bytes/1e6)
		}
		p.cells(w.Case, w.Engine, chart.Short(per(func(x work.Result) int64 { return x.DeviceRead })),
			fmt.Sprintf("%.3f", per(func(x work.Result) int64 { return x.DiskReads })),
			at("open_s"), at("first_read_s"), mb(float64(w.Spec.MemoryBudget)), mb(float64(w.Spec.MemoryLimit)),
			mb(w.extra("own_memory").Median), mb(w.extra("page_cache").Median))
	})
	if s.Name == "scan" {
		r.scanTable(p, s)
	}
}

func (r *benchRun) scanTable(p *page, s suiteOf) {
	p.table("case", "engine", "-pairs/s", "-whole scans", "-first whole scan, before")
	r.each(s, func(w *row) {
		pairs, passes, warm := w.summary(opsPerSec), "–", "–"
		if n := w.extra("passes").Median; n > 0 {
			passes = fmt.Sprintf("%.0f", n)
		} else {
			pairs = w.extra("pairs_per_s")
		}
		if t := w.extra("warm_up_s").Median; t > 0 {
			warm = chart.Nanos(t * 1e9)
		}
		p.cells(w.Case, w.Engine, chart.Short(pairs.Median), passes, warm)
	})
}

func (r *benchRun) valuesTable(p *page, s suiteOf) {
	p.table("case", "engine", "-values MB/s", "-device ÷ user bytes", "-disk ÷ user bytes")
	r.each(s, func(w *row) {
		mb := fmt.Sprintf("%.0f", w.summary(opsPerSec).Median*float64(w.Spec.ValueSize)/1e6)
		device, disk := "–", "–"
		if v := w.extra("device_ratio").Median; v > 0 {
			device, disk = fmt.Sprintf("%.3f", v), fmt.Sprintf("%.3f", w.extra("disk_ratio").Median)
		}
		p.cells(w.Case, w.Engine, mb, device, disk)
	})
}

func (r *benchRun) amplificationTable(p *page, s suiteOf) {
	p.table("case", "engine", "-device ÷ user bytes", "-disk ÷ live bytes", "-of these log", "-side files", "-without both",
		"-until at rest", "-RSS MB", "-RSS MB when empty", "-budget MB", "-1.25 × budget + 32 MiB")
	r.each(s, func(w *row) {
		live := w.extra("live").Median
		if live == 0 {
			return // the overload has a table of its own
		}
		ratio := func(name string) string { return fmt.Sprintf("%.2f", w.extra(name).Median/live) }
		mb := func(name string) string { return fmt.Sprintf("%.0f", w.extra(name).Median/1e6) }
		side := "–" // not measured in older runs
		if w.extra("used_side").Median > 0 {
			side = ratio("used_side")
		}
		p.cells(w.Case, w.Engine, fmt.Sprintf("%.2f", w.extra("written").Median), ratio("used"), ratio("used_log"),
			side, fmt.Sprintf("%.2f", w.summary(present).Median), chart.Nanos(w.extra("settle_s").Median*1e9),
			fmt.Sprintf("%.0f", w.summary(func(x work.Result) float64 { return float64(x.PeakRSS) / 1e6 }).Median),
			mb("rss_empty"), mb("budget"), mb("rss_limit"))
	})
}

func (r *benchRun) overloadTable(p *page, s suiteOf) {
	p.table("case", "engine", "-offered puts/s", "-done puts/s", "-seconds", "-put p50", "-p99.9", "-slowest",
		"-slowest of each interval, median")
	r.each(s, func(w *row) {
		offered := w.extra("offered_per_s")
		if offered.Median == 0 {
			return
		}
		put := w.Results[0].Latency["put"]
		var worst []float64
		for _, pt := range w.Results[0].Series["slowest"] {
			worst = append(worst, pt.Rate*1e6)
		}
		p.cells(w.Case, w.Engine, chart.Short(offered.Median), chart.Short(w.summary(opsPerSec).Median),
			fmt.Sprintf("%.1f", w.extra("offered_s").Median), chart.Nanos(float64(put.P50)),
			chart.Nanos(float64(put.P999)), chart.Nanos(float64(put.Max)), chart.Nanos(stats.Summarize(worst).Median))
	})
}

// pastTable shows pairs, and what was measured alone. Of several processes, × is the median of theirs.
func (r *benchRun) pastTable(p *page, s suiteOf) {
	p.table("case", "-processes", "-rounds", "-× time", "-lowest", "-highest", "-× CPU", "-device reads/op", "-seconds", "-events")
	r.each(s, func(w *row) {
		x := w.Results[0].Extra
		if x == nil {
			return // what it was held against
		}
		some := func(name, format string, of func(stats.Summary) float64) string {
			if _, ok := x[name]; ok {
				return fmt.Sprintf(format, of(w.extra(name)))
			}
			return "–"
		}
		median := func(x stats.Summary) float64 { return x.Median }
		seconds, events := "–", "–"
		if t, ok := x["seconds"]; ok {
			seconds, events = chart.Nanos(t*1e9), chart.Short(x["events"])
		}
		p.cells(w.Case, fmt.Sprint(len(w.Results)), fmt.Sprintf("%.0f", x["pairs"]+x["rounds"]), some("ratio", "%.3f", median),
			some("ratio_min", "%.3f", func(x stats.Summary) float64 { return x.Min }),
			some("ratio_max", "%.3f", func(x stats.Summary) float64 { return x.Max }),
			some("cpu_ratio", "%.3f", median), some("reads", "%.2f", median), seconds, events)
	})
}

// crowdTable shows what a change in the number of clients does.
func (r *benchRun) crowdTable(p *page, s suiteOf) {
	p.table("clients", "engine", "-p99.9 first", "-p99.9 then", "-×", "-slowest first", "-table moves so far", "-longest wait for one", "-index MB")
	r.each(s, func(w *row) {
		then := w.summary(func(x work.Result) float64 { return float64(x.Latency["operation"].P999) }).Median
		moves, longest, index := "–", "–", "–"
		if m := w.extra("moves"); w.Engine == "dyngo" {
			moves, longest = chart.Short(m.Median), chart.Nanos(w.extra("longest_move_ns").Median)
			index = fmt.Sprintf("%.0f", w.extra("index_bytes").Median/1e6)
		}
		p.cells(w.Case, w.Engine, chart.Nanos(w.extra("first_p999").Median), chart.Nanos(then), fmt.Sprintf("%.2f", w.extra("first_ratio").Median),
			chart.Nanos(w.extra("first_max").Median), moves, longest, index)
	})
}

// besideTable shows what background jobs cost those in front.
func (r *benchRun) besideTable(p *page, s suiteOf) {
	p.table("case", "-pairs", "-× p50", "-× p99", "-lowest", "-highest", "-× p99.9", "-jobs ran, of the time")
	r.each(s, func(w *row) {
		of := func(name, format string) string {
			if x := w.extra(name); x.N > 0 && x.Median > 0 {
				return fmt.Sprintf(format, x.Median)
			}
			return "–"
		}
		p.cells(w.Case, of("pairs", "%.0f"), of("p50_ratio", "%.2f"), of("ratio", "%.2f"), of("ratio_min", "%.2f"), of("ratio_max", "%.2f"),
			of("p999_ratio", "%.2f"), fmt.Sprintf("%.0f %%", 100*w.extra("jobs").Median))
	})
}
