package dyngo_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// openWith opens a store with one dataset, "d".
func openWith(t *testing.T, o *dyngo.Options) (*dyngo.DB, *dyngo.Dataset) {
	t.Helper()
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, ds
}

// holdSync makes the next fdatasync wait: the first channel is closed when it has begun, closing the second lets it go on.
func holdSync(fault *vfs.Fault, then func(vfs.Call) error) (began, goOn chan struct{}) {
	began, goOn = make(chan struct{}), make(chan struct{})
	var once sync.Once
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpSyncData {
			once.Do(func() {
				close(began)
				<-goOn
			})
		}
		return then(c)
	})
	return began, goOn
}

// A data frame that can't be written while a sync is in flight: both callers get an error, nothing panics.
func TestFailureWhileSyncing(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db, ds := openWith(t, &dyngo.Options{FS: fault})
	var failing, failed bool
	var mu sync.Mutex
	began, goOn := holdSync(fault, func(c vfs.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == vfs.OpWrite && failing && !failed {
			failed = true
			return errors.New("input/output error")
		}
		return nil
	})
	small := make(chan error)
	go func() { small <- second(ds.Put([]byte("small"), nil)) }()
	<-began
	mu.Lock()
	failing = true
	mu.Unlock()
	if err := second(ds.Put([]byte("large"), []byte(big(100_000, 1)))); !errors.Is(err, dyngo.ErrLogFailed) {
		t.Errorf("a large value that could not be written: %v", err)
	}
	close(goOn)
	if err := <-small; !errors.Is(err, dyngo.ErrOutcomeUnknown) {
		t.Errorf("the put in flight: %v", err)
	}
	if err := db.Close(); err == nil {
		t.Error("Close after the failure returns nil")
	}
}

// After a lone durable put the log says, within a moment, that it was durable: else damage to it would look like a torn
// tail.
func TestWatermarkFollowsTheLastPut(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db, ds := openWith(t, options(fs, c))
	defer db.Close()
	for i := range 3 {
		lsn, err := ds.Put([]byte("k"), []byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		marked := dyngo.LSN(0)
		for deadline := 0; marked < lsn; deadline++ {
			if deadline > 10_000 {
				t.Fatalf("LSN %d is durable, the newest watermark says %d", lsn, marked)
			}
			c.Advance(50 * time.Millisecond)
			sc, err := wal.NewScanner(fs, storeDir+"/wal", wal.ScanOptions{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			for f, err := sc.Next(); err == nil; f, err = sc.Next() {
				if f.Kind == wal.KindWatermark {
					marked = f.DurableLSN
				}
			}
			sc.Close()
		}
	}
}

// A batch can be committed twice, also one that spilled, and adding to it afterwards is an error.
func TestBatchCommittedTwice(t *testing.T) {
	fs := vfs.NewMem()
	db, ds := openWith(t, &dyngo.Options{FS: fs})
	value := []byte(big(4000, 1))
	if _, _, err := ds.PutNewest([]byte("k000005"), value, time.Unix(100, 0)); err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	for i := range 3000 {
		b.PutNewest(ds, fmt.Appendf(nil, "k%06d", i), value, time.Unix(50, 0))
	}
	for range 2 {
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if b.Applied(5) || b.Applied(6) {
		t.Error("stale events were applied")
	}
	b.Put(ds, []byte("late"), nil)
	if _, err := b.Commit(); err == nil {
		t.Error("an event added after Commit was accepted")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	if err := errors.Join(verify(fs), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestNewestWinsAtTheEdges(t *testing.T) {
	db, ds := openWith(t, &dyngo.Options{InMemory: true})
	defer db.Close()
	b := db.NewBatch()
	for i, at := range []time.Time{time.Unix(0, 0), time.Unix(0, 0), time.Unix(-5, 0), time.Unix(0, 1)} {
		b.PutNewest(ds, []byte("zero"), []byte{byte('a' + i)}, at)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := []bool{b.Applied(0), b.Applied(1), b.Applied(2), b.Applied(3)}; !slices.Equal(got, []bool{true, false, false, true}) {
		t.Errorf("record time zero in a batch: applied %v", got)
	}
	// A batch that deletes does not remember what an earlier commit of it found.
	if _, _, err := ds.PutNewest([]byte("k"), []byte("a"), time.Unix(100, 0)); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.Delete(ds, []byte("k"))
	_, err1 := b.Commit()
	_, err2 := ds.Put([]byte("k"), []byte("no record time"))
	_, err3 := b.Commit()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if applied, _, err := ds.PutNewest([]byte("k"), nil, time.Unix(50, 0)); !applied || err != nil {
		t.Errorf("after Put and Delete anything is newer: %v, %v", applied, err)
	}
	for _, at := range []time.Time{{}, time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if _, _, err := ds.PutNewest([]byte("k"), nil, at); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("record time %v: %v", at, err)
		}
	}
	if _, err := ds.DeleteRange([]byte("a"), []byte{}); !errors.Is(err, dyngo.ErrLimit) {
		t.Errorf("a range that ends before the empty key: %v", err)
	}
}

// What a killed process left in the page cache is durable before a restarted one serves it, without any write.
func TestServedAfterKillIsDurable(t *testing.T) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	db, ds := openWith(t, &dyngo.Options{FS: fault})
	var killed *vfs.Crash
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpSyncData && killed == nil {
			killed = crash.KillProcess()
		}
		return nil
	})
	if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	db.Close()
	for _, readOnly := range []bool{true, false} {
		fs := killed.KillProcess()
		db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, ReadOnly: readOnly})
		seen, err := dump(db)
		if err != nil || seen["d"]["k"] != "v" {
			t.Fatalf("after the kill: %v, %v", seen, err)
		}
		left := fs.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
		db.Close()
		db = mustOpen(t, storeDir, &dyngo.Options{FS: left})
		after, err := dump(db)
		if err := errors.Join(err, differ(seen, after), db.Close()); err != nil {
			t.Fatalf("read-only %v: a read showed what power loss took back: %v", readOnly, err)
		}
	}
}

// The start of the log may be tried again after an error, but not after a failed sync.
func TestStartIsTriedAgain(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailSync} {
		fault := vfs.NewFault(vfs.NewMem())
		db, _ := openWith(t, &dyngo.Options{FS: fault})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, storeDir, &dyngo.Options{FS: fault})
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		plan := vfs.Plan{Kind: kind}
		if kind == vfs.FailError {
			plan.Ops = vfs.OpOpenRW // CLEAN is gone by then
		}
		fault.Inject(plan)
		if _, err := ds.Put([]byte("k"), nil); err == nil {
			t.Fatal("the failure was not noticed")
		}
		_, err = ds.Put([]byte("k"), nil)
		if kind == vfs.FailError && err != nil {
			t.Errorf("second try: %v", err)
		}
		if kind == vfs.FailSync && !errors.Is(err, dyngo.ErrLogFailed) {
			t.Errorf("second try after a failed sync: %v", err)
		}
		db.Close()
	}
}

// A conflict tells nothing that a crash takes back.
func TestConflictIsDurable(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db, ds := openWith(t, &dyngo.Options{FS: fault})
	defer db.Close()
	began, goOn := holdSync(fault, func(vfs.Call) error { return nil })
	put := make(chan error)
	go func() { put <- second(ds.Put([]byte("lock"), []byte("me"))) }()
	<-began
	type answer struct {
		err     error
		durable dyngo.LSN // when it came
	}
	told := make(chan answer)
	go func() {
		_, err := ds.PutIf([]byte("lock"), []byte("you"), 0)
		told <- answer{err, db.DurableLSN()}
	}()
	for range 10_000 { // long enough for an answer that does not wait
		runtime.Gosched()
	}
	close(goOn)
	if err := <-put; err != nil {
		t.Error(err)
	}
	a := <-told
	var conflict *dyngo.ConflictError
	if !errors.As(a.err, &conflict) || conflict.Have != 3 || a.durable < conflict.Have {
		t.Errorf("conflict: %v, told while LSN %d was durable", a.err, a.durable)
	}
}

// Sessions come and go; what each log file repeats does not grow with them.
func TestManySessions(t *testing.T) {
	fs := vfs.NewMem()
	long := string(make([]byte, dyngo.MaxAnnotation))
	for i := range 40 {
		db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, LogFileBytes: 1 << 20, Session: dyngo.Session{Actor: long, Client: long}})
		if _, err := db.CreateDataset("d", nil); err != nil {
			t.Fatal(err)
		}
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ds.Put([]byte("k"), []byte(big(100_000, byte(i)))); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sc, err := wal.NewScanner(fs, storeDir+"/wal", wal.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	for f, err := sc.Next(); err == nil; f, err = sc.Next() {
		if f.Kind == wal.KindDictionary && len(f.Body) > 4*dyngo.MaxAnnotation {
			t.Fatalf("dictionary of %d bytes in %s", len(f.Body), f.Name)
		}
	}
}

// A key with a time to live that is overwritten again and again leaves no trail of due times.
func TestOverwrittenExpiries(t *testing.T) {
	db, _ := openWith(t, &dyngo.Options{InMemory: true})
	defer db.Close()
	ds, err := db.CreateDataset("t", &dyngo.DatasetOptions{TTL: time.Hour, Consistency: dyngo.Eventual})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50_000 {
		if _, err := ds.Put([]byte{byte(i % 3)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := db.Metrics().TTLPending; n > 10_000 {
		t.Errorf("3 keys, %d due times", n)
	}
}

// Keys that are overwritten for ever stay within the budget: what evictions copied leaves memory too.
func TestOverwritesStayInBudget(t *testing.T) {
	db := mustOpen(t, "", &dyngo.Options{InMemory: true, MemoryBudget: 16 << 20, LogFileBytes: 16 << 20})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	value := []byte(big(100, 1))
	for i := range 600_000 {
		if _, err := ds.Put(fmt.Appendf(nil, "k%06d", i*7919%20_000), value); err != nil {
			t.Fatal(err)
		}
	}
	if m := db.Metrics(); m.TailBytes > 2*m.MemoryBudgetBytes || m.Evictions == 0 {
		t.Errorf("budget %d, %d bytes in memory after %d evictions", m.MemoryBudgetBytes, m.TailBytes, m.Evictions)
	}
	for i := range 20_000 {
		if _, err := ds.Get(fmt.Appendf(nil, "k%06d", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// Close is no failure of the log.
func TestCloseTellsNoFailure(t *testing.T) {
	var failed error // read after Close, which waits for the listener
	c := clock.NewManual(time.Unix(0, epochNs))
	db, ds := openWith(t, &dyngo.Options{FS: vfs.NewMem(), Clock: c, Listener: &dyngo.Listener{LogFailed: func(err error) { failed = err }}})
	if _, err := ds.Put([]byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil || failed != nil {
		t.Fatalf("Close: %v, told %v", err, failed)
	}
	if err := db.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

// Close seals the newest log file if it is long, and tells of it as of the files before it, in their order, before it returns.
func TestCloseTellsWhatItSeals(t *testing.T) {
	for _, c := range []struct {
		about string
		sizes []int // of values of a log whose files are full at 16 MiB
		want  []uint64
	}{
		{"a short file", []int{7 << 20}, nil},
		{"a long file", []int{9 << 20}, []uint64{1}},
		{"a long file behind a full one", []int{7 << 20, 7 << 20, 7 << 20, 7 << 20}, []uint64{1, 2}},
		{"a short file behind a full one", []int{7 << 20, 7 << 20, 7 << 20}, []uint64{1}},
	} {
		var told []uint64
		db, ds := openWith(t, &dyngo.Options{FS: vfs.NewMem(), LogFileBytes: 16 << 20, Listener: &dyngo.Listener{
			FileSealed: func(file uint64) { told = append(told, file) },
		}})
		for i, n := range c.sizes {
			if _, err := ds.Put(fmt.Append(nil, i), make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, c.want) {
			t.Errorf("%s: told of the files %d, want %d", c.about, told, c.want)
		}
	}
}

// A view shows what it showed when it was opened, while everything is overwritten and leaves memory.
func TestViewOutlivesEvictions(t *testing.T) {
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 2000
	write := func(round int) {
		for i := range keys {
			if _, err := ds.Put(fmt.Appendf(nil, "k%04d", i), []byte(big(1000, byte(i+round)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0)
	if err := db.WaitDurable(t.Context(), db.LSN()); err != nil {
		t.Fatal(err)
	}
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for round := range 20 {
		write(round + 1)
	}
	if n := db.Metrics().Evictions; n < 3 {
		t.Fatalf("%d evictions: the test tests nothing", n)
	}
	n := 0
	for kv, err := range v.Scan(ds, dyngo.Range{}) {
		if err != nil || string(kv.Value) != big(1000, byte(n)) {
			t.Fatalf("key %d of the view's scan is %s = %.20q, %v", n, kv.Key, kv.Value, err)
		}
		if got, err := v.Get(ds, kv.Key); err != nil || string(got) != big(1000, byte(n)) {
			t.Fatalf("the view's %s is %.20q, %v", kv.Key, got, err)
		}
		n++
	}
	if n != keys {
		t.Fatalf("the view's scan has %d keys, want %d", n, keys)
	}
}
