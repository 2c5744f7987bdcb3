package main

import (
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// chartOrder names the charts of each suite in the order in which the report shows them.
var chartOrder = map[string][]string{
	"durable":  {"durable.svg", "durable-p50.svg"},
	"buffered": {"buffered.svg"},
	"get":      {"get.svg"},
	"mixed":    {"mixed.svg"},
	"open":     {"open.svg"},
	"large":    {"large.svg"},
	"scan":     {"scan-full.svg", "scan-100.svg"},

	"values100k":    {"values100k.svg"},
	"amplification": {"amplification-device.svg", "amplification-disk.svg", "overload.svg", "overload-slowest.svg"},

	"adaptive": {"adaptive-moving.svg"},
	"crowd":    {"crowd.svg", "crowd-slowest.svg"},

	"records": {"records-writes.svg", "records-reads.svg", "records-time.svg"},
	"clients": {"clients-buffered.svg", "clients-durable.svg"},
}

var colors = map[string]string{
	"dyngo": "#1668c7", "dyngo-causal": "#7db4ee", "pebble": "#e0803a", "badger": "#5f9e6e", "bbolt": "#9579b5", "none": "#9aa3ad",
}

func style(engine string) chart.Style { return chart.Style{Name: engine, Color: colors[engine]} }

// charts draws everything that was measured.
func (r *benchRun) charts() map[string]string {
	out := map[string]string{}
	for _, s := range r.Suites {
		switch s.Name {
		case "durable":
			out["durable.svg"] = r.bars(s, "Durable puts a second", "median and range of the rounds, logarithmic; more is better",
				opsPerSec, true, chart.Short)
			out["durable-p50.svg"] = r.bars(s, "Latency of a durable put, p50", "median and range of the rounds, logarithmic; less is better",
				func(x work.Result) float64 { return float64(x.Latency["put"].P50) }, true, chart.Nanos)
		case "get":
			out["get.svg"] = r.bars(s, "Gets in memory a second", "1 M keys, 2 goroutines, values copied; more is better", opsPerSec, false, chart.Short)
		case "mixed":
			out["mixed.svg"] = r.bars(s, "Half reads, half updates: operations a second", "1 M keys, zipf, 8 clients; more is better", opsPerSec, false, chart.Short)
		case "open":
			out["open.svg"] = r.bars(s, "Open: time to the first correct read", "files in the page cache, logarithmic; less is better",
				func(x work.Result) float64 { return x.Extra["first_read_s"] * 1e9 }, true, chart.Nanos)
		case "large":
			out["large.svg"] = r.bars(s, "Gets a second, data 8× memory",
				"2 goroutines, values copied, logarithmic; more is better", opsPerSec, true, chart.Short)
		case "scan":
			out["scan-full.svg"] = r.bars(only(s, "full"), "Full scans: pairs a second",
				"every cache line read, logarithmic; more is better", opsPerSec, true, chart.Short)
			out["scan-100.svg"] = r.bars(only(s, "100"), "Scans of 100 pairs a second",
				"starts by zipf, 2 goroutines, logarithmic; more is better", opsPerSec, true, chart.Short)
		case "values100k":
			out["values100k.svg"] = r.bars(s, "Values of 100 KB a second",
				"durable puts by 16 writers, gets by 2 readers, logarithmic; more is better", opsPerSec, true, chart.Short)
		case "adaptive":
			if c := movingCases[0]; slices.Contains(s.Cases, c) {
				out["adaptive-moving.svg"] = chart.Lines(chart.Head{Title: "Scans while the hot spot moves", Note: "scans of 100 a second; more is better"},
					[]chart.Line{r.lineOf(s, c, "hot ranges on", "dyngo"), r.lineOf(s, c+", off", "off", "none")}, nil, chart.Short)
			}
		case "crowd":
			out["crowd.svg"] = r.overTime(s, s.Cases[0], "all", "1 to 1024 clients and back", "operations a second; more is better", nil)
			out["crowd-slowest.svg"] = r.overTime(s, s.Cases[0], "slowest", "1 to 1024 clients and back: the slowest operation of each phase",
				"milliseconds; less is better", nil)
		case "amplification":
			r.amplificationCharts(out, s)
		case "buffered":
			out["buffered.svg"] = r.overTime(s, s.Cases[0], "put", "Buffered puts over time", "puts a second, 8 writers; more is better", nil)
		case "clients":
			for _, c := range s.Cases {
				out["clients-"+c+".svg"] = r.overTime(s, c, "all", "100 clients over time, "+c,
					"operations a second, half reads, half writes; more is better",
					[]chart.Mark{{Name: "reference mean 100,961", Y: refClientsMean}})
			}
		case "records":
			out["records-writes.svg"] = r.histogram(s, "write", "Records: latency of writes")
			out["records-reads.svg"] = r.histogram(s, "read", "Records: latency of reads")
			out["records-time.svg"] = r.recordsOverTime(s)
		}
	}
	return out
}

// only keeps the cases of a suite whose names begin so.
func only(s suiteOf, prefix string) suiteOf {
	s.Cases = slices.DeleteFunc(slices.Clone(s.Cases), func(c string) bool { return !strings.HasPrefix(c, prefix) })
	return s
}

func (r *benchRun) amplificationCharts(out map[string]string, s suiteOf) {
	over := s
	over.Cases = slices.DeleteFunc(slices.Clone(s.Cases), func(c string) bool { return c == "overload" })
	out["amplification-device.svg"] = r.bars(over, "Overwrites: bytes on the device for each byte of the user",
		"until everything is at rest; less is better", func(x work.Result) float64 { return x.Extra["written"] }, false, chart.Short)
	out["amplification-disk.svg"] = r.bars(over, "Overwrites: bytes on disk for each live byte of the user",
		"at rest, without DynGO's history; less is better", present, false, chart.Short)
	if slices.Contains(s.Cases, "overload") {
		out["overload.svg"] = r.overTime(s, "overload", "put", "Overload: puts over time",
			"puts a second, twice the sustained rate offered; more is better", nil)
		out["overload-slowest.svg"] = r.overTime(s, "overload", "slowest", "Overload: the slowest put of each interval",
			"milliseconds; less is better", []chart.Mark{{Name: "20 ms", Y: 20}})
	}
}

func (r *benchRun) bars(s suiteOf, title, note string, of func(work.Result) float64, log bool,
	label func(float64) string) string {
	names := r.engines(s.Name)
	var styles []chart.Style
	for _, e := range names {
		styles = append(styles, style(e))
	}
	var groups []chart.Group
	for _, c := range s.Cases {
		g := chart.Group{Label: c}
		for _, e := range names {
			v := r.row(s.Name, c, e).summary(of)
			g.Bars = append(g.Bars, chart.Bar{Value: v.Median, Low: v.Min, High: v.Max})
		}
		groups = append(groups, g)
	}
	return chart.Bars(chart.Head{Title: title, Note: note}, styles, groups, log, label)
}

func line(st chart.Style, points []stats.Point) chart.Line {
	l := chart.Line{Style: st}
	for _, p := range points {
		l.X = append(l.X, p.Seconds)
		l.Y = append(l.Y, p.Rate)
	}
	return l
}

// lineOf is DynGO's line of a case, under a name and in the color of an engine.
func (r *benchRun) lineOf(s suiteOf, name, title, color string) chart.Line {
	w := r.row(s.Name, name, "dyngo")
	if w == nil || len(w.Results) == 0 {
		return chart.Line{}
	}
	return line(chart.Style{Name: title, Color: colors[color]}, w.Results[0].Series["scan"])
}

func (r *benchRun) overTime(s suiteOf, name, op, title, note string, marks []chart.Mark) string {
	var lines []chart.Line
	for _, e := range r.engines(s.Name) {
		if w := r.row(s.Name, name, e); w != nil && len(w.Results) > 0 {
			lines = append(lines, line(style(e), w.Results[0].Series[op]))
		}
	}
	return chart.Lines(chart.Head{Title: title, Note: note}, lines, marks, chart.Short)
}

// modeStyles tell the two acknowledgement modes apart where the engine is always the same.
var modeStyles = map[string]string{"durable": "#1668c7", "buffered": "#e0803a"}

// fieldEngine is the engine that the charts of a field test show: DynGO, or the first that was run.
func (r *benchRun) fieldEngine(s suiteOf) string {
	names := append(r.engines(s.Name), "dyngo")
	return names[0]
}

func (r *benchRun) recordsOverTime(s suiteOf) string {
	var lines []chart.Line
	e := r.fieldEngine(s)
	for _, c := range s.Cases {
		w := r.row(s.Name, c, e)
		if w == nil || len(w.Results) == 0 {
			continue
		}
		for _, op := range []string{"write", "read"} {
			st := chart.Style{Name: op + "s, " + c, Color: modeStyles[c], Dashed: op == "read"}
			lines = append(lines, line(st, w.Results[0].Series[op]))
		}
	}
	return chart.Lines(chart.Head{Title: "Records over time, " + e, Note: "records a second; more is better"}, lines,
		[]chart.Mark{{Name: "reference reads 18,090", Y: refRecordReads}, {Name: "reference writes 2,232", Y: refRecordWrites}},
		chart.Short)
}

// histogram draws the latencies of one operation in both modes, from due and from begun.
func (r *benchRun) histogram(s suiteOf, op, title string) string {
	var steps []chart.Steps
	e := r.fieldEngine(s)
	for _, c := range s.Cases {
		w := r.row(s.Name, c, e)
		if w == nil || len(w.Results) == 0 {
			continue
		}
		for _, from := range []string{"due", "service"} {
			st := chart.Style{Name: c + ", " + map[string]string{"due": "from when due", "service": "from when begun"}[from],
				Color: modeStyles[c], Dashed: from == "service"}
			steps = append(steps, shares(st, w.Results[0].Histogram[op+" "+from]))
		}
	}
	steps = slices.DeleteFunc(steps, func(st chart.Steps) bool { return len(st.Share) == 0 })
	note := "share of " + strings.TrimSpace(op) + "s in each twelfth of a decade; further left is better"
	return chart.Histogram(chart.Head{Title: title + ", " + e, Note: note}, steps)
}

func shares(st chart.Style, buckets []stats.Bucket) chart.Steps {
	s := chart.Steps{Style: st}
	total := int64(0)
	for _, b := range buckets {
		total += b.Count
	}
	for i, b := range buckets {
		s.Edges = append(s.Edges, float64(b.From))
		s.Share = append(s.Share, 100*float64(b.Count)/float64(max(total, 1)))
		if i == len(buckets)-1 {
			s.Edges = append(s.Edges, float64(b.To))
		}
	}
	return s
}
