package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/blockcache"
)

// cacheRun is everything that one comparison of block caches measured; results.json holds it.
type cacheRun struct {
	Machine machine       `json:"machine"`
	Command string        `json:"command"`
	Commit  string        `json:"commit"`
	Changed bool          `json:"changed"` // the checkout had changes that no commit holds
	Began   time.Time     `json:"began"`
	Ended   time.Time     `json:"ended"`
	Steal   float64       `json:"steal"` // share of processor time that the host gave to others
	Load    [2]string     `json:"load"`  // averages of the system over 1, 5 and 15 minutes, before and after
	Rounds  int           `json:"rounds"`
	Traces  []cacheTrace  `json:"traces"`
	Rows    []cacheResult `json:"rows"`
}

// cacheTrace is a trace that was replayed.
type cacheTrace struct {
	Name      string `json:"name"`
	What      string `json:"what"`
	Accesses  int64  `json:"accesses"`
	FileBytes int64  `json:"file_bytes"` // of the segments
	Bytes     int64  `json:"bytes"`      // of the trace

	file string
}

// cacheResult is one case of one cache with its rounds.
type cacheResult struct {
	Trace      string              `json:"trace"`
	Part       int                 `json:"part"` // the cache's capacity is FileBytes by this; 0 = all fits
	Goroutines int                 `json:"goroutines"`
	Cache      string              `json:"cache"`
	Results    []blockcache.Result `json:"results"`
}

// parts are the capacities that are compared, as parts of the footprint.
var parts = []int{32, 8, 2}

// allFits is the part that stands for a capacity of four times the footprint.
const allFits = 0

type cacheSettings struct {
	out, tmp string
	rounds   int
	accesses int64
	seed     uint64
	caches   string
}

func cacheFlags() (*cacheSettings, *flag.FlagSet) {
	s := &cacheSettings{}
	f := flag.NewFlagSet("cache", flag.ContinueOnError)
	f.StringVar(&s.out, "out", "", "folder for the results, such as results/block-cache")
	f.StringVar(&s.tmp, "tmp", "", "folder for the traces (default: the system's)")
	f.IntVar(&s.rounds, "rounds", 3, "rounds of each case")
	f.Int64Var(&s.accesses, "accesses", 600_000, "block accesses of each trace")
	f.Uint64Var(&s.seed, "seed", 1, "seed of all random choices")
	f.StringVar(&s.caches, "caches", strings.Join(blockcache.Names(), ","), "caches to compare")
	return s, f
}

// compareCaches records the traces, replays each on each cache, and writes the report.
func compareCaches(args []string) error {
	set, flags := cacheFlags()
	if err := flags.Parse(args); err != nil {
		return usageError(err.Error())
	}
	if set.out == "" || flags.NArg() > 0 {
		return usageError("cache takes flags only, and --out names the folder for the results")
	}
	for _, n := range strings.Split(set.caches, ",") {
		if !slices.Contains(blockcache.Names(), n) {
			return usageError(fmt.Sprintf("no cache %q; there are %s", n, strings.Join(blockcache.Names(), ", ")))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp(set.tmp, "dyngo-traces-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &cacheRun{Machine: readMachine("."), Command: "go run . cache " + strings.Join(publicArgs(args), " "),
		Began: time.Now().UTC(), Rounds: set.rounds}
	r.Commit, r.Changed = checkout()
	r.Load[0] = loadAverage()
	from := readCPUTimes()
	if err := r.record(ctx, set, dir); err != nil {
		return err
	}
	if err := r.replay(ctx, set); err != nil {
		return err
	}
	r.Ended, r.Steal, r.Load[1] = time.Now().UTC(), stealShare(from, readCPUTimes()), loadAverage()
	if err := os.MkdirAll(set.out, 0o755); err != nil {
		return err
	}
	if err := saveCacheRun(set.out, r); err != nil {
		return err
	}
	return r.writeReport(set.out)
}

func saveCacheRun(dir string, r *cacheRun) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, resultsFile), append(b, '\n'), 0o644)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return "unknown"
}

func (r *cacheRun) record(ctx context.Context, set *cacheSettings, dir string) error {
	for i, load := range blockcache.Workloads() {
		if ctx.Err() != nil {
			return context.Canceled
		}
		fmt.Fprintf(os.Stderr, "record %s\n", load.Name)
		t := cacheTrace{Name: load.Name, What: load.What, file: filepath.Join(dir, fmt.Sprint(i))}
		f, err := os.Create(t.file)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(f, 1<<20)
		rec, err := blockcache.Record(w, load, set.accesses, 0, set.seed)
		if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
			return fmt.Errorf("record %s: %w", load.Name, err)
		}
		info, err := os.Stat(t.file)
		if err != nil {
			return err
		}
		t.Accesses, t.FileBytes, t.Bytes = rec.Accesses, rec.FileBytes, info.Size()
		r.Traces = append(r.Traces, t)
	}
	return nil
}

// replay measures all cases in rounds; within a case the caches take turns in being first.
func (r *cacheRun) replay(ctx context.Context, set *cacheSettings) error {
	names := strings.Split(set.caches, ",")
	index := map[string]int{}
	for round := range set.rounds {
		for _, t := range r.Traces {
			for _, part := range append(slices.Clone(parts), allFits) {
				if part == allFits && t.Name != "zipf" {
					continue
				}
				for _, goroutines := range []int{1, 8} {
					kinds := names
					if part == parts[0] {
						kinds = append(slices.Clone(names), blockcache.None)
					}
					for i := range kinds {
						row := cacheResult{Trace: t.Name, Part: part, Goroutines: goroutines}
						row.Cache = kinds[(i+round)%len(kinds)]
						res, err := replayInChild(ctx, row.spec(t))
						if err != nil {
							return fmt.Errorf("%+v: %w", row, err)
						}
						key := fmt.Sprint(row)
						if _, ok := index[key]; !ok {
							index[key] = len(r.Rows)
							r.Rows = append(r.Rows, row)
						}
						at := &r.Rows[index[key]]
						at.Results = append(at.Results, res)
						fmt.Fprintf(os.Stderr, "round %d of %d, %s, %s, %d goroutines, %s: %.1f %% hits, %.0f ns\n", round+1,
							set.rounds, t.Name, partName(part), goroutines, row.Cache, hitRatio(res), cpuNanos(res))
					}
				}
			}
		}
	}
	return nil
}

func (c cacheResult) spec(t cacheTrace) blockcache.Spec {
	s := blockcache.Spec{Cache: c.Cache, Trace: t.file, Goroutines: c.Goroutines}
	if c.Part == allFits {
		s.CapacityBytes, s.Again = 4*t.FileBytes, true
	} else {
		s.CapacityBytes = t.FileBytes / int64(c.Part)
	}
	return s
}

func partName(part int) string {
	if part == allFits {
		return "all fits"
	}
	return fmt.Sprintf("1/%d", part)
}

// replayInChild measures in a process of its own.
func replayInChild(ctx context.Context, s blockcache.Spec) (r blockcache.Result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	spec, err := json.Marshal(s)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "cache-worker")
	var log tailBuffer
	cmd.Stdin, cmd.Stderr, cmd.SysProcAttr = bytes.NewReader(spec), &log, dieWithParent()
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, log.String())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

// cacheWorker does one measurement.
func cacheWorker(in io.Reader) error {
	var s blockcache.Spec
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the case: %w", err)
	}
	r, err := blockcache.Replay(s)
	if err != nil {
		r.Err = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
