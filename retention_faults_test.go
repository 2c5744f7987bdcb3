package dyngo_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// retentionScript has files dropped, held and dropped again.
var retentionScript = []struct {
	name string
	run  func(r *rig) error
}{
	{"create", func(r *rig) error { return r.create("d", inline) }},
	{"fill", func(r *rig) error {
		return errors.Join(r.put("d", "kept", "1"), r.put("d", "deleted", "1"), r.del("d", "deleted"), r.fillUp(0, 7))
	}},
	{"gc", (*rig).gc},
	{"large", func(r *rig) error {
		return errors.Join(r.putReader("d", "large", big(300<<10, 9)), r.putReader("d", "kept large", big(260<<10, 8)), r.fillUp(7, 7))
	}},
	{"gc moves", (*rig).gc},
	{"overwrite", func(r *rig) error { return r.put("d", "large", "small now") }},
	{"range", func(r *rig) error { return r.delRange("d", "fill-0", "fill-2") }},
	{"compact", func(r *rig) error { return orFirst(r, r.db.Compact(context.Background())) }},
	{"fill again", func(r *rig) error { return r.fillUp(14, 7) }},
	{"gc at last", (*rig).gc},
	{"after", func(r *rig) error { return r.put("d", "after", "1") }},
}

func orFirst(r *rig, err error) error {
	if r.err == nil {
		r.err = err
	}
	return r.err
}

func (r *rig) gc() error {
	if r.err != nil {
		return r.err
	}
	r.session() // the first call that may write logs who writes
	_, err := r.db.GC(context.Background())
	if err == nil && r.swept != nil {
		err = r.swept()
	}
	return orFirst(r, err)
}

func (r *rig) fillUp(from, n int) error {
	for i := from; i < from+n; i++ {
		if err := r.put("d", fmt.Sprint("fill-", i%3), big(200<<10, byte(i))); err != nil {
			return err
		}
	}
	return nil
}

// openBounded opens a store with retention beside a model.
func openBounded(m *model, fs vfs.FS, c *clock.Manual) (*rig, error) {
	r := &rig{m: m, clock: c, ds: map[string]*dyngo.Dataset{}}
	o := bounded(fs, c, 1<<20)
	o.Archive = archiveDir
	o.MemoryBudget = 16 << 20 // for the script: after a flush that failed, writers would wait for a clock that stands still
	db, err := dyngo.Open(storeDir, o)
	if r.db = db; err != nil {
		return r, err
	}
	for _, info := range db.Datasets() {
		if r.ds[info.Name], err = db.Dataset(info.Name); err != nil {
			return r, err
		}
	}
	return r, nil
}

func runRetention(r *rig, fs vfs.FS) error {
	for i, step := range retentionScript {
		if i == 5 {
			if err := r.db.Close(); err != nil {
				return fmt.Errorf("close: %w", err)
			}
			next, err := openBounded(r.m, fs, r.clock)
			if r.db = next.db; err != nil {
				return fmt.Errorf("reopen: %w", err)
			}
			r.ds, r.begun = next.ds, false
		}
		if err := step.run(r); err != nil {
			return fmt.Errorf("step %q: %w", step.name, err)
		}
	}
	return nil
}

// retained opens what a crash left, compares it with the model, has retention go on and compares again.
func (m *model) retained(fs vfs.FS, now int64) error {
	c := clock.NewManual(time.Unix(0, now))
	r, err := openBounded(m, fs, c)
	if err != nil {
		return fmt.Errorf("open after the crash: %w", err)
	}
	if err := m.check(r.db, r.db.DurableLSN(), now); err != nil {
		return errors.Join(fmt.Errorf("after the crash (LSN %d, floor %d): %w", r.db.LSN(), r.db.Metrics().FloorLSN, err), r.db.Close())
	}
	before, err := dump(r.db)
	if err != nil {
		return errors.Join(err, r.db.Close())
	}
	_, err = r.db.GC(context.Background())
	if err := errors.Join(err, r.db.Close()); err != nil {
		return fmt.Errorf("gc after the crash: %w", err)
	}
	if oldest, err := oldestLog(fs); err != nil {
		return err
	} else if files, err := wal.ListFiles(fs, storeDir+"/wal"); err != nil || oldest > 0 && files[0].Seq != oldest {
		return fmt.Errorf("the oldest log file is %d, there are %v, %v", oldest, files, err)
	}
	if err := errors.Join(verifyRest(fs), verifyArchive(fs)); err != nil {
		return fmt.Errorf("verify after the crash: %w", err)
	}
	if r, err = openBounded(m, fs, c); err != nil {
		return fmt.Errorf("second open after the crash: %w", err)
	}
	defer r.db.Close()
	after, err := dump(r.db)
	return errors.Join(err, differ(before, after))
}

func TestRetentionSurvivesPowerLossAtEveryCall(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	fault := vfs.NewFault(crash)
	r, err := openBounded(&model{}, fault, manualClock())
	if err != nil {
		t.Fatal(err)
	}
	lock := make(chan struct{}, 1) // the store's own goroutines make calls too
	var calls int
	var bad error
	fault.OnCall(func(c vfs.Call) error {
		lock <- struct{}{}
		defer func() { <-lock }()
		if bad != nil || c.Op&(vfs.OpSyncs|vfs.OpCreate|vfs.OpRename|vfs.OpRemove) == 0 {
			return nil
		}
		calls++
		if testing.Short() && calls%15 != 0 {
			return nil
		}
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Garbage: calls%2 == 0}} {
			o.Seed = uint64(calls*10 + i)
			m, left := r.m.crash(func() *vfs.Crash { return crash.PowerLoss(o) })
			if err := m.retained(left, r.clock.Now()); err != nil {
				bad = fmt.Errorf("power loss %+v before call %s: %w\n%s", o, c, err, fault.Trace())
				return nil
			}
		}
		return nil
	})
	if err := errors.Join(runRetention(r, fault), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	if bad != nil {
		t.Fatal(bad)
	}
	if oldest, err := oldestLog(crash); err != nil || oldest < 3 {
		t.Fatalf("the log begins with file %d, %v: the script tests nothing", oldest, err)
	}
	t.Logf("%d calls", calls)
}

// failRetention runs the script in a store of its own, in which calls fail by plan. err is what the script told of it.
func failRetention(seed uint64, plan vfs.Plan) (r *rig, crash *vfs.Crash, fault *vfs.Fault, err error) {
	crash = vfs.NewCrash(seed)
	fault = vfs.NewFault(crash)
	fault.Inject(plan)
	if r, err = openBounded(&model{}, fault, manualClock()); err == nil {
		err = runRetention(r, fault)
	}
	if r.db != nil {
		_ = r.db.Close() // fails when the log did
	}
	return r, crash, fault, err
}

func TestRetentionWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	step := int64(3)
	if testing.Short() {
		step = 27
	}
	for k := 1 + int64(seed%uint64(step)); ; k += step {
		r, crash, fault, err := failRetention(seed, vfs.Plan{K: k, Kind: []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort}[k/step%3]})
		if fault.Fired() == 0 {
			if err != nil {
				t.Fatalf("nothing failed, but: %v", err)
			}
			t.Logf("%d calls", k)
			break
		}
		fault.Heal()
		for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: uint64(k)}} {
			if rerr := r.m.retained(crash.PowerLoss(o), r.clock.Now()); rerr != nil {
				t.Fatalf("call %d failed (script: %v): %v\n%s", k, err, rerr, fault.Trace())
			}
		}
	}
}

// The system shows what a failed sync has not written, and no later sync writes it: what the next process finds there and adds must
// not hang on it.
func TestRetentionWithEveryFailedSync(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	step := max(*faultEvery, 1)
	if testing.Short() {
		step = 9
	}
	for k := 1 + int64(seed%uint64(step)); ; k += step {
		r, crash, fault, err := failRetention(seed, vfs.Plan{K: k, Kind: vfs.FailSync})
		if fault.Fired() == 0 {
			if err != nil {
				t.Fatalf("nothing failed, but: %v", err)
			}
			t.Logf("%d syncs", k)
			break
		}
		left := crash.KillProcess()
		rerr := r.m.retained(left, r.clock.Now())
		if rerr == nil {
			rerr = survives(left, r.clock.Now())
		}
		if rerr != nil {
			t.Fatalf("%v failed (script: %v): %v\n%s", fault.Failed(), err, rerr, fault.Trace())
		}
	}
}

// An edit of the manifest that drops log files is there for the next process though its sync has failed. It is durable before those
// files go: else a power loss would leave a manifest that begins with a log file which is gone.
func TestFilesGoWhenWhatDropsThemIsDurable(t *testing.T) {
	t.Parallel()
	dropped := 0
	for k := int64(1); ; k++ {
		crash := vfs.NewCrash(uint64(k))
		fault := vfs.NewFault(crash)
		r, err := openBounded(&model{}, fault, manualClock())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.create("d", inline), r.fillUp(0, 14)); err != nil {
			t.Fatal(err)
		}
		fault.Inject(vfs.Plan{K: k, Kind: vfs.FailSync, Ops: vfs.OpSyncData, Name: "manifest/*"})
		_ = r.gc()       // fails when the manifest did
		_ = r.db.Close() // the same
		if fault.Fired() == 0 {
			break
		}
		left := crash.KillProcess()
		if oldest, err := oldestLog(left); err != nil {
			t.Fatal(err)
		} else if oldest > 1 {
			dropped++
		}
		db := mustOpen(t, storeDir, bounded(left, manualClock(), 1<<30))
		ds, err := db.Dataset("d")
		if err == nil {
			_, err = ds.Put([]byte("after"), []byte("1"))
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if err := survives(left, r.clock.Now()); err != nil {
			t.Errorf("after %v: %v", fault.Failed(), err)
		}
	}
	if dropped == 0 {
		t.Error("no edit that drops a file has failed: the test tests nothing")
	}
}

// Random writes of every kind, flushes, merges, drops, crashes: the store is what the model says, and the log is bounded.
func TestRetentionAgainstModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	steps := 600
	if testing.Short() {
		steps = 150
	}
	crash, c := vfs.NewCrash(seed), manualClock()
	r, err := openBounded(&model{}, crash, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.create("d", &dyngo.DatasetOptions{LargeValue: 64 << 10, Compression: dyngo.S2}); err != nil {
		t.Fatal(err)
	}
	key := func() string { return fmt.Sprintf("key-%02d", rng.IntN(40)) }
	value := func() string {
		b := make([]byte, []int{10, 1000, 60 << 10, 100 << 10}[rng.IntN(4)])
		for i := 0; i < len(b); i += 1 + rng.IntN(3) {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	for i := range steps {
		switch n := rng.IntN(100); {
		case n < 50:
			err = r.put("d", key(), value())
		case n < 60:
			err = r.del("d", key())
		case n < 65:
			// Later than all before: how long a delete keeps the record time is up to merges.
			err = r.newest("d", key(), value(), int64(i+1))
		case n < 70:
			a, b := key(), key()
			err = r.delRange("d", min(a, b), max(a, b)+"x")
		case n < 78:
			err = r.batch(change{kind: "put", ds: "d", key: key(), value: value()}, change{kind: "del", ds: "d", key: key()},
				change{kind: "put", ds: "d", key: key(), value: value()})
		case n < 82:
			err = r.putReader("d", key(), value())
		case n < 86:
			r.session()
			err = r.db.Flush(t.Context())
		case n < 88:
			r.session()
			err = r.db.Compact(t.Context())
		case n < 95:
			err = r.gc()
		default:
			next := crash
			m := r.m
			if rng.IntN(2) == 0 {
				err = r.db.Close()
			} else {
				m, next = r.m.crash(func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Seed: rng.Uint64()}) })
				_ = r.db.Close() // of the store before the crash
			}
			if err != nil {
				break
			}
			crash = next
			if r, err = openBounded(m, crash, c); err == nil {
				err = m.check(r.db, r.db.DurableLSN(), c.Now())
				m.cut(r.db.Recovery().LastLSN)
			}
		}
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if err := r.m.check(r.db, r.db.DurableLSN(), c.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustGC(t, r.db)
	files, size := logFiles(t, crash)
	if m := r.db.Metrics(); size > 3<<20 || m.FloorLSN == 0 || m.ValueBytes > 40*200<<10 {
		t.Errorf("the log takes %d bytes in %d files, the floor is %d, value files take %d", size, len(files), m.FloorLSN, m.ValueBytes)
	}
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := verifyRest(crash); err != nil {
		t.Fatal(err)
	}
}

// logged collects what a store logs.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Each sync that retention makes is needed: without it some power loss takes what was promised.
func TestEverySyncOfRetentionIsNeeded(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	probe := vfs.NewFault(vfs.NewCrash(seed))
	r, err := openBounded(&model{}, probe, manualClock())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(runRetention(r, probe), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, site := range probe.SyncSites() {
		if !strings.Contains(site.At, "retention") && !strings.Contains(site.At, "ValueWriter") && !strings.Contains(site.At, "WriteArchived") &&
			!strings.Contains(site.At, "syncAncestors") {
			continue
		}
		tested++
		if testing.Short() && (uint64(tested)+seed)%2 != 0 {
			continue
		}
		t.Run(site.At, func(t *testing.T) {
			for round := range uint64(3) {
				crash := vfs.NewCrash(seed + round)
				fault := vfs.NewFault(crash)
				fault.SkipSite(site.At)
				r, err := openBounded(&model{}, fault, manualClock())
				if err != nil {
					t.Fatal(err)
				}
				lock := make(chan struct{}, 1)
				var found error
				n := uint64(0)
				fault.OnCall(func(c vfs.Call) error {
					lock <- struct{}{}
					defer func() { <-lock }()
					if n++; found == nil && c.Op&(vfs.OpCreate|vfs.OpRename|vfs.OpRemove) != 0 {
						m, left := r.m.crash(func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone, Seed: round*1000 + n}) })
						found = m.retained(left, r.clock.Now())
					}
					return nil
				})
				r.swept = func() error {
					lock <- struct{}{}
					defer func() { <-lock }()
					found = cmp.Or(found, droppedStay(crash))
					return nil
				}
				_ = errors.Join(runRetention(r, fault), r.db.Close())
				if found != nil {
					t.Logf("found in round %d: %.300s", round, found)
					return
				}
			}
			t.Errorf("leaving out the sync at %s (%s %s, %d calls) was not noticed", site.At, site.Op, site.Name, site.Calls)
		})
	}
	if tested < 4 {
		t.Errorf("%d sync sites: %v", tested, probe.SyncSites())
	}
}
