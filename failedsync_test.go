package dyngo_test

import (
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
