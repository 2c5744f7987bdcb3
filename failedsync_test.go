package dyngo_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestAFailedSyncIsMadeUpFor by the next Open: the system may hold what it could not write for written, so that no later sync writes it.
// What Open finds and serves, and what is acknowledged after it, survives a power loss all the same.
func TestAFailedSyncIsMadeUpFor(t *testing.T) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	open := func(fsys vfs.FS) (*dyngo.DB, *dyngo.Dataset) {
		t.Helper()
		db, err := dyngo.Open(storeDir, options(fsys, manualClock()))
		if err != nil {
			t.Fatal(err)
		}
		ds, err := db.Dataset("d")
		if err != nil {
			ds, err = db.CreateDataset("d", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return db, ds
	}
	db, ds := open(fault)
	if _, err := ds.Put([]byte("a"), []byte("first")); err != nil {
		t.Fatal(err)
	}
	fault.Inject(vfs.Plan{Kind: vfs.FailSync})
	if _, err := ds.Put([]byte("b"), []byte("second")); err == nil {
		t.Fatal("a put whose sync failed is acknowledged")
	}
	db.Close() // its error is of the log that failed
	fault.Heal()

	db, ds = open(fault)
	v, err := ds.Get([]byte("b"))
	if err != nil {
		t.Fatalf("what the system still shows is not served: %v", err)
	}
	after := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
	if _, err := ds.Put([]byte("c"), []byte("third")); err != nil {
		t.Fatal(err)
	}
	later := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
	db.Close()
	for _, left := range []struct {
		fs   *vfs.Crash
		want map[string]string
	}{{after, map[string]string{"a": "first", "b": string(v)}}, {later, map[string]string{"a": "first", "b": string(v), "c": "third"}}} {
		db, ds := open(left.fs)
		for key, want := range left.want {
			if got, err := ds.Get([]byte(key)); err != nil || string(got) != want {
				t.Errorf("after a power loss: %q is %q, %v; want %q", key, got, err, want)
			}
		}
		db.Close()
	}
}

// TestRecoveryThatFlushesMakesUpForAFailedSync before a segment is part of the store: else it could hold what the log has lost.
func TestRecoveryThatFlushesMakesUpForAFailedSync(t *testing.T) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, MemoryBudget: 512 << 20})
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err == nil {
		err = db.WaitDurable(t.Context(), db.LSN())
	}
	if err != nil {
		t.Fatal(err)
	}
	// One sync takes so long that all is written before the next, which fails.
	syncing, written := make(chan struct{}), make(chan struct{})
	waited := make(chan error, 1)
	var first sync.Once
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpSyncData && vfs.Match("wal/*", c.Name) {
			first.Do(func() { close(syncing) })
			<-written
		}
		return nil
	})
	fault.Inject(vfs.Plan{K: 2, Kind: vfs.FailSync, Ops: vfs.OpSyncData, Name: "wal/*"})
	for i := range 3000 {
		if _, err := ds.Put(fmt.Appendf(nil, "k%04d", i), []byte(big(4000, byte(i)))); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			go func() { waited <- db.WaitDurable(t.Context(), db.LSN()) }()
			<-syncing
		}
	}
	close(written)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if err := db.WaitDurable(t.Context(), db.LSN()); err == nil {
		t.Fatal("what was not synced is called durable")
	}
	db.Close() // its error is of the log that failed
	left := crash.KillProcess()

	fault = vfs.NewFault(left)
	var one sync.Mutex // guards tried and bad: the log is read beside a flush
	var tried int
	var bad error
	fault.OnCall(func(c vfs.Call) error {
		one.Lock()
		defer one.Unlock()
		if bad != nil || c.Op&vfs.OpChanges&^vfs.OpWrite == 0 {
			return nil
		}
		tried++
		db, err := dyngo.Open(storeDir, small(left.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})))
		if err == nil {
			err = db.Close()
		}
		if err != nil {
			bad = fmt.Errorf("power loss before call %s: %w\n%s", c, err, fault.Trace())
		}
		return nil
	})
	db = mustOpen(t, storeDir, small(fault))
	defer db.Close()
	if m := db.Metrics(); m.Flushes < 1 || tried < 5 {
		t.Errorf("%d flushes, %d power losses: the test tests nothing", m.Flushes, tried)
	}
	if bad != nil {
		t.Fatal(bad)
	}
	want, err := dump(db)
	if err == nil && len(want["d"]) < 2000 {
		err = fmt.Errorf("%d keys: the test tests nothing", len(want["d"]))
	}
	if err == nil {
		err = opensWith(left.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), want)
	}
	if err != nil {
		t.Error(err)
	}
}
