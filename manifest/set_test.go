package manifest

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Opening changes nothing, whatever is there; reading beside a writer neither.
func TestOpenChangesNothing(t *testing.T) {
	for _, prepare := range []func(vfs.FS){
		func(vfs.FS) {},
		func(fsys vfs.FS) { mustStart(t, fsys, testOptions()) },
		func(fsys vfs.FS) { addOne(t, mustStart(t, fsys, testOptions()), "a") },
	} {
		fault := vfs.NewFault(newFS(t, vfs.NewMem()))
		prepare(fault)
		fault.OnCall(func(c vfs.Call) error {
			if c.Op&vfs.OpChanges != 0 {
				t.Errorf("Open changes the disk: %s", c)
			}
			return nil
		})
		for _, o := range []Options{{}, {ReadOnly: true}} {
			s := mustOpen(t, fault, o)
			must(t, s.Check(names(s.Current())), s.Close())
		}
	}
}

// names are the files of a version as a directory lists them.
func names(v *Version) (names []string) {
	for name := range filesOf(v) {
		names = append(names, name)
	}
	return names
}

func TestReadOnlyTakesNoEdits(t *testing.T) {
	s := mustOpen(t, newFS(t, vfs.NewMem()), Options{ReadOnly: true})
	if err := s.Start(testLog); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	if err := s.Apply(&Edit{}); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	if s.HashSeed() != [16]byte{} {
		t.Fatal("a hash seed that nobody will keep")
	}
}

func TestAfterClose(t *testing.T) {
	s := mustStart(t, newFS(t, vfs.NewMem()), testOptions())
	must(t, s.Close(), s.Close())
	if err := s.Apply(&Edit{}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := s.Start(testLog); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestBugsPanic(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	s := mustOpen(t, fsys, testOptions())
	expectBug(t, func() { s.NewFileNum() })
	expectBug(t, func() { s.NewRunID() })
	expectBug(t, func() { _ = s.Apply(&Edit{}) })
	expectBug(t, func() { _, _ = s.Orphans(nil) })
	must(t, s.Start(testLog), s.Start(testLog))
	a := addOne(t, s, "a")
	expectBug(t, func() { _, _ = s.Orphans(nil) })
	expectBug(t, func() { _ = s.Apply(&Edit{Remove: []FileNum{9}}) })
	v := s.Acquire()
	must(t, s.Apply(&Edit{Remove: []FileNum{a}}))
	expectBug(t, func() { _ = s.Apply(flushed(seg(a, 1, "a", "a", 1, 1))) })
	v.Release()
}

// A set stays usable after a panic that somebody caught, and nothing of the edit has reached the disk.
func TestBugLeavesNoTrace(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, testOptions())
	addOne(t, s, "a")
	before := content(t, fsys, 1)
	expectBug(t, func() { _ = s.Apply(flushed(seg(1, 1, "a", "a", 1, 1))) })
	if !slices.Equal(before, content(t, fsys, 1)) {
		t.Fatal("a broken edit was written")
	}
	addOne(t, s, "b")
}

func TestSeedAndIdsStayWithTheDatabase(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, testOptions())
	seed := s.HashSeed()
	if seed == [16]byte{} || s.LogID() != testLog {
		t.Fatalf("seed %x, log %x", seed, s.LogID())
	}
	num, run := s.NewFileNum(), s.NewRunID()
	if num != 1 || run != 1 {
		t.Fatalf("first numbers %d, %d", num, run)
	}
	must(t, s.Apply(flushed(seg(5, 7, "a", "b", 1, 2)))) // of a repair: numbers that were not given out
	if num, run = s.NewFileNum(), s.NewRunID(); num != 6 || run != 8 {
		t.Fatalf("numbers %d, %d", num, run)
	}
	must(t, s.Apply(&Edit{}), s.Close())
	s = mustStart(t, fsys, Options{})
	if num, run = s.NewFileNum(), s.NewRunID(); num != 7 || run != 9 || s.HashSeed() != seed {
		t.Fatalf("numbers %d, %d, seed %x after reopening", num, run, s.HashSeed())
	}
}

// A file is rotated when it has grown, the parts that a newer version added to a segment go along, and no file is left.
func TestRotation(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	o := testOptions()
	o.RotateBytes = 2000
	s := mustStart(t, fsys, o)
	e := flushed(seg(s.NewFileNum(), s.NewRunID(), "a", "b", 1, 2))
	e.Add[0].extra = []byte{2, 1, 'x'}
	e.AddValues = []*ValueFile{{Num: s.NewFileNum(), From: 1, To: 1, extra: []byte{4, 0}}}
	e.NextFile = 3
	must(t, s.Apply(e))
	for range 100 {
		addOne(t, s, "k")
	}
	files, err := fsys.List(testDir)
	must(t, err)
	if len(files) != 1 || s.mu.head.num < 3 || files[0] != fileName(s.mu.head.num) {
		t.Fatalf("files %q, number %d", files, s.mu.head.num)
	}
	v := mustOpen(t, fsys, o).Current()
	if v.SegmentCount() != 101 || string(v.Segment(1).extra) != "\x02\x01x" || string(v.Values[0].extra) != "\x04\x00" {
		t.Fatalf("%s", v)
	}
}

// An older file that cannot be removed does no harm, and goes later.
func TestOldFileThatStays(t *testing.T) {
	fault := vfs.NewFault(newFS(t, vfs.NewMem()))
	s := mustStart(t, fault, testOptions())
	addOne(t, s, "a")
	must(t, s.Close())
	fault.Inject(vfs.Plan{Ops: vfs.OpRemove, Name: "*.man"})
	s = mustStart(t, fault, small())
	addOne(t, s, "b")
	if s := mustOpen(t, fault, testOptions()); s.Current().SegmentCount() != 2 {
		t.Fatal(s.Current())
	}
	for range 20 {
		addOne(t, s, "c")
	}
	files, err := fault.List(testDir)
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("files %q", files)
	}
}

// TestReadersWithoutLock has readers that open the manifest while a writer applies edits and rotates. None of them may
// see damage, and each sees a version at least as new as the last that it saw.
func TestReadersWithoutLock(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, small())
	h := newHistory(s, 5)
	done := make(chan error, 1)
	go func() {
		for range 400 {
			if err := h.apply(h.next()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var last uint64
	for ended := false; !ended; {
		select {
		case err := <-done:
			must(t, err)
			ended = true
		default:
		}
		ro, err := Open(fsys, testDir, Options{ReadOnly: true})
		must(t, err)
		if ro.Current().Edits < last {
			t.Fatalf("edit %d after %d", ro.Current().Edits, last)
		}
		last = ro.Current().Edits
	}
	if last != 400 {
		t.Fatalf("the last reader sees edit %d", last)
	}
}

// A reader without lock looks again when a file goes away between the list and the reading, and when what it read was
// only half there.
func TestReaderLooksAgain(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, testOptions())
	addOne(t, s, "a")
	addOne(t, s, "b")
	whole := content(t, fsys, 1)
	half := slices.Clone(whole)
	clear(half[330:370]) // in edit 2, whose mark is there
	fault := vfs.NewFault(fsys)
	reads := 0
	fault.OnCall(func(c vfs.Call) error {
		if c.Op != vfs.OpReadFile {
			return nil
		}
		switch reads++; reads {
		case 1:
			overwrite(t, fsys, c.Name, half)
		case 2:
			overwrite(t, fsys, c.Name, whole)
		case 3:
			mustStart(t, fsys, testOptions())
		}
		return nil
	})
	for range 2 {
		ro, err := Open(fault, testDir, Options{ReadOnly: true})
		must(t, err)
		if ro.Current().SegmentCount() != 2 {
			t.Fatal(ro.Current())
		}
	}
	if reads != 4 {
		t.Fatalf("read %d times", reads)
	}
	reads = 0
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpReadFile {
			reads++
		}
		return nil
	})
	b := content(t, fsys, 2)
	b[200] ^= 1
	overwrite(t, fsys, path.Join(testDir, fileName(2)), b)
	if _, err := Open(fault, testDir, Options{ReadOnly: true}); !errors.Is(err, corruption.ErrCorrupt) || reads != 2 {
		t.Fatalf("damage that stays: %v after %d reads", err, reads)
	}
}

func TestUnreadableDirectory(t *testing.T) {
	fault := vfs.NewFault(newFS(t, vfs.NewMem()))
	addOne(t, mustStart(t, fault, testOptions()), "a")
	for _, op := range []vfs.Op{vfs.OpList, vfs.OpReadFile} {
		fault.Inject(vfs.Plan{Ops: op})
		if _, err := Open(fault, testDir, Options{}); err == nil || errors.Is(err, event.ErrUnsupported) {
			t.Errorf("%s failed: %v", op, err)
		}
	}
}

// Texts for people are cut, not refused.
func TestLongReason(t *testing.T) {
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, testOptions())
	a := addOne(t, s, "a")
	long := strings.Repeat("é", maxReasonBytes)
	must(t, s.Apply(&Edit{SetAside: []SetAside{{a, long}}, Reason: long}), s.Close())
	s = mustStart(t, fsys, testOptions()) // writes it as part of a snapshot
	if got := s.Current().Damaged[0].Reason; len(got) != maxReasonBytes {
		t.Fatalf("%d bytes", len(got))
	}
	if ok, err := vfs.Exists(fsys, path.Join(testDir, fileName(2))); !ok || err != nil {
		t.Fatal("no second file", err)
	}
	mustOpen(t, fsys, testOptions())
}
