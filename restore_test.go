package dyngo_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

const restoredDir = "/restored"

// restored checks what Restore has made: every byte of it, that it is as the model at the LSN, by views of all its past too, and that
// it is written to and opened again.
func restored(m *model, fs vfs.FS, dir string, lsn dyngo.LSN, now int64, names []string) error {
	if report, err := dyngo.Verify(context.Background(), dir, &dyngo.Options{FS: fs}, nil); err != nil || report.Count() > 0 {
		return errors.Join(append(report.All(), err)...)
	}
	c := clock.NewManual(time.Unix(0, now))
	db, err := dyngo.Open(dir, options(fs, c))
	if err != nil {
		return err
	}
	defer func() { db.Close() }()
	for _, n := range []dyngo.LSN{lsn, max(lsn/2, db.Metrics().FloorLSN)} {
		v, err := db.ViewAt(context.Background(), dyngo.AtLSN(n))
		if err != nil {
			return err
		}
		got, err := dumpView(v, names, nil)
		at := v.Time().UnixNano()
		v.Close()
		if err := errors.Join(err, differ(m.past(n, at), got)); err != nil {
			return fmt.Errorf("view at LSN %d of %d, floor %d: %w", n, lsn, db.Metrics().FloorLSN, err)
		}
	}
	got, err := dump(db)
	if err := errors.Join(err, differ(m.past(lsn, now), got)); err != nil {
		return fmt.Errorf("restored to LSN %d: %w", lsn, err)
	}
	ds, err := db.CreateDataset("after", nil)
	if err == nil {
		_, err = ds.Put([]byte("k"), []byte("v"))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if db, err = dyngo.Open(dir, options(fs, c)); err != nil {
		return err
	}
	again, err := dump(db)
	got["after"] = map[string]string{"k": "v"}
	return errors.Join(err, differ(got, again))
}

// forkOf reads the headers and the first event of the newest timeline of a log.
func forkOf(fs vfs.FS, dir string) (timeline, parent string, lsn dyngo.LSN, first event.Op, err error) {
	files, err := wal.ListFiles(fs, dir+"/wal")
	if err != nil {
		return "", "", 0, 0, err
	}
	for _, f := range files {
		head, err := wal.ReadHeader(fs, dir+"/wal", f)
		if err != nil {
			return "", "", 0, 0, err
		}
		id := hex.EncodeToString(head.TimelineID[:])
		if id == timeline {
			continue
		}
		timeline = id
		s, err := wal.NewScanner(fs, dir+"/wal", wal.ScanOptions{ReadOnly: true, FromFile: f.Seq, Only: true})
		if err != nil {
			return "", "", 0, 0, err
		}
		for {
			f, err := s.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return "", "", 0, 0, err
			}
			if f.Kind == wal.KindCommit {
				for e := range f.Events() {
					parent, lsn, first = hex.EncodeToString(e.Key), e.LSN-1, e.Op
					break
				}
				break
			}
		}
		s.Close()
	}
	return timeline, parent, lsn, first, nil
}

// Restore makes a store as another was: at an LSN, a time, a snapshot, before or after a batch. Its history is there up to then,
// and goes on in a timeline of its own.
func TestRestore(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	start := time.Unix(0, c.Now())
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c})
	defer db.Close()
	ds, err := db.CreateDataset("d", nil) // LSN 1 is the session, 2 the dataset
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // LSN 3 to 5 at 1 s, 6 to 8 at 2 s, 9 to 11 at 3 s
		c.Advance(time.Second)
		b := db.NewBatch()
		for j := range 3 {
			b.Put(ds, fmt.Append(nil, "k", j), fmt.Append(nil, 3+3*i+j))
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	snap := mustSnapshot(t, db, "snap") // LSN 11; its event is 12
	c.Advance(time.Second)
	if _, err := ds.Put([]byte("large"), []byte(big(100<<10, 5))); err != nil { // 13
		t.Fatal(err)
	}
	state := func(first int) map[string]map[string]string {
		keys := map[string]string{}
		for j := range 3 {
			if first > 0 {
				keys[fmt.Sprint("k", j)] = fmt.Sprint(first + j)
			}
		}
		return map[string]map[string]string{"d": keys}
	}
	whole := state(9)
	whole["d"]["large"] = big(100<<10, 5)
	for i, tc := range []struct {
		src    string
		target dyngo.Target
		lsn    dyngo.LSN
		want   map[string]map[string]string
	}{
		{storeDir, dyngo.AtLSN(0), 0, map[string]map[string]string{}},
		{storeDir, dyngo.AtLSN(1), 1, map[string]map[string]string{}},
		{storeDir, dyngo.AtLSN(2), 2, state(0)},
		{storeDir, dyngo.AtLSN(5), 5, state(3)},
		{storeDir, dyngo.BeforeTx(6), 5, state(3)},
		{storeDir, dyngo.AfterTx(6), 8, state(6)},
		{storeDir, dyngo.AtTime(start.Add(2 * time.Second)), 8, state(6)},
		{storeDir, dyngo.AtTime(start.Add(3*time.Second - 1)), 8, state(6)},
		{storeDir, dyngo.AtSnapshot("snap"), 11, state(9)},
		{snap.Dir, dyngo.AtLSN(11), 11, state(9)},
		{snap.Dir, dyngo.AtLSN(8), 8, state(6)},
		{storeDir, dyngo.AtLSN(13), 13, whole},
	} {
		dir := fmt.Sprint("/out/", i)
		plan, err := dyngo.PlanRestore(t.Context(), tc.src, tc.target, &dyngo.RestoreOptions{FS: fs, Clock: c})
		if err != nil || plan.LSN != tc.lsn {
			t.Errorf("plan for %v: %+v, %v", tc.target, plan, err)
		}
		done, err := dyngo.RestoreWith(t.Context(), tc.src, dir, tc.target, &dyngo.RestoreOptions{FS: fs, Clock: c, Session: dyngo.Session{Actor: "ops"}})
		if err != nil {
			t.Errorf("%v: %v", tc.target, err)
			continue
		}
		if done.LSN != tc.lsn || done.Bytes != plan.Bytes {
			t.Errorf("%v: %+v, the plan was %+v", tc.target, done, plan)
		}
		if done.Next != min(tc.lsn+1, done.Last+1)*dyngo.LSN(min(1, done.Last-tc.lsn)) {
			t.Errorf("%v: next is %d, last %d", tc.target, done.Next, done.Last)
		}
		timeline, parent, lsn, op, err := forkOf(fs, dir)
		if err != nil || parent != done.Timeline || timeline == parent || lsn != tc.lsn || op != event.OpFork {
			t.Errorf("%v: timeline %s forks from %s at %d, %v, %v", tc.target, timeline, parent, lsn, op, err)
		}
		out := mustOpen(t, dir, &dyngo.Options{FS: fs, Clock: c})
		got, err := dump(out)
		if err := errors.Join(err, differ(tc.want, got)); err != nil {
			t.Errorf("%v: %v", tc.target, err)
		}
		if tc.lsn >= 5 {
			ds, err := out.Dataset("d")
			if err != nil {
				t.Fatal(err)
			}
			var lsns []dyngo.LSN
			for v, err := range ds.History(t.Context(), []byte("k2")) {
				if err != nil {
					t.Error(err)
				}
				lsns = append(lsns, v.LSN)
			}
			want := []dyngo.LSN{11, 8, 5, 2}[(11-min(tc.lsn, 11))/3:]
			if !slices.Equal(lsns, want) {
				t.Errorf("%v: history %v, want %v", tc.target, lsns, want)
			}
			if lsn, err := ds.Put([]byte("new"), []byte("x")); err != nil || lsn <= tc.lsn+2 {
				t.Errorf("%v: LSN %d after it, %v", tc.target, lsn, err)
			}
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		if report, err := dyngo.Verify(t.Context(), dir, &dyngo.Options{FS: fs}, nil); err != nil || report.Count() > 0 {
			t.Errorf("%v: verify: %v, %v", tc.target, report.All(), err)
		}
	}
}

func TestRestoreRefusals(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	for range 3 { // LSN 3 to 5
		b.Put(ds, []byte("k"), []byte("v"))
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	o := &dyngo.RestoreOptions{FS: fs, Clock: c}
	for _, tc := range []struct {
		src    string
		target dyngo.Target
		want   error
		text   string
	}{
		{"/nowhere", dyngo.AtLSN(1), dyngo.ErrNoStore, "/nowhere"},
		{storeDir, dyngo.AtLSN(4), dyngo.ErrMidBatch, "LSN 4 lies in that of LSN 3 to 5; restore to 2 or 5"},
		{storeDir, dyngo.AtLSN(99), dyngo.ErrOutsideWindow, "the window is LSN 0 to 5"},
		{storeDir, dyngo.AtTime(time.Unix(0, epochNs).Add(-time.Hour)), dyngo.ErrOutsideWindow, "the window is"},
		{storeDir, dyngo.BeforeTx(4), dyngo.ErrNoBatch, "LSN 3 to 5"},
		{storeDir, dyngo.AtSnapshot("none"), dyngo.ErrNoSnapshot, "none"},
	} {
		for range 2 { // the folder is left as it was
			_, err := dyngo.RestoreWith(t.Context(), tc.src, restoredDir, tc.target, o)
			if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.text) {
				t.Errorf("%v of %s: %v", tc.target, tc.src, err)
			}
			if names, err := fs.List(restoredDir); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("%v of %s has left %s: %q, %v", tc.target, tc.src, restoredDir, names, err)
			}
		}
		empty := "/empty"
		if err := fs.MkdirAll(empty); err != nil {
			t.Fatal(err)
		}
		if _, err := dyngo.RestoreWith(t.Context(), tc.src, empty, tc.target, o); !errors.Is(err, tc.want) {
			t.Errorf("%v of %s into a folder that is there: %v", tc.target, tc.src, err)
		}
		if names, err := fs.List(empty); err != nil || len(names) > 0 {
			t.Errorf("%v of %s into a folder that is there has left %q, %v", tc.target, tc.src, names, err)
		}
	}
	// Onto something, onto the source, onto a store in use, twice at once.
	if err := errors.Join(fs.MkdirAll("/full/data"), vfs.WriteFileSync(fs, "/full/data/file", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"/full", storeDir} {
		if _, err := dyngo.RestoreWith(t.Context(), storeDir, dst, dyngo.AtLSN(5), o); !errors.Is(err, dyngo.ErrNotEmpty) {
			t.Errorf("into %s: %v", dst, err)
		}
	}
	if names, err := fs.List("/full"); err != nil || len(names) != 1 {
		t.Errorf("in a folder that was not empty: %q, %v", names, err)
	}
	if err := fs.MkdirAll("/locked"); err != nil {
		t.Fatal(err)
	}
	lock, err := fs.Lock("/locked/LOCK")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, "/locked", dyngo.AtLSN(5), o); !errors.Is(err, dyngo.ErrLocked) {
		t.Errorf("two at once: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dyngo.RestoreWith(canceled, storeDir, "/canceled", dyngo.AtLSN(5), o); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := errors.Join(lock.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Of a log that is damaged, the end is not restored as if it were all: what is lost is told, and what lies before that can be restored
// by its LSN.
func TestRestoreOfADamagedLog(t *testing.T) {
	for _, closed := range []bool{true, false} {
		fs, c := vfs.NewMem(), manualClock()
		o := &dyngo.RestoreOptions{FS: fs, Clock: c}
		db := mustOpen(t, storeDir, options(fs, c))
		ds, err := db.CreateDataset("d", nil)
		var lsns []dyngo.LSN
		for range 20 {
			if err == nil {
				var lsn dyngo.LSN
				lsn, err = ds.Put([]byte("k"), []byte(big(1000, 1)))
				lsns = append(lsns, lsn)
			}
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if !closed {
			if err := fs.Remove(storeDir + "/wal/CLEAN"); err != nil {
				t.Fatal(err)
			}
		}
		files, _ := logFiles(t, fs)
		if err := spoil(fs, storeDir+"/wal/"+files[0].Name, "changed"); err != nil {
			t.Fatal(err)
		}
		last := lsns[len(lsns)-1]
		for _, target := range []dyngo.Target{dyngo.AtEnd(), dyngo.AtLSN(last), dyngo.AtTime(time.Unix(0, c.Now()))} {
			for _, restore := range []func() error{
				func() error { _, err := dyngo.PlanRestore(t.Context(), storeDir, target, o); return err },
				func() error { _, err := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, target, o); return err },
			} {
				if err := restore(); !errors.Is(err, dyngo.ErrCorrupt) || !strings.Contains(err.Error(), files[0].Name) {
					t.Errorf("closed %v, to %v: %v", closed, target, err)
				}
			}
		}
		var before dyngo.LSN
		_, err = dyngo.PlanRestore(t.Context(), storeDir, dyngo.AtEnd(), o)
		_, text, _ := strings.Cut(fmt.Sprint(err), "is damaged behind LSN ")
		if _, serr := fmt.Sscanf(text, "%d,", &before); serr != nil || before < lsns[0] || before >= last {
			t.Fatalf("%v names LSN %d, %v", err, before, serr)
		}
		if p, err := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, dyngo.AtLSN(before), o); err != nil || p.LSN != before {
			t.Errorf("before it: %+v, %v", p, err)
		}
	}
}

// A log file is missing: what needs it is refused before a byte is written, by an error that names it; what lies before it can be
// restored.
func TestRestoreOfALogWithAGap(t *testing.T) {
	for _, flush := range []bool{false, true} {
		for missing := range 3 {
			t.Run(fmt.Sprintf("flushed=%t/missing=%d", flush, missing), func(t *testing.T) {
				fs, c := vfs.NewMem(), manualClock()
				o := &dyngo.RestoreOptions{FS: fs, Clock: c}
				db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, LogFileBytes: 1 << 20})
				ds, err := db.CreateDataset("d", nil)
				times := map[dyngo.LSN]time.Time{}
				for i := 0; i < 40 && err == nil; i++ {
					c.Advance(time.Second)
					var lsn dyngo.LSN
					lsn, err = ds.Put(fmt.Appendf(nil, "k%d", i), []byte(strings.Repeat("x", 100_000)))
					times[lsn] = time.Unix(0, c.Now())
				}
				if flush && err == nil {
					err = db.Flush(t.Context())
				}
				if err := errors.Join(err, db.Close()); err != nil {
					t.Fatal(err)
				}
				files, _ := logFiles(t, fs)
				if len(files) < 4 {
					t.Fatalf("%d log files", len(files))
				}
				if err := fs.Remove(path.Join(storeDir, "wal", files[missing].Name)); err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("wal/%010d-*.log", files[missing].Seq)
				next := files[missing+1].FirstLSN
				for _, target := range []dyngo.Target{dyngo.AtEnd(), dyngo.AtLSN(next + 1), dyngo.BeforeTx(next), dyngo.AtLSN(next - 2),
					dyngo.AtTime(times[next-2]), dyngo.AfterTx(next - 2), dyngo.AtLSN(next - 1)} {
					var damage *dyngo.CorruptionError
					if _, err := dyngo.PlanRestore(t.Context(), storeDir, target, o); !errors.As(err, &damage) || damage.File != name {
						t.Errorf("a plan for %v: %v", target, err)
					}
					if _, err := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, target, o); !errors.As(err, &damage) || damage.File != name {
						t.Errorf("to %v: %v", target, err)
					}
					if names, err := fs.List(restoredDir); !errors.Is(err, iofs.ErrNotExist) {
						t.Fatalf("to %v has left %q, %v", target, names, err)
					}
				}
				if missing == 0 {
					return
				}
				for i, target := range []dyngo.Target{dyngo.AtLSN(files[missing].FirstLSN - 1), dyngo.AtTime(times[files[missing].FirstLSN-2])} {
					want := files[missing].FirstLSN - 1 - dyngo.LSN(i)
					dir := fmt.Sprint(restoredDir, i)
					if p, err := dyngo.RestoreWith(t.Context(), storeDir, dir, target, o); err != nil || p.LSN != want {
						t.Errorf("before it, %v: %+v, %v", target, p, err)
					}
				}
			})
		}
	}
}

// The owner of src drops its oldest log files after the manifest was read: none is taken for missing, src is looked at again.
func TestRestoreWhileLogFilesGo(t *testing.T) {
	mem, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: mem, Clock: c, LogFileBytes: 1 << 20})
	ds, err := db.CreateDataset("d", nil)
	for i := 0; i < 40 && err == nil; i++ {
		_, err = ds.Put([]byte("k"), []byte(strings.Repeat("x", 100_000)))
	}
	if err := errors.Join(err, db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	src, gone := vfs.NewFault(mem), false
	src.OnCall(func(call vfs.Call) error {
		if call.Op != vfs.OpList || path.Base(call.Name) != "wal" || gone {
			return nil
		}
		gone = true
		db := mustOpen(t, storeDir, &dyngo.Options{FS: mem, Clock: c, LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 1 << 20}})
		mustGC(t, db)
		return db.Close()
	})
	o := &dyngo.RestoreOptions{FS: mem, From: src, Clock: c}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, dyngo.AtEnd(), o); err != nil || !gone {
		t.Fatalf("%v, files went: %t", err, gone)
	}
	if files, err := wal.ListFiles(mem, restoredDir+"/wal"); err != nil || len(files) == 0 || files[0].Seq == 1 {
		t.Errorf("log files %v, %v", files, err)
	}
}

// restoreScript writes a store with segments, history segments, value files and a log whose first files are gone, and returns the
// LSNs that can be restored to: ends of batches.
func restoreScript(r *rig) ([]dyngo.LSN, error) {
	if err := r.create("d", inline); err != nil {
		return nil, err
	}
	var ends []dyngo.LSN
	steps := []func(i int) error{
		func(i int) error { return r.put("d", fmt.Sprint("a", i%7), fmt.Sprint("v", i)) },
		func(i int) error { return r.fillUp(i, 8) },
		func(i int) error { return r.del("d", fmt.Sprint("a", i%5)) },
		func(i int) error {
			return r.batch(change{kind: "put", ds: "d", key: "b", value: fmt.Sprint(i)}, change{kind: "del", ds: "d", key: "a1"})
		},
		func(i int) error { return r.putReader("d", "large", big(300<<10, byte(i))) },
	}
	for i := range 20 {
		if err := steps[i%len(steps)](i); err != nil {
			return nil, err
		}
		ends = append(ends, r.db.LSN())
		next := func() error { return nil }
		switch i {
		case 11:
			next = r.gc
		case 15:
			next = r.flushSegments
		}
		if err := next(); err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// restoreSource makes the store that the tests of faults restore from.
func restoreSource(t *testing.T, fs vfs.FS) (*rig, []dyngo.LSN) {
	t.Helper()
	r := &rig{fs: fs, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
	r.tune = func(o *dyngo.Options) { o.Retention.Bytes = 2 << 20 }
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	ends, err := restoreScript(r)
	if err != nil {
		t.Fatal(err)
	}
	floor, flushed := r.db.Metrics().FloorLSN, r.db.Metrics().FlushedLSN
	if m := r.db.Metrics(); floor == 0 || flushed <= floor+2 || flushed >= r.db.LSN() || m.ValueFiles == 0 || m.HistorySegments == 0 {
		t.Fatalf("floor %d, flushed %d: the script tests nothing", floor, flushed)
	}
	return r, slices.DeleteFunc(ends, func(l dyngo.LSN) bool { return l < floor })
}

// Every LSN that ends a batch can be restored to, also below what segments hold and at the floor.
func TestRestoreToEveryLSN(t *testing.T) {
	fs := vfs.NewMem()
	r, ends := restoreSource(t, fs)
	floor := r.db.Metrics().FloorLSN
	for i, lsn := range append(ends, floor) {
		if testing.Short() && i%6 != 0 {
			continue
		}
		dir := fmt.Sprint("/out/", i)
		if _, err := dyngo.RestoreWith(t.Context(), storeDir, dir, dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: fs, Clock: r.clock}); err != nil {
			t.Errorf("LSN %d: %v", lsn, err)
			continue
		}
		if err := restored(r.m, fs, dir, lsn, r.clock.Now(), []string{"d"}); err != nil {
			t.Errorf("LSN %d (floor %d, flushed %d): %v", lsn, floor, r.db.Metrics().FlushedLSN, err)
		}
	}
	if err := r.db.Close(); err != nil {
		t.Error(err)
	}
}

// Power fails before each call of a restore that changes something. What is left is no store, or the one that was asked for; the
// same restore then succeeds, and so does one to another LSN.
func TestRestoreSurvivesPowerLossAtEveryCall(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	r, ends := restoreSource(t, crash)
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	m, now := r.m, r.clock.Now()
	for _, lsn := range []dyngo.LSN{ends[6], ends[len(ends)-1]} { // with a base state and log files to apply, and with segments as they are
		fault := vfs.NewFault(crash)
		var one sync.Mutex // guards calls and bad: files are copied beside each other
		var calls int
		var bad error
		dir := fmt.Sprint("/out-", lsn)
		fault.OnCall(func(c vfs.Call) error {
			one.Lock()
			defer one.Unlock()
			if bad != nil || c.Op&vfs.OpChanges == 0 || c.Op == vfs.OpWrite && c.Off > 0 {
				return nil
			}
			if calls++; !taken(int64(calls), seed, 48) {
				return nil
			}
			for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {}} {
				if testing.Short() && i != calls/48%2 {
					continue
				}
				o.Seed = uint64(calls*10 + i)
				left := crash.PowerLoss(o)
				if err := restoreAgain(m, left, dir, lsn, ends[calls%len(ends)], now); err != nil {
					bad = fmt.Errorf("power loss %+v before call %d, %s: %w\n%s", o, calls, c, err, fault.Trace())
					return nil
				}
			}
			return nil
		})
		_, err := dyngo.RestoreWith(t.Context(), storeDir, dir, dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: fault, Clock: clock.NewManual(time.Unix(0, now))})
		if err := errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
		left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
		if err := restored(m, left, dir, lsn, now, []string{"d"}); err != nil {
			t.Fatalf("after all: %v", err)
		}
		t.Logf("%d calls", calls)
	}
}

// restoreLook restores to a random LSN of a store in use and compares with the model.
func restoreLook(m *model, db *dyngo.DB, fs vfs.FS, c *clock.Manual, rng *rand.Rand, names []string) error {
	floor := db.Metrics().FloorLSN
	lsn := floor + dyngo.LSN(rng.Uint64N(uint64(db.DurableLSN()-floor)+1))
	o := &dyngo.RestoreOptions{FS: fs, Clock: c}
	dir := fmt.Sprint("/restored-", lsn, "-", rng.Uint64())
	_, err := dyngo.RestoreWith(context.Background(), db.Dir(), dir, dyngo.AtLSN(lsn), o)
	if errors.Is(err, dyngo.ErrMidBatch) || errors.Is(err, dyngo.ErrOutsideWindow) && db.Metrics().FloorLSN > lsn {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore to LSN %d, floor %d: %w", lsn, floor, err)
	}
	ro, err := dyngo.Open(dir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true})
	if err != nil {
		return err
	}
	defer ro.Close()
	for _, n := range []dyngo.LSN{lsn, ro.Metrics().FloorLSN + dyngo.LSN(rng.Uint64N(uint64(lsn-ro.Metrics().FloorLSN)+1))} {
		v, err := ro.ViewAt(context.Background(), dyngo.AtLSN(n))
		if err != nil {
			return fmt.Errorf("restored to LSN %d, floor %d: %w", lsn, floor, err)
		}
		got, err := dumpView(v, names, nil)
		at := v.Time().UnixNano()
		v.Close()
		if err := errors.Join(err, differ(m.past(n, at), got)); err != nil {
			return fmt.Errorf("restored to LSN %d, floor %d, flushed %d, view at %d: %w", lsn, floor, db.Metrics().FlushedLSN, n, err)
		}
	}
	got, err := dump(ro)
	return errors.Join(err, differ(m.past(lsn, c.Now()), got))
}

// What a restore or a recovery has left half is no store: nothing reports it as sound, mends it or restores from it.
func TestUnfinished(t *testing.T) {
	for _, file := range []string{"RESTORE", "RECOVER"} {
		for _, moved := range []bool{false, true} {
			fs := vfs.NewMem()
			o := &dyngo.Options{FS: fs}
			db := mustOpen(t, storeDir, o)
			if _, err := db.CreateDataset("d", nil); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Close(), vfs.WriteFileSync(fs, storeDir+"/"+file, []byte("half"))); err != nil {
				t.Fatal(err)
			}
			if moved {
				if err := fs.Rename(storeDir+"/wal", "/aside"); err != nil {
					t.Fatal(err)
				}
			}
			_, opened := dyngo.Open(storeDir, &dyngo.Options{FS: fs, ReadOnly: true})
			_, verified := dyngo.Verify(t.Context(), storeDir, o, nil)
			_, repaired := dyngo.Repair(t.Context(), storeDir, o, dyngo.RepairOptions{})
			_, planned := dyngo.PlanRestore(t.Context(), storeDir, dyngo.AtEnd(), &dyngo.RestoreOptions{FS: fs})
			_, restored := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, dyngo.AtEnd(), &dyngo.RestoreOptions{FS: fs})
			for what, err := range map[string]error{"open": opened, "verify": verified, "repair": repaired, "plan": planned, "restore": restored} {
				if !errors.Is(err, dyngo.ErrUnfinished) {
					t.Errorf("%s, wal moved %v: %s: %v", file, moved, what, err)
				}
			}
		}
	}
}

// restoreAgain checks what an interrupted restore to lsn has left, and restores to that or another LSN.
func restoreAgain(m *model, fs vfs.FS, dir string, lsn, other dyngo.LSN, now int64) error {
	ro, err := dyngo.Open(dir, &dyngo.Options{FS: fs, ReadOnly: true, Clock: clock.NewManual(time.Unix(0, now))})
	if err == nil { // it was done
		ro.Close()
		return restored(m, fs, dir, lsn, now, []string{"d"})
	}
	if !errors.Is(err, dyngo.ErrUnfinished) && !errors.Is(err, dyngo.ErrNoStore) {
		return fmt.Errorf("what is left opens with %w", err)
	}
	if other%2 == 0 {
		other = lsn
	}
	o := &dyngo.RestoreOptions{FS: fs, Clock: clock.NewManual(time.Unix(0, now))}
	if _, err := dyngo.RestoreWith(context.Background(), storeDir, dir, dyngo.AtLSN(other), o); err != nil {
		return fmt.Errorf("again, to LSN %d: %w", other, err)
	}
	return restored(m, fs, dir, other, now, []string{"d"})
}

// Each call of a restore fails once, in each way, a full disk among them; then it is run again.
func TestRestoreWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	r, ends := restoreSource(t, crash)
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	m, now := r.m, r.clock.Now()
	fresh := func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}) }
	for _, lsn := range []dyngo.LSN{ends[6], ends[len(ends)-1]} {
		eachCallFailing(t, seed, 3, 97, fresh, func(fault *vfs.Fault) error {
			o := &dyngo.RestoreOptions{FS: fault, Clock: hurried{clock.NewManual(time.Unix(0, now))}}
			_, err := dyngo.RestoreWith(context.Background(), storeDir, restoredDir, dyngo.AtLSN(lsn), o)
			return err
		}, func(k int64, left *vfs.Crash, err error) error {
			if err == nil {
				return restored(m, left, restoredDir, lsn, now, []string{"d"})
			}
			return restoreAgain(m, left, restoredDir, lsn, ends[k%int64(len(ends))], now)
		})
	}
}

// Delta replaces an earlier restore, and copies only what it doesn't have: files that are there and are not what they should be are
// copied too. It is refused where it would replace something else.
func TestRestoreDelta(t *testing.T) {
	t.Parallel()
	crash := vfs.NewCrash(1)
	r, ends := restoreSource(t, crash)
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	m, now := r.m, r.clock.Now()
	const dir = "/replaced"
	first, second := ends[len(ends)-1], ends[len(ends)-2]
	delta := func(fs vfs.FS, lsn dyngo.LSN) (dyngo.RestorePlan, error) {
		return dyngo.RestoreWith(context.Background(), storeDir, dir, dyngo.AtLSN(lsn),
			&dyngo.RestoreOptions{FS: fs, Clock: hurried{clock.NewManual(time.Unix(0, now))}, Delta: true})
	}
	if plan, err := delta(crash, first); err != nil || plan.Reused > 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	log, err := wal.ListFiles(crash, dir+"/wal")
	if err != nil {
		t.Fatal(err)
	}
	fresh := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
	plan, err := delta(fresh, second)
	if err != nil || plan.Reused == 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if err := restored(m, fresh, dir, second, now, []string{"d"}); err != nil {
		t.Fatal(err)
	}
	spoiled := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
	if err := spoil(spoiled, dir+"/wal/"+log[0].Name, "changed"); err != nil {
		t.Fatal(err)
	}
	if again, err := delta(spoiled, second); err != nil || again.Reused != plan.Reused-log[0].Size {
		t.Fatalf("%+v, %v, want %d bytes less than %d", again, err, log[0].Size, plan.Reused)
	}
	if err := restored(m, spoiled, dir, second, now, []string{"d"}); err != nil {
		t.Fatal(err)
	}

	// What the disk has no room for beside the files that go, it has in their place.
	small := vfs.NewFault(vfs.NewMem())
	onSmall := func(lsn dyngo.LSN) error {
		_, err := dyngo.RestoreWith(t.Context(), storeDir, dir, dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: small, From: crash, Clock: r.clock, Delta: true})
		return err
	}
	if err := onSmall(first); err != nil {
		t.Fatal(err)
	}
	if err := spoil(small, dir+"/wal/"+log[0].Name, "changed"); err != nil {
		t.Fatal(err)
	}
	const disk = 1 << 30
	small.SetQuota(disk)
	free, _, err := small.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	small.SetQuota(disk - free + log[0].Size/2)
	if err := errors.Join(onSmall(second), restored(m, small, dir, second, now, []string{"d"})); err != nil {
		t.Fatal(err)
	}

	// Each call fails once, and power after it; the same call goes on, and so does one without Delta.
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	eachCallFailing(t, seed, 5, 61, func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll}) }, func(fault *vfs.Fault) error {
		_, err := delta(fault, second)
		return err
	}, func(k int64, left *vfs.Crash, err error) error {
		after := left.PowerLoss(vfs.CrashOptions{Seed: uint64(k)})
		if err != nil && k%2 == 0 {
			_, err = delta(after, second)
		} else if err != nil {
			_, err = dyngo.RestoreWith(context.Background(), storeDir, dir, dyngo.AtLSN(second),
				&dyngo.RestoreOptions{FS: after, Clock: hurried{clock.NewManual(time.Unix(0, now))}})
			if errors.Is(err, dyngo.ErrNotEmpty) { // nothing was changed, or all
				_, err = delta(after, second)
			}
		}
		if err != nil {
			return err
		}
		return restored(m, after, dir, second, now, []string{"d"})
	})

	// A store of another log, one that has snapshots, and the store itself stay.
	other := mustOpen(t, "/other", options(crash, r.clock))
	ds, err := other.CreateDataset("d", nil)
	if err == nil {
		_, err = ds.Put([]byte("k"), []byte("v"))
	}
	if err := errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]string{"/other": "another log", storeDir: "is the store that is to be restored"} {
		_, err := dyngo.RestoreWith(t.Context(), storeDir, dst, dyngo.AtLSN(second), &dyngo.RestoreOptions{FS: crash, Clock: r.clock, Delta: true})
		if !errors.Is(err, dyngo.ErrNotEmpty) || !strings.Contains(err.Error(), want) {
			t.Errorf("onto %s: %v", dst, err)
		}
		db, err := dyngo.Open(dst, options(crash, r.clock))
		if err != nil {
			t.Fatalf("%s was changed: %v", dst, err)
		}
		if dst == "/other" {
			_, err = db.Snapshot(t.Context(), "s")
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dyngo.RestoreWith(t.Context(), "/other", "/other/snapshots/s", dyngo.AtEnd(), &dyngo.RestoreOptions{FS: crash, Clock: r.clock, Delta: true}); !errors.Is(err, dyngo.ErrNotEmpty) {
		t.Errorf("onto a snapshot: %v", err)
	}
	if _, err := dyngo.RestoreWith(t.Context(), "/other/snapshots/s", "/other", dyngo.AtEnd(), &dyngo.RestoreOptions{FS: crash, Clock: r.clock, Delta: true}); !errors.Is(err, dyngo.ErrNotEmpty) {
		t.Errorf("onto a store with snapshots: %v", err)
	}
}

// A state that lies below what segments hold begins at the newest snapshot whose segments don't go beyond it: only the log from there
// on is replayed, and it is the same state.
func TestRestoreBeginsAtTheNearestSnapshot(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	r := &rig{fs: fs, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
	r.tune = func(o *dyngo.Options) { o.Retention.Bytes = 4 << 20 }
	if err := errors.Join(r.open(), r.create("d", nil)); err != nil {
		t.Fatal(err)
	}
	var flushed, ends []dyngo.LSN
	for i := range 6 {
		for j := range 6 {
			if err := errors.Join(r.put("d", fmt.Sprint("k", j), fmt.Sprint(i)), r.fillUp(i*7+j, 1), r.del("d", fmt.Sprint("k", i%4))); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, r.db.DurableLSN())
		}
		if err := errors.Join(r.flushSegments(), r.merge()); err != nil {
			t.Fatal(err)
		}
		flushed = append(flushed, r.db.Metrics().FlushedLSN)
		r.session()
		err := r.do(true, func() (dyngo.LSN, error) {
			_, err := r.db.Snapshot(t.Context(), fmt.Sprint("s", i))
			return r.db.LSN(), err
		}, change{kind: "session"})
		if err == nil && i == 3 {
			err = r.gc()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	floor := r.db.Metrics().FloorLSN
	if floor == 0 || floor > flushed[2] {
		t.Fatalf("floor %d, flushed %d: the test tests nothing", floor, flushed)
	}
	older := 0
	for i, lsn := range ends {
		if lsn < floor || testing.Short() && i%3 != 0 {
			continue
		}
		dir := fmt.Sprint("/out/", i)
		plan, err := dyngo.RestoreWith(t.Context(), storeDir, dir, dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: fs, Clock: r.clock})
		if err != nil {
			t.Errorf("LSN %d: %v", lsn, err)
			continue
		}
		from := map[string]bool{}
		for _, f := range plan.Files {
			if f.Use == "copy" && strings.HasPrefix(f.Name, "segments/") {
				from[f.From] = true
			}
			if f.From != "" && strings.HasPrefix(f.Name, "wal/") {
				older++
			}
		}
		want := ""
		for j, f := range flushed {
			if f <= lsn && f > floor {
				want = fmt.Sprint("snapshots/s", j)
			}
		}
		if lsn < flushed[len(flushed)-1] && want != "" && (len(from) != 1 || !from[want] || plan.ReplayBytes > 4<<20) {
			t.Errorf("LSN %d begins at %v, want %q, and replays %d bytes of %d", lsn, from, want, plan.ReplayBytes, plan.Bytes)
		}
		if err := restored(r.m, fs, dir, lsn, r.clock.Now(), []string{"d"}); err != nil {
			t.Errorf("LSN %d (floor %d, flushed %d): %v", lsn, floor, flushed, err)
		}
	}
	if older == 0 {
		t.Error("no log file of a snapshot was used")
	}
	// A damaged snapshot is none, nor is one with a damaged segment that the store has no more.
	var lsn dyngo.LSN
	for _, end := range ends {
		plan, err := dyngo.PlanRestore(t.Context(), storeDir, dyngo.AtLSN(end), &dyngo.RestoreOptions{FS: fs, Clock: r.clock})
		for _, f := range plan.Files {
			if there, _ := vfs.Exists(fs, storeDir+"/"+f.Name); err == nil && end >= floor && f.From != "" && strings.HasPrefix(f.Name, "segments/") && !there {
				lsn = end
				err = spoil(fs, storeDir+"/"+f.From+"/"+f.Name, "changed")
			}
		}
		if err != nil && end >= floor {
			t.Fatal(err)
		}
		if lsn > 0 {
			break
		}
	}
	if lsn == 0 {
		t.Fatal("no snapshot has a segment of its own: the test tests nothing")
	}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, "/out/spoiled", dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: fs, Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	if err := restored(r.m, fs, "/out/spoiled", lsn, r.clock.Now(), []string{"d"}); err != nil {
		t.Error(err)
	}
	for i := range flushed {
		if err := spoil(fs, fmt.Sprintf("%s/snapshots/s%d/SNAPSHOT", storeDir, i), "changed"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, "/out/without", dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: fs, Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(restored(r.m, fs, "/out/without", lsn, r.clock.Now(), []string{"d"}), r.db.Close()); err != nil {
		t.Error(err)
	}
}

// The log is applied while its later files are still being copied, and none before its copy is durable.
func TestRestoreAppliesWhileItCopies(t *testing.T) {
	crash := vfs.NewCrash(1)
	r, err := newRig(crash)
	if err != nil {
		t.Fatal(err)
	}
	err = r.create("d", inline)
	var lsn dyngo.LSN
	for i := range 5 { // a log file each
		err = errors.Join(err, r.fillUp(i, 8))
		if i == 3 {
			lsn = r.db.LSN()
		}
	}
	if err := errors.Join(err, r.flushSegments(), r.db.Close()); err != nil { // segments go beyond lsn: all is applied anew
		t.Fatal(err)
	}
	plan, err := dyngo.PlanRestore(t.Context(), storeDir, dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: crash})
	if err != nil {
		t.Fatal(err)
	}
	var logs []string
	for _, f := range plan.Files {
		if f.Use == "copy" && path.Dir(f.Name) == "wal" {
			logs = append(logs, path.Join(restoredDir, f.Name))
		}
	}
	if len(logs) < 2 {
		t.Fatalf("%d log files are copied: %+v", len(logs), plan.Files)
	}
	fault := vfs.NewFault(crash)
	applied := make(chan struct{})
	var once sync.Once
	var synced sync.Map
	fault.OnCall(func(c vfs.Call) error {
		switch {
		case c.Op == vfs.OpOpen && slices.Contains(logs, c.Name):
			if _, ok := synced.Load(c.Name); !ok {
				return fmt.Errorf("%s is read before its copy is durable", c.Name)
			}
			if c.Name == logs[0] {
				once.Do(func() { close(applied) })
			}
		case c.Op&vfs.OpSyncs != 0:
			synced.Store(strings.TrimSuffix(c.Name, ".new"), true)
		case c.Op == vfs.OpCreate && c.Name == logs[len(logs)-1]+".new":
			select {
			case <-applied:
			case <-time.After(20 * time.Second):
				return errors.New("nothing is applied before all is copied")
			}
		}
		return nil
	})
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, restoredDir, dyngo.AtLSN(lsn), &dyngo.RestoreOptions{FS: fault, Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	if err := restored(r.m, crash, restoredDir, lsn, r.clock.Now(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
}
