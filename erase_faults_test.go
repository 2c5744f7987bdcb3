package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// eraseScript writes of alice and erases her, twice.
var eraseScript = []struct {
	name string
	run  func(db *dyngo.DB, ds *dyngo.Dataset) error
}{
	{"alice 1", putOf("alice 1", ofAlice)},
	{"bob", putOf("bob", ofBob)},
	{"erase", eraseAlice},
	{"alice 2", putOf("alice 2", ofAlice)},
	{"erase again", eraseAlice},
	{"alice 3", putOf("alice 3", ofAlice)},
}

// written and erasedBy are the steps, counted from 1, that write a key and that erase it; 0 = none.
var eraseFates = []struct {
	key               string
	written, erasedBy int
}{{"alice 1", 1, 3}, {"bob", 2, 0}, {"alice 2", 4, 5}, {"alice 3", 6, 0}}

func putOf(key string, wo dyngo.WriteOptions) func(*dyngo.DB, *dyngo.Dataset) error {
	return func(_ *dyngo.DB, ds *dyngo.Dataset) error {
		_, err := ds.PutWith([]byte(key), []byte("value of "+key), wo)
		return err
	}
}

func eraseAlice(db *dyngo.DB, _ *dyngo.Dataset) error {
	_, err := db.Erase(context.Background(), "alice", dyngo.EraseOptions{Reason: "test"})
	return err
}

// destroyedKeys are the keys that the log says are gone, in its order.
func destroyedKeys(fs vfs.FS) (ids []uint64, err error) {
	sc, err := wal.NewScanner(fs, storeDir+"/wal", wal.ScanOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer sc.Close()
	for {
		f, err := sc.Next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return ids, err
		}
		if f.Kind != wal.KindCommit {
			continue
		}
		for e, err := range f.Events() {
			if err != nil {
				return ids, err
			}
			if id, ok := event.SubjectKey(e.Parts); ok && e.Op == event.OpKeyDestroyed {
				ids = append(ids, id)
			}
		}
	}
}

// checkErased reads what a crash left when some steps were done and one more was perhaps under way. Then the store is opened for
// writing, which carries out what was begun.
func checkErased(fs vfs.FS, now int64, done int) error {
	c := clock.NewManual(time.Unix(0, now).Add(time.Second))
	// erased says of each key that is there whether it can't be read.
	look := func(db *dyngo.DB) (erased map[string]bool, err error) {
		erased = map[string]bool{}
		ds, err := db.Dataset("d")
		if errors.Is(err, dyngo.ErrNoDataset) && done == 0 {
			return erased, nil
		}
		if err != nil {
			return nil, err
		}
		for _, k := range eraseFates {
			got, err := ds.Get([]byte(k.key))
			switch {
			case errors.Is(err, dyngo.ErrErased):
				erased[k.key] = true
			case err == nil && string(got) == "value of "+k.key:
				erased[k.key] = false
			case errors.Is(err, dyngo.ErrNotFound) && done < k.written:
				continue
			default:
				return nil, fmt.Errorf("%s: %q, %v", k.key, got, err)
			}
			if gone := erased[k.key]; gone && (k.erasedBy == 0 || done+1 < k.erasedBy) || !gone && k.erasedBy > 0 && done >= k.erasedBy {
				return nil, fmt.Errorf("%s is erased: %t", k.key, gone)
			}
		}
		return erased, nil
	}
	count := func(erased map[string]bool) (n int) {
		for _, gone := range erased {
			if gone {
				n++
			}
		}
		return n
	}
	o := keyed(fs, c)
	o.ReadOnly = true
	db, err := dyngo.Open(storeDir, o)
	if errors.Is(err, dyngo.ErrNoStore) && done == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	erased, err := look(db)
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	ids, err := destroyedKeys(fs)
	if err != nil || len(ids) > count(erased) {
		return fmt.Errorf("the log says of %x that they are gone, %v can't be read: %w", ids, erased, err)
	}
	o.ReadOnly = false
	if db, err = dyngo.Open(storeDir, o); err != nil {
		return err
	}
	defer db.Close()
	if erased, err = look(db); err != nil {
		return err
	}
	if ids, err = destroyedKeys(fs); err != nil || len(ids) != count(erased) {
		return fmt.Errorf("opened again: the log says of %x that they are gone, %v can't be read: %w", ids, erased, err)
	}
	names, err := fs.List(keysDir)
	for _, name := range names {
		if strings.HasPrefix(name, "erasing") {
			return fmt.Errorf("the folder of keys holds %q, %w", names, err)
		}
	}
	ds, err := db.CreateDataset("d", nil)
	for range 2 { // it goes on
		if err == nil {
			err = putOf("after", ofAlice)(db, ds)
		}
		if err == nil {
			err = eraseAlice(db, ds)
		}
		if _, gerr := ds.Get([]byte("after")); err == nil && !errors.Is(gerr, dyngo.ErrErased) {
			err = fmt.Errorf("after: %w", gerr)
		}
	}
	if got, gerr := ds.Get([]byte("bob")); done > 1 && string(got) != "value of bob" {
		err = errors.Join(err, fmt.Errorf("bob: %q, %w", got, gerr))
	}
	return errors.Join(err, verify(fs))
}

// Power fails, and the process is killed, before each call that changes something on disk (short: each eighth). No log says that a key is gone while
// it is there; no value is lost but those that were erased; what was begun is carried out.
func TestEraseWithPowerLossAtEveryCall(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crash := vfs.NewCrash(seed)
	fault := vfs.NewFault(crash)
	c := manualClock()
	db := mustOpen(t, storeDir, keyed(fault, c))
	defer db.Close()
	var done, calls atomic.Int64
	var mu sync.Mutex
	var bad error
	fault.OnCall(func(call vfs.Call) error {
		if call.Op&(vfs.OpSyncs|vfs.OpWrite|vfs.OpCreate|vfs.OpRename|vfs.OpRemove|vfs.OpTruncate|vfs.OpMkdirAll) == 0 {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n := calls.Add(1)
		if bad != nil || testing.Short() && (uint64(n)+seed)%8 != 0 {
			return nil
		}
		try := func(what string, left *vfs.Crash) {
			if err := checkErased(left, c.Now(), int(done.Load())); err != nil && bad == nil {
				bad = fmt.Errorf("%s before call %s, %d steps done: %w\n%s", what, call, done.Load(), err, fault.Trace())
			}
		}
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {}, {Garbage: true}} {
			if testing.Short() && (uint64(i)+uint64(n)/8)%4 != 0 {
				continue
			}
			o.Seed = uint64(n*10) + uint64(i)
			try(fmt.Sprintf("power loss %+v", o), crash.PowerLoss(o))
		}
		killed := crash.KillProcess()
		if !testing.Short() {
			try("kill, then power loss", killed.PowerLoss(vfs.CrashOptions{}))
		}
		try("kill", killed)
		return nil
	})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range eraseScript {
		if err := step.run(db, ds); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		done.Add(1)
	}
	fault.OnCall(nil)
	if bad != nil {
		t.Fatal(bad)
	}
	if calls.Load() < 60 {
		t.Errorf("only %d calls", calls.Load())
	}
}

// Each call on the folder of keys fails once, in each way (short: some do). What is not erased then can be read, the next erasure does what was
// begun, and after it no key is left of what can't be read.
func TestEraseWithEachCallFailing(t *testing.T) {
	t.Parallel()
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
		for k := int64(1); ; k++ {
			if testing.Short() && k%8 != int64(kind) {
				continue
			}
			fired, err := eraseWithFault(kind, k)
			if err != nil {
				t.Fatalf("kind %d, call %d: %v", kind, k, err)
			}
			if !fired {
				break
			}
		}
	}
}

func eraseWithFault(kind vfs.Kind, k int64) (fired bool, err error) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	c := manualClock()
	db, err := dyngo.Open(storeDir, keyed(fault, c))
	if err != nil {
		return false, err
	}
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		return false, err
	}
	fault.Inject(vfs.Plan{Kind: kind, K: k, Name: keysDir + "*"})
	fault.Inject(vfs.Plan{Kind: kind, K: 1 << 40})
	var keys [][]byte
	for _, step := range eraseScript {
		for try := 0; ; try++ {
			err := step.run(db, ds)
			if err == nil {
				break
			}
			if fault.Fired() == 0 || try > 2 {
				return true, fmt.Errorf("%s: %w\n%s", step.name, err, fault.Trace())
			}
			if strings.Contains(err.Error(), "open the store again") {
				if err := db.Close(); err != nil {
					return true, err
				}
				c.Advance(time.Second)
				if db, err = dyngo.Open(storeDir, keyed(fault, c)); err != nil {
					return true, err
				}
				if ds, err = db.Dataset("d"); err != nil {
					return true, err
				}
			}
		}
		names, err := crash.List(keysDir)
		for _, name := range names {
			if b, rerr := crash.ReadFile(keysDir+"/"+name, 1<<20); rerr == nil && strings.HasSuffix(name, ".key") && b[24] == 1 {
				keys = append(keys, b[120:152])
			}
		}
		if err != nil {
			return true, err
		}
	}
	if err := db.Close(); err != nil {
		return true, err
	}
	left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})
	live := 0
	slices.SortFunc(keys, bytes.Compare)
	for _, key := range slices.CompactFunc(keys, bytes.Equal) {
		names, err := left.List(keysDir)
		if err != nil {
			return true, err
		}
		for _, name := range names {
			if b, err := left.ReadFile(keysDir+"/"+name, 1<<20); err == nil && bytes.Contains(b, key) {
				live++
			}
		}
	}
	if live != 2 { // of bob, and alice's last
		return true, fmt.Errorf("%d keys are left\n%s", live, fault.Trace())
	}
	return fault.Fired() > 0, checkErased(left, c.Now(), len(eraseScript))
}

// An erasure that failed while the key's file was being overwritten leaves a torn one. Who reads takes the key as destroyed, a dry run
// says what is begun, and the next process makes up for it.
func TestEraseThatLeavesATornFile(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	subject := strings.Repeat("a long name ", 20) // so that half a write does not do it all
	erase := func(db *dyngo.DB) error {
		_, err := db.Erase(t.Context(), subject, dyngo.EraseOptions{})
		return err
	}
	put := putOf("alice", dyngo.WriteOptions{Subject: subject})
	db := mustOpen(t, storeDir, keyed(fault, c))
	ds, err := db.CreateDataset("d", nil)
	if err == nil {
		err = put(db, ds)
	}
	if err != nil {
		t.Fatal(err)
	}
	plan, err := db.Erase(t.Context(), subject, dyngo.EraseOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	key := plan.KeyID
	fault.Inject(vfs.Plan{Kind: vfs.FailShort, Ops: vfs.OpWrite, Name: keysDir + "/*.key"})
	if err := erase(db); !errors.Is(err, syscall.EIO) {
		t.Fatalf("an erasure that can't write: %v", err)
	}
	if got, err := ds.Get([]byte("alice")); !errors.Is(err, dyngo.ErrErased) {
		t.Errorf("%q, %v", got, err)
	}
	fault.Inject(vfs.Plan{Ops: vfs.OpWrite | vfs.OpOpenRW, Name: keysDir + "/*.key", Count: -1})
	if err := put(db, ds); err == nil {
		t.Error("a write under a key that is being destroyed")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o := keyed(fault, c)
	if _, err := dyngo.Open(storeDir, o); !errors.Is(err, syscall.EIO) {
		t.Errorf("an erasure that can't be carried out: %v", err)
	}
	fault.Heal()
	o.ReadOnly = true
	for i, readOnly := range []bool{true, false, true} {
		carriedOut := i > 0
		c.Advance(time.Second)
		o.ReadOnly = readOnly
		db := mustOpen(t, storeDir, o)
		if ds, err = db.Dataset("d"); err != nil {
			t.Fatal(err)
		}
		if got, err := ds.Get([]byte("alice")); !errors.Is(err, dyngo.ErrErased) {
			t.Errorf("read-only %t: %q, %v", readOnly, got, err)
		}
		e, err := db.Erase(t.Context(), subject, dyngo.EraseOptions{DryRun: true, Count: true})
		if err != nil || e.KeyID != key || e.KeyCreated.IsZero() || e.Events != 1 || e.Already != carriedOut || (e.LSN != 0) != carriedOut {
			t.Errorf("read-only %t, carried out %t: %+v, %v", readOnly, carriedOut, e, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := destroyedKeys(fault); err != nil || len(ids) != 1 {
		t.Errorf("the log says of %x that they are gone, %v", ids, err)
	}
}

// A copy of the folder of keys that was made while alice was erased, and written of again, has her old key and the new one. To erase
// her with it destroys both: nothing that was ever written of her can be read, and no file has either key.
func TestEraseOfTwoLiveKeys(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, keyed(fs, c))
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for i := range 2 {
		if err := putOf(fmt.Sprint("alice ", i), ofAlice)(db, ds); err != nil {
			t.Fatal(err)
		}
		walkFiles(t, fs, keysDir, func(name string, b []byte) {
			if strings.HasSuffix(name, ".key") && b[24] == 1 {
				files[name] = b
			}
		})
		if i == 0 {
			err = eraseAlice(db, ds)
		}
	}
	if err := errors.Join(err, db.Close()); err != nil || len(files) != 2 {
		t.Fatalf("%d keys, %v", len(files), err)
	}
	for name, b := range files {
		if err := vfs.WriteFileSync(fs, name, b); err != nil {
			t.Fatal(err)
		}
	}
	c.Advance(time.Second)
	db = mustOpen(t, storeDir, keyed(fs, c))
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	look := func(gone bool) {
		t.Helper()
		for i := range 2 {
			key := fmt.Sprint("alice ", i)
			if got, err := ds.Get([]byte(key)); errors.Is(err, dyngo.ErrErased) != gone || !gone && string(got) != "value of "+key {
				t.Errorf("%s: %q, %v", key, got, err)
			}
		}
	}
	look(false)
	before := db.LSN()
	e, err := db.Erase(t.Context(), "alice", dyngo.EraseOptions{Reason: "asked for it", Count: true})
	if err != nil || e.Already || e.LSN <= before+1 || e.LSN != db.DurableLSN() || e.Events != 1 {
		t.Errorf("LSN %d before: %+v, %v", before, e, err)
	}
	look(true)
	again, err := db.Erase(t.Context(), "alice", dyngo.EraseOptions{})
	if err != nil || !again.Already || again.LSN != e.LSN || again.KeyID != e.KeyID || again.Reason != e.Reason {
		t.Errorf("%+v, then %+v, %v", e, again, err)
	}
	walkFiles(t, fs, keysDir, func(name string, b []byte) {
		for of, live := range files {
			if bytes.Contains(b, live[120:152]) {
				t.Errorf("%s has the key of %s", name, of)
			}
		}
	})
	if ids, err := destroyedKeys(fs); err != nil || len(ids) != 3 { // the first one twice
		t.Errorf("the log says of %x that they are gone, %v", ids, err)
	}
}

// A write that has seen its key, and waits for its place, has its LSN before an erasure goes on. So no value that was acknowledged
// stands in the log behind the event that says that its key is gone.
func TestEraseWaitsForTheWriteThatSawTheKey(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	db := mustOpen(t, storeDir, keyed(fault, manualClock()))
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err == nil {
		err = putOf("first", ofAlice)(db, ds)
	}
	if err != nil {
		t.Fatal(err)
	}
	unlock := db.LockKeys()
	var put dyngo.LSN
	var erasure *dyngo.Erasure
	var putErr, eraseErr error
	var both sync.WaitGroup
	both.Go(func() { put, putErr = ds.PutWith([]byte("k"), []byte("v"), ofAlice) })
	for deadline := time.Now().Add(2 * time.Second); !db.HoldsSubjects(); runtime.Gosched() {
		if time.Now().After(deadline) {
			unlock()
			t.Fatal("a write that waits does not keep its subject from being erased")
		}
	}
	begun := make(chan struct{})
	fault.OnCall(func(call vfs.Call) error {
		if call.Op == vfs.OpRename && vfs.Match("erasing-*", call.NewName) {
			close(begun)
		}
		return nil
	})
	both.Go(func() { erasure, eraseErr = db.Erase(context.Background(), "alice", dyngo.EraseOptions{}) })
	<-begun
	unlock()
	both.Wait()
	if putErr != nil || eraseErr != nil || put >= erasure.LSN {
		t.Errorf("the put has LSN %d, %v; the erasure %+v, %v", put, putErr, erasure, eraseErr)
	}
	if got, err := ds.Get([]byte("k")); !errors.Is(err, dyngo.ErrErased) {
		t.Errorf("%q, %v", got, err)
	}
}

// Writers and erasures of one subject at a time: what was acknowledged after an erasure began can be read after it, or another
// one has erased it; never is a value lost whose key was not destroyed after its write.
func TestWritesBesideErasures(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), MemoryBudget: 8 << 20, Keys: keysDir})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	rounds := 200
	if testing.Short() {
		rounds = 8
	}
	type written struct {
		key string
		lsn dyngo.LSN
	}
	var writers sync.WaitGroup
	acked := make([][]written, 3)
	stop := make(chan struct{})
	var puts atomic.Int64 // that each writer may have done: else slow erasures are slower still, with so much to erase
	for w := range acked {
		writers.Go(func() {
			for i := 0; ; {
				select {
				case <-stop:
					return
				default:
				}
				if i == int(puts.Load()) {
					runtime.Gosched()
					continue
				}
				key := fmt.Sprintf("%d/%06d", w, i)
				i++
				var lsn dyngo.LSN
				var err error
				if w == 2 {
					b := db.NewBatch()
					b.PutWith(ds, []byte(key), []byte(key), ofAlice)
					if lsn, err = b.Commit(); errors.Is(err, dyngo.ErrErased) {
						continue // nothing was written
					}
				} else {
					lsn, err = ds.PutWith([]byte(key), []byte(key), ofAlice)
				}
				if err != nil {
					t.Errorf("%s: %v", key, err)
					return
				}
				acked[w] = append(acked[w], written{key, lsn})
			}
		})
	}
	var last dyngo.LSN
	for rounds > 0 && !t.Failed() {
		puts.Add(1000)
		e, err := db.Erase(t.Context(), "alice", dyngo.EraseOptions{})
		switch {
		case errors.Is(err, dyngo.ErrNoSubject): // nothing is written yet
		case err != nil:
			t.Error(err)
		case !e.Already:
			last = e.LSN
			rounds--
		}
	}
	close(stop)
	writers.Wait()
	n := 0
	for _, writes := range acked {
		for _, w := range writes {
			got, err := ds.Get([]byte(w.key))
			if erased := errors.Is(err, dyngo.ErrErased); erased && w.lsn > last || !erased && (err != nil || string(got) != w.key) {
				t.Errorf("%s of LSN %d, the last erasure is of LSN %d: %q, %v", w.key, w.lsn, last, got, err)
			}
			n++
		}
	}
	t.Logf("%d writes, the last erasure is of LSN %d of %d", n, last, db.LSN())
}

// A key file that can't be read once, by whichever of the reads that a call makes: the call fails, or gives the value with its subject.
// It never says that the value is of nobody, for then who writes it again writes it in plain text.
func TestKeyThatCantBeReadOnce(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	db := mustOpen(t, storeDir, keyed(fault, c))
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	put, err := ds.PutWith([]byte("k"), []byte("secret"), ofAlice)
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Second)
	db = mustOpen(t, storeDir, keyed(fault, c)) // it owns no keys yet, so it reads them again after a second
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	past := mustViewAt(t, db, dyngo.AtLSN(put))
	defer past.Close()
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	first := func(pairs func(func(dyngo.KV, error) bool)) (value []byte, subject string, err error) {
		for kv, err := range pairs {
			return kv.Value, kv.Subject, err
		}
		return nil, "", errors.New("there is no pair")
	}
	for way, read := range map[string]func() (value []byte, subject string, err error){
		"lookup": func() ([]byte, string, error) {
			kv, err := ds.Lookup([]byte("k"))
			return kv.Value, kv.Subject, err
		},
		"scan":           func() ([]byte, string, error) { return first(ds.Scan(dyngo.Range{})) },
		"reverse scan":   func() ([]byte, string, error) { return first(ds.Scan(dyngo.Range{Reverse: true})) },
		"view's scan":    func() ([]byte, string, error) { return first(view.Scan(ds, dyngo.Range{})) },
		"scan of a past": func() ([]byte, string, error) { return first(past.Scan(ds, dyngo.Range{})) },
		"history": func() ([]byte, string, error) {
			for v, err := range ds.History(t.Context(), []byte("k")) {
				return v.Value, v.Subject, err
			}
			return nil, "", errors.New("there is no version")
		},
		"diff": func() ([]byte, string, error) {
			for change, err := range db.Diff(t.Context(), dyngo.AtLSN(put-1), dyngo.AtLSN(put), nil) {
				if err != nil {
					return nil, "", err
				}
				return change.After.Value, change.After.Subject, nil
			}
			return nil, "", errors.New("there is no change")
		},
	} {
		for k := int64(1); ; k++ {
			c.Advance(2 * time.Second)
			before := fault.Fired()
			fault.Inject(vfs.Plan{K: k, Ops: vfs.OpReadFile, Name: keysDir + "/*.key", Err: syscall.EMFILE})
			value, subject, err := read()
			fired := fault.Fired() > before
			fault.Heal()
			switch {
			case err != nil && (!fired || !errors.Is(err, syscall.EMFILE)):
				t.Errorf("%s, reading %d fails: %v", way, k, err)
			case err == nil && (string(value) != "secret" || subject != "alice"):
				t.Errorf("%s, reading %d fails: %q of %q", way, k, value, subject)
			}
			if !fired {
				if k == 1 {
					t.Errorf("%s reads no key", way)
				}
				break
			}
		}
	}
}
