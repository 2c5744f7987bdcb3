package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// testLog is a log whose events have one session and nothing but keys and values.
type testLog struct {
	*Log
	arena *tail.Arena
	clock clock.Clock
}

func openTestLog(t testing.TB, fsys vfs.FS, dir string, change func(*LogOptions)) *testLog {
	t.Helper()
	if err := fsys.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	tl := &testLog{arena: tail.NewArena(), clock: clock.NewSystem()}
	o := LogOptions{
		FS: fsys, Dir: dir, Clock: tl.clock, Now: tl.clock.Now, Arena: tl.arena, LogID: [16]byte{1}, TimelineID: [16]byte{2},
		Dictionary: func(event.LSN) []byte {
			return event.AppendDictionary(nil, &event.Dictionary{NextSession: 1, NextDataset: 1})
		},
	}
	sc, err := NewScanner(fsys, dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = sc.Next()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	o.Tail = sc.Tail()
	sc.Close()
	if change != nil {
		change(&o)
	}
	tl.Log = NewLog(o)
	if err := tl.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tl.arena.Close)
	return tl
}

// commit takes one put through the log.
func (tl *testLog) commit(c *Commit, durable bool, key, value []byte) error {
	c.Ack = Ack{Durable: durable, Window: 10 * time.Millisecond}
	n := event.PayloadSize(1, key, value, nil)
	c.Sizes, c.Wire = append(c.Sizes[:0], n), int64(n)+event.MaxWireOverhead
	if len(c.Pos) == 0 {
		c.Pos = make([]tail.Pos, 1)
	}
	now := tl.clock.Now()
	if _, err := tl.Admit(now, 0, false); err != nil {
		return err
	}
	if err := tl.Begin(c, now); err != nil {
		return err
	}
	r := tl.arena.Record(c.Pos[0])
	r.Fill(c.First, c.Time, 1, event.OpPut, 0, 0)
	event.AppendPayload(r.Payload()[:0], 1, key, value, nil)
	tl.Applied(c)
	if durable {
		return tl.Wait(c)
	}
	tl.WaitApplied(c)
	return nil
}

// readAll returns the values of all events by LSN.
func readAll(t testing.TB, fsys vfs.FS, dir string) map[event.LSN]string {
	t.Helper()
	sc, err := NewScanner(fsys, dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	got := map[event.LSN]string{}
	for {
		f, err := sc.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != KindCommit {
			continue
		}
		for e, err := range f.Events() {
			if err != nil {
				t.Fatal(err)
			}
			got[e.LSN] = string(e.Value)
		}
	}
}

// TestCloseStartsAFile when the newest is long, so that the next open reads little, and goes on in it. Whatever call fails, nothing
// is lost.
func TestCloseStartsAFile(t *testing.T) {
	value := make([]byte, 1<<20)
	var c Commit
	write := func(tl *testLog, n int) {
		t.Helper()
		for range n {
			if err := tl.commit(&c, true, []byte("key"), value); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(fsys vfs.FS, files, events int) {
		t.Helper()
		if names, err := ListFiles(fsys, "/wal"); err != nil || len(names) != files {
			t.Fatalf("%d files, want %d: %v", len(names), files, err)
		}
		if got := readAll(t, fsys, "/wal"); len(got) != events {
			t.Fatalf("%d events, want %d", len(got), events)
		}
	}
	mem := vfs.NewMem()
	tl := openTestLog(t, mem, "/wal", nil)
	write(tl, 7)
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	want(mem, 1, 7)
	tl = openTestLog(t, mem, "/wal", nil)
	write(tl, 1)
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	want(mem, 2, 8)
	sc, err := NewScanner(mem, "/wal", ScanOptions{FromFile: 2})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = sc.Next()
	}
	if tail := sc.Tail(); err != io.EOF || !tail.Clean || tail.NextLSN != 9 || sc.Bytes() > 1<<10 {
		t.Fatalf("%v; tail %+v after %d bytes", err, tail, sc.Bytes())
	}
	sc.Close()
	tl = openTestLog(t, mem, "/wal", nil)
	write(tl, 1)
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	want(mem, 2, 9)

	for k := int64(1); ; k++ {
		crash := vfs.NewCrash(1)
		fault := vfs.NewFault(crash)
		tl := openTestLog(t, fault, "/wal", nil)
		write(tl, 9)
		fault.Inject(vfs.Plan{K: k})
		err := tl.Close()
		if fault.Fired() == 0 {
			if err != nil || k < 8 {
				t.Fatalf("%d calls of Close: %v", k-1, err)
			}
			break
		}
		for _, left := range []*vfs.Crash{crash.KillProcess(), crash.PowerLoss(vfs.CrashOptions{})} {
			if got := readAll(t, left, "/wal"); len(got) != 9 {
				t.Fatalf("after %v: %d events, want 9", fault.Failed(), len(got))
			}
			tl = openTestLog(t, left, "/wal", nil)
			write(tl, 1)
			if err := tl.Close(); err != nil {
				t.Fatalf("after %v: %v", fault.Failed(), err)
			}
			if got := readAll(t, left, "/wal"); len(got) != 10 {
				t.Fatalf("after %v, opened again: %d events, want 10", fault.Failed(), len(got))
			}
		}
	}
}

func TestLogConcurrentCommitsAreDenseAndReadBack(t *testing.T) {
	for _, durable := range []bool{true, false} {
		fsys := vfs.NewMem()
		tl := openTestLog(t, fsys, "/wal", func(o *LogOptions) { o.FileBytes = 1 << 20 })
		const writers, each = 32, 300
		want := make(map[event.LSN]string)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				var c Commit
				for i := range each {
					v := fmt.Sprintf("%d-%d-%0200d", w, i, i)
					if err := tl.commit(&c, durable, []byte("key"), []byte(v)); err != nil {
						t.Error(err)
						return
					}
					if durable && tl.DurableLSN() < c.Last() {
						t.Errorf("LSN %d acknowledged, durable is %d", c.Last(), tl.DurableLSN())
					}
					mu.Lock()
					want[c.First] = v
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := tl.Close(); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, fsys, "/wal")
		if len(got) != writers*each {
			t.Fatalf("%d events, want %d", len(got), writers*each)
		}
		for lsn := event.LSN(1); lsn <= writers*each; lsn++ {
			if got[lsn] != want[lsn] {
				t.Fatalf("LSN %d is %.20q, want %.20q", lsn, got[lsn], want[lsn])
			}
		}
		if r := tl.Metrics().Rotations; r == 0 {
			t.Error("no file was sealed")
		}
	}
}

func TestLogWaitDurable(t *testing.T) {
	fsys := vfs.NewMem()
	tl := openTestLog(t, fsys, "/wal", nil)
	defer tl.Close()
	var c Commit
	for range 3 {
		if err := tl.commit(&c, false, []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := tl.WaitDurable(context.Background(), c.Last()); err != nil || tl.DurableLSN() < c.Last() {
		t.Fatalf("WaitDurable: %v, durable %d, want %d", err, tl.DurableLSN(), c.Last())
	}
	if err := tl.WaitDurable(context.Background(), c.Last()+1); err == nil {
		t.Fatal("waiting for an LSN that was never assigned succeeds")
	}
}

func TestLogFailedSyncIsFinal(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	tl := openTestLog(t, fault, "/wal", nil)
	var c Commit
	if err := tl.commit(&c, true, []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	fault.Inject(vfs.Plan{Kind: vfs.FailSync})
	if err := tl.commit(&c, true, []byte("k"), []byte("v")); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("commit whose sync failed: %v", err)
	}
	if err := tl.commit(&c, true, []byte("k"), []byte("v")); !errors.Is(err, ErrFailed) {
		t.Fatalf("commit after the failure: %v", err)
	}
	if d := tl.DurableLSN(); d != 1 {
		t.Fatalf("durable %d, want 1", d)
	}
	if err := tl.Close(); err == nil {
		t.Fatal("Close after a failure returns nil")
	}
}

func BenchmarkLogDurable(b *testing.B) {
	for _, writers := range []int{1, 16, 64, 1024} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			tl := openTestLog(b, vfs.OS, b.TempDir(), nil)
			defer tl.Close()
			value := make([]byte, 100)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range writers {
				n := b.N / writers
				if w < b.N%writers {
					n++
				}
				wg.Go(func() {
					var c Commit
					for range n {
						if err := tl.commit(&c, true, []byte("user12345678"), value); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			m := tl.Metrics()
			b.ReportMetric(float64(m.Events)/float64(max(m.Groups, 1)), "events/group")
		})
	}
}

// A commit is let in when what it would have waited for becomes durable beside it, though the next group has begun, which is not late.
func TestAdmitWaitsForNoGroupThatIsNotLate(t *testing.T) {
	c := clock.NewManual(time.Unix(1, 0))
	fault := vfs.NewFault(vfs.NewMem())
	var between atomic.Pointer[func()] // once, when Admit has seen how late the oldest group is
	tl := openTestLog(t, fault, "/wal", func(o *LogOptions) {
		o.Clock = c
		o.Now = func() int64 {
			if f := between.Swap(nil); f != nil {
				(*f)()
			}
			return c.Now()
		}
	})
	tl.clock = c
	syncing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fault.OnCall(func(call vfs.Call) error {
		if call.Op&(vfs.OpSync|vfs.OpSyncData) != 0 {
			once.Do(func() { close(syncing); <-goOn })
		}
		return nil
	})
	var first, second Commit
	if err := tl.commit(&first, false, []byte("key"), nil); err != nil {
		t.Fatal(err)
	}
	durable := make(chan error, 1)
	go func() { durable <- tl.WaitDurable(context.Background(), first.Last()) }()
	<-syncing
	c.Advance(time.Second)
	beside := func() {
		close(goOn)
		if err := errors.Join(<-durable, tl.commit(&second, false, []byte("key"), nil)); err != nil {
			t.Error(err)
		}
	}
	between.Store(&beside)
	admitted := make(chan error, 1)
	go func() {
		_, err := tl.Admit(c.Now(), 0, false)
		admitted <- err
	}()
	select {
	case err := <-admitted:
		if err != nil || second.First == 0 || tl.DurableLSN() >= second.First {
			t.Errorf("%v; the second commit has LSN %d, durable is %d", err, second.First, tl.DurableLSN())
		}
	case <-time.After(10 * time.Second):
		t.Error("Admit waits for a group that has its window before it")
	}
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
}

// A group that was acknowledged early and whose time comes while a caller leads is written when that caller gives leadership up: nobody
// looks at the clock again for it.
func TestLeaderLeavesNoLateGroup(t *testing.T) {
	c := clock.NewManual(time.Unix(1, 0))
	tl := openTestLog(t, vfs.NewMem(), "/wal", func(o *LogOptions) { o.Clock, o.Now = c, c.Now })
	tl.clock = c
	for !tl.leading.CompareAndSwap(false, true) { // as a caller does, whose events are durable by now
		runtime.Gosched()
	}
	var late Commit
	if err := tl.commit(&late, false, []byte("key"), nil); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Second)
	if err := c.AwaitPending(t.Context(), 1); err != nil { // until run has seen that another leads
		t.Fatal(err)
	}
	tl.lead(0, true)
	for deadline := time.Now().Add(10 * time.Second); tl.DurableLSN() < late.Last(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Error("the group is late, and nobody writes it")
			break
		}
	}
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
}
