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
// never has it in plain text.
func TestUndoWithAKeyThatCantBeReadOnce(t *testing.T) {
	const secret = "what only anna's key may show"
	for k := int64(1); ; k++ {
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
		wrong, perr := ds.PutWith([]byte("k"), []byte("wrong"), dyngo.WriteOptions{Subject: "anna"})
		if err := errors.Join(err, perr, db.Close()); err != nil {
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
		u := undo{cmd: cmd, first: wrong, through: wrong, apply: true, why: dyngo.WriteOptions{Reason: "wrong"}, db: db}
		fault.Inject(vfs.Plan{K: k, Ops: vfs.OpReadFile, Name: "/keys/*.key", Err: syscall.EMFILE})
		err = u.takeBack()
		fired := fault.Fired() > 0
		if err != nil && !errors.Is(err, syscall.EMFILE) {
			t.Errorf("reading %d fails: %v", k, err)
		}
		if err == nil {
			ds, err := db.Dataset("d")
			if err != nil {
				t.Fatal(err)
			}
			if kv, err := ds.Lookup([]byte("k")); string(kv.Value) != secret || kv.Subject != "anna" || err != nil {
				t.Errorf("reading %d fails: %q of %q, %v", k, kv.Value, kv.Subject, err)
			}
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
		if !fired {
			if k == 1 {
				t.Error("undo reads no key")
			}
			return
		}
	}
}
