package dyngo_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
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

// Each call fails once, in each way. Whatever was acknowledged is there after reopening, nothing hangs, no file stays open.
func TestEveryCallFailsOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, kind := range []struct {
		name string
		kind vfs.Kind
	}{
		{"error", vfs.FailError}, {"error after", vfs.FailAfter}, {"short", vfs.FailShort}, {"sync", vfs.FailSync},
	} {
		t.Run(kind.name, func(t *testing.T) {
			step, runs := int64(1), 0
			if testing.Short() {
				step = 7
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
	case len(fault.OpenFiles()) > 0:
		err = fmt.Errorf("files stay open: %q", fault.OpenFiles())
	}
	for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: uint64(plan.K)}} {
		if err == nil {
			err = r.m.recovered(crash.PowerLoss(o), r.clock.Now())
		}
	}
	if err != nil {
		err = fmt.Errorf("%s (the script: %v): %w\n%s", planned, failed, err, fault.Trace())
	}
	return true, err
}
