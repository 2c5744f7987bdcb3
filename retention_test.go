package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// bounded are options of a store that keeps about bytes of its log, in files of 1 MiB.
func bounded(fs vfs.FS, c clock.Clock, bytes int64) *dyngo.Options {
	return &dyngo.Options{FS: fs, Clock: c, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: bytes}}
}

// inline is a dataset whose values of up to 200 KB lie in commit frames.
var inline = &dyngo.DatasetOptions{LargeValue: 256 << 10}

// logFiles are the log files on disk.
func logFiles(t *testing.T, fs vfs.FS) (files []wal.FileInfo, bytes int64) {
	t.Helper()
	files, err := wal.ListFiles(fs, storeDir+"/wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		bytes += f.Size
	}
	return files, bytes
}

func mustGC(t *testing.T, db *dyngo.DB) dyngo.GCPlan {
	t.Helper()
	plan, err := db.GC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// oldestLog is what the manifest says.
func oldestLog(fs vfs.FS) (uint64, error) {
	set, err := manifest.Open(fs, storeDir+"/manifest", manifest.Options{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	return set.Current().OldestLog, set.Close()
}

// verifyRest reads every byte of a store whose first log files were dropped. An edit of the manifest that failed half-way is
// no damage, though Verify takes it for such when the log was closed after that.
func verifyRest(fs vfs.FS) error {
	report, err := dyngo.Verify(context.Background(), storeDir, &dyngo.Options{FS: fs}, nil)
	defects := slices.DeleteFunc(report.All(), func(err error) bool { return strings.Contains(err.Error(), "that are no record") })
	return errors.Join(append(defects, err)...)
}

const archiveDir = "/archive"

// verifyArchive reads every log file that was dropped from the archive.
func verifyArchive(fs vfs.FS) error {
	oldest, err := oldestLog(fs)
	if err != nil || oldest == 0 {
		return err
	}
	names, err := fs.List(archiveDir)
	if err != nil {
		return err
	}
	seq, next := uint64(1), dyngo.LSN(1)
	for _, name := range names {
		log, ok := strings.CutSuffix(name, ".zst")
		if !ok {
			continue // what a crash left
		}
		a, err := wal.OpenArchived(fs, path.Join(archiveDir, name), name)
		if err != nil {
			return err
		}
		if err := errors.Join(a.Verify(context.Background(), nil), a.Close()); err != nil {
			return err
		}
		if a.Header.Seq != seq || wal.FileName(seq, a.Header.FirstLSN) != log || a.Header.FirstLSN < next {
			return fmt.Errorf("%s is log file %d from LSN %d on, want file %d", name, a.Header.Seq, a.Header.FirstLSN, seq)
		}
		seq, next = seq+1, a.Header.FirstLSN
	}
	if seq < oldest {
		return fmt.Errorf("the archive ends before log file %d, the log begins with %d", seq, oldest)
	}
	return nil
}

// fill writes n values of 200 KB, about five of which make a log file.
func fill(t *testing.T, ds *dyngo.Dataset, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if _, err := ds.Put(fmt.Appendf(nil, "fill-%d", i%4), []byte(big(200<<10, byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
}

// The log stays within its bound, nothing of the present is lost, and what was deleted stays away, also in a store that is
// opened again.
func TestRetentionBoundsTheLog(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	dropped := make(chan uint64, 100)
	o := bounded(fs, c, 2<<20)
	o.Listener = &dyngo.Listener{FileDropped: func(file uint64, bytes int64, _ dyngo.LSN) {
		if bytes > 0 {
			dropped <- file
		}
	}}
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"kept", "deleted"} {
		if _, err := ds.Put([]byte(k), []byte("old")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ds.Delete([]byte("deleted")); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 40)
	plan := mustGC(t, db)
	files, size := logFiles(t, fs)
	if limit := int64(2<<20 + 2<<20); size > limit || files[0].Seq == 1 {
		t.Fatalf("the log takes %d bytes from file %d on, wanted are at most %d", size, files[0].Seq, limit)
	}
	if got := <-dropped; got != 1 {
		t.Errorf("file %d was dropped first", got)
	}
	m := db.Metrics()
	if m.FloorLSN != files[0].FirstLSN-1 || m.LogFiles != len(files) || m.FilesDropped != int64(files[0].Seq-1) || m.BytesPerLiveByte <= 0 {
		t.Errorf("floor %d, %d files, %d dropped, %v bytes a live byte; the log begins with %+v", m.FloorLSN, m.LogFiles, m.FilesDropped, m.BytesPerLiveByte, files[0])
	}
	if last := plan.Files[len(plan.Files)-1]; last.Kind != "segment" || last.Remove {
		t.Errorf("the plan ends with %+v", last)
	}
	check := func() {
		t.Helper()
		if v, err := ds.Get([]byte("kept")); string(v) != "old" || err != nil {
			t.Errorf("kept is %q, %v", v, err)
		}
		if _, err := ds.Get([]byte("deleted")); !errors.Is(err, dyngo.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		for i := 36; i < 40; i++ {
			if v, err := ds.Get(fmt.Appendf(nil, "fill-%d", i%4)); string(v) != big(200<<10, byte(i)) || err != nil {
				t.Errorf("value %d: %d bytes, %v", i, len(v), err)
			}
		}
	}
	check()
	versions, last := 0, dyngo.Version{}
	for v, err := range ds.History(t.Context(), []byte("fill-0")) {
		if last = v; err != nil || v.AtFloor != (v.LSN <= m.FloorLSN) || len(v.Value) != 200<<10 {
			t.Fatalf("history down to the floor %d: LSN %d, %d bytes, %v", m.FloorLSN, v.LSN, len(v.Value), err)
		}
		versions++
	}
	if versions < 2 || versions >= 10 || !last.AtFloor {
		t.Errorf("history has %d versions, the last is %+v", versions, last.LSN)
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := verifyRest(fs); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, storeDir, bounded(fs, c, 2<<20))
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
		check()
	}
	ro := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true})
	if _, err := dump(ro); err != nil {
		t.Error(err)
	}
	if err := errors.Join(ro.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	// A file that is missing now is missed.
	files, _ = logFiles(t, fs)
	if err := fs.Remove(path.Join(storeDir, "wal", files[0].Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := dyngo.Open(storeDir, bounded(fs, c, 2<<20)); !errors.Is(err, dyngo.ErrCorrupt) {
		t.Errorf("the oldest log file is missing: %v", err)
	}
	if err := verifyRest(fs); !errors.Is(err, dyngo.ErrCorrupt) {
		t.Errorf("Verify of a log without its oldest file: %v", err)
	}
}

// The background drops by itself, when a file was sealed and when events become too old.
func TestRetentionByAge(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	dropped := make(chan uint64, 100)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20,
		Retention: dyngo.Retention{Age: time.Hour},
		Listener:  &dyngo.Listener{FileDropped: func(file uint64, _ int64, _ dyngo.LSN) { dropped <- file }}})
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 12)
	plan, err := db.GCPlan(t.Context())
	if err != nil || plan.Files[0].Remove || plan.Files[0].Reason != "within retention" {
		t.Fatalf("young events: %+v, %v", plan.Files[0], err)
	}
	for range 70 { // the background's timers begin when it gets to them
		c.Advance(time.Minute)
	}
	if plan = mustGC(t, db); plan.FloorLSN == 0 && db.Metrics().FloorLSN == 0 {
		t.Fatalf("old events: %+v", plan.Files[0])
	}
	if got := <-dropped; got != 1 {
		t.Errorf("file %d was dropped first", got)
	}
	fill(t, ds, 12, 12) // seals a file
	c.Advance(2 * time.Hour)
	before := db.Metrics().FilesDropped
	fill(t, ds, 24, 6)
	for db.Metrics().FilesDropped == before { // what was sealed before is old now
		c.Advance(time.Minute)
	}
}

// A large value that is current moves when its log file goes, and stays readable: for who looks, for who has it open, in a
// store that is opened again or for reading only. When nothing refers to it any more, its file goes.
func TestLargeValuesMove(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	var db *dyngo.DB
	var ds *dyngo.Dataset
	reopen := func(keep int64) { // a store that was just opened collects nothing by itself
		t.Helper()
		err := error(nil)
		if db != nil {
			err = db.Close()
		}
		db = mustOpen(t, storeDir, bounded(fs, c, keep))
		if ds, _ = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
	reopen(0)
	defer func() { db.Close() }()
	var err error
	if ds, err = db.CreateDataset("d", inline); err != nil {
		t.Fatal(err)
	}
	large, gone := big(300<<10, 7), big(280<<10, 9)
	for k, v := range map[string]string{"large": large, "gone": gone} {
		if _, err := ds.Put([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, ds, 0, 20)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	reopen(2 << 20)
	before := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true}) // it knows the log files alone
	defer before.Close()
	r, err := ds.Open([]byte("gone"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Delete([]byte("gone")); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 20, 15) // so that it is not current at the floor
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := mustGC(t, db).Files[0]; f.Remove || !strings.HasPrefix(f.Reason, "hold of a reader") {
		t.Fatalf("a reader is open: %+v", f)
	}
	if !slices.ContainsFunc(db.Holds(), func(h dyngo.Hold) bool { return h.Name == "reader" && h.LogFile == 1 }) {
		t.Errorf("holds: %+v", db.Holds())
	}
	if got, err := io.ReadAll(r); string(got) != gone || err != nil {
		t.Errorf("the reader gives %d bytes, %v", len(got), err)
	}
	r.Close()
	reopen(2 << 20)
	plan := mustGC(t, db)
	if f := plan.Files[0]; !f.Remove || !strings.Contains(f.Reason, "307200 bytes of large values stay") || plan.MoveBytes != int64(len(large)) {
		t.Fatalf("%+v, %d bytes move", f, plan.MoveBytes)
	}
	if m := db.Metrics(); m.ValueFiles != 1 || m.ValueBytes < int64(len(large)) || m.ValueBytes > int64(len(large))+1000 {
		t.Errorf("%d value files, %d bytes", m.ValueFiles, m.ValueBytes)
	}
	if files, size := logFiles(t, fs); files[0].Seq == 1 || size > 4<<20 {
		t.Errorf("the log takes %d bytes from file %d on", size, files[0].Seq)
	}
	check := func(db *dyngo.DB) {
		t.Helper()
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		if v, err := ds.Get([]byte("large")); string(v) != large || err != nil {
			t.Fatalf("the large value has %d bytes, %v", len(v), err)
		}
	}
	check(db)
	check(before)
	reopen(1 << 20)
	if err := verifyRest(fs); err != nil {
		t.Fatal(err)
	}
	check(db)
	if r, err = ds.Open([]byte("large")); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Delete([]byte("large")); err != nil {
		t.Fatal(err)
	}
	first, _ := logFiles(t, fs)
	fill(t, ds, 35, 15)
	for range 2 { // the first pass raises the floor, so that a merge can let go of the value
		if err := db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustGC(t, db)
	}
	if files, size := logFiles(t, fs); files[0].Seq <= first[0].Seq || size > 3<<20 { // the reader is of what was moved
		t.Errorf("the log takes %d bytes from file %d on", size, files[0].Seq)
	}
	if got, err := io.ReadAll(r); string(got) != large || err != nil {
		t.Errorf("the reader gives %d bytes, %v", len(got), err)
	}
	if n := valueFiles(t, fs); n != 1 || db.Metrics().ValueFiles != 0 {
		t.Errorf("%d value files while a reader has one open, %d count", n, db.Metrics().ValueFiles)
	}
	r.Close()
	mustGC(t, db)
	if n := valueFiles(t, fs); n != 0 || db.Metrics().ValueFiles != 0 {
		t.Errorf("%d value files", n)
	}
}

// valueFiles counts the value files on disk.
func valueFiles(t *testing.T, fs vfs.FS) (n int) {
	t.Helper()
	names, err := fs.List(path.Join(storeDir, manifest.Dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".val") {
			n++
		}
	}
	return n
}

// A log file of which most is current stays whole, without a copy, until less than three quarters of it are. Small value files become
// one.
func TestValueFilesAreWrittenAnew(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	db := mustOpen(t, storeDir, bounded(fault, c, 0))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	put := func(key string, n int) {
		t.Helper()
		want[key] = big(n, byte(len(want)))
		if _, err := ds.Put([]byte(key), []byte(want[key])); err != nil {
			t.Fatal(err)
		}
	}
	gc := func(files int) dyngo.GCPlan {
		t.Helper()
		plan := mustGC(t, db)
		if err := db.Compact(t.Context()); err != nil { // what was current at the floor before goes
			t.Fatal(err)
		}
		mustGC(t, db)
		if n := valueFiles(t, fault); n != files || db.Metrics().ValueFiles != n {
			t.Fatalf("%d value files, want %d: %+v", n, files, plan)
		}
		for k, v := range want {
			if got, err := ds.Get([]byte(k)); string(got) != v || err != nil {
				t.Fatalf("%s: %d bytes, %v", k, len(got), err)
			}
		}
		return plan
	}
	for i := range 3 { // of 260 KiB, in a file of 1 MiB
		put(fmt.Sprint("whole-", i), 300<<10)
	}
	fill(t, ds, 0, 12)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, bounded(fault, c, 1<<20))
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	written, refused, full := int64(0), 0, false
	fault.OnCall(func(c vfs.Call) error {
		if strings.HasSuffix(c.Name, ".val") && c.Op&vfs.OpWrite != 0 {
			if full {
				refused++
				return vfs.ErrNoSpace
			}
			written++
		}
		return nil
	})
	if plan := gc(1); plan.MoveBytes != 0 || written != 0 {
		t.Fatalf("%d bytes moved, %d writes", plan.MoveBytes, written)
	}
	for i := range 2 {
		key := fmt.Sprint("whole-", i)
		delete(want, key)
		if _, err := ds.Delete([]byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, ds, 12, 12)
	full = true // that waits for room, and is no error
	if gc(1); refused == 0 {
		t.Fatal("nothing was to be written anew while the disk was full")
	}
	full = false
	if gc(1); written == 0 {
		t.Fatal("a value file of which a third is current was not written anew")
	}
	o := *inline
	o.LargeValue = 8 << 10
	filled := ds
	if ds, err = db.CreateDataset("small", &o); err != nil {
		t.Fatal(err)
	}
	want = map[string]string{}
	for i := range 8 {
		put(fmt.Sprint("small-", i), 12<<10)
		fill(t, filled, 4*i, 8)
		gc(2) // that of before, and this
	}
}

// When the disk is full, what can go without moving values goes, and the rest when there is space.
func TestRetentionOnAFullDisk(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	db := mustOpen(t, storeDir, bounded(fault, c, 0))
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 8)
	large := big(300<<10, 3)
	if _, err := ds.Put([]byte("large"), []byte(large)); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 8, 12)
	if err := errors.Join(db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, bounded(fault, c, 1<<20))
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	full.Store(true)
	fault.OnCall(func(c vfs.Call) error {
		if full.Load() && strings.HasSuffix(c.Name, ".val") && c.Op&vfs.OpWrite != 0 {
			return vfs.ErrNoSpace
		}
		return nil
	})
	plan, err := db.GC(t.Context())
	if !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("the disk is full: %v", err)
	}
	i := slices.IndexFunc(plan.Files, func(f dyngo.GCFile) bool { return !f.Remove })
	if f := plan.Files[i]; i != 1 || !strings.Contains(f.Reason, "no space") || plan.MoveBytes != 0 || plan.FloorLSN != f.FirstLSN-1 {
		t.Fatalf("file %d: %+v, floor %d, %d bytes move", i, f, plan.FloorLSN, plan.MoveBytes)
	}
	if files, _ := logFiles(t, fault); files[0].Seq != 2 || valueFiles(t, fault) != 0 {
		t.Fatalf("the log begins with file %d", files[0].Seq)
	}
	full.Store(false)
	mustGC(t, db)
	if files, size := logFiles(t, fault); size > 3<<20 || valueFiles(t, fault) != 1 {
		t.Fatalf("the log takes %d bytes from file %d on", size, files[0].Seq)
	}
	if v, err := ds.Get([]byte("large")); string(v) != large || err != nil {
		t.Fatalf("the large value has %d bytes, %v", len(v), err)
	}
}

// When there is room for little only, value files stay as they are and log files go one by one, until there is more.
func TestRetentionOnANearlyFullDisk(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	db := mustOpen(t, storeDir, bounded(fault, c, 0))
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	put := func(key string, n int) {
		t.Helper()
		want[key] = big(n, byte(len(want)))
		if _, err := ds.Put([]byte(key), []byte(want[key])); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		put(fmt.Sprint("whole-", i), 300<<10)
	}
	fill(t, ds, 0, 12)
	reopen := func(retain int64) {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, storeDir, bounded(fault, c, retain))
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { db.Close() }()
	reopen(1 << 20)
	mustGC(t, db) // their log file is a value file now
	var mu sync.Mutex
	room, refused := map[string]int{}, 0
	full := true
	fault.OnCall(func(c vfs.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if !full || !strings.HasSuffix(c.Name, ".val") || c.Op&vfs.OpWrite == 0 {
			return nil
		}
		if room[c.Name] += c.Len; room[c.Name] > 290<<10 { // for the value of one log file, nothing more
			refused++
			return vfs.ErrNoSpace
		}
		return nil
	})
	reopen(0)
	for i := range 2 { // of which a third is current
		key := fmt.Sprint("whole-", i)
		delete(want, key)
		if _, err := ds.Delete([]byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		put(fmt.Sprint("large-", i), 280<<10)
		fill(t, ds, 4*i, 8)
	}
	mustFlush(t, db)
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, size := logFiles(t, fault)
	for files := before; size > 3<<20; {
		reopen(1 << 20)
		if _, err := db.GC(t.Context()); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			t.Fatal(err)
		}
		first := files[0].Seq
		if files, size = logFiles(t, fault); files[0].Seq == first {
			t.Fatalf("log file %d does not go; the first was %d, %d writes were refused", first, before[0].Seq, refused)
		}
	}
	mu.Lock()
	full = false
	mu.Unlock()
	if refused == 0 {
		t.Error("there was room for all")
	}
	for k, v := range want {
		if got, err := ds.Get([]byte(k)); string(got) != v || err != nil {
			t.Errorf("%s: %d bytes, %v", k, len(got), err)
		}
	}
}

// Log files are in the archive before they go; one that can't be archived stays.
func TestArchive(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	reopen := func(db *dyngo.DB, o *dyngo.Options) *dyngo.DB {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return mustOpen(t, storeDir, o)
	}
	db := mustOpen(t, storeDir, bounded(fault, c, 0))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 25)
	before, _ := logFiles(t, fault)
	o := bounded(fault, c, 3<<20)
	o.Archive = archiveDir
	db = reopen(db, o)
	fault.Inject(vfs.Plan{Ops: vfs.OpRename, Name: archiveDir + "/*", Count: -1})
	if _, err := db.GC(t.Context()); err == nil || !strings.Contains(err.Error(), "archive") {
		t.Fatalf("nothing can be archived: %v", err)
	}
	if files, _ := logFiles(t, fault); len(files) != len(before) || db.Metrics().FilesArchived != 0 {
		t.Fatalf("%d log files, there were %d", len(files), len(before))
	}
	fault.Heal()
	mustGC(t, db)
	files, _ := logFiles(t, fault)
	if m := db.Metrics(); files[0].Seq < 2 || m.FilesArchived != int64(files[0].Seq-1) || m.FilesDropped != m.FilesArchived {
		t.Errorf("the log begins with file %d, %d files were archived", files[0].Seq, m.FilesArchived)
	}
	if err := verifyArchive(fault); err != nil {
		t.Fatal(err)
	}
	// What lies there already is used if it is sound, and replaced if not; that of another store is left alone.
	names := []string{wal.ArchivedName(files[0].Name), wal.ArchivedName(files[1].Name)}
	for i, content := range []string{"not an archived file", "not one either"} {
		if err := vfs.WriteFileSync(fault, path.Join(archiveDir, names[i]), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	o.Retention.Bytes = 1 << 20
	db = reopen(db, o)
	mustGC(t, db)
	if err := verifyArchive(fault); err != nil {
		t.Fatal(err)
	}
	other := bounded(vfs.NewMem(), c, 0)
	foreign := mustOpen(t, storeDir, other)
	if ds, err = foreign.CreateDataset("d", inline); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 25)
	other.Retention.Bytes, other.Archive = 1<<20, "/shared"
	foreign = reopen(foreign, other)
	defer func() { foreign.Close() }()
	names, err = fault.List(archiveDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.FS.MkdirAll("/shared"); err != nil {
		t.Fatal(err)
	}
	b, err := fault.ReadFile(path.Join(archiveDir, names[0]), 1<<30)
	if err := errors.Join(err, vfs.WriteFileSync(other.FS, path.Join("/shared", names[0]), b)); err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.GC(t.Context()); err == nil || !strings.Contains(err.Error(), "of another store") {
		t.Errorf("the archive has a file of another store: %v", err)
	}
}

// A store that was restored has log files of the same names as its source. Whichever comes second to a shared archive is refused, and
// what the first one has there stays.
func TestArchiveOfAnotherTimeline(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, bounded(fs, c, 0))
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 3)
	at := db.LSN()
	fill(t, ds, 3, 25)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	const copied = "/copied"
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, copied, dyngo.AtLSN(at), &dyngo.RestoreOptions{FS: fs, Clock: c}); err != nil {
		t.Fatal(err)
	}
	collect := func(dir string) error {
		t.Helper()
		o := bounded(fs, c, 1<<20)
		o.Archive = archiveDir
		db := mustOpen(t, dir, o)
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		fill(t, ds, 100, 125)
		_, gcErr := db.GC(t.Context())
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return gcErr
	}
	if err := collect(storeDir); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List(archiveDir)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	name := path.Join(archiveDir, names[0])
	before, err := fs.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if err := collect(copied); err == nil || !strings.Contains(err.Error(), "another timeline") || !strings.Contains(err.Error(), name) ||
		!strings.Contains(err.Error(), copied+"/wal/") {
		t.Errorf("the archive has a file of another timeline: %v", err)
	}
	if after, err := fs.ReadFile(name, 1<<30); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%s had %d bytes, it has %d, %v", name, len(before), len(after), err)
	}
}

// What is written ahead of its commit is not dropped before the commit, and not after it while memory, a scan or recovery
// needs it.
func TestWritesInFlightKeepTheirLogFile(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	o := bounded(fs, c, 0)
	o.MemoryBudget = 64 << 20
	db := mustOpen(t, storeDir, o)
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	spill := func(prefix string) *dyngo.Batch { // 12 MB: it is written ahead
		b := db.NewBatch()
		for i := range 60 {
			k := fmt.Sprint(prefix, i)
			want[k] = big(200<<10, byte(i))
			b.Put(ds, []byte(k), []byte(want[k]))
		}
		want[prefix+"large"] = big(300<<10, 1)
		b.Put(ds, []byte(prefix+"large"), []byte(want[prefix+"large"]))
		return b
	}
	check := func() {
		t.Helper()
		for k, v := range want {
			if got, err := ds.Get([]byte(k)); string(got) != v || err != nil {
				t.Fatalf("%s: %d bytes, %v", k, len(got), err)
			}
		}
	}
	blocked := func(prefix string) {
		t.Helper()
		plan := mustGC(t, db)
		i := slices.IndexFunc(plan.Files, func(f dyngo.GCFile) bool { return !f.Remove })
		if f := plan.Files[i]; !strings.HasPrefix(f.Reason, prefix) {
			t.Fatalf("%+v, want %q", f, prefix)
		}
	}
	if _, err := spill("spilled-").Commit(); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 12)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o.Retention.Bytes = 1 << 20
	db = mustOpen(t, storeDir, o)
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if plan, err := db.GCPlan(t.Context()); err != nil || plan.Files[0].Reason != "segments have events up to LSN 0 only" {
		t.Fatalf("the batch is only in the log: %+v, %v", plan.Files[0], err)
	}
	next, stop := pull(ds)
	if p, ok := next(); !ok || p.err != nil {
		t.Fatal(p.err)
	}
	blocked("hold of a reader") // the scan has copied where values lie; memory has let go of them
	if p, ok := next(); !ok || p.err != nil || string(p.kv.Value) != want[string(p.kv.Key)] {
		t.Fatalf("%s has %d bytes, %v", p.kv.Key, len(p.kv.Value), p.err)
	}
	stop()
	blocked("within retention")
	check()
	before, _ := logFiles(t, fs)
	b := spill("again-")
	fill(t, ds, 12, 12)
	blocked("hold of a write")
	if files, _ := logFiles(t, fs); before[0].Seq == 1 || files[len(files)-1].Seq < before[len(before)-1].Seq+10 {
		t.Fatalf("the log went from %+v to %+v: the test tests nothing", before, files)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	check()
	fill(t, ds, 24, 12)
	blocked("within retention")
	check()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := verifyRest(fs); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, o)
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	check()
}

type pulled struct {
	kv  dyngo.KV
	err error
}

// pull reads a scan step by step.
func pull(ds *dyngo.Dataset) (next func() (pulled, bool), stop func()) {
	steps, more, done := make(chan pulled), make(chan bool), make(chan struct{})
	go func() {
		defer close(done)
		defer close(steps)
		if !<-more {
			return
		}
		for kv, err := range ds.Scan(dyngo.Range{From: []byte("spilled"), To: []byte("spilled-z")}) {
			kv.Key, kv.Value = bytes.Clone(kv.Key), bytes.Clone(kv.Value)
			steps <- pulled{kv, err}
			if !<-more {
				return
			}
		}
	}()
	return func() (pulled, bool) { more <- true; p, ok := <-steps; return p, ok }, func() { more <- false; <-done }
}

// A batch whose pieces are gone says so; it never refers to what is not there.
func TestCommitAgainAfterItsPiecesWereDropped(t *testing.T) {
	db := mustOpen(t, storeDir, bounded(vfs.NewMem(), manualClock(), 1<<20))
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	b.Put(ds, []byte("k"), []byte(big(300<<10, 1)))
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Delete([]byte("k")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatalf("commit again: %v", err)
	}
	if _, err := ds.Delete([]byte("k")); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 20)
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustGC(t, db)
	if _, err := b.Commit(); err == nil || !strings.Contains(err.Error(), "retention has dropped") {
		t.Fatalf("commit again after the drop: %v", err)
	}
	if ok, err := ds.Has([]byte("k")); ok || err != nil {
		t.Fatalf("k is there: %v, %v", ok, err)
	}
}

// Without limits nothing goes, and Open warns.
func TestRetentionKeepsEverythingByDefault(t *testing.T) {
	fs := vfs.NewMem()
	o := bounded(fs, manualClock(), 0)
	warned := &logged{}
	o.Logger = slog.New(slog.NewTextHandler(warned, nil))
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 20)
	if f := mustGC(t, db).Files[0]; f.Remove || f.Reason != "retention keeps everything" {
		t.Errorf("%+v", f)
	}
	if !strings.Contains(warned.String(), "kept for ever") {
		t.Errorf("logged was %q", warned.String())
	}
	for _, bad := range []dyngo.Retention{{Age: -1}, {Bytes: -1}} {
		if _, err := dyngo.Open(storeDir, &dyngo.Options{InMemory: true, Retention: bad}); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A pass drops a few files and makes that durable before the next: what fails later takes nothing of it back.
func TestRetentionKeepsWhatItHasDone(t *testing.T) {
	mem, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, bounded(mem, c, 0))
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 90)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := logFiles(t, mem)

	fs := vfs.NewFault(mem)
	broken := errors.New("broken")
	fs.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpCreate && vfs.Match(archiveDir+"/0000000011-*", c.Name) {
			return broken
		}
		return nil
	})
	o := bounded(fs, c, 1)
	o.Archive = archiveDir
	db = mustOpen(t, storeDir, o)
	if _, err := db.GC(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("gc with an archive that fails: %v", err)
	}
	if oldest, err := oldestLog(fs); oldest < 2 || oldest > 11 || err != nil {
		t.Fatalf("the log begins with file %d, %v", oldest, err)
	}
	fs.OnCall(nil)
	oldest, _ := logFiles(t, mem)
	plan := mustGC(t, db)
	rest, _ := logFiles(t, mem)
	if len(before) < 16 || len(rest) != 1 {
		t.Fatalf("%d of %d log files are left", len(rest), len(before))
	}
	var gone []dyngo.GCFile
	for _, f := range plan.Files {
		if f.Kind == "log" && f.Remove {
			gone = append(gone, f)
		}
	}
	bytes := int64(0)
	for i, f := range gone {
		if bytes += f.Bytes; f.File != "wal/"+oldest[i].Name {
			t.Errorf("file %d in the plan is %s, on disk it was %s", i, f.File, oldest[i].Name)
		}
	}
	if len(gone) != len(oldest)-1 || plan.RemoveBytes != bytes || plan.FloorLSN != rest[0].FirstLSN-1 {
		t.Errorf("of %d files %d went, with %d bytes; the plan says %d, floor %d", len(oldest), len(gone), bytes, plan.RemoveBytes, plan.FloorLSN)
	}
	if err := errors.Join(db.Close(), verifyRest(mem), verifyArchive(mem)); err != nil {
		t.Fatal(err)
	}
}

// Log files that were dropped don't come back with a power loss: a manifest that is lost then is made anew from the files that are there.
func TestDroppedLogFilesStayGone(t *testing.T) {
	crash := vfs.NewCrash(1)
	db := mustOpen(t, storeDir, bounded(crash, manualClock(), 1<<20))
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := wal.ListFiles(crash, storeDir+"/wal")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 60)
	mustGC(t, db)
	files, err := wal.ListFiles(crash, storeDir+"/wal")
	if err != nil || files[0].Seq <= before[0].Seq+1 {
		t.Fatalf("files %v, %v: the test tests nothing", files, err)
	}
	if err := errors.Join(droppedStay(crash), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// droppedStay returns an error if log files before those that are there come back with a power loss.
func droppedStay(crash *vfs.Crash) error {
	files, err := wal.ListFiles(crash, storeDir+"/wal")
	if err != nil {
		return err
	}
	after, err := wal.ListFiles(crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), storeDir+"/wal")
	if err == nil && len(files) > 0 && len(after) > 0 && after[0].Seq < files[0].Seq {
		err = fmt.Errorf("after a power loss the log begins with %v, it began with %v", after[0], files[0])
	}
	return err
}
