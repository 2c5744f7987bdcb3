package manifest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// told collects what Obsolete is told.
type told struct {
	mu    sync.Mutex
	files []string
	call  func()
}

func (o *told) options() Options {
	opts := testOptions()
	tell := func(kind string) func(FileNum) {
		return func(n FileNum) {
			o.mu.Lock()
			o.files = append(o.files, fmt.Sprintf("%s%d", kind, uint64(n)))
			o.mu.Unlock()
			if o.call != nil {
				o.call()
			}
		}
	}
	opts.Obsolete, opts.ObsoleteValues = tell(""), tell("v")
	return opts
}

// take returns what was told since the last call.
func (o *told) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	files := slices.Sorted(slices.Values(o.files))
	o.files = nil
	return fmt.Sprint(files)
}

// addOne adds a segment of a key as the newest run.
func addOne(t testing.TB, s *Set, key string) FileNum {
	t.Helper()
	lsn := s.Current().FlushedLSN + 1
	num := s.NewFileNum()
	must(t, s.Apply(flushed(seg(num, s.NewRunID(), key, key, lsn, lsn))))
	return num
}

// TestMovedFilesStay: nobody is told of a segment that only changes its run, and it goes as late as if it had not.
func TestMovedFilesStay(t *testing.T) {
	var o told
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, o.options())
	addOne(t, s, "a")
	b := addOne(t, s, "b")
	before := s.Acquire()
	moved := *s.Current().Segment(b)
	moved.Run = 1
	must(t, s.Apply(&Edit{Remove: []FileNum{b}, Add: []*Segment{&moved}}))
	must(t, s.Apply(&Edit{Remove: []FileNum{b}}))
	if got := o.take(); got != "[]" {
		t.Fatalf("told of %s while a version of before is held", got)
	}
	before.Release()
	if got := o.take(); got != fmt.Sprintf("[%d]", uint64(b)) {
		t.Fatalf("told of %s, want segment %d", got, uint64(b))
	}
	c := addOne(t, s, "c")
	moved = *s.Current().Segment(c)
	moved.Run = 1
	must(t, s.Apply(&Edit{Remove: []FileNum{c}, Add: []*Segment{&moved}}))
	must(t, s.Close())
	again := mustOpen(t, fsys, o.options())
	if seg := again.Current().Segment(c); seg == nil || seg.Run != 1 || o.take() != "[]" {
		t.Fatalf("after opening: %s", again.Current())
	}
	must(t, again.Close())
}

func TestFilesGoWithTheLastVersionThatHasThem(t *testing.T) {
	var o told
	s := mustStart(t, newFS(t, vfs.NewMem()), o.options())
	defer s.Close()
	expect := func(want string) {
		t.Helper()
		if got := o.take(); got != want {
			t.Fatalf("told of %s, want %s", got, want)
		}
	}
	first := s.Acquire()
	a, b := addOne(t, s, "a"), addOne(t, s, "b")
	second, again := s.Acquire(), s.Acquire()
	if second != again || second == first {
		t.Fatal("Acquire does not give the current version")
	}

	must(t, s.Apply(&Edit{Remove: []FileNum{a}}))
	expect("[]") // second has it
	first.Release()
	second.Release()
	expect("[]") // again is the same version
	again.Release()
	expect("[1]")

	// An old version does not hold what came and went after it.
	old := s.Acquire()
	c := addOne(t, s, "c")
	must(t, s.Apply(&Edit{Remove: []FileNum{c}}))
	expect("[3]")
	must(t, s.Apply(&Edit{Remove: []FileNum{b}}))
	expect("[]")

	// What was set aside stays; values are told apart.
	d, v := addOne(t, s, "d"), s.NewFileNum()
	must(t, s.Apply(&Edit{SetAside: []SetAside{{d, "crc"}}, AddValues: []*ValueFile{{Num: v, From: 1, To: 1}}}))
	expect("[]")
	must(t, s.Apply(&Edit{Remove: []FileNum{d}, RemoveValues: []FileNum{v}}))
	expect("[4 v5]")
	old.Release()
	expect("[2]")
}

// Obsolete is called without locks: it may use the set.
func TestObsoleteMayUseTheSet(t *testing.T) {
	var o told
	s := mustStart(t, newFS(t, vfs.NewMem()), o.options())
	defer s.Close()
	o.call = func() {
		if o.call = nil; s.Err() == nil {
			s.Acquire().Release()
			addOne(t, s, "z")
		}
	}
	a := addOne(t, s, "a")
	must(t, s.Apply(&Edit{Remove: []FileNum{a}}))
	if got := o.take(); got != "[1]" || s.Current().SegmentCount() != 1 {
		t.Fatalf("told of %s, %s", got, s.Current())
	}
}

func TestCloseTellsOfNothing(t *testing.T) {
	var o told
	s := mustStart(t, newFS(t, vfs.NewMem()), o.options())
	a := addOne(t, s, "a")
	v := s.Acquire()
	must(t, s.Apply(&Edit{Remove: []FileNum{a}}), s.Close(), s.Close())
	v.Release()
	if got := o.take(); got != "[]" {
		t.Fatalf("told of %s after Close", got)
	}
}

func TestReleaseTwiceIsABug(t *testing.T) {
	s := mustStart(t, newFS(t, vfs.NewMem()), testOptions())
	v := s.Acquire()
	addOne(t, s, "a")
	v.Release()
	expectBug(t, v.Release)
}

func expectBug(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if p := recover(); p == nil {
			t.Helper()
			t.Error("no panic")
		}
	}()
	f()
}

// TestReadersBesideEdits has readers that acquire versions while edits come and go. No file of a version that a reader
// holds may be told, and in the end each that left was told once.
func TestReadersBesideEdits(t *testing.T) {
	const edits = 2000
	var mu sync.Mutex
	gone := map[FileNum]int{}
	o := testOptions()
	o.RotateBytes = 64 << 10
	o.Obsolete = func(n FileNum) {
		mu.Lock()
		defer mu.Unlock()
		gone[n]++
	}
	s := mustStart(t, newFS(t, vfs.NewMem()), o)
	defer s.Close()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := s.Acquire()
				mu.Lock()
				for seg := range v.All() {
					if gone[seg.Num] > 0 {
						t.Errorf("file %s went while a reader held version %d", seg.Num, v.Edits)
					}
				}
				mu.Unlock()
				v.Release()
			}
		})
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	removed := 0
	for range edits {
		e := &Edit{}
		v := s.Current()
		if n := v.SegmentCount(); n > 5 {
			for seg := range v.All() {
				if rnd.IntN(n) == 0 {
					e.Remove = append(e.Remove, seg.Num)
					removed++
				}
			}
		}
		lsn := v.FlushedLSN + 1
		e.Add, e.FlushedLSN = []*Segment{seg(s.NewFileNum(), s.NewRunID(), "k", "k", lsn, lsn)}, &lsn
		must(t, s.Apply(e))
	}
	close(stop)
	readers.Wait()
	for n, times := range gone {
		if times != 1 || s.Current().Segment(n) != nil {
			t.Errorf("file %s was told %d times", n, times)
		}
	}
	if len(gone) != removed {
		t.Errorf("told of %d files, %d were removed", len(gone), removed)
	}
}
