package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const intakeLog = 1 << 20 // bytes of a log file

// unflushed is a store of which so many MiB of log are in no segment, as a process that was killed leaves it, and what it holds. Keys are
// overwritten and deleted, one by one, by ranges and in batches that spill. Those that begin with m have a record time of 100 or later.
func unflushed(t *testing.T, seed uint64, mib int) (*vfs.Crash, map[string]map[string]string, dyngo.LSN) {
	t.Helper()
	crash := vfs.NewCrash(seed)
	o := &dyngo.Options{FS: crash, MemoryBudget: 512 << 20, LogFileBytes: intakeLog}
	o.SpillFrom(16<<10, 8<<10)
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	rng, want := rand.New(rand.NewPCG(seed, 0)), map[string]string{}
	key := func() string { return fmt.Sprintf("k%05d", rng.IntN(mib*400)) }
	newest := func(k, v string, at int64) error {
		_, _, err := ds.PutNewest([]byte(k), []byte(v), time.Unix(at, 0))
		return err
	}
	for i := 0; db.LSN() < dyngo.LSN(mib*500); i++ {
		k := key()
		v := fmt.Sprint(i, " ", big(2000, byte(rng.Uint32())))
		switch {
		case i%100 == 9: // a batch that spills and deletes what has a record time
			if err := newest("n"+k, v, int64(100+i)); err != nil {
				t.Fatal(err)
			}
			b := db.NewBatch()
			b.Delete(ds, []byte("n"+k))
			for range 20 {
				k = key()
				want[k] = v
				b.Put(ds, []byte(k), []byte(v))
			}
			_, err = b.Commit()
		case i%50 == 19:
			err = newest("m"+k, v, int64(100+i))
			want["m"+k] = v
		case i%500 == 29:
			for j := range 10 {
				delete(want, fmt.Sprint(k[:5], j))
			}
			_, err = ds.DeleteRange([]byte(k[:5]), []byte(k[:5]+":"))
		case i%10 == 3:
			delete(want, k)
			_, err = ds.Delete([]byte(k))
		default:
			want[k] = v
			_, err = ds.Put([]byte(k), []byte(v))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.WaitDurable(t.Context(), db.LSN()); err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.FlushedLSN > 0 {
		t.Fatal("the store has segments: the test tests nothing")
	}
	return crash.KillProcess(), map[string]map[string]string{"d": want}, db.LSN()
}

// opensWith opens a store and compares what it holds.
func opensWith(fs vfs.FS, want map[string]map[string]string) error {
	db, err := dyngo.Open(storeDir, small(fs))
	if err != nil {
		return err
	}
	got, err := dump(db)
	if err == nil {
		err = differ(want, got)
	}
	ds, derr := db.Dataset("d")
	for k := range got["d"] {
		if derr == nil && k[0] == 'm' {
			applied, _, perr := ds.PutNewest([]byte(k), nil, time.Unix(99, 0))
			if applied {
				err = errors.Join(err, fmt.Errorf("%s: an older put was applied", k))
			}
			err = errors.Join(err, perr)
			break
		}
	}
	return errors.Join(err, derr, db.Close())
}

// While recovery writes a segment it goes on reading the log, until memory is full: it stays within the budget however long that takes.
func TestRecoveryReadsOnWhileItFlushes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const budget = 32 << 20
	left, want, _ := unflushed(t, seed, 72)
	fault := vfs.NewFault(left)
	before := offheap.InUse()
	var read, on, most atomic.Int64 // bytes of log read, those during a flush; memory
	fault.OnCall(func(c vfs.Call) error {
		if n := offheap.InUse() - before; n > most.Load() {
			most.Store(n)
		}
		if c.Op == vfs.OpRead && strings.Contains(c.Name, "wal/") {
			read.Add(int64(c.Len))
		}
		if c.Op != vfs.OpCreate || !strings.HasSuffix(c.Name, ".seg") {
			return nil
		}
		// Until the reader has stood still for long: it waits for this flush.
		end, began := time.Now().Add(10*time.Second), read.Load()
		for n, still := began, 0; still < 20_000 && time.Now().Before(end); still++ {
			if now := read.Load(); now != n {
				n, still = now, 0
			}
			runtime.Gosched()
		}
		on.Store(max(on.Load(), read.Load()-began))
		return nil
	})
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, MemoryBudget: budget, HotRangeBytes: -1, NoRecordCache: true})
	defer db.Close()
	if m := db.Metrics(); m.Flushes < 4 || m.Evictions < 4 {
		t.Fatalf("%d flushes, %d generations left memory: the test tests nothing", m.Flushes, m.Evictions)
	}
	if got := on.Load(); got < 2<<20 { // more than is read ahead
		t.Errorf("%d bytes of log were read during a flush", got)
	}
	if got := most.Load(); got > budget {
		t.Errorf("recovery took %d bytes of memory, the budget is %d", got, budget)
	}
	got, err := dump(db)
	if err := errors.Join(err, differ(want, got)); err != nil {
		t.Error(err)
	}
}

// Open does not wait for a flush of what fits into memory.
func TestRecoveryFlushesNothingThatFits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	left, want, _ := unflushed(t, seed, 16)
	fault := vfs.NewFault(left)
	opened, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpCreate && strings.HasSuffix(c.Name, ".seg") {
			<-opened.Done()
		}
		return nil
	})
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, MemoryBudget: 32 << 20})
	defer db.Close()
	if opened.Err() != nil {
		t.Error("Open waits for a flush")
	}
	end()
	if n := db.Metrics().TailBytes; n < 10<<20 {
		t.Errorf("%d bytes of recent events: the test tests nothing", n)
	}
	got, err := dump(db)
	if err := errors.Join(err, differ(want, got)); err != nil {
		t.Error(err)
	}
}

// Each call of a recovery that writes segments beside reading the log fails once, in each way. What it can't do it says, with no file
// left open, and the next Open has everything.
func TestRecoveryThatFlushesWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash, want, last := unflushed(t, seed, 12)
	failed := 0
	eachCallFailing(t, seed, 41, 173, crash.KillProcess, func(fault *vfs.Fault) error {
		db, err := dyngo.Open(storeDir, small(fault))
		if err != nil {
			failed++
			return err
		}
		defer db.Close() // what fails here is not recovery
		if got := db.Recovery().LastLSN; got != last {
			return fmt.Errorf("recovered to LSN %d, want %d", got, last)
		}
		if len(fault.Failed()) == 0 && db.Metrics().Flushes == 0 {
			return errors.New("nothing was flushed: the test tests nothing")
		}
		return nil
	}, func(k int64, left *vfs.Crash, err error) error {
		return opensWith(left, want)
	})
	if failed == 0 {
		t.Error("no recovery failed: the test tests nothing")
	}
}

// Power fails before calls of a recovery that writes segments beside reading the log. What is left opens and has everything.
func TestRecoveryThatFlushesSurvivesPowerLoss(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash, want, _ := unflushed(t, seed, 12)
	fault := vfs.NewFault(crash)
	var one sync.Mutex // guards calls and bad: the log is read beside a flush
	var calls, tried uint64
	var bad error
	step := uint64(23)
	if testing.Short() {
		step = 97
	}
	fault.OnCall(func(c vfs.Call) error {
		one.Lock()
		defer one.Unlock()
		if calls++; bad != nil || c.Op&vfs.OpChanges == 0 || c.Op == vfs.OpWrite && (calls+seed)%step != 0 {
			return nil
		}
		if c.Op != vfs.OpWrite && testing.Short() && (calls+seed)%3 != 0 {
			return nil
		}
		o := vfs.CrashOptions{Seed: calls}
		if calls%2 == 0 {
			o.Keep = vfs.KeepNone
		}
		if err := opensWith(crash.PowerLoss(o), want); err != nil {
			bad = fmt.Errorf("power loss %+v before call %s: %w\n%s", o, c, err, fault.Trace())
		}
		tried++
		return nil
	})
	db, err := dyngo.Open(storeDir, small(fault))
	if err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.Flushes < 2 {
		t.Errorf("%d flushes: the test tests nothing", m.Flushes)
	}
	if err := errors.Join(db.Close(), bad); err != nil {
		t.Error(err)
	}
	t.Logf("%d calls, %d power losses", calls, tried)
}

// A recovery whose segments can't be written ends with that error, before the log has been read to its end.
func TestRecoveryEndsWithAFlushThatFails(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash, want, _ := unflushed(t, seed, 24)
	fault, broken := vfs.NewFault(crash), errors.New("the disk is broken")
	var read atomic.Int64 // bytes of log
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpRead && strings.Contains(c.Name, "wal/") {
			read.Add(int64(c.Len))
		}
		if c.Op&vfs.OpSyncs != 0 && strings.HasSuffix(c.Name, ".seg") {
			return broken
		}
		return nil
	})
	if _, err := dyngo.Open(storeDir, small(fault)); !errors.Is(err, broken) {
		t.Errorf("every sync of a segment fails, but Open says %v", err)
	}
	if n := read.Load(); n == 0 || n > 12<<20 {
		t.Errorf("%d bytes of log were read", n)
	}
	if open := fault.OpenFiles(); len(open) > 0 {
		t.Errorf("files stay open: %q", open)
	}
	if err := opensWith(crash, want); err != nil {
		t.Error(err)
	}
}

// A restore whose context ends while the log is applied writes nothing more, and can be called again.
func TestRestoreEndsWithItsContext(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash, want, last := unflushed(t, seed, 6)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fault := vfs.NewFault(crash)
	var after atomic.Pointer[vfs.Call] // that changed something
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpRead && strings.HasPrefix(c.Name, restoredDir+"/wal/") {
			cancel()
		}
		if ctx.Err() != nil && c.Op&vfs.OpChanges != 0 {
			after.Store(&c)
		}
		return nil
	})
	o := &dyngo.RestoreOptions{FS: fault}
	if _, err := dyngo.RestoreWith(ctx, storeDir, restoredDir, dyngo.AtLSN(last), o); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if c := after.Load(); c != nil {
		t.Errorf("after that: %s", c)
	}
	fault.OnCall(nil)
	if open := fault.OpenFiles(); len(open) > 0 {
		t.Errorf("files stay open: %q", open)
	}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, dyngo.AtLSN(last), o); err != nil {
		t.Fatal(err)
	}
	db := mustOpen(t, restoredDir, small(crash))
	defer db.Close()
	got, err := dump(db)
	if err := errors.Join(err, differ(want, got)); err != nil {
		t.Error(err)
	}
}
