package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// logStore is a store whose log files are small; retention keeps so many bytes of them, 0 = all.
func logStore(t *testing.T, dir string, keep int64) (*dyngo.DB, *dyngo.Dataset) {
	t.Helper()
	db, err := dyngo.Open(dir, &dyngo.Options{LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: keep}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return db, ds
}

// grow writes n events of 100 KB each.
func grow(t *testing.T, ds *dyngo.Dataset, n int) {
	t.Helper()
	for i := range n {
		if _, err := ds.Put(fmt.Appendf(nil, "key-%d", i), bytes.Repeat([]byte{byte(i)}, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
}

// follower follows a log in the background. Each LSN goes to lsns, each gap to gaps.
type follower struct {
	lsns chan event.LSN
	gaps chan [2]event.LSN
	done chan error
}

func follow(t *testing.T, dir string, from event.LSN, pause func(event.LSN)) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{lsns: make(chan event.LSN, 1000), gaps: make(chan [2]event.LSN, 10), done: make(chan error, 1)}
	src := &LogSource{FS: vfs.OS, Dir: filepath.Join(dir, "wal"), Missed: func(a, b event.LSN) { f.gaps <- [2]event.LSN{a, b} }}
	files := wal.OpenFiles(vfs.OS, src.Dir)
	v := NewLogView(files, LogFilter{From: from})
	go func() {
		f.done <- src.Follow(ctx, v, func(fr *wal.Frame) error {
			return v.Events(fr, func(e *LogEvent) error {
				f.lsns <- e.LSN
				if pause != nil {
					pause(e.LSN)
				}
				return nil
			})
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-f.done; !errors.Is(err, context.Canceled) {
			t.Errorf("follow ends with %v", err)
		}
		files.Close()
	})
	return f
}

// next is the next LSN that the follower shows.
func (f *follower) next(t *testing.T) event.LSN {
	t.Helper()
	select {
	case lsn := <-f.lsns:
		return lsn
	case err := <-f.done:
		f.done <- context.Canceled
		t.Fatalf("follow ends with %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("nothing comes")
	}
	return 0
}

// gap is what is told as missed.
func (f *follower) gap(t *testing.T) [2]event.LSN {
	t.Helper()
	select {
	case gap := <-f.gaps:
		return gap
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told as missed")
	}
	return [2]event.LSN{}
}

func (f *follower) want(t *testing.T, from, to event.LSN) {
	t.Helper()
	for lsn := from; lsn <= to; lsn++ {
		if got := f.next(t); got != lsn {
			t.Fatalf("LSN %d comes, want %d", got, lsn)
		}
	}
}

// Who follows the log sees every event once, also when the log goes on in other files.
func TestFollowAcrossFiles(t *testing.T) {
	dir := t.TempDir()
	db, ds := logStore(t, dir, 0) // who follows may be slow: nothing is dropped before it
	f := follow(t, dir, 2, nil)
	grow(t, ds, 35)
	f.want(t, 2, db.DurableLSN())
	if n := db.Metrics().LogFiles; n < 3 {
		t.Errorf("%d log files", n)
	}
}

// Who can't keep up with retention is told what is gone, and goes on behind it.
func TestFollowTellsWhatRetentionDropped(t *testing.T) {
	dir := t.TempDir()
	db, ds := logStore(t, dir, 2<<20)
	grow(t, ds, 1)
	held, goOn := make(chan bool), make(chan bool)
	f := follow(t, dir, 0, func(lsn event.LSN) {
		if lsn == 1 {
			held <- true
			<-goOn
		}
	})
	<-held
	grow(t, ds, 60)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	floor := db.Metrics().FloorLSN
	if floor < 12 {
		t.Fatalf("the floor is at %d: too little has gone", floor)
	}
	close(goOn)
	last := event.LSN(0)
	lsn := f.next(t)
	for ; lsn <= floor; lsn = f.next(t) { // what the first file had
		if lsn != last+1 {
			t.Fatalf("after LSN %d comes %d", last, lsn)
		}
		last = lsn
	}
	if gap := f.gap(t); gap != [2]event.LSN{last + 1, floor} || lsn != floor+1 {
		t.Fatalf("after LSN %d comes %d, told as missed is %v, the floor is %d", last, lsn, gap, floor)
	}
	f.want(t, floor+2, db.DurableLSN())
	if len(f.gaps) > 0 {
		t.Errorf("missed once more: %v", <-f.gaps)
	}
	// Who begins below the floor is told too.
	g := follow(t, dir, 3, nil)
	g.want(t, floor+1, db.DurableLSN())
	if gap := g.gap(t); gap != [2]event.LSN{3, floor} {
		t.Errorf("missed is %v, want 3 to %d", gap, floor)
	}
}

// Who reads the log with its archive misses nothing that retention drops meanwhile, and finds large values of what it dropped.
func TestArchiveHasWhatRetentionDropsMeanwhile(t *testing.T) {
	dir, archive := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "archive")
	db, err := dyngo.Open(dir, &dyngo.Options{LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 1 << 20}, Archive: archive})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	held, err := db.ViewAt(t.Context(), dyngo.AtLSN(2)) // keeps all log files at first
	if err = errors.Join(err, os.MkdirAll(archive, 0o700)); err != nil {
		t.Fatal(err)
	}
	fs := newLogFS(t.Context(), vfs.OS, dir+"/wal", logLayer{fs: vfs.OS, dir: dir + "/wal"}, logLayer{fs: vfs.OS, dir: archive})
	log := &LogSource{FS: fs, Dir: dir + "/wal", store: dir, Missed: func(a, b event.LSN) { t.Errorf("LSN %d to %d are missed", a, b) }}
	files, err := log.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	last := event.LSN(0)
	grow(t, ds, 40)
	end := db.DurableLSN()
	v := NewLogView(files, LogFilter{Values: true, To: end})
	_, err = log.Each(t.Context(), v, func(f *wal.Frame) error {
		return v.Events(f, func(e *LogEvent) error {
			if e.LSN != last+1 {
				t.Errorf("after LSN %d comes %d", last, e.LSN)
			}
			if last = e.LSN; last == 4 {
				err := errors.Join(held.Close(), db.Flush(t.Context()))
				if _, gerr := db.GC(t.Context()); errors.Join(err, gerr) != nil || db.Metrics().FloorLSN < 20 {
					t.Fatalf("the floor is at %d, %v, %v", db.Metrics().FloorLSN, err, gerr)
				}
			}
			if e.Op == event.OpPut {
				if b, _, err := v.Value(e); err != nil || len(b) != 100_000 {
					t.Errorf("LSN %d has %d bytes, %v", e.LSN, len(b), err)
				}
			}
			return nil
		})
	})
	if err != nil || last != end {
		t.Errorf("it ends with LSN %d, want %d, %v", last, end, err)
	}
}

// A torn tail is waited at; what the next writer puts behind it comes.
func TestFollowPassesATornTail(t *testing.T) {
	dir, torn := t.TempDir(), filepath.Join(t.TempDir(), "torn")
	db, ds := logStore(t, dir, 0)
	grow(t, ds, 3)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(torn, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(torn, "wal", "*.log"))
	if err != nil || len(names) != 1 || os.Remove(filepath.Join(torn, "wal", wal.CleanName)) != nil {
		t.Fatal(names, err)
	}
	file, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(bytes.Repeat([]byte{7}, 500)); err != nil || file.Close() != nil {
		t.Fatal(err)
	}
	f := follow(t, torn, 0, nil)
	f.want(t, 1, 5)
	db2, ds2 := logStore(t, torn, 0)
	grow(t, ds2, 2)
	f.want(t, 6, db2.DurableLSN())
}

// Events that may still be taken back are not shown.
func TestFollowWaitsForDurability(t *testing.T) {
	commit := func(base, durable event.LSN) *wal.Frame {
		return &wal.Frame{Kind: wal.KindCommit, BaseLSN: base, Count: 2, DurableLSN: durable}
	}
	in := []*wal.Frame{commit(1, 0), commit(3, 2), commit(5, 2), commit(5, 4), {Kind: wal.KindWatermark, BaseLSN: 7, DurableLSN: 6}}
	d := durable{next: func(context.Context) (*wal.Frame, error) {
		if len(in) == 0 {
			return nil, context.Canceled
		}
		f := in[0]
		in = in[1:]
		return f, nil
	}}
	var got []string
	for {
		f, err := d.Next(t.Context())
		if err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%d durable at %d", f.BaseLSN, d.upTo))
	}
	if want := []string{"1 durable at 2", "3 durable at 4", "5 durable at 6"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogFilter(t *testing.T) {
	put := &event.Event{LSN: 5, Time: 100, Op: event.OpPut, Key: []byte("apple")}
	gone := &event.Event{LSN: 6, Time: 200, Op: event.OpDeleteRange, Key: []byte("a"), Value: []byte("b")}
	made := &event.Event{LSN: 2, Time: 50, Op: event.OpDatasetCreated, Key: []byte("d")}
	for _, c := range []struct {
		name            string
		f               LogFilter
		put, gone, made bool
	}{
		{"all", LogFilter{}, true, true, true},
		{"LSN", LogFilter{From: 5, To: 5}, true, false, false},
		{"time", LogFilter{Since: 100, Until: 199}, true, false, false},
		{"dataset", LogFilter{Dataset: "d"}, true, true, true},
		{"other dataset", LogFilter{Dataset: "e"}, false, false, false},
		{"key, and what covers it", LogFilter{Key: []byte("apple")}, true, true, false},
		{"key beyond", LogFilter{Key: []byte("b")}, false, false, false},
		{"prefix", LogFilter{Prefix: []byte("ap")}, true, true, false},
		{"op", LogFilter{Ops: []string{"put", "delete"}}, true, false, false},
		{"actor", LogFilter{Actor: "anna"}, true, true, true},
		{"other actor", LogFilter{Actor: "bert"}, false, false, false},
		{"batch", LogFilter{Tx: 5}, true, true, false},
	} {
		v := NewLogView(nil, c.f)
		for e, want := range map[*event.Event]bool{put: c.put, gone: c.gone, made: c.made} {
			le := &LogEvent{Event: e, DatasetName: "d", Who: event.Session{Actor: "anna"}, Tx: 5}
			if e == made {
				le.Tx = 2
			}
			if got := v.Filter.wants(le); got != want {
				t.Errorf("%s: %s is wanted: %t, want %t", c.name, e.Op, got, want)
			}
		}
	}
}
