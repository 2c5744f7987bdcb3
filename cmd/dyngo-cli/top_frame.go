package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// topPicture is what was seen of a process, up to now.
type topPicture struct {
	at          time.Time // of the last look
	seconds     float64   // since the one before
	before, now dyngo.Metrics
	hot         dyngo.Hot
	merging     string // what is being merged and why
	looks       int

	// For each look but the first, at most topHistory: operations a second, and latencies of 99 of 100 in seconds.
	lookups, scans, writes, syncs, readP99, writeP99 []float64
}

// topHistory is how many looks are drawn.
const topHistory = 120

// add takes in what a look has seen.
func (p *topPicture) add(at time.Time, m dyngo.Metrics, hot dyngo.Hot, merging string) {
	p.before, p.now, p.hot, p.merging = p.now, m, hot, merging
	p.seconds = at.Sub(p.at).Seconds()
	p.at = at
	if p.looks++; p.looks == 1 {
		p.before = m
		return
	}
	was, is := &p.before.Operations, &m.Operations
	for _, s := range []struct {
		list *[]float64
		x    float64
	}{
		{&p.lookups, p.per(was.Reads+was.Misses, is.Reads+is.Misses)}, {&p.scans, p.per(was.Scans, is.Scans)},
		{&p.writes, p.per(was.Writes, is.Writes)}, {&p.syncs, p.per(p.before.Log.Syncs, m.Log.Syncs)},
		{&p.readP99, float64(is.ReadP99Ns) / 1e9}, {&p.writeP99, float64(is.WriteP99Ns) / 1e9},
	} {
		*s.list = append(*s.list, s.x)
		if n := len(*s.list); n > topHistory {
			*s.list = slices.Delete(*s.list, 0, n-topHistory)
		}
	}
}

// per is how fast a counter went since the look before, a second.
func (p *topPicture) per(before, now int64) float64 {
	if p.seconds <= 0 {
		return 0
	}
	return max(float64(now-before), 0) / p.seconds
}

// topFrame is a picture as lines that fit a terminal.
type topFrame struct {
	p             *topPicture
	dir           string
	width, height int
	color         bool
}

func (f *topFrame) lines() []string {
	m := &f.p.now
	how, sentence := limitedBy(&f.p.before, m, f.p.seconds)
	lines := []string{
		f.style("1", f.head()),
		f.style([...]string{calm: "32", slowed: "33", stopped: "31"}[how], sentence),
		"",
	}
	lines = append(lines, f.load()...)
	lines = append(lines, "")
	lines = append(lines, f.sheet()...)
	if f.height-len(lines) > 3 {
		lines = append(lines, "")
		lines = append(lines, f.hottest(f.height-len(lines))...)
	}
	return lines[:min(len(lines), max(f.height, 1))]
}

// style cuts a line to the width, and colours it.
func (f *topFrame) style(sgr, line string) string {
	line = cli.TruncateText(line, f.width)
	if f.color && line != "" && sgr != "" {
		return "\x1b[" + sgr + "m" + line + "\x1b[0m"
	}
	return line
}

// head has the store to the left and the time to the right.
func (f *topFrame) head() string {
	right := f.p.at.Format("15:04:05")
	up := f.p.hot.At.Sub(f.p.hot.Since)
	left := cli.TruncateText(fmt.Sprintf("%s  LSN %s  open for %s", f.dir, cli.FormatCount(int64(f.p.now.LSN)), formatAge(up)), f.width-len(right)-2)
	return left + strings.Repeat(" ", max(f.width-cli.TextWidth(left)-len(right), 1)) + right
}

// load has operations a second and latencies, over time.
func (f *topFrame) load() []string {
	o := &f.p.now.Operations
	// Name 8, rate 6, and two times a latency of 7 stand beside the curves, which share the rest.
	left := f.width - 8 - 6 - 2*7 - 6
	rates, latencies := max(left*3/5, 1), max(left-left*3/5, 1)
	row := func(name string, history []float64, p50, p99 int64, slow []float64) string {
		line := fmt.Sprintf("%-8s%6s  %s", name, formatRate(lastOf(history)), sparkline(history, rates))
		if slow != nil {
			line += fmt.Sprintf(" %7s %7s  %s", formatLatency(p50), formatLatency(p99), sparkline(slow, latencies))
		}
		return f.style("", strings.TrimRight(line, " "))
	}
	title := fmt.Sprintf("%-8s%6s  %-*s %7s %7s  %s", "", "NOW/S", rates, "OVER TIME", "P50", "P99", "P99 OVER TIME")
	return []string{
		f.style("1", title),
		row("reads", f.p.lookups, o.ReadP50Ns, o.ReadP99Ns, f.p.readP99),
		row("scans", f.p.scans, 0, 0, nil),
		row("writes", f.p.writes, o.WriteP50Ns, o.WriteP99Ns, f.p.writeP99),
		row("syncs", f.p.syncs, 0, 0, nil),
	}
}

func lastOf(history []float64) float64 {
	if len(history) == 0 {
		return 0
	}
	return history[len(history)-1]
}

// sheet says what the store consists of, and what goes on behind it.
func (f *topFrame) sheet() []string {
	m := &f.p.now
	bytes := cli.FormatBytes
	log := fmt.Sprintf("%s, %s, %s/s", countNoun(int64(m.LogFiles), "file"), bytes(m.LogBytes), bytes(int64(f.p.per(f.p.before.Log.BytesWritten, m.Log.BytesWritten))))
	if behind := m.LSN - min(m.DurableLSN, m.LSN); behind > 0 {
		log += fmt.Sprintf("; %s not durable", countNoun(int64(behind), "event"))
	}
	if m.FloorLSN > 0 {
		log += fmt.Sprintf("; from LSN %s on", cli.FormatCount(int64(m.FloorLSN+1)))
	}
	used := m.TailBytes + m.IndexBytes + m.CacheBytes + m.ReaderBytes + m.HotRangeBytes + m.RecordBytes
	memory := fmt.Sprintf("%.0f%% of %s: events %s, index %s, blocks %s", percentOf(used, max(m.MemoryBudgetBytes, 1)), bytes(m.MemoryBudgetBytes),
		bytes(m.TailBytes), bytes(m.IndexBytes), bytes(m.CacheBytes))
	if m.ReaderBytes > m.MemoryBudgetBytes/100 {
		memory += ", readers " + bytes(m.ReaderBytes)
	}
	shards := fmt.Sprintf("%d with %s", m.Memtable.Shards, countNoun(m.Memtable.Keys, "key"))
	if m.Memtable.Draining > 0 {
		shards += fmt.Sprintf(", %d growing", m.Memtable.Draining)
	}
	if m.Memtable.OrderedDatasets > 0 {
		shards += fmt.Sprintf("; %s in order, in %s", countNoun(m.Memtable.OrderedDatasets, "dataset"), countNoun(m.Memtable.Runs, "run"))
	}
	segments := fmt.Sprintf("%s in %s, %s; %s not flushed", cli.FormatCount(int64(m.Segments)), countNoun(int64(m.Runs), "run"), bytes(m.SegmentBytes),
		countNoun(int64(m.DurableLSN-min(m.FlushedLSN, m.DurableLSN)), "event"))
	if m.DamagedSegments > 0 {
		segments += fmt.Sprintf("; %d DAMAGED", m.DamagedSegments)
	}
	disk := fmt.Sprintf("%s of %s free", bytes(m.DiskFreeBytes), bytes(m.DiskBytes))
	if m.DiskBytes == 0 {
		disk = "not known"
	}
	if m.DaysToFull > 0 {
		disk += fmt.Sprintf(", full in %.1f days", m.DaysToFull)
	}
	var lines []string
	for _, l := range [][2]string{{"log", log}, {"memory", memory}, {"shards", shards}, {"segments", segments}, {"disk", disk}, {"jobs", f.jobs()}} {
		lines = append(lines, f.style("", fmt.Sprintf("%-10s%s", l[0], l[1])))
	}
	return lines
}

func (f *topFrame) jobs() string {
	m := &f.p.now
	var jobs []string
	for _, j := range []struct {
		n    int64
		name string
	}{{m.FlushJobs, "flush"}, {m.MergeJobs, "merge"}, {m.OtherJobs, "other (retention, side files, tree)"}} {
		if j.n > 0 {
			jobs = append(jobs, fmt.Sprintf("%d %s", j.n, j.name))
		}
	}
	if len(jobs) == 0 {
		return "none"
	}
	text := strings.Join(jobs, ", ")
	if f.p.merging != "" {
		text += ": " + f.p.merging
	}
	return text
}

// topRange is a hot range or key of a dataset.
type topRange struct {
	dataset string
	from    []byte
	rates   dyngo.HotRates
}

// hottestRanges are the hottest ranges of all datasets, each of a twelfth of its dataset or less, and the hottest first.
func hottestRanges(h *dyngo.Hot, most int) (all []topRange) {
	const pieces = 12
	for _, d := range h.Datasets {
		if len(d.Ranges) == 0 {
			continue
		}
		for _, row := range foldRanges(d.Ranges, pieces, "all", h.Steps) {
			if row.rates.Sum() > 0 {
				all = append(all, topRange{d.Name, row.from, row.rates})
			}
		}
	}
	return hottestOf(all, most)
}

func hottestKeysOf(h *dyngo.Hot, most int) (all []topRange) {
	for _, d := range h.Datasets {
		for _, k := range d.Keys {
			all = append(all, topRange{d.Name, k.Key, k.Rates})
		}
	}
	return hottestOf(all, most)
}

func hottestOf(all []topRange, most int) []topRange {
	slices.SortStableFunc(all, func(a, b topRange) int { return cmp.Compare(b.rates.Sum(), a.rates.Sum()) })
	return all[:min(most, len(all))]
}

// hottest lists ranges and keys in so many lines.
func (f *topFrame) hottest(room int) (lines []string) {
	label := max(f.width-24, 1)
	add := func(title string, list []topRange) {
		for i, r := range list {
			if i == 0 {
				lines = append(lines, f.style("1", fmt.Sprintf("%-*s %5s %5s %5s %5s", label, title, "READS", "MISS", "SCANS", "WRITE")))
			}
			name := cli.TruncateText(cli.EscapeBytes([]byte(r.dataset))+"  "+cli.EscapeBytes(r.from), label)
			c := ratesColumns(r.rates)
			lines = append(lines, f.style("", fmt.Sprintf("%s%s %5s %5s %5s %5s", name, strings.Repeat(" ", label-cli.TextWidth(name)), c[0], c[1], c[2], c[3])))
		}
	}
	keys := max((room-2)/2, 0)
	add("HOT RANGES, FROM", hottestRanges(&f.p.hot, max(room-2-keys, 1)))
	add("HOT KEYS", hottestKeysOf(&f.p.hot, keys))
	if len(lines) == 0 {
		lines = append(lines, "nothing was read or written yet")
	}
	return lines
}

// sparkline draws the last values, from 0 to the highest of them, to the right of width columns.
func sparkline(values []float64, width int) string {
	marks := []rune("▁▂▃▄▅▆▇█")
	values = values[max(len(values)-width, 0):]
	most := 0.0
	for _, x := range values {
		most = max(most, x)
	}
	line := []rune(strings.Repeat(" ", width-len(values)))
	for _, x := range values {
		level := 0
		if most > 0 {
			level = min(int(x/most*float64(len(marks))), len(marks)-1)
		}
		line = append(line, marks[level])
	}
	return string(line)
}

// formatLatency is a duration in at most seven columns, · if it is not known.
func formatLatency(ns int64) string {
	if ns == 0 {
		return "·"
	}
	return round2(time.Duration(ns)).String()
}

// topRows prints looks as rows.
type topRows struct{ *cli.Renderer }

func newTopRows(cmd *cobra.Command) topRows {
	var cols []cli.Column
	for _, name := range []string{
		"at", "limited_by", "reads_per_second", "misses_per_second", "scans_per_second", "writes_per_second", "read_p50_ns", "read_p99_ns",
		"write_p50_ns", "write_p99_ns", "syncs_per_second", "sync_ns", "lsn", "durable_lsn", "flushed_lsn", "log_files", "log_bytes",
		"log_bytes_per_second", "memory_budget_bytes", "tail_bytes", "index_bytes", "cache_bytes", "reader_bytes", "shards", "keys",
		"segments", "runs", "segment_bytes", "disk_free_bytes", "disk_bytes", "write_delay_ns", "flush_jobs", "merge_jobs", "other_jobs",
		"merging", "hot_ranges", "hot_keys",
	} {
		cols = append(cols, cli.Column{Name: name})
	}
	return topRows{cli.NewRenderer(cmd, cli.OneRow, cols...)}
}

func (r topRows) add(p *topPicture) error {
	m, was, is := &p.now, &p.before.Operations, &p.now.Operations
	_, sentence := limitedBy(&p.before, m, p.seconds)
	return r.Row(p.at, sentence, cli.Round3(p.per(was.Reads, is.Reads)), cli.Round3(p.per(was.Misses, is.Misses)), cli.Round3(p.per(was.Scans, is.Scans)),
		cli.Round3(p.per(was.Writes, is.Writes)), cli.NsCell(is.ReadP50Ns), cli.NsCell(is.ReadP99Ns), cli.NsCell(is.WriteP50Ns), cli.NsCell(is.WriteP99Ns),
		cli.Round3(p.per(p.before.Log.Syncs, m.Log.Syncs)), cli.NsCell(m.Log.SyncNs), m.LSN, m.DurableLSN, m.FlushedLSN, m.LogFiles, m.LogBytes,
		cli.Round3(p.per(p.before.Log.BytesWritten, m.Log.BytesWritten)), m.MemoryBudgetBytes, m.TailBytes, m.IndexBytes, m.CacheBytes, m.ReaderBytes,
		m.Memtable.Shards, m.Memtable.Keys, m.Segments, m.Runs, m.SegmentBytes, m.DiskFreeBytes, m.DiskBytes, cli.NsCell(m.WriteDelay),
		m.FlushJobs, m.MergeJobs, m.OtherJobs, textCell(p.merging), hotCell("from", hottestRanges(&p.hot, 5)), hotCell("key", hottestKeysOf(&p.hot, 5)))
}

// hotCell is a list of hot ranges or keys as JSON, keys as they are written everywhere.
func hotCell(name string, list []topRange) any {
	b := []byte("[")
	for i, r := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(cli.AppendJSONString(append(b, `{"dataset":`...), r.dataset), `,"`+name+`":`...)
		b = cli.AppendJSONKey(b, r.from)
		b = fmt.Appendf(b, `,"reads_per_second":%v,"misses_per_second":%v,"scans_per_second":%v,"writes_per_second":%v}`,
			cli.Round3(r.rates.Reads), cli.Round3(r.rates.Misses), cli.Round3(r.rates.Scans), cli.Round3(r.rates.Writes))
	}
	return cli.ValueCell(append(b, ']'))
}
