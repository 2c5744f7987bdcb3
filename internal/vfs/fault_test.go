package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestFaultFailsTheKthCall(t *testing.T) {
	errOwn := errors.New("own")
	script := func(fsys FS) error {
		f, err := fsys.Create("a")
		if err != nil {
			return err
		}
		_, err1 := f.WriteAt([]byte("12345678"), 0)
		err2 := f.Sync()
		_, err3 := f.ReadAt(make([]byte, 8), 0)
		return errors.Join(err1, err2, err3, f.Close(), fsys.Rename("a", "b"), fsys.SyncDir("/"))
	}
	for _, c := range []struct {
		plan  Plan
		fired int64
		err   error
		left  string // content of b, or "none"
	}{
		{Plan{K: 1}, 1, syscall.EIO, "none"},
		{Plan{K: 2}, 1, syscall.EIO, ""},
		{Plan{K: 3}, 1, syscall.EIO, "12345678"},
		{Plan{K: 6}, 1, syscall.EIO, "none"},
		{Plan{K: 6, Kind: FailAfter}, 1, syscall.EIO, "12345678"},
		{Plan{K: 7}, 1, syscall.EIO, "12345678"},
		{Plan{K: 8}, 0, nil, "12345678"},
		{Plan{K: 2, Count: -1}, 6, syscall.EIO, "none"},
		{Plan{Kind: FailShort}, 1, syscall.EIO, "1234"},
		{Plan{Kind: FailShort, Ops: OpRead}, 1, syscall.EIO, "12345678"},
		{Plan{Kind: FailAfter, Ops: OpWrite}, 1, syscall.EIO, "12345678"},
		{Plan{Kind: FailNoSpace, K: 2}, 1, ErrNoSpace, "1234"},
		{Plan{Kind: FailNoSpace}, 1, ErrNoSpace, "none"},
		{Plan{Kind: FailSync, K: 2}, 1, syscall.EIO, "12345678"},
		{Plan{Kind: FailSync, K: 3}, 0, nil, "12345678"},
		{Plan{Ops: OpRename, Name: "b", Err: errOwn}, 1, errOwn, "none"},
		{Plan{Ops: OpRename, Name: "c"}, 0, nil, "12345678"},
		{Plan{Ops: OpClose}, 1, syscall.EIO, "12345678"},
	} {
		mem := NewMem()
		f := NewFault(mem)
		f.Inject(c.plan)
		err := script(f)
		if !errors.Is(err, c.err) || (err != nil) != (c.err != nil) || f.Fired() != c.fired {
			t.Errorf("%+v: error %v, fired %d", c.plan, err, f.Fired())
		}
		left := "none"
		if b, err := mem.ReadFile("b", 100); err == nil {
			left = string(b)
		}
		if left != c.left {
			t.Errorf("%+v: left %q, want %q\n%s", c.plan, left, c.left, f.Trace())
		}
		f.Heal()
		if _, err := f.List("/"); err != nil {
			t.Errorf("after Heal: %v", err)
		}
	}
}

func TestFaultPartialReadAndWriteCounts(t *testing.T) {
	f := NewFault(NewMem())
	file := put(t, f, "f", "12345678")
	f.Inject(Plan{Kind: FailShort, Count: 2})
	if n, err := file.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("short write: %d, %v", n, err)
	}
	b := make([]byte, 8)
	if n, err := file.ReadAt(b, 0); n != 4 || !errors.Is(err, syscall.EIO) || string(b[:n]) != "ab34" {
		t.Fatalf("short read: %d, %v, %q", n, err, b)
	}
	if n, err := file.ReadAt(b, 6); n != 2 || err != io.EOF {
		t.Fatalf("read at the end: %d, %v", n, err)
	}
}

func TestFaultQuota(t *testing.T) {
	f := NewFault(NewMem())
	f.SetQuota(3 * blockSize)
	a := put(t, f, "a", strings.Repeat("a", blockSize+1)) // two blocks
	write(t, a, 0, "again")                               // no new ones

	n, err := a.WriteAt(make([]byte, 3*blockSize), blockSize+100)
	if n != 2*blockSize-100 {
		t.Fatalf("wrote %d bytes into what is left", n)
	}
	mustErr(t, err, ErrNoSpace)
	if size, _ := a.Size(); size != 3*blockSize || f.Used() != 3*blockSize {
		t.Fatalf("size %d, used %d", size, f.Used())
	}
	if n, err := a.WriteAt([]byte("x"), 3*blockSize); n != 0 || !errors.Is(err, ErrNoSpace) {
		t.Fatalf("write to a full disk: %d, %v", n, err)
	}
	if available, total, _ := f.Free("/"); available != 0 || total != 3*blockSize {
		t.Fatalf("free %d of %d", available, total)
	}

	f.SetQuota(4 * blockSize) // somebody makes room
	write(t, a, 3*blockSize, "x")
	_, err = put(t, f, "b", "").WriteAt([]byte("x"), 0)
	mustErr(t, err, ErrNoSpace)
	must(t, a.Truncate(blockSize))
	if f.Used() != blockSize {
		t.Fatalf("used %d after truncation", f.Used())
	}
}

// What a process that ended has left counts against the quota of the next.
func TestFaultCount(t *testing.T) {
	mem := NewMem()
	must(t, mem.MkdirAll("d/e"))
	for _, name := range []string{"d/a", "d/e/b", "other"} {
		must(t, put(t, mem, name, strings.Repeat("x", blockSize+1)).Close())
	}
	f := NewFault(mem)
	a, err := f.Open("d/a")
	must(t, err)
	must(t, f.Count("d"))
	if f.Used() != 4*blockSize {
		t.Fatalf("used %d, want those of two files", f.Used())
	}
	must(t, f.Remove("d/e/b"))
	must(t, f.Remove("d/a"))
	if f.Used() != 2*blockSize {
		t.Fatalf("used %d, want those of the file that is open", f.Used())
	}
	must(t, a.Close())
	if f.Used() != 0 {
		t.Fatalf("used %d with all files gone", f.Used())
	}
	mustErr(t, f.Count("none"), fs.ErrNotExist)
}

func TestFaultQuotaOfRemovedFiles(t *testing.T) {
	mem := NewMem()
	must(t, put(t, mem, "before", strings.Repeat("b", 10)).Close())
	f := NewFault(mem)
	used := func(blocks int64) {
		t.Helper()
		if f.Used() != blocks*blockSize {
			t.Fatalf("used %d, want %d blocks", f.Used(), blocks)
		}
	}
	b, err := f.Open("before")
	must(t, err)
	used(1)
	must(t, b.Close())

	must(t, f.MkdirAll("d"))
	a := put(t, f, "d/a", "a")
	must(t, f.Link("d/a", "d/link"))
	must(t, f.Remove("d/a"))
	used(2) // it has another name
	must(t, f.Rename("d", "e"))
	must(t, f.Rename("before", "e/link"))
	used(2) // it is open
	must(t, a.Close())
	used(1)
	if err := a.Close(); err == nil {
		t.Fatal("closed twice")
	}
	used(1)
	must(t, f.Remove("e/link"))
	used(0)
}

func TestFaultSkipsSyncs(t *testing.T) {
	run := func(plant func(f *Fault)) (after *Crash, f *Fault) {
		c := NewCrash(1)
		f = NewFault(c)
		plant(f)
		file := put(t, f, "f.log", "data")
		must(t, file.SyncData())
		must(t, f.SyncDir("/"))
		return c.PowerLoss(CrashOptions{Keep: KeepNone}), f
	}
	after, f := run(func(*Fault) {})
	mustRead(t, after, "f.log", "data")
	if f.Skipped() != 0 {
		t.Fatalf("skipped %d", f.Skipped())
	}
	sites := f.SyncSites()
	if len(sites) != 2 {
		t.Fatalf("sites: %+v", sites)
	}
	for _, s := range sites {
		if !strings.HasPrefix(s.At, "vfs.TestFaultSkipsSyncs.func1 fault_test.go:") || s.Calls != 1 {
			t.Fatalf("site: %+v", s)
		}
		after, f := run(func(f *Fault) { f.SkipSite(s.At) })
		lost := content("f.log")(after)
		if f.Skipped() != 1 || s.Op == OpSyncData && lost != "" || s.Op == OpSyncDir && lost == "data" {
			t.Fatalf("without %+v: skipped %d, left %q", s, f.Skipped(), lost)
		}
	}

	after, f = run(func(f *Fault) { f.SkipSync(OpSyncs, "*.log") })
	mustRead(t, after, "f.log", "")
	if !strings.Contains(f.Trace(), "syncdata f.log (skipped)") {
		t.Fatalf("trace:\n%s", f.Trace())
	}
	after, _ = run(func(f *Fault) { f.SkipSync(OpSyncDir, "") })
	mustList(t, after, "/")
}

func TestFaultHook(t *testing.T) {
	c := NewCrash(1)
	f := NewFault(c)
	var calls []string
	errHook := errors.New("hook")
	f.OnCall(func(call Call) error {
		calls = append(calls, fmt.Sprint(call.Op, " ", call.Name))
		if call.Op == OpSync { // what would a power cut leave just now?
			cuts(t, c, names("/"), "", "f")
		}
		if call.Op == OpRemove {
			return errHook
		}
		return nil
	})
	must(t, put(t, f, "f", "x").Sync())
	mustErr(t, f.Remove("f"), errHook)
	if got := strings.Join(calls, ", "); got != "create f, write f, sync f, remove f" {
		t.Fatal(got)
	}
	mustList(t, c, "/", "f")
}

func TestFaultTellsWhatFailedAndWhatIsOpen(t *testing.T) {
	f := NewFault(NewMem())
	a, b := put(t, f, "a", "x"), put(t, f, "b", "")
	f.Inject(Plan{Count: 2, Ops: OpWrite | OpClose})
	_, err := b.WriteAt([]byte("x"), 0)
	mustErr(t, err, syscall.EIO)
	if got := f.OpenFiles(); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("open: %q", got)
	}
	mustErr(t, a.Close(), syscall.EIO) // closed all the same
	if got := f.OpenFiles(); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("open: %q", got)
	}
	must(t, b.Close())
	failed := f.Failed()
	if len(failed) != 2 || failed[0].Op != OpWrite || failed[0].Name != "b" || failed[1].Op != OpClose || failed[1].Name != "a" {
		t.Fatalf("failed: %v", failed)
	}
}

func TestFaultTraceKeepsTheLastCalls(t *testing.T) {
	f := NewFault(NewMem())
	file := put(t, f, "f", "")
	for i := range 3 * maxTrace / 2 {
		write(t, file, int64(i), "x")
	}
	must(t, f.Rename("f", "g"))
	lines := strings.Split(strings.TrimSpace(f.Trace()), "\n")
	n := f.Calls()
	if len(lines) != maxTrace || lines[maxTrace-1] != fmt.Sprintf("#%d rename f -> g", n) ||
		lines[maxTrace-2] != fmt.Sprintf("#%d write f [%d, +1)", n-1, 3*maxTrace/2-1) ||
		!strings.HasPrefix(lines[0], fmt.Sprintf("#%d ", n-maxTrace+1)) {
		t.Fatalf("%d lines: %q ... %q", len(lines), lines[0], lines[len(lines)-2:])
	}
}

func TestFaultCountsUnderConcurrency(t *testing.T) {
	f := NewFault(NewMem())
	f.Inject(Plan{K: 50, Ops: OpWrite})
	file := put(t, f, "f", "")
	var failed sync.Map
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := file.WriteAt([]byte{1}, int64(i)); err != nil {
					failed.Store(err, true)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	failed.Range(func(any, any) bool { n++; return true })
	if n != 1 || f.Fired() != 1 || f.Calls() != 202 {
		t.Fatalf("%d failed, %d fired, %d calls", n, f.Fired(), f.Calls())
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.log", "wal/1.log", true},
		{"*.log", "/tmp/x/wal/1.log", true},
		{"wal/*.log", "/tmp/x/wal/1.log", true},
		{"wal/*.log", "1.log", false},
		{"wal", "/tmp/x/wal", true},
		{"wal", "wal/1.log", false},
		{"CLEAN*", "wal/CLEAN.tmp", true},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestOpString(t *testing.T) {
	if got := (OpSyncDir | OpClose).String(); got != "syncdir|close" {
		t.Fatal(got)
	}
	if n := strings.Count(OpAny.String(), "|") + 1; 1<<n != opEnd {
		t.Fatalf("%d names", n)
	}
}
