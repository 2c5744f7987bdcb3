package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

const usage = `usage:
  bench run [flags]      measure, then write the report
  bench render FOLDER    write report and charts again from results.json
  bench cache [flags]    compare block caches, then write the report
Flags of run:`

func main() {
	os.Exit(dispatch(os.Args[1:]))
}

// dispatch returns the exit code: 0 ok, 1 failure or a void run, 2 usage, 130 interrupted.
func dispatch(args []string) int {
	if len(args) == 0 {
		_, flags := runFlags()
		fmt.Fprintln(os.Stderr, usage)
		flags.PrintDefaults()
		return 2
	}
	var err error
	switch args[0] {
	case "worker":
		err = worker(os.Stdin)
	case "cache-worker":
		err = cacheWorker(os.Stdin)
	case "cache":
		err = compareCaches(args[1:])
	case "render":
		if len(args) != 2 {
			err = usageError("render takes one folder")
			break
		}
		err = rerender(args[1])
	case "run":
		err = run(args[1:])
	default:
		err = usageError("no command " + args[0])
	}
	switch err.(type) {
	case nil:
		return 0
	case usageError:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if errors.Is(err, context.Canceled) {
		return 130
	}
	return 1
}

type usageError string

func (e usageError) Error() string { return string(e) }

// worker does one case. Whatever an engine prints goes to standard error.
func worker(in io.Reader) error {
	out := json.NewEncoder(os.Stdout)
	os.Stdout = os.Stderr
	var s work.Spec
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the case: %w", err)
	}
	send := func(o work.Output) {
		if err := out.Encode(o); err != nil {
			fmt.Fprintln(os.Stderr, "bench: answer:", err)
			os.Exit(1)
		}
	}
	send(work.Run(s, send))
	return nil
}

// settings are the flags of run.
type settings struct {
	suites, engines string
	cases           string // part of their names
	full, quick     bool
	out, tmp        string
	rounds          int
	seconds         float64
	keys            int
	recordBytes     int64
	limit           time.Duration
	profiles        string
	seed            uint64
	largeBytes      int64
	openGB          float64
	cgroup          string
	patience        time.Duration // for the disk to come to rest between two cases
	probe           struct {      // of the machine itself
		seconds float64
		bytes   int64
	}
}

func runFlags() (*settings, *flag.FlagSet) {
	s := &settings{patience: 5 * time.Second}
	s.probe.seconds, s.probe.bytes = 0.5, 256<<20
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.StringVar(&s.suites, "suite", strings.Join(suiteNames(), ","), "suites to run, in order")
	f.StringVar(&s.cases, "case", "", "run only the cases with this in their names")
	f.StringVar(&s.engines, "engines", "", "engines, of "+strings.Join(engine.Names(), ", ")+
		" (default: those that the suite compares)")
	f.BoolVar(&s.full, "full", false, "the lengths that results are kept from, about 40 minutes")
	f.BoolVar(&s.quick, "quick", false, "short rounds, about 9 minutes (default)")
	f.StringVar(&s.out, "out", "", "folder for the results, such as results/2-cores")
	f.StringVar(&s.tmp, "tmp", "", "folder for the stores, on the disk to be measured (default: beside --out)")
	f.IntVar(&s.rounds, "rounds", 0, "rounds of each case (default: as the suite says)")
	f.Float64Var(&s.seconds, "seconds", 0, "seconds of each measurement (default: as the suite says)")
	f.IntVar(&s.keys, "keys", 0, "keys of each case (default: as the suite says)")
	f.Int64Var(&s.recordBytes, "records-bytes", 15e9, "bytes that the records suite may write in total")
	f.Int64Var(&s.largeBytes, "large-bytes", 0, "keys and values of the stores that are eight times as large as memory "+
		"(default 2 GiB full, 200 MiB quick)")
	f.Float64Var(&s.openGB, "open-gb", 0, "measure open also with a store of so many GB of keys and values")
	f.StringVar(&s.cgroup, "cgroup", cgroupAuto, "folder of a memory cgroup in which groups for workers may be made, auto or off")
	f.DurationVar(&s.limit, "limit", 0, "after this time only first rounds are begun (default 40m full, 9m quick)")
	f.StringVar(&s.profiles, "profiles", "", "folder for processor profiles of DynGO; they slow it a little, so such a run is no result")
	f.Uint64Var(&s.seed, "seed", 1, "seed of all random choices")
	return s, f
}

func run(args []string) error {
	set, flags := runFlags()
	if err := flags.Parse(args); err != nil {
		return usageError(err.Error())
	}
	if flags.NArg() > 0 {
		return usageError("run takes flags only, not " + flags.Arg(0))
	}
	if set.full && set.quick {
		return usageError("--full and --quick exclude each other")
	}
	if set.out == "" {
		return usageError("--out names the folder for the results")
	}
	if set.limit == 0 {
		set.limit = pick(*set, 40*time.Minute, 9*time.Minute)
	}
	if set.tmp == "" {
		set.tmp = filepath.Dir(filepath.Clean(set.out))
	}
	plan, err := newPlan(*set)
	if err != nil {
		return usageError(err.Error())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := newDriver(*set, "go run . run "+strings.Join(publicArgs(args), " "))
	if err != nil {
		return err
	}
	defer d.cleanUp()
	if err := d.runAll(ctx, plan); err != nil {
		if err == context.Canceled && len(d.run.Rows) > 0 {
			d.run.Leftover = append(d.run.Leftover, "all after "+d.run.lastRow()+": the run was interrupted")
			d.end()
			return errors.Join(err, d.save(), writeReport(set.out, &d.run))
		}
		return err
	}
	return finish(set.out, &d.run)
}

// publicArgs leaves out the folder for temporary files, which says nothing about the results.
func publicArgs(args []string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if name == "tmp" {
			if !joined {
				i++
			}
			continue
		}
		kept = append(kept, args[i])
	}
	return kept
}
