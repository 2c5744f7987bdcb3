package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// follow is a call of backup.Follow whose clock the test moves.
type follow struct {
	t      *testing.T
	clock  *clock.Manual
	store  *clock.Manual // that of the store, which moves with it
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once it has ended

	mu     sync.Mutex // guards the fields below
	last   backup.Followed
	failed []error
	sealed []string
}

func startFollow(t *testing.T, fs vfs.FS, to backup.Objects, store *clock.Manual) *follow {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follow{t: t, clock: manualClock(), store: store, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.err = backup.Follow(ctx, to, fs, storeDir, backup.FollowOptions{Clock: f.clock,
			Done: func(d backup.Followed) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if d.LSN >= f.last.LSN {
					f.last = d
				}
				if d.Sealed {
					f.sealed = append(f.sealed, d.File)
				}
			},
			Failed: func(err error, _ time.Duration) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.failed = append(f.failed, err)
			}})
	}()
	t.Cleanup(func() { f.stop() })
	return f
}

// until lets time pass until something holds; false if Follow ends first.
func (f *follow) until(holds func() bool) bool {
	f.t.Helper()
	for range 2000 {
		ctx, cancel := context.WithCancel(context.Background())
		stop := make(chan struct{})
		go func() {
			select {
			case <-f.ended:
			case <-stop:
			}
			cancel()
		}()
		err := f.clock.AwaitPending(ctx, 1)
		close(stop)
		f.mu.Lock()
		done := holds()
		f.mu.Unlock()
		if done {
			return true
		}
		if err != nil {
			return false
		}
		f.clock.Advance(100 * time.Millisecond)
		f.store.Advance(100 * time.Millisecond)
	}
	f.t.Fatal("minutes have passed")
	return false
}

// reach waits until an LSN was archived.
func (f *follow) reach(lsn dyngo.LSN) {
	f.t.Helper()
	if !f.until(func() bool { return f.last.LSN >= lsn }) {
		f.t.Fatalf("it has ended: %v", f.err)
	}
}

// fails waits until it ends with an error.
func (f *follow) fails() error {
	f.t.Helper()
	f.until(func() bool { return false })
	return f.err
}

// stop is ^C.
func (f *follow) stop() error {
	f.cancel()
	<-f.ended
	return f.err
}

// followed has a model's store with a backup, and something behind it.
func followed(t *testing.T, to backup.Objects, fs vfs.FS, tune func(*dyngo.Options)) *rig {
	t.Helper()
	r := &rig{fs: fs, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}, tune: tune}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	if err := errors.Join(r.create("d", nil), r.put("d", "a", "1"), r.backUp(to)); err != nil {
		t.Fatal(err)
	}
	return r
}

// backUp makes a backup, which logs an event.
func (r *rig) backUp(to backup.Objects) error {
	r.clock.Advance(time.Second)
	return r.do(true, func() (dyngo.LSN, error) {
		made, err := backUp(r.fs, to, r.db, time.Unix(0, r.clock.Now()))
		return made.LSN + 1, err
	}, change{kind: "session"})
}

// last is the newest LSN.
func (r *rig) last() dyngo.LSN { return r.db.DurableLSN() }

// covers checks that the newest backup reaches an LSN, and restores it to some up to there.
func (r *rig) covers(t *testing.T, to backup.Objects, reach dyngo.LSN, lsns ...dyngo.LSN) {
	t.Helper()
	list, damage, err := backup.List(t.Context(), to)
	if err != nil || len(damage) > 0 || len(list) == 0 {
		t.Fatalf("%v, %v, %v", list, damage, err)
	}
	b := list[len(list)-1]
	if got, _ := b.Reach(); got != reach {
		t.Fatalf("the backup of LSN %d reaches %d, want %d", b.LSN, got, reach)
	}
	report, err := backup.Verify(t.Context(), to, nil)
	if err != nil || len(report.Defects) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, lsn := range append(lsns, reach) {
		dir := fmt.Sprintf("/out/%d-%d", reach, lsn)
		o := &dyngo.RestoreOptions{FS: r.fs, Clock: r.clock, From: backup.FS(t.Context(), to, &b)}
		if _, err := dyngo.RestoreWith(t.Context(), ".", dir, dyngo.AtLSN(lsn), o); err != nil {
			t.Fatalf("restore to LSN %d: %v", lsn, err)
		}
		if err := restored(r.m, r.fs, dir, lsn, r.clock.Now(), []string{"d"}); err != nil {
			t.Fatalf("restored to LSN %d: %v", lsn, err)
		}
	}
}

// What is written behind a backup is archived within a second, and can be restored to each LSN, across log files and calls. Sealed log
// files are whole, and the next backup need not put them again.
func TestFollow(t *testing.T) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, nil)
	f := startFollow(t, fs, to, r.clock)
	if err := errors.Join(r.put("d", "a", "2"), r.put("d", "b", big(20_000, 1))); err != nil {
		t.Fatal(err)
	}
	before := f.clock.Now()
	f.reach(r.last() - 1) // the log says that it is durable
	if took := time.Duration(f.clock.Now() - before); took > time.Second {
		t.Errorf("it took %v", took)
	}
	f.reach(r.last()) // so it does a moment later of the last event
	first := r.last()
	r.covers(t, to, first, first-1)

	if err := errors.Join(r.fillUp(1, 30), r.put("d", "a", "3")); err != nil { // files of 1 MiB
		t.Fatal(err)
	}
	f.reach(r.last())
	if len(f.sealed) < 2 {
		t.Fatalf("sealed: %q", f.sealed)
	}
	second := r.last()
	r.covers(t, to, second, first+2, second-1)
	if err := f.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	if err := errors.Join(r.fillUp(2, 30), r.del("d", "a")); err != nil {
		t.Fatal(err)
	}
	f = startFollow(t, fs, to, r.clock)
	f.reach(r.last())
	r.covers(t, to, r.last(), second+1)
	if err := f.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	made, err := backUp(fs, to, r.db, time.Unix(0, r.clock.Now()))
	if err != nil || made.NewBytes > 1<<20 {
		t.Errorf("the next backup puts %d bytes of %d, %v", made.NewBytes, made.Bytes(), err)
	}
	// Parts of files that are whole, and of what no backup needs that stays, are gone.
	e, err := backup.PlanExpire(t.Context(), to, 1, 0, time.Unix(0, r.clock.Now()))
	if err == nil {
		err = backup.Expire(t.Context(), to, &e)
	}
	left, lerr := to.List(t.Context(), "log/")
	report, verr := backup.Verify(t.Context(), to, nil)
	if err := errors.Join(err, lerr, verr); err != nil || len(left) > 0 || len(report.Defects) > 0 || len(report.Backups) != 1 {
		t.Errorf("%v is left, %+v, %v", left, report, err)
	}
}

// Small parts are put together, so however slowly a log grows there are few.
func TestFollowJoinsParts(t *testing.T) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, nil)
	f := startFollow(t, fs, to, r.clock)
	for i := range 300 {
		if err := r.put("d", fmt.Sprint(i%7), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		f.reach(r.last())
	}
	parts, err := to.List(t.Context(), "log/")
	if err != nil || len(parts) > 130 {
		t.Errorf("%d parts, %v", len(parts), err)
	}
	last := r.last()
	r.covers(t, to, last, last-150)
	// Who has listed the parts before finds them as what became of them.
	list, _, err := backup.List(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	view := backup.FS(t.Context(), to, &list[0])
	if err := r.fillUp(1, 30); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	if len(f.sealed) == 0 {
		t.Fatal("nothing was sealed")
	}
	o := &dyngo.RestoreOptions{FS: fs, Clock: r.clock, From: view}
	if _, err := dyngo.RestoreWith(t.Context(), ".", "/late", dyngo.AtEnd(), o); err != nil {
		t.Fatal(err)
	}
	if err := restored(r.m, fs, "/late", last, r.clock.Now(), []string{"d"}); err != nil {
		t.Error(err)
	}
}

// A value larger than a part is there when all of it is.
func TestFollowLargeValues(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, func(o *dyngo.Options) { o.LogFileBytes = 64 << 20 })
	f := startFollow(t, fs, to, r.clock)
	before := r.last()
	if err := errors.Join(r.putReader("d", "large", big(11<<20, 1)), r.put("d", "a", "2")); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	r.covers(t, to, r.last(), before, before+1)
}

// The process that writes may be killed, and another one go on: nothing is left out.
func TestFollowSurvivesCrashes(t *testing.T) {
	crash := vfs.NewCrash(1)
	to := backup.NewDir(vfs.NewMem(), backupsDir) // another disk
	r := followed(t, to, crash, nil)
	f := startFollow(t, crash, to, r.clock)
	if err := r.put("d", "a", "2"); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	if err := errors.Join(r.put("d", "a", "3"), f.stop()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// Power fails: what Follow comes to next may lie behind a torn tail, or in a file that is new.
	for seed := range uint64(4) {
		left := crash.PowerLoss(vfs.CrashOptions{Seed: seed})
		o := options(left, r.clock)
		db := mustOpen(t, storeDir, o)
		ds, err := db.Dataset("d")
		if err == nil {
			_, err = ds.Put([]byte("again"), []byte("4"))
		}
		if err != nil {
			t.Fatal(err)
		}
		own := vfs.NewMem()
		if err := copyObjects(t, to, backup.NewDir(own, backupsDir)); err != nil {
			t.Fatal(err)
		}
		f := startFollow(t, left, backup.NewDir(own, backupsDir), r.clock)
		f.reach(db.DurableLSN())
		f.stop()
		list, _, err := backup.List(t.Context(), backup.NewDir(own, backupsDir))
		if err != nil {
			t.Fatal(err)
		}
		ro := &dyngo.RestoreOptions{FS: own, Clock: r.clock, From: backup.FS(t.Context(), backup.NewDir(own, backupsDir), &list[0])}
		if _, err := dyngo.RestoreWith(t.Context(), ".", restoredDir, dyngo.AtEnd(), ro); err != nil {
			t.Fatal(err)
		}
		want, err := dump(db)
		if err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, restoredDir, options(own, r.clock))
		got, err := dump(again)
		if err := errors.Join(err, differ(want, got), again.Close(), db.Close()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func copyObjects(t *testing.T, from, to backup.Objects) error {
	list, err := from.List(t.Context(), "")
	for _, e := range list {
		if err != nil {
			return err
		}
		var o backup.Object
		if o, err = from.Get(t.Context(), e.Name); err == nil {
			err = errors.Join(to.Put(t.Context(), e.Name, o, e.Bytes), o.Close())
		}
	}
	return err
}

// What retention has dropped before it was archived is named, and so is a store that was set back: a new backup goes on.
func TestFollowNeedsANewBackup(t *testing.T) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, func(o *dyngo.Options) { o.Retention.Bytes = 2 << 20 })
	archived := r.last() - 1
	if err := errors.Join(r.fillUp(1, 60), r.flushSegments(), r.gc()); err != nil {
		t.Fatal(err)
	}
	var need *backup.NoBaseError
	f := startFollow(t, fs, to, r.clock)
	err := f.fails()
	if !errors.As(err, &need) || need.From != archived+1 || need.To < need.From || !strings.Contains(err.Error(), "retention") {
		t.Fatalf("retention went past LSN %d: %v", archived, err)
	}
	if err := r.backUp(to); err != nil {
		t.Fatal(err)
	}
	list, _, err := backup.List(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	if gaps := backup.Gaps(list); len(gaps) != 1 || gaps[0].From != archived+1 || gaps[0].To != list[1].Floor-1 {
		t.Errorf("gaps: %+v, of %d to %d and %d to %d", gaps, list[0].Floor, list[0].LSN, list[1].Floor, list[1].LSN)
	}
	f = startFollow(t, fs, to, r.clock)
	f.reach(r.last())

	// Set back while it is followed.
	back := r.last() - 1
	if err := errors.Join(r.put("d", "undone", "x"), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	o := options(fs, r.clock)
	o.RecoverTo = dyngo.AtLSN(back)
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	if err := f.fails(); !errors.As(err, &need) || need.To != 0 || !strings.Contains(err.Error(), "set back") {
		t.Fatalf("the store was set back: %v", err)
	}
	if _, err := backUp(fs, to, db, time.Unix(0, r.clock.Now()+int64(time.Hour))); err != nil {
		t.Fatal(err)
	}
	f = startFollow(t, fs, to, r.clock)
	f.reach(db.DurableLSN())
}

// A copy of a store that has gone on by itself is not archived into the other's log.
func TestFollowRefusesACopy(t *testing.T) {
	crash := vfs.NewCrash(1)
	to := backup.NewDir(vfs.NewMem(), backupsDir)
	r := followed(t, to, crash, nil)
	if err := r.db.Close(); err != nil { // each goes on in the same file
		t.Fatal(err)
	}
	left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	f := startFollow(t, crash, to, r.clock)
	if err := r.put("d", "a", "one"); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	f.stop()
	db := mustOpen(t, storeDir, options(left, r.clock))
	defer db.Close()
	ds, err := db.Dataset("d")
	if err == nil {
		_, err = ds.Put([]byte("a"), []byte(strings.Repeat("another", 100)))
	}
	if err != nil {
		t.Fatal(err)
	}
	f = startFollow(t, left, to, r.clock)
	var need *backup.NoBaseError
	if err := f.fails(); !errors.As(err, &need) {
		t.Errorf("it was archived: %v", err)
	}
}

// nextFile ends the log file, and logs something in the next one.
func (r *rig) nextFile() error { return r.backUp(backup.NewDir(vfs.NewMem(), "/elsewhere")) }

// A copy that has gone on in another log file is no more archived into the other's log: its file before that ends before what was
// archived, or behind it, and of the file itself something was archived, or nothing yet.
func TestFollowRefusesACopyInTheNextFile(t *testing.T) {
	for _, more := range []int{0, 6} {
		for _, begun := range []bool{true, false} {
			crash := vfs.NewCrash(1)
			to := backup.NewDir(vfs.NewMem(), backupsDir)
			r := followed(t, to, crash, nil)
			if err := r.db.Close(); err != nil {
				t.Fatal(err)
			}
			left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
			if err := errors.Join(r.open(), r.put("d", "a", "one"), r.nextFile()); err != nil {
				t.Fatal(err)
			}
			f := startFollow(t, crash, to, r.clock)
			f.reach(r.last())
			f.until(func() bool { return len(f.sealed) > 0 })
			f.stop()
			before, err := to.List(t.Context(), "")
			if last := before[len(before)-1]; !begun && err == nil {
				before = before[:len(before)-1]
				err = to.Delete(t.Context(), last.Name)
			}
			db := mustOpen(t, storeDir, options(left, r.clock))
			ds, derr := db.Dataset("d")
			if err := errors.Join(err, derr); err != nil {
				t.Fatal(err)
			}
			for i := range more {
				if _, err := ds.Put([]byte("a"), fmt.Append(nil, "another", i)); err != nil {
					t.Fatal(err)
				}
			}
			mustSnapshot(t, db, "of-the-copy")
			f = startFollow(t, left, to, r.clock)
			f.until(func() bool { return f.last.LSN >= db.DurableLSN() })
			f.stop()
			var need *backup.NoBaseError
			if !errors.As(f.err, &need) || !strings.Contains(f.err.Error(), "two copies") {
				t.Errorf("%d more, begun %v: %v", more, begun, f.err)
			}
			after, err := to.List(t.Context(), "")
			if err := errors.Join(err, db.Close()); err != nil || !slices.Equal(before, after) {
				t.Errorf("%d more, begun %v: objects were put: %v, then %v, %v", more, begun, before, after, err)
			}
		}
	}
}

// The disk of the backups may go while the log is followed, and leave an empty folder in its place: nothing is put there, and when the
// disk is back, all goes on without a hole.
func TestFollowWaitsForItsBackups(t *testing.T) {
	for what, log := range map[string]func(r *rig) error{
		"little":             func(r *rig) error { return r.put("d", "a", "3") },
		"the end of a file":  func(r *rig) error { return errors.Join(r.put("d", "a", "3"), r.nextFile()) },
		"much, and its file": func(r *rig) error { return errors.Join(r.putReader("d", "a", big(17<<20, 1)), r.nextFile()) },
	} {
		t.Run(what, func(t *testing.T) { waitsForItsBackups(t, log) })
	}
}

func waitsForItsBackups(t *testing.T, log func(*rig) error) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, func(o *dyngo.Options) { o.LogFileBytes = 64 << 20 })
	f := startFollow(t, fs, to, r.clock)
	if err := r.put("d", "a", "2"); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	before := r.last()
	if err := errors.Join(fs.Rename(backupsDir, "/away"), log(r)); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { return len(f.failed) > 0 || f.last.LSN > before })
	f.mu.Lock()
	if len(f.failed) == 0 || !errors.Is(f.failed[0], backup.ErrNoBackup) || f.last.LSN != before {
		t.Errorf("without its backups it archives LSN %d, %v", f.last.LSN, f.failed)
	}
	f.mu.Unlock()
	if there, err := vfs.Exists(fs, backupsDir); err != nil || there {
		t.Errorf("something was put, %v", err)
	}
	if err := fs.Rename("/away", backupsDir); err != nil {
		t.Fatal(err)
	}
	f.reach(r.last())
	r.covers(t, to, r.last(), before)

	// It goes on too when the backup that it began with has expired, and a later one is there.
	if err := errors.Join(r.backUp(to), r.put("d", "a", "4")); err != nil {
		t.Fatal(err)
	}
	e, err := backup.PlanExpire(t.Context(), to, 1, 0, time.Unix(0, r.clock.Now()))
	if err == nil {
		err = backup.Expire(t.Context(), to, &e)
	}
	if err != nil || len(e.Remove) != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	f.reach(r.last())
	r.covers(t, to, r.last())
}

// unsealed is a place of objects that never comes to an end with whole files.
type unsealed struct{ backup.Objects }

func (u *unsealed) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if strings.HasPrefix(name, "files/") {
		<-ctx.Done()
		return ctx.Err()
	}
	return u.Objects.Put(ctx, name, content, size)
}

// Of a log file that has ended, its parts are enough to go on behind it when it is dropped before it was made whole.
func TestFollowGoesOnBehindADroppedFile(t *testing.T) {
	fs := vfs.NewMem()
	to := backup.NewDir(fs, backupsDir)
	r := followed(t, to, fs, nil)
	if err := r.nextFile(); err != nil {
		t.Fatal(err)
	}
	f := startFollow(t, fs, &unsealed{to}, r.clock)
	f.reach(r.last())
	f.stop()
	list, err := to.List(t.Context(), "log/")
	if err == nil { // of the next file nothing was archived
		err = to.Delete(t.Context(), list[len(list)-1].Name)
	}
	files, _ := logFiles(t, fs)
	for _, file := range files[:len(files)-1] {
		err = errors.Join(err, fs.Remove(storeDir+"/wal/"+file.Name))
	}
	if err != nil {
		t.Fatal(err)
	}
	f = startFollow(t, fs, to, r.clock)
	f.reach(r.last())
	f.until(func() bool { return len(f.sealed) > 0 })
	r.covers(t, to, r.last())
}

// Two may follow one log into one place, as when a second one is started by mistake: it is archived all the same.
func TestFollowTwiceAtOnce(t *testing.T) {
	fs := vfs.NewMem()
	r := followed(t, backup.NewDir(fs, backupsDir), fs, nil)
	one, two := startFollow(t, fs, backup.NewDir(fs, backupsDir), r.clock), startFollow(t, fs, backup.NewDir(fs, backupsDir), r.clock)
	for i := range 150 {
		if err := r.put("d", fmt.Sprint(i%7), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if i%3 > 0 {
			one.reach(r.last())
		}
		if i%3 < 2 {
			two.reach(r.last())
		}
	}
	if err := r.fillUp(1, 30); err != nil {
		t.Fatal(err)
	}
	one.reach(r.last())
	two.reach(r.last())
	one.stop()
	two.stop()
	r.covers(t, backup.NewDir(fs, backupsDir), r.last(), r.last()-1)
}

// stubborn is a place of objects that refuses for a while.
type stubborn struct {
	backup.Objects
	mu     sync.Mutex
	refuse int // calls
}

var errStubborn = errors.New("the place of backups is out of reach")

func (s *stubborn) fail() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		return errStubborn
	}
	return nil
}

func (s *stubborn) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Objects.Put(ctx, name, content, size)
}

func (s *stubborn) Delete(ctx context.Context, name string) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Objects.Delete(ctx, name)
}

// What the place of backups refuses is told and tried again, less and less often.
func TestFollowTriesAgain(t *testing.T) {
	fs := vfs.NewMem()
	to := &stubborn{Objects: backup.NewDir(fs, backupsDir)}
	r := followed(t, to, fs, nil)
	f := startFollow(t, fs, to, r.clock)
	for i := range 3 {
		to.mu.Lock()
		to.refuse = 5
		to.mu.Unlock()
		if err := r.fillUp(i, 15); err != nil {
			t.Fatal(err)
		}
		f.reach(r.last())
		f.mu.Lock()
		n := len(f.failed)
		f.failed = nil
		f.mu.Unlock()
		if n != 5 {
			t.Errorf("told %d times, refused 5 times", n)
		}
	}
	r.covers(t, to, r.last())
}

// Each call at the place of backups fails once, in each way, and then power fails there: what Follow has told of is there, what is there
// is sound, and the next call goes on.
func TestFollowWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	r := followed(t, backup.NewDir(crash, backupsDir), vfs.NewMem(), nil)
	if err := errors.Join(r.put("d", "a", "2"), r.fillUp(0, 8), r.put("d", "a", "3"), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	db := mustOpen(t, storeDir, options(r.fs, r.clock))
	last := db.DurableLSN()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var f *follow
	fresh := func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll}) }
	eachCallFailing(t, seed, 1, 7, fresh, func(fault *vfs.Fault) error {
		f = startFollow(t, r.fs, backup.NewDir(fault, backupsDir), r.clock)
		ok := f.until(func() bool { return f.last.LSN >= last })
		if err := f.stop(); !ok {
			return err
		}
		return nil
	}, func(k int64, left *vfs.Crash, _ error) error {
		for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {Seed: uint64(k)}} {
			to := backup.NewDir(left.PowerLoss(o), backupsDir)
			for i, want := range []dyngo.LSN{f.last.LSN, last} {
				report, err := backup.Verify(t.Context(), to, nil)
				if err != nil || len(report.Defects) > 0 || len(report.Backups) != 1 {
					return fmt.Errorf("then %+v: %+v, %w", o, report, err)
				}
				if got, _ := report.Backups[0].Reach(); got < want {
					return fmt.Errorf("then %+v: it reaches LSN %d, told was %d", o, got, want)
				}
				if i == 0 {
					f := startFollow(t, r.fs, to, r.clock)
					f.reach(last)
					f.stop()
				}
			}
		}
		return nil
	})
}
