package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const backupsDir = "/backups-of/store"

// backUp backs a store up by way of a snapshot.
func backUp(fs vfs.FS, to backup.Objects, db *dyngo.DB, now time.Time) (backup.Made, error) {
	info, err := db.Snapshot(context.Background(), "backup")
	if err != nil {
		return backup.Made{}, err
	}
	made, err := backup.Create(context.Background(), to, fs, info.Dir, now, nil)
	return made, errors.Join(err, db.DropSnapshot("backup"))
}

// Each backup can be restored to any LSN that it covers; the first is full, later ones add what is new.
func TestBackup(t *testing.T) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := &rig{fs: fs, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
	r.tune = func(o *dyngo.Options) { o.Retention.Bytes = 2 << 20 }
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	defer func() { r.db.Close() }()
	if err := r.create("d", inline); err != nil {
		t.Fatal(err)
	}
	var all []backup.Made
	take := func() {
		t.Helper()
		r.session()
		err := r.do(true, func() (dyngo.LSN, error) {
			made, err := backUp(fs, to, r.db, time.Unix(0, r.clock.Now()))
			all = append(all, made)
			return made.LSN + 1, err
		}, change{kind: "session"})
		if err != nil {
			t.Fatal(err)
		}
		r.clock.Advance(time.Second)
	}
	for i := range 3 {
		for j := range 5 {
			if err := errors.Join(r.put("d", fmt.Sprint("k", j), fmt.Sprint(i)), r.fillUp(i*40+j, 2), r.del("d", fmt.Sprint("k", i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.flushSegments(); err != nil {
			t.Fatal(err)
		}
		take()
		if i == 1 {
			if err := r.gc(); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, damage, err := backup.List(t.Context(), to)
	if err != nil || len(damage) > 0 || len(list) != 3 || list[2].Floor == 0 {
		t.Fatalf("%+v, %v, %v", list, damage, err)
	}
	for i, made := range all {
		if list[i].ID != made.ID || list[i].LSN != made.LSN {
			t.Errorf("backup %d is %+v, want %+v", i, list[i], made)
		}
		if i > 0 && (made.NewBytes >= made.Bytes() || made.NewBytes > 4<<20) {
			t.Errorf("backup %d of %d bytes put %d", i, made.Bytes(), made.NewBytes)
		}
		for j, lsn := range []dyngo.LSN{made.LSN, max(made.Floor, 2), (made.LSN + made.Floor) / 2} {
			if testing.Short() && i != j {
				continue
			}
			dir := fmt.Sprintf("/out/%d-%d", i, j)
			o := &dyngo.RestoreOptions{FS: fs, Clock: r.clock, From: backup.FS(t.Context(), to, &list[i])}
			if _, err := dyngo.PlanRestore(t.Context(), ".", dyngo.AtLSN(lsn), o); err != nil {
				t.Errorf("plan of backup %d to LSN %d: %v", i, lsn, err)
			}
			if _, err := dyngo.RestoreWith(t.Context(), ".", dir, dyngo.AtLSN(lsn), o); err != nil {
				t.Errorf("backup %d to LSN %d: %v", i, lsn, err)
			} else if err := restored(r.m, fs, dir, lsn, r.clock.Now(), []string{"d"}); err != nil {
				t.Errorf("backup %d to LSN %d: %v", i, lsn, err)
			}
		}
	}
	// The log of one goes on in the next: with the segments of the first, only that is replayed.
	for i, first := range list[:2] {
		reach, at := first.Reach()
		if want := &list[i+1]; reach < want.LSN || at.Before(want.Time) {
			t.Errorf("backup %d reaches LSN %d, %v, the next one is of %d, %v", i, reach, at, want.LSN, want.Time)
		}
		lsn := list[i+1].LSN
		dir := fmt.Sprintf("/out/%d-on", i)
		o := &dyngo.RestoreOptions{FS: fs, Clock: r.clock, From: backup.FS(t.Context(), to, &first)}
		plan, err := dyngo.RestoreWith(t.Context(), ".", dir, dyngo.AtLSN(lsn), o)
		if err != nil || plan.ReplayBytes >= plan.Bytes/2 {
			t.Errorf("backup %d to LSN %d: %d bytes, %d replayed, %v", i, lsn, plan.Bytes, plan.ReplayBytes, err)
		} else if err := restored(r.m, fs, dir, lsn, r.clock.Now(), []string{"d"}); err != nil {
			t.Errorf("backup %d to LSN %d: %v", i, lsn, err)
		}
	}
	report, err := backup.Verify(t.Context(), to, nil)
	if err != nil || len(report.Defects)+len(report.Gaps) > 0 || len(report.Backups) != 3 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	// A plan changes nothing; the newest stays whatever is asked for, and what stays is whole.
	e, err := backup.PlanExpire(t.Context(), to, 0, 0, time.Unix(0, r.clock.Now()))
	if err != nil || len(e.Remove) != 2 || len(e.Keep) != 1 || e.Keep[0].ID != all[2].ID || e.Bytes == 0 {
		t.Fatalf("expire: %+v, %v", e, err)
	}
	if young, err := backup.PlanExpire(t.Context(), to, 0, time.Hour, time.Unix(0, r.clock.Now())); err != nil || len(young.Remove) > 0 {
		t.Errorf("young backups expire: %+v, %v", young, err)
	}
	if list, _, err := backup.List(t.Context(), to); err != nil || len(list) != 3 {
		t.Errorf("a plan has changed the list: %v, %v", list, err)
	}
	if err := backup.Expire(t.Context(), to, &e); err != nil {
		t.Fatal(err)
	}
	report, err = backup.Verify(t.Context(), to, nil)
	if err != nil || len(report.Defects) > 0 || len(report.Backups) != 1 {
		t.Errorf("after that: %+v, %v", report, err)
	}
	objects, err := to.List(t.Context(), "files/")
	if err != nil || int64(len(objects)) != report.Files {
		t.Errorf("%d objects for %d files, %v", len(objects), report.Files, err)
	}
}

// States that no backup has are a gap, which is named.
func TestBackupGap(t *testing.T) {
	list := []backup.Backup{
		{ID: "a", Log: "1", Timeline: "1", LSN: 10},
		{ID: "b", Log: "1", Timeline: "1", Floor: 11, LSN: 20},
		{ID: "c", Log: "1", Timeline: "2", Floor: 15, LSN: 30},
		{ID: "d", Log: "1", Timeline: "1", Floor: 25, LSN: 40},
	}
	if gaps := backup.Gaps(list); !slices.Equal(gaps, []backup.Gap{{Before: "b", After: "d", From: 21, To: 24}}) {
		t.Errorf("%+v", gaps)
	}
}

// A manifest or file that is missing, cut off or changed is named, and such a backup is not restored.
func TestBackupDamage(t *testing.T) {
	mem := vfs.NewCrash(1)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: mem})
	ds, err := db.CreateDataset("d", nil)
	if err == nil {
		_, err = ds.Put([]byte("k"), []byte(big(50_000, 1)))
	}
	if err != nil {
		t.Fatal(err)
	}
	made, err := backUp(mem, backup.NewDir(mem, backupsDir), db, time.Unix(0, epochNs))
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	entries, err := backup.NewDir(mem, backupsDir).List(t.Context(), "")
	if err != nil || len(entries) != len(made.Files)+1 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		for _, how := range []string{"changed", "cut off", "missing"} {
			left := mem.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
			to := backup.NewDir(left, backupsDir)
			name := path.Join(backupsDir, e.Name)
			if err := spoil(left, name, how); err != nil {
				t.Fatal(err)
			}
			report, err := backup.Verify(t.Context(), to, nil)
			if err != nil {
				t.Fatal(err)
			}
			isManifest := strings.HasPrefix(e.Name, "backups/")
			if isManifest && how == "missing" { // as if it had never been
				if len(report.Backups)+len(report.Defects) > 0 {
					t.Errorf("%s is missing: %+v", e.Name, report)
				}
				if _, err := backup.Find(t.Context(), to, ""); !errors.Is(err, backup.ErrNoBackup) {
					t.Errorf("%s is missing: %v", e.Name, err)
				}
				continue
			}
			if len(report.Backups) != 0 || len(report.Defects) == 0 || !errors.Is(report.Defects[0], dyngo.ErrCorrupt) || !strings.Contains(report.Defects[0].Error(), e.Name) {
				t.Errorf("%s is %s: %+v", e.Name, how, report)
			}
			b, err := backup.Find(t.Context(), to, made.ID)
			if isManifest {
				if !errors.Is(err, dyngo.ErrCorrupt) {
					t.Errorf("%s is %s: %v", e.Name, how, err)
				}
				if _, err := backup.PlanExpire(t.Context(), to, 1, 0, time.Now()); !errors.Is(err, dyngo.ErrCorrupt) {
					t.Errorf("%s is %s: expire: %v", e.Name, how, err)
				}
				continue
			}
			o := &dyngo.RestoreOptions{FS: left, From: backup.FS(t.Context(), to, &b)}
			if _, err := dyngo.RestoreWith(t.Context(), ".", restoredDir, dyngo.AtEnd(), o); err == nil {
				if report, err := dyngo.Verify(t.Context(), restoredDir, &dyngo.Options{FS: left}, nil); err != nil || report.Count() > 0 {
					t.Errorf("%s is %s: what was restored: %v", e.Name, how, report.All())
				}
				if db, err := dyngo.Open(restoredDir, &dyngo.Options{FS: left}); err != nil {
					t.Errorf("%s is %s: %v", e.Name, how, err)
				} else if got, err := dump(db); err != nil || got["d"]["k"] != big(50_000, 1) {
					t.Errorf("%s is %s: restored as %d bytes, %v", e.Name, how, len(got["d"]["k"]), errors.Join(err, db.Close()))
				} else if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// spoil changes a byte of a file, cuts it off, or removes it.
func spoil(fsys vfs.FS, name, how string) error {
	if how == "missing" {
		return fsys.Remove(name)
	}
	f, err := fsys.OpenRW(name)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && how == "cut off" {
		err = f.Truncate(size / 2)
	} else if err == nil {
		b := make([]byte, 1)
		if _, err = f.ReadAt(b, size/2); err == nil {
			_, err = f.WriteAt([]byte{b[0] ^ 0x10}, size/2)
		}
	}
	return errors.Join(err, f.Close())
}

// Objects are put whole or not at all, and never replaced.
func TestBackupObjects(t *testing.T) {
	mem := vfs.NewMem()
	to := backup.NewDir(mem, "/o")
	put := func(name, content string) error {
		return to.Put(context.Background(), name, strings.NewReader(content), int64(len(content)))
	}
	if err := errors.Join(put("a/b", "one"), put("a/c/d", "two"), put("e", "")); err != nil {
		t.Fatal(err)
	}
	if err := put("a/b", "other"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second put: %v", err)
	}
	if err := to.Put(t.Context(), "short", strings.NewReader("x"), 5); err == nil {
		t.Error("an object is shorter than its size")
	}
	list, err := to.List(t.Context(), "a/")
	if err != nil || !slices.Equal(list, []backup.Entry{{Name: "a/b", Bytes: 3}, {Name: "a/c/d", Bytes: 3}}) {
		t.Errorf("%v, %v", list, err)
	}
	o, err := to.Get(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := o.ReadAt(b, 0); err != nil || !bytes.Equal(b, []byte("one")) {
		t.Errorf("%q, %v", b, err)
	}
	if err := errors.Join(o.Close(), to.Delete(t.Context(), "a/b"), to.Delete(t.Context(), "a/b")); err != nil {
		t.Error(err)
	}
	if _, err := to.Get(t.Context(), "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
}

// Power fails before, or an error comes from, each call of a backup: what List tells of is whole, and the next backup goes on.
func TestBackupInterrupted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	c := clock.NewManual(time.Unix(0, epochNs))
	db := mustOpen(t, storeDir, &dyngo.Options{FS: crash, Clock: c})
	ds, err := db.CreateDataset("d", nil)
	if err == nil {
		_, err = ds.Put([]byte("k"), []byte("v"))
	}
	if err != nil {
		t.Fatal(err)
	}
	info := mustSnapshot(t, db, "s")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	whole := func(left vfs.FS, acked bool) error {
		to := backup.NewDir(left, backupsDir)
		for i := range 2 {
			report, err := backup.Verify(context.Background(), to, nil)
			if err != nil || len(report.Defects) > 0 {
				return fmt.Errorf("%+v: %w", report, err)
			}
			if (acked || i > 0) && len(report.Backups) == 0 {
				return errors.New("there is no backup")
			}
			if i == 0 {
				if _, err := backup.Create(context.Background(), to, left, info.Dir, time.Unix(1, epochNs), nil); err != nil {
					return err
				}
			}
		}
		b, err := backup.Find(context.Background(), to, "")
		if err != nil {
			return err
		}
		o := &dyngo.RestoreOptions{FS: left, Clock: c, From: backup.FS(context.Background(), to, &b)}
		_, err = dyngo.RestoreWith(context.Background(), ".", restoredDir, dyngo.AtEnd(), o)
		return err
	}
	fresh := func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll}) }
	eachCallFailing(t, seed, 1, 7, fresh, func(fault *vfs.Fault) error {
		_, err := backup.Create(t.Context(), backup.NewDir(fault, backupsDir), fault, info.Dir, time.Unix(0, epochNs), nil)
		return err
	}, func(k int64, left *vfs.Crash, err error) error {
		for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {Seed: uint64(k)}} {
			if err := whole(left.PowerLoss(o), err == nil); err != nil {
				return fmt.Errorf("then %+v: %w", o, err)
			}
		}
		return nil
	})
}
