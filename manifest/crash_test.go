package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// small is a set that rotates every few edits.
func small() Options {
	o := testOptions()
	o.RotateBytes = 1
	return o
}

// life is a script that starts a set, applies edits, rotates, closes and starts again. It calls acked whenever an edit
// is durable, with the set's history. With an odd seed edits are longer and files rotated later, so that both go over
// many blocks of the disk.
func life(fsys vfs.FS, seed uint64, acked func(*history)) (*history, error) {
	var h *history
	o, long := small(), 0
	if seed%2 == 1 {
		o.RotateBytes, long = 9000, 200
	}
	for range 2 {
		s, err := Open(fsys, testDir, o)
		if err != nil {
			return h, err
		}
		if h == nil {
			h = newHistory(s, seed)
			h.long = long
		}
		h.set = s
		if err := s.Start(testLog); err != nil {
			return h, err
		}
		for range 20 {
			if err := h.apply(h.next()); err != nil {
				return h, err
			}
			acked(h)
		}
		if err := s.Close(); err != nil {
			return h, err
		}
	}
	return h, nil
}

// reopened checks what is found after a crash: a version of the history, at least the acked'th, or later by one edit at
// most; nothing is called damaged, and the set can go on.
func reopened(t *testing.T, fsys vfs.FS, want []string, acked int, why string) {
	t.Helper()
	ro, err := Open(fsys, testDir, Options{ReadOnly: true})
	if err != nil {
		t.Fatalf("%s: %v", why, err)
	}
	v := ro.Current()
	if v.Edits < uint64(acked) || v.Edits >= uint64(len(want)) || v.Edits > uint64(acked)+1 {
		t.Fatalf("%s: found %d edits, %d of %d were acknowledged", why, v.Edits, acked, len(want)-1)
	}
	if describe(v) != want[v.Edits] {
		t.Fatalf("%s: found\n%s, which is not version %d", why, v, v.Edits)
	}
	s := mustStart(t, fsys, small())
	if describe(s.Current()) != want[v.Edits] {
		t.Fatalf("%s: for a writer it is\n%s, for a reader\n%s", why, s.Current(), v)
	}
	num := addOne(t, s, "after")
	must(t, s.Close())
	s = mustOpen(t, fsys, small())
	if again := s.Current(); again.Segment(num) == nil || again.Edits != v.Edits+1 || !s.Tail().Marked ||
		s.Tail().CutBytes != 0 {
		t.Fatalf("%s: after going on\n%s, %+v", why, again, s.Tail())
	}
	if s.LogID() != testLog {
		t.Fatalf("%s: log id %x", why, s.LogID())
	}
}

// TestPowerLoss cuts the power before each call of a life, in several ways each.
func TestPowerLoss(t *testing.T) {
	seeds := uint64(6)
	if raceEnabled {
		seeds = 2
	}
	for seed := range seeds {
		crash := vfs.NewCrash(seed)
		fault := vfs.NewFault(newFS(t, crash))
		var h *history
		acked, cuts, rotations := 0, 0, 0
		// want has all versions: a dry run on the same seed tells them.
		dry, err := life(newFS(t, vfs.NewMem()), seed, func(*history) {})
		must(t, err)
		fault.OnCall(func(c vfs.Call) error {
			if c.Op == vfs.OpRename {
				rotations++
			}
			if c.Op&vfs.OpChanges == 0 {
				return nil
			}
			for i := range uint64(8) {
				o := vfs.CrashOptions{Seed: i, Garbage: i%2 == 1}
				if i < 2 {
					o.Keep = []vfs.Keep{vfs.KeepNone, vfs.KeepAll}[i]
				}
				why := fmt.Sprintf("seed %d, power cut %d before %s", seed, i, c)
				reopened(t, crash.PowerLoss(o), dry.want, acked, why)
				cuts++
			}
			reopened(t, crash.KillProcess(), dry.want, acked, "killed before "+c.String())
			return nil
		})
		h, err = life(fault, seed, func(h *history) { acked = len(h.want) - 1 })
		must(t, err)
		if !slices.Equal(h.want, dry.want) || rotations < 3 || cuts < 800 {
			t.Fatalf("seed %d: %d versions, want %d; %d rotations, %d power cuts", seed, len(h.want), len(dry.want),
				rotations, cuts)
		}
	}
}

// TestEachCallFailsOnce lets each call of a life fail in each way. What was acknowledged stays. A full disk is not final
// unless a sync found it: edits go through when there is space. After any other failure of a write or sync, no edit is
// taken, and versions are still read.
func TestEachCallFailsOnce(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
			step := int64(1)
			if raceEnabled {
				step = 7
			}
			for k := int64(1); failOnce(t, seed, kind, k); k += step {
			}
		}
	}
}

// failOnce lets the k-th call of a life fail. It returns false if there is no such call.
func failOnce(t *testing.T, seed uint64, kind vfs.Kind, k int64) bool {
	t.Helper()
	crash := vfs.NewCrash(uint64(k))
	fault := vfs.NewFault(newFS(t, crash))
	fault.Inject(vfs.Plan{K: k, Kind: kind})
	acked := 0
	why := func() string {
		lines := strings.Split(strings.TrimSpace(fault.Trace()), "\n")
		last := strings.Join(lines[max(0, len(lines)-6):], "\n")
		return fmt.Sprintf("seed %d, kind %d, call %d:\n%s\n", seed, kind, k, last)
	}
	h, err := life(fault, seed, func(h *history) { acked = len(h.want) - 1 })
	if fault.Fired() == 0 {
		if k < 30 {
			t.Fatalf("seed %d, kind %d: only %d calls", seed, kind, k)
		}
		must(t, err)
		return false
	}
	if h == nil { // Open failed and touched nothing
		return true
	}
	s := h.set
	if err != nil && !errors.Is(err, ErrFailed) && !s.mu.closed {
		if vfs.IsNoSpace(err) != (kind == vfs.FailNoSpace) || s.Err() != nil {
			t.Fatalf("%s%v", why(), err)
		}
		// Nothing has happened, so the caller may remove the files of the edit, and the set goes on.
		cuts := []*vfs.Crash{crash.KillProcess()}
		for i := range uint64(20) {
			cuts = append(cuts, crash.PowerLoss(vfs.CrashOptions{Seed: i}))
		}
		for _, after := range cuts {
			if n := mustOpen(t, after, Options{}).Current().Edits; n != uint64(acked) {
				t.Fatalf("%s%v, but after a crash there are %d edits, %d were acknowledged", why(), err, n, acked)
			}
		}
		must(t, s.Start(testLog))
		if describe(s.Current()) != h.want[acked] {
			t.Fatalf("%sthe version is\n%s", why(), s.Current())
		}
		e := h.again()
		if err := s.Apply(e); err != nil {
			t.Fatalf("%sagain: %v", why(), err)
		}
		acked = int(s.Current().Edits)
		h.want = append(h.want[:acked], describe(s.Current()))
	}
	if errors.Is(err, ErrFailed) {
		if vfs.IsNoSpace(err) || s.Err() == nil {
			t.Fatalf("%sfinal, but %v", why(), err)
		}
		if err := s.Apply(&Edit{}); !errors.Is(err, ErrFailed) || vfs.IsNoSpace(err) {
			t.Fatalf("%sthe next edit: %v", why(), err)
		}
		v := s.Acquire()
		if describe(v) != h.want[acked] {
			t.Fatalf("%sthe version is\n%s", why(), v)
		}
		v.Release()
	}
	_ = s.Close() // may fail as planned
	if n := len(h.want) - 1; n == acked {
		h.want = append(h.want, "") // so that an edit more is within bounds; nothing matches it
	}
	for i := range uint64(4) {
		o := vfs.CrashOptions{Seed: i}
		if i < 2 {
			o.Keep = []vfs.Keep{vfs.KeepNone, vfs.KeepAll}[i]
		}
		reopened(t, crash.PowerLoss(o), h.want, acked, why())
	}
	return true
}

// again makes an edit for a try after one that had no space.
func (h *history) again() *Edit {
	e := &Edit{Reason: "again"}
	h.last = h.set.Current().FlushedLSN
	h.flush(e)
	return e
}

// TestFullDisk has a disk that stays full for a while: edits that fit into the room that is left go through, the others
// change nothing, and when there is space all goes on.
func TestFullDisk(t *testing.T) {
	fault := vfs.NewFault(newFS(t, vfs.NewMem()))
	s := mustStart(t, fault, small()) // which wants to rotate soon, and has no room for it
	fault.SetQuota(fault.Used())
	added, full := 0, 0
	for range 50 {
		lsn := s.Current().FlushedLSN + 1
		err := s.Apply(flushed(seg(s.NewFileNum(), s.NewRunID(), "k", "k", lsn, lsn)))
		switch {
		case err == nil && full == 0:
			added++
		case !vfs.IsNoSpace(err) || errors.Is(err, ErrFailed) || s.Err() != nil:
			t.Fatalf("after %d edits, %d times full: %v", added, full, err)
		default:
			full++
		}
	}
	if added < 20 || full < 10 {
		t.Fatalf("%d edits, then %d times full", added, full)
	}
	fault.SetQuota(-1)
	addOne(t, s, "k")
	must(t, s.Close())
	s = mustOpen(t, fault, small())
	if v := s.Current(); v.SegmentCount() != added+1 || s.Tail().CutBytes != 0 {
		t.Fatalf("%d segments, want %d, %+v", v.SegmentCount(), added+1, s.Tail())
	}
}

// A failed sync that says the disk is full is final like any other, and must not look like one that can be waited out.
func TestSyncWithoutSpaceIsFinal(t *testing.T) {
	fault := vfs.NewFault(newFS(t, vfs.NewMem()))
	s := mustStart(t, fault, testOptions())
	defer s.Close()
	fault.Inject(vfs.Plan{Ops: vfs.OpSyncData, Err: syscall.ENOSPC})
	e := flushed(seg(s.NewFileNum(), s.NewRunID(), "k", "k", 1, 1))
	for range 2 {
		if err := s.Apply(e); !errors.Is(err, ErrFailed) || vfs.IsNoSpace(err) {
			t.Fatal(err)
		}
	}
}

// TestFoundIsMadeDurable after a kill before each call, and after each sync that failed: SyncFound changes nothing, and no power loss
// takes back what there was.
func TestFoundIsMadeDurable(t *testing.T) {
	for seed := range uint64(2) {
		again := 0
		check := func(what string, left *vfs.Crash) {
			t.Helper()
			s := mustOpen(t, left, small())
			want := describe(s.Current())
			if !s.Tail().Marked {
				again++
			}
			must(t, s.SyncFound())
			if got := describe(mustOpen(t, left, small()).Current()); got != want {
				t.Fatalf("seed %d, %s: it is\n%s, it was\n%s", seed, what, got, want)
			}
			after := mustOpen(t, left.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), small())
			if got := describe(after.Current()); got != want {
				t.Fatalf("seed %d, %s: after a power loss it is\n%s, it was\n%s", seed, what, got, want)
			}
		}
		crash := vfs.NewCrash(seed)
		fault := vfs.NewFault(newFS(t, crash))
		fault.OnCall(func(c vfs.Call) error {
			if c.Op&vfs.OpChanges != 0 {
				check("killed before "+c.String(), crash.KillProcess())
			}
			return nil
		})
		_, err := life(fault, seed, func(*history) {})
		must(t, err)
		for k := int64(1); ; k++ {
			crash := vfs.NewCrash(seed)
			fault := vfs.NewFault(newFS(t, crash))
			fault.Inject(vfs.Plan{K: k, Kind: vfs.FailSync})
			_, _ = life(fault, seed, func(*history) {}) // what it says depends on the call that failed
			if fault.Fired() == 0 {
				break
			}
			check(fmt.Sprint(fault.Failed()), crash.KillProcess())
		}
		if again < 20 {
			t.Errorf("seed %d: only %d manifests were not known to be durable", seed, again)
		}
	}
}

// What a write without space leaves is cut off, also when only shorter edits follow, and none.
func TestWriteWithoutSpaceIsCutOff(t *testing.T) {
	for _, follow := range []bool{false, true} {
		crash := vfs.NewCrash(1)
		fault := vfs.NewFault(newFS(t, crash))
		s := mustStart(t, fault, testOptions())
		addOne(t, s, "a")
		fault.Inject(vfs.Plan{Kind: vfs.FailNoSpace, Ops: vfs.OpWrite})
		if err := s.Apply(&Edit{Reason: strings.Repeat("long ", 500)}); !vfs.IsNoSpace(err) {
			t.Fatal(err)
		}
		if follow {
			must(t, s.Apply(&Edit{Reason: "short"}))
		}
		must(t, s.Close())
		tail := mustOpen(t, crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll}), testOptions()).Tail()
		if tail.CutBytes != 0 || !tail.Marked {
			t.Errorf("followed by another edit %t: %+v", follow, tail)
		}
	}
}

// After Close the last edit can't be taken for a torn tail any more.
func TestCloseMakesTheMarkDurable(t *testing.T) {
	crash := vfs.NewCrash(1)
	s := mustStart(t, newFS(t, crash), testOptions())
	addOne(t, s, "a")
	marked := func() bool {
		return mustOpen(t, crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), testOptions()).Tail().Marked
	}
	if marked() {
		t.Fatal("the mark was waited for")
	}
	must(t, s.Close())
	if !marked() {
		t.Fatal("the mark is lost")
	}
}

// A mark that cannot be written costs nothing but itself.
func TestMarkThatFails(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace} {
		crash := vfs.NewCrash(1)
		fault := vfs.NewFault(newFS(t, crash))
		s := mustStart(t, fault, testOptions())
		addOne(t, s, "a")
		fault.Inject(vfs.Plan{K: 2, Kind: kind, Ops: vfs.OpWrite})
		b := addOne(t, s, "b")
		after := mustOpen(t, crash.KillProcess(), testOptions())
		if fault.Fired() != 1 || after.Current().Segment(b) == nil {
			t.Fatalf("kind %d: %s", kind, after.Current())
		}
		c := addOne(t, s, "c")
		must(t, s.Close())
		after = mustOpen(t, crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), testOptions())
		if after.Current().Segment(c) == nil || after.Tail().CutBytes != 0 || !after.Tail().Marked {
			t.Fatalf("kind %d: %+v\n%s", kind, after.Tail(), after.Current())
		}
	}
}
