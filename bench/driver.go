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
	Steal    float64   `json:"steal"`               // share of processor time that the host gave to others
	NoGroup  string    `json:"no_cgroup,omitempty"` // why memory is limited without a cgroup
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
	set    settings
	tmp    string // of this run alone
	run    benchRun
	from   cpuTimes
	groups *memoryGroups // nil = none can be made
	stores map[string]*preparedStore
}

// preparedStore is loaded once and measured by several cases.
type preparedStore struct {
	dir  string
	uses int   // measurements to come
	err  error // of the load
	made bool
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
	d := &driver{set: set, tmp: tmp, from: readCPUTimes(), stores: map[string]*preparedStore{}}
	d.run = benchRun{
		Machine: readMachine(tmp), Command: command, Full: set.full, Began: time.Now().UTC().Truncate(time.Second),
	}
	if d.groups, d.run.NoGroup, err = findGroups(set.cgroup); err != nil {
		d.cleanUp()
		return nil, usageError(err.Error())
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
	d.countUses(plan)
	for _, s := range plan {
		d.run.Suites = append(d.run.Suites, describe(s))
		for round := range s.rounds {
			if err := d.save(); err != nil {
				return err
			}
			if round > 0 && time.Since(began) > d.set.limit {
				d.run.Leftover = append(d.run.Leftover,
					fmt.Sprintf("%s: rounds from %d of %d", s.name, round+1, s.rounds))
				break
			}
			for _, c := range s.cases {
				for _, name := range rotated(s.engines, round) {
					if !c.runs(name, round) {
						continue
					}
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
	d.end()
	return d.save()
}

// end notes when the run ended and what of the processor others had until then.
func (d *driver) end() {
	d.run.Steal = stealShare(d.from, readCPUTimes())
	d.run.Ended = time.Now().UTC().Truncate(time.Second)
}

// lastRow names the row that was begun last.
func (r *benchRun) lastRow() string {
	w := r.Rows[len(r.Rows)-1]
	return w.Suite + ": " + w.Case
}

func describe(s suite) suiteOf {
	o := suiteOf{Name: s.name, Title: s.title}
	for _, c := range s.cases {
		switch {
		case c.results != nil:
			o.Cases = append(o.Cases, c.results...)
		case len(c.spec.Dists) > 0:
			for _, dist := range c.spec.Dists {
				o.Cases = append(o.Cases, string(dist))
			}
		default:
			o.Cases = append(o.Cases, c.name)
		}
	}
	return o
}

// driverCost runs the first case of a suite that is bound by the processor with the engine that does
// nothing, so that the report can say what of each operation is the driver's.
func (d *driver) driverCost(ctx context.Context, s suite) error {
	switch s.cases[0].spec.Kind {
	case work.Put, work.Get, work.Mixed:
		if s.cases[0].spec.Mode == engine.Durable || s.cases[0].spec.Prepared {
			return nil // bound by the device
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
	prepared := d.stores[storeKey(spec)]
	if spec.Prepared {
		spec.Dir = prepared.dir
	}
	if err := os.Mkdir(spec.Dir, 0o755); err != nil && (!spec.Prepared || !os.IsExist(err)) {
		return err
	}
	if d.set.profiles != "" && strings.HasPrefix(name, "dyngo") {
		file := strings.NewReplacer(" ", "-", ",", "").Replace(s.name + "-" + c.name + "-" + name + ".pprof")
		spec.Profile = filepath.Join(d.set.profiles, file)
	}
	out, began, err := d.measure(ctx, c, spec)
	if ctx.Err() != nil {
		return context.Canceled
	}
	store := spec.Dir
	spec.Dir, spec.Profile = "", "" // say nothing about the result
	for i, r := range out.Results {
		label := c.name
		switch {
		case i < len(c.results):
			label = c.results[i]
		case r.Case != "":
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
	if prepared != nil {
		prepared.uses--
	}
	if prepared == nil || prepared.uses <= 0 {
		if err := os.RemoveAll(store); err != nil {
			return err
		}
	}
	return awaitIdle(ctx, d.tmp, d.set.patience)
}

// measure runs one case and says when its measurement began.
func (d *driver) measure(ctx context.Context, c benchCase, spec work.Spec) (work.Output, time.Time, error) {
	began := time.Now()
	free, err := work.FreeBytes(spec.Dir)
	if err != nil {
		return work.Output{}, began, err
	}
	prepared := d.stores[storeKey(spec)]
	if free < c.need+minFree && (prepared == nil || !prepared.made) {
		return work.Output{}, began, fmt.Errorf("left out: needs %.0f GB of disk, %.0f are free",
			float64(c.need+minFree)/1e9, float64(free)/1e9)
	}
	if prepared != nil {
		if err := d.prepare(ctx, prepared, spec); err != nil {
			return work.Output{}, began, fmt.Errorf("prepare: %w", err)
		}
	}
	if c.crash != "" {
		crash := spec
		crash.Kind, crash.MemoryLimit = c.crash, 0
		if err := killAfter(ctx, crash, c.bound); err != nil {
			return work.Output{}, began, fmt.Errorf("fill: %w", err)
		}
	}
	group := ""
	if spec.MemoryLimit > 0 && d.groups != nil {
		if group, err = d.groups.add(spec.MemoryLimit); err != nil {
			return work.Output{}, began, err
		}
		spec.Grouped = true
		defer func() {
			if err := os.Remove(group); err != nil {
				fmt.Fprintln(os.Stderr, "bench: remove the cgroup:", err)
			}
		}()
	}
	began = time.Now()
	out, err := runChild(ctx, spec, c.bound, group)
	return out, began, err
}

// storeKey tells prepared stores apart. Others have none.
func storeKey(s work.Spec) string {
	if !s.Prepared {
		return ""
	}
	return fmt.Sprintf("prepared-%s-%d-%d-%d-%d", s.Engine, s.Keys, s.KeySize, s.ValueSize, s.MemoryBudget)
}

// countUses finds which stores several measurements share, so that each is made once and goes with the
// last.
func (d *driver) countUses(plan []suite) {
	use := func(s suite, c benchCase, name string) {
		spec := c.spec
		spec.Engine = name
		key := storeKey(spec)
		if key == "" {
			return
		}
		if d.stores[key] == nil {
			d.stores[key] = &preparedStore{dir: filepath.Join(d.tmp, key)}
		}
		for round := range s.rounds {
			if c.runs(name, round) {
				d.stores[key].uses++
			}
		}
	}
	for _, s := range plan {
		for _, c := range s.cases {
			for _, name := range s.engines {
				use(s, c, name)
			}
		}
	}
}

// prepareBound ends a load that hangs.
const prepareBound = 15 * time.Minute

// prepare loads a store that several cases measure, once.
func (d *driver) prepare(ctx context.Context, p *preparedStore, spec work.Spec) error {
	if p.made || p.err != nil {
		return p.err
	}
	began := time.Now()
	spec.Kind, spec.Mode, spec.MemoryLimit, spec.Profile = work.Prepare, engine.Buffered, 0, ""
	_, p.err = runChild(ctx, spec, prepareBound, "")
	if p.err != nil {
		return p.err
	}
	p.made = true
	fmt.Fprintf(os.Stderr, "prepared %d keys in %s, %.1f s\n", spec.Keys, spec.Engine, time.Since(began).Seconds())
	return awaitIdle(ctx, d.tmp, d.set.patience)
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
	spec := work.Spec{Kind: work.Probe, Engine: "none", Dir: d.tmp, Seconds: d.set.probe.seconds, MaxBytes: d.set.probe.bytes}
	out, err := runChild(ctx, spec, time.Minute, "")
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
	return awaitIdle(ctx, d.tmp, d.set.patience)
}

// save writes results.json, so that an interrupted run keeps what it has.
func (d *driver) save() error { return saveRun(d.set.out, &d.run) }
