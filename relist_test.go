package dyngo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// dropped makes a store with everything that retention leaves, and returns what is in it and what happened.
func dropped(t *testing.T, fs vfs.FS, seed uint64) (map[string]map[string]string, story) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 5))
	db := mustOpen(t, storeDir, bounded(fs, manualClock(), 1<<20))
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 64 << 10})
	gone, err2 := db.CreateDataset("gone", nil)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	s := story{}
	for i := range 160 {
		key := fmt.Sprint("key-", rng.IntN(30))
		if rng.IntN(4) == 0 {
			lsn, err := ds.Delete([]byte(key))
			if err != nil {
				t.Fatal(err)
			}
			s[key] = append(s[key], step{lsn: lsn, op: event.OpDelete})
			continue
		}
		value := big([]int{10, 50 << 10, 100 << 10, 100 << 10}[rng.IntN(4)], byte(i))
		lsn, err := ds.Put([]byte(key), []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		s[key] = append(s[key], step{lsn, event.OpPut, value})
		if i == 5 {
			_, err = gone.Put([]byte("k"), []byte("v"))
		}
		if i == 10 {
			_, err = db.DropDataset("gone")
		}
		if i == 60 {
			var lsn dyngo.LSN
			lsn, err = ds.DeleteRange([]byte("key-1"), []byte("key-2"))
			for n := range 30 {
				if k := fmt.Sprint("key-", n); k >= "key-1" && k < "key-2" {
					s[k] = append(s[k], step{lsn: lsn, op: event.OpDeleteRange})
				}
			}
		}
		if i%20 == 19 {
			err = errors.Join(err, db.Compact(t.Context()))
			mustGC(t, db)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m := db.Metrics()
	if m.FloorLSN == 0 || m.ValueFiles == 0 || m.HistorySegments == 0 {
		t.Fatalf("floor %d, %d value files, %d history segments: the test tests nothing", m.FloorLSN, m.ValueFiles, m.HistorySegments)
	}
	want, err := dump(db)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return want, s
}

// A lost or damaged manifest is made anew though log files are gone: with the state at the floor, its history and value files.
func TestRepairOfALostManifestAfterLogFilesWent(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, damage := range []string{"missing", "damaged", "missing, and the step is interrupted"} {
		crash := vfs.NewCrash(seed)
		want, s := dropped(t, crash, seed)
		names, err := crash.List(storeDir + "/manifest")
		if err != nil {
			t.Fatal(err)
		}
		if damage == "damaged" {
			damageFile(t, crash, "manifest", ".man")
		} else {
			for _, name := range names {
				if err := crash.Remove(path.Join(storeDir, "manifest", name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		o := bounded(crash, manualClock(), 1<<20)
		if _, err := dyngo.Open(storeDir, o); !errors.Is(err, dyngo.ErrCorrupt) {
			t.Fatalf("%s: open: %v", damage, err)
		}
		if strings.HasSuffix(damage, "interrupted") {
			repairInterrupted(t, crash, want)
			continue
		}
		report, err := dyngo.Repair(t.Context(), storeDir, o, dyngo.RepairOptions{DryRun: true})
		if err != nil || report.Done || len(report.Steps) != 2 {
			t.Fatalf("%s: dry run: %+v, %v", damage, report, err)
		}
		if report, err = dyngo.Repair(t.Context(), storeDir, o, dyngo.RepairOptions{}); err != nil || !report.Done {
			t.Fatalf("%s: %+v, %v", damage, report, err)
		}
		if err := verifyRest(crash); err != nil {
			t.Fatal(err)
		}
		db := mustOpen(t, storeDir, o)
		got, err := dump(db)
		if err := errors.Join(err, differ(want, got)); err != nil {
			t.Fatalf("%s: %v", damage, err)
		}
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		for key := range s {
			s.check(t, db, ds, key)
		}
		fill(t, ds, 0, 12) // it goes on
		mustGC(t, db)
		if err := errors.Join(db.Compact(t.Context()), db.Close(), verifyRest(crash)); err != nil {
			t.Fatal(err)
		}
	}
}

// repairInterrupted repairs with a power loss before each call that matters; the next Repair ends it.
func repairInterrupted(t *testing.T, crash *vfs.Crash, want map[string]map[string]string) {
	t.Helper()
	for k := 0; ; k++ {
		left := crash.KillProcess()
		fault := vfs.NewFault(left)
		var after *vfs.Crash
		n := 0
		fault.OnCall(func(c vfs.Call) error {
			if c.Op&(vfs.OpSyncs|vfs.OpCreate|vfs.OpRename|vfs.OpRemove) != 0 {
				if n++; n == k+1 && after == nil {
					after = left.PowerLoss(vfs.CrashOptions{Keep: []vfs.Keep{vfs.KeepNone, 0}[k%2], Seed: uint64(k)})
				}
			}
			return nil
		})
		o := bounded(fault, manualClock(), 1<<20)
		if _, err := dyngo.Repair(t.Context(), storeDir, o, dyngo.RepairOptions{}); err != nil {
			t.Fatal(err)
		}
		if after == nil {
			t.Logf("%d calls", k)
			if k < 5 {
				t.Fatalf("a repair makes %d calls", k)
			}
			return
		}
		o = bounded(after, manualClock(), 1<<20)
		_, err := dyngo.Repair(t.Context(), storeDir, o, dyngo.RepairOptions{})
		if err != nil {
			t.Fatalf("repair after an interruption before call %d: %v", k, err)
		}
		db := mustOpen(t, storeDir, o)
		got, err := dump(db)
		if err := errors.Join(err, differ(want, got), db.Close(), verifyRest(after)); err != nil {
			t.Fatalf("after an interruption before call %d: %v", k, err)
		}
	}
}

// When more than the manifest is damaged, or the store was not closed, nothing is changed.
func TestRepairRefusesWhatItCannotRelist(t *testing.T) {
	for _, damage := range []string{".seg", ".val", "CLEAN"} {
		fs := vfs.NewMem()
		dropped(t, fs, 1)
		names, err := fs.List(storeDir + "/manifest")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := fs.Remove(path.Join(storeDir, "manifest", name)); err != nil {
				t.Fatal(err)
			}
		}
		if damage == "CLEAN" {
			err = fs.Remove(storeDir + "/wal/CLEAN")
		} else {
			damageFile(t, fs, "segments", damage)
		}
		before, lerr := fs.List(storeDir + "/segments")
		_, rerr := dyngo.Repair(t.Context(), storeDir, bounded(fs, manualClock(), 0), dyngo.RepairOptions{})
		after, lerr2 := fs.List(storeDir + "/segments")
		if err := errors.Join(err, lerr, lerr2); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(rerr, dyngo.ErrCorrupt) || !slices.Equal(before, after) {
			t.Errorf("%s: %v; there were %v, are %v", damage, rerr, before, after)
		}
	}
}
