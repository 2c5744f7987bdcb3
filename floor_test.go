package dyngo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// step is what happened to a key, as a test knows it.
type step struct {
	lsn   dyngo.LSN
	op    event.Op
	value string
}

// story is the history of all keys of a dataset.
type story map[string][]step

// check compares the history of a key with what happened: everything above the floor, and what was current at it. The floor may
// rise meanwhile.
func (s story) check(t *testing.T, db *dyngo.DB, ds *dyngo.Dataset, key string) {
	t.Helper()
	floor := db.Metrics().FloorLSN
	problem := s.compare(t, ds, key, floor)
	for now := db.Metrics().FloorLSN; problem != "" && now != floor; now = db.Metrics().FloorLSN {
		floor, problem = now, s.compare(t, ds, key, now)
	}
	if problem != "" {
		t.Fatal(problem)
	}
}

func (s story) compare(t *testing.T, ds *dyngo.Dataset, key string, floor dyngo.LSN) (problem string) {
	t.Helper()
	var want []step
	for _, st := range slices.Backward(s[key]) {
		if st.lsn > floor {
			want = append(want, st)
			continue
		}
		if st.op == event.OpPut {
			want = append(want, st)
		}
		break
	}
	var got []step
	for v, err := range ds.History(t.Context(), []byte(key)) {
		if err != nil {
			t.Fatalf("history of %s: %v", key, err)
		}
		if v.Op == event.OpDatasetCreated {
			continue
		}
		if v.AtFloor != (v.LSN <= floor) {
			return fmt.Sprintf("%s: LSN %d at the floor %d: %v", key, v.LSN, floor, v.AtFloor)
		}
		got = append(got, step{v.LSN, v.Op, string(v.Value)})
	}
	show := func(steps []step) (lines []string) {
		for _, st := range steps {
			lines = append(lines, fmt.Sprintf("%d %s %.20q of %d", st.lsn, st.op, st.value, len(st.value)))
		}
		return lines
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("history of %s down to the floor %d:\n%s\nwant\n%s", key, floor, strings.Join(show(got), "\n"), strings.Join(show(want), "\n"))
	}
	return ""
}

// What was current at the floor is there for as long as it is the floor, whatever happened to its key before and after.
func TestHistoryAtTheFloor(t *testing.T) {
	t.Parallel()
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, bounded(fs, c, 0))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	s := story{}
	put := func(key, value string) {
		t.Helper()
		lsn, err := ds.PutWith([]byte(key), []byte(value), dyngo.WriteOptions{Reason: "because"})
		if err != nil {
			t.Fatal(err)
		}
		s[key] = append(s[key], step{lsn, event.OpPut, value})
	}
	del := func(key string) {
		t.Helper()
		lsn, err := ds.Delete([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		s[key] = append(s[key], step{lsn: lsn, op: event.OpDelete})
	}
	delRange := func(from, to string) {
		t.Helper()
		lsn, err := ds.DeleteRange([]byte(from), []byte(to))
		if err != nil {
			t.Fatal(err)
		}
		for key := range s {
			if from <= key && key < to {
				s[key] = append(s[key], step{lsn: lsn, op: event.OpDeleteRange})
			}
		}
	}
	reopen := func(keep int64) {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, storeDir, bounded(fs, c, keep))
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
	from := func() *dyngo.DB { return db }
	check := func() {
		t.Helper()
		for key := range s {
			s.check(t, from(), ds, key)
		}
	}
	drop := func() {
		t.Helper()
		for _, full := range []bool{false, true} {
			if full { // merges keep it too
				if err := db.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			mustGC(t, db)
			check()
		}
		if err := verifyRest(fs); err != nil {
			t.Fatal(err)
		}
	}
	large := big(300<<10, 1)
	put("current", "1")
	put("overwritten", "1")
	put("overwritten", "2")
	put("deleted before", "1")
	del("deleted before")
	put("deleted after", "1")
	put("deleted and back", "1")
	del("deleted and back")
	put("range before", "1")
	put("large", large)
	put("x-range after", "1")
	put("after the floor", "1")
	delRange("range", "range~")
	fill(t, ds, 0, 6)
	put("overwritten", "3")
	del("deleted after")
	put("deleted and back", "2")
	put("range before", "2")
	put("large", "small now")
	delRange("x", "x~")
	put("new", "1")
	fill(t, ds, 6, 6)
	check()
	reopen(1 << 20)
	drop()
	if m := db.Metrics(); m.FloorLSN < s["deleted before"][1].lsn || m.FloorLSN >= s["overwritten"][2].lsn {
		t.Fatalf("the floor is %d: the test tests nothing", m.FloorLSN)
	}
	if m := db.Metrics(); m.HistorySegments == 0 || m.HistoryBytes == 0 || m.ValueFiles == 0 {
		t.Errorf("%d history segments, %d bytes, %d value files", m.HistorySegments, m.HistoryBytes, m.ValueFiles)
	}
	for v := range ds.History(t.Context(), []byte("overwritten")) {
		if v.AtFloor && (v.Reason != "because" || !v.Time.Equal(time.Unix(0, epochNs))) {
			t.Errorf("at the floor: %+v", v)
		}
	}
	for i := range 12 { // many passes
		put("overwritten", fmt.Sprint("again ", i))
		put("large", big(300<<10, byte(i)))
		fill(t, ds, 12+6*i, 6)
		if i%4 == 3 {
			reopen(1 << 20)
		}
		drop()
	}
	if m := db.Metrics(); m.HistorySegments > 8 || m.ValueBytes > 2<<20 {
		t.Errorf("%d history segments, %d bytes in value files", m.HistorySegments, m.ValueBytes)
	}
	ro := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true})
	defer ro.Close()
	if ds, err = ro.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	from = func() *dyngo.DB { return ro }
	check()
}

// A dataset that was dropped above the floor has its history at the floor too, in a store that is opened again as well.
func TestHistoryOfADroppedDatasetAtTheFloor(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		fs, c := vfs.NewMem(), manualClock()
		db := mustOpen(t, storeDir, bounded(fs, c, 0))
		defer func() { db.Close() }()
		ds, err := db.CreateDataset("d", nil)
		other, err2 := db.CreateDataset("other", inline)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		for _, v := range []string{"1", "2"} {
			if _, err := ds.Put([]byte("k"), []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, other, 0, 6)
		if reopen { // current at the floor, and dropped after the floor was raised
			fill(t, other, 6, 6)
			err = db.Close()
			db = mustOpen(t, storeDir, bounded(fs, c, 1<<20))
			other, err2 = db.Dataset("other")
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			mustGC(t, db)
		}
		if _, err := db.DropDataset("d"); err != nil {
			t.Fatal(err)
		}
		if ds, err = db.CreateDataset("d", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := ds.Put([]byte("k"), []byte("3")); err != nil {
			t.Fatal(err)
		}
		if !reopen {
			fill(t, other, 6, 6)
		}
		err = db.Close()
		db = mustOpen(t, storeDir, bounded(fs, c, 1<<20))
		ds, err2 = db.Dataset("d")
		if err := errors.Join(err, err2, db.Compact(t.Context())); err != nil {
			t.Fatal(err)
		}
		mustGC(t, db)
		if err := db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for v, err := range ds.History(t.Context(), []byte("k")) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s %s %v", v.Op, v.Value, v.AtFloor))
		}
		if want := []string{"put 3 false", "dataset-created  false", "dataset-dropped  false", "put 2 true"}; !slices.Equal(got, want) {
			t.Errorf("opened again: %v: %q, floor %d", reopen, got, db.Metrics().FloorLSN)
		}
	}
}

// Of what was written across two log files and overwritten, history knows that it was there when the first of them is gone.
func TestHistoryOfWhatLiesAcrossTheFloor(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	o := bounded(fs, c, 0)
	o.SpillFrom(64<<10, 32<<10)
	db := mustOpen(t, storeDir, o)
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("large"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 0, 3)
	large := big(600<<10, 1)
	if _, err := ds.PutReader([]byte("large"), int64(len(large)), strings.NewReader(large)); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("large"), []byte("3")); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 3, 3)
	if err := errors.Join(db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	o.Retention.Bytes = 512 << 10
	db = mustOpen(t, storeDir, o)
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	mustGC(t, db)
	if files, _ := logFiles(t, fs); files[0].Seq != 2 {
		t.Fatalf("the log begins with file %d: the test tests nothing", files[0].Seq)
	}
	var got []string
	for v, err := range ds.History(t.Context(), []byte("large")) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s, lost %v, at the floor %v", v.Op, v.Value, v.Lost, v.AtFloor))
	}
	if want := []string{"put 3, lost false, at the floor false", "put , lost true, at the floor false", "put 1, lost false, at the floor true"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A batch whose first pieces were dropped before anybody noted its keys stops neither retention nor history.
func TestABatchAcrossTheFloor(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	o := bounded(fs, c, 0)
	o.SpillFrom(64<<10, 32<<10)
	db := mustOpen(t, storeDir, o)
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	reopen := func(keep int64) {
		t.Helper()
		err := errors.Join(db.Flush(t.Context()), db.Close())
		o.Retention.Bytes = keep
		db = mustOpen(t, storeDir, o)
		if ds, _ = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, ds, 0, 3)
	b := db.NewBatch()
	for i := range 6 {
		b.Put(ds, fmt.Append(nil, "batch-", i), []byte(big(100<<10, byte(i))))
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	fill(t, ds, 3, 2)
	reopen(256 << 10)
	mustGC(t, db)
	if files, _ := logFiles(t, fs); files[0].Seq != 2 || len(files) != 1 {
		t.Fatalf("the log has %d files from %d on: the test tests nothing", len(files), files[0].Seq)
	}
	check := func() {
		t.Helper()
		for i := range 6 {
			key := fmt.Append(nil, "batch-", i)
			if v, err := ds.Get(key); string(v) != big(100<<10, byte(i)) || err != nil {
				t.Fatalf("%s has %d bytes, %v", key, len(v), err)
			}
			for v, err := range ds.History(t.Context(), key) {
				if err != nil || v.Op == event.OpPut && !v.Lost && string(v.Value) != big(100<<10, byte(i)) {
					t.Fatalf("history of %s: %+v, %v", key, v.LSN, err)
				}
			}
		}
	}
	check()
	fill(t, ds, 5, 12)
	reopen(256 << 10)
	mustGC(t, db)
	if files, _ := logFiles(t, fs); files[0].Seq < 3 {
		t.Fatalf("the log begins with file %d", files[0].Seq)
	}
	check()
}

// Random writes, drops, merges, crashes: each key's history is what happened above the floor, and what was current at it.
func TestHistoryAtTheFloorAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	steps := 400
	if testing.Short() {
		steps = 300
	}
	fs, c := vfs.NewMem(), manualClock()
	o := bounded(fs, c, 1<<20)
	db := mustOpen(t, storeDir, o)
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 32 << 10, Compression: dyngo.S2})
	if err != nil {
		t.Fatal(err)
	}
	s := story{}
	key := func() string { return fmt.Sprintf("key-%02d", rng.IntN(60)) }
	note := func(key string, op event.Op, value string, lsn dyngo.LSN, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s[key] = append(s[key], step{lsn, op, value})
	}
	for i := range steps {
		switch n := rng.IntN(100); {
		case n < 55:
			k, b := key(), make([]byte, []int{10, 1000, 30 << 10, 100 << 10}[rng.IntN(4)])
			for i := 0; i < len(b); i += 1 + rng.IntN(3) {
				b[i] = byte(rng.Uint32())
			}
			lsn, err := ds.Put([]byte(k), b)
			note(k, event.OpPut, string(b), lsn, err)
		case n < 70:
			k := key()
			lsn, err := ds.Delete([]byte(k))
			note(k, event.OpDelete, "", lsn, err)
		case n < 74:
			from, to := key(), key()
			from, to = min(from, to), max(from, to)+"~"
			lsn, err := ds.DeleteRange([]byte(from), []byte(to))
			for i := range 60 {
				if k := fmt.Sprintf("key-%02d", i); from <= k && k < to {
					note(k, event.OpDeleteRange, "", lsn, err)
				}
			}
		case n < 78:
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		case n < 84:
			if err := db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		case n < 94:
			mustGC(t, db)
			if i%2 == 0 {
				s.check(t, db, ds, key())
			}
		default:
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = mustOpen(t, storeDir, o)
			if ds, err = db.Dataset("d"); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Nothing is dropped by itself while the histories are looked at.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, o)
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	for _, full := range []bool{false, true} {
		if full {
			if err := db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustGC(t, db)
		}
		for i := range 60 {
			s.check(t, db, ds, fmt.Sprintf("key-%02d", i))
		}
	}
	if db.Metrics().FloorLSN == 0 {
		t.Error("no log file was dropped: the test tests nothing")
	}
}
