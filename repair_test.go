package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// fillSegments makes a store with two runs of segments and a few events above them, and returns what is in it.
func fillSegments(t *testing.T, fs vfs.FS) map[string]map[string]string {
	t.Helper()
	db := mustOpen(t, storeDir, options(fs, manualClock()))
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for run := range 3 {
		b := db.NewBatch()
		for k := range 100 {
			b.Put(ds, fmt.Append(nil, "k", (k+run*50)%200), fmt.Append(nil, "value ", k, " of run ", run))
		}
		b.Put(ds, fmt.Append(nil, "large", run), []byte(big(20<<10, byte(run))))
		b.Delete(ds, fmt.Append(nil, "k", run))
		_, err := b.Commit()
		if _, rerr := ds.DeleteRange([]byte("k18"), []byte("k19")); err == nil {
			err = rerr
		}
		if err == nil && run < 2 {
			err = db.Flush(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := dump(db)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return want
}

// damageFile inverts a byte in the middle of the first file in a folder whose name ends as given.
func damageFile(t *testing.T, fs vfs.FS, folder, suffix string) {
	t.Helper()
	names, err := fs.List(path.Join(storeDir, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		f, err := fs.OpenRW(path.Join(storeDir, folder, name))
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, size/2); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0xff
		if _, err := f.WriteAt(b, size/2); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no file *%s in %s", suffix, folder)
}

// truncateLog takes the last byte from the newest log file.
func truncateLog(t *testing.T, fs vfs.FS) {
	t.Helper()
	files, err := wal.ListFiles(fs, storeDir+"/wal")
	if err != nil {
		t.Fatal(err)
	}
	report, err := wal.Verify(context.Background(), fs, storeDir+"/wal", nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenRW(storeDir + "/wal/" + files[len(files)-1].Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(report.Tail.End-1), f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// removeTree removes a folder of the store.
func removeTree(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := fs.Remove(path.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fs.Remove(dir); err != nil {
		t.Fatal(err)
	}
}

// sameStore opens a store and compares what is in it.
func sameStore(fs vfs.FS, want map[string]map[string]string) error {
	db, err := dyngo.Open(storeDir, options(fs, manualClock()))
	if err != nil {
		return err
	}
	got, err := dump(db)
	if err == nil {
		err = differ(want, got)
	}
	return errors.Join(err, db.Close())
}

// soundStore verifies every byte.
func soundStore(fs vfs.FS) error {
	report, err := dyngo.Verify(context.Background(), storeDir, &dyngo.Options{FS: fs}, nil)
	return errors.Join(append(report.All(), err)...)
}

func repair(fs vfs.FS, how dyngo.RepairOptions) (dyngo.RepairReport, error) {
	return dyngo.Repair(context.Background(), storeDir, options(fs, manualClock()), how)
}

func TestRepair(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, fs vfs.FS)
		found  string // part of the first defect
	}{
		{"a damaged segment", func(t *testing.T, fs vfs.FS) { damageFile(t, fs, "segments", ".seg") }, "segments/"},
		{"a damaged manifest", func(t *testing.T, fs vfs.FS) { damageFile(t, fs, "manifest", ".man") }, "manifest/"},
		{"all segments gone", func(t *testing.T, fs vfs.FS) { removeTree(t, fs, storeDir+"/segments") }, "missing"},
		{"the manifest gone", func(t *testing.T, fs vfs.FS) { removeTree(t, fs, storeDir+"/manifest") }, "no manifest"},
		{"a damaged CLEAN", func(t *testing.T, fs vfs.FS) { damageFile(t, fs, "wal", "CLEAN") }, "wal/CLEAN"},
		{"CLEAN and a segment", func(t *testing.T, fs vfs.FS) {
			damageFile(t, fs, "wal", "CLEAN")
			damageFile(t, fs, "segments", ".seg")
		}, "wal/CLEAN"},
		{"a segment, after an interrupted repair", func(t *testing.T, fs vfs.FS) {
			damageFile(t, fs, "segments", ".seg")
			if err := fs.MkdirAll(storeDir + "/repair.old/manifest"); err != nil {
				t.Fatal(err)
			}
			if err := vfs.WriteFileSync(fs, storeDir+"/repair.old/manifest/old", []byte("old")); err != nil {
				t.Fatal(err)
			}
		}, "segments/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewCrash(1)
			want := fillSegments(t, fs)
			c.damage(t, fs)
			before := fs.Mutations()
			dry, err := repair(fs, dyngo.RepairOptions{DryRun: true})
			if err != nil || len(dry.Steps) == 0 || dry.Done || len(dry.Found) == 0 ||
				!strings.Contains(dry.Found[0].Error(), c.found) {
				t.Fatalf("dry run: %+v, %v", dry, err)
			}
			if n := fs.Mutations() - before; n > 0 {
				t.Errorf("a dry run made %d changes", n)
			}
			no, err := repair(fs, dyngo.RepairOptions{Confirm: func(dyngo.RepairReport) bool { return false }})
			if err != nil || no.Done || soundStore(fs) == nil {
				t.Errorf("without consent: %+v, %v", no, err)
			}
			did, err := repair(fs, dyngo.RepairOptions{})
			if err != nil || !did.Done {
				t.Fatalf("repair: %+v, %v", did, err)
			}
			if err := errors.Join(soundStore(fs), sameStore(fs, want)); err != nil {
				t.Error(err)
			}
			if exists, err := vfs.Exists(fs, storeDir+"/repair.old"); err != nil || exists {
				t.Errorf("repair.old is left: %v, %v", exists, err)
			}
			again, err := repair(fs, dyngo.RepairOptions{})
			if err != nil || len(again.Found) > 0 || len(again.Steps) > 0 {
				t.Errorf("a second repair: %+v, %v", again, err)
			}
		})
	}
}

// A repair that was interrupted before it had written anything is ended: the new files are there afterwards.
func TestRepairEndsAnother(t *testing.T) {
	fs := vfs.NewCrash(1)
	want := fillSegments(t, fs)
	if err := fs.MkdirAll(storeDir + "/repair.old"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"manifest", "segments"} {
		if err := fs.Rename(storeDir+"/"+name, storeDir+"/repair.old/"+name); err != nil {
			t.Fatal(err)
		}
	}
	report, err := repair(fs, dyngo.RepairOptions{})
	if err != nil || !report.Done || report.Segments == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := errors.Join(soundStore(fs), sameStore(fs, want)); err != nil {
		t.Error(err)
	}
}

// With everything but the log deleted, the store is what it was, without a repair.
func TestTheLogAloneIsTheStore(t *testing.T) {
	fs := vfs.NewCrash(1)
	want := fillSegments(t, fs)
	removeTree(t, fs, storeDir+"/segments")
	removeTree(t, fs, storeDir+"/manifest")
	if err := fs.Remove(storeDir + "/LOCK"); err != nil {
		t.Fatal(err)
	}
	if report, err := repair(fs, dyngo.RepairOptions{}); err != nil || len(report.Found) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := errors.Join(sameStore(fs, want), soundStore(fs)); err != nil {
		t.Error(err)
	}
}

// What the log can't replace stays as it is.
func TestRepairRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, fs vfs.FS)
		want   string
	}{
		{"a damaged log", func(t *testing.T, fs vfs.FS) { damageFile(t, fs, "wal", ".log") }, "the log itself is damaged"},
		{"a damaged log and segment", func(t *testing.T, fs vfs.FS) {
			damageFile(t, fs, "wal", ".log")
			damageFile(t, fs, "segments", ".seg")
		}, "the log itself is damaged"},
		{"a damaged CLEAN, and a log that does not end well", func(t *testing.T, fs vfs.FS) {
			damageFile(t, fs, "wal", "CLEAN")
			truncateLog(t, fs)
		}, "the log itself is damaged"},
		{"a log that is gone", func(t *testing.T, fs vfs.FS) {
			removeTree(t, fs, storeDir+"/wal")
			if err := fs.MkdirAll(storeDir + "/wal"); err != nil {
				t.Fatal(err)
			}
		}, "segments hold events up to LSN"},
		{"a log that is gone, and the manifest", func(t *testing.T, fs vfs.FS) {
			removeTree(t, fs, storeDir+"/manifest")
			removeTree(t, fs, storeDir+"/wal")
			if err := fs.MkdirAll(storeDir + "/wal"); err != nil {
				t.Fatal(err)
			}
		}, "segments hold events up to LSN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewCrash(1)
			fillSegments(t, fs)
			c.damage(t, fs)
			var before, after []string
			list := func() (names []string) {
				for _, folder := range []string{"", "/wal", "/manifest", "/segments"} {
					more, _ := fs.List(storeDir + folder) // what is gone has no names
					names = append(names, more...)
				}
				return names
			}
			before = list()
			report, err := repair(fs, dyngo.RepairOptions{})
			if !errors.Is(err, dyngo.ErrCorrupt) || !strings.Contains(err.Error(), c.want) || report.Done ||
				len(report.Found) == 0 {
				t.Errorf("%+v, %v", report, err)
			}
			if after = list(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("files were %v, are %v", before, after)
			}
		})
	}
	t.Run("a store that is open", func(t *testing.T) {
		fs := vfs.NewCrash(1)
		fillSegments(t, fs)
		db := mustOpen(t, storeDir, options(fs, manualClock()))
		defer db.Close()
		if _, err := repair(fs, dyngo.RepairOptions{}); !errors.Is(err, dyngo.ErrLocked) {
			t.Errorf("error %v, want ErrLocked", err)
		}
		if report, err := repair(fs, dyngo.RepairOptions{DryRun: true}); err != nil || len(report.Found) > 0 {
			t.Errorf("dry run: %+v, %v", report, err)
		}
	})
	t.Run("no store", func(t *testing.T) {
		if _, err := repair(vfs.NewCrash(1), dyngo.RepairOptions{}); !errors.Is(err, dyngo.ErrNoStore) {
			t.Errorf("error %v, want ErrNoStore", err)
		}
	})
}

// A repair is interrupted before each of its calls, by a power loss or by kill -9. What is left opens and is whole, or
// can be repaired and is whole then.
func TestRepairInterrupted(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, fs vfs.FS)
	}{
		{"segment", func(t *testing.T, fs vfs.FS) { damageFile(t, fs, "segments", ".seg") }},
		{"segment and CLEAN", func(t *testing.T, fs vfs.FS) {
			damageFile(t, fs, "wal", "CLEAN")
			damageFile(t, fs, "segments", ".seg")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls, repaired, err := interruptRepair(t, seed, c.damage, "")
			if err != nil {
				t.Error(err)
			}
			if calls < 15 || repaired == 0 {
				t.Errorf("%d calls, %d repairs: the test does not reach the repair", calls, repaired)
			}
			t.Logf("%d calls, repaired %d times", calls, repaired)
		})
	}
}

// Each sync of repair.go is left out once: an interruption must show it.
func TestRepairNeedsItsSyncs(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	damage := func(t *testing.T, fs vfs.FS) {
		damageFile(t, fs, "wal", "CLEAN")
		damageFile(t, fs, "segments", ".seg")
	}
	crash := vfs.NewCrash(seed)
	fillSegments(t, crash)
	damage(t, crash)
	probe := vfs.NewFault(crash)
	if _, err := repair(probe, dyngo.RepairOptions{}); err != nil {
		t.Fatal(err)
	}
	sites := 0
	for _, site := range probe.SyncSites() {
		if !strings.Contains(site.At, "repair.go") {
			continue
		}
		sites++
		noticed := false
		for round := uint64(0); round < 5 && !noticed; round++ {
			_, _, err := interruptRepair(t, seed+round, damage, site.At)
			noticed = err != nil
		}
		if !noticed {
			t.Errorf("leaving out the sync at %s (%s %s) was not noticed", site.At, site.Op, site.Name)
		}
	}
	if sites < 2 {
		t.Errorf("%d sites of syncs", sites)
	}
}

// interruptRepair damages a store, repairs it and looks at what is left before each call. The sync at the site skip is
// left out. It returns how many calls there were, how often what was left had to be repaired, and what was wrong
// first.
func interruptRepair(t *testing.T, seed uint64, damage func(*testing.T, vfs.FS), skip string) (
	calls uint64, repaired int, bad error,
) {
	t.Helper()
	crash := vfs.NewCrash(seed)
	want := fillSegments(t, crash)
	damage(t, crash)
	fault := vfs.NewFault(crash)
	if skip != "" {
		fault.SkipSite(skip)
	}
	var mu sync.Mutex // the store's own goroutines make calls too
	mend := func(what string, left vfs.FS) {
		err := sameStore(left, want)
		if errors.Is(err, dyngo.ErrCorrupt) {
			repaired++
			if _, err = repair(left, dyngo.RepairOptions{}); err == nil {
				err = errors.Join(soundStore(left), sameStore(left, want))
			}
		}
		if err != nil && bad == nil {
			bad = fmt.Errorf("%s: %w\n%s", what, err, fault.Trace())
		}
	}
	fault.OnCall(func(c vfs.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if bad != nil || c.Op&(vfs.OpSyncs|vfs.OpWrite|vfs.OpCreate|vfs.OpRename|vfs.OpRemove|vfs.OpMkdirAll) == 0 {
			return nil
		}
		calls++
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {}, {Garbage: true}} {
			o.Seed = calls*10 + uint64(i)
			mend(fmt.Sprintf("power loss %+v before call %s", o, c), crash.PowerLoss(o))
		}
		mend(fmt.Sprintf("kill before call %s", c), crash.KillProcess())
		return nil
	})
	report, err := repair(fault, dyngo.RepairOptions{})
	if err == nil && !report.Done {
		err = fmt.Errorf("not done: %+v", report)
	}
	left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
	err = errors.Join(err, soundStore(left), sameStore(left, want))
	if exists, serr := vfs.Exists(left, storeDir+"/repair.old"); exists || serr != nil {
		err = errors.Join(err, serr, errors.New("repair.old is there after a power loss"))
	}
	if bad == nil && err != nil {
		bad = fmt.Errorf("after the repair: %w", err)
	}
	return calls, repaired, bad
}
