package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// A part of a store is not restored without the values of subjects if another process has the folder of keys locked: it fails.
func TestRestoreOfPartWhileTheKeysAreLocked(t *testing.T) {
	dir, keys, to := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "part")
	open := func(dir string) *dyngo.DB {
		t.Helper()
		db, err := dyngo.Open(dir, &dyngo.Options{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	put := func(db *dyngo.DB) {
		t.Helper()
		ds, err := db.CreateDataset("d", nil)
		if err == nil {
			_, err = ds.PutWith([]byte("k"), []byte("secret"), dyngo.WriteOptions{Subject: "anna"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db := open(dir)
	put(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	other := open(filepath.Join(t.TempDir(), "other"))
	put(other)
	args := []string{"restore", dir, to, "--datasets", "d", "--keys", keys}
	if code, _, stderr := runLine(t, args...); code != cli.ExitUnavailable || !strings.Contains(stderr, keys) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runLine(t, args...); code != cli.ExitOK {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	part := open(to)
	ds, err := part.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	if kv, err := ds.Lookup([]byte("k")); string(kv.Value) != "secret" || kv.Subject != "anna" || err != nil {
		t.Errorf("%q of %q, %v", kv.Value, kv.Subject, err)
	}
}
