package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure DynGO on this machine",
		Long: `Measure DynGO on this machine: durable and buffered puts, gets, and a mix, on a
fresh store in a temporary folder (inside --dir if that is given, so that its
device is measured), which is removed afterwards.

A durable put returns when its bytes have passed an fdatasync, which it shares
with the puts of other writers. A buffered put returns when it is applied in
memory; a crash may lose the last 10 ms of them, and their rate includes the
time until the last one is durable. CPU is that of the whole process, the
generator of the load included. Gets return copies of the values.`,
		Example: `  dyngo-cli bench
  dyngo-cli bench --time 10s --keys 1000000 --only put-durable
  dyngo-cli bench -d /mnt/nvme -o csv`,
		Args: cli.NoArgs,
	}
	var o benchOptions
	f := cmd.Flags()
	f.DurationVar(&o.time, "time", 2*time.Second, "how long each measurement runs")
	f.IntVar(&o.keys, "keys", 100_000, "number of keys, of 16 bytes each")
	f.IntVar(&o.valueSize, "value-size", 128, "bytes of each value")
	f.StringSliceVar(&o.only, "only", nil, "only measurements whose name begins so")
	cli.MustCompleteFlag(cmd, "only", "put-durable", "put-buffered", "get", "mixed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case o.time < time.Millisecond || o.time > time.Hour:
			return cli.Usage("--time 5s", "--time is %v: allowed are 1ms to 1h", o.time)
		case o.keys < 1 || o.keys > 100_000_000:
			return cli.Usage("--keys 1000000", "--keys is %d: allowed are 1 to 100,000,000", o.keys)
		case o.valueSize < 0 || o.valueSize > 16<<20:
			return cli.Usage("--value-size 128", "--value-size is %d: allowed are 0 to 16 MiB", o.valueSize)
		}
		return runBench(cmd, o)
	}
	return cmd
}

type benchOptions struct {
	time            time.Duration
	keys, valueSize int
	only            []string
}

// benchMaxBytes ends a measurement that has written this much, whatever time is left.
const benchMaxBytes = 4 << 30

// A measurement runs step in several goroutines for a while.
type measurement struct {
	name    string
	workers int
	sync    string // when a write is acknowledged
	sample  int    // every how many operations one is timed; timing costs about 50 ns
	writes  bool
	dist    distribution
	step    func(w *benchWorker) error
	drain   func() error // counted too
}

type distribution int

const (
	uniform distribution = iota
	zipf
)

// bench is one run of the command.
type bench struct {
	benchOptions
	dir string
	db  *dyngo.DB
	// strong is for durable puts, buffered for the others, reads holds every key.
	strong, buffered, reads *dyngo.Dataset
}

func runBench(cmd *cobra.Command, o benchOptions) (err error) {
	parent := ""
	if cmd.Flags().Changed("dir") || os.Getenv("DYNGO_DIR") != "" {
		parent = cli.GlobalsOf(cmd).Dir
		if info, err := os.Stat(parent); err != nil || !info.IsDir() {
			return cli.Fail(cli.ExitNotFound, "mkdir -p "+cli.ShellQuote(parent), "no directory %s", parent)
		}
	}
	b := &bench{benchOptions: o}
	runs := b.measurements()
	if len(runs) == 0 {
		return cli.Usage("--only put-durable,put-buffered,get,mixed", "--only %s matches no measurement", strings.Join(o.only, ","))
	}
	if b.dir, err = os.MkdirTemp(parent, "dyngo-bench-*"); err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(b.dir); err == nil {
			err = rerr
		}
	}()
	if err := b.open(cmd); err != nil {
		return err
	}
	defer cli.CloseStore(b.db, &err)
	b.printSetup(cmd.ErrOrStderr())
	return b.runAll(cmd, runs)
}

func (b *bench) open(cmd *cobra.Command) (err error) {
	b.db, err = dyngo.Open(b.dir, &dyngo.Options{
		Session:      cli.Session(cmd),
		MemoryBudget: max(256<<20, int64(b.keys)*int64(b.valueSize+128)*4),
	})
	if err != nil {
		return err
	}
	buffered := &dyngo.DatasetOptions{Consistency: dyngo.Causal}
	for _, d := range []struct {
		into **dyngo.Dataset
		name string
		o    *dyngo.DatasetOptions
	}{{&b.strong, "durable", nil}, {&b.buffered, "buffered", buffered}, {&b.reads, "reads", buffered}} {
		if *d.into, err = b.db.CreateDataset(d.name, d.o); err != nil {
			return errors.Join(err, b.db.Close())
		}
	}
	return nil
}

func (b *bench) printSetup(w io.Writer) {
	fmt.Fprintf(w, "store    %s on %s\n", b.dir, fileSystem(b.dir))
	fmt.Fprintf(w, "machine  %d CPUs, %s/%s, %s\n", runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version())
	fmt.Fprintf(w, "load     %s keys of 16 B, values of %s, %v for each line\n",
		cli.FormatCount(int64(b.keys)), cli.FormatBytes(int64(b.valueSize)), b.time)
	fmt.Fprintf(w, "sync     fdatasync: before the acknowledgement; 10ms: within that time after it\n\n")
}

// measurements are those that --only lets through.
func (b *bench) measurements() []measurement {
	const durable, window = "fdatasync", "10ms"
	cpus := runtime.GOMAXPROCS(0)
	var all []measurement
	for _, writers := range []int{1, 16, 64} {
		all = append(all, measurement{name: "put-durable", workers: writers, sync: durable, sample: 1, writes: true,
			step: func(w *benchWorker) error { return w.put(b.strong) }})
	}
	all = append(all,
		measurement{name: "put-buffered", workers: 8, sync: window, sample: 16, writes: true,
			step:  func(w *benchWorker) error { return w.put(b.buffered) },
			drain: func() error { return b.db.WaitDurable(context.Background(), b.db.LSN()) }},
		measurement{name: "get-zipf", workers: cpus, sample: 16, dist: zipf,
			step: func(w *benchWorker) error { return w.get(b.reads) }},
		measurement{name: "get-uniform", workers: cpus, sample: 16,
			step: func(w *benchWorker) error { return w.get(b.reads) }},
		measurement{name: "get-missing", workers: cpus, sample: 16,
			step: func(w *benchWorker) error { return w.getMissing(b.reads) }},
		measurement{name: "mixed-zipf", workers: cpus, sync: window, sample: 16, dist: zipf, writes: true,
			step: func(w *benchWorker) error {
				if w.ops&1 == 0 {
					return w.get(b.reads)
				}
				return w.put(b.reads)
			}})
	if len(b.only) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(m measurement) bool {
		return !slices.ContainsFunc(b.only, func(p string) bool { return strings.HasPrefix(m.name, p) })
	})
}

func (b *bench) runAll(cmd *cobra.Command, runs []measurement) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "name"}, cli.Column{Name: "workers"}, cli.Column{Name: "sync"},
		cli.Column{Name: "ops", Detail: true}, cli.Column{Name: "ops_per_s", Title: "OPS/S"},
		cli.Column{Name: "p50_us", Title: "P50 µs"}, cli.Column{Name: "p99_us", Title: "P99 µs"},
		cli.Column{Name: "p999_us", Title: "P99.9 µs"}, cli.Column{Name: "cpu_us_per_op", Title: "CPU µs/OP"})
	loaded := false
	for i, m := range runs {
		p := cli.NewProgress(cmd, fmt.Sprintf("%d/%d %s", i+1, len(runs), m.name), 0, "ops")
		if !loaded && !strings.HasPrefix(m.name, "put-") {
			loaded = true
			if err := b.load(cmd.Context()); err != nil {
				return err
			}
		}
		res, err := b.measure(cmd.Context(), m, p)
		p.Done()
		if err != nil {
			return cli.Flushed(r, err)
		}
		var sync any
		if m.sync != "" {
			sync = m.sync
		}
		err = r.Row(m.name, m.workers, sync, cli.CountCell(res.ops), res.perSecond(), micros(res.lat.quantile(0.5)),
			micros(res.lat.quantile(0.99)), micros(res.lat.quantile(0.999)), res.cpuPerOp())
		if err == nil && r.Format != "table" {
			err = r.Flush()
		}
		if err != nil {
			return err
		}
	}
	return r.Close()
}

// result is what one measurement found.
type result struct {
	ops     int64
	elapsed time.Duration
	cpu     time.Duration
	lat     latencies
}

func (r *result) perSecond() float64 { return float64(int64(float64(r.ops) / r.elapsed.Seconds())) }

func (r *result) cpuPerOp() float64 {
	return cli.Round3(float64(r.cpu.Nanoseconds()) / 1000 / float64(max(r.ops, 1)))
}

func micros(d time.Duration) float64 { return cli.Round3(float64(d.Nanoseconds()) / 1000) }

// load gives every key a value, so that reads find it.
func (b *bench) load(ctx context.Context) error {
	w := b.newWorker(0, uniform)
	batch := b.db.NewBatch()
	for i := 0; i < b.keys; i++ {
		batch.Put(b.reads, appendBenchKey(w.key[:0], i), w.value)
		if batch.Len() == 256 || i == b.keys-1 {
			if _, err := batch.Commit(); err != nil {
				return err
			}
			batch.Reset()
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return b.db.WaitDurable(ctx, b.db.LSN())
}

// measure runs m until its time is over.
func (b *bench) measure(ctx context.Context, m measurement, p *cli.Progress) (*result, error) {
	var stop atomic.Bool
	ctx, cancel := context.WithTimeout(ctx, b.time)
	defer cancel()
	context.AfterFunc(ctx, func() { stop.Store(true) })

	maxOps := int64(1) << 62
	if m.writes {
		maxOps = benchMaxBytes / int64(b.valueSize+64) / int64(m.workers)
	}
	workers := make([]*benchWorker, m.workers)
	for i := range workers {
		workers[i] = b.newWorker(uint64(i), m.dist)
	}
	errs := make([]error, m.workers)
	var wg sync.WaitGroup
	start, cpu := time.Now(), cpuTime()
	for i, w := range workers {
		wg.Go(func() { errs[i] = w.run(m, &stop, maxOps, p) })
	}
	wg.Wait()
	if m.drain != nil {
		errs = append(errs, m.drain())
	}
	res := &result{elapsed: time.Since(start), cpu: cpuTime() - cpu}
	for _, w := range workers {
		res.ops += w.ops
		res.lat.merge(&w.lat)
	}
	if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		errs = append(errs, err) // ^C
	}
	return res, errors.Join(errs...)
}

// benchWorker is one goroutine of a measurement with all it needs, so that the loop only calls DynGO.
type benchWorker struct {
	keys       []uint32 // numbers of the keys to use, in a circle; a power of two of them
	key        []byte
	value, dst []byte
	ops        int64
	lat        latencies
}

func (b *bench) newWorker(seed uint64, d distribution) *benchWorker {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := &benchWorker{keys: make([]uint32, 1<<16), key: make([]byte, 0, 16), value: make([]byte, b.valueSize)}
	z := rand.NewZipf(rnd, 1.1, 1, uint64(b.keys-1))
	for i := range w.keys {
		n := rnd.Uint64N(uint64(b.keys))
		if d == zipf {
			n = z.Uint64() * 0x9e3779b97f4a7c15 % uint64(b.keys) // hot keys are not neighbours
		}
		w.keys[i] = uint32(n)
	}
	for i := range w.value {
		w.value[i] = byte(rnd.Uint32())
	}
	return w
}

func (w *benchWorker) run(m measurement, stop *atomic.Bool, maxOps int64, p *cli.Progress) error {
	const tell = 1 << 10
	last := time.Now()
	for !stop.Load() && w.ops < maxOps {
		timed := w.ops%int64(m.sample) == 0
		if timed && m.sample > 1 {
			last = time.Now()
		}
		if err := m.step(w); err != nil {
			return err
		}
		if timed {
			now := time.Now()
			w.lat.add(now.Sub(last))
			last = now
		}
		if w.ops++; w.ops%tell == 0 {
			p.Add(tell)
		}
	}
	return nil
}

// nextKey fills w.key.
func (w *benchWorker) nextKey() {
	w.key = appendBenchKey(w.key[:0], int(w.keys[w.ops&int64(len(w.keys)-1)]))
}

func (w *benchWorker) put(ds *dyngo.Dataset) error {
	w.nextKey()
	_, err := ds.Put(w.key, w.value)
	return err
}

func (w *benchWorker) get(ds *dyngo.Dataset) (err error) {
	w.nextKey()
	w.dst, err = ds.AppendGet(w.dst[:0], w.key)
	return err
}

func (w *benchWorker) getMissing(ds *dyngo.Dataset) (err error) {
	w.nextKey()
	w.key[15] |= 0x80
	w.dst, err = ds.AppendGet(w.dst[:0], w.key)
	if errors.Is(err, dyngo.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("a key that was never put was found: %w", err)
}

// appendBenchKey appends key number n: 16 bytes, "key-" and 12 digits.
func appendBenchKey(dst []byte, n int) []byte {
	dst = append(dst, "key-000000000000"...)
	for i := len(dst) - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}
