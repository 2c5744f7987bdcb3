package dyngo_test

import (
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

const storeDir = "/store"

// epoch is when the tests' clocks begin.
const epochNs = 1_700_000_000_000_000_000

func manualClock() *clock.Manual { return clock.NewManual(time.Unix(0, epochNs)) }

// big is a value that goes to data frames.
func big(n int, seed byte) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8) ^ seed
	}
	return string(b)
}

// script touches every feature of the store. Each step is one call, or a few that belong together.
var script = []struct {
	name string
	run  func(r *rig) error
}{
	{"create", func(r *rig) error {
		return errors.Join(r.create("strong", nil), r.create("causal", &dyngo.DatasetOptions{Consistency: dyngo.Causal}),
			r.create("packed", &dyngo.DatasetOptions{Compression: dyngo.S2, LargeValue: 1 << 10}))
	}},
	{"put", func(r *rig) error { return r.put("strong", "a", "1") }},
	{"overwrite", func(r *rig) error { return errors.Join(r.put("strong", "a", "2"), r.put("strong", "b", "")) }},
	{"causal", func(r *rig) error {
		for i := range 5 {
			if err := r.put("causal", fmt.Sprint("c", i), "x"); err != nil {
				return err
			}
		}
		return nil
	}},
	{"delete", func(r *rig) error { return errors.Join(r.del("strong", "a"), r.del("strong", "never")) }},
	{"batch", func(r *rig) error {
		return r.batch(change{kind: "put", ds: "strong", key: "b1", value: "1"}, change{kind: "put", ds: "causal", key: "b2", value: "2"},
			change{kind: "del", ds: "strong", key: "b"}, change{kind: "put", ds: "strong", key: "b1", value: "3"})
	}},
	{"newest wins", func(r *rig) error {
		return errors.Join(r.newest("strong", "n", "10", 10), r.newest("strong", "n", "5", 5), r.newest("strong", "n", "10 again", 10), r.newest("strong", "n", "20", 20))
	}},
	{"flush", flushStep},
	{"newest wins over a delete", func(r *rig) error {
		return errors.Join(r.del("strong", "n"), r.newest("strong", "n", "15", 15), r.newest("strong", "n", "21", 21))
	}},
	{"newest in a batch", func(r *rig) error {
		return r.batch(change{kind: "newest", ds: "strong", key: "m", value: "3", time: 3}, change{kind: "newest", ds: "strong", key: "m", value: "2", time: 2},
			change{kind: "del", ds: "strong", key: "m"}, change{kind: "newest", ds: "strong", key: "m", value: "1", time: 1})
	}},
	{"large value", func(r *rig) error { return r.put("strong", "large", big(20<<10, 1)) }},
	{"large value from a reader", func(r *rig) error { return r.putReader("strong", "stream", big(600<<10, 2)) }},
	{"flush of large values", flushStep},
	{"compressed", func(r *rig) error {
		return errors.Join(r.put("packed", "text", strings.Repeat("all work and no play ", 40)), r.put("packed", "long", strings.Repeat("makes jack a dull boy ", 4000)))
	}},
	{"range delete", func(r *rig) error {
		for i := range 8 {
			if err := r.put("strong", fmt.Sprint("r", i), "x"); err != nil {
				return err
			}
		}
		return errors.Join(r.delRange("strong", "r2", "r5"), r.put("strong", "r3", "back"), r.delRange("strong", "r7", ""))
	}},
	{"flush of range deletes", flushStep},
	{"rotate", func(r *rig) error {
		for i := range 3 {
			if err := r.putReader("strong", fmt.Sprint("roll", i), big(450<<10, byte(i))); err != nil {
				return err
			}
		}
		return nil
	}},
	{"small after rotation", func(r *rig) error { return r.put("strong", "s", "after") }},
	{"drop", func(r *rig) error {
		return errors.Join(r.create("gone", nil), r.put("gone", "k", "v"), r.drop("gone"), r.create("gone", nil), r.put("gone", "k2", "v2"))
	}},
	{"merge", func(r *rig) error { return r.db.Compact(context.Background()) }},
	{"after the merge", func(r *rig) error {
		return errors.Join(r.put("strong", "a", "5"), r.del("strong", "b1"), r.newest("strong", "n", "30", 30))
	}},
	{"flush after the merge", flushStep},
	{"watermark", func(r *rig) error { r.clock.Advance(200 * time.Millisecond); return nil }},
	{"causal at the end", func(r *rig) error { return r.put("causal", "last", "y") }},
}

// flushStep writes everything as segments.
func flushStep(r *rig) error {
	if err := r.db.WaitDurable(context.Background(), r.db.LSN()); err != nil {
		return err
	}
	return r.db.Flush(context.Background())
}

// runScript runs the script until an error, closing and reopening once in the middle.
func runScript(r *rig, fs vfs.FS) error {
	for i, step := range script {
		if i == len(script)/2 {
			if err := r.db.Close(); err != nil {
				return fmt.Errorf("close: %w", err)
			}
			db, err := dyngo.Open(storeDir, options(fs, r.clock))
			if err != nil {
				return fmt.Errorf("reopen: %w", err)
			}
			r.db, r.begun = db, false
			for name := range r.ds {
				if r.ds[name], err = db.Dataset(name); err != nil {
					return fmt.Errorf("reopen: %w", err)
				}
			}
		}
		if err := step.run(r); err != nil {
			return fmt.Errorf("step %q: %w", step.name, err)
		}
	}
	return nil
}

func newRig(fs vfs.FS) (*rig, error) {
	r := &rig{m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
	db, err := dyngo.Open(storeDir, options(fs, r.clock))
	r.db = db
	return r, err
}

// recovered opens what a crash left and compares it with the model, then writes, closes, reopens and compares again.
func (m *model) recovered(fs vfs.FS, now int64) error {
	open := func() (*rig, error) {
		r := &rig{m: m, clock: clock.NewManual(time.Unix(0, now)), ds: map[string]*dyngo.Dataset{}}
		db, err := dyngo.Open(storeDir, options(fs, r.clock))
		r.db = db
		return r, err
	}
	r, err := open()
	if err != nil {
		return fmt.Errorf("open after the crash: %w", err)
	}
	last := r.db.DurableLSN()
	if err := m.check(r.db, now); err != nil {
		return errors.Join(fmt.Errorf("after the crash (LSN %d, %+v): %w", last, r.db.Recovery(), err), r.db.Close())
	}
	before, err := dump(r.db)
	if err != nil {
		return err
	}
	ds, err := r.db.CreateDataset("after", nil)
	if err != nil {
		return errors.Join(fmt.Errorf("write after the crash: %w", err), r.db.Close())
	}
	if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
		return errors.Join(fmt.Errorf("write after the crash: %w", err), r.db.Close())
	}
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("close after the crash: %w", err)
	}
	if r, err = open(); err != nil {
		return fmt.Errorf("second open after the crash: %w", err)
	}
	defer r.db.Close()
	if !r.db.Recovery().Clean {
		return errors.New("second open after the crash: the log does not look closed")
	}
	after, err := dump(r.db)
	if err != nil {
		return err
	}
	before["after"] = map[string]string{"k": "v"}
	if err := differ(before, after); err != nil {
		return fmt.Errorf("second open after the crash: %w", err)
	}
	return verify(fs)
}

// survives checks that a power loss takes nothing from a store that was closed.
func survives(fs *vfs.Crash) error {
	var dumps [2]map[string]map[string]string
	for i, fs := range []vfs.FS{fs, fs.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})} {
		db, err := dyngo.Open(storeDir, &dyngo.Options{FS: fs, ReadOnly: true})
		if err != nil {
			return err
		}
		dumps[i], err = dump(db)
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
	}
	return differ(dumps[0], dumps[1])
}

// verify reads every byte of the log.
func verify(fs vfs.FS) error {
	report, err := wal.Verify(context.Background(), fs, storeDir+"/wal", nil)
	return errors.Join(append(report.Defects, err)...)
}

// Power fails before each call that changes something on disk, and what is left is drawn several times.
func TestPowerLossAtEveryCall(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	fault := vfs.NewFault(crash)
	r, err := newRig(fault)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // the store's own goroutine makes calls too
	var calls, tried int
	var bad error
	fault.OnCall(func(c vfs.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if bad != nil || c.Op&(vfs.OpSyncs|vfs.OpWrite|vfs.OpCreate|vfs.OpRename|vfs.OpRemove|vfs.OpTruncate) == 0 {
			return nil
		}
		calls++
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {}, {Garbage: true}, {}} {
			if testing.Short() && i > 2 {
				break
			}
			o.Seed = uint64(calls*10 + i)
			m, left := r.m.crash(func() *vfs.Crash { return crash.PowerLoss(o) })
			if err := m.recovered(left, r.clock.Now()); err != nil {
				bad = fmt.Errorf("power loss %+v before call %s: %w\n%s", o, c, err, fault.Trace())
				return nil
			}
			tried++
		}
		// The process dies, is started again and then power fails: what was only in the page cache may go.
		m, killed := r.m.crash(crash.KillProcess)
		if err := m.recovered(killed, r.clock.Now()); err != nil {
			bad = fmt.Errorf("kill before call %s: %w\n%s", c, err, fault.Trace())
		} else if err := survives(killed); err != nil {
			bad = fmt.Errorf("kill before call %s, then power loss: %w\n%s", c, err, fault.Trace())
		}
		return nil
	})
	if err := runScript(r, fault); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	if bad != nil {
		t.Fatal(bad)
	}
	t.Logf("%d calls, %d power losses", calls, tried)
	if calls < 100 {
		t.Fatalf("only %d calls: the script does not reach the disk", calls)
	}
}

// Each sync of the project is left out once: a power loss must show it. A sync that may be left out unnoticed has no
// business being there.
func TestEverySyncIsNeeded(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	probe := vfs.NewFault(vfs.NewCrash(seed))
	r, err := newRig(probe)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(runScript(r, probe), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	sites := probe.SyncSites()
	if len(sites) < 8 {
		t.Fatalf("only %d sync sites: %v", len(sites), sites)
	}
	for _, site := range sites {
		if strings.HasPrefix(site.At, "manifest.(*Set).Close ") {
			continue // it loses nothing: the mark only tells damage to the last edit from a torn one, see package manifest
		}
		t.Run(site.At, func(t *testing.T) {
			for round := range uint64(3) {
				crash := vfs.NewCrash(seed + round)
				fault := vfs.NewFault(crash)
				fault.SkipSite(site.At)
				r, err := newRig(fault)
				if err != nil {
					t.Fatal(err)
				}
				var mu sync.Mutex
				var found error
				n := uint64(0)
				fault.OnCall(func(c vfs.Call) error {
					mu.Lock()
					defer mu.Unlock()
					n++
					if found != nil || c.Op&(vfs.OpSyncs|vfs.OpCreate|vfs.OpRename|vfs.OpRemove) == 0 {
						return nil
					}
					if testing.Short() && n%2 != 0 {
						return nil
					}
					for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: round*1000 + n, Garbage: n%2 == 1}} {
						m, left := r.m.crash(func() *vfs.Crash { return crash.PowerLoss(o) })
						if found = m.recovered(left, r.clock.Now()); found != nil || round == 0 && i == 0 {
							return nil
						}
					}
					return nil
				})
				_ = errors.Join(runScript(r, fault), r.db.Close())
				if found == nil {
					found = closedForGood(crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), r)
				}
				if found != nil {
					t.Logf("found in round %d: %.300s", round, found)
					return
				}
			}
			t.Errorf("leaving out the sync at %s (%s %s, %d calls) was not noticed", site.At, site.Op, site.Name, site.Calls)
		})
	}
}

// closedForGood checks what a power loss leaves of a store that was closed.
func closedForGood(fs vfs.FS, r *rig) error {
	db, err := dyngo.Open(storeDir, options(fs, r.clock))
	if err != nil {
		return err
	}
	defer db.Close()
	if !db.Recovery().Clean {
		return errors.New("the store was closed, and is not after a power loss")
	}
	return r.m.check(db, r.clock.Now())
}

// Each call fails once, in each way. Whatever was acknowledged is there after reopening, nothing hangs.
func TestEveryCallFailsOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailSync} {
		runs := 0
		step := int64(1)
		if testing.Short() {
			step = 7
		}
		for k := int64(1) + int64(seed%uint64(step)); ; k += step {
			crash := vfs.NewCrash(seed)
			fault := vfs.NewFault(crash)
			fault.Inject(vfs.Plan{K: k, Kind: kind})
			r, err := newRig(fault)
			if err == nil {
				err = runScript(r, fault)
				if r.db != nil {
					_ = r.db.Close() // fails when the log did
				}
			}
			if fault.Fired() == 0 {
				if err != nil {
					t.Fatalf("nothing failed, but: %v", err)
				}
				break
			}
			runs++
			fault.Heal()
			for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: uint64(k)}} {
				if rerr := r.m.recovered(crash.PowerLoss(o), r.clock.Now()); rerr != nil {
					t.Fatalf("kind %d, call %d failed (script: %v): %v\n%s", kind, k, err, rerr, fault.Trace())
				}
			}
		}
		t.Logf("kind %d: %d calls failed", kind, runs)
	}
}

// What a killed process had written but not synced is served after the restart, so it must not go with a later power loss:
// the first write syncs the old file before the new one vouches for it. Without that sync the store is damaged.
func TestRestartMakesWhatItServesDurable(t *testing.T) {
	for _, skip := range []bool{false, true} {
		crash := vfs.NewCrash(1)
		fault := vfs.NewFault(crash)
		r, err := newRig(fault)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.create("d", nil), r.put("d", "a", "1")); err != nil {
			t.Fatal(err)
		}
		var killed *vfs.Crash
		fault.OnCall(func(c vfs.Call) error { // the frame is written, the sync never comes
			if c.Op == vfs.OpSyncData && killed == nil {
				killed = crash.KillProcess()
			}
			return nil
		})
		if err := errors.Join(r.put("d", "b", "2"), r.db.Close()); err != nil {
			t.Fatal(err)
		}
		restarted := vfs.NewFault(killed)
		if skip {
			restarted.SkipSync(vfs.OpSyncData, "*-00000000000000000001.log")
		}
		db := mustOpen(t, storeDir, options(restarted, r.clock))
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		if v, err := ds.Get([]byte("b")); string(v) != "2" || err != nil {
			t.Fatalf("what was written before the kill is %q, %v", v, err)
		}
		if _, err := ds.Put([]byte("c"), []byte("3")); err != nil {
			t.Fatal(err)
		}
		left := killed.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
		db.Close()
		db, err = dyngo.Open(storeDir, options(left, r.clock))
		if skip {
			if err == nil {
				db.Close()
				t.Fatal("leaving out the sync of the old file was not noticed")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := dump(db)
		if err == nil {
			err = differ(map[string]map[string]string{"d": {"a": "1", "b": "2", "c": "3"}}, got)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
