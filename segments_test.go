package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// flushedStore makes a store with keys k00000 to n-1 in segments and nothing in memory, and opens it again.
func flushedStore(t *testing.T, fs vfs.FS, n int) (*dyngo.DB, *dyngo.Dataset) {
	t.Helper()
	db := mustOpen(t, storeDir, small(fs))
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := ds.Put(fmt.Appendf(nil, "k%05d", i), []byte(big(300, byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, small(fs))
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	return db, ds
}

// segments lists the paths of segments.
func segments(t *testing.T, fs vfs.FS) (paths []string) {
	t.Helper()
	names, err := fs.List(storeDir + "/segments")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		paths = append(paths, path.Join(storeDir, "segments", n))
	}
	return paths
}

// damage flips a bit of a file.
func damage(t *testing.T, fs vfs.FS, name string, offset int64) {
	t.Helper()
	f, err := fs.OpenRW(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

// A damaged block is reported by the get, the scan and the merge that meet it, with file and offset. All that does not need
// it is served, and the file is left alone from then on.
func TestDamagedBlock(t *testing.T) {
	fs := vfs.NewMem()
	db, ds := flushedStore(t, fs, 3000)
	defer db.Close()
	name := segments(t, fs)[0]
	damage(t, fs, name, 20_000) // in one of the first data blocks
	var bad *dyngo.CorruptionError
	served, failed := 0, 0
	for i := range 3000 {
		v, err := ds.Get(fmt.Appendf(nil, "k%05d", i))
		switch {
		case err == nil && string(v) == big(300, byte(i)):
			served++
		case errors.As(err, &bad) && bad.File == "segments/"+path.Base(name) && bad.Offset > 0:
			failed++
		default:
			t.Fatalf("key %d: %.20q, %v", i, v, err)
		}
	}
	if failed == 0 || failed > 200 || served+failed != 3000 {
		t.Errorf("%d keys are served, %d are reported", served, failed)
	}
	var err error
	n := 0
	for kv, e := range ds.Scan(dyngo.Range{}) {
		if err = e; err == nil && string(kv.Key) != fmt.Sprintf("k%05d", n) {
			t.Fatalf("key %d of the scan is %q", n, kv.Key)
		}
		n++
	}
	if !errors.Is(err, dyngo.ErrCorrupt) {
		t.Errorf("the scan ends with %v", err)
	}
	n = 0
	for _, e := range ds.Scan(dyngo.Range{From: []byte("k02000")}) {
		if err = e; err != nil {
			break
		}
		n++
	}
	if n != 1000 || err != nil {
		t.Errorf("a scan behind the damage has %d keys, %v", n, err)
	}
	for i := range 2 { // overlapping runs, so that there is something to merge
		if _, err := ds.Put(fmt.Appendf(nil, "k%05d", i*1000), []byte("new")); err != nil {
			t.Fatal(err)
		}
		mustFlush(t, db)
	}
	if err := db.Compact(t.Context()); !errors.Is(err, dyngo.ErrCorrupt) {
		t.Errorf("Compact over the damage: %v", err)
	}
	if m := db.Metrics(); m.DamagedSegments != 1 {
		t.Errorf("%d segments are known to be damaged", m.DamagedSegments)
	}
	if err := db.Compact(t.Context()); err != nil {
		t.Errorf("Compact leaves the damaged segment alone: %v", err)
	}
	if v, err := ds.Get([]byte("k02999")); err != nil || string(v) != big(300, 2999%256) {
		t.Errorf("after it: %.20q, %v", v, err)
	}
	l, err := db.Levels()
	if err != nil || !slices.ContainsFunc(l.Runs, func(r dyngo.LevelRun) bool {
		return slices.ContainsFunc(r.Segments, func(s dyngo.LevelSegment) bool { return strings.Contains(s.Damage, path.Base(name)) })
	}) {
		t.Errorf("Levels does not name the damage: %+v, %v", l, err)
	}
}

// Files that are missing, and segments that go beyond the log, are damage that Open names.
func TestOpenWithoutItsFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		remove func(t *testing.T, fs vfs.FS)
		file   string
	}{
		{"a segment is missing", func(t *testing.T, fs vfs.FS) {
			if err := fs.Remove(segments(t, fs)[0]); err != nil {
				t.Fatal(err)
			}
		}, "segments/"},
		{"the manifest is missing", func(t *testing.T, fs vfs.FS) {
			names, err := fs.List(storeDir + "/manifest")
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if err := fs.Remove(path.Join(storeDir, "manifest", n)); err != nil {
					t.Fatal(err)
				}
			}
		}, "manifest"},
		{"the newest part of the log is missing", func(t *testing.T, fs vfs.FS) {
			names, err := fs.List(storeDir + "/wal")
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names[1:] { // CLEAN too, so that the log by itself looks whole
				if err := fs.Remove(path.Join(storeDir, "wal", n)); err != nil {
					t.Fatal(err)
				}
			}
		}, "manifest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			o := small(fs)
			o.LogFileBytes = 1 << 20
			db := mustOpen(t, storeDir, o)
			ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3000 {
				if _, err := ds.Put(fmt.Appendf(nil, "k%05d", i), []byte(big(1000, byte(i)))); err != nil {
					t.Fatal(err)
				}
			}
			mustFlush(t, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			c.remove(t, fs)
			_, err = dyngo.Open(storeDir, o)
			var bad *dyngo.CorruptionError
			if !errors.As(err, &bad) || !strings.HasPrefix(bad.File, c.file) {
				t.Fatalf("Open: %v", err)
			}
		})
	}
}

// No space, or a device that fails, in the middle of a flush or merge: nothing is lost, and it succeeds once it can.
func TestFlushAndCompactFail(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.FailNoSpace, vfs.FailError, vfs.FailShort} {
		for _, what := range []string{"flush", "compact"} {
			t.Run(fmt.Sprint(kind, " ", what), func(t *testing.T) {
				fault := vfs.NewFault(vfs.NewMem())
				db := mustOpen(t, storeDir, small(fault))
				defer db.Close()
				ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
				if err != nil {
					t.Fatal(err)
				}
				work := func(ctx context.Context) error { return db.Flush(ctx) }
				if what == "compact" {
					work = db.Compact
				}
				for round := range 4 {
					for i := range 500 {
						if _, err := ds.Put(fmt.Appendf(nil, "k%05d", i), []byte(big(300, byte(i+round)))); err != nil {
							t.Fatal(err)
						}
					}
					if what == "compact" {
						mustFlush(t, db)
					} else if err := db.WaitDurable(t.Context(), db.LSN()); err != nil {
						t.Fatal(err)
					}
					if round == 2 {
						fault.Inject(vfs.Plan{Ops: vfs.OpWrite, Name: "*.seg", Kind: kind})
						if err := work(t.Context()); err == nil {
							t.Fatal("nothing failed: the test tests nothing")
						}
						fault.Heal()
					}
				}
				if err := work(t.Context()); err != nil {
					t.Fatal(err)
				}
				for i := range 500 {
					if v, err := ds.Get(fmt.Appendf(nil, "k%05d", i)); err != nil || string(v) != big(300, byte(i+3)) {
						t.Fatalf("key %d: %.20q, %v", i, v, err)
					}
				}
				for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() { // a merge that ends as this one does holds its sources
					live := 0
					l, err := db.Levels()
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range l.Runs {
						live += len(r.Segments)
					}
					names := segments(t, fault)
					if len(names) == live {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("files %q, %d are live", names, live)
					}
				}
			})
		}
	}
}

// One range delete over everything costs the caller one event, and a scan of what it covers reads a few blocks, not all.
func TestRangeDeleteOverManyKeys(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 30_000
	}
	fs := vfs.NewMem()
	db, ds := flushedStore(t, fs, n)
	defer db.Close()
	before := db.LSN()
	lsn, err := ds.DeleteRange([]byte("k00010"), []byte(fmt.Sprintf("k%05d", n-10)))
	if err != nil || lsn != before+2 { // the session's event comes first
		t.Fatalf("LSN %d after %d, %v", lsn, before, err)
	}
	for _, reverse := range []bool{false, true} {
		blocks := db.Metrics().CacheMisses
		keys, _ := pairs(t, ds, dyngo.Range{Reverse: reverse})
		if len(keys) != 20 {
			t.Errorf("%d keys are left", len(keys))
		}
		if read := db.Metrics().CacheMisses - blocks; read > 60 {
			t.Errorf("reverse %v: the scan read %d blocks", reverse, read)
		}
	}
}

// The longest and the shortest keys lie beside each other in memory and in segments.
func TestLongBesideShortKeys(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, small(fs))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 150 {
		for _, k := range []string{string(byte('A' + i%50)), strings.Repeat(string(byte('A'+i%50)), dyngo.MaxKeyBytes-1) + string(rune('0'+i/50))} {
			if _, err := ds.Put([]byte(k), []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			want = append(want, k)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for range 2 {
		if keys, _ := pairs(t, ds, dyngo.Range{}); !slices.Equal(keys, want) {
			t.Fatalf("%d keys, want %d", len(keys), len(want))
		}
		for _, k := range want {
			if ok, err := ds.Has([]byte(k)); !ok || err != nil {
				t.Fatalf("key of %d bytes: %v, %v", len(k), ok, err)
			}
		}
		if err := db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, storeDir, small(fs))
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
}

// While memory has all that segments have, nobody looks there; after that, gets and scans do.
func TestSegmentsAreLeftAloneWhileMemoryHasAll(t *testing.T) {
	fs := vfs.NewMem()
	looks := func(db *dyngo.DB, ds *dyngo.Dataset) int64 {
		t.Helper()
		before := db.Metrics()
		for i := range 100 {
			if ok, err := ds.Has(fmt.Appendf(nil, "key-%04d", i)); err != nil || !ok {
				t.Fatalf("key %d: %t, %v", i, ok, err)
			}
			if ok, err := ds.Has(fmt.Appendf(nil, "key-%04d.", i)); err != nil || ok {
				t.Fatalf("missing key %d: %t, %v", i, ok, err)
			}
		}
		n := 0
		for _, err := range ds.Scan(dyngo.Range{From: []byte("key-"), To: []byte("key.")}) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if n != 200 {
			t.Fatalf("%d keys, want 200", n)
		}
		m := db.Metrics()
		return m.CacheHits + m.CacheMisses - before.CacheHits - before.CacheMisses
	}
	db := mustOpen(t, storeDir, small(fs))
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := ds.Put(fmt.Appendf(nil, "key-%04d", i), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, db)
	if n := looks(db, ds); n != 0 {
		t.Errorf("%d looks into a segment that memory has, too", n)
	}
	db.Close()

	db = mustOpen(t, storeDir, small(fs))
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if n := looks(db, ds); n == 0 {
		t.Error("no look into a segment that memory has nothing of")
	}
	for i := range 20_000 { // until memory is full
		if _, err := ds.Put(fmt.Appendf(nil, "other-%05d", i), []byte(big(500, byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
	looks(db, ds)
}
