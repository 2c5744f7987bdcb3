package dyngo_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	db := mustOpen(t, dir, nil)
	defer db.Close()
	_, err := dyngo.Open(dir, nil)
	var locked *dyngo.LockedError
	if !errors.Is(err, dyngo.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("second Open: %v", err)
	}
	ro := mustOpen(t, dir, &dyngo.Options{ReadOnly: true})
	defer ro.Close()
	if _, err := ro.CreateDataset("x", nil); !errors.Is(err, dyngo.ErrReadOnly) {
		t.Fatalf("write to a read-only store: %v", err)
	}
}

func TestReadOnlyOpenOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := dyngo.Open(dir, &dyngo.Options{ReadOnly: true}); !errors.Is(err, dyngo.ErrNoStore) {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatal("a read-only Open created something")
	}
}

// Opening without writing changes no byte of a file, after a crash neither. The owner may write what is there over itself.
func TestOpenWithoutWritingChangesNothing(t *testing.T) {
	crash := vfs.NewCrash(1)
	r, err := newRig(crash)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.create("d", nil), r.put("d", "k", "v")); err != nil {
		t.Fatal(err)
	}
	left := crash.KillProcess()
	r.db.Close()
	content := func() map[string]string {
		all := map[string]string{}
		for _, dir := range []string{storeDir + "/wal", storeDir + "/manifest", storeDir + "/segments"} {
			names, err := left.List(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			for _, name := range names {
				b, err := left.ReadFile(dir+"/"+name, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				all[dir+"/"+name] = string(b)
			}
		}
		return all
	}
	before := content()
	if len(before) == 0 {
		t.Fatal("there are no files")
	}
	fault := vfs.NewFault(left)
	for _, readOnly := range []bool{true, false} {
		forbidden := vfs.OpCreate | vfs.OpRename | vfs.OpRemove | vfs.OpTruncate
		if readOnly {
			forbidden |= vfs.OpWrite
		}
		fault.OnCall(func(c vfs.Call) error {
			if c.Op&forbidden != 0 && !strings.HasSuffix(c.Name, "LOCK") {
				t.Errorf("open (read-only: %v) changes the disk: %s", readOnly, c)
			}
			return nil
		})
		o := options(fault, manualClock())
		o.ReadOnly = readOnly
		db := mustOpen(t, storeDir, o)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(content(), before) {
			t.Errorf("open (read-only: %v) changes files", readOnly)
		}
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db := mustOpen(t, storeDir, options(fault, manualClock()))
	defer db.Close()
	fault.Inject(vfs.Plan{Ops: vfs.OpCreate | vfs.OpOpenRW, Count: -1, Err: os.ErrPermission})
	if _, err := db.CreateDataset("d", nil); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), storeDir) {
		t.Fatalf("write into a directory that can't be written: %v", err)
	}
	fault.Heal()
	if _, err := db.CreateDataset("d", nil); err != nil {
		t.Fatalf("after the directory can be written: %v", err)
	}
}

// After a failed sync nothing is acknowledged, callers in flight learn that their outcome is unknown, reads go on.
func TestFailedSync(t *testing.T) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	told := make(chan error, 1)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, Listener: &dyngo.Listener{LogFailed: func(err error) { told <- err }}})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("k"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	fault.Inject(vfs.Plan{Kind: vfs.FailSync})
	if _, err := ds.Put([]byte("k"), []byte("2")); !errors.Is(err, dyngo.ErrOutcomeUnknown) {
		t.Fatalf("the put whose sync failed: %v", err)
	}
	if _, err := ds.Put([]byte("k"), []byte("3")); !errors.Is(err, dyngo.ErrLogFailed) {
		t.Fatalf("a put after the failure: %v", err)
	}
	if err := <-told; err == nil {
		t.Error("the listener was told of no error")
	}
	if v, err := ds.Get([]byte("k")); err != nil || string(v) != "1" {
		t.Fatalf("a read after the failure sees %q, %v: not what was durable", v, err)
	}
	if err := db.WaitDurable(context.Background(), db.LSN()); !errors.Is(err, dyngo.ErrOutcomeUnknown) {
		t.Fatalf("WaitDurable after the failure: %v", err)
	}
	if err := db.Close(); err == nil {
		t.Fatal("Close after the failure returns nil")
	}
	db = mustOpen(t, storeDir, &dyngo.Options{FS: crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})})
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if v, err := ds.Get([]byte("k")); err != nil || string(v) != "1" {
		t.Fatalf("after reopening: %q, %v", v, err)
	}
}

func TestLimits(t *testing.T) {
	db := mustOpen(t, storeDir, &dyngo.Options{InMemory: true, MemoryBudget: 8 << 20})
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	long := make([]byte, dyngo.MaxKeyBytes+1)
	batch := db.NewBatch()
	batch.Put(ds, nil, nil)
	for name, err := range map[string]error{
		"empty key":         second(ds.Put(nil, nil)),
		"long key":          second(ds.Put(long, nil)),
		"long key in get":   second(ds.Get(long)),
		"empty key in get":  second(ds.Get(nil)),
		"large value":       second(ds.Put([]byte("k"), make([]byte, 2<<20+1))),
		"reader too large":  second(ds.PutReader([]byte("k"), dyngo.MaxValueBytes+1, nil)),
		"reader negative":   second(ds.PutReader([]byte("k"), -1, nil)),
		"long range":        second(ds.DeleteRange(long, nil)),
		"batch":             second(batch.Commit()),
		"name empty":        second(db.CreateDataset("", nil)),
		"name long":         second(db.CreateDataset(strings.Repeat("n", 256), nil)),
		"name not text":     second(db.CreateDataset("a\x00b", nil)),
		"name not UTF-8":    second(db.CreateDataset("a\xff", nil)),
		"large value small": second(db.CreateDataset("x", &dyngo.DatasetOptions{LargeValue: 1})),
		"ttl negative":      second(db.CreateDataset("x", &dyngo.DatasetOptions{TTL: -1})),
		"consistency":       second(db.CreateDataset("x", &dyngo.DatasetOptions{Consistency: 9})),
		"compression":       second(db.CreateDataset("x", &dyngo.DatasetOptions{Compression: 9})),
		"budget":            second(dyngo.Open(storeDir, &dyngo.Options{InMemory: true, MemoryBudget: 1})),
		"reason":            second(ds.PutWith([]byte("k"), nil, dyngo.WriteOptions{Reason: strings.Repeat("r", dyngo.MaxAnnotation+1)})),
		"correlation":       second(ds.PutWith([]byte("k"), nil, dyngo.WriteOptions{Correlation: strings.Repeat("c", dyngo.MaxAnnotation+1)})),
		"ack":               second(ds.PutWith([]byte("k"), nil, dyngo.WriteOptions{Ack: 9})),
	} {
		if !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	key := make([]byte, dyngo.MaxKeyBytes)
	if _, err := ds.Put(key, []byte("longest")); err != nil {
		t.Error(err)
	}
	if v, err := ds.Get(key); err != nil || string(v) != "longest" {
		t.Errorf("longest key: %q, %v", v, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestExpiry(t *testing.T) {
	c := manualClock()
	type told struct {
		key  string
		late time.Duration
	}
	heard := make(chan told, 10)
	fs := vfs.NewMem()
	listener := &dyngo.Listener{Expired: func(_ string, key []byte, _ dyngo.LSN, _ time.Time, late time.Duration) {
		heard <- told{string(key), late}
	}}
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, Listener: listener})
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, ttl time.Duration) {
		t.Helper()
		if _, err := ds.PutWith([]byte(key), []byte(key), dyngo.WriteOptions{TTL: ttl}); err != nil {
			t.Fatal(err)
		}
	}
	put("second", time.Second)
	put("hour", 0)
	put("past", -time.Second)
	put("superseded", time.Second)
	put("superseded", time.Hour)
	has := func(key string, want bool) {
		t.Helper()
		if ok, err := ds.Has([]byte(key)); ok != want || err != nil {
			t.Fatalf("Has(%s) = %v, %v, want %v", key, ok, err, want)
		}
	}
	has("past", false)
	if h := <-heard; h.key != "past" {
		t.Fatalf("expired %v", h)
	}
	has("second", true)
	c.Advance(time.Second - 1)
	has("second", true)
	c.Advance(1)
	has("second", false) // exactly when due, whether the event was logged or not
	has("superseded", true)
	if h := <-heard; h.key != "second" || h.late > time.Millisecond {
		t.Fatalf("expired %v", h)
	}
	if _, err := ds.PutIf([]byte("second"), []byte("again"), 0); err != nil {
		t.Fatalf("PutIf of an expired key as absent: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c = clock.NewManual(time.Unix(0, c.Now()).Add(3 * time.Hour))
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, Listener: listener})
	defer db.Close()
	late := map[string]time.Duration{}
	for range 3 {
		h := <-heard
		late[h.key] = h.late
	}
	if late["hour"] < 2*time.Hour-time.Minute || len(late) != 3 {
		t.Fatalf("overdue at Open: %v", late)
	}
}

func TestClockJumps(t *testing.T) {
	c := manualClock()
	fs := vfs.NewMem()
	heard := make(chan time.Duration, 4)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, Listener: &dyngo.Listener{ClockJumped: func(d time.Duration) { heard <- d }}})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for i, jump := range []time.Duration{0, time.Hour, -3 * time.Hour, 0} {
		c.Jump(jump)
		c.Advance(time.Millisecond)
		if _, err := ds.Put([]byte("k"), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if jump != 0 {
			if d := <-heard; d.Round(time.Second) != jump {
				t.Fatalf("told of a jump by %v, it was %v", d, jump)
			}
		}
		kv, err := ds.Lookup([]byte("k"))
		if err != nil || !kv.Time.After(last) || kv.Time.Sub(time.Unix(0, epochNs)) > time.Second {
			t.Fatalf("log time %v after %v, jump %v, %v", kv.Time, last, jump, err)
		}
		last = kv.Time
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Started again with a clock that is a day behind: log time goes on.
	c = clock.NewManual(time.Unix(0, epochNs).Add(-24 * time.Hour))
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c})
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	if kv, err := ds.Lookup([]byte("k")); err != nil || !kv.Time.After(last) {
		t.Fatalf("log time went back from %v to %v, %v", last, kv.Time, err)
	}
}

// Both a store and a copy of its files taken while it was open go on by themselves.
func TestCopyBesideTheOriginal(t *testing.T) {
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	db := mustOpen(t, dir, nil)
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("k"), []byte("both")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	other := mustOpen(t, copied, nil)
	defer other.Close()
	od, err := other.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := od.Put([]byte("k"), []byte("copy")); err != nil {
		t.Fatal(err)
	}
	if v, err := ds.Get([]byte("k")); string(v) != "both" || err != nil {
		t.Fatalf("the original has %q, %v", v, err)
	}
	if v, err := od.Get([]byte("k")); string(v) != "copy" || err != nil {
		t.Fatalf("the copy has %q, %v", v, err)
	}
}

// Any damaged byte of a closed store's log is an error that names the file, of Open, of a read or of verification: never a
// wrong value, never a panic.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	mem := vfs.NewCrash(1)
	r, err := newRig(mem)
	if err != nil {
		t.Fatal(err)
	}
	if err := runScript(r); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List(storeDir + "/wal")
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		fs := mem.KillProcess()
		name := storeDir + "/wal/" + names[rng.IntN(len(names))]
		f, err := fs.OpenRW(name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		off, b := rng.Int64N(size), []byte{0}
		if rng.IntN(2) == 0 {
			off = rng.Int64N(min(size, 8<<10)) // headers are small but matter most
		}
		f.ReadAt(b, off)
		b[0] ^= 1 << rng.IntN(8)
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
		f.Close()
		db, err := dyngo.Open(storeDir, options(fs, r.clock))
		if err == nil { // the file is not read when segments hold its events
			err = r.m.check(db, db.Recovery().LastLSN, r.clock.Now())
			db.Close()
			if verr := verify(fs); err == nil {
				err = verr
			} else if verr == nil {
				t.Fatalf("byte %d of %s is flipped, which a read notices and verification does not: %v", off, name, err)
			}
		}
		var damage *dyngo.CorruptionError
		if !errors.As(err, &damage) || damage.File == "" {
			t.Fatalf("byte %d of %s: %v", off, name, err)
		}
	}
}
