package dyngo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

var (
	tamperChanges = flag.Int("tamper.changes", 300, "TestEveryChangeIsFound: changes")
	tamperRuns    = flag.Int("tamper.runs", 12, "TestNoFalseAlarm: stores")
	tamperSeed    = flag.Uint64("tamper.seed", 0, "seed of TestEveryChangeIsFound and TestNoFalseAlarm, 0 = random")
)

func tamperRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *tamperSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -run '^%s$' -tamper.seed %d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// storeFiles are the files of a store that a change of must be found, by name: those of the log and all that is derived from
// it. Not among them: LOCK, CLEAN (a log without it was not closed), the list of logged hashes and the heads in the store,
// which others keep.
func storeFiles(t *testing.T, fsys vfs.FS) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, dir := range []string{"wal", "manifest", "segments", "side", integrity.Dir} {
		names, err := fsys.List(path.Join(storeDir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if name == "CLEAN" || name == "heads" || name == "sealed" {
				continue
			}
			name = path.Join(dir, name)
			b, err := fsys.ReadFile(path.Join(storeDir, name), 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = b
		}
	}
	return files
}

// tamper is one change: the new content of some files, nil = the file is gone.
type tamper struct {
	what  string
	files map[string][]byte
}

// randomTamper changes a byte, swaps two pieces of a file or two files, takes a piece or a file away, or cuts a file. limit is,
// by name, how far a file must not be changed.
func randomTamper(r *rand.Rand, files map[string][]byte, limit map[string]int) tamper {
	names := slices.Sorted(maps.Keys(files))
	for {
		name := names[r.IntN(len(names))]
		old := files[name]
		n := len(old)
		if l, ok := limit[name]; ok {
			n = l
		}
		b := bytes.Clone(old)
		c := tamper{files: map[string][]byte{}}
		switch at := r.IntN(n); r.IntN(6) {
		case 0, 1:
			b[at] ^= byte(1 + r.IntN(255))
			c.what = fmt.Sprintf("byte %d changed", at)
		case 2:
			size := 1 + r.IntN(min(256, n/2))
			from, to := r.IntN(n-size+1), r.IntN(n-size+1)
			copy(b[to:to+size], old[from:from+size])
			copy(b[from:from+size], old[to:to+size])
			c.what = fmt.Sprintf("%d bytes at %d and %d swapped", size, from, to)
		case 3:
			size := min(1+r.IntN(512), n-at)
			b = append(b[:at], old[at+size:]...)
			c.what = fmt.Sprintf("%d bytes at %d taken away", size, at)
		case 4:
			b = b[:at]
			c.what = fmt.Sprintf("cut to %d bytes", at)
		default:
			other := names[r.IntN(len(names))]
			switch {
			case other != name && path.Dir(other) == path.Dir(name):
				c.files[other] = old
				b = files[other]
				c.what = "swapped with " + other
			case !strings.HasPrefix(name, "side/"): // one that is missing is built
				b = nil
				c.what = "removed"
			}
		}
		if c.what != "" && (b == nil || !bytes.Equal(b, old)) {
			c.files[name] = b
			c.what = name + ": " + c.what
			return c
		}
	}
}

func putFiles(t *testing.T, fsys vfs.FS, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		full := path.Join(storeDir, name)
		if err := fsys.Remove(full); err != nil && !strings.Contains(err.Error(), "not exist") {
			t.Fatal(err)
		}
		if b == nil {
			continue
		}
		if err := vfs.WriteFileSync(fsys, full, b); err != nil {
			t.Fatal(err)
		}
	}
}

// tampered is a closed store with everything that a store can have, and a head of its log that somebody keeps.
func tampered(t *testing.T) (fsys vfs.FS, head string, limit map[string]int) {
	t.Helper()
	fsys = vfs.NewMem()
	db := openTree(t, fsys, func(o *dyngo.Options) {
		spill(o)
		o.Retention.Bytes = 3 << 20
	})
	for range 12 {
		fillTree(t, db, 25)
		if err := db.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	mustGC(t, db)
	err := errors.Join(db.BuildSideFiles(context.Background()), db.LogSealed())
	if err != nil {
		t.Fatal(err)
	}
	if head, err = db.TreeHead(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r := wantSound(t, fsys, head)
	if r.OldestLog < 2 || r.Log.Files < 3 || r.Segments < 2 || r.Sides < 2 || r.Tree.Kept == 0 || r.Tree.Sealed < 2 {
		t.Fatalf("oldest log file %d of %d, %d segments, %d side files, %+v", r.OldestLog, r.Log.Files, r.Segments, r.Sides, r.Tree)
	}
	// What lies behind the head in the newest file is not its concern.
	last := "wal/" + wal.FileName(r.Log.Tail.File, r.Log.Tail.FirstLSN)
	return fsys, head, map[string]int{last: int(r.Log.Tail.End) - 64}
}

// TestEveryChangeIsFound makes random changes to a store, each to the sound one: all are found, and the report names the file.
func TestEveryChangeIsFound(t *testing.T) {
	t.Parallel()
	fsys, head, limit := tampered(t)
	sound := storeFiles(t, fsys)
	r := tamperRand(t)
	changes := *tamperChanges
	if testing.Short() {
		changes = min(changes, 30)
	}
	for range changes {
		c := randomTamper(r, sound, limit)
		putFiles(t, fsys, c.files)
		report := verifyTree(t, fsys, head)
		found := slices.Concat(report.All(), report.SideDefects)
		named := slices.ContainsFunc(found, func(err error) bool {
			for name := range c.files {
				dir, base := path.Split(name)
				if dir == "wal/" {
					base, _, _ = strings.Cut(base, "-") // of a missing file the first LSN is not known
				}
				if strings.Contains(err.Error(), base) || dir == "manifest/" && strings.HasPrefix(err.Error(), "manifest at 0") {
					return true
				}
			}
			return false
		})
		if !named {
			t.Errorf("%s: found %v", c.what, found)
		}
		restore := map[string][]byte{}
		for name := range c.files {
			restore[name] = sound[name]
		}
		putFiles(t, fsys, restore)
	}
	wantSound(t, fsys, head)
}

// TestNoFalseAlarm makes stores by random writes, with power cuts and without, and verifies them against their heads.
func TestNoFalseAlarm(t *testing.T) {
	r := tamperRand(t)
	runs := *tamperRuns
	if testing.Short() {
		runs = min(runs, 4)
	}
	for run := range runs {
		crash := vfs.NewCrash(r.Uint64())
		var notes []string
		for range 1 + r.IntN(3) {
			db := openTree(t, crash, func(o *dyngo.Options) {
				if r.IntN(2) == 0 {
					spill(o)
				}
				if r.IntN(2) == 0 {
					o.Retention.Bytes = 1 << 20
				}
			})
			for range 1 + r.IntN(4) {
				fillTree(t, db, 1+r.IntN(25))
				if r.IntN(2) == 0 {
					note, err := db.TreeHead(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					notes = append(notes, note)
				}
				if r.IntN(3) == 0 {
					if err := errors.Join(db.Flush(context.Background()), db.LogSealed()); err != nil {
						t.Fatal(err)
					}
				}
			}
			left := crash
			if r.IntN(2) == 0 {
				left = crash.PowerLoss(vfs.CrashOptions{Seed: r.Uint64(), Garbage: r.IntN(2) == 0})
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			crash = left
			if verifyRun := verifyTree(t, crash, notes...); verifyRun.Count() > 0 || verifyRun.Tree.Outside() != len(notes) {
				t.Fatalf("run %d: %d of %d heads agree, %v", run, verifyRun.Tree.Outside(), len(notes), verifyRun.All())
			}
		}
	}
}

// TestForgedLog changes one value and makes every checksum of the log right again: no check but that against the head finds it,
// even when the tree files are forged too. Then the frames that are younger than the head are cut off, likewise.
func TestForgedLog(t *testing.T) {
	fsys := vfs.NewMem()
	db := openTree(t, fsys, nil)
	fillTree(t, db, 2)
	head, err := db.TreeHead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := logFiles(t, fsys)
	name := storeDir + "/wal/" + files[0].Name
	b, err := fsys.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(b []byte) {
		b = forged(t, b)
		if err := errors.Join(vfs.WriteFileSync(fsys, name, b), fsys.Remove(storeDir+"/wal/CLEAN")); err != nil && !strings.Contains(err.Error(), "CLEAN") {
			t.Fatal(err)
		}
		for _, n := range []string{"0000000000.tree", "heads"} {
			_ = fsys.Remove(path.Join(storeDir, integrity.Dir, n))
		}
	}
	at := bytes.Index(b, []byte("k1\x02v1")) + len("k1\x02") // not v1 alone: that may lie in random bytes too
	if at < wal.HeaderSize {
		t.Fatal("no value in the log")
	}
	b[at+1] = '7'
	forge(b)
	if r := verifyTree(t, fsys); r.Count() > 0 {
		t.Fatalf("the forgery is no good: %v", r.All())
	}
	if r := verifyTree(t, fsys, head); r.Count() != 1 || !strings.Contains(r.All()[0].Error(), "the log differs from the tree head") {
		t.Errorf("found %v", r.All())
	}
	forge(b[:at-wal.FrameHeaderSize-16])
	if r := verifyTree(t, fsys); r.Count() > 0 {
		t.Fatalf("the cut is no good: %v", r.All())
	}
	if r := verifyTree(t, fsys, head); r.Count() != 1 || !strings.Contains(r.All()[0].Error(), "events are missing") {
		t.Errorf("found %v", r.All())
	}
}

// forged gives every whole frame of a log file the checksum and the chain that belong to its bytes, and drops what follows.
func forged(t *testing.T, b []byte) []byte {
	t.Helper()
	head, err := wal.ParseHeader(b[:wal.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	chain, at := head.PrevChain, int64(wal.HeaderSize)
	le := binary.LittleEndian
	for at+wal.FrameHeaderSize <= int64(len(b)) {
		h := b[at:]
		n := int(le.Uint32(h[4:]))
		size := wal.FrameSize(n)
		if h[8] == 0 || size > len(h) {
			break
		}
		f := &wal.Frame{Kind: wal.Kind(h[8]), Flags: wal.FrameFlags(h[9]), Count: le.Uint32(h[12:]), BaseLSN: dyngo.LSN(le.Uint64(h[16:])),
			BaseTime: int64(le.Uint64(h[24:])), WallTime: int64(le.Uint64(h[32:])), HLC: le.Uint64(h[40:]), Chain: chain,
			DurableLSN: dyngo.LSN(le.Uint64(h[56:]))}
		chain = wal.SealFrame(h[:size], f, n, wal.BodyCRC(h[wal.FrameHeaderSize:][:n]), &head.Salt, head.Seq, at)
		at += int64(size)
	}
	return b[:at]
}

// TestLoggedHashTellsSegments holds a segment, and the manifest that names it, against the hash of it that was logged.
func TestLoggedHashTellsSegments(t *testing.T) {
	fsys := vfs.NewMem()
	db := openTree(t, fsys, nil)
	fillTree(t, db, 5)
	if err := errors.Join(db.Flush(context.Background()), db.LogSealed(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if r := wantSound(t, fsys); r.Tree.Sealed != 1 || r.Tree.Unsealed != 0 {
		t.Fatalf("%+v", r.Tree)
	}
	set, err := manifest.Open(fsys, storeDir+"/manifest", manifest.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	files, _ := logFiles(t, fsys)
	name := storeDir + "/wal/" + files[0].Name
	b, err := fsys.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for s := range set.Current().All() {
		b = bytes.Replace(b, s.SHA256[:], make([]byte, 32), 1)
	}
	err = errors.Join(set.Close(), vfs.WriteFileSync(fsys, name, forged(t, b)), fsys.Remove(storeDir+"/wal/CLEAN"),
		fsys.Remove(path.Join(storeDir, integrity.Dir, "0000000000.tree")), fsys.Remove(headsFile))
	if err != nil {
		t.Fatal(err)
	}
	if r := verifyTree(t, fsys); r.Count() != 1 || !strings.Contains(r.All()[0].Error(), "segments/") ||
		!strings.Contains(r.All()[0].Error(), "the log says") {
		t.Errorf("found %v", r.All())
	}
}

const headsFile = storeDir + "/" + integrity.Dir + "/heads"
