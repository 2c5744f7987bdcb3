package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/bench/internal/blockcache"
	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

func loadCacheRun(dir string) (*cacheRun, error) {
	b, err := os.ReadFile(filepath.Join(dir, resultsFile))
	if err != nil {
		return nil, err
	}
	r := &cacheRun{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", resultsFile, err)
	}
	return r, nil
}

var cacheColors = map[string]string{
	"s3fifo": "#1668c7", "ristretto": "#e0803a", "ristretto-open": "#f0b98d", "otter": "#5f9e6e",
}

// caches lists those that were compared.
func (r *cacheRun) caches() (names []string) {
	for _, n := range blockcache.Names() {
		if slices.ContainsFunc(r.Rows, func(c cacheResult) bool { return c.Cache == n }) {
			names = append(names, n)
		}
	}
	return names
}

type figure func(blockcache.Result) float64

// of summarizes a figure over the rounds of a case; the zero summary stands for a case that was not run.
func (r *cacheRun) of(trace string, part, goroutines int, name string, figure figure) stats.Summary {
	var xs []float64
	for _, c := range r.Rows {
		if c.Trace == trace && c.Part == part && c.Goroutines == goroutines && c.Cache == name {
			for _, res := range c.Results {
				xs = append(xs, figure(res))
			}
		}
	}
	return stats.Summarize(xs)
}

func hitRatio(r blockcache.Result) float64 { return 100 * float64(r.Hits) / float64(r.Accesses) }
func cpuNanos(r blockcache.Result) float64 { return float64(r.CPU) / float64(r.Accesses) }
func wallNanos(r blockcache.Result) float64 {
	return float64(r.Wall) / float64(r.Accesses)
}
func allocsPer(r blockcache.Result) float64 { return float64(r.Allocs) / float64(r.Accesses) }
func allocBytesPer(r blockcache.Result) float64 {
	return float64(r.AllocB) / float64(r.Accesses)
}
func heapPerBlock(r blockcache.Result) float64 {
	return float64(r.HeapBytes) / float64(max(r.Blocks, 1))
}

// overBytes is how far the buffers exceeded the capacity, less what the readers may have held.
func overBytes(goroutines int) func(blockcache.Result) float64 {
	return func(r blockcache.Result) float64 {
		return max(0, float64(r.PeakBytes-r.Metrics.CapacityBytes-int64(goroutines)*16<<10))
	}
}

// meanHits is the mean hit ratio over all traces and capacities, with one goroutine.
func (r *cacheRun) meanHits(name string) float64 {
	sum, n := 0.0, 0
	for _, t := range r.Traces {
		for _, p := range parts {
			sum += r.of(t.Name, p, 1, name, hitRatio).Median
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// worstOver is the largest excess over the capacity in any case.
func (r *cacheRun) worstOver(name string) (worst float64) {
	for _, t := range r.Traces {
		for _, p := range parts {
			for _, g := range []int{1, 8} {
				worst = max(worst, r.of(t.Name, p, g, name, overBytes(g)).Max)
			}
		}
	}
	return worst
}

func (r *cacheRun) hitCost(name string) float64 {
	return r.of("zipf", allFits, 8, name, cpuNanos).Median
}

// equalPoints is how many points of mean hit ratio count as no difference.
const equalPoints = 1.0

// verdict says which cache should be the default: of those whose mean hit ratio is within equalPoints of the best
// one's, that with the cheapest hit.
func (r *cacheRun) verdict() string {
	names := r.caches()
	best := 0.0
	for _, n := range names {
		best = max(best, r.meanHits(n))
	}
	choice := ""
	for _, n := range names {
		if r.meanHits(n) >= best-equalPoints && (choice == "" || r.hitCost(n) < r.hitCost(choice)) {
			choice = n
		}
	}
	var others []string
	for _, n := range names {
		if n != choice {
			others = append(others, fmt.Sprintf("%s: %.1f %%, %.0f ns, %s", n, r.meanHits(n), r.hitCost(n),
				excess(r.worstOver(n))))
		}
	}
	return fmt.Sprintf("**%s should be the default**: it hits %.1f %% of all accesses on average, a hit costs %.0f ns of "+
		"processor time, and it takes %s (%s).", choice, r.meanHits(choice), r.hitCost(choice), excess(r.worstOver(choice)),
		strings.Join(others, "; "))
}

func excess(b float64) string {
	if b == 0 {
		return "no more memory than it may"
	}
	return chart.Short(b) + "B more memory than it may at worst"
}

func (r *cacheRun) writeReport(dir string) error {
	for name, svg := range r.cacheCharts() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, reportFile), []byte(r.markdown()), 0o644)
}

func (r *cacheRun) cacheCharts() map[string]string {
	var styles []chart.Style
	for _, n := range r.caches() {
		styles = append(styles, chart.Style{Name: n, Color: cacheColors[n]})
	}
	bars := func(title, note string, part, goroutines int, f figure, label func(float64) string) string {
		var groups []chart.Group
		for _, t := range r.Traces {
			g := chart.Group{Label: t.Name}
			for _, n := range r.caches() {
				v := r.of(t.Name, part, goroutines, n, f)
				g.Bars = append(g.Bars, chart.Bar{Value: v.Median, Low: v.Min, High: v.Max})
			}
			groups = append(groups, g)
		}
		return chart.Bars(chart.Head{Title: title, Note: note}, styles, groups, false, label)
	}
	const hits = "percent of block accesses, 1 goroutine, median and range of the rounds; more is better"
	return map[string]string{
		"hits-8.svg":  bars("Hit ratio, cache of 1/8 of the footprint", hits, 8, 1, hitRatio, chart.Short),
		"hits-32.svg": bars("Hit ratio, cache of 1/32 of the footprint", hits, 32, 1, hitRatio, chart.Short),
		"cpu-8.svg": bars("Processor time of an access, cache of 1/8 of the footprint", "µs, 8 goroutines; "+
			"a miss decompresses a block, but reads no file; less is better", 8, 8, cpuNanos, micros),
	}
}

// micros prints nanoseconds as microseconds, short enough for narrow bars.
func micros(ns float64) string { return chart.Short(math.Round(ns/10) / 100) }

func (r *cacheRun) markdown() string {
	p := &page{}
	p.f("# Block caches on recorded traces\n")
	p.f("%s\n", r.verdict())
	p.f("The rule: of the caches whose mean hit ratio over all cases is within %.0f point of the best one's, that whose hit "+
		"costs least processor time.", equalPoints)
	r.cacheConditions(p)
	r.hitTable(p)
	r.costTable(p)
	r.memoryTable(p)
	p.f("\n%s", strings.TrimSpace(cacheMethod))
	return p.String()
}

func (r *cacheRun) cacheConditions(p *page) {
	changed := ""
	if r.Changed {
		changed = " with uncommitted changes"
	}
	p.table("", "")
	p.cells("commit", "`"+r.Commit+"`"+changed)
	p.cells("command", "`"+r.Command+"` in `bench/`")
	p.cells("when", fmt.Sprintf("%s, %.0f minutes, %d rounds", r.Began.Format("2006-01-02 15:04 MST"),
		r.Ended.Sub(r.Began).Minutes(), r.Rounds))
	p.cells("processor", fmt.Sprintf("%s, %d cores, GOMAXPROCS %d", r.Machine.CPU, r.Machine.Cores, r.Machine.GOMAXPROCS))
	p.cells("memory", fmt.Sprintf("%.1f GiB", float64(r.Machine.Memory)/float64(gb)))
	p.cells("system", r.Machine.OS)
	p.cells("Go", r.Machine.Go)
	p.cells("taken by other guests", fmt.Sprintf("%.1f %% of processor time", r.Steal*100))
	p.cells("load average before and after", fmt.Sprintf("%s and %s; the run itself makes 1 to 2", r.Load[0], r.Load[1]))
	p.f("\n## Traces")
	p.table("trace", "what the readers did", "-accesses", "-segments, MB")
	for _, t := range r.Traces {
		p.cells(t.Name, t.What, chart.Short(float64(t.Accesses)), fmt.Sprintf("%.0f", float64(t.FileBytes)/1e6))
	}
}

func (r *cacheRun) hitTable(p *page) {
	p.f("\n## Hit ratios")
	p.f("\nPercent of the accesses after the first quarter of the trace; median of the rounds, and their range where it is " +
		"wider than 0.1. Capacities are parts of the segments' size.")
	p.f("\n![Hit ratios at 1/8](hits-8.svg)\n\n![Hit ratios at 1/32](hits-32.svg)")
	columns := []string{"trace", "capacity"}
	for _, g := range []int{1, 8} {
		for _, n := range r.caches() {
			columns = append(columns, fmt.Sprintf("-%s, %d", n, g))
		}
	}
	p.table(columns...)
	for _, t := range r.Traces {
		for _, part := range parts {
			cells := []string{t.Name, partName(part)}
			for _, g := range []int{1, 8} {
				for _, n := range r.caches() {
					s := r.of(t.Name, part, g, n, hitRatio)
					cell := fmt.Sprintf("%.1f", s.Median)
					if s.Max-s.Min > 0.1 {
						cell += fmt.Sprintf(" (%.1f–%.1f)", s.Min, s.Max)
					}
					cells = append(cells, cell)
				}
			}
			p.cells(cells...)
		}
	}
	cells := []string{"**mean**", ""}
	for _, n := range r.caches() {
		cells = append(cells, fmt.Sprintf("**%.1f**", r.meanHits(n)))
	}
	for range r.caches() {
		cells = append(cells, "")
	}
	p.cells(cells...)
	p.f("\nThe figure behind a cache's name is the number of goroutines.")
}

func (r *cacheRun) costTable(p *page) {
	p.f("\n## Cost")
	p.f("\nA hit, its Release included, where all blocks fit (trace zipf):")
	p.table("cache", "-goroutines", "-CPU ns", "-(min–max)", "-wall ns", "-allocs", "-bytes allocated")
	for _, n := range r.caches() {
		for _, g := range []int{1, 8} {
			cpu := r.of("zipf", allFits, g, n, cpuNanos)
			p.cells(n, fmt.Sprint(g), fmt.Sprintf("%.0f", cpu.Median), fmt.Sprintf("%.0f–%.0f", cpu.Min, cpu.Max),
				fmt.Sprintf("%.0f", r.of("zipf", allFits, g, n, wallNanos).Median),
				fmt.Sprintf("%.4f", r.of("zipf", allFits, g, n, allocsPer).Median),
				fmt.Sprintf("%.1f", r.of("zipf", allFits, g, n, allocBytesPer).Median))
		}
	}
	p.f("\nAn access with hits and misses: CPU ns / wall ns. A miss checks and decompresses a block of 16 KiB and adds it; "+
		"it reads no file. *%s* keeps nothing: each access is a miss.", blockcache.None)
	p.f("\n![Processor time of an access](cpu-8.svg)")
	names := append(r.caches(), blockcache.None)
	columns := []string{"trace", "capacity"}
	for _, g := range []int{1, 8} {
		for _, n := range names {
			columns = append(columns, fmt.Sprintf("-%s, %d", n, g))
		}
	}
	p.table(columns...)
	for _, t := range r.Traces {
		for _, part := range parts {
			cells := []string{t.Name, partName(part)}
			for _, g := range []int{1, 8} {
				for _, n := range names {
					cpu := r.of(t.Name, part, g, n, cpuNanos)
					cell := ""
					if cpu.N > 0 {
						cell = fmt.Sprintf("%.0f / %.0f", cpu.Median, r.of(t.Name, part, g, n, wallNanos).Median)
					}
					cells = append(cells, cell)
				}
			}
			p.cells(cells...)
		}
	}
}

func (r *cacheRun) memoryTable(p *page) {
	p.f("\n## Memory")
	p.f("\nOver: how far the buffers in use exceeded the capacity at worst in any case and round, less one block for each " +
		"reader. Heap: what the cache takes on Go's heap for each block that it holds, beside the buffer, in the case named.")
	p.table("cache", "-over, bytes", "-heap B/block, zipf 1/2", "-heap B/block, zipf 1/32")
	for _, n := range r.caches() {
		p.cells(n, chart.Short(r.worstOver(n)), fmt.Sprintf("%.0f", r.of("zipf", 2, 1, n, heapPerBlock).Median),
			fmt.Sprintf("%.0f", r.of("zipf", 32, 1, n, heapPerBlock).Median))
	}
}

const cacheMethod = `
## How

The traces are recorded from package segment: a store of three runs in memory (2 Mi keys in 16 segments, every 8th of
them in 2 segments of a newer run, every 32nd in one of the newest; values of 120 bytes), of which readers ask for
filter pages, index blocks and data blocks through a cache.Recorder. They repeat with the seed. What a memtable would
have answered is in them too, and a compaction's own reads are not, since they pass by the cache.

Each measurement is a process of its own, which loads the trace, replays its first quarter and measures the rest; where
all fits, it replays the whole trace, and measures ten further times. The goroutines take turns in the trace, 32
accesses at a time. Rounds are interleaved, and the caches take turns in being first. Processor time is that of the
whole process: goroutines of the cache and the collector are in it.

Load averages well above 2 mean that others worked on the machine. Wall times say little then; processor times grow a
little, since processor caches are shared; hit ratios of s3fifo stay the same, and those of caches that do part of their
work on goroutines of their own depend on when these run.

Set up: s3fifo is package internal/cache. ristretto v2.4.2 has ten counters a block, IgnoreInternalCost, no metrics, and
a queue of Adds limited to 1/8 of the capacity or 4 MiB, which is taken off MaxCost, so that it keeps to its capacity;
ristretto-open has its own queue of 32 Ki items, on top. otter v2.4.0 has MaximumWeight and its default executor. The
counters of hits and misses are the same for all.
`
