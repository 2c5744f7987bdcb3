package dyngo_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// A value is redacted while the log is followed: in the file that grows, of which parts were archived, and in one that was archived whole.
// The backup stays sound. Once the first file is archived whole, nothing in the backup has its value; the other goes when the backups
// from before expire. A store restored from one of those has the value and the event, and redacts it again.
func TestFollowBesideARedaction(t *testing.T) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, nil)
	ds, err := r.db.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	f := startFollow(t, fs, to, r.clock)
	has := func(secret string) []string {
		t.Helper()
		with, err := filesWith(fs, backupsDir, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return with
	}
	write := func(key, secret string) dyngo.LSN {
		t.Helper()
		lsn, err := ds.Put([]byte(key), []byte(secret))
		if err == nil {
			_, err = ds.Delete([]byte(key))
		}
		if err != nil {
			t.Fatal(err)
		}
		f.reach(r.last())
		if len(has(secret)) == 0 {
			t.Fatalf("%s was not archived", key)
		}
		return lsn
	}
	redact := func(lsn dyngo.LSN) {
		t.Helper()
		if _, err := r.db.Redact(t.Context(), lsn, dyngo.RedactOptions{Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		f.reach(r.last())
	}
	seal := func() {
		t.Helper()
		f.mu.Lock()
		n := len(f.sealed)
		f.mu.Unlock()
		mustSnapshot(t, r.db, "seals")
		if err := r.db.DropSnapshot("seals"); err != nil {
			t.Fatal(err)
		}
		f.reach(r.last())
		if !f.until(func() bool { return len(f.sealed) > n }) {
			t.Fatal(f.err)
		}
	}
	sound := func(when string) backup.Backup {
		t.Helper()
		list, damage, err := backup.List(t.Context(), to)
		if err != nil || len(damage) > 0 {
			t.Fatalf("%s: %v, %v", when, damage, err)
		}
		report, err := backup.Verify(t.Context(), to, nil)
		if err := errors.Join(append(report.Defects, err)...); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		return list[len(list)-1]
	}
	restore := func(b *backup.Backup, dir string) *wal.VerifyReport {
		t.Helper()
		reach, _ := b.Reach()
		o := &dyngo.RestoreOptions{FS: fs, From: backup.FS(t.Context(), to, b)}
		if _, err := dyngo.RestoreWith(t.Context(), ".", dir, dyngo.AtLSN(reach), o); err != nil {
			t.Fatal(err)
		}
		report, err := dyngo.VerifyWith(t.Context(), dir, &dyngo.Options{FS: fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
		if err := errors.Join(append(report.All(), err)...); err != nil {
			t.Fatal(err)
		}
		return &report.Log
	}
	one, two := "the first that nobody may read", strings.Repeat("the second that nobody may read ", 2000)
	lsn := write("one", one)
	sound("before")
	redact(lsn)
	f.until(func() bool { return len(f.sealed) > 0 })
	sound("after the first")
	if with := has(one); len(with) > 0 {
		t.Errorf("after its file was archived whole, the value is in %q", with)
	}
	lsn = write("two", two)
	seal()
	redact(lsn)
	b := sound("after the second")
	if len(has(two[:40])) == 0 {
		t.Error("what was archived whole has changed")
	}
	log := restore(&b, "/old")
	if n := len(log.Redactions); n != 2 || !log.Redactions[0].Done || log.Redactions[1].Done || log.Redactions[1].By == 0 {
		t.Errorf("the log says %+v", log.Redactions)
	}
	db := mustOpen(t, "/old", redactOptions(fs, nil))
	defer db.Close()
	if _, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{Reason: "again"}); err != nil {
		t.Error(err)
	}
	if with, err := filesWith(fs, "/old", []byte(two[:40])); err != nil || len(with) > 0 {
		t.Errorf("the restored store has it in %q, %v", with, err)
	}
	// What gets it out of the backups: a new one, then those from before go.
	r.clock.Advance(time.Second)
	if _, err := backUp(fs, to, r.db, time.Unix(0, r.clock.Now())); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	e, err := backup.PlanExpire(t.Context(), to, 1, 0, time.Unix(0, r.clock.Now()))
	if err == nil {
		err = backup.Expire(t.Context(), to, &e)
	}
	if err != nil || len(e.Remove) != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	b = sound("expired")
	if with := has(two[:40]); len(with) > 0 {
		t.Errorf("the value is in %q", with)
	}
	log = restore(&b, "/new")
	if n := len(log.Redactions); n != 2 || !log.Redactions[0].Done || !log.Redactions[1].Done {
		t.Errorf("the log says %+v", log.Redactions)
	}
	if err := f.stop(); !strings.Contains(err.Error(), "context canceled") {
		t.Error(err)
	}
}
