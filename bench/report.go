package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

const reportFile = "report.md"

// finish writes report and charts and tells on standard error what came out. A void run is an error.
func finish(dir string, r *benchRun) error {
	if err := writeReport(dir, r); err != nil {
		return err
	}
	void := r.voids()
	for _, c := range void {
		fmt.Fprintln(os.Stderr, c)
	}
	fmt.Fprintln(os.Stderr, "report:", filepath.Join(dir, reportFile))
	if len(void) > 0 {
		return fmt.Errorf("the run is void: %d peers' figures below %.1f of earlier ones", len(void), stats.VoidBelow)
	}
	return nil
}

func rerender(dir string) error {
	if c, err := loadCacheRun(dir); err == nil && len(c.Traces) > 0 {
		return c.writeReport(dir)
	}
	r, err := loadRun(dir)
	if err != nil {
		return err
	}
	return writeReport(dir, r)
}

func (r *benchRun) voids() (out []stats.Check) {
	for _, c := range r.checks() {
		if c.Void {
			out = append(out, c)
		}
	}
	return out
}

func writeReport(dir string, r *benchRun) error {
	charts := r.charts()
	for name, svg := range charts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, reportFile), []byte(r.markdown(charts)), 0o644)
}

// page is a Markdown file in the making.
type page struct{ strings.Builder }

func (p *page) f(format string, a ...any) { fmt.Fprintf(p, format+"\n", a...) }

// table starts a table; columns after the first one are aligned right if they begin with "-".
func (p *page) table(columns ...string) {
	var head, rule []string
	for _, c := range columns {
		name, right := strings.CutPrefix(c, "-")
		head = append(head, name)
		rule = append(rule, map[bool]string{true: "--:", false: "---"}[right])
	}
	p.f("\n| %s |", strings.Join(head, " | "))
	p.f("|%s|", strings.Join(rule, "|"))
}

func (p *page) cells(cells ...string) { p.f("| %s |", strings.Join(cells, " | ")) }

func (r *benchRun) markdown(charts map[string]string) string {
	p := &page{}
	p.f("# DynGO beside Pebble, Badger and bbolt\n")
	r.status(p)
	r.conditions(p)
	r.goalTable(p)
	for _, s := range r.Suites {
		p.f("\n## %s", s.Title)
		r.suiteText(p, s)
		for _, name := range chartOrder[s.Name] {
			if _, ok := charts[name]; ok {
				p.f("\n![%s](%s)", s.Title, name)
			}
		}
		r.suiteTable(p, s)
		r.suiteExtras(p, s)
		r.suiteErrors(p, s)
		r.setUp(p, s)
	}
	r.yardsticks(p)
	p.f("\n%s", strings.TrimSpace(method))
	return p.String()
}

func (r *benchRun) status(p *page) {
	void, checked := r.voids(), 0
	for _, c := range r.checks() {
		if c.Other == "" {
			checked++
		}
	}
	switch {
	case len(void) > 0:
		p.f("**VOID.** A peer was below %.1f of what it reached earlier on this kind of machine, so nothing here "+
			"may be quoted:\n", stats.VoidBelow)
		for _, c := range void {
			p.f("- %s", c)
		}
	case checked == 0:
		p.f("**Not checked**: no peer ran a case that has an earlier figure to compare with.")
	default:
		p.f("**Valid**: all %d figures of peers that can be compared are at %.1f of their earlier ones or above.",
			checked, stats.VoidBelow)
	}
	if !r.Full {
		p.f("\nShort rounds: a try, not a result to keep.")
	}
}

func (r *benchRun) conditions(p *page) {
	m := r.Machine
	changed := ""
	if r.Changed {
		changed = " with uncommitted changes"
	}
	p.table("", "")
	p.cells("commit", "`"+r.Commit+"`"+changed)
	p.cells("command", "`"+r.Command+"` in `bench/`")
	p.cells("when", fmt.Sprintf("%s, %.0f minutes", r.Began.Format("2006-01-02 15:04 MST"), r.Ended.Sub(r.Began).Minutes()))
	p.cells("processor", fmt.Sprintf("%s, %d cores, GOMAXPROCS %d", m.CPU, m.Cores, m.GOMAXPROCS))
	p.cells("memory", fmt.Sprintf("%.1f GiB", float64(m.Memory)/float64(gb)))
	p.cells("system", m.OS)
	p.cells("file system", m.FileSystem)
	if m.ReadAhead > 0 {
		p.cells("read ahead", fmt.Sprintf("%d KiB, for files that are read or mapped without advice", m.ReadAhead>>10))
	}
	p.cells("Go", m.Go)
	p.cells("taken by other guests", fmt.Sprintf("%.1f %% of processor time", r.Steal*100))
	for _, l := range r.Leftover {
		p.cells("left out for time", l)
	}
	if len(r.Probes) == 0 {
		return
	}
	var sync, write, cpu []float64
	for _, b := range r.Probes {
		sync = append(sync, float64(b.Fdatasync.P50))
		write = append(write, b.WriteMB)
		cpu = append(cpu, b.CPUMillis)
	}
	s, w, c := stats.Summarize(sync), stats.Summarize(write), stats.Summarize(cpu)
	p.cells("512 B append + fdatasync, p50", fmt.Sprintf("%s (%s–%s in %d probes during the run)",
		chart.Nanos(s.Median), chart.Nanos(s.Min), chart.Nanos(s.Max), s.N))
	p.cells("sequential write", fmt.Sprintf("%.0f MB/s (%.0f–%.0f)", w.Median, w.Min, w.Max))
	p.cells("fixed work on one core", fmt.Sprintf("%.0f ms (%.0f–%.0f)", c.Median, c.Min, c.Max))
}

func (r *benchRun) goalTable(p *page) {
	goals := r.goals()
	if len(goals) == 0 {
		return
	}
	p.f("\n## Goals")
	p.table("workload", "goal", "-DynGO", "-beside it", "-result", "-CPU per op, peer ÷ DynGO", "")
	for _, g := range goals {
		p.cells(g.what, g.goal, g.dyngo, g.other, g.result, g.cpu, map[bool]string{true: "met", false: "**missed**"}[g.met])
	}
}

// engines lists those that have rows in a suite, the driver's own cost left out.
func (r *benchRun) engines(suite string) []string {
	var out []string
	for _, name := range engine.Names() {
		has := slices.ContainsFunc(r.Rows, func(w row) bool { return w.Suite == suite && w.Engine == name })
		if has && name != "none" {
			out = append(out, name)
		}
	}
	return out
}

// latencyOf is the operation whose latency the table of a suite shows.
func latencyOf(w *row) []string {
	var ops []string
	if len(w.Results) > 0 {
		for op := range w.Results[0].Latency {
			ops = append(ops, op)
		}
	}
	slices.Sort(ops)
	return ops
}

func (r *benchRun) suiteTable(p *page, s suiteOf) {
	if s.Name == "open" || s.Name == "memory" {
		return // their numbers are of another kind
	}
	p.table("case", "engine", "-ops/s", "-(min–max)", "latency of", "-p50", "-p99", "-p99.9", "-CPU µs/op",
		"-allocs/op", "-disk B/op", "-dirtied B/op", "-RSS MB")
	for _, c := range s.Cases {
		for _, e := range r.engines(s.Name) {
			if w := r.row(s.Name, c, e); w != nil && len(w.Results) > 0 {
				tableRows(p, w)
			}
		}
	}
	if w := r.row(s.Name, s.Cases[0], "none"); w != nil && len(w.Results) > 0 {
		p.f("\nOf each operation %.3f µs are the driver's own (keys, values, counting, checking).", w.summary(cpuPerOp).Median)
	}
}

func tableRows(p *page, w *row) {
	ops := w.summary(opsPerSec)
	device := w.summary(func(res work.Result) float64 { return float64(res.Device) / float64(max(res.Ops, 1)) })
	disk := w.summary(func(res work.Result) float64 { return float64(res.DiskWrite) / float64(max(res.Ops, 1)) })
	rss := w.summary(func(res work.Result) float64 { return float64(res.PeakRSS) / 1e6 })
	spread := "one round"
	if ops.N > 1 {
		spread = chart.Short(ops.Min) + "–" + chart.Short(ops.Max)
	}
	for i, op := range latencyOf(w) {
		at := func(of func(stats.Latency) int64) string {
			return chart.Nanos(w.summary(func(res work.Result) float64 { return float64(of(res.Latency[op])) }).Median)
		}
		cells := []string{w.Case, w.Engine, chart.Short(ops.Median), spread, op,
			at(func(l stats.Latency) int64 { return l.P50 }), at(func(l stats.Latency) int64 { return l.P99 }),
			at(func(l stats.Latency) int64 { return l.P999 }),
			fmt.Sprintf("%.2f", w.summary(cpuPerOp).Median), fmt.Sprintf("%.3f", w.summary(allocs).Median),
			fmt.Sprintf("%.0f", disk.Median), fmt.Sprintf("%.0f", device.Median), fmt.Sprintf("%.0f", rss.Median)}
		if i > 0 {
			for _, j := range []int{0, 1, 2, 3, 8, 9, 10, 11, 12} {
				cells[j] = ""
			}
		}
		p.cells(cells...)
	}
}

func (r *benchRun) suiteErrors(p *page, s suiteOf) {
	for _, w := range r.Rows {
		if w.Suite != s.Name {
			continue
		}
		for _, e := range w.Errors {
			first, _, _ := strings.Cut(e, "\n")
			p.f("\n**%s failed** in %s: %s", w.Engine, w.Case, first)
		}
		var notes []string
		for _, res := range w.Results {
			for _, n := range res.Notes {
				if !slices.Contains(notes, n) {
					notes = append(notes, n)
				}
			}
		}
		for _, n := range notes {
			p.f("\n%s, %s: %s.", w.Engine, w.Case, n)
		}
	}
}

// setUp prints the options of each engine, for later cases only those that differ from the first.
func (r *benchRun) setUp(p *page, s suiteOf) {
	p.f("\nSet up:\n")
	for _, e := range r.engines(s.Name) {
		var first, said []string
		for _, c := range s.Cases {
			w := r.row(s.Name, c, e)
			if w == nil || slices.Equal(w.Info.Options, said) {
				continue
			}
			said = w.Info.Options
			if first == nil {
				first = said
				p.f("- **%s** — %s", strings.TrimSpace(w.Info.Name+" "+w.Info.Version), strings.Join(said, "; "))
				continue
			}
			var other []string
			for _, o := range said {
				if !slices.Contains(first, o) {
					other = append(other, o)
				}
			}
			p.f("  - %s: %s", c, strings.Join(other, "; "))
		}
	}
}

func (r *benchRun) yardsticks(p *page) {
	checks := r.checks()
	if len(checks) == 0 {
		return
	}
	p.f("\n## Peers beside their earlier figures")
	p.f("\nThe earlier figures come from the same kind of machine while other jobs used it, so each is a range; its low " +
		"end counts. Below 0.7 of it the run is void. Quiet ones, where known, were taken without neighbours.")
	p.table("engine", "case", "-measured", "-earlier", "-quiet", "-ratio to low end", "")
	for _, c := range checks {
		quiet, verdict := "", "holds"
		if c.Quiet > 0 {
			quiet = chart.Short(c.Quiet)
		}
		switch {
		case c.Other != "":
			verdict = "not compared: " + c.Other
		case c.Void:
			verdict = "**void**"
		}
		p.cells(c.Engine, c.Suite+", "+c.Case, chart.Short(c.Measured)+" "+string(c.Metric),
			c.Range(), quiet, fmt.Sprintf("%.2f", c.Ratio), verdict)
	}
}
