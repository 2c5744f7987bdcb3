package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A process flushes and merges without pause while the store is verified again and again: files that the manifest named go
// meanwhile, which is no damage.
func TestVerifyBesideAnOwner(t *testing.T) {
	fs := vfs.NewCrash(1)
	clk := manualClock()
	db := mustOpen(t, storeDir, options(fs, clk))
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
		// Who looks for work may hold the sources of a merge until after its end; they go when that is looked for again.
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); clk.Advance(time.Second) {
			if there, err := vfs.Exists(fs, c.Name); err == nil && !there {
				gone++
				break
			}
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

// TestVerifyFailsInTheLogsOrder makes reading fail, of the log, of what is derived from it, or of both, which are read beside each other:
// of both it is always the log's error.
func TestVerifyFailsInTheLogsOrder(t *testing.T) {
	mem := vfs.NewMem()
	db := openTree(t, mem, nil)
	fillTree(t, db, 20)
	if err := errors.Join(db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		fails []string
		want  string
	}{
		{"log", []string{".log"}, ".log"},
		{"segments", []string{".seg"}, ".seg"},
		{"both", []string{".log", ".seg"}, ".log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 20 {
				fault := vfs.NewFault(mem)
				fault.OnCall(func(call vfs.Call) error {
					if ext := path.Ext(call.Name); call.Op == vfs.OpRead && slices.Contains(c.fails, ext) && call.Off > 0 {
						return fmt.Errorf("%s can't be read", ext)
					}
					return nil
				})
				_, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: fault}, dyngo.VerifyOptions{Level: dyngo.LevelTree})
				if err == nil || !strings.Contains(err.Error(), c.want+" can't be read") {
					t.Fatal(err)
				}
				if open := fault.OpenFiles(); len(open) > 0 {
					t.Fatalf("left open: %v", open)
				}
			}
		})
	}
}

// TestVerifyTellsDamageOnce flips a byte of the log: the tree stops there, and does not tell again what was told.
func TestVerifyTellsDamageOnce(t *testing.T) {
	mem := vfs.NewMem()
	db := openTree(t, mem, nil)
	fillTree(t, db, 5)
	head, err := db.TreeHead(t.Context())
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	files, _ := logFiles(t, mem)
	name := storeDir + "/wal/" + files[0].Name
	b, err := mem.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("k1\x02v1"))
	b[at] ^= 1
	if err := vfs.WriteFileSync(mem, name, b); err != nil {
		t.Fatal(err)
	}
	r := verifyTree(t, mem, head)
	if r.Count() != 1 || r.Tree.Defects != 0 || r.Tree.Frames == 0 || r.Tree.Head.Size != 0 || r.Tree.Outside() != 0 {
		t.Errorf("%d defects, of the tree %d, after %d frames: %v", r.Count(), r.Tree.Defects, r.Tree.Frames, r.All())
	}
}

// TestVerifyIsCancelled cancels at every progress that is told; goroutines that go on would be found at the end of the tests.
func TestVerifyIsCancelled(t *testing.T) {
	mem := vfs.NewMem()
	db := openTree(t, mem, nil)
	fillTree(t, db, 20)
	if err := errors.Join(db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		told, last := 0, int64(0)
		_, err := dyngo.VerifyWith(ctx, storeDir, &dyngo.Options{FS: mem}, dyngo.VerifyOptions{Level: dyngo.LevelTree,
			Progress: func(done, total int64) {
				if done < last || total < done {
					t.Errorf("%d of %d bytes after %d", done, total, last)
				}
				if last = done; told == n {
					cancel()
				}
				told++
			}})
		cancel()
		if told <= n { // it was done before
			if err != nil || n < 5 {
				t.Fatalf("%v, told %d times", err, n)
			}
			break
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// openings calls a function before each opening of a file.
type openings struct {
	vfs.FS
	before func(name string)
}

func (o *openings) Open(name string) (vfs.File, error) {
	o.before(name)
	return o.FS.Open(name)
}

// TestVerifyBesideRetention drops log files while a verification reads them, at any moment: that is no damage, and no error.
func TestVerifyBesideRetention(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	drop := func(fsys vfs.FS) error {
		o := &dyngo.Options{FS: fsys, LogFileBytes: 1 << 20, Integrity: true, SigningKey: testKey}
		o.Retention.Bytes = 1 << 20
		db, err := dyngo.Open(storeDir, o)
		if err != nil {
			return err
		}
		plan, err := db.GC(t.Context())
		if err == nil && !plan.Files[0].Remove {
			err = fmt.Errorf("no log file went: %+v", plan)
		}
		return errors.Join(err, db.Close())
	}
	verify := func(dropAt int64) int64 {
		mem := vfs.NewMem()
		db := openTree(t, mem, nil)
		for range 8 {
			fillTree(t, db, 25)
		}
		if err := errors.Join(db.Flush(t.Context()), db.Close()); err != nil {
			t.Fatal(err)
		}
		var opened atomic.Int64 // log files are read by several goroutines
		read := &openings{FS: mem, before: func(name string) {
			if strings.HasPrefix(name, storeDir+"/wal/") && opened.Add(1) == dropAt {
				if err := drop(mem); err != nil {
					t.Error(err)
				}
			}
		}}
		r, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: read}, dyngo.VerifyOptions{Level: dyngo.LevelState})
		if err != nil || r.Count() > 0 {
			t.Fatalf("files dropped before log file %d is opened: %v, %v", dropAt, err, r.All())
		}
		return opened.Load()
	}
	step := 3
	if testing.Short() {
		step = 16
	}
	for dropAt := verify(0); dropAt > 0; dropAt -= 1 + int64(rng.IntN(step)) {
		verify(dropAt)
	}
}

// A side file before a log file that is missing is not taken for damaged: where its log file ends is not known.
func TestVerifySideFilesBeforeAGap(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, LogFileBytes: 1 << 20})
	ds, err := db.CreateDataset("d", nil)
	for i := 0; i < 40 && err == nil; i++ {
		_, err = ds.Put(fmt.Appendf(nil, "k%d", i), []byte(strings.Repeat("x", 100_000)))
	}
	if err := errors.Join(err, db.BuildSideFiles(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	files, _ := logFiles(t, fs)
	if len(files) < 4 {
		t.Fatalf("%d log files", len(files))
	}
	if err := fs.Remove(path.Join(storeDir, "wal", files[1].Name)); err != nil {
		t.Fatal(err)
	}
	missing := fmt.Sprintf("wal/%010d-*.log", files[1].Seq)
	check := func(what string, sides ...string) {
		t.Helper()
		report, err := dyngo.Verify(t.Context(), storeDir, &dyngo.Options{FS: fs}, nil)
		var damage *dyngo.CorruptionError
		if err != nil || len(report.Log.Defects) != 1 || !errors.As(report.Log.Defects[0], &damage) || damage.File != missing {
			t.Errorf("%s: defects of the log %v, %v", what, report.Log.Defects, err)
		}
		if len(report.SideDefects) != len(sides) {
			t.Fatalf("%s: defects of side files %v, want %q", what, report.SideDefects, sides)
		}
		for i, d := range report.SideDefects {
			if !strings.Contains(d.Error(), sides[i]) {
				t.Errorf("%s: %v, want %s", what, d, sides[i])
			}
		}
	}
	check("all are sound")
	side := fmt.Sprintf("side/%010d.side", files[0].Seq)
	if err := spoil(fs, path.Join(storeDir, side), "changed"); err != nil {
		t.Fatal(err)
	}
	check("one is not", side)
}
