package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// redactScript writes values, hides them and redacts them. The LSN of a step is that of its last event.
var redactScript = []struct {
	name string
	run  func(db *dyngo.DB, ds *dyngo.Dataset) (dyngo.LSN, error)
}{
	{"small", putSecret("small", 100)},
	{"large", putSecret("large", 300<<10)},
	{"batch", func(db *dyngo.DB, ds *dyngo.Dataset) (dyngo.LSN, error) {
		b := db.NewBatch()
		for i := range 30 {
			b.Put(ds, fmt.Appendf(nil, "batch %d", i), redactSecret(fmt.Sprintf("batch %d", i), 400))
		}
		return b.Commit()
	}},
	{"hide", func(db *dyngo.DB, ds *dyngo.Dataset) (dyngo.LSN, error) {
		b := db.NewBatch()
		b.Put(ds, []byte("small"), []byte("new"))
		b.Delete(ds, []byte("large"))
		b.Put(ds, []byte("batch 29"), []byte("new"))
		return b.Commit()
	}},
	{"redact small", redactStep(3)},
	{"redact large", redactStep(4)},
	{"redact of batch", redactStep(34)},
	{"after", putSecret("after", 10)},
}

// redactFates are the events that are redacted: by which step, counted from 1.
var redactFates = []struct {
	key     string
	lsn     dyngo.LSN
	size    int
	written int
	by      int
}{{"small", 3, 100, 1, 5}, {"large", 4, 300 << 10, 2, 6}, {"batch 29", 34, 400, 3, 7}}

func redactSecret(key string, size int) []byte {
	return []byte("secret of " + key + ": " + big(size, 3))
}

func putSecret(key string, size int) func(*dyngo.DB, *dyngo.Dataset) (dyngo.LSN, error) {
	return func(_ *dyngo.DB, ds *dyngo.Dataset) (dyngo.LSN, error) {
		return ds.Put([]byte(key), redactSecret(key, size))
	}
}

func redactStep(lsn dyngo.LSN) func(*dyngo.DB, *dyngo.Dataset) (dyngo.LSN, error) {
	return func(db *dyngo.DB, _ *dyngo.Dataset) (dyngo.LSN, error) {
		r, err := db.Redact(context.Background(), lsn, dyngo.RedactOptions{Reason: "test"})
		if err != nil {
			return 0, err
		}
		return r.By, nil
	}
}

// filesWith are the files in a folder and below it that have some bytes.
func filesWith(fsys vfs.FS, dir string, what []byte) (with []string, err error) {
	names, err := fsys.List(dir)
	for _, name := range names {
		name = path.Join(dir, name)
		info, serr := fsys.Stat(name)
		if errors.Is(serr, fs.ErrNotExist) { // it has just gone
			continue
		}
		if serr != nil {
			return with, serr
		}
		if info.Dir {
			more, derr := filesWith(fsys, name, what)
			with, err = append(with, more...), errors.Join(err, derr)
			continue
		}
		b, rerr := fsys.ReadFile(name, 1<<30)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, rerr); bytes.Contains(b, what) {
			with = append(with, name)
		}
	}
	return with, err
}

// checkRedacted reads what a crash left when some steps were done and one more was perhaps under way, before and after the store is
// opened for writing, which carries out what was logged.
func checkRedacted(fsys vfs.FS, now int64, done int) error {
	c := clock.NewManual(time.Unix(0, now).Add(time.Second))
	look := func(readOnly bool) error {
		o := keyed(fsys, c)
		o.ReadOnly = readOnly
		db, err := dyngo.Open(storeDir, o)
		if errors.Is(err, dyngo.ErrNoStore) && done == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		defer db.Close()
		c.Advance(time.Second)
		report, err := wal.Verify(context.Background(), fsys, storeDir+"/wal", nil)
		if err := errors.Join(append(report.Defects, err)...); err != nil {
			return err
		}
		redacted := map[dyngo.LSN]wal.RedactedValue{}
		for _, r := range report.Redactions {
			if redacted[r.LSN] = r; r.By == 0 || !r.Done && !readOnly {
				return fmt.Errorf("the log says %+v", r)
			}
		}
		ds, err := db.Dataset("d")
		if errors.Is(err, dyngo.ErrNoDataset) && done == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range redactFates {
			r, logged := redacted[f.lsn]
			if logged && done+1 < f.by || !logged && done >= f.by {
				return fmt.Errorf("%s: logged %t", f.key, logged)
			}
			found := 0
			for v, err := range ds.History(context.Background(), []byte(f.key)) {
				if err != nil {
					return fmt.Errorf("history of %s: %w", f.key, err)
				}
				if v.LSN == f.lsn {
					found++
					if v.Redacted != r.Done || !v.Redacted && string(v.Value) != string(redactSecret(f.key, f.size)) {
						return fmt.Errorf("history of %s: redacted %t, %d bytes, logged %t", f.key, v.Redacted, len(v.Value), logged)
					}
				}
			}
			if found != 1 && done >= f.written {
				return fmt.Errorf("history of %s: %d times", f.key, found)
			}
			with, err := filesWith(fsys, storeDir, []byte("secret of "+f.key+":"))
			if err != nil || r.Done && len(with) > 0 && !readOnly {
				return fmt.Errorf("%s is in %q, %w", f.key, with, err)
			}
		}
		if readOnly {
			return nil
		}
		names, err := fsys.List(storeDir + "/wal")
		for _, name := range names {
			if strings.HasPrefix(name, "redact") {
				return fmt.Errorf("the log has %q, %w", names, err)
			}
		}
		if done < 4 {
			return nil
		}
		for _, f := range redactFates { // it goes on
			r, err := db.Redact(context.Background(), f.lsn, dyngo.RedactOptions{Reason: "again"})
			if err != nil || r.Already != redacted[f.lsn].Done {
				return fmt.Errorf("%s again: %+v, %w", f.key, r, err)
			}
			if with, err := filesWith(fsys, storeDir, []byte("secret of "+f.key+":")); err != nil || len(with) > 0 {
				return fmt.Errorf("%s is still in %q, %w", f.key, with, err)
			}
		}
		if got, err := ds.Get([]byte("batch 7")); err != nil || string(got) != string(redactSecret("batch 7", 400)) {
			return fmt.Errorf("what was beside: %d bytes, %w", len(got), err)
		}
		return verify(fsys)
	}
	if err := look(true); err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	return look(false)
}

// Power fails, and the process is killed, before each call that changes something on disk (short: some do): afterwards a value is
// there, or the log says that it was redacted, and then no file has it once the store was opened.
func TestRedactWithPowerLossAtEveryCall(t *testing.T) {
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
		if bad != nil || !taken(n, seed, 32) {
			return nil
		}
		try := func(what string, left *vfs.Crash) {
			if err := checkRedacted(left, c.Now(), int(done.Load())); err != nil && bad == nil {
				bad = fmt.Errorf("%s before call %d %s, %d steps done: %w\n%s", what, n, call, done.Load(), err, fault.Trace())
			}
		}
		for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {}, {Garbage: true}} {
			if testing.Short() && (uint64(i)+uint64(n)/32)%4 != 0 {
				continue
			}
			o.Seed = uint64(n*10) + uint64(i)
			try(fmt.Sprintf("power loss %+v", o), crash.PowerLoss(o))
		}
		killed := crash.KillProcess()
		if !testing.Short() {
			try("kill, then power loss", killed.PowerLoss(vfs.CrashOptions{}))
			try("kill", killed)
		}
		return nil
	})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range redactScript {
		if _, err := step.run(db, ds); err != nil {
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

// Each call on the log fails once while values are redacted (short: fewer do). What was not redacted then is done by the next
// redaction, in the same process or the next.
func TestRedactWithEachCallFailing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
		for k := int64(1); ; k++ {
			if !taken(k, seed+uint64(kind), 32) {
				continue
			}
			fired, err := redactWithFault(kind, k)
			if err != nil {
				t.Fatalf("kind %d, call %d: %v", kind, k, err)
			}
			if !fired {
				break
			}
		}
	}
}

func redactWithFault(kind vfs.Kind, k int64) (fired bool, err error) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	c := manualClock()
	o := func() *dyngo.Options {
		o := keyed(fault, c)
		if kind == vfs.FailNoSpace {
			o.Clock = nil // the log waits for space by the clock
		}
		return o
	}
	db, err := dyngo.Open(storeDir, o())
	if err != nil {
		return false, err
	}
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		return false, err
	}
	for i, step := range redactScript {
		if i == 4 {
			fault.Inject(vfs.Plan{Kind: kind, K: k})
		}
		for try := 0; ; try++ {
			_, err := step.run(db, ds)
			if err == nil {
				break
			}
			if fault.Fired() == 0 || try > 3 {
				return true, fmt.Errorf("%s: %w\n%s", step.name, err, fault.Trace())
			}
			if !errors.Is(err, dyngo.ErrLogFailed) && !errors.Is(err, dyngo.ErrOutcomeUnknown) && try < 2 {
				continue
			}
			db.Close() // its error is of the log that failed
			c.Advance(time.Second)
			if db, err = dyngo.Open(storeDir, o()); err != nil {
				return true, err
			}
			if ds, err = db.Dataset("d"); err != nil {
				return true, err
			}
		}
	}
	if err := db.Close(); err != nil && fault.Fired() == 0 {
		return false, err
	}
	left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
	for _, f := range redactFates {
		if with, err := filesWith(left, storeDir, []byte("secret of "+f.key+":")); err != nil || len(with) > 0 {
			return true, fmt.Errorf("%s is still in %q, %w\n%s", f.key, with, err, fault.Trace())
		}
	}
	now := c.Now()
	if kind == vfs.FailNoSpace {
		now = time.Now().UnixNano()
	}
	return fault.Fired() > 0, checkRedacted(left, now, len(redactScript))
}

// Values are redacted while others write, read, scan, flush and merge: none of them fails or sees anything else than before, and what
// was redacted is gone.
func TestRedactBesideOthers(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fsys, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20, Integrity: true})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal, Compression: dyngo.NoCompression})
	if err != nil {
		t.Fatal(err)
	}
	type written struct {
		lsn   dyngo.LSN
		value []byte
	}
	stop, old := make(chan struct{}), make(chan written, 1)
	var others sync.WaitGroup
	fail := func(err error) {
		if err != nil && !errors.Is(err, dyngo.ErrClosed) {
			t.Error(err)
		}
	}
	loop := func(f func(i int) error) {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					fail(f(i))
				}
			}
		})
	}
	var puts atomic.Int64 // that each writer may have done: the longer a key's history, the longer a redaction looks at it
	for w := range 2 {
		last, n := map[string]written{}, int64(0)
		loop(func(int) error {
			if n == puts.Load() {
				runtime.Gosched()
				return nil
			}
			i := int(n)
			n++
			key := fmt.Sprintf("%d/%d", w, i%7)
			value := redactSecret(fmt.Sprintf("%s %d", key, i), 100+i%3*10_000)
			lsn, err := ds.Put([]byte(key), value)
			if before, ok := last[key]; ok && err == nil {
				select {
				case old <- before:
				default:
				}
			}
			last[key] = written{lsn, value}
			return err
		})
	}
	loop(func(i int) error {
		for kv, err := range ds.Scan(dyngo.Range{}) {
			if err != nil || !bytes.HasPrefix(kv.Value, []byte("secret of ")) {
				return fmt.Errorf("scan: %.40q, %w", kv.Value, err)
			}
		}
		n := 0
		for v, err := range ds.History(t.Context(), fmt.Appendf(nil, "0/%d", i%7)) {
			if err != nil || v.Op.String() == "put" && !v.Redacted && !bytes.HasPrefix(v.Value, []byte("secret of ")) {
				return fmt.Errorf("history: %.40q, %w", v.Value, err)
			}
			if n++; n > 20 {
				break
			}
		}
		return nil
	})
	loop(func(i int) error {
		if i%8 == 0 {
			return db.Compact(t.Context())
		}
		return db.Flush(t.Context())
	})
	rounds := 40
	if testing.Short() {
		rounds = 4
	}
	var done []written
	for len(done) < rounds && !t.Failed() {
		puts.Add(200)
		w := <-old
		_, err := db.Redact(t.Context(), w.lsn, dyngo.RedactOptions{Reason: "test"})
		if errors.Is(err, dyngo.ErrRedact) && strings.Contains(err.Error(), "while somebody may read it") {
			continue // a scan is at it
		}
		if err != nil {
			t.Errorf("LSN %d: %v", w.lsn, err)
		}
		done = append(done, w)
	}
	close(stop)
	others.Wait()
	for _, w := range done {
		if with, err := filesWith(fsys, storeDir, w.value[:40]); err != nil || len(with) > 0 {
			t.Errorf("LSN %d is in %q, %v", w.lsn, with, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: fsys}, dyngo.VerifyOptions{Level: dyngo.LevelState})
	if err := errors.Join(append(report.All(), err)...); err != nil || len(report.Log.Redactions) != len(done) || report.Tree.Gone > 0 {
		t.Errorf("%d redactions, %+v: %v", len(report.Log.Redactions), report.Tree, err)
	}
}
