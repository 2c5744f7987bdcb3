package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/blockcache"
	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  settings
		want string // part of the error, "" = none
	}{
		{"everything", settings{suites: strings.Join(suiteNames(), ","), recordBytes: 15e9, full: true}, ""},
		{"some engines", settings{suites: "get,mixed", engines: "pebble,none"}, ""},
		{"an unknown suite", settings{suites: "get,dance"}, `no suite "dance"`},
		{"some cases", settings{suites: "durable", cases: "6"}, ""},
		{"an unknown case", settings{suites: "durable", cases: "7"}, `no case of suite "durable" has "7"`},
		{"an unknown engine", settings{suites: "get", engines: "oracle"}, `no engine "oracle"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan, err := newPlan(tc.set)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("error %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range plan {
				for _, c := range s.cases {
					if c.spec.KeySize == 0 || c.spec.Seed != tc.set.seed || c.bound <= 0 || c.need <= 0 || s.rounds < 1 {
						t.Errorf("%s, %s: %+v", s.name, c.name, c)
					}
				}
			}
		})
	}
}

func TestRecordsStayWithinTheirBytes(t *testing.T) {
	for _, set := range []settings{
		{suites: "records", recordBytes: 15e9, full: true},
		{suites: "records", recordBytes: 15e9, engines: "dyngo,pebble", rounds: 2},
	} {
		plan, err := newPlan(set)
		if err != nil {
			t.Fatal(err)
		}
		s, total := plan[0], int64(0)
		for _, c := range s.cases {
			total += c.spec.MaxBytes * int64(s.rounds*len(s.engines))
		}
		if total > 15e9 || total < 14e9 {
			t.Errorf("%+v: %d bytes in total", set, total)
		}
	}
}

func TestFiguresNameRealCases(t *testing.T) {
	plan, err := newPlan(settings{suites: strings.Join(suiteNames(), ","), recordBytes: 15e9})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]string{}
	for _, s := range plan {
		cases[s.name] = describe(s).Cases
	}
	for _, f := range earlier {
		if !slices.Contains(cases[f.Suite], f.Case) {
			t.Errorf("the figure of %s is for %s, %s, which no suite runs", f.Engine, f.Suite, f.Case)
		}
		if err := engine.Known(f.Engine); err != nil {
			t.Error(err)
		}
	}
}

func TestRotated(t *testing.T) {
	in := []string{"a", "b", "c"}
	for round, want := range []string{"abc", "bca", "cab", "abc"} {
		if got := strings.Join(rotated(in, round), ""); got != want {
			t.Errorf("round %d: %s, want %s", round, got, want)
		}
	}
}

func TestPublicArgs(t *testing.T) {
	for in, want := range map[string]string{
		"--full --tmp /some/where --out results/x": "--full --out results/x",
		"-tmp=/some/where --quick":                 "--quick",
		"--out results/x":                          "--out results/x",
	} {
		if got := strings.Join(publicArgs(strings.Fields(in)), " "); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestParseMachine(t *testing.T) {
	mounts := "24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n" +
		"30 24 0:26 / /data rw,noatime - xfs /dev/vdb rw\n" +
		"31 24 0:27 / /dat rw - tmpfs tmpfs rw\n"
	for dir, want := range map[string]string{
		"/home/x": "ext4 (rw,relatime,discard)", "/data": "xfs (rw,noatime)", "/data/x": "xfs (rw,noatime)", "/database": "ext4 (rw,relatime,discard)",
	} {
		if got := fileSystemOf(mounts, dir); got != want {
			t.Errorf("%s is on %q, want %q", dir, got, want)
		}
	}
	if got := fileSystemOf("nonsense\n", "/"); got != "" {
		t.Errorf("no mounts give %q", got)
	}
	from := parseCPUTimes("cpu  100 0 50 800 0 0 0 50 10 0\ncpu0 1\n")
	to := parseCPUTimes("cpu  150 0 50 840 0 0 0 60 10 0\n")
	if from.total != 1000 || from.steal != 50 {
		t.Errorf("%+v", from)
	}
	if s := stealShare(from, to); s != 0.1 {
		t.Errorf("share %v, want 0.1", s)
	}
	if parseCPUTimes("cpu 1 2 x") != (cpuTimes{}) || stealShare(to, from) != 0 {
		t.Error("malformed times give a share")
	}
	if got := field("model name\t: AMD EPYC\nflags: x\n", "model name"); got != "AMD EPYC" {
		t.Errorf("field = %q", got)
	}
}

// sample is a run with numbers that are easy to check.
func sample() *benchRun {
	r := &benchRun{Full: true, Commit: "abc", Suites: []suiteOf{
		{Name: "durable", Title: "Durable puts", Cases: []string{"1 writer", "16 writers"}},
		{Name: "records", Title: "Records", Cases: []string{"durable"}},
	}}
	add := func(suite, name, e string, results ...work.Result) {
		r.Rows = append(r.Rows, row{Suite: suite, Case: name, Engine: e, Results: results,
			Info: engine.Info{Name: e, Version: "1", Options: []string{"option of " + e}}})
	}
	put := func(ops float64, p50 int64) work.Result {
		return work.Result{Ops: 1000, Seconds: 1, OpsPerSec: ops, CPU: 2, Latency: map[string]stats.Latency{"put": {P50: p50, P99: 2 * p50, P999: 3 * p50}}}
	}
	add("durable", "1 writer", "dyngo", put(9000, 100_000), put(8000, 110_000), put(10_000, 90_000))
	add("durable", "1 writer", "pebble", put(7000, 120_000))
	add("durable", "16 writers", "dyngo", put(90_000, 150_000))
	add("durable", "16 writers", "pebble", put(50_000, 300_000))
	add("durable", "16 writers", "bbolt", put(4000, 3_000_000))
	add("records", "durable", "dyngo", work.Result{Ops: 5, Extra: map[string]float64{"writes_per_s": 3348, "reads_per_s": 9045},
		Latency:   map[string]stats.Latency{"write due": {P50: 5}},
		Histogram: map[string][]stats.Bucket{"write due": {{From: 1000, To: 2000, Count: 3}}}})
	return r
}

func TestGoals(t *testing.T) {
	got := map[string]goalRow{}
	for _, g := range sample().goals() {
		got[g.what] = g
	}
	for _, want := range []goalRow{
		{what: "durable put, 1 writer", result: "0.83× the time", met: true},
		{what: "durable put, 16 writers", result: "1.80×", met: false, other: "50 k/s pebble"},
		{what: "records, durable: writes", result: "1.50×", met: true},
		{what: "records, durable: reads", result: "0.50×", met: false},
	} {
		g, ok := got[want.what]
		if !ok || g.result != want.result || g.met != want.met || (want.other != "" && g.other != want.other) {
			t.Errorf("%s: %+v, want %+v", want.what, g, want)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d goals, want the 4 that were run", len(got))
	}
}

func TestReportSaysWhatIsVoid(t *testing.T) {
	r := sample()
	if v := r.voids(); len(v) != 0 {
		t.Fatalf("void: %v", v)
	}
	dir := t.TempDir()
	if err := saveRun(dir, r); err != nil {
		t.Fatal(err)
	}
	if err := rerender(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, reportFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"**Valid**", "option of bbolt", "8 k–10 k", "![Records](records-writes.svg)", "**missed**"} {
		if !strings.Contains(string(b), part) {
			t.Errorf("the report lacks %q", part)
		}
	}
	for _, name := range []string{"durable.svg", "durable-p50.svg", "records-writes.svg", "records-reads.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	r.row("durable", "16 writers", "bbolt").Results[0].OpsPerSec = 2000
	if text := r.markdown(nil); !strings.Contains(text, "**VOID.**") || !strings.Contains(text, "bbolt durable/16 writers") {
		t.Error("a peer at half of its figure does not void the run")
	}
}

func TestTailBuffer(t *testing.T) {
	var b tailBuffer
	for range 100 {
		_, _ = b.Write([]byte(strings.Repeat("x", 1000) + "\n"))
	}
	_, _ = b.Write([]byte("the end\n"))
	if len(b.b) > tailBytes || !strings.HasSuffix(b.String(), "the end") {
		t.Fatalf("%d bytes, ends with %q", len(b.b), b.String()[len(b.String())-10:])
	}
}

func sampleCacheRun() *cacheRun {
	r := &cacheRun{Rounds: 2}
	r.Traces = []cacheTrace{{Name: "zipf", What: "point reads", Accesses: 1000, FileBytes: 32 << 20}}
	add := func(name string, hits int64, cpu time.Duration, over int64) {
		for _, part := range append(slices.Clone(parts), allFits) {
			for _, g := range []int{1, 8} {
				c := cacheResult{Trace: "zipf", Part: part, Goroutines: g, Cache: name}
				for i := range 2 {
					res := blockcache.Result{Accesses: 1000, Hits: hits + int64(i), CPU: 1000 * cpu, Wall: 1000 * cpu}
					res.Blocks, res.HeapBytes = 10, 1500
					res.Metrics.CapacityBytes = 1 << 20
					res.PeakBytes = 1<<20 + over
					c.Results = append(c.Results, res)
				}
				r.Rows = append(r.Rows, c)
			}
		}
	}
	add("s3fifo", 900, 20, 0)
	add("ristretto", 870, 10, 0)
	add("otter", 905, 50, 3<<20)
	return r
}

func TestCacheReport(t *testing.T) {
	r := sampleCacheRun()
	dir := t.TempDir()
	if err := saveCacheRun(dir, r); err != nil {
		t.Fatal(err)
	}
	if err := rerender(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, reportFile))
	if err != nil {
		t.Fatal(err)
	}
	// ristretto's hits are the cheapest, but too few; otter has a few more, which is no difference.
	for _, part := range []string{
		"**s3fifo should be the default**: it hits 90.0 % of all accesses on average, a hit costs 20 ns",
		"otter: 90.5 %, 50 ns, 3.",
		"| zipf | 1/8 | 90.0 | 87.0 | 90.5 |", "| s3fifo | 0 | 150 | 150 |", "![Hit ratios at 1/8](hits-8.svg)",
	} {
		if !strings.Contains(string(b), part) {
			t.Errorf("the report lacks %q", part)
		}
	}
	for name := range r.cacheCharts() {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestCacheFlags(t *testing.T) {
	for _, args := range [][]string{{}, {"--out"}, {"--out", "x", "more"}, {"--dance"}, {"--out", "x", "--caches", "lru"}} {
		if err := compareCaches(args); err == nil {
			t.Errorf("%q: no error", args)
		} else if _, ok := err.(usageError); !ok {
			t.Errorf("%q: %v", args, err)
		}
	}
}
