package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

func mustSnapshot(t *testing.T, db *dyngo.DB, name string) dyngo.SnapshotInfo {
	t.Helper()
	info, err := db.Snapshot(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// dumpSnapshot opens a snapshot's folder, checks every byte of it, and returns what it holds.
func dumpSnapshot(fs vfs.FS, c clock.Clock, dir string) (map[string]map[string]string, error) {
	report, err := dyngo.Verify(context.Background(), dir, &dyngo.Options{FS: fs}, nil)
	if err := errors.Join(append(report.All(), err)...); err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	db, err := dyngo.Open(dir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if r := db.Recovery(); !r.Clean || r.Damage != nil {
		return nil, fmt.Errorf("%s: %+v", dir, r)
	}
	return dump(db)
}

// snapshotNames are the names that the store lists.
func snapshotNames(db *dyngo.DB) (names []string, err error) {
	list, err := db.Snapshots()
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names, err
}

// A snapshot is the state at its LSN, in its folder and through AtSnapshot, whatever comes after; it goes when it is dropped.
func TestSnapshot(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c})
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := ds.Put([]byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("k", "1")
	put("large", big(100<<10, 1))
	a := mustSnapshot(t, db, "a")
	put("k", "2")
	if _, err := ds.Delete([]byte("large")); err != nil {
		t.Fatal(err)
	}
	b := mustSnapshot(t, db, "b")
	if a.LSN != 4 || b.LSN != 7 || a.Name != "a" || a.Dir != storeDir+"/snapshots/a" || a.Time.UnixNano() != c.Now() {
		t.Errorf("snapshots %+v, %+v", a, b)
	}
	wantA := map[string]map[string]string{"d": {"k": "1", "large": big(100<<10, 1)}}
	wantB := map[string]map[string]string{"d": {"k": "2"}}
	for i := range 2 { // as it is, and opened again
		for s, want := range map[*dyngo.SnapshotInfo]map[string]map[string]string{&a: wantA, &b: wantB} {
			got, err := dumpSnapshot(fs, c, s.Dir)
			if err := errors.Join(err, differ(want, got)); err != nil {
				t.Errorf("folder of %s: %v", s.Name, err)
			}
			v := mustViewAt(t, db, dyngo.AtSnapshot(s.Name))
			got, err = dumpView(v, []string{"d"}, nil)
			if err := errors.Join(err, differ(want, got)); err != nil || v.LSN() != s.LSN {
				t.Errorf("view of %s at LSN %d: %v", s.Name, v.LSN(), err)
			}
			v.Close()
		}
		if list, err := db.Snapshots(); err != nil || !slices.Equal(list, []dyngo.SnapshotInfo{a, b}) {
			t.Errorf("snapshots: %+v, %v", list, err)
		}
		if i == 0 {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c})
		}
	}
	if err := db.DropSnapshot("a"); err != nil {
		t.Fatal(err)
	}
	if names, err := snapshotNames(db); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("snapshots after a was dropped: %q, %v", names, err)
	}
	if _, err := db.ViewAt(t.Context(), dyngo.AtSnapshot("a")); !errors.Is(err, dyngo.ErrNoSnapshot) {
		t.Errorf("a view of a snapshot that was dropped: %v", err)
	}
	if left, err := fs.List(storeDir + "/snapshots"); err != nil || !slices.Equal(left, []string{"b"}) {
		t.Errorf("left: %q, %v", left, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := verify(fs); err != nil {
		t.Error(err)
	}
	logged, err := loggedSnapshots(fs)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a 04 at 5", "b 07 at 8"}; !slices.Equal(logged, want) {
		t.Errorf("the log has %q, want %q", logged, want)
	}
}

// loggedSnapshots are the snapshots that the log tells of.
func loggedSnapshots(fs vfs.FS) (logged []string, err error) {
	sc, err := wal.NewScanner(fs, storeDir+"/wal", wal.ScanOptions{})
	if err != nil {
		return nil, err
	}
	defer sc.Close()
	for {
		f, err := sc.Next()
		if err == io.EOF {
			return logged, nil
		}
		if err != nil {
			return nil, err
		}
		if f.Kind != wal.KindCommit {
			continue
		}
		for e, err := range f.Events() {
			if err != nil {
				return nil, err
			}
			if e.Op == event.OpSnapshot {
				logged = append(logged, fmt.Sprintf("%s %x at %d", e.Key, e.Value, e.LSN))
			}
		}
	}
}

// Names that can't be are refused, as are names that are taken or that nobody has; a snapshot is not opened for writing, and a
// damaged one is named.
func TestSnapshotRefusals(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	info := mustSnapshot(t, db, "a")
	for _, name := range []string{"", "..", "../a", "a/b", ".tmp-a", "a b", strings.Repeat("n", 200)} {
		if _, err := db.Snapshot(t.Context(), name); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("snapshot %q: %v", name, err)
		}
		if err := db.DropSnapshot(name); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("drop %q: %v", name, err)
		}
		if _, err := db.ViewAt(t.Context(), dyngo.AtSnapshot(name)); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("view of %q: %v", name, err)
		}
	}
	before := db.LSN()
	if _, err := db.Snapshot(t.Context(), "a"); !errors.Is(err, dyngo.ErrSnapshotExists) || db.LSN() != before {
		t.Errorf("a name that is taken: %v, %d events", err, db.LSN()-before)
	}
	if err := db.DropSnapshot("b"); !errors.Is(err, dyngo.ErrNoSnapshot) {
		t.Errorf("drop of what is not there: %v", err)
	}
	if _, err := dyngo.Open(info.Dir, &dyngo.Options{FS: fs}); !errors.Is(err, dyngo.ErrSnapshot) {
		t.Errorf("open for writing: %v", err)
	}
	if _, err := dyngo.Repair(t.Context(), info.Dir, &dyngo.Options{FS: fs}, dyngo.RepairOptions{}); !errors.Is(err, dyngo.ErrSnapshot) {
		t.Errorf("repair: %v", err)
	}
	if names, err := fs.List(info.Dir); err != nil || slices.Contains(names, "LOCK") {
		t.Errorf("in the folder: %q, %v", names, err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Snapshot(canceled, "c"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	ro := mustOpen(t, storeDir, &dyngo.Options{FS: fs, ReadOnly: true})
	if _, err := ro.Snapshot(t.Context(), "c"); !errors.Is(err, dyngo.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	if names, err := snapshotNames(ro); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("read-only: %q, %v", names, err)
	}
	mustSnapshot(t, db, "c")
	f, err := fs.OpenRW(info.Dir + "/SNAPSHOT")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{9}, 50); err != nil {
		t.Fatal(err)
	}
	var damage *dyngo.CorruptionError
	if names, err := snapshotNames(db); !errors.As(err, &damage) || damage.File != "snapshots/a/SNAPSHOT" || !slices.Equal(names, []string{"c"}) {
		t.Errorf("with a damaged one: %q, %v", names, err)
	}
	if err := db.DropSnapshot("a"); err != nil {
		t.Errorf("drop of a damaged one: %v", err)
	}
	if err := errors.Join(f.Close(), ro.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Snapshot(t.Context(), "d"); !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := db.Snapshots(); !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// Retention drops the log files of a snapshot, merges replace its segments, value files are written anew: its folder has them
// all the same. The store itself can't show its state any more, and says which it can.
func TestSnapshotOutlivesRetention(t *testing.T) {
	for _, links := range []bool{true, false} {
		t.Run(fmt.Sprint("links ", links), func(t *testing.T) {
			mem := vfs.NewMem()
			fault := vfs.NewFault(mem)
			if !links {
				fault.Inject(vfs.Plan{Ops: vfs.OpLink, Count: -1, Err: syscall.EPERM})
			}
			c := manualClock()
			db := mustOpen(t, storeDir, bounded(fault, c, 2<<20))
			defer func() { db.Close() }()
			ds, err := db.CreateDataset("d", inline)
			if err == nil {
				_, err = ds.PutReader([]byte("large"), 600<<10, strings.NewReader(big(600<<10, 7)))
			}
			if err != nil {
				t.Fatal(err)
			}
			fill(t, ds, 0, 30)
			mustGC(t, db)
			fill(t, ds, 100, 3)
			if m := db.Metrics(); m.FloorLSN == 0 || m.ValueFiles == 0 {
				t.Fatalf("floor %d, %d value files: nothing was dropped yet", m.FloorLSN, m.ValueFiles)
			}
			want, err := dump(db)
			if err != nil {
				t.Fatal(err)
			}
			info := mustSnapshot(t, db, "kept")
			if _, err := ds.Delete([]byte("large")); err != nil {
				t.Fatal(err)
			}
			fill(t, ds, 200, 40)
			if err := errors.Join(db.Compact(t.Context())); err != nil {
				t.Fatal(err)
			}
			mustGC(t, db)
			got, err := dumpSnapshot(fault, c, info.Dir)
			if err := errors.Join(err, differ(want, got)); err != nil {
				t.Errorf("the snapshot: %v", err)
			}
			var outside *dyngo.WindowError
			_, err = db.ViewAt(t.Context(), dyngo.AtSnapshot("kept"))
			if !errors.As(err, &outside) || !strings.Contains(err.Error(), `snapshot "kept"`) {
				t.Errorf("a view of it: %v", err)
			}
		})
	}
}

// While others write, a snapshot is exactly what a view at its LSN shows.
func TestSnapshotWhileOthersWrite(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20})
	defer db.Close()
	names := []string{"strong", "causal"}
	for i, name := range names {
		if _, err := db.CreateDataset(name, &dyngo.DatasetOptions{Consistency: dyngo.Consistency(i)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, name := range names {
		ds, err := db.Dataset(name)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for n := 0; ctx.Err() == nil && n < 1500; n++ {
				b := db.NewBatch()
				for j := range 3 {
					b.Put(ds, fmt.Appendf(nil, "key-%d", (n*3+j)%500), []byte(big(500+100*j, byte(n+i))))
				}
				if _, err := b.Commit(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 4 {
		info := mustSnapshot(t, db, fmt.Sprint("s", i))
		if i == 2 {
			if err := db.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
		v := mustViewAt(t, db, dyngo.AtSnapshot(info.Name))
		want, err := dumpView(v, names, nil)
		v.Close()
		if err != nil {
			t.Fatal(err)
		}
		got, err := dumpSnapshot(fs, clock.NewSystem(), info.Dir)
		if err := errors.Join(err, differ(want, got)); err != nil {
			t.Errorf("%s at LSN %d: %v", info.Name, info.LSN, err)
		}
	}
	stop()
	wg.Wait()
}

// A file system without hard links that has too little room refuses, and nothing is left.
func TestSnapshotWithoutRoom(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, LogFileBytes: 1 << 20})
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 10)
	fault.Inject(vfs.Plan{Ops: vfs.OpLink, Count: -1, Err: syscall.EPERM})
	fault.SetQuota(10 << 20)
	if _, err := db.Snapshot(t.Context(), "a"); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("no room: %v", err)
	}
	if left, err := fault.List(storeDir + "/snapshots"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	fill(t, ds, 10, 1)
	fault.SetQuota(-1)
	mustSnapshot(t, db, "a")
}

// Close does not wait for a snapshot to be whole, and leaves none.
func TestCloseDuringSnapshot(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, LogFileBytes: 1 << 20})
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 20)
	closed := make(chan error, 1)
	var once sync.Once
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpLink {
			once.Do(func() {
				go func() { closed <- db.Close() }()
				for !errors.Is(db.WaitDurable(context.Background(), 1), dyngo.ErrClosed) { // until Close has begun
				}
			})
		}
		return nil
	})
	if _, err := db.Snapshot(t.Context(), "a"); !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("snapshot: %v", err)
	}
	if err := within(func() error { return <-closed }); err != nil {
		t.Error(err)
	}
	if left, err := fault.List(storeDir + "/snapshots"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// snapshots is what a script did with snapshots.
type snapshots struct {
	mu    sync.Mutex
	state map[string]bool // by name: there; absent or in between = not known
}

func (s *snapshots) set(name string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[name] = there
}

func (s *snapshots) unknown(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.state, name)
}

func (s *snapshots) copy() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := map[string]bool{}
	for k, v := range s.state {
		c[k] = v
	}
	return c
}

// runSnapshots makes and drops snapshots between writes. It returns the first error.
func runSnapshots(r *rig, s *snapshots) error {
	take := func(name string) error {
		s.unknown(name)
		err := r.do(true, func() (dyngo.LSN, error) {
			info, err := r.db.Snapshot(context.Background(), name)
			return info.LSN + 1, err
		}, change{kind: "session"})
		if err == nil {
			s.set(name, true)
		}
		return err
	}
	drop := func(name string) error {
		if r.err == nil {
			s.unknown(name)
			if r.err = r.db.DropSnapshot(name); r.err == nil {
				s.set(name, false)
			}
		}
		return r.err
	}
	for _, step := range []func() error{
		func() error { return r.create("d", &dyngo.DatasetOptions{LargeValue: 4 << 10}) },
		func() error { return r.put("d", "k1", "one") },
		func() error { return r.put("d", "large", big(9000, 3)) },
		func() error { return take("first") },
		func() error { return r.put("d", "k1", "two") },
		r.flushSegments,
		func() error { return r.del("d", "large") },
		func() error { return take("second") },
		func() error { return drop("first") },
		func() error { return r.put("d", "k2", "three") },
		func() error { return r.reopen(1) },
		func() error { return take("third") },
		func() error { return r.put("d", "k3", "four") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// snapshotsHold checks the snapshots that a crash left: those that were acknowledged are there, those that were dropped are not,
// and each that is there is the state at its LSN. A new one can be made.
func snapshotsHold(m *model, fs vfs.FS, now int64, known map[string]bool) error {
	c := clock.NewManual(time.Unix(0, now))
	db, err := dyngo.Open(storeDir, options(fs, c))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := m.check(db, db.DurableLSN(), now); err != nil {
		return err
	}
	list, err := db.Snapshots()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, s := range list {
		there[s.Name] = true
		got, err := dumpSnapshot(fs, c, s.Dir)
		if err := errors.Join(err, differ(m.past(s.LSN, now), got)); err != nil {
			return fmt.Errorf("snapshot %s at LSN %d: %w", s.Name, s.LSN, err)
		}
	}
	for name, want := range known {
		if there[name] != want {
			return fmt.Errorf("snapshot %s is there: %v, want %v", name, there[name], want)
		}
	}
	if _, err := db.Snapshot(context.Background(), "after"); err != nil {
		return fmt.Errorf("a new one: %w", err)
	}
	left, err := fs.List(path.Join(storeDir, "snapshots"))
	if len(left) != len(list)+1 {
		return fmt.Errorf("there are %q: %w", left, err)
	}
	return err
}

// Power fails before each call that changes something on disk.
func TestSnapshotSurvivesPowerLossAtEveryCall(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	fault := vfs.NewFault(crash)
	r, err := newRig(fault)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshots{state: map[string]bool{}}
	lock := make(chan struct{}, 1) // the store's own goroutines make calls too
	var calls int
	var bad error
	fault.OnCall(func(c vfs.Call) error {
		lock <- struct{}{}
		defer func() { <-lock }()
		if bad != nil || c.Op&vfs.OpChanges == 0 {
			return nil
		}
		if calls++; testing.Short() && calls%15 != 0 {
			return nil
		}
		known := s.copy()
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {}} {
			o.Seed = uint64(calls*10 + i)
			m, left := r.m.crash(func() *vfs.Crash { return crash.PowerLoss(o) })
			if err := snapshotsHold(m, left, r.clock.Now(), known); err != nil {
				bad = fmt.Errorf("power loss %+v before call %s: %w\n%s", o, c, err, fault.Trace())
				return nil
			}
		}
		return nil
	})
	if err := errors.Join(runSnapshots(r, s), r.db.Close(), bad); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls", calls)
}

// Each call fails once, in each way. A snapshot that was acknowledged is there and whole, one that failed is not there.
func TestSnapshotWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var r *rig
	var s *snapshots
	eachCallFailing(t, seed, 2, 9, func() *vfs.Crash { return vfs.NewCrash(seed) }, func(fault *vfs.Fault) error {
		r = &rig{fs: fault, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
		r.tune = func(o *dyngo.Options) { o.Clock = hurried{r.clock} }
		s = &snapshots{state: map[string]bool{}}
		err := r.open()
		if err == nil {
			err = runSnapshots(r, s)
		}
		if r.db != nil {
			_ = r.db.Close() // fails when the log did
		}
		return err
	}, func(k int64, crash *vfs.Crash, _ error) error {
		for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: uint64(k)}} {
			m, left := r.m.crash(func() *vfs.Crash { return crash.PowerLoss(o) })
			if err := snapshotsHold(m, left, r.clock.Now()+1, s.copy()); err != nil {
				return fmt.Errorf("then %+v: %w", o, err)
			}
		}
		return nil
	})
}
