package main

import (
	"fmt"

	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// The goals of the suites on large data and large values.

func (r *benchRun) goalOpenClosed(suite, name string, atMost float64) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").extra("first_read_s")
	peer, best := r.bestPeer(suite, name, func(x work.Result) float64 { return x.Extra["first_read_s"] }, true)
	return goalRow{
		what: "open to the first read, " + name, goal: fmt.Sprintf("< %.0f ms", atMost*1e3),
		dyngo: chart.Nanos(own.Median * 1e9), other: orNone(peer, chart.Nanos(best*1e9)),
		result: chart.Nanos(own.Median * 1e9), met: own.Median < atMost,
	}, own.N > 0
}

// orNone is a value with the peer that had it, a dash without one.
func orNone(peer, value string) string {
	if peer == "" {
		return "–"
	}
	return value + " " + peer
}

func (r *benchRun) goalWritten(suite, name string, atMost float64) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").extra("device_ratio")
	peer, best := r.bestPeer(suite, name, func(x work.Result) float64 { return x.Extra["device_ratio"] }, true)
	return goalRow{
		what: "put of 100 KB: device bytes ÷ user bytes", goal: fmt.Sprintf("≤ %g", atMost),
		dyngo: fmt.Sprintf("%.3f", own.Median), other: orNone(peer, fmt.Sprintf("%.3f", best)),
		result: fmt.Sprintf("%.3f", own.Median), met: own.Median <= atMost,
	}, own.N > 0
}

// present is the disk that the present takes, over the live bytes of the user: without DynGO's history, which is its log and the side
// files that find a key's events in it and go with it. Files that can't hold the present without the log count with it.
func present(x work.Result) float64 {
	live := max(x.Extra["live"], 1)
	if files := x.Extra["used"] - x.Extra["used_log"] - x.Extra["used_side"]; files > 0.9*live {
		return files / live
	}
	return x.Extra["used"] / live
}

func (r *benchRun) goalSpace(suite, name string) (goalRow, bool) {
	own, pebble := r.row(suite, name, "dyngo").summary(present), r.row(suite, name, "pebble").summary(present)
	return goalRow{
		what: "disk ÷ live bytes after overwrites, " + name + ", without history", goal: "no worse than Pebble",
		dyngo: fmt.Sprintf("%.2f", own.Median), other: fmt.Sprintf("%.2f pebble", pebble.Median),
		result: fmt.Sprintf("%.2f×", own.Median/pebble.Median), met: own.Median <= pebble.Median,
	}, own.N > 0 && pebble.N > 0
}

func (r *benchRun) goalResident(suite, name string) (goalRow, bool) {
	rss := func(x work.Result) float64 { return float64(x.PeakRSS) }
	own, pebble := r.row(suite, name, "dyngo").summary(rss), r.row(suite, name, "pebble").summary(rss)
	limit := r.row(suite, name, "dyngo").extra("rss_limit").Median
	other := "–"
	if pebble.N > 0 {
		other = fmt.Sprintf("%.0f MB pebble", pebble.Median/1e6)
	}
	return goalRow{
		what: "memory while overwriting, " + name, goal: fmt.Sprintf("≤ 1.25 × budget + 32 MiB = %.0f MB", limit/1e6),
		dyngo: fmt.Sprintf("%.0f MB", own.Median/1e6), other: other,
		result: fmt.Sprintf("%.2f of it", own.Median/limit), met: own.Median <= limit,
	}, own.N > 0
}

// goalOverload looks at the time that a put itself takes: by the timetable all are late, by definition.
func (r *benchRun) goalOverload(suite, name string, atMostMillis float64) (goalRow, bool) {
	p999 := func(x work.Result) float64 { return float64(x.Latency["put"].P999) }
	own := r.row(suite, name, "dyngo").summary(p999)
	peer, best := r.bestPeer(suite, name, p999, true)
	return goalRow{
		what: "put at twice the sustained rate, p99.9", goal: fmt.Sprintf("≤ %g ms", atMostMillis),
		dyngo: chart.Nanos(own.Median), other: orNone(peer, chart.Nanos(best)),
		result: chart.Nanos(own.Median), met: own.Median <= atMostMillis*1e6,
	}, own.N > 0
}

// goalPast holds a figure of the past suite against the most that it may be.
func (r *benchRun) goalPast(name, what, goal string, atMost float64, format func(float64) string, figure func(work.Result) float64) (goalRow, bool) {
	return r.goalOf("past", name, what, goal, atMost, format, figure)
}

// goalOf holds a figure of DynGO against the most that it may be.
func (r *benchRun) goalOf(suite, name, what, goal string, atMost float64, format func(float64) string, figure func(work.Result) float64) (goalRow, bool) {
	own := r.row(suite, name, "dyngo").summary(figure)
	return goalRow{
		what: what, goal: goal, dyngo: format(own.Median), other: "–", result: format(own.Median), met: own.Median <= atMost,
	}, own.N > 0
}

func extraOf(name string) func(work.Result) float64 {
	return func(x work.Result) float64 { return x.Extra[name] }
}

// goalCrowd looks at the time just after the number of clients has changed: the worst of all such changes, beside the rest of the phase.
func (r *benchRun) goalCrowd() (goalRow, bool) {
	worst, phase, longest := 0.0, "", 0.0
	for _, s := range r.Suites {
		if s.Name != "crowd" {
			continue
		}
		for _, c := range s.Cases[min(1, len(s.Cases)):] { // the first one comes after nothing
			w := r.row("crowd", c, "dyngo")
			longest = max(longest, w.extra("longest_move_ns").Median)
			if x := w.extra("first_ratio"); x.N > 0 && x.Median > worst {
				worst, phase = x.Median, c
			}
		}
	}
	return goalRow{
		what: "p99.9 just after clients came or went ÷ later; longest wait for a table", goal: "< 2×; ≤ 2 ms",
		dyngo: fmt.Sprintf("%.2f× (%s); %s", worst, phase, chart.Nanos(longest)), other: "–",
		result: fmt.Sprintf("%.2f×; %s", worst, chart.Nanos(longest)), met: worst < 2 && longest <= 2e6,
	}, phase != ""
}
