package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// twoFiles is a store with a large value in two log files, which is hidden and may be redacted.
type twoFiles struct {
	crash  *vfs.Crash
	fault  *vfs.Fault
	db     *dyngo.DB
	secret string
	lsn    dyngo.LSN
}

func newTwoFiles() (*twoFiles, error) {
	s := &twoFiles{crash: vfs.NewCrash(1), secret: strings.Repeat("what nobody may read again ", 20<<10)}
	s.fault = vfs.NewFault(s.crash)
	if err := s.open(); err != nil {
		return nil, err
	}
	ds, err := s.db.CreateDataset("d", &dyngo.DatasetOptions{Compression: dyngo.NoCompression, LargeValue: 8 << 10})
	if err != nil {
		return nil, err
	}
	s.lsn, err = ds.PutReader([]byte("k"), int64(len(s.secret)), &stopAfter{r: strings.NewReader(s.secret), left: len(s.secret), call: func() {
		if _, serr := s.db.Snapshot(context.Background(), "between"); serr != nil {
			panic(serr)
		}
	}})
	if err == nil {
		err = s.db.DropSnapshot("between")
	}
	if err == nil {
		_, err = ds.Delete([]byte("k"))
	}
	return s, err
}

func (s *twoFiles) open() (err error) {
	s.db, err = dyngo.Open(storeDir, redactOptions(s.fault, nil))
	return err
}

func (s *twoFiles) redact() (*dyngo.Redaction, error) {
	r, err := s.db.Redact(context.Background(), s.lsn, dyngo.RedactOptions{Reason: "test"})
	if err == nil && !r.Already && len(r.Files) != 2 {
		err = fmt.Errorf("the value lay in %q", r.Files)
	}
	return r, err
}

// gone says by which of its values the event is known: by none any more, or by the one that it had. Anything else is an error.
func (s *twoFiles) gone(db *dyngo.DB) (bool, error) {
	ds, err := db.Dataset("d")
	if err != nil {
		return false, err
	}
	found, redacted := false, false
	for v, err := range ds.History(context.Background(), []byte("k")) {
		if err != nil {
			return false, fmt.Errorf("history: %w", err)
		}
		if v.LSN != s.lsn {
			continue
		}
		if found, redacted = true, v.Redacted; !redacted && string(v.Value) != s.secret {
			return false, fmt.Errorf("history: %.20q of %d bytes", v.Value, len(v.Value))
		}
	}
	if !found {
		return false, errors.New("history has no such version")
	}
	past, err := db.ViewAt(context.Background(), dyngo.AtLSN(s.lsn))
	if err != nil {
		return false, err
	}
	defer past.Close()
	got, err := past.Get(ds, []byte("k"))
	switch {
	case redacted && !errors.Is(err, dyngo.ErrRedacted), !redacted && (err != nil || string(got) != s.secret):
		return false, fmt.Errorf("history says that it is redacted: %t; a view has %.20q, %w", redacted, got, err)
	}
	return redacted, nil
}

// isGone checks that the value is nowhere, neither for who has the store open nor after power loss.
func (s *twoFiles) isGone() error {
	if gone, err := s.gone(s.db); !gone || err != nil {
		return fmt.Errorf("in the open store it is gone: %t, %w", gone, err)
	}
	for _, fsys := range []vfs.FS{s.crash, s.crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone})} {
		if with, err := filesWith(fsys, storeDir, []byte(s.secret[:40])); err != nil || len(with) > 0 {
			return fmt.Errorf("it is in %q, %w", with, err)
		}
	}
	return nil
}

// wholly checks that the next owner of what power loss leaves has the value, and no event of a redaction, or the event and no value.
func (s *twoFiles) wholly(o vfs.CrashOptions) error {
	left := s.crash.PowerLoss(o)
	db, err := dyngo.Open(storeDir, redactOptions(left, nil))
	if err != nil {
		return err
	}
	defer db.Close()
	gone, err := s.gone(db)
	if err != nil {
		return err
	}
	report, err := wal.Verify(context.Background(), left, storeDir+"/wal", nil)
	if err := errors.Join(append(report.Defects, err)...); err != nil {
		return err
	}
	if logged := len(report.Redactions) > 0; logged != gone || logged && (!report.Redactions[0].Done || report.Redactions[0].By == 0) {
		return fmt.Errorf("the value is gone: %t, the log says %+v", gone, report.Redactions)
	}
	with, err := filesWith(left, storeDir, []byte(s.secret[:40]))
	if err != nil || gone != (len(with) == 0) {
		return fmt.Errorf("the value is gone: %t; it is in %q, %w", gone, with, err)
	}
	names, err := left.List(storeDir + "/wal")
	if err != nil || bytes.Contains([]byte(strings.Join(names, " ")), []byte("redact-")) {
		return fmt.Errorf("the log has %q, %w", names, err)
	}
	return nil
}

// Each call fails once while a value is redacted that lies in two files (one in faultEvery; short: fewer). If Redact says that it is done, it is, also
// after power loss; else the next owner has all of it done, or nothing. Who goes on with the store after the error reads the value or
// that it is redacted, may make a snapshot, and redacts again.
func TestRedactIsWholeAfterAnError(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
		for k := int64(1); ; k++ {
			if !taken(k, seed+uint64(kind), 32) {
				continue
			}
			reopen := (k+int64(kind))%2 == 0
			fired, err := redactGoesOn(vfs.Plan{Kind: kind, K: k}, reopen)
			if err != nil {
				t.Fatalf("kind %d, call %d, opened again %t: %v", kind, k, reopen, err)
			}
			if !fired {
				break
			}
		}
	}
}

// redactGoesOn goes on with the open store, or opens it again first.
func redactGoesOn(plan vfs.Plan, reopen bool) (fired bool, err error) {
	s, err := newTwoFiles()
	if err != nil {
		return false, err
	}
	defer func() { s.db.Close() }()
	s.fault.Inject(plan)
	_, err = s.redact()
	s.fault.Heal()
	fired = s.fault.Fired() > 0
	if !fired || err == nil {
		return fired, errors.Join(err, s.isGone())
	}
	told := err
	fail := func(format string, args ...any) (bool, error) {
		return true, fmt.Errorf("%w, after Redact said: %w\n%s", fmt.Errorf(format, args...), told, s.fault.Trace())
	}
	for i, o := range []vfs.CrashOptions{{Keep: vfs.KeepNone}, {Keep: vfs.KeepAll}, {Seed: uint64(plan.K)}} {
		if err := s.wholly(o); err != nil {
			return fail("power loss %d: %w", i, err)
		}
	}
	if _, err := s.gone(s.db); err != nil {
		return fail("in the open store: %w", err)
	}
	serr := errors.New("none was made")
	if !reopen {
		_, serr = s.db.Snapshot(context.Background(), "beside")
	}
	for reopened := false; ; {
		if reopen && !reopened {
			reopened = true
			s.db.Close() // its error may be of the log that failed
			if err := s.open(); err != nil {
				return fail("open it again: %w", err)
			}
			if _, err := s.gone(s.db); err != nil {
				return fail("opened again: %w", err)
			}
		}
		_, err := s.redact()
		failed := errors.Is(err, dyngo.ErrLogFailed) || errors.Is(err, dyngo.ErrOutcomeUnknown) || errors.Is(err, manifest.ErrFailed)
		switch {
		case err == nil:
			if err := s.isGone(); err != nil {
				return fail("Redact again: %w", err)
			}
			return true, nil
		case serr == nil && errors.Is(err, dyngo.ErrRedact) && strings.Contains(err.Error(), "drop them first"):
			if serr = s.db.DropSnapshot("beside"); serr != nil {
				return fail("drop the snapshot: %w", serr)
			}
			serr = errors.New("dropped")
		case failed && !reopened:
			reopen = true
		default:
			return fail("Redact again: %w", err)
		}
	}
}

// The log is stopped while a frame with the event is about to be written, which then is written and synced: who redacts is told that
// the outcome is unknown, and the next Open carries it out.
func TestRedactWhoseEventIsWrittenAfterItFailed(t *testing.T) {
	s, err := newTwoFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.db.Close() }()
	ds, err := s.db.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	put, told := make(chan error, 1), make(chan struct{})
	var state, writes atomic.Int32
	s.fault.OnCall(func(c vfs.Call) error {
		switch {
		case state.Load() == 0 && c.Op == vfs.OpSyncDir && vfs.Match("wal", c.Name): // the new files are there, the event comes next
			if names, err := s.crash.List(storeDir + "/wal"); err != nil || !strings.Contains(strings.Join(names, " "), "redact-") {
				break
			}
			state.Store(1)
			go func() {
				_, err := ds.Put([]byte("other"), []byte("value"))
				put <- err
			}()
			for writes.Load() == 0 {
				runtime.Gosched() // until the put is being written, so that the event waits for another group
			}
		case state.Load() == 1 && c.Op == vfs.OpWrite && c.Len < 4096 && vfs.Match("wal/*", c.Name): // a file is called as when it was made
			if writes.Add(1) == 1 {
				for s.db.LSN() < s.db.DurableLSN()+2 {
					runtime.Gosched()
				}
				break
			}
			state.Store(2)
			s.db.StopLog(errors.New("for the test"))
			<-told // Redact returns before the frame is written
		}
		return nil
	})
	go func() {
		_, err = s.redact()
		close(told)
	}()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	select {
	case <-told:
	case <-timeout.C:
		t.Fatal("Redact does not return")
	}
	if err := <-put; err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, dyngo.ErrOutcomeUnknown) {
		t.Errorf("Redact says %v", err)
	}
	s.db.Close() // its error is of the log that failed
	s.fault.OnCall(nil)
	if state.Load() != 2 {
		t.Fatalf("the hook came to %d", state.Load())
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	if err := s.isGone(); err != nil {
		t.Error(err)
	}
	if err := s.wholly(vfs.CrashOptions{Keep: vfs.KeepNone}); err != nil {
		t.Error(err)
	}
}

// While a redaction that was logged can't be carried out, retention keeps the log files that have the value; who makes a snapshot carries
// it out first, or is told that it can't be.
func TestRedactThatIsNotYetCarriedOut(t *testing.T) {
	s, err := newTwoFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.db.Close() }()
	held := func() bool {
		return slices.ContainsFunc(s.db.Holds(), func(h dyngo.Hold) bool { return h.Name == "redaction" && h.LogFile == 1 })
	}
	s.fault.Inject(vfs.Plan{Ops: vfs.OpRename, Name: "redact-*", Count: -1})
	if _, err := s.redact(); err == nil || !strings.Contains(err.Error(), "was logged as LSN") {
		t.Fatalf("Redact says %v", err)
	}
	if _, err := s.db.Snapshot(t.Context(), "beside"); err == nil || !strings.Contains(err.Error(), "first a redaction") {
		t.Errorf("Snapshot says %v", err)
	}
	if !held() {
		t.Errorf("the log files are not held: %+v", s.db.Holds())
	}
	s.fault.Heal()
	if _, err := s.db.Snapshot(t.Context(), "beside"); err != nil {
		t.Fatal(err)
	}
	if held() {
		t.Errorf("the log files are still held: %+v", s.db.Holds())
	}
	if err := s.isGone(); err != nil {
		t.Error(err)
	}
	if r, err := s.redact(); err != nil || !r.Already {
		t.Errorf("Redact again: %+v, %v", r, err)
	}
}

// A segment that had the value does not come back with a power loss.
func TestRedactOfWhatASegmentHas(t *testing.T) {
	crash := vfs.NewCrash(1)
	db := mustOpen(t, storeDir, redactOptions(crash, nil))
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Compression: dyngo.NoCompression})
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("what nobody may read again")
	lsn, err := ds.Put([]byte("k"), secret)
	if err == nil {
		err = db.Flush(t.Context())
	}
	if err == nil {
		_, err = ds.Delete([]byte("k"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if with, err := filesWith(crash, storeDir+"/segments", secret); err != nil || len(with) != 1 {
		t.Fatalf("the value is in %q, %v", with, err)
	}
	if _, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{}); err != nil {
		t.Fatal(err)
	}
	if with, err := filesWith(crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), storeDir, secret); err != nil || len(with) > 0 {
		t.Errorf("the value is in %q, %v", with, err)
	}
}

// A rename that fails may have taken effect: who reads goes to the file that has the name now.
func TestRedactAfterARenameThatHasHappened(t *testing.T) {
	crash := vfs.NewCrash(1)
	fault := vfs.NewFault(crash)
	db := mustOpen(t, storeDir, redactOptions(fault, nil))
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("k"), []byte("what nobody may read again"))
	if err == nil {
		_, err = ds.Delete([]byte("k"))
	}
	if err != nil {
		t.Fatal(err)
	}
	mustSnapshot(t, db, "seals")
	if err := db.DropSnapshot("seals"); err != nil {
		t.Fatal(err)
	}
	for has := false; !has; runtime.Gosched() { // until histories read the event from the log by its place
		if has, err = vfs.Exists(crash, storeDir+"/side/0000000001.side"); err != nil {
			t.Fatal(err)
		}
	}
	redacted := func() bool {
		for v, err := range ds.History(t.Context(), []byte("k")) {
			if err != nil {
				t.Fatal(err)
			}
			if v.LSN == lsn {
				return v.Redacted
			}
		}
		t.Fatal("history has no such version")
		return false
	}
	if redacted() {
		t.Fatal("it is redacted")
	}
	fault.Inject(vfs.Plan{Kind: vfs.FailAfter, Ops: vfs.OpRename, Name: "redact-*"})
	if _, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{}); err == nil {
		t.Fatal("Redact says nothing of the error")
	}
	r, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{})
	if err != nil || !r.Already || !redacted() {
		t.Errorf("Redact again: %+v, %v; redacted: %t", r, err, redacted())
	}
}
