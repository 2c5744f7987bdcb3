package main

import (
	"bytes"
	"errors"
	"io"
	"path"
	"syscall"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A key file that can't be read once, by whichever of the reads that undo makes: it fails, or the value is encrypted again. The log
// never has it in plain text, a dataset that was created for it goes again, and the next undo does what was to be done.
func TestUndoWithAKeyThatCantBeReadOnce(t *testing.T) {
	for what, wrong := range map[string]func(db *dyngo.DB, ds *dyngo.Dataset) (dyngo.LSN, error){
		"overwritten": func(_ *dyngo.DB, ds *dyngo.Dataset) (dyngo.LSN, error) {
			return ds.PutWith([]byte("k"), []byte("wrong"), dyngo.WriteOptions{Subject: "anna"})
		},
		"dropped": func(db *dyngo.DB, _ *dyngo.Dataset) (dyngo.LSN, error) { return db.DropDataset("d") },
	} {
		t.Run(what, func(t *testing.T) {
			for k := int64(1); undoWithFault(t, k, wrong) || k == 1; k++ {
				if t.Failed() {
					return
				}
			}
		})
	}
}

// undoWithFault takes back what wrong did while reading k of key files fails, and says whether that happened.
func undoWithFault(t *testing.T, k int64, wrong func(*dyngo.DB, *dyngo.Dataset) (dyngo.LSN, error)) (fired bool) {
	const secret = "what only anna's key may show"
	fault, c := vfs.NewFault(vfs.NewMem()), clock.NewManual(time.Unix(1_700_000_000, 0))
	open := func() *dyngo.DB {
		t.Helper()
		c.Advance(time.Second)
		db, err := dyngo.Open("/store", &dyngo.Options{FS: fault, Clock: c, Keys: "/keys"})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ds.PutWith([]byte("k"), []byte(secret), dyngo.WriteOptions{Subject: "anna"})
	lsn, werr := wrong(db, ds)
	if err := errors.Join(err, werr, db.Close()); err != nil {
		t.Fatal(err)
	}
	db = open()
	cmd, _, err := newRootCommand().Find([]string{"undo"})
	if err != nil {
		t.Fatal(err)
	}
	cmd.SetContext(t.Context())
	cmd.Root().SetOut(io.Discard)
	cmd.Root().SetErr(io.Discard)
	undo := func() error {
		u := undo{cmd: cmd, first: lsn, through: lsn, apply: true, why: dyngo.WriteOptions{Reason: "wrong"}, db: db}
		return u.takeBack()
	}
	before := datasetNames(db)
	fault.Inject(vfs.Plan{K: k, Ops: vfs.OpReadFile, Name: "/keys/*.key", Err: syscall.EMFILE})
	err = undo()
	fired = fault.Fired() > 0
	switch {
	case err != nil && (!fired || !errors.Is(err, syscall.EMFILE)):
		t.Errorf("reading %d fails: %v", k, err)
	case err != nil && datasetNames(db) != before:
		t.Errorf("reading %d fails: there are the datasets %s, there were %s", k, datasetNames(db), before)
	case err != nil:
		fault.Heal()
		if err := undo(); err != nil {
			t.Errorf("reading %d failed; again: %v", k, err)
		}
	case !fired && k == 1:
		t.Error("undo reads no key")
	}
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if kv, err := ds.Lookup([]byte("k")); string(kv.Value) != secret || kv.Subject != "anna" || err != nil {
		t.Errorf("reading %d fails: %q of %q, %v", k, kv.Value, kv.Subject, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fault.List("/store/wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := fault.ReadFile(path.Join("/store/wal", name), 1<<30)
		if err != nil || bytes.Contains(b, []byte(secret)) {
			t.Errorf("reading %d fails: %s has the value in plain text, %v", k, name, err)
		}
	}
	return fired
}

func datasetNames(db *dyngo.DB) (names string) {
	for _, d := range db.Datasets() {
		names += d.Name + " "
	}
	return names
}
