package work

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/integrity"
)

// What DynGO does with the past has no counterpart in the other engines. So each case measures it beside something of DynGO's own or
// of the machine's, in pairs that follow each other in one process: first the one, then the other.

// pastCases are what Past measures, by Spec.Case.
var pastCases = map[string]func(*past) error{
	"view":                     (*past).view,
	"as of, unchanged key":     func(p *past) error { return p.asOf(true) },
	"as of, changed key":       func(p *past) error { return p.asOf(false) },
	"as of, changed key, cold": (*past).asOfCold,
	"verify the tree":          (*past).verifyTree,
	"durable put with a tree":  (*past).integrity,
	"restore":                  (*past).restore,
	"audit":                    (*past).audit,
}

// past is one case in progress.
type past struct {
	s       Spec
	results []Result
	settle  func() error // before each measurement of a pair, if not nil
}

func runPast(s Spec) ([]Result, error) {
	run, ok := pastCases[s.Case]
	if !ok {
		return nil, fmt.Errorf("no case %q", s.Case)
	}
	if err := checkKeySize(s.KeySize); err != nil {
		return nil, err
	}
	p := &past{s: s}
	return p.results, run(p)
}

// pair measures two things in turn, s.Pairs times, of which each returns how many operations it did. Their speed and processor time
// are medians, and what the pairs' ratios of time (and of processor time) come to goes to the first: above 1 it is slower.
func (p *past) pair(name, beside string, a, b func() (int64, error)) error {
	var ra, rb, time, cpu []float64
	one, other := Result{Case: name}, Result{Case: beside}
	measure := func(sum *Result, rates *[]float64, do func() (int64, error)) (r Result, err error) {
		if p.settle != nil {
			if err := p.settle(); err != nil {
				return r, err
			}
		}
		m := startMeter(p.s.Dir)
		if r.Ops, err = do(); err != nil {
			return r, err
		}
		m.stop(&r)
		if r.Ops == 0 {
			return r, errors.New("nothing was done")
		}
		*rates = append(*rates, r.OpsPerSec)
		sum.Ops += r.Ops
		sum.Seconds += r.Seconds
		sum.CPU += r.CPU * float64(r.Ops)
		sum.Allocs += r.Allocs * float64(r.Ops)
		sum.AllocBytes += r.AllocBytes * float64(r.Ops)
		return r, nil
	}
	for i := range max(p.s.Pairs, 1) {
		first, second := &one, &other
		fr, sr, fa, fb := &ra, &rb, a, b
		if i%2 == 1 { // neither always has the other's garbage to clean up
			first, second, fr, sr, fa, fb = second, first, sr, fr, fb, fa
		}
		x, err := measure(first, fr, fa)
		if err != nil {
			return err
		}
		y, err := measure(second, sr, fb)
		if err != nil {
			return err
		}
		if i%2 == 1 {
			x, y = y, x
		}
		time = append(time, y.OpsPerSec/x.OpsPerSec)
		if y.CPU > 0 {
			cpu = append(cpu, x.CPU/y.CPU)
		}
	}
	for _, r := range []struct {
		*Result
		rates []float64
	}{{&one, ra}, {&other, rb}} {
		n := float64(r.Ops)
		r.CPU, r.Allocs, r.AllocBytes, r.OpsPerSec = r.CPU/n, r.Allocs/n, r.AllocBytes/n, stats.Summarize(r.rates).Median
	}
	t, c := stats.Summarize(time), stats.Summarize(cpu)
	one.Extra = map[string]float64{"pairs": float64(t.N), "ratio": t.Median, "ratio_min": t.Min, "ratio_max": t.Max, "cpu_ratio": c.Median}
	p.results = append(p.results, one, other)
	return nil
}

// fillPast makes a store of s.Keys keys, and overwrites each tenth of them after the LSN that it returns.
func (p *past) fillPast(o *dyngo.Options) (db *dyngo.DB, ds *dyngo.Dataset, then dyngo.LSN, err error) {
	if db, err = dyngo.Open(p.s.Dir, o); err != nil {
		return nil, nil, 0, err
	}
	if ds, err = db.CreateDataset("bench", &dyngo.DatasetOptions{Consistency: dyngo.Eventual}); err == nil {
		err = p.puts(db, ds, p.s.Keys, func(i int) (uint64, uint64) { return uint64(i), 0 })
		then = db.LSN()
	}
	if err == nil {
		err = p.puts(db, ds, p.s.Keys/10, func(i int) (uint64, uint64) { return uint64(i) * 10, 1 })
	}
	if err == nil {
		err = db.WaitDurable(context.Background(), db.LSN())
	}
	if err != nil {
		return nil, nil, 0, errors.Join(err, db.Close())
	}
	return db, ds, then, nil
}

// puts writes n values in batches; of tells key and version of each.
func (p *past) puts(db *dyngo.DB, ds *dyngo.Dataset, n int, of func(int) (key, version uint64)) error {
	k, v, b := newKey(p.s.KeySize), newValue(p.s.ValueSize), db.NewBatch()
	for i := range n {
		key, version := of(i)
		putKey(k, key)
		putValue(v, key, version)
		if b.Put(ds, k, v); b.Len() < loadBatch && i < n-1 {
			continue
		}
		if _, err := b.CommitWith(dyngo.WriteOptions{Ack: dyngo.AckApplied}); err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}

// view opens and closes views of the present, beside gets of a key.
func (p *past) view() error {
	db, ds, _, err := p.fillPast(&dyngo.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	const n = 500_000
	k, r := newKey(p.s.KeySize), rng(p.s.Seed)
	var dst []byte
	return p.pair("a view, opened and closed", "a get", func() (int64, error) {
		for range n {
			v, err := db.View()
			if err != nil {
				return 0, err
			}
			if err := v.Close(); err != nil {
				return 0, err
			}
		}
		return n, nil
	}, func() (int64, error) {
		for range n {
			putKey(k, r.next()%uint64(p.s.Keys))
			if dst, err = ds.AppendGet(dst[:0], k); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
}

// gets returns a loop of gets through a view, of keys that were changed or not, whose values are of the wanted version.
func (p *past) gets(v *dyngo.View, ds *dyngo.Dataset, n int64, changed bool, version uint64) func() (int64, error) {
	k, r := newKey(p.s.KeySize), rng(p.s.Seed)
	want := newValue(p.s.ValueSize)
	var dst []byte
	return func() (int64, error) {
		for range n {
			i := r.next() % uint64(p.s.Keys/10) * 10
			if !changed {
				i += 1 + r.next()%9
			}
			putKey(k, i)
			var err error
			if dst, err = v.AppendGet(ds, dst[:0], k); err != nil {
				return 0, err
			}
			if putValue(want, i, version); !bytes.Equal(dst, want) {
				return 0, fmt.Errorf("key %d has not version %d", i, version)
			}
		}
		return n, nil
	}
}

// asOf reads keys through a view of the past beside one of the present, everything in memory.
func (p *past) asOf(unchanged bool) error {
	db, ds, then, err := p.fillPast(&dyngo.Options{MemoryBudget: 2 << 30})
	if err != nil {
		return err
	}
	defer db.Close()
	now, err := db.View()
	if err != nil {
		return err
	}
	defer now.Close()
	old, err := db.ViewAt(context.Background(), dyngo.AtLSN(then))
	if err != nil {
		return err
	}
	defer old.Close()
	const n = 100_000
	version := uint64(1)
	if unchanged {
		version = 0
	}
	return p.pair("get as of an LSN", "get of the present", p.gets(old, ds, n, !unchanged, 0), p.gets(now, ds, n, !unchanged, version))
}

// asOfCold reads keys that were changed through a view of the past, with nothing in memory: neither in the store's, which is a
// sixteenth of the data, nor in the page cache.
func (p *past) asOfCold() error {
	o := &dyngo.Options{MemoryBudget: max(int64(p.s.Keys*(p.s.KeySize+p.s.ValueSize))/16, 8<<20)}
	db, _, then, err := p.fillPast(o)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Flush(context.Background()), db.Close()); err != nil {
		return err
	}
	const n = 300
	r := Result{Case: "get as of an LSN, cold"}
	var rates, reads []float64
	for range max(p.s.Pairs, 1) {
		if err := dropCache(p.s.Dir); err != nil {
			r.Notes = []string{err.Error()}
		}
		if db, err = dyngo.Open(p.s.Dir, o); err != nil {
			return err
		}
		ds, err := db.Dataset("bench")
		if err != nil {
			return errors.Join(err, db.Close())
		}
		v, err := db.ViewAt(context.Background(), dyngo.AtLSN(then))
		if err != nil {
			return errors.Join(err, db.Close())
		}
		if _, err = p.gets(v, ds, 20, true, 0)(); err == nil { // indexes and filters are opened once
			err = dropCache(p.s.Dir)
		}
		m := startMeter(p.s.Dir)
		var one Result
		if err == nil {
			p.s.Seed++
			one.Ops, err = p.gets(v, ds, n, true, 0)()
		}
		m.stop(&one)
		v.Close()
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
		rates, reads = append(rates, one.OpsPerSec), append(reads, float64(one.DiskReads)/n)
		r.Ops, r.Seconds, r.CPU = r.Ops+n, r.Seconds+one.Seconds, r.CPU+one.CPU*n
	}
	s := stats.Summarize(reads)
	r.OpsPerSec, r.CPU = stats.Summarize(rates).Median, r.CPU/float64(r.Ops)
	r.Extra = map[string]float64{"rounds": float64(s.N), "reads": s.Median, "reads_min": s.Min, "reads_max": s.Max}
	p.results = append(p.results, r)
	return nil
}

// verifyTree verifies a store up to its tree, beside SHA-256 over as many bytes in as many calls.
func (p *past) verifyTree() error {
	db, _, _, err := p.fillPast(&dyngo.Options{Integrity: true})
	if err != nil {
		return err
	}
	_, err = db.TreeHead(context.Background())
	events := int64(db.LSN())
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	buf := make([]byte, max(p.s.ValueSize+1, 2<<10))
	return p.pair("verify --level tree", "SHA-256 alone", func() (int64, error) {
		report, err := dyngo.VerifyWith(context.Background(), p.s.Dir, nil, dyngo.VerifyOptions{Level: dyngo.LevelTree})
		if err == nil {
			err = errors.Join(report.All()...)
		}
		if err == nil && (report.Tree == nil || report.Tree.Frames == 0) {
			err = errors.New("the tree was not looked at")
		}
		return events, err
	}, func() (int64, error) {
		for range events { // commitments to key and value, the leaf, the node above it
			_ = sha256.Sum256(buf[:1+p.s.KeySize])
			_ = sha256.Sum256(buf[:1+p.s.ValueSize])
			_ = sha256.Sum256(buf[:97])
			_ = sha256.Sum256(buf[:65])
		}
		return events, nil
	})
}

// integrity measures durable puts with a tree beside the same without.
func (p *past) integrity() error {
	key, _, err := integrity.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	puts := func(name string, o *dyngo.Options) (func() (int64, error), func() error, error) {
		db, err := dyngo.Open(filepath.Join(p.s.Dir, name), o)
		if err != nil {
			return nil, nil, err
		}
		ds, err := db.CreateDataset("bench", nil)
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		clients := newClients(p.s.Writers, p.s)
		return func() (int64, error) {
			var done atomic.Int64
			var failed atomic.Pointer[error]
			var wg sync.WaitGroup
			end := time.Now().Add(p.s.duration())
			for _, c := range clients {
				wg.Go(func() {
					for time.Now().Before(end) && failed.Load() == nil {
						i := c.rng.next() % 1_000_000
						putKey(c.key, i)
						putValue(c.value, i, c.n)
						if _, err := ds.Put(c.key, c.value); err != nil {
							failed.Store(&err)
						}
						done.Add(1)
					}
				})
			}
			wg.Wait()
			if err := failed.Load(); err != nil {
				return 0, *err
			}
			if o.Integrity { // its work is part of the cost, also what lies behind
				if _, err := db.TreeHead(context.Background()); err != nil {
					return 0, err
				}
			}
			return done.Load(), nil
		}, db.Close, nil
	}
	with, closeWith, err := puts("with", &dyngo.Options{Integrity: true, SigningKey: key, Retention: dyngo.Retention{Bytes: 1 << 30}})
	if err != nil {
		return err
	}
	without, closeWithout, err := puts("without", &dyngo.Options{Retention: dyngo.Retention{Bytes: 1 << 30}})
	if err != nil {
		return errors.Join(err, closeWith())
	}
	err = p.pair("with a tree", "without", with, without)
	return errors.Join(err, closeWith(), closeWithout())
}

// restore restores to an LSN in the middle of the log, beside a plain copy of as many bytes to the same disk; an operation is a byte.
func (p *past) restore() error {
	src := filepath.Join(p.s.Dir, "src")
	o := *p
	o.s.Dir = src
	db, _, then, err := o.fillPast(&dyngo.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Flush(context.Background()), db.Close()); err != nil {
		return err
	}
	target := dyngo.AtLSN(then)
	n := 0
	return p.pair("restore to an LSN", "writing as many bytes", func() (int64, error) {
		dst := filepath.Join(p.s.Dir, fmt.Sprint("dst", n))
		n++
		plan, err := dyngo.RestoreWith(context.Background(), src, dst, target, nil)
		return plan.Bytes, errors.Join(err, os.RemoveAll(dst))
	}, func() (int64, error) {
		plan, err := dyngo.PlanRestore(context.Background(), src, target, nil)
		if err != nil {
			return 0, err
		}
		name := filepath.Join(p.s.Dir, "plain")
		f, err := os.Create(name)
		if err != nil {
			return 0, err
		}
		for at := int64(0); at < plan.Bytes && err == nil; at += int64(len(noise)) {
			_, err = f.Write(noise[:min(int64(len(noise)), plan.Bytes-at)])
		}
		return plan.Bytes, errors.Join(err, f.Sync(), f.Close(), os.Remove(name))
	})
}

// audit asks programs about a log of s.Ops events of s.Keys keys: who changed a key, after which event something holds.
func (p *past) audit() error {
	db, err := dyngo.Open(p.s.Dir, &dyngo.Options{MemoryBudget: p.s.MemoryBudget})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("bench", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	err = p.puts(db, ds, int(p.s.Ops), func(i int) (uint64, uint64) { return uint64(i) % uint64(p.s.Keys), uint64(i) })
	counter := []byte("counter")
	for i := 0; err == nil && i < 2; i++ {
		_, err = ds.Put(counter, fmt.Appendf(nil, `{"n": %d}`, i))
	}
	if err == nil {
		err = p.puts(db, ds, int(p.s.Ops)/10, func(i int) (uint64, uint64) { return uint64(i) % uint64(p.s.Keys), uint64(i) })
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	if err := db.Flush(context.Background()); err != nil {
		return errors.Join(err, db.Close())
	}
	if !awaitQuiet(p.s.Dir, 2*quietAtMost) { // side files are made meanwhile
		fmt.Fprintln(os.Stderr, "bench: the store did not come to rest after its load")
	}
	events, r := int64(db.LSN()), rng(p.s.Seed)
	k := newKey(p.s.KeySize)
	history := Result{Case: "history of a key"}
	var times []float64
	m := startMeter(p.s.Dir)
	for range 20 * max(p.s.Pairs, 1) {
		putKey(k, r.next()%uint64(p.s.Keys))
		began, versions := time.Now(), 0
		for _, err := range ds.History(context.Background(), k) {
			if err != nil {
				return errors.Join(err, db.Close())
			}
			versions++
		}
		times = append(times, time.Since(began).Seconds())
		if want := int(p.s.Ops) / p.s.Keys; versions < want || versions > want+2 { // the dataset's creation is one
			return errors.Join(fmt.Errorf("a key has %d versions, want %d", versions, want), db.Close())
		}
	}
	history.Ops = int64(len(times))
	m.stop(&history)
	t := stats.Summarize(times)
	history.Extra = map[string]float64{"rounds": float64(t.N), "seconds": t.Median, "seconds_min": t.Min, "seconds_max": t.Max, "events": float64(events)}
	if err := db.Close(); err != nil {
		return err
	}
	p.results = append(p.results, history)

	tool, err := filepath.Abs(filepath.Join(p.s.Dir, "dyngo-replay")) // it is built in another folder
	if err != nil {
		return err
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dyngodb/dyngo").Output()
	if err != nil {
		return fmt.Errorf("find the programs' source: %w", err)
	}
	build := exec.Command("go", "build", "-o", tool, "./cmd/dyngo-replay")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build dyngo-replay: %w\n%s", err, out)
	}
	for _, q := range []struct {
		name   string
		rounds int
		ops    int64
		args   []string
	}{
		{"bisect", max(p.s.Pairs, 1), 1, []string{"bisect", "bench", "counter", "--where", "n >= 1"}},
		{"replay, counted", 3, events, []string{"stat"}},
	} {
		res := Result{Case: q.name}
		var times []float64
		for range q.rounds {
			cmd := exec.Command(tool, append(q.args, "-d", p.s.Dir, "-o", "json")...)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			began := time.Now()
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s: %w\n%s", q.name, err, errs.String())
			}
			took := time.Since(began)
			times = append(times, took.Seconds())
			res.Ops += q.ops
			res.Seconds += took.Seconds()
			res.CPU += float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds())
		}
		t := stats.Summarize(times)
		res.CPU /= float64(res.Ops)
		res.OpsPerSec = float64(q.ops) / t.Median
		res.Extra = map[string]float64{"rounds": float64(t.N), "seconds": t.Median, "seconds_min": t.Min, "seconds_max": t.Max, "events": float64(events)}
		p.results = append(p.results, res)
	}
	return nil
}
