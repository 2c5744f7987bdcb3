package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// TestLimitedBy: what stops comes before what slows down, and each is told with its figures.
func TestLimitedBy(t *testing.T) {
	at := func(change func(*dyngo.Metrics)) *dyngo.Metrics {
		m := &dyngo.Metrics{DiskFreeBytes: 60 << 30, DiskBytes: 100 << 30, CacheHits: 1000, CacheMisses: 1000}
		m.Operations.Reads, m.Operations.Writes = 5000, 5000
		m.Log.Groups, m.Log.Events, m.Log.SyncNs = 100, 5000, 1_500_000
		change(m)
		return m
	}
	before := at(func(*dyngo.Metrics) {})
	const seconds = 2
	for _, c := range []struct {
		want   string
		how    alarm
		change func(*dyngo.Metrics)
	}{
		{"idle", calm, func(m *dyngo.Metrics) {}},
		{"idle", calm, func(m *dyngo.Metrics) { m.Operations.Scans++ }},
		{"idle, but for jobs in the background", calm, func(m *dyngo.Metrics) { m.MergeJobs = 1 }},
		{"nothing holds it back", calm, func(m *dyngo.Metrics) { m.Operations.Reads += 4 }},
		{"nothing holds it back", calm, func(m *dyngo.Metrics) { m.Operations.Writes += 4; m.FlushJobs = 1 }},
		{"nothing holds it back", calm, func(m *dyngo.Metrics) { m.Operations.Reads += 400; m.CacheHits += 400; m.CacheMisses += 99 }},
		{"reads wait for the disk: 50% of looks for a block go there", calm, func(m *dyngo.Metrics) { m.CacheHits += 400; m.CacheMisses += 400 }},
		{"writers wait for fdatasync: 1.5ms each, 12 events share one", calm, func(m *dyngo.Metrics) { m.Log.Groups += 1000; m.Log.Events += 12000 }},
		{"writers wait for fdatasync: 1.5ms each", calm, func(m *dyngo.Metrics) { m.Log.Groups += 1000; m.Log.Events += 1000 }},
		{"writers are held back: the disk takes the log slower", slowed, func(m *dyngo.Metrics) { m.Log.StalledNs += 300_000_000; m.Log.Groups += 1000 }},
		{"the disk is nearly full: 9.0 GiB of 100 GiB are free", slowed, func(m *dyngo.Metrics) { m.DiskFreeBytes = 9 << 30; m.Log.StalledNs += 1e9 }},
		{"writers are slowed by 3ms a commit: merging", slowed, func(m *dyngo.Metrics) {
			m.WriteDelay, m.WriteDelayReason, m.DiskFreeBytes = 3*time.Millisecond, "merging", 1
		}},
		{"log files can't be dropped", slowed, func(m *dyngo.Metrics) { m.RetentionErrors++; m.WriteDelay = 1 }},
		{"segments can't be merged", slowed, func(m *dyngo.Metrics) { m.CompactionErrors++; m.RetentionErrors++ }},
		{"recent events can't be written as segments", stopped, func(m *dyngo.Metrics) { m.FlushErrors++; m.CompactionErrors++ }},
		{"the disk is full", stopped, func(m *dyngo.Metrics) { m.Log.DiskFull = true; m.FlushErrors++ }},
		{"the log failed", stopped, func(m *dyngo.Metrics) { m.Log.Failed, m.Log.DiskFull = true, true }},
		{"idle", calm, func(m *dyngo.Metrics) { *m = dyngo.Metrics{} }}, // another process than before
		{"idle", calm, func(m *dyngo.Metrics) { m.DiskFreeBytes, m.DiskBytes = 0, 0 }},
	} {
		how, got := limitedBy(before, at(c.change), seconds)
		if !strings.HasPrefix(got, c.want) || how != c.how {
			t.Errorf("%q (%d), want %q (%d)", got, how, c.want, c.how)
		}
	}
	if _, got := limitedBy(before, at(func(m *dyngo.Metrics) { m.Operations.Reads++ }), 0); got == "" {
		t.Error("nothing is said of two looks at the same time")
	}
}

// hotSample is a heat map of 40 ranges: the load moves from the first to the last one in time.
func hotSample() *dyngo.Hot {
	const ranges, steps = 40, 64
	h := &dyngo.Hot{Since: time.Unix(1e9, 0), At: time.Unix(1e9+400, 0), Step: 5 * time.Second, Steps: steps, SampledOneIn: 64}
	d := dyngo.HotDataset{Name: "moving\x1b[31m", Rates: dyngo.HotRates{Reads: 123456, Writes: 7.5}}
	for i := range ranges {
		r := dyngo.HotRange{From: fmt.Appendf(nil, "user/%03d/日本語/%s", i, strings.Repeat("long", 20))}
		r.Past.Reads = make([]float64, steps)
		for s := range steps {
			r.Past.Reads[s] = max(0, 1000-200*float64(max(s*ranges/steps-i, i-s*ranges/steps)))
		}
		r.Rates.Reads = r.Past.Reads[steps-1]
		if d.Ranges = append(d.Ranges, r); i == 0 {
			d.Ranges[0].From = nil
		} else {
			d.Ranges[i-1].To = r.From
		}
	}
	d.Keys = []dyngo.HotKey{{Key: []byte("\x00\xff"), Rates: dyngo.HotRates{Reads: 12e6}}, {Key: slices.Repeat([]byte("k"), 96), Cut: true}}
	h.Datasets = []dyngo.HotDataset{{Name: "cold"}, d, {Name: "empty", Ranges: []dyngo.HotRange{{}}}}
	return h
}

// TestHotDrawing: a load that moves through the keys is drawn as a diagonal, in the width there is, without and with colour.
func TestHotDrawing(t *testing.T) {
	plain := func(width int, color bool) []string {
		d := hotDrawing{hot: hotSample(), kind: "all", width: width, color: color}
		return d.lines()
	}
	lines := plain(0, false)
	var at []int // of the darkest mark in each row of the map
	for _, l := range lines {
		if strings.HasPrefix(l, "user/") || strings.HasPrefix(l, "(first)") {
			if i := strings.IndexRune(l, '█'); i >= 0 {
				at = append(at, cli.TextWidth(l[:i]))
			}
		}
	}
	if len(at) < 6 || !slices.IsSorted(at) || at[len(at)-1]-at[0] < 20 {
		t.Errorf("no diagonal: %v in\n%s", at, strings.Join(lines, "\n"))
	}
	for width, most := range map[int]int{0: 80, 1: minHotWidth, 70: 70, 80: 80, 200: 200} {
		for _, l := range plain(width, false) {
			if n := cli.TextWidth(l); n > most || strings.Contains(l, "\x1b") {
				t.Errorf("width %d: a line of %d columns: %q", width, n, l)
			}
		}
	}
	colored := strings.Join(plain(80, true), "\n")
	if !strings.Contains(colored, "\x1b[38;5;196m█") || strings.Count(colored, "\x1b[0m") == 0 {
		t.Errorf("no colour in %q", colored)
	}
	for _, m := range []string{"\x1b[38;5;196m", "\x1b[38;5;214m", "\x1b[38;5;43m", "\x1b[38;5;33m", "\x1b[38;5;244m", "\x1b[0m"} {
		colored = strings.ReplaceAll(colored, m, "")
	}
	if want := strings.Join(plain(80, false), "\n"); colored != want {
		t.Errorf("with colour something else is drawn:\n%s\nwant\n%s", colored, want)
	}
	for _, kind := range hotKinds[2:] { // nothing of it: an empty map
		d := hotDrawing{hot: hotSample(), kind: kind}
		if text := strings.Join(d.lines(), "\n"); strings.Contains(strings.Split(text, kind+"/s:")[0], "█") {
			t.Errorf("%s are drawn, there were none:\n%s", kind, text)
		}
	}
	none := hotDrawing{hot: &dyngo.Hot{Since: time.Unix(0, 0)}}
	if got := none.lines(); !slices.Equal(got, []string{"nothing was read or written since 1970-01-01 00:00:00Z"}) {
		t.Errorf("of nothing: %q", got)
	}
}

// TestFoldRanges: cold neighbours are drawn together, hot ranges stay apart, nothing is lost.
func TestFoldRanges(t *testing.T) {
	h := hotSample()
	d := &h.Datasets[1]
	for i := range d.Ranges {
		d.Ranges[i].Past.Reads = []float64{1}
		d.Ranges[i].Rates = dyngo.HotRates{Reads: 1, Scans: 5}
	}
	d.Ranges[17].Past.Reads = []float64{100}
	rows := foldRanges(d.Ranges, 5, "reads", 1)
	sum, hot := 0.0, false
	for _, r := range rows {
		sum += r.past[0]
		hot = hot || r.past[0] == 100 && string(r.from) == string(d.Ranges[17].From)
	}
	if len(rows) != 5 || sum != 139 || !hot || rows[0].rates.Scans != 5 {
		t.Errorf("%d rows, sum %v, the hot one apart: %v", len(rows), sum, hot)
	}
}

func TestSqueeze(t *testing.T) {
	if got := squeeze([]float64{1, 2, 3, 5, 7}, 32); !slices.Equal(got[28:], []float64{0, 1, 2.5, 6}) {
		t.Errorf("%v", got)
	}
	full := make([]float64, 64)
	for i := range full {
		full[i] = float64(i / 2)
	}
	for i, x := range squeeze(full, 32) {
		if x != float64(i) {
			t.Errorf("column %d is %v", i, x)
		}
	}
	if got := squeeze(full, 64); !slices.Equal(got, full) {
		t.Errorf("%v", got)
	}
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		values []float64
		width  int
		want   string
	}{
		{nil, 3, "   "}, {[]float64{0, 0}, 3, " ▁▁"}, {[]float64{9, 0, 4, 8}, 3, "▁▅█"}, {[]float64{1}, 1, "█"}, {[]float64{1}, 0, ""},
	} {
		if got := sparkline(c.values, c.width); got != c.want {
			t.Errorf("%v in %d columns: %q, want %q", c.values, c.width, got, c.want)
		}
	}
}

func TestFormatRate(t *testing.T) {
	for x, want := range map[float64]string{0: "·", 0.04: "0.0", 1: "1.0", 9.96: "10", 999: "999", 999.6: "1.0k", 12345: "12k", 999499: "999k", 1e6: "1.0M", 5e12: "5000G"} {
		if got := formatRate(x); got != want {
			t.Errorf("%v is %q, want %q", x, got, want)
		}
	}
}

// TestTopFrame: it fits terminals of any size, and says what was seen.
func TestTopFrame(t *testing.T) {
	var p topPicture
	for i := range 200 {
		m := dyngo.Metrics{LSN: dyngo.LSN(1000 * i), DurableLSN: dyngo.LSN(999 * i), FloorLSN: 7, MemoryBudgetBytes: 256 << 20, TailBytes: 99 << 20,
			IndexBytes: 9 << 20, CacheBytes: 50 << 20, ReaderBytes: 5 << 20, Segments: 1234, Runs: 12, MergeJobs: 1, FlushJobs: 1, OtherJobs: 3,
			DiskFreeBytes: 1 << 40, DiskBytes: 2 << 40, DaysToFull: 1.5, DamagedSegments: 1}
		m.Memtable.Shards, m.Memtable.Draining, m.Memtable.OrderedDatasets = 256, 3, 2
		m.Operations.Reads, m.Operations.Writes, m.Operations.ReadP99Ns = int64(50*i*i), int64(1000*i), 1e6
		p.add(time.Unix(1e9+int64(i), 0), m, *hotSample(), "size: two runs of like size, "+strings.Repeat("and more ", 20))
	}
	for _, size := range [][2]int{{80, 24}, {200, 60}, {60, 15}, {40, 5}, {20, 40}, {1, 30}, {1, 1}} {
		for _, color := range []bool{false, true} {
			f := topFrame{p: &p, dir: "./dyngo-data", width: size[0], height: size[1], color: color}
			lines := f.lines()
			if len(lines) > size[1] {
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, l := range lines {
				for _, sgr := range []string{"\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"} {
					l = strings.ReplaceAll(l, sgr, "")
				}
				if n := cli.TextWidth(l); n > size[0] || strings.Contains(l, "\x1b") {
					t.Errorf("%v: a line of %d columns: %q", size, n, l)
				}
			}
			text := strings.Join(lines, "\n")
			for _, want := range []string{"LSN 199,000", "199 events not durable", "64% of 256 MiB", "256 with 0 keys, 3 growing", "1,234 in 12 runs",
				"full in 1.5 days", "1 flush, 1 merge, 3 other", "HOT RANGES", "HOT KEYS", "▇█"} {
				if size[0] >= 80 && !strings.Contains(text, want) {
					t.Errorf("%v: no %q in\n%s", size, want, text)
				}
			}
		}
	}
	if len(p.writes) != topHistory || p.per(5, 3) != 0 || p.writes[0] != 1000 {
		t.Errorf("%d looks are kept, the first with %v writes a second", len(p.writes), p.writes[0])
	}
}

// TestTopFrameOne: what there is one of is not told as many.
func TestTopFrameOne(t *testing.T) {
	m := dyngo.Metrics{LSN: 2, DurableLSN: 1, FlushedLSN: 0, LogFiles: 1, Segments: 1, Runs: 1}
	m.Memtable.Shards, m.Memtable.Keys, m.Memtable.OrderedDatasets, m.Memtable.Runs = 256, 1, 1, 1
	f := topFrame{p: &topPicture{now: m}, width: 80, height: 24}
	text := strings.Join(f.sheet(), "\n")
	for _, want := range []string{"1 file, ", "; 1 event not durable", "256 with 1 key; 1 dataset in order, in 1 run\n", "1 in 1 run, 0 B; 1 event not flushed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestScreenful: what was there before goes, and a line that is full keeps its last column.
func TestScreenful(t *testing.T) {
	if got, want := screenful([]string{"a", "b"}), "\x1b[H\x1b[Ka\r\n\x1b[Jb"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestReadKeys ends with its reader and with its context.
func TestReadKeys(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	keys := make(chan byte)
	go readKeys(ctx, strings.NewReader("xq"), keys)
	if got := []byte{<-keys, <-keys}; string(got) != "xq" {
		t.Errorf("keys %q", got)
	}
	if _, more := <-keys; more {
		t.Error("more keys than there were")
	}
	keys = make(chan byte)
	go readKeys(ctx, strings.NewReader("x"), keys)
	cancel()
	for range keys {
	}
}
