package dyngo

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

var updateSide = flag.Bool("side.update", false, "write the golden side file anew")

// goldenSide is never changed: what a released version wrote every later one reads.
const goldenSide = "testdata/format1/side/every"

func sameOrder(add addEntry) addEntry { return add }

// newSideBuild builds what needs no store; limit makes runs.
func newSideBuild(fsys vfs.FS, limit int) *sideBuild {
	return &sideBuild{fs: fsys, dir: ".", seq: 7, limit: limit, opts: segment.WriterOptions{Num: 7, CreatedAt: 1e18, HashSeed: 42,
		Compression: segment.NoCompression, Salt: [16]byte{1, 2, 3}}}
}

// addEvent adds an event whose wire form is 20 bytes that say its LSN.
func addEvent(t *testing.T, b *sideBuild, e event.Event, back uint64) {
	t.Helper()
	at := wal.Position{File: b.seq - back, Offset: wal.HeaderSize + int64(e.LSN)*100}
	if err := b.add(&e, at, fmt.Appendf(nil, "%020d", e.LSN)); err != nil {
		t.Fatal(err)
	}
}

func listSide(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	r, err := segment.Open(fsys, name, segment.ReaderOptions{HashSeed: 42})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := parseSideProps(r.Properties().Unknown)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%+v\nsessions %v\ntimes %v\nlost %v\n", p.origin, p.sessions, p.times, p.lost)
	for _, w := range p.wide {
		fmt.Fprintf(&out, "%s dataset %d %q %q %+v\n", w.op, w.dataset, w.key, w.to, w.place)
	}
	f := &sideFile{Reader: r, sideProps: p, seed: 42}
	it := r.NewIter(segment.IterOptions{NoFill: true})
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		e := it.Entry()
		h := &history{key: e.Key, track: track{id: e.Dataset, below: e.LSN + 1}}
		p, by, ok, err := f.find(h)
		fmt.Fprintf(&out, "dataset %d %q %+v by %q %t %v\n", e.Dataset, e.Key, p, by.Actor, ok, err)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	due := r.Due(0)
	defer due.Close()
	for due.Next() {
		d := due.Due()
		fmt.Fprintf(&out, "due %d: dataset %d %q LSN %d\n", d.Due, d.Dataset, d.Key, d.LSN)
	}
	if due.Err() != nil {
		t.Fatal(due.Err())
	}
	return out.String()
}

func goldenSideFile(t *testing.T, fsys vfs.FS, name string, limit int) {
	t.Helper()
	b := newSideBuild(fsys, limit)
	b.session(event.AppendSession(nil, event.Session{ID: 3, Actor: "anna"}))
	opts := event.AppendDatasetOptions(nil, event.DatasetOptions{Consistency: event.Strong})
	for i, e := range []event.Event{
		{Op: event.OpDatasetCreated, Dataset: 1, Key: []byte("scores"), Value: opts},
		{Op: event.OpSessionOpened, Session: 4, Value: event.AppendSession(nil, event.Session{ID: 4, Actor: "bert"})},
		{Op: event.OpPut, Dataset: 1, Key: []byte("b"), Value: []byte("1"), Session: 4, Flags: event.FlagMore},
		{Op: event.OpPut, Dataset: 1, Key: []byte("a"), Value: []byte("1"), Session: 3, Flags: event.FlagNotApplied},
		{Op: event.OpDelete, Dataset: 1, Key: []byte("b")},
		{Op: event.OpPut, Dataset: 70000, Key: []byte("a"), Value: []byte("1")},
		{Op: event.OpClockAnomaly},
		{Op: event.OpDeleteRange, Dataset: 1, Key: []byte("a"), Value: []byte("b"), Session: 3},
		{Op: event.OpExpire, Dataset: 1, Key: []byte("a")},
		{Op: event.OpDatasetDropped, Dataset: 1, Key: []byte("scores")},
		{Op: event.OpPut, Dataset: 70000, Key: []byte("b"), Value: []byte("1"), Parts: event.AppendExpiry(nil, 2e18)},
		{Op: event.OpPut, Dataset: 70000, Key: []byte("b"), Parts: event.AppendExpiry(nil, 3e18), Flags: event.FlagNotApplied},
	} {
		e.LSN, e.Time = LSN(i+10), 1e18+int64(i)
		addEvent(t, b, e, uint64(i%2))
	}
	b.lost, b.nLost = []byte{25, 3}, 1
	if _, err := b.finish(name, &origin{logID: [16]byte{9}, seq: 7, end: 8192, chain: 77}, sameOrder); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenSideFile(t *testing.T) {
	mem := vfs.NewMem()
	goldenSideFile(t, mem, "new", 1<<20)
	built, err := mem.ReadFile("new", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if *updateSide {
		if err := os.MkdirAll(filepath.Dir(goldenSide), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenSide+".side", built, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenSide+".txt", []byte(listSide(t, mem, "new")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(goldenSide + ".side")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored, built) {
		t.Error("the golden side file is built differently")
	}
	want, err := os.ReadFile(goldenSide + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := listSide(t, vfs.OS, goldenSide+".side"); got != string(want) {
		t.Errorf("the golden side file reads as\n%s\nwant\n%s", got, want)
	}
}

// A side file is the same whether its events fit into memory or are sorted in runs, which are gone afterwards.
func TestSideFileRuns(t *testing.T) {
	mem := vfs.NewMem()
	goldenSideFile(t, mem, "whole", 1<<20)
	goldenSideFile(t, mem, "runs", 80)
	whole, err := mem.ReadFile("whole", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := mem.ReadFile("runs", 1<<20)
	if err != nil || !bytes.Equal(whole, runs) {
		t.Errorf("built of runs it differs (%v)", err)
	}
	if names, err := mem.List("."); err != nil || len(names) != 2 {
		t.Errorf("files %q are left (%v)", names, err)
	}
}

// A build has the memory that it may have, outside of Go's heap, also while it merges its runs, and gives it back, also when it
// fails.
func TestSideBuildMemory(t *testing.T) {
	const limit = 1 << 20
	for _, fails := range []bool{false, true} {
		fsys := vfs.NewFault(vfs.NewMem())
		before, most := offheap.InUse(), int64(0)
		b := newSideBuild(fsys, limit)
		for i := range 90_000 {
			addEvent(t, b, event.Event{LSN: LSN(i + 1), Op: event.OpPut, Dataset: 1, Key: fmt.Appendf(nil, "key-%d", i*7919%90_000)}, 0)
			most = max(most, offheap.InUse()-before)
		}
		if len(b.runs) < 5 || most < limit || most > int64(offheap.Size(limit)) {
			t.Errorf("%d runs were written, the build took %d bytes, it may take %d", len(b.runs), most, limit)
		}
		if fails {
			fsys.OnCall(func(c vfs.Call) error {
				if c.Op == vfs.OpCreate {
					return vfs.ErrNoSpace
				}
				return nil
			})
		}
		merging := int64(0)
		_, err := b.finish("side", &origin{seq: 7}, func(add addEntry) addEntry {
			return func(e *segment.Entry) error {
				merging = max(merging, offheap.InUse()-before)
				return add(e)
			}
		})
		if fails != errors.Is(err, vfs.ErrNoSpace) || !fails && merging == 0 || merging > limit {
			t.Errorf("the build ended with %v, and held %d bytes while it merged its runs", err, merging)
		}
		if got := offheap.InUse() - before; got != 0 {
			t.Errorf("%d bytes are left after a build that fails: %t", got, fails)
		}
	}
}

func TestSideFileTimes(t *testing.T) {
	s := &sideProps{times: []sample{{10, 100}, {20, 200}, {30, 200}, {40, 400}}}
	for _, c := range []struct {
		time     int64
		from, to LSN
	}{{99, 0, 10}, {100, 10, 20}, {199, 10, 20}, {200, 30, 40}, {400, 40, event.MaxLSN}} {
		if from, to := s.lsnAt(c.time); from != c.from || to != c.to {
			t.Errorf("at %d: %d to %d, want %d to %d", c.time, from, to, c.from, c.to)
		}
	}
}

// Each byte of a side file is changed in turn: the history stays the same.
func TestSideFileDamage(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	db, err := Open("/s", &Options{FS: mem, LogFileBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := db.CreateDataset("d", &DatasetOptions{LargeValue: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 24 {
		if _, err := ds.Put(fmt.Appendf(nil, "key-%d", i%3), bytes.Repeat([]byte{byte(i)}, 100<<10)); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			if _, err := ds.DeleteRange([]byte("key-1"), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.BuildSideFiles(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = Open("/s", &Options{FS: mem, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	list := func() string {
		var out strings.Builder
		for v, err := range ds.History(context.Background(), []byte("key-1")) {
			fmt.Fprintln(&out, v.LSN, v.Op, v.Time, v.NotApplied, len(v.Value), v.Actor, err)
		}
		return out.String()
	}
	want := list()
	if len(db.side.open) < 1 {
		t.Fatal("no side file was used")
	}
	name := db.side.name(1)
	data, err := mem.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	fallbacks := 0
	for i := range data {
		data[i] ^= 1 << (i % 8)
		replace(t, mem, name, data)
		data[i] ^= 1 << (i % 8)
		db.side.mu.Lock()
		db.side.drop(1)
		db.side.mu.Unlock()
		if got := list(); got != want {
			t.Fatalf("byte %d of %d changed: history\n%s\nwant\n%s", i, len(data), got, want)
		}
		db.side.mu.Lock()
		if db.side.open[1] == nil {
			fallbacks++
		}
		db.side.mu.Unlock()
	}
	t.Logf("%d bytes changed, %d were noticed", len(data), fallbacks)
	if fallbacks < len(data)/2 {
		t.Errorf("only %d of %d changed bytes were noticed", fallbacks, len(data))
	}
}

func replace(t *testing.T, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	if err := fsys.Remove(name); err != nil && !isMissing(err) {
		t.Fatal(err)
	}
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Retention reads side files of the log files that it drops. One that a crash has torn is built anew.
func TestRetentionWithTornSideFile(t *testing.T) {
	mem := vfs.NewMem()
	o := &Options{FS: mem, LogFileBytes: 1 << 20}
	db, err := Open("/s", o)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := db.CreateDataset("d", &DatasetOptions{LargeValue: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		if _, err := ds.Put(fmt.Appendf(nil, "key-%d", i%7), bytes.Repeat([]byte{byte(i)}, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.BuildSideFiles(context.Background()), db.Close()); err != nil {
		t.Fatal(err)
	}
	name := "/s/side/0000000001.side"
	torn, err := mem.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	clear(torn[70:90]) // in its first block
	replace(t, mem, name, torn)
	o.Retention.Bytes = 2 << 20
	if db, err = Open("/s", o); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	plan, err := db.GC(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.FloorLSN == 0 || m.LogBytes > 4<<20 {
		t.Errorf("the log has %d bytes, 2 MiB are wanted: %+v", m.LogBytes, plan)
	}
}
