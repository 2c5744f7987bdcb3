package dyngo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// stopAfter gives bytes, and calls something before the last of them.
type stopAfter struct {
	r    io.Reader
	left int
	call func()
}

func (s *stopAfter) Read(b []byte) (int, error) {
	if s.left <= 1 && s.call != nil {
		s.call()
		s.call = nil
	}
	n, err := s.r.Read(b[:min(len(b), max(s.left-1, 1))])
	s.left -= n
	return n, err
}

// A snapshot that was made while a large value was being written has the pieces that were there, though not the event. It is in the way
// like one that has the event; one that was made before is not.
func TestRedactOfWhatASnapshotHasInPart(t *testing.T) {
	s := &redactable{t: t, fs: vfs.NewMem(), clock: manualClock()}
	s.open(nil)
	ds, err := s.db.CreateDataset("d", &dyngo.DatasetOptions{Compression: dyngo.NoCompression})
	if err != nil {
		t.Fatal(err)
	}
	mustSnapshot(t, s.db, "before")
	secret := "what nobody may read again " + big(600<<10, 3)
	lsn, err := ds.PutReader([]byte("k"), int64(len(secret)), &stopAfter{r: strings.NewReader(secret), left: len(secret), call: func() {
		mustSnapshot(t, s.db, "between")
	}})
	if err == nil {
		_, err = ds.Delete([]byte("k"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if _, err := s.db.Redact(t.Context(), lsn, dyngo.RedactOptions{DryRun: dry}); !errors.Is(err, dyngo.ErrRedact) || !strings.Contains(err.Error(), `drop them first: ["between"]`) {
			t.Errorf("dry run %t: %v", dry, err)
		}
	}
	if err := s.db.DropSnapshot("between"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Redact(t.Context(), lsn, dyngo.RedactOptions{}); err != nil {
		t.Fatal(err)
	}
	if with, err := filesWith(s.fs, storeDir, []byte(secret[:40])); err != nil || len(with) > 0 {
		t.Errorf("the value is in %q, %v", with, err)
	}
}

// A batch that was committed twice has two events that refer to the same bytes. Who redacts one of them is told of the other, and both
// values stay.
func TestRedactOfABatchThatWasCommittedTwice(t *testing.T) {
	for what, n := range map[string]int{"a large value": 1, "a batch that spills": 40} {
		t.Run(what, func(t *testing.T) {
			s := &redactable{t: t, fs: vfs.NewMem(), clock: manualClock()}
			s.open(nil)
			ds, err := s.db.CreateDataset("d", &dyngo.DatasetOptions{Compression: dyngo.NoCompression})
			if err != nil {
				t.Fatal(err)
			}
			b := s.db.NewBatch()
			value := []byte("the value " + big(map[bool]int{true: 20 << 10, false: 300}[n == 1], 3))
			for i := range n {
				b.Put(ds, []byte{'k', byte(i)}, value)
			}
			first, err := b.Commit()
			second, err2 := b.Commit()
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			key := []byte{'k', byte(n - 1)}
			look := func() {
				t.Helper()
				if got, err := ds.Get(key); err != nil || !bytes.Equal(got, value) {
					t.Errorf("the key has %.20q, %v", got, err)
				}
			}
			look()
			if _, err := s.db.Redact(t.Context(), first, dyngo.RedactOptions{}); !errors.Is(err, dyngo.ErrUnredactable) || !strings.Contains(err.Error(), "same bytes") {
				t.Errorf("the first: %v", err)
			}
			look()
			if _, err := ds.Put(key, []byte("new")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.db.Redact(t.Context(), second, dyngo.RedactOptions{}); !errors.Is(err, dyngo.ErrUnredactable) || !strings.Contains(err.Error(), "same bytes") {
				t.Errorf("the second: %v", err)
			}
			for v, err := range ds.History(t.Context(), key) {
				if err != nil || (v.LSN == first || v.LSN == second) && !bytes.Equal(v.Value, value) {
					t.Errorf("LSN %d has %.20q, redacted %t, %v", v.LSN, v.Value, v.Redacted, err)
				}
			}
			s.db.Close()
			report, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: s.fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
			if err := errors.Join(append(report.All(), err)...); err != nil {
				t.Error(err)
			}
		})
	}
}

// Two log files have the value, and are renamed one after the other. Who reads in between gets ErrRedacted, never zeros, and the tree
// gets the hash that the redaction has logged; so does who reads beside, or what a crash leaves there.
func TestRedactOfAValueInTwoFiles(t *testing.T) {
	for _, c := range []dyngo.Compression{dyngo.NoCompression, dyngo.S2} {
		for _, wo := range []dyngo.WriteOptions{{}, ofAlice} {
			t.Run(fmt.Sprint(c, wo.Subject), func(t *testing.T) { redactValueInTwoFiles(t, c, wo) })
		}
	}
}

func redactValueInTwoFiles(t *testing.T, c dyngo.Compression, wo dyngo.WriteOptions) {
	crash := vfs.NewCrash(1)
	fault, now := vfs.NewFault(crash), manualClock()
	db := mustOpen(t, storeDir, redactOptions(fault, now))
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Compression: c})
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("what nobody may read again ", 30<<10)
	lsn, err := ds.PutReaderWith([]byte("k"), int64(len(secret)), &stopAfter{r: strings.NewReader(secret), left: len(secret), call: func() {
		mustSnapshot(t, db, "between")
	}}, wo)
	if err == nil {
		err = db.DropSnapshot("between")
	}
	if err == nil {
		_, err = ds.Delete([]byte("k"))
	}
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, db *dyngo.DB) {
		t.Helper()
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		past := mustViewAt(t, db, dyngo.AtLSN(lsn))
		defer past.Close()
		if got, err := past.Get(ds, []byte("k")); !errors.Is(err, dyngo.ErrRedacted) {
			t.Errorf("%s: %.20q, %v", what, got, err)
		}
		for v, err := range ds.History(t.Context(), []byte("k")) {
			if err != nil || v.LSN == lsn && (!v.Redacted || v.Value != nil) {
				t.Errorf("%s: history of LSN %d: %.20q, redacted %t, %v", what, v.LSN, v.Value, v.Redacted, err)
			}
		}
	}
	var left *vfs.Crash
	renames := 0
	fault.OnCall(func(call vfs.Call) error {
		if call.Op != vfs.OpRename || !vfs.Match("redact-*.tmp", call.Name) {
			return nil
		}
		if renames++; renames == 2 {
			left = crash.KillProcess()
			look("between", db)
			if err := db.LogSealed(); err != nil { // the tree catches up
				t.Error(err)
			}
		}
		return nil
	})
	if _, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	fault.OnCall(nil)
	if renames != 2 {
		t.Fatalf("%d log files were written anew", renames)
	}
	look("afterwards", db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for what, fs := range map[string]vfs.FS{"afterwards": crash, "after a crash": left} {
		verify := func(when string) {
			t.Helper()
			report, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
			if err := errors.Join(append(report.All(), err)...); err != nil || report.Tree.Gone > 0 {
				t.Errorf("%s, %s: %+v, %v", what, when, report.Tree, err)
			}
		}
		verify("before it is opened")
		o := redactOptions(fs, now)
		for _, o.ReadOnly = range []bool{true, false} {
			db := mustOpen(t, storeDir, o)
			look(what, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		verify("opened")
		if with, err := filesWith(fs, storeDir, []byte(secret[:40])); err != nil || len(with) > 0 {
			t.Errorf("%s: the value is in %q, %v", what, with, err)
		}
	}
}

// What a crash has left of a snapshot that was being made or dropped, of a repair, or of a copy for the archive, has the value too. It
// goes with the value, or is in the way by name: never is the value said to be gone while it is there.
func TestRedactOfWhatACrashHasLeft(t *testing.T) {
	secret := "what nobody may read again"
	for what, name := range map[string]string{
		"a snapshot that can't be removed": storeDir + "/snapshots/.tmp-left/wal/0000000001-00000000000000000001.log",
		"a part of a snapshot":             storeDir + "/snapshots/left/wal/0000000001-00000000000000000001.log",
		"a repair":                         storeDir + "/repair.old/segments/000001.seg",
		"a copy for the archive":           "/archive/" + wal.ArchivedName(wal.FileName(1, 1)) + ".tmp",
	} {
		t.Run(what, func(t *testing.T) {
			fault := vfs.NewFault(vfs.NewMem())
			s := &redactable{t: t, fs: fault, clock: manualClock()}
			s.open(func(o *dyngo.Options) { o.Archive = "/archive" })
			ds, err := s.db.CreateDataset("d", nil)
			if err != nil {
				t.Fatal(err)
			}
			lsn, err := ds.Put([]byte("k"), []byte(secret))
			if err == nil {
				_, err = ds.Delete([]byte("k"))
			}
			if err := errors.Join(err, fault.MkdirAll(path.Dir(name)), vfs.WriteFileSync(fault, name, []byte(secret))); err != nil {
				t.Fatal(err)
			}
			fault.Inject(vfs.Plan{Ops: vfs.OpRemove, Name: name, Count: -1})
			if _, err := s.db.Redact(t.Context(), lsn, dyngo.RedactOptions{}); err == nil {
				with, err := filesWith(fault, "/", []byte(secret))
				t.Errorf("redacted, though it is in %q, %v", with, err)
			}
			fault.Heal()
			if err := fault.Remove(name); err != nil {
				t.Fatal(err)
			}
			for dir := path.Dir(name); dir != storeDir && dir != storeDir+"/snapshots" && dir != "/"; dir = path.Dir(dir) {
				if err := fault.Remove(dir); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.db.Redact(t.Context(), lsn, dyngo.RedactOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A store that was opened, and not yet written to, and one in memory redact as others do.
func TestRedactBeforeAnythingIsWritten(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		secret := []byte("what nobody may read again")
		s := &redactable{t: t, fs: vfs.NewMem(), clock: manualClock()}
		s.open(func(o *dyngo.Options) {
			if o.InMemory = inMemory; inMemory {
				*o = dyngo.Options{InMemory: true}
			}
		})
		ds, err := s.db.CreateDataset("d", nil)
		if err != nil {
			t.Fatal(err)
		}
		lsn, err := ds.Put([]byte("k"), secret)
		if err == nil {
			_, err = ds.Delete([]byte("k"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if !inMemory {
			s.reopen(nil)
			if ds, err = s.db.Dataset("d"); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.db.Redact(t.Context(), lsn, dyngo.RedactOptions{})
		if err != nil {
			t.Errorf("in memory %t: %+v, %v", inMemory, r, err)
		}
		for v, err := range ds.History(t.Context(), []byte("k")) {
			if err != nil || v.LSN == lsn && !v.Redacted {
				t.Errorf("in memory %t: %+v, %v", inMemory, v, err)
			}
		}
		if !inMemory {
			if with, err := filesWith(s.fs, storeDir, secret); err != nil || len(with) > 0 {
				t.Errorf("the value is in %q, %v", with, err)
			}
		}
	}
}
