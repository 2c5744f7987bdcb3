package dyngo_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// patience is how long something may take that must not hang.
const patience = 30 * time.Second

// within runs f. When f does not return in time, the error shows what all goroutines do.
func within(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		b := make([]byte, 1<<20)
		return fmt.Errorf("hangs:\n%s", b[:runtime.Stack(b, true)])
	}
}

// hurried is a clock on which waits for disk space, which are 20 to 50 ms, are over at once.
type hurried struct{ *clock.Manual }

func (c hurried) NewTimer(d time.Duration) clock.Timer {
	return hurriedTimer{c.Manual.NewTimer(hurry(d))}
}

type hurriedTimer struct{ clock.Timer }

func (t hurriedTimer) Reset(d time.Duration) bool { return t.Timer.Reset(hurry(d)) }

func hurry(d time.Duration) time.Duration {
	if d >= 20*time.Millisecond && d <= 50*time.Millisecond {
		return 0
	}
	return d
}

var faultEvery = flag.Int64("fault.every", 3, "tests with a fault at each call take one call in so many, from a random one on; 1 = all of them")

// taken says whether a fault comes at the nth call: at one in faultEvery (short: in short), by the seed.
func taken(n int64, seed uint64, short int64) bool {
	every := max(*faultEvery, 1)
	if testing.Short() {
		every = short
	}
	return (uint64(n)+seed)%uint64(every) == 0
}

// kindOf is how the k-th call fails.
func kindOf(k int64) vfs.Kind {
	return []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace}[k%4]
}

// eachCallFailing runs something in file systems that are as fresh makes them. In each another call fails: one of the first long ones
// (short: short), by the seed, and each long-th after it, until nothing is left to fail. Each run ends, with no file left open; check is
// told how, and looks at what is in the file system then.
func eachCallFailing(t *testing.T, seed uint64, long, short int64, fresh func() *vfs.Crash, run func(*vfs.Fault) error,
	check func(k int64, left *vfs.Crash, err error) error) {
	t.Helper()
	step := long
	if testing.Short() {
		step = short
	}
	for k := 1 + int64(seed%uint64(step)); ; k += step {
		left := fresh()
		fault := vfs.NewFault(left)
		fault.Inject(vfs.Plan{K: k, Kind: kindOf(k)})
		err := within(func() error { return run(fault) })
		failed := fault.Failed()
		if len(failed) == 0 {
			if err != nil {
				t.Fatalf("nothing failed, but: %v", err)
			}
			if kindOf(k) > vfs.FailAfter { // which only some calls can hit
				continue
			}
			t.Logf("%d calls", k)
			return
		}
		fault.Heal()
		if open := fault.OpenFiles(); len(open) > 0 {
			t.Fatalf("%s: files stay open: %q", failed, open)
		}
		if cerr := check(k, left, err); cerr != nil {
			t.Fatalf("%s (it ended with: %v): %v\n%s", failed, err, cerr, fault.Trace())
		}
	}
}

// Each call fails once, in each way. Whatever was acknowledged is there after reopening, nothing hangs, no file stays open.
// When it was space that lacked, for a moment, all goes on as if nothing had been.
func TestEveryCallFailsOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, kind := range []struct {
		name string
		kind vfs.Kind
	}{
		{"error", vfs.FailError}, {"error after", vfs.FailAfter}, {"short", vfs.FailShort}, {"sync", vfs.FailSync}, {"no space", vfs.FailNoSpace},
	} {
		t.Run(kind.name, func(t *testing.T) {
			step, runs := max(*faultEvery, 1), 0
			if testing.Short() {
				step = max(step, 25)
			}
			for k := 1 + int64(seed%uint64(step)); ; k += step {
				fired, err := failOnce(seed, vfs.Plan{K: k, Kind: kind.kind})
				if err != nil {
					t.Fatalf("call %d fails: %v", k, err)
				}
				if !fired {
					break
				}
				runs++
			}
			t.Logf("%d calls failed", runs)
		})
	}
}

// failOnce runs the script with one failure and reports whether there was any.
func failOnce(seed uint64, plan vfs.Plan) (fired bool, err error) {
	crash := vfs.NewCrash(seed)
	fault := vfs.NewFault(crash)
	fault.Inject(plan)
	r := &rig{fs: fault, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
	r.tune = func(o *dyngo.Options) { o.Clock = hurried{r.clock} }
	var failed error // what the script told of the failure
	err = within(func() error {
		if failed = r.open(); failed == nil {
			failed = runScript(r)
		}
		if r.db != nil {
			if err := r.db.Close(); failed == nil {
				failed = err
			}
		}
		return nil
	})
	planned := fault.Failed()
	fault.Heal()
	switch {
	case err != nil:
	case len(planned) == 0:
		return false, failed
	case failed != nil && plan.Kind == vfs.FailNoSpace && passes(planned[0]):
		err = errors.New("there was space again, but the script did not go on")
	case len(fault.OpenFiles()) > 0:
		err = fmt.Errorf("files stay open: %q", fault.OpenFiles())
	}
	for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: uint64(plan.K)}} {
		if err == nil {
			err = r.m.recovered(crash.PowerLoss(o), r.clock.Now())
		}
	}
	// The machine runs on, and shows what it could not write: what the next process finds there and adds, no power loss takes back.
	if left := crash.KillProcess(); err == nil && plan.Kind == vfs.FailSync {
		if err = r.m.recovered(left, r.clock.Now()); err == nil {
			err = survives(left, r.clock.Now())
		}
	}
	if err != nil {
		err = fmt.Errorf("%s (the script: %v): %w\n%s", planned, failed, err, fault.Trace())
	}
	return true, err
}

// passes says of a call that failed for lack of space whether the log must have waited for that and gone on. A store that
// can't be made, or can't be closed in order, may say so, as may Flush and Compact.
func passes(c vfs.Call) bool {
	return c.Op&(vfs.OpWrite|vfs.OpCreate|vfs.OpRename) != 0 && strings.Contains(c.Name, "/wal/") && !strings.Contains(c.Name, "CLEAN")
}

// A value whose reader fails is as if it had never been put, wherever that happens.
func TestPutFromReaderThatFails(t *testing.T) {
	fs := vfs.NewMem()
	db, ds := openWith(t, &dyngo.Options{FS: fs})
	if _, err := ds.Put([]byte("k"), []byte("before")); err != nil {
		t.Fatal(err)
	}
	last := db.LSN()
	for _, c := range []struct {
		name        string
		size, after int // the reader gives so many bytes, then fails
	}{
		{"small, at once", 100, 0}, {"small, in the middle", 100, 50}, {"at once", 600 << 10, 0}, {"in the first piece", 600 << 10, 1000},
		{"between pieces", 600 << 10, 256 << 10}, {"in the last piece", 600 << 10, 600<<10 - 1},
	} {
		for _, short := range []bool{false, true} {
			want, r := errReader, failingReader(big(c.after, 1))
			if short {
				want, r = io.ErrUnexpectedEOF, strings.NewReader(big(c.after, 1))
			}
			_, err := ds.PutReader([]byte("k"), int64(c.size), r)
			if !errors.Is(err, want) {
				t.Errorf("%s, short %v: %v", c.name, short, err)
			}
		}
	}
	if v, err := ds.Get([]byte("k")); string(v) != "before" || err != nil || db.LSN() != last {
		t.Errorf("afterwards %q, %v, at LSN %d, want %d", v, err, db.LSN(), last)
	}
	if _, err := ds.Put([]byte("k"), []byte("after")); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	got, err := dump(db)
	if err := errors.Join(err, differ(map[string]map[string]string{"d": {"k": "after"}}, got), db.Close(), verify(fs)); err != nil {
		t.Fatal(err)
	}
}

// Each call of Open fails once, on a store that is new, was closed, or was killed. The failed Open leaves nothing behind: no
// lock, no open file, no memory. The next one opens the store.
func TestOpenAfterFailedOpen(t *testing.T) {
	crash := vfs.NewCrash(1)
	r, err := newRig(crash)
	if err != nil {
		t.Fatal(err)
	}
	if err := runScript(r); err != nil {
		t.Fatal(err)
	}
	killed := crash.KillProcess()
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	empty := &model{}
	for _, store := range []struct {
		name     string
		fs       *vfs.Crash
		m        *model
		readOnly bool
	}{
		{"new", vfs.NewCrash(1), empty, false}, {"closed", crash, r.m, false}, {"killed", killed, r.m, false},
		{"closed, read-only", crash, r.m, true}, {"killed, read-only", killed, r.m, true},
	} {
		t.Run(store.name, func(t *testing.T) {
			failures := 0
			for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailSync, vfs.FailNoSpace} {
				step := int64(1)
				if testing.Short() {
					step = 9
				}
				for k := 1 + int64(kind)%step; ; k += step {
					fault := vfs.NewFault(store.fs.KillProcess())
					fault.Inject(vfs.Plan{K: k, Kind: kind})
					o := options(fault, clock.NewManual(time.Unix(0, r.clock.Now()+1)))
					o.ReadOnly = store.readOnly
					before := offheap.InUse()
					db, err := dyngo.Open(storeDir, o)
					fault.Heal() // a call of the background fails by now, or not at all
					if fault.Fired() == 0 {
						if err := errors.Join(err, db.Close()); err != nil {
							t.Fatal(err)
						}
						break
					}
					later := err == nil // it is a call of the background that failed, as one that logs what has expired
					if err != nil {
						failures++
						if errors.Is(err, dyngo.ErrCorrupt) {
							t.Fatalf("%v is taken for damage: %v", fault.Failed(), err)
						}
						if open, memory := fault.OpenFiles(), offheap.InUse()-before; len(open) > 0 || memory > 0 {
							t.Fatalf("%v, %v: files open %q, %d bytes of memory kept", fault.Failed(), err, open, memory)
						}
						if db, err = dyngo.Open(storeDir, o); err != nil {
							t.Fatalf("second Open after %v: %v", fault.Failed(), err)
						}
					}
					err = store.m.check(db, db.Recovery().LastLSN, o.Clock.Now())
					if end := db.Close(); end != nil && later && (errors.Is(end, syscall.EIO) || vfs.IsNoSpace(end)) {
						if db, end = dyngo.Open(storeDir, o); end == nil {
							end = errors.Join(store.m.check(db, db.Recovery().LastLSN, o.Clock.Now()), db.Close())
						}
						err = errors.Join(err, end)
					} else {
						err = errors.Join(err, end)
					}
					if err != nil {
						t.Fatalf("after %v: %v", fault.Failed(), err)
					}
				}
			}
			if failures < 3 {
				t.Fatalf("only %d failures of Open", failures)
			}
			t.Logf("%d failures", failures)
		})
	}
}
