package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// small is the least memory that a store may have.
func small(fs vfs.FS) *dyngo.Options { return &dyngo.Options{FS: fs, MemoryBudget: 8 << 20} }

// mustFlush makes everything durable and writes it as segments.
func mustFlush(t *testing.T, db *dyngo.DB) {
	t.Helper()
	if err := db.WaitDurable(t.Context(), db.LSN()); err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// pairs reads a scan to its end.
func pairs(t *testing.T, ds *dyngo.Dataset, r dyngo.Range) (keys, values []string) {
	t.Helper()
	for kv, err := range ds.Scan(r) {
		if err != nil {
			t.Fatal(err)
		}
		keys, values = append(keys, string(kv.Key)), append(values, string(kv.Value))
	}
	return keys, values
}

// A store with several times more data than memory: keys leave memory and are found in segments, by gets and by scans in both
// directions, before and after it is opened again, and memory stays within its budget.
func TestKeysLeaveMemory(t *testing.T) {
	n := 120_000
	if testing.Short() {
		n = 90_000
	}
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, small(fs))
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	most := int64(0)
	for i := range n {
		k := fmt.Sprintf("key-%06d", i*7919%n)
		switch {
		case i%7 == 3:
			delete(want, fmt.Sprintf("key-%06d", i/2))
			_, err = ds.Delete(fmt.Appendf(nil, "key-%06d", i/2))
		case i%20_000 == 19_999:
			from, to := fmt.Sprintf("key-%06d", i/3), fmt.Sprintf("key-%06d", i/3+500)
			maps.DeleteFunc(want, func(k, _ string) bool { return k >= from && k < to })
			_, err = ds.DeleteRange([]byte(from), []byte(to))
		default:
			want[k] = fmt.Sprint(i, "-", big(200, byte(i)))
			_, err = ds.Put([]byte(k), []byte(want[k]))
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			m := db.Metrics()
			most = max(most, m.TailBytes+m.IndexBytes+m.CacheBytes+m.ReaderBytes)
		}
	}
	m := db.Metrics()
	if m.Evictions < 3 || m.Memtable.Keys > int64(len(want))/2 {
		t.Fatalf("%d generations left, %d of %d keys are in memory: the test tests nothing", m.Evictions, m.Memtable.Keys, len(want))
	}
	if limit := m.MemoryBudgetBytes * 3 / 2; most > limit {
		t.Errorf("%d bytes in memory, the budget is %d", most, m.MemoryBudgetBytes)
	}
	check := func() {
		t.Helper()
		sorted := slices.Sorted(maps.Keys(want))
		keys, values := pairs(t, ds, dyngo.Range{})
		if !slices.Equal(keys, sorted) {
			t.Fatalf("a scan gives %d keys, want %d", len(keys), len(sorted))
		}
		for i, k := range keys {
			if values[i] != want[k] {
				t.Fatalf("%s is %.30q in a scan, want %.30q", k, values[i], want[k])
			}
		}
		back, _ := pairs(t, ds, dyngo.Range{Reverse: true, KeysOnly: true})
		if slices.Reverse(back); !slices.Equal(back, sorted) {
			t.Fatalf("a scan backwards gives %d keys, want %d", len(back), len(sorted))
		}
		for i := 0; i < n; i += 3 {
			k := fmt.Sprintf("key-%06d", i)
			got, err := ds.Get([]byte(k))
			v, there := want[k]
			if there != (err == nil) || string(got) != v || !there && !errors.Is(err, dyngo.ErrNotFound) {
				t.Fatalf("%s is %.30q, %v; want %.30q (there: %v)", k, got, err, v, there)
			}
		}
	}
	check()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, small(fs))
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	check()
}

// What decides about a write is the key's newest version, wherever it lies.
func TestWritesAreDecidedBySegments(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, small(fs))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	lsn, err := ds.Put([]byte("compared"), []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"newest", "deleted"} {
		if _, _, err := ds.PutNewest([]byte(k), []byte("old"), at(100)); err != nil {
			t.Fatal(err)
		}
	}
	reopen := func() {
		t.Helper()
		mustFlush(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, storeDir, small(fs))
		if n := db.Metrics().Memtable.Keys; n > 0 {
			t.Fatalf("%d keys are in memory: the test tests nothing", n)
		}
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	if _, err := ds.PutIf([]byte("compared"), []byte("2"), 0); !errors.Is(err, dyngo.ErrConflict) {
		t.Errorf("PutIf of a key that is there: %v", err)
	}
	if _, err = ds.PutIf([]byte("compared"), []byte("2"), lsn); err != nil {
		t.Errorf("PutIf at the right LSN: %v", err)
	}
	if applied, _, err := ds.PutNewest([]byte("newest"), []byte("stale"), at(100)); applied || err != nil {
		t.Errorf("an equal time is stale: applied %v, %v", applied, err)
	}
	if _, err := ds.Delete([]byte("deleted")); err != nil {
		t.Fatal(err)
	}
	reopen() // the tombstone keeps the record time of what it deletes
	if applied, _, err := ds.PutNewest([]byte("deleted"), []byte("stale"), at(99)); applied || err != nil {
		t.Errorf("older than what was deleted: applied %v, %v", applied, err)
	}
	if applied, _, err := ds.PutNewest([]byte("deleted"), []byte("new"), at(101)); !applied || err != nil {
		t.Errorf("newer than what was deleted: applied %v, %v", applied, err)
	}
	b := db.NewBatch()
	b.PutNewest(ds, []byte("newest"), []byte("a"), at(150))
	b.PutNewest(ds, []byte("newest"), []byte("b"), at(120))
	if _, err := b.Commit(); err != nil || !b.Applied(0) || b.Applied(1) {
		t.Errorf("a batch over a key in a segment: %v, %v, %v", b.Applied(0), b.Applied(1), err)
	}
	if v, err := ds.Get([]byte("compared")); err != nil || string(v) != "2" {
		t.Errorf("compared is %q, %v", v, err)
	}
}

// Expiry is exact for versions in segments, and its event is logged for them too, also when the store was closed meanwhile.
func TestExpiryInSegments(t *testing.T) {
	fs, c := vfs.NewMem(), clock.NewManual(time.Unix(0, epochNs))
	told := make(chan string, 10)
	o := &dyngo.Options{FS: fs, Clock: c, MemoryBudget: 8 << 20, Listener: &dyngo.Listener{
		Expired: func(_ string, key []byte, _ dyngo.LSN, _ time.Time, _ time.Duration) { told <- string(key) }}}
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range []string{"soon", "later", "replaced"} {
		if _, err := ds.PutWith([]byte(k), []byte("v"), dyngo.WriteOptions{TTL: time.Duration(i%2+1) * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o.Clock = c
	db = mustOpen(t, storeDir, o)
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("replaced"), []byte("stays")); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	if got := <-told; got != "soon" {
		t.Errorf("told of %q", got)
	}
	if ok, err := ds.Has([]byte("soon")); ok || err != nil {
		t.Errorf("soon is there: %v, %v", ok, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c = clock.NewManual(time.Unix(0, c.Now()).Add(2 * time.Hour))
	o.Clock = c
	db = mustOpen(t, storeDir, o)
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if got := <-told; got != "later" {
		t.Errorf("told of %q", got)
	}
	if keys, _ := pairs(t, ds, dyngo.Range{}); !slices.Equal(keys, []string{"replaced"}) {
		t.Errorf("left are %q", keys)
	}
}

// After a flush Open reads nothing again, and still knows datasets, sessions and the numbers that must not be used again.
func TestFlushedStoreOpensWithoutReplay(t *testing.T) {
	fs := vfs.NewMem()
	o := small(fs)
	o.LogFileBytes = 1 << 20
	db := mustOpen(t, storeDir, o)
	for _, name := range []string{"dropped", "kept"} {
		ds, err := db.CreateDataset(name, &dyngo.DatasetOptions{Consistency: dyngo.Causal})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3000 {
			if _, err := ds.Put(fmt.Appendf(nil, "k%04d", i), []byte(big(1000, byte(i)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := db.DropDataset("dropped"); err != nil {
		t.Fatal(err)
	}
	id := db.Datasets()[0].ID
	mustFlush(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, o)
	defer db.Close()
	if r := db.Recovery(); r.Events > 2000 || r.Files > 1 {
		t.Errorf("%d events of %d files were read again", r.Events, r.Files)
	}
	ds, err := db.Dataset("kept")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := ds.Get([]byte("k0123")); err != nil || string(v) != big(1000, 123) {
		t.Errorf("k0123 is %.20q, %v", v, err)
	}
	again, err := db.CreateDataset("dropped", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Get([]byte("k0123")); !errors.Is(err, dyngo.ErrNotFound) {
		t.Errorf("a new dataset of an old name has its key: %v", err)
	}
	for _, d := range db.Datasets() {
		if d.Name == "dropped" && d.ID <= id {
			t.Errorf("dataset number %d is used again", d.ID)
		}
	}
}

// A scan in progress sees each key once while generations leave memory under it.
func TestScanWhileKeysLeave(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	db := mustOpen(t, storeDir, small(vfs.NewMem()))
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 4000
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%05d", i) }
	for i := range keys {
		if _, err := ds.Put(key(i), []byte(big(500, byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
	for _, reverse := range []bool{false, true} {
		before := db.Metrics().Evictions
		i := 0
		for kv, err := range ds.Scan(dyngo.Range{Reverse: reverse}) {
			at := i
			if reverse {
				at = keys - 1 - i
			}
			if err != nil || !bytes.Equal(kv.Key, key(at)) {
				t.Fatalf("pair %d (reverse %v): %q, %v", i, reverse, kv.Key, err)
			}
			for range 8 { // each step of the scan fills memory further
				if _, err := ds.Put(fmt.Appendf(nil, "other-%07d", rng.IntN(1e7)), []byte(big(500, 1))); err != nil {
					t.Fatal(err)
				}
				if _, err := ds.Put(key(rng.IntN(keys)), []byte("overwritten")); err != nil {
					t.Fatal(err)
				}
			}
			i++
		}
		if i != keys {
			t.Fatalf("%d keys, want %d", i, keys)
		}
		if n := db.Metrics().Evictions - before; n < 2 {
			t.Errorf("%d generations left during the scan: the test tests nothing", n)
		}
		if _, err := ds.DeleteRange([]byte("other"), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Readers, scans and writers beside generations that are flushed and leave all the time: no key is ever missed, and no key
// goes back to an older version.
func TestReadsWhileKeysLeave(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, storeDir, small(vfs.NewMem()))
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 3000
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%05d", i) }
	pad := big(900, 1)
	for i := range keys {
		if _, err := ds.Put(key(i), fmt.Append(nil, 0, " ", pad)); err != nil {
			t.Fatal(err)
		}
	}
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 7))
			seen := make([]int, keys)
			for !stop.Load() {
				i := rng.IntN(keys)
				v, err := ds.Get(key(i))
				n := 0
				if err == nil {
					_, err = fmt.Sscan(string(v[:8]), &n)
				}
				if err != nil || n < seen[i] {
					t.Errorf("key %d is of round %d, %v; it was of round %d before", i, n, err, seen[i])
					return
				}
				seen[i] = n
				runtime.Gosched() // else writes wait for the end of a time slice, again and again
			}
		})
	}
	wg.Go(func() {
		for !stop.Load() {
			n := 0
			for kv, err := range ds.Scan(dyngo.Range{KeysOnly: true}) {
				if err != nil || string(kv.Key) != string(key(n)) {
					t.Errorf("key %d of a scan is %q, %v", n, kv.Key, err)
					return
				}
				n++
			}
			if n != keys {
				t.Errorf("a scan has %d keys, want %d", n, keys)
				return
			}
		}
	})
	for round := 1; round <= rounds && !t.Failed(); round++ {
		for i := range keys {
			if _, err := ds.Put(key(i), fmt.Append(nil, round, " ", pad)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if n := db.Metrics().Evictions; n < 2 {
		t.Errorf("%d generations left: the test tests nothing", n)
	}
}

// recentLimit is how much of a budget recent events may take, their index included.
func recentLimit(budget int64) int64 { return budget * 5 / 8 }

// recent is what they take, but for the chunk that is being filled and the one that is ready.
func recent(m dyngo.Metrics) int64 {
	return m.TailBytes + m.IndexBytes + m.Memtable.ListBytes - 2*offheap.ChunkBytes
}

// What is in segments leaves memory when others need it, also while nothing of theirs becomes durable.
func TestKeysLeaveWhileTheDiskIsSlow(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	var slow atomic.Bool
	goOn, end := context.WithTimeout(t.Context(), 10*time.Second)
	fs.OnCall(func(c vfs.Call) error {
		if slow.Load() && c.Op&(vfs.OpSync|vfs.OpSyncData) != 0 && strings.Contains(c.Name, "wal/") {
			<-goOn.Done()
		}
		return nil
	})
	const budget, written = 32 << 20, 8000
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, MemoryBudget: budget, HotRangeBytes: -1, NoRecordCache: true})
	defer db.Close()
	defer end()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	put := func(n int) {
		t.Helper()
		for i := range n {
			if b.Put(ds, fmt.Append(nil, db.LSN(), i), []byte(big(900, byte(i)))); b.Len() < 500 {
				continue
			}
			if _, err := b.Commit(); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
	for _, n := range []int{8000, 8000, 3500} {
		put(n)
		mustFlush(t, db)
	}
	durable := db.DurableLSN()
	slow.Store(true)
	put(written)
	m := db.Metrics()
	for recent(m) > recentLimit(budget) && m.DurableLSN <= durable {
		runtime.Gosched()
		m = db.Metrics()
	}
	if got := recent(m); got > recentLimit(budget) {
		t.Errorf("recent events take %d bytes of %d that they may, until the disk took more of them", got, recentLimit(budget))
	}
	if m.LSN < durable+written || m.Evictions == 0 {
		t.Errorf("%d generations have left memory: the test tests nothing", m.Evictions)
	}
}

// Writers who outrun flushes are held back before recent events and what finds them take more than their share: records are small
// here, so that their index is large.
func TestWritersStayWithinMemory(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	goOn := make(chan struct{})
	fs.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpCreate && strings.HasSuffix(c.Name, ".seg") {
			<-goOn
		}
		return nil
	})
	const budget = 32 << 20
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, MemoryBudget: budget, HotRangeBytes: -1, NoRecordCache: true})
	defer db.Close()
	defer close(goOn)
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	for n, m := 0, db.Metrics(); m.WriteDelay < 10*time.Millisecond; m = db.Metrics() {
		for range 300 {
			b.Put(ds, fmt.Append(nil, n), nil)
			n++
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if got := recent(m); got > recentLimit(budget) {
			t.Fatalf("recent events take %d bytes of %d that they may, writers are held back by %v", got, recentLimit(budget), m.WriteDelay)
		}
	}
}
