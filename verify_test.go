package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A process flushes and merges without pause while the store is verified again and again: files that the manifest named go
// meanwhile, which is no damage.
func TestVerifyBesideAnOwner(t *testing.T) {
	fs := vfs.NewCrash(1)
	db := mustOpen(t, storeDir, options(fs, manualClock()))
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	// In the middle of each segment that is verified, the owner merges it away.
	round := 0
	merge := func() error {
		round++
		for k := range 50 {
			if _, err := ds.Put(fmt.Append(nil, "k", k), fmt.Append(nil, "value of round ", round)); err != nil {
				return err
			}
		}
		return db.Compact(context.Background())
	}
	if err := errors.Join(merge(), merge()); err != nil {
		t.Fatal(err)
	}
	fault := vfs.NewFault(fs)
	opened, gone := 0, 0
	fault.OnCall(func(c vfs.Call) error {
		if c.Op != vfs.OpOpen || !strings.HasSuffix(c.Name, ".seg") {
			return nil
		}
		if opened++; opened > 3 {
			return nil
		}
		if err := merge(); err != nil {
			return err
		}
		if there, err := vfs.Exists(fs, c.Name); err == nil && !there {
			gone++
		}
		return nil
	})
	report, err := dyngo.Verify(context.Background(), storeDir, &dyngo.Options{FS: fault}, nil)
	if err != nil || report.Count() > 0 || report.Segments == 0 {
		t.Errorf("%v, defects %v, %d segments", err, report.All(), report.Segments)
	}
	if gone == 0 {
		t.Error("no segment went while the store was verified")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Files that no version names are told, and are no damage.
func TestVerifyTellsOrphans(t *testing.T) {
	fs := vfs.NewCrash(1)
	fillSegments(t, fs)
	f, err := fs.Create(storeDir + "/segments/0000000077.seg")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := dyngo.Verify(context.Background(), storeDir, &dyngo.Options{FS: fs}, nil)
	if err != nil || report.Count() > 0 || fmt.Sprint(report.Orphans) != "[segments/0000000077.seg]" {
		t.Errorf("%v, defects %v, orphans %v", err, report.All(), report.Orphans)
	}
}

// Segments that know more than the log are damage: the log has lost its end.
func TestVerifyHoldsSegmentsAgainstTheLog(t *testing.T) {
	fs := vfs.NewCrash(1)
	fillSegments(t, fs)
	removeTree(t, fs, storeDir+"/wal")
	if err := fs.MkdirAll(storeDir + "/wal"); err != nil {
		t.Fatal(err)
	}
	report, err := dyngo.Verify(context.Background(), storeDir, &dyngo.Options{FS: fs}, nil)
	if err != nil || len(report.Defects) != 1 || !strings.Contains(report.Defects[0].Error(), "the log ends with 0") {
		t.Errorf("%v, defects %v", err, report.All())
	}
}
