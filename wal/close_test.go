package wal

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestCloseStartsAFileWithEveryFailure of a call, in each way: the log is whole for the next process, and what that writes no power
// loss takes back. Failures before the call are TestCloseStartsAFile's.
func TestCloseStartsAFileWithEveryFailure(t *testing.T) {
	base := vfs.NewCrash(1)
	write := func(tl *testLog, n int) {
		t.Helper()
		var c Commit
		for range n {
			if err := tl.commit(&c, true, []byte("key"), make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tl := openTestLog(t, base, "/wal", nil)
	write(tl, 7)
	if err := errors.Join(tl.Close(), base.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []vfs.Kind{vfs.FailAfter, vfs.FailNoSpace, vfs.FailSync} {
		for k := int64(1); ; k++ {
			crash := base.KillProcess()
			fault := vfs.NewFault(crash)
			tl := openTestLog(t, fault, "/wal", nil)
			write(tl, 2)
			fault.Inject(vfs.Plan{K: k, Kind: kind})
			err := tl.Close()
			if open := fault.OpenFiles(); len(open) > 0 {
				t.Errorf("kind %d, after %v: files stay open: %v", kind, fault.Failed(), open)
			}
			if fault.Fired() == 0 {
				if err != nil || k < 4 {
					t.Fatalf("%d calls of Close: %v", k-1, err)
				}
				break
			}
			if err := writesOneMore(t, crash.KillProcess(), 9); err != nil {
				t.Errorf("kind %d, killed after %v: %v", kind, fault.Failed(), err)
			}
			if err := writesOneMore(t, crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), 9); err != nil {
				t.Errorf("kind %d, power loss after %v: %v", kind, fault.Failed(), err)
			}
		}
	}
}

// writesOneMore opens what a process has left of a log, as the next owner does, writes an event and closes the log.
func writesOneMore(t *testing.T, left *vfs.Crash, n int) error {
	sc, err := NewScanner(left, "/wal", ScanOptions{})
	if err != nil {
		return err
	}
	defer sc.Close()
	for err == nil {
		_, err = sc.Next()
	}
	if err != io.EOF {
		return err
	}
	if err := SyncTail(left, "/wal", sc.Tail(), false); err != nil {
		return err
	}
	if got := len(readAll(t, left.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), "/wal")); got != n {
		return errors.New("what was found is not durable")
	}
	tl := openTestLog(t, left, "/wal", nil)
	var c Commit
	if err := tl.commit(&c, true, []byte("key"), []byte("one more")); err != nil {
		return err
	}
	if err := tl.Close(); err != nil {
		return err
	}
	if got := readAll(t, left.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), "/wal"); len(got) != n+1 || got[event.LSN(n+1)] != "one more" {
		return errors.New("not all is durable")
	}
	return nil
}

// TestCloseWithoutRoomForAFile goes on in the one that is there: nothing but the time of the next open depends on another.
func TestCloseWithoutRoomForAFile(t *testing.T) {
	dictionary := func(event.LSN) []byte {
		d := &event.Dictionary{NextSession: 1, NextDataset: 20_000}
		for id := event.DatasetID(1); id < d.NextDataset; id++ {
			d.Datasets = append(d.Datasets, event.DatasetInfo{ID: id, Name: fmt.Sprintf("a dataset with a long name, %d", id)})
		}
		return event.AppendDictionary(nil, d)
	}
	fault := vfs.NewFault(vfs.NewMem())
	tl := openTestLog(t, fault, "/wal", func(o *LogOptions) { o.Dictionary = dictionary })
	var c Commit
	for range 9 {
		if err := tl.commit(&c, true, []byte("key"), make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	fault.SetQuota(fault.Used() + 100<<10)
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	sc, err := NewScanner(fault, "/wal", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	for err == nil {
		_, err = sc.Next()
	}
	if tail := sc.Tail(); err != io.EOF || !tail.Clean || tail.File != 1 || tail.NextLSN != 10 {
		t.Fatalf("%v; %+v", err, tail)
	}
	if names, err := fault.List("/wal"); err != nil || len(names) != 2 {
		t.Fatalf("%v, %v", names, err)
	}
}

// TestSyncTailFindsOtherBytes than the scan did: after a failed sync the system may drop what it shows, and show what is on disk.
func TestSyncTailFindsOtherBytes(t *testing.T) {
	mem := vfs.NewMem()
	b := newBuilder(mem, "db/wal")
	b.start(EndingNone)
	b.puts(1)
	last := b.puts(1).Offset
	b.store()
	s, err := NewScanner(mem, b.dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for err == nil {
		_, err = s.Next()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	if err := SyncTail(mem, b.dir, s.Tail(), false); err != nil {
		t.Fatal(err)
	}
	fault := vfs.NewFault(mem)
	fault.OnCall(func(c vfs.Call) error {
		if c.Op != vfs.OpOpenRW {
			return nil
		}
		f, err := mem.OpenRW(c.Name)
		if err == nil {
			_, err = f.WriteAt(make([]byte, int64(b.end)-last), last)
			err = errors.Join(err, f.Close())
		}
		return err
	})
	if err := SyncTail(fault, b.dir, s.Tail(), false); err == nil {
		t.Error("the last frame is gone, and the log is called durable")
	}
}
