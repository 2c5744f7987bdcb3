package integrity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestTreeIsThatOfRFC6962 grows a tree over many files and holds roots, entries and proofs against the definition, also after
// it was closed and opened at each size.
func TestTreeIsThatOfRFC6962(t *testing.T) {
	fsys := vfs.NewMem()
	tree := mustOpen(t, fsys, Options{Height: 2})
	var leaves []Hash
	for n := int64(0); n <= 70; n++ {
		grow(t, tree, n)
		for int64(len(leaves)) < n {
			leaves = append(leaves, testLeaf(int64(len(leaves))))
		}
		if n%3 == 0 {
			if err := errors.Join(tree.Sync(), tree.Close()); err != nil {
				t.Fatal(err)
			}
			tree = mustOpen(t, fsys, Options{Height: 2})
		}
		if tree.Size() != n || n > 0 && tree.Last() != event.LSN(10*n-9) {
			t.Fatalf("size %d, last LSN %d after %d frames", tree.Size(), tree.Last(), n)
		}
		for m := range n + 1 {
			root, err := tree.Root(m)
			if err != nil || root != naive(leaves[:m]) {
				t.Fatalf("root of %d of %d frames: %v, %v", m, n, root, err)
			}
			if m == n {
				continue
			}
			e, err := tree.At(m)
			if err != nil || e.LSN != event.LSN(10*m+1) || e.Hash != leaves[m] {
				t.Fatalf("entry %d: %v, %v", m, e, err)
			}
			p, err := tlog.ProveRecord(n, m, tree)
			if err == nil {
				err = tlog.CheckRecord(p, n, naive(leaves), m, leaves[m])
			}
			if err != nil {
				t.Fatalf("proof of frame %d of %d: %v", m, n, err)
			}
		}
		for _, lsn := range []event.LSN{0, 1, 10, 11, 255, 1000} {
			want := min((int64(lsn)+9)/10-1, n-1)
			if i, err := tree.Find(lsn); err != nil || i != want {
				t.Fatalf("LSN %d is in frame %d of %d, %v; want %d", lsn, i, n, err, want)
			}
		}
	}
}

// TestFrontier computes roots leaf by leaf.
func TestFrontier(t *testing.T) {
	var f Frontier
	var leaves []Hash
	for i := int64(0); i < 40; i++ {
		if f.Root() != naive(leaves) {
			t.Errorf("root of %d leaves", i)
		}
		leaves = append(leaves, testLeaf(i))
		f.Add(leaves[i])
	}
}

// life grows a tree, syncs it now and then, and opens it again; synced is told how many frames are durable.
func life(fsys vfs.FS, height int, n int64, synced func(int64)) error {
	if err := errors.Join(fsys.MkdirAll("db"), fsys.SyncDir(".")); err != nil {
		return err
	}
	for size := int64(0); size < n; {
		tree, err := Open(fsys, "db/"+Dir, Options{LogID: exampleID, Height: height})
		if err != nil {
			return err
		}
		for size = tree.Size(); size < n; size++ {
			if err := tree.Append(event.LSN(10*size+1), testLeaf(size)); err != nil {
				return errors.Join(err, tree.Close())
			}
			if size%40 == 2 || height == 2 && size%3 == 2 {
				if err := tree.Sync(); err != nil {
					return errors.Join(err, tree.Close())
				}
				synced(size + 1)
			}
			if size%7 == 6 {
				size++
				break
			}
		}
		if err := tree.Close(); err != nil {
			return err
		}
	}
	return nil
}

// goesOn opens what a crash left: all that was synced is there and nothing is wrong, and the tree grows to n as if nothing had
// happened.
func goesOn(fsys vfs.FS, height int, synced, n int64) error {
	tree, err := Open(fsys, "db/"+Dir, Options{LogID: exampleID, Height: height})
	if errors.Is(err, fs.ErrNotExist) && synced == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	if tree.Size() < synced {
		return fmt.Errorf("%d frames are there, %d were synced", tree.Size(), synced)
	}
	if defects, err := tree.Check(func(int64, Entry) {}); err != nil || len(defects) > 0 {
		return fmt.Errorf("defects %v, %w", defects, err)
	}
	for i := tree.Size(); i < n; i++ {
		if err := tree.Append(event.LSN(10*i+1), testLeaf(i)); err != nil {
			return err
		}
	}
	if err := tree.Sync(); err != nil {
		return err
	}
	var leaves []Hash
	for i := range n {
		leaves = append(leaves, testLeaf(i))
	}
	root, err := tree.Root(n)
	if err == nil && root != naive(leaves) {
		err = errors.New("another root")
	}
	return err
}

// TestTreeSurvivesPowerLoss cuts the power before each call that changes something.
func TestTreeSurvivesPowerLoss(t *testing.T) {
	for height, n := range map[int]int64{2: 23, 7: 170} { // files of one sector, and of many
		crash := vfs.NewCrash(1)
		fault := vfs.NewFault(crash)
		synced, cuts := int64(0), 0
		fault.OnCall(func(c vfs.Call) error {
			if c.Op&vfs.OpChanges == 0 {
				return nil
			}
			for i := range uint64(6) {
				o := vfs.CrashOptions{Seed: i, Garbage: i%2 == 1}
				if i < 2 {
					o.Keep = []vfs.Keep{vfs.KeepNone, vfs.KeepAll}[i]
				}
				if err := goesOn(crash.PowerLoss(o), height, synced, n); err != nil {
					t.Errorf("height %d, power cut %d before %s: %v", height, i, c, err)
				}
				cuts++
			}
			return nil
		})
		if err := life(fault, height, n, func(s int64) { synced = s }); err != nil || cuts < 100 {
			t.Errorf("%d power cuts, %v", cuts, err)
		}
	}
}

// TestTreeAfterFailedCalls lets each call fail in each way; the next process goes on.
func TestTreeAfterFailedCalls(t *testing.T) {
	const n = 23
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
		for k := int64(1); ; k++ {
			crash := vfs.NewCrash(uint64(k))
			fault := vfs.NewFault(crash)
			fault.Inject(vfs.Plan{K: k, Kind: kind})
			synced := int64(0)
			err := life(fault, 2, n, func(s int64) { synced = s })
			if fault.Fired() == 0 {
				break
			}
			if open := fault.OpenFiles(); len(open) > 0 {
				t.Errorf("call %d fails (%v): files stay open: %v", k, kind, open)
			}
			fault.Heal()
			if err := errors.Join(crash.MkdirAll("db"), goesOn(crash.PowerLoss(vfs.CrashOptions{Seed: 1}), 2, synced, n)); err != nil {
				t.Errorf("call %d fails (%v) with %v: %v", k, fault.Failed(), err, err)
			}
			_ = err
		}
	}
}

// TestTreeMakesUpForTheProcessBefore, which was killed or whose sync failed: the system shows what no later sync may write. What the
// next process finds and syncs is durable all the same.
func TestTreeMakesUpForTheProcessBefore(t *testing.T) {
	for height, n := range map[int]int64{2: 23, 7: 170} { // files of one sector, and of many
		survives := func(what string, left *vfs.Crash) {
			err := errors.Join(left.MkdirAll("db"), left.SyncDir("."), goesOn(left, height, 0, n))
			if err == nil {
				err = goesOn(left.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), height, n, n)
			}
			if err != nil {
				t.Errorf("height %d, %s: %v", height, what, err)
			}
		}
		crash := vfs.NewCrash(1)
		fault := vfs.NewFault(crash)
		fault.OnCall(func(c vfs.Call) error {
			if c.Op&vfs.OpChanges != 0 {
				survives("killed before "+c.String(), crash.KillProcess())
			}
			return nil
		})
		if err := life(fault, height, n, func(int64) {}); err != nil {
			t.Fatal(err)
		}
		for k := int64(1); ; k++ {
			crash := vfs.NewCrash(uint64(k))
			fault := vfs.NewFault(crash)
			fault.Inject(vfs.Plan{K: k, Kind: vfs.FailSync})
			_ = life(fault, height, n, func(int64) {}) // what it says depends on the call that failed
			if fault.Fired() == 0 {
				break
			}
			survives(fmt.Sprint(fault.Failed()), crash.KillProcess())
		}
	}
}

// TestTreeFilesAreFoundWhenChanged changes each byte of each file, cuts each file and swaps two: Open or Check name the file.
func TestTreeFilesAreFoundWhenChanged(t *testing.T) {
	build := func() vfs.FS {
		fsys := vfs.NewMem()
		tree := mustOpen(t, fsys, Options{Height: 2})
		grow(t, tree, 10)
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
		return fsys
	}
	found := func(fsys vfs.FS) string {
		tree, err := Open(fsys, "db/"+Dir, Options{LogID: exampleID, ReadOnly: true})
		if err != nil {
			return err.Error()
		}
		defer tree.Close()
		defects, err := tree.Check(func(int64, Entry) {})
		switch {
		case err != nil:
			t.Fatal(err)
		case len(defects) > 0:
			return defects[0].Error()
		case tree.Torn() > 0 || tree.Size() < 10:
			return DisplayName(tree.Size()/4) + " at its end"
		}
		return ""
	}
	if have := found(build()); have != "" {
		t.Fatal(have)
	}
	for num := range int64(3) {
		name := "db/" + DisplayName(num)
		fsys := build()
		sound, err := fsys.ReadFile(name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, b []byte) {
			if err := vfs.WriteFileSync(fsys, name, b); err != nil {
				t.Fatal(err)
			}
			if have := found(fsys); !strings.Contains(have, DisplayName(num)) {
				t.Errorf("%s, %s: found %q", name, what, have)
			}
		}
		for i := range sound {
			b := bytes.Clone(sound)
			b[i] ^= 1 << (i % 8)
			check(fmt.Sprintf("byte %d changed", i), b)
			check(fmt.Sprintf("cut to %d bytes", i), sound[:i])
		}
		check("a byte more", append(bytes.Clone(sound), 1))
		b := bytes.Clone(sound) // two entries swapped
		copy(b[headerLen:], sound[headerLen+entryLen:][:entryLen])
		copy(b[headerLen+entryLen:], sound[headerLen:][:entryLen])
		check("entries swapped", b)
	}
	fsys := build()
	if err := fsys.Remove("db/" + DisplayName(1)); err != nil {
		t.Fatal(err)
	}
	if have := found(fsys); !strings.Contains(have, DisplayName(1)) {
		t.Errorf("file 1 removed: found %q", have)
	}
	if _, err := Open(build(), "db/"+Dir, Options{LogID: [16]byte{2}, ReadOnly: true}); !errors.Is(err, corruption.ErrCorrupt) {
		t.Errorf("the tree of another log opens: %v", err)
	}
}
