package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// benchRun is everything that one run measured; results.json holds it.
type benchRun struct {
	Machine  machine   `json:"machine"`
	Command  string    `json:"command"`
	Commit   string    `json:"commit"`
	Changed  bool      `json:"changed"` // the checkout had changes that no commit holds
	Full     bool      `json:"full"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Steal    float64   `json:"steal"` // share of processor time that the host gave to others
	Suites   []suiteOf `json:"suites"`
	Rows     []row     `json:"rows"`
	Probes   []probe   `json:"probes"`
	Leftover []string  `json:"left_out,omitempty"` // rounds not begun for lack of time
}

// suiteOf keeps the order and titles of what was run.
type suiteOf struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Cases []string `json:"cases"`
}

// row is one case of one engine with the results of its rounds.
type row struct {
	Suite   string        `json:"suite"`
	Case    string        `json:"case"`
	Engine  string        `json:"engine"`
	Spec    work.Spec     `json:"spec"`
	Info    engine.Info   `json:"info"`
	Results []work.Result `json:"results"`
	Errors  []string      `json:"errors,omitempty"`
}

// probe is what the machine itself could do at some moment of the run.
type probe struct {
	At        float64       `json:"at_s"` // since the run began
	Fdatasync stats.Latency `json:"fdatasync"`
	WriteMB   float64       `json:"write_mb_per_s"`
	CPUMillis float64       `json:"cpu_ms"`
}

// driver runs a plan and collects.
type driver struct {
	set  settings
	tmp  string // of this run alone
	run  benchRun
	from cpuTimes
}

func newDriver(set settings, command string) (*driver, error) {
	if err := os.MkdirAll(set.out, 0o755); err != nil {
		return nil, err
	}
	if set.profiles != "" {
		if err := os.MkdirAll(set.profiles, 0o755); err != nil {
			return nil, err
		}
	}
	tmp, err := os.MkdirTemp(set.tmp, ".bench-")
	if err != nil {
		return nil, err
	}
	d := &driver{set: set, tmp: tmp, from: readCPUTimes()}
	d.run = benchRun{
		Machine: readMachine(tmp), Command: command, Full: set.full, Began: time.Now().UTC().Truncate(time.Second),
	}
	d.run.Commit, d.run.Changed = checkout()
	return d, nil
}

func (d *driver) cleanUp() {
	if err := os.RemoveAll(d.tmp); err != nil {
		fmt.Fprintln(os.Stderr, "bench: clean up:", err)
	}
}

// runAll runs the suites one after the other; in each, round by round, each case by each engine.
func (d *driver) runAll(ctx context.Context, plan []suite) error {
	began := time.Now()
	if err := d.probe(ctx, began); err != nil {
		return err
	}
	for _, s := range plan {
		d.run.Suites = append(d.run.Suites, describe(s))
		for round := range s.rounds {
			if round > 0 && time.Since(began) > d.set.limit {
				d.run.Leftover = append(d.run.Leftover,
					fmt.Sprintf("%s: rounds from %d of %d", s.name, round+1, s.rounds))
				break
			}
			for _, c := range s.cases {
				for _, name := range rotated(s.engines, round) {
					if err := d.one(ctx, s, c, name, round); err != nil {
						return err
					}
				}
			}
		}
		if err := d.driverCost(ctx, s); err != nil {
			return err
		}
		if err := d.probe(ctx, began); err != nil {
			return err
		}
		if err := d.save(); err != nil {
			return err
		}
	}
	d.run.Steal = stealShare(d.from, readCPUTimes())
	d.run.Ended = time.Now().UTC().Truncate(time.Second)
	return d.save()
}

func describe(s suite) suiteOf {
	o := suiteOf{Name: s.name, Title: s.title}
	for _, c := range s.cases {
		if len(c.spec.Dists) == 0 {
			o.Cases = append(o.Cases, c.name)
		}
		for _, dist := range c.spec.Dists {
			o.Cases = append(o.Cases, string(dist))
		}
	}
	return o
}

// driverCost runs the first case of a suite that is bound by the processor with the engine that does
// nothing, so that the report can say what of each operation is the driver's.
func (d *driver) driverCost(ctx context.Context, s suite) error {
	switch s.cases[0].spec.Kind {
	case work.Put, work.Get, work.Mixed:
		if s.cases[0].spec.Mode == engine.Durable {
			return nil
		}
		c := s.cases[0]
		c.spec.Seconds = 0.5
		return d.one(ctx, s, c, "none", 0)
	}
	return nil
}

// one runs a case of an engine once and keeps what it gave. Only the end of ctx and a defect of the
// driver are errors: an engine that fails has a row that says so.
func (d *driver) one(ctx context.Context, s suite, c benchCase, name string, round int) error {
	spec := c.spec
	spec.Engine = name
	spec.Seed += uint64(round)
	spec.Dir = filepath.Join(d.tmp, "store")
	if err := os.Mkdir(spec.Dir, 0o755); err != nil {
		return err
	}
	if d.set.profiles != "" && strings.HasPrefix(name, "dyngo") {
		file := strings.NewReplacer(" ", "-", ",", "").Replace(s.name + "-" + c.name + "-" + name + ".pprof")
		spec.Profile = filepath.Join(d.set.profiles, file)
	}
	began := time.Now()
	out, err := d.measure(ctx, c, spec)
	if ctx.Err() != nil {
		return context.Canceled
	}
	store := spec.Dir
	spec.Dir, spec.Profile = "", "" // say nothing about the result
	for _, r := range out.Results {
		label := c.name
		if r.Case != "" {
			label = r.Case
		}
		row := d.row(s.name, label, spec, out.Info)
		row.Results = append(row.Results, r)
		fmt.Fprintf(os.Stderr, "%-8s %-20s %-12s round %d  %12.0f ops/s  %8.2f µs CPU/op  %6.1f s\n",
			s.name, label, name, round+1, r.OpsPerSec, r.CPU, time.Since(began).Seconds())
	}
	if err != nil {
		message := strings.ReplaceAll(err.Error(), d.tmp, "…")
		row := d.row(s.name, c.name, spec, engine.Describe(name, engine.Config{Mode: spec.Mode, Writers: spec.Writers}))
		row.Errors = append(row.Errors, message)
		fmt.Fprintf(os.Stderr, "%-8s %-20s %-12s round %d  failed: %s\n", s.name, c.name, name, round+1, message)
	}
	if err := os.RemoveAll(store); err != nil {
		return err
	}
	return awaitIdle(ctx, d.tmp)
}

func (d *driver) measure(ctx context.Context, c benchCase, spec work.Spec) (work.Output, error) {
	free, err := work.FreeBytes(spec.Dir)
	if err != nil {
		return work.Output{}, err
	}
	if free < c.need+minFree {
		return work.Output{}, fmt.Errorf("left out: needs %.0f GB of disk, %.0f are free",
			float64(c.need+minFree)/1e9, float64(free)/1e9)
	}
	if c.crash {
		if err := killAfterFill(ctx, spec, c.bound); err != nil {
			return work.Output{}, fmt.Errorf("fill: %w", err)
		}
	}
	return runChild(ctx, spec, c.bound)
}

// row returns the row of a case and an engine, a new one if there is none.
func (d *driver) row(suite, label string, spec work.Spec, info engine.Info) *row {
	for i := range d.run.Rows {
		r := &d.run.Rows[i]
		if r.Suite == suite && r.Case == label && r.Engine == spec.Engine {
			return r
		}
	}
	d.run.Rows = append(d.run.Rows, row{Suite: suite, Case: label, Engine: spec.Engine, Spec: spec, Info: info})
	return &d.run.Rows[len(d.run.Rows)-1]
}

// probe measures the machine itself.
func (d *driver) probe(ctx context.Context, began time.Time) error {
	spec := work.Spec{Kind: work.Probe, Engine: "none", Dir: d.tmp, Seconds: 0.5, MaxBytes: 256 << 20}
	out, err := runChild(ctx, spec, time.Minute)
	if ctx.Err() != nil {
		return context.Canceled
	}
	if err != nil {
		return fmt.Errorf("probe the machine: %w", err)
	}
	r := out.Results[0]
	d.run.Probes = append(d.run.Probes, probe{
		At: time.Since(began).Seconds(), Fdatasync: r.Latency["fdatasync"],
		WriteMB: r.Extra["write_MB_per_s"], CPUMillis: r.Extra["cpu_ms"],
	})
	return awaitIdle(ctx, d.tmp)
}

// save writes results.json, so that an interrupted run keeps what it has.
func (d *driver) save() error { return saveRun(d.set.out, &d.run) }
