package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// testKey signs the heads of tests.
const testKey = "PRIVATE+KEY+dyngo+95439ade+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"

func parsedKey(t testing.TB) *integrity.Key {
	t.Helper()
	key, err := integrity.ParseKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// openTree opens a store that keeps a tree.
func openTree(t testing.TB, fsys vfs.FS, tune func(*dyngo.Options)) *dyngo.DB {
	t.Helper()
	o := &dyngo.Options{FS: fsys, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20, Integrity: true, SigningKey: testKey}
	if tune != nil {
		tune(o)
	}
	db, err := dyngo.Open(storeDir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// fillTree writes small values, packed ones, large ones, a batch that spills, and deletes.
func fillTree(t testing.TB, db *dyngo.DB, n int) {
	t.Helper()
	check := func(_ dyngo.LSN, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ds, err := db.CreateDataset("plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := db.CreateDataset("packed", &dyngo.DatasetOptions{Compression: dyngo.S2, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		check(ds.PutWith(fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "v%d", i), dyngo.WriteOptions{Reason: "test"}))
		check(packed.Put(fmt.Appendf(nil, "k%d", i), []byte(strings.Repeat("packed ", 30+i%30))))
		if i%10 == 3 {
			check(packed.Put(fmt.Appendf(nil, "large%d", i), []byte(strings.Repeat(fmt.Sprint(i), 20<<10))))
			check(ds.Put(fmt.Appendf(nil, "large%d", i), []byte(strings.Repeat(fmt.Sprint(i%10), 120<<10))))
			check(ds.Delete(fmt.Appendf(nil, "k%d", i-1)))
		}
		if i%50 == 7 {
			b := db.NewBatch()
			for j := range 100 {
				b.Put(ds, fmt.Appendf(nil, "batch%d/%d", i, j), []byte(strings.Repeat("b", 100)))
			}
			check(b.Commit())
		}
	}
	check(ds.DeleteRange([]byte("k2"), []byte("k3")))
}

// verifyTree verifies a store with heads from outside.
func verifyTree(t testing.TB, fsys vfs.FS, notes ...string) dyngo.VerifyReport {
	t.Helper()
	vo := dyngo.VerifyOptions{Level: dyngo.LevelTree, Key: parsedKey(t)}
	for i, note := range notes {
		h, err := vo.Key.ParseNote(note)
		if err != nil {
			t.Fatal(err)
		}
		vo.Heads = append(vo.Heads, dyngo.Anchor{Head: h, Source: fmt.Sprintf("head %d", i+1)})
	}
	r, err := dyngo.VerifyWith(context.Background(), storeDir, &dyngo.Options{FS: fsys}, vo)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantSound fails unless nothing is wrong with the store and all heads agree.
func wantSound(t testing.TB, fsys vfs.FS, notes ...string) dyngo.VerifyReport {
	t.Helper()
	r := verifyTree(t, fsys, notes...)
	if r.Count() > 0 || len(r.SideDefects) > 0 || r.Tree.Outside() != len(notes) {
		t.Fatalf("%d of %d heads agree, defects %v, side files %v", r.Tree.Outside(), len(notes), r.All(), r.SideDefects)
	}
	return r
}

func spill(o *dyngo.Options) { o.SpillFrom(spillFrom, spillPiece) }

// TestTreeFollowsTheLog writes, takes heads, closes and opens again, and verifies the store against all heads, while it is open and
// when it is closed. Without the tree files, the log alone gives the same heads.
func TestTreeFollowsTheLog(t *testing.T) {
	fsys := vfs.NewMem()
	var notes []string
	for round := range 3 {
		db := openTree(t, fsys, spill)
		for range 3 {
			fillTree(t, db, 25)
			note, err := db.TreeHead(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			notes = append(notes, note)
		}
		if err := db.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantSound(t, fsys, notes...)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r := wantSound(t, fsys, notes...)
		if r.Tree.Stored != r.Tree.Head.Size || r.Tree.Head.LSN != r.Log.Tail.NextLSN-1 || r.Tree.Kept+r.Tree.Gone+r.Tree.Torn > 0 {
			t.Errorf("round %d: %+v", round, r.Tree)
		}
	}
	names, err := fsys.List(storeDir + "/" + integrity.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := fsys.Remove(storeDir + "/" + integrity.Dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	wantSound(t, fsys, notes...)
	db := openTree(t, fsys, nil) // built anew
	fillTree(t, db, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if r := wantSound(t, fsys, notes...); r.Tree.Stored != r.Tree.Head.Size {
		t.Errorf("%+v", r.Tree)
	}
}

// TestProveEachEvent proves every event of a small store, open and read-only; the proofs hold.
func TestProveEachEvent(t *testing.T) {
	fsys := vfs.NewMem()
	db := openTree(t, fsys, spill)
	fillTree(t, db, 10)
	prove := func(db *dyngo.DB) {
		for lsn := dyngo.LSN(1); lsn <= db.DurableLSN(); lsn++ {
			p, err := db.Prove(context.Background(), lsn)
			if err == nil {
				err = p.Check(parsedKey(t))
			}
			if err != nil || p.Event.LSN != lsn {
				t.Fatalf("LSN %d: %v", lsn, err)
			}
		}
		if _, err := db.Prove(context.Background(), db.DurableLSN()+1); err == nil {
			t.Error("an event that is not there is proved")
		}
	}
	prove(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Prove(context.Background(), 1); !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	ro := openTree(t, fsys, func(o *dyngo.Options) { o.ReadOnly = true })
	prove(ro)
}

// TestProveBeyondTheTree proves what the tree on disk has not reached yet: a read-only store goes on with it in memory, and
// changes nothing.
func TestProveBeyondTheTree(t *testing.T) {
	fsys := vfs.NewMem()
	tree := path.Join(storeDir, integrity.Dir)
	read := func(dir string) map[string]string {
		t.Helper()
		files := map[string]string{}
		names, err := fsys.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := fsys.ReadFile(path.Join(dir, name), 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(b)
		}
		return files
	}
	write := func(files map[string]string) {
		t.Helper()
		for name := range read(tree) {
			if err := fsys.Remove(path.Join(tree, name)); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range files {
			if err := vfs.WriteFileSync(fsys, path.Join(tree, name), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	db := openTree(t, fsys, nil)
	put := func() {
		t.Helper()
		ds, err := db.Dataset("d")
		if errors.Is(err, dyngo.ErrNoDataset) {
			ds, err = db.CreateDataset("d", nil)
		}
		for i := 0; i < 5 && err == nil; i++ {
			_, err = ds.Put([]byte{byte(i)}, []byte("value"))
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	put()
	behind := read(tree)
	db = openTree(t, fsys, nil)
	put()
	whole := read(tree)
	// The same frames in files of four, but for the last two.
	scan, err := wal.NewScanner(fsys, storeDir+"/wal", wal.ScanOptions{ReadOnly: true})
	if err == nil {
		_, err = scan.Next()
	}
	if err != nil {
		t.Fatal(err)
	}
	o := integrity.Options{LogID: scan.LogID(), ReadOnly: true}
	if err := scan.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := integrity.Open(fsys, tree, o)
	if err != nil {
		t.Fatal(err)
	}
	const smallDir = "/small"
	o.ReadOnly, o.Height = false, 2
	small, err := integrity.Open(fsys, smallDir, o)
	for i := int64(0); i < old.Size()-2 && err == nil; i++ {
		var e integrity.Entry
		if e, err = old.At(i); err == nil {
			err = small.Append(e.LSN, e.Hash)
		}
	}
	if err := errors.Join(err, old.Close(), small.Close()); err != nil {
		t.Fatal(err)
	}
	cut := read(smallDir)
	if len(cut) < 3 {
		t.Fatalf("%d tree files", len(cut))
	}
	for what, files := range map[string]map[string]string{"empty": nil, "behind": behind, "whole": whole, "small files": cut} {
		write(files)
		ro := openTree(t, fsys, func(o *dyngo.Options) { o.ReadOnly = true })
		for lsn := dyngo.LSN(1); lsn <= ro.DurableLSN(); lsn++ {
			p, err := ro.Prove(t.Context(), lsn)
			if err == nil {
				err = p.Check(parsedKey(t))
			}
			if err != nil {
				t.Errorf("%s: LSN %d: %v", what, lsn, err)
			}
		}
		if err := ro.Close(); err != nil {
			t.Error(err)
		}
		if left := read(tree); !maps.Equal(left, files) {
			t.Errorf("%s: files of the tree have changed", what)
		}
	}
}

// TestTreeOutlivesLogFiles has retention drop log files: the tree keeps their hashes, heads from before still agree, and hashes
// of segments that are still logged do.
func TestTreeOutlivesLogFiles(t *testing.T) {
	fsys := vfs.NewMem()
	retain := func(o *dyngo.Options) { o.Retention.Bytes = 1 << 20 }
	db := openTree(t, fsys, retain)
	var notes []string
	for range 12 {
		fillTree(t, db, 25)
		note, err := db.TreeHead(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, note)
	}
	mustGC(t, db)
	r := wantSound(t, fsys, notes...)
	if r.OldestLog < 2 || r.Tree.Kept == 0 {
		t.Fatalf("the oldest log file is %d, %d frames kept", r.OldestLog, r.Tree.Kept)
	}
	if err := errors.Join(db.Flush(context.Background()), db.LogSealed()); err != nil {
		t.Fatal(err)
	}
	if r := wantSound(t, fsys, notes...); r.Tree.Sealed == 0 {
		t.Errorf("no hash of a segment is logged: %+v", r.Tree)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTree(t, fsys, retain)
	for range 8 {
		fillTree(t, db, 25)
	}
	mustGC(t, db)
	if _, err := db.Prove(context.Background(), 5); !errors.Is(err, wal.ErrDropped) {
		t.Errorf("an event of a dropped log file is proved: %v", err)
	}
	if p, err := db.Prove(context.Background(), db.DurableLSN()); err != nil || p.Check(parsedKey(t)) != nil {
		t.Errorf("%v, %v", p, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantSound(t, fsys, notes...)
}

// TestTreeAfterPowerLoss cuts the power at moments of a store's life: nothing is wrong with what is left and the heads from before
// agree; the next process goes on.
func TestTreeAfterPowerLoss(t *testing.T) {
	t.Parallel()
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	var notes []string
	type moment struct {
		fs    *vfs.Crash
		heads int
		why   string
	}
	var mu sync.Mutex // guards the fields below
	var moments []moment
	calls := 0
	fault.OnCall(func(c vfs.Call) error {
		mu.Lock()
		defer mu.Unlock()
		tree := strings.Contains(c.Name, "/"+integrity.Dir)
		if calls++; c.Op&vfs.OpChanges != 0 && len(moments) < 120 && (tree || calls%23 == 0) {
			o := vfs.CrashOptions{Seed: uint64(calls), Garbage: calls%2 == 0}
			moments = append(moments, moment{crash.PowerLoss(o), len(notes), c.String()})
		}
		return nil
	})
	for range 2 {
		db := openTree(t, fault, spill)
		for range 3 {
			fillTree(t, db, 12)
			note, err := db.TreeHead(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			notes = append(notes, note)
			mu.Unlock()
		}
		if err := errors.Join(db.Flush(context.Background()), db.LogSealed(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	fault.OnCall(nil)
	for i, m := range moments {
		if has, err := vfs.Exists(m.fs, storeDir+"/wal"); err != nil || !has {
			continue
		}
		if testing.Short() && i%8 > 0 {
			continue
		}
		t.Log("power cut before", m.why)
		wantSound(t, m.fs, notes[:m.heads]...)
		db := openTree(t, m.fs, nil)
		fillTree(t, db, 1)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if r := wantSound(t, m.fs, notes[:m.heads]...); r.Tree.Stored != r.Tree.Head.Size {
			t.Fatalf("the tree did not go on: %+v", r.Tree)
		}
	}
	if len(moments) < 40 {
		t.Errorf("only %d moments", len(moments))
	}
}

// TestTreeFailsAlone lets each call in the tree's folder fail: the store does not notice, and the next process goes on.
func TestTreeFailsAlone(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for k := int64(1); ; k += step {
		mem := vfs.NewMem()
		fault := vfs.NewFault(mem)
		kind := []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailSync, vfs.FailNoSpace}[k%4]
		fault.Inject(vfs.Plan{K: k, Kind: kind, Name: "*/" + integrity.Dir + "/*"})
		db, err := dyngo.Open(storeDir, &dyngo.Options{FS: fault, MemoryBudget: 8 << 20, Integrity: true, SigningKey: testKey})
		if err != nil {
			t.Fatal(err)
		}
		fillTree(t, db, 2)
		_, _ = db.TreeHead(context.Background())
		fillTree(t, db, 2)
		if err := db.Close(); err != nil && fault.Fired() == 0 {
			t.Fatal(err)
		}
		if fault.Fired() == 0 && k > 40 && kind <= vfs.FailAfter { // of the other kinds only some calls fail
			return
		}
		fault.Heal()
		db = openTree(t, mem, nil)
		fillTree(t, db, 1)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if r := wantSound(t, mem); r.Tree.Stored != r.Tree.Head.Size {
			t.Fatalf("call %d fails (%v): the tree did not go on: %+v", k, fault.Failed(), r.Tree)
		}
	}
}

// TestStateIsThatOfTheLog replays the logs of stores with deletes, range deletes, expiry, newest-wins, dropped datasets, dropped log
// files and power cuts: they have the state that their logs give. A segment that says something else, with all its checksums right,
// is found.
func TestStateIsThatOfTheLog(t *testing.T) {
	level := func(fsys vfs.FS) dyngo.VerifyReport {
		t.Helper()
		r, err := dyngo.VerifyWith(context.Background(), storeDir, &dyngo.Options{FS: fsys}, dyngo.VerifyOptions{Level: dyngo.LevelState})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	crash := vfs.NewCrash(1)
	for round := range 5 {
		db := openTree(t, crash, func(o *dyngo.Options) {
			if spill(o); round > 2 {
				o.Retention.Bytes = 1 << 20
			}
		})
		for range 3 {
			fillTree(t, db, 25)
		}
		old, err := db.CreateDataset(fmt.Sprintf("old%d", round), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			_, _, err1 := old.PutNewest([]byte("k"), fmt.Append(nil, i), time.Unix(int64(i*7%5), 0))
			_, err2 := old.PutWith(fmt.Append(nil, i), nil, dyngo.WriteOptions{TTL: time.Duration(i-10) * time.Hour})
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
		}
		if round%2 == 1 {
			if _, err := db.DropDataset(fmt.Sprintf("old%d", round-1)); err != nil {
				t.Fatal(err)
			}
			if err := db.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			mustGC(t, db)
		}
		if r := level(crash); r.Count() > 0 || r.State.Keys < 50 {
			t.Fatalf("round %d, open: %+v, %v", round, r.State, r.All())
		}
		left := crash.PowerLoss(vfs.CrashOptions{Seed: uint64(round)})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if r := level(crash); r.Count() > 0 {
			t.Fatalf("round %d: %+v, %v", round, r.State, r.All())
		}
		if round == 4 {
			if r := level(left); r.Count() > 0 || r.OldestLog < 2 || r.State.Below == 0 {
				t.Fatalf("after a power cut: log from file %d, %+v, %v", r.OldestLog, r.State, r.All())
			}
		}
	}
	// A log in which one value was changed, with all checksums right, beside the segment with the value that it had.
	fsys := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fsys, MemoryBudget: 8 << 20})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := ds.Put([]byte("a"), []byte("same"))
	_, err2 := ds.Put([]byte("b"), []byte("right"))
	if err := errors.Join(err1, err2, db.Flush(context.Background()), db.Close()); err != nil {
		t.Fatal(err)
	}
	files, _ := logFiles(t, fsys)
	name := storeDir + "/wal/" + files[0].Name
	b, err := fsys.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b = forged(t, bytes.Replace(b, []byte("right"), []byte("wrong"), 1))
	if err := errors.Join(vfs.WriteFileSync(fsys, name, b), fsys.Remove(storeDir+"/wal/CLEAN")); err != nil {
		t.Fatal(err)
	}
	if r := level(fsys); r.Count() != 1 || !strings.Contains(r.All()[0].Error(), `dataset "d", key "b": the store has another value`) {
		t.Errorf("found %v", r.All())
	}
}

// TestRetentionWaitsForTheTree lets writes to the tree fail: log files stay, and the plan says why, until they succeed.
func TestRetentionWaitsForTheTree(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db := openTree(t, fault, func(o *dyngo.Options) { o.Retention.Bytes = 1 << 20 })
	fault.Inject(vfs.Plan{Count: -1, Kind: vfs.FailError, Ops: vfs.OpWrite, Name: "*/" + integrity.Dir + "/*"})
	for range 12 {
		fillTree(t, db, 25)
	}
	plan := mustGC(t, db)
	if f := plan.Files[0]; f.Remove || !strings.Contains(f.Reason, "the tree over the log can't go on") {
		t.Fatalf("%+v", f)
	}
	fault.Heal()
	mustGC(t, db)
	if r := wantSound(t, fault); r.OldestLog < 2 {
		t.Errorf("the oldest log file is %d", r.OldestLog)
	}
}
