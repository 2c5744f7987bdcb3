package dyngo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A store is set back to a state of its past when it is opened, once: the option may stay. What it was stays as a snapshot.
func TestRecoverTo(t *testing.T) {
	start := time.Unix(0, epochNs)
	for _, tc := range []struct {
		target dyngo.Target
		want   string
	}{
		{dyngo.AtLSN(4), "1"},
		{dyngo.AtTime(start.Add(2 * time.Second)), "1"},
		{dyngo.AtTime(start.Add(3 * time.Second)), "2"},
		{dyngo.BeforeTx(5), "1"},
		{dyngo.AfterTx(5), "2"},
		{dyngo.AtSnapshot("snap"), "2"},
		{dyngo.AtEnd(), "3"},
	} {
		t.Run(tc.target.String(), func(t *testing.T) {
			fs, c := vfs.NewMem(), manualClock()
			o := &dyngo.Options{FS: fs, Clock: c}
			db := mustOpen(t, storeDir, o)
			ds, err := db.CreateDataset("d", nil) // 2
			if err != nil {
				t.Fatal(err)
			}
			put := func(value string) {
				t.Helper()
				if _, err := ds.Put([]byte("k"), []byte(value)); err != nil {
					t.Fatal(err)
				}
			}
			c.Advance(time.Second)
			put("0") // 3
			c.Advance(time.Second)
			put("1") // 4
			c.Advance(time.Second)
			put("2") // 5
			c.Advance(time.Second)
			mustSnapshot(t, db, "snap") // 6
			put("3")                    // 7
			old, err := db.Token(7)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			o.RecoverTo = tc.target
			for i := range 3 {
				db = mustOpen(t, storeDir, o)
				if ds, err = db.Dataset("d"); err != nil {
					t.Fatal(err)
				}
				want := tc.want
				if i > 0 {
					want = fmt.Sprint("new ", i-1)
				}
				if got, err := ds.Get([]byte("k")); err != nil || string(got) != want {
					t.Errorf("opened %d times: %q, %v, want %q", i+1, got, err, want)
				}
				put(fmt.Sprint("new ", i))
				names, err := snapshotNames(db)
				if n := 2 - len(names); err != nil || n != 0 && tc.target != dyngo.AtEnd() {
					t.Errorf("opened %d times: snapshots %q, %v", i+1, names, err)
				}
				err = db.CheckToken(old)
				var stale *dyngo.TimelineError
				switch {
				case tc.target == dyngo.AtEnd():
					if err != nil {
						t.Errorf("nothing was set back, but the token: %v", err)
					}
				case !errors.As(err, &stale) || !stale.Known || stale.Fork < 4 || stale.Fork > 5:
					t.Errorf("the old token: %v", err)
				default:
					old := old
					if old.LSN = stale.Fork; db.CheckToken(old) != nil {
						t.Errorf("a token from before the fork: %v", db.CheckToken(old))
					}
					got, err := dumpSnapshot(fs, c, storeDir+"/snapshots/"+names[slices.IndexFunc(names, func(n string) bool { return n != "snap" })])
					if err := errors.Join(err, differ(map[string]map[string]string{"d": {"k": "3"}}, got)); err != nil {
						t.Errorf("what was kept: %v", err)
					}
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				c.Advance(time.Second)
			}
			if err := verify(fs); err != nil {
				t.Error(err)
			}
			left, err := fs.List(storeDir)
			left = slices.DeleteFunc(left, func(s string) bool { return !strings.HasPrefix(strings.ToLower(s), "recover") })
			if err != nil || !slices.Equal(left, []string{"RECOVERED-TO"}) {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

// recoverRig is a store that holds n keys, k0 at LSN 3 and so on, and is closed.
func recoverRig(t *testing.T, fs vfs.FS, n int) {
	t.Helper()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := ds.Put(fmt.Append(nil, "k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// openedWith opens the store, has it checked for keys of dataset d, has f change it, and closes it.
func openedWith(t *testing.T, o *dyngo.Options, keys int, f func(db *dyngo.DB, ds *dyngo.Dataset) error) {
	t.Helper()
	db := mustOpen(t, storeDir, o)
	got, err := dump(db)
	if err == nil && len(got["d"]) != keys {
		err = fmt.Errorf("%d keys, want %d", len(got["d"]), keys)
	}
	var ds *dyngo.Dataset
	if err == nil {
		ds, err = db.Dataset("d")
	}
	if err == nil && f != nil {
		err = f(db, ds)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("opened to %v: %v", o.RecoverTo, err)
	}
}

func putNew(_ *dyngo.DB, ds *dyngo.Dataset) error {
	_, err := ds.Put([]byte("new"), []byte("v"))
	return err
}

// A target at which there was nothing to undo counts as done: what is written afterwards stays, also when power fails then.
func TestRecoverToOfTheNewestStateIsDoneOnce(t *testing.T) {
	for _, target := range []dyngo.Target{dyngo.AtLSN(7), dyngo.AfterTx(7), dyngo.AtEnd()} {
		fs := vfs.NewCrash(1)
		recoverRig(t, fs, 5)
		o := &dyngo.Options{FS: fs, RecoverTo: target}
		openedWith(t, o, 5, putNew)
		o.FS = fs.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
		openedWith(t, o, 6, nil)
	}
	fs := vfs.NewCrash(1)
	o := &dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(3)} // of a store that is not there yet
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", nil)
	for i := 0; i < 5 && err == nil; i++ {
		_, err = ds.Put(fmt.Append(nil, "k", i), []byte("v"))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	o.FS = fs.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
	openedWith(t, o, 5, nil)
}

// The option may stay when its target has gone: with the snapshot that it names, or with the log files of that time.
func TestRecoverToOutlivesItsTarget(t *testing.T) {
	t.Run("snapshot", func(t *testing.T) {
		fs := vfs.NewMem()
		recoverRig(t, fs, 3)
		openedWith(t, &dyngo.Options{FS: fs}, 3, func(db *dyngo.DB, ds *dyngo.Dataset) error {
			mustSnapshot(t, db, "snap")
			return putNew(db, ds)
		})
		o := &dyngo.Options{FS: fs, RecoverTo: dyngo.AtSnapshot("snap")}
		openedWith(t, o, 3, func(db *dyngo.DB, ds *dyngo.Dataset) error {
			return errors.Join(db.DropSnapshot("snap"), putNew(db, ds))
		})
		openedWith(t, o, 4, nil)
	})
	t.Run("retention", func(t *testing.T) {
		fs := vfs.NewMem()
		recoverRig(t, fs, 20)
		o := &dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(12), LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 1 << 20}}
		openedWith(t, o, 10, func(db *dyngo.DB, ds *dyngo.Dataset) error {
			for i := range 100 {
				if _, err := ds.Put([]byte("large"), []byte(strings.Repeat(fmt.Sprint(i), 20000))); err != nil {
					return err
				}
			}
			if _, err := db.GC(t.Context()); err != nil {
				return err
			}
			if v, err := db.ViewAt(t.Context(), dyngo.AtLSN(12)); !errors.Is(err, dyngo.ErrOutsideWindow) {
				return errors.Join(fmt.Errorf("the target is still there: %w", err), v.Close())
			}
			return nil
		})
		openedWith(t, o, 11, nil)
	})
}

// Another target is another recovery, also one that was the target before.
func TestRecoverToAnotherTarget(t *testing.T) {
	fs := vfs.NewMem()
	recoverRig(t, fs, 20)
	for i, lsn := range []dyngo.LSN{12, 17, 12} {
		o := &dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(lsn)}
		keys := []int{10, 10 + 2, 10}[i] // LSN 13 to 15 are the fork and sessions, 16 and 17 are puts
		openedWith(t, o, keys, func(_ *dyngo.DB, ds *dyngo.Dataset) (err error) {
			for j := 0; j < 10 && err == nil; j++ {
				_, err = ds.Put(fmt.Append(nil, "new", lsn, j), []byte("v"))
			}
			return err
		})
		openedWith(t, o, keys+10, nil)
	}
}

// What says that a recovery was done is checked: damage is an error for who wants one, not for others.
func TestRecoverToWithADamagedRecord(t *testing.T) {
	fs := vfs.NewMem()
	recoverRig(t, fs, 5)
	o := &dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(5)}
	openedWith(t, o, 3, putNew)
	name := storeDir + "/RECOVERED-TO"
	good, err := fs.ReadFile(name, 4096)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(good), "LSN 5", "LSN 6", 1)
	for _, bad := range []string{"", "x", string(good[:len(good)-1]), other, strings.Repeat("x", 5000)} {
		if err := vfs.WriteFileSync(fs, name, []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if _, err := dyngo.Open(storeDir, o); !errors.Is(err, dyngo.ErrCorrupt) {
			t.Errorf("%.40q: %v", bad, err)
		}
		openedWith(t, &dyngo.Options{FS: fs}, 4, nil)
	}
	if err := vfs.WriteFileSync(fs, name, []byte("dyngo recovered 2\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := dyngo.Open(storeDir, o); !errors.Is(err, dyngo.ErrUnsupported) {
		t.Errorf("of a later version: %v", err)
	}
	if err := fs.Remove(name); err != nil { // has the store set back again
		t.Fatal(err)
	}
	openedWith(t, o, 3, nil)
}

// A snapshot may have the name that what a store was is kept under; it stays. What a crash has left of one is no hindrance.
func TestRecoverToFindsAFreeName(t *testing.T) {
	fs := vfs.NewMem()
	recoverRig(t, fs, 5)
	var name string
	openedWith(t, &dyngo.Options{FS: fs}, 5, func(db *dyngo.DB, _ *dyngo.Dataset) error {
		token, err := db.Token(0)
		name = fmt.Sprintf("timeline-%x-%d", token.Timeline[:4], db.LSN()+2) // after the session and the snapshot
		mustSnapshot(t, db, name)
		return err
	})
	left := storeDir + "/snapshots/.tmp-" + name + "/wal"
	if err := errors.Join(fs.MkdirAll(left), vfs.WriteFileSync(fs, left+"/x", nil)); err != nil {
		t.Fatal(err)
	}
	openedWith(t, &dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(5)}, 3, func(db *dyngo.DB, _ *dyngo.Dataset) error {
		names, err := snapshotNames(db)
		if err == nil && !slices.Equal(names, []string{name, name + "-2"}) {
			err = fmt.Errorf("snapshots %q", names)
		}
		return err
	})
}

// A store with a hash tree has one after it was set back, too.
func TestRecoverToKeepsATree(t *testing.T) {
	fs := vfs.NewMem()
	openedWithTree := func(o *dyngo.Options) {
		t.Helper()
		db := mustOpen(t, storeDir, o)
		ds, err := db.Dataset("d")
		if errors.Is(err, dyngo.ErrNoDataset) {
			ds, err = db.CreateDataset("d", nil)
		}
		for i := 0; i < 5 && err == nil; i++ {
			_, err = ds.Put(fmt.Append(nil, i), []byte("v"))
		}
		if err == nil {
			_, err = db.TreeHead(t.Context())
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	openedWithTree(&dyngo.Options{FS: fs, Integrity: true})
	openedWithTree(&dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(5)})
	openedWithTree(&dyngo.Options{FS: fs})
	if err := verify(fs); err != nil {
		t.Error(err)
	}
}

// A snapshot of what was undone names no state of this timeline, and a token says where it ends.
func TestTimelines(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	o := &dyngo.Options{FS: fs, Clock: c}
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []dyngo.Token
	for round := range 3 { // set back twice, to LSN 4 and to 3
		for i := range 4 {
			if _, err := ds.Put([]byte("k"), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		mustSnapshot(t, db, fmt.Sprint("s", round))
		token, err := db.Token(db.LSN())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := dyngo.ParseToken(token.String()); err != nil || again != token {
			t.Errorf("%v reads as %v, %v", token, again, err)
		}
		tokens = append(tokens, token)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if round == 2 {
			break
		}
		o.RecoverTo = dyngo.AtLSN(dyngo.LSN(4 - round))
		db = mustOpen(t, storeDir, o)
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
	o.RecoverTo = dyngo.Target{}
	db = mustOpen(t, storeDir, o)
	defer db.Close()
	for i, fork := range []dyngo.LSN{3, 3, 0} { // the first was left at 4, but the second, which goes on from it, at 3
		err := db.CheckToken(tokens[i])
		var stale *dyngo.TimelineError
		switch {
		case fork == 0:
			if err != nil {
				t.Errorf("token %d: %v", i, err)
			}
		case !errors.As(err, &stale) || !errors.Is(err, dyngo.ErrTimeline) || stale.Fork != fork:
			t.Errorf("token %d: %v, want a fork at %d", i, err, fork)
		}
		v, err := db.ViewAt(t.Context(), dyngo.AtSnapshot(fmt.Sprint("s", i)))
		if err == nil {
			v.Close()
		}
		if errors.Is(err, dyngo.ErrTimeline) != (fork > 0) {
			t.Errorf("view of snapshot %d: %v", i, err)
		}
	}
	other := tokens[2]
	other.Log[3]++
	var stale *dyngo.TimelineError
	if err := db.CheckToken(other); !errors.As(err, &stale) || stale.Known {
		t.Errorf("a token of another log: %v", err)
	}
	for _, bad := range []string{"", "a.b.1", tokens[0].String() + "0x", strings.ToUpper(tokens[0].String()), "." + tokens[0].String()} {
		if _, err := dyngo.ParseToken(bad); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}

func TestRecoverToRefusals(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	b.Put(ds, []byte("a"), []byte("1"))
	b.Put(ds, []byte("b"), []byte("2"))
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    dyngo.Options
		want error
	}{
		{dyngo.Options{RecoverTo: dyngo.AtLSN(3)}, dyngo.ErrMidBatch},
		{dyngo.Options{RecoverTo: dyngo.AtLSN(50)}, dyngo.ErrOutsideWindow},
		{dyngo.Options{RecoverTo: dyngo.AtSnapshot("none")}, dyngo.ErrNoSnapshot},
	} {
		tc.o.FS = fs
		if _, err := dyngo.Open(storeDir, &tc.o); !errors.Is(err, tc.want) {
			t.Errorf("%v: %v", tc.o.RecoverTo, err)
		}
	}
	if _, err := dyngo.Open(storeDir, &dyngo.Options{FS: fs, ReadOnly: true, RecoverTo: dyngo.AtLSN(1)}); err == nil {
		t.Error("a read-only store was set back")
	}
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fs}) // as it was
	if got, err := dump(db); err != nil || len(got["d"]) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, "/new", &dyngo.Options{FS: fs, RecoverTo: dyngo.AtLSN(7)}) // nothing to set back
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// recoveredTo checks what an interrupted recovery to lsn has left: opened as it is, the store is what it was or what it is to be;
// opened to be set back, the latter.
func recoveredTo(m *model, fs *vfs.Crash, lsn, last dyngo.LSN, now int64) error {
	for _, again := range []bool{true, false} {
		left := fs.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
		if ro, err := dyngo.Open(storeDir, &dyngo.Options{FS: left, ReadOnly: true, Clock: clock.NewManual(time.Unix(0, now))}); err == nil {
			ro.Close()
		} else if !errors.Is(err, dyngo.ErrUnfinished) {
			return fmt.Errorf("read-only: %w", err)
		}
		o := options(left, clock.NewManual(time.Unix(0, now)))
		if again {
			o.RecoverTo = dyngo.AtLSN(lsn)
		}
		db, err := dyngo.Open(storeDir, o)
		if err != nil {
			return fmt.Errorf("again: %v: %w", again, err)
		}
		at := lsn
		if !again && db.LSN() == last {
			at = last
		}
		got, err := dump(db)
		if err := errors.Join(err, differ(m.past(at, now), got)); err != nil {
			return errors.Join(fmt.Errorf("again: %v, LSN %d: %w", again, db.LSN(), err), db.Close())
		}
		if names, err := snapshotNames(db); err != nil || at == lsn && len(names) != 1 {
			return errors.Join(fmt.Errorf("snapshots %q: %w", names, err), db.Close())
		}
		if _, err := db.CreateDataset("after", nil); err != nil {
			return errors.Join(err, db.Close())
		}
		if err := db.Close(); err != nil {
			return err
		}
		if err := verifyRest(left); err != nil {
			return err
		}
	}
	return nil
}

// Power fails before each call of a recovery that changes something.
func TestRecoverToSurvivesPowerLossAtEveryCall(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	r, ends := restoreSource(t, crash)
	last := r.db.LSN()
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	m, now := r.m, r.clock.Now()+1
	lsn := ends[len(ends)/2]
	fault := vfs.NewFault(crash)
	var calls int
	var bad error
	fault.OnCall(func(c vfs.Call) error {
		if bad != nil || c.Op&vfs.OpChanges == 0 || c.Op == vfs.OpWrite && c.Off > 0 {
			return nil
		}
		if calls++; !taken(int64(calls), seed, 48) {
			return nil
		}
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {}, {}, {}} {
			if testing.Short() && i != calls/48%2 {
				continue
			}
			o.Seed = uint64(calls*10 + i)
			if err := recoveredTo(m, crash.PowerLoss(o), lsn, last, now); err != nil {
				bad = fmt.Errorf("power loss %+v before call %d, %s: %w\n%s", o, calls, c, err, fault.Trace())
				break
			}
		}
		return nil
	})
	o := options(fault, clock.NewManual(time.Unix(0, now)))
	o.RecoverTo = dyngo.AtLSN(lsn)
	db, err := dyngo.Open(storeDir, o)
	if err := errors.Join(err, bad); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), bad); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls", calls)
}

// Each call of a recovery fails once.
func TestRecoverToWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	r, ends := restoreSource(t, crash)
	last := r.db.LSN()
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	m, now := r.m, r.clock.Now()+1
	lsn := ends[len(ends)/2]
	fresh := func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}) }
	eachCallFailing(t, seed, 3, 97, fresh, func(fault *vfs.Fault) error {
		o := options(fault, clock.NewManual(time.Unix(0, now)))
		o.Clock = hurried{clock.NewManual(time.Unix(0, now))}
		o.RecoverTo = dyngo.AtLSN(lsn)
		db, err := dyngo.Open(storeDir, o)
		if err != nil {
			return err
		}
		return db.Close()
	}, func(_ int64, left *vfs.Crash, _ error) error { return recoveredTo(m, left, lsn, last, now) })
}
