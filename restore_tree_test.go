package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// provenIn verifies the store in a folder to LevelTree against heads that were kept elsewhere.
func provenIn(t *testing.T, fsys vfs.FS, dir string, notes ...string) *dyngo.TreeReport {
	t.Helper()
	vo := dyngo.VerifyOptions{Level: dyngo.LevelTree, Key: parsedKey(t)}
	for i, note := range notes {
		h, err := vo.Key.ParseNote(note)
		if err != nil {
			t.Fatal(err)
		}
		vo.Heads = append(vo.Heads, dyngo.Anchor{Head: h, Source: fmt.Sprintf("head %d", i+1)})
	}
	r, err := dyngo.VerifyWith(context.Background(), dir, &dyngo.Options{FS: fsys}, vo)
	if err != nil {
		t.Fatal(err)
	}
	if r.Count() > 0 || r.Tree.Outside() != len(notes) {
		t.Fatalf("%s: %d of %d heads agree, defects %v", dir, r.Tree.Outside(), len(notes), r.All())
	}
	return r.Tree
}

// A store that was restored, a snapshot and a backup prove what they have with the heads that were kept of the old store, of log files
// too that retention has dropped since; and the restored one goes on with the tree.
func TestTreeComesAlong(t *testing.T) {
	fsys := vfs.NewMem()
	db := openTree(t, fsys, func(o *dyngo.Options) {
		spill(o)
		o.Retention.Bytes = 1 << 20
	})
	var notes []string
	head := func() {
		t.Helper()
		fillTree(t, db, 25)
		note, err := db.TreeHead(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, note)
	}
	for range 10 {
		head()
	}
	mustGC(t, db)
	head()
	at := len(notes) - 1
	snap := mustSnapshot(t, db, "s")
	to := backup.NewDir(fsys, backupsDir)
	if _, err := backup.Create(t.Context(), to, fsys, snap.Dir, time.Unix(1, 0), nil); err != nil {
		t.Fatal(err)
	}
	head()
	mustGC(t, db)
	floor := db.Metrics().FloorLSN
	if floor == 0 {
		t.Fatal("nothing was dropped")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	provenIn(t, fsys, storeDir, notes...)
	if r := provenIn(t, fsys, snap.Dir, notes[:at+1]...); r.Kept == 0 {
		t.Errorf("the snapshot has no frames of dropped log files: %+v", r)
	}
	b, err := backup.Find(t.Context(), to, "")
	if err != nil {
		t.Fatal(err)
	}
	heads := make([]integrity.Head, len(notes))
	for i, note := range notes {
		if heads[i], err = parsedKey(t).ParseNote(note); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		from   vfs.FS
		src    string
		target dyngo.Target
		proves int // heads
	}{
		"the end":         {fsys, storeDir, dyngo.AtEnd(), at + 2},
		"between heads":   {fsys, storeDir, dyngo.AtLSN(heads[at].LSN + 1), at + 1},
		"right at a head": {fsys, storeDir, dyngo.AtLSN(heads[at].LSN), at + 1},
		"the floor":       {fsys, storeDir, dyngo.AtLSN(floor), -1},
		"a snapshot":      {fsys, snap.Dir, dyngo.AtEnd(), at + 1},
		"a backup":        {backup.FS(t.Context(), to, &b), ".", dyngo.AtEnd(), at + 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "/out/" + name
			plan, err := dyngo.RestoreWith(t.Context(), tc.src, dir, tc.target, &dyngo.RestoreOptions{FS: fsys, From: tc.from})
			if err != nil || plan.TreeErr != nil || plan.Tree == 0 {
				t.Fatalf("%+v, %v", plan, err)
			}
			n := tc.proves
			if n < 0 { // as many as there are
				for n = 0; heads[n].LSN <= floor; n++ {
				}
			}
			provenIn(t, fsys, dir, notes[:n]...)
			// It goes on.
			again, err := dyngo.Open(dir, &dyngo.Options{FS: fsys, SigningKey: testKey})
			if err != nil {
				t.Fatal(err)
			}
			fillTree(t, again, 5)
			note, err := again.TreeHead(context.Background())
			if err := errors.Join(err, again.Close()); err != nil {
				t.Fatal(err)
			}
			provenIn(t, fsys, dir, append(notes[:n:n], note)...)
		})
	}

	// A damaged tree is told, and is no reason not to restore: the log tells again what it has.
	bad, err := fsys.OpenRW(path.Join(storeDir, integrity.DisplayName(0)))
	if err == nil {
		_, err = bad.WriteAt([]byte{0xff}, 3)
		err = errors.Join(err, bad.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	plan, err := dyngo.RestoreWith(t.Context(), storeDir, "/out/damaged", dyngo.AtEnd(), &dyngo.RestoreOptions{FS: fsys})
	if err != nil || !errors.Is(plan.TreeErr, dyngo.ErrCorrupt) {
		t.Fatalf("%+v, %v", plan, err)
	}
	if r, err := dyngo.Verify(t.Context(), "/out/damaged", &dyngo.Options{FS: fsys}, nil); err != nil || r.Count() > 0 {
		t.Errorf("%v, %v", r.All(), err)
	}
}

// Each call of a restore fails once, in each way, and then power fails: the same restore goes on, and the tree is there.
func TestTreeComesAlongWithEveryCallFailingOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	db := openTree(t, crash, nil)
	ds, err := db.CreateDataset("d", nil)
	var note string
	for i := 0; i < 8 && err == nil; i++ {
		if _, err = ds.Put(fmt.Append(nil, i), []byte(big(300_000, byte(i)))); err == nil && i == 5 {
			note, err = db.TreeHead(context.Background())
		}
	}
	last := db.DurableLSN()
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	restore := func(fsys vfs.FS) error {
		_, err := dyngo.RestoreWith(context.Background(), storeDir, restoredDir, dyngo.AtLSN(last-1), &dyngo.RestoreOptions{FS: fsys})
		return err
	}
	fresh := func() *vfs.Crash { return crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll}) }
	eachCallFailing(t, seed, 1, 29, fresh, func(fault *vfs.Fault) error { return restore(fault) }, func(k int64, left *vfs.Crash, err error) error {
		for _, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Seed: uint64(k)}} {
			after := left.PowerLoss(o)
			if err != nil {
				if err := restore(after); err != nil && !errors.Is(err, dyngo.ErrNotEmpty) { // it was done, but for telling so
					return fmt.Errorf("then %+v: %w", o, err)
				}
			}
			if tree := provenIn(t, after, restoredDir, note); tree.Stored == 0 {
				return fmt.Errorf("then %+v: the restored store has no tree: %+v", o, tree)
			}
		}
		return nil
	})
}
