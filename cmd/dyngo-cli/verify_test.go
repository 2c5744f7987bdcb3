package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// mustRun runs a command line in this process and returns its stdout.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := cli.Run(context.Background(), newRootCommand(), args, strings.NewReader(""), &out, &errs); code != cli.ExitOK {
		t.Fatalf("dyngo-cli %v: exit code %d, %s", args, code, errs.String())
	}
	return out.String()
}

// TestVerifyFindsEveryFlippedByte closes a store and then flips a bit in each byte of each file of
// its log, its manifest and its segments in turn (of the zeros in a log file's header: of every
// 61st; with -short: of every 31st byte): verify must fail with 6 and name
// file and offset.
func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, "-d", dir, "datasets", "create", "scores", "--large-value", "1024")
	mustRun(t, "-d", dir, "put", "scores", "alice", "42", "--reason", "first")
	mustRun(t, "-d", dir, "put", "scores", "bob", strings.Repeat("large value ", 90))
	mustRun(t, "-d", dir, "put", "scores", "carol", "7", "--ttl", "1h")
	mustFlush(t, dir)
	mustRun(t, "-d", dir, "del", "scores", "alice")
	mustRun(t, "-d", dir, "del", "scores", "--prefix", "car", "--yes")
	mustFlush(t, dir)
	mustRun(t, "-d", dir, "verify")
	files := 0
	for _, folder := range []string{"wal", "manifest", "segments"} {
		names, err := filepath.Glob(filepath.Join(dir, folder, "*"))
		if err != nil || len(names) == 0 {
			t.Fatalf("files in %s: %v, %v", folder, names, err)
		}
		files += len(names)
		for _, name := range names {
			sound, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			step := 1
			if testing.Short() {
				step = 31
			}
			for at := 0; at < len(sound); at += step {
				if folder == "wal" && at > 256 && at < 4096-61 {
					at += 60
				}
				damaged := bytes.Clone(sound)
				damaged[at] ^= 1 << (at % 8)
				if err := os.WriteFile(name, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := wantDefect(dir, folder+"/"); err != nil {
					t.Errorf("bit %d of byte %d of %s/%s flipped: %v", at%8, at, folder, filepath.Base(name), err)
				}
			}
			if err := os.WriteFile(name, sound, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if files != 5 {
		t.Errorf("%d files, want a log file, CLEAN, a manifest and two segments", files)
	}
	mustRun(t, "-d", dir, "verify")
}

// mustFlush writes what is only in the log as a segment.
func mustFlush(t *testing.T, dir string) {
	t.Helper()
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantDefect runs verify, which must find damage in a folder first.
func wantDefect(dir, folder string) error {
	var out, errs bytes.Buffer
	if code := cli.Run(context.Background(), newRootCommand(), []string{"-d", dir, "verify"}, nil, &out, &errs); code != cli.ExitCorrupt {
		return fmt.Errorf("exit code %d, want %d; %s%s", code, cli.ExitCorrupt, out.String(), errs.String())
	}
	first, _, _ := strings.Cut(out.String(), "\n")
	var defect struct {
		File   string
		Offset *int64
		What   string
	}
	if err := json.Unmarshal([]byte(first), &defect); err != nil {
		return err
	}
	if !strings.HasPrefix(defect.File, folder) || defect.Offset == nil || defect.What == "" {
		return fmt.Errorf("the report names no place: %s", first)
	}
	return nil
}

// What verify says of a side file is so whether its log file is followed by another one, by none that is there, or is damaged.
func TestVerifyOfSideFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := roll(dir); err != nil {
		t.Fatal(err)
	}
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.BuildSideFiles(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "wal", "*.log"))
	if err != nil || len(logs) < 4 {
		t.Fatalf("%v, %v", logs, err)
	}
	damage := func(name string) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const sound, unsound = ": it will be built anew from the log\n", ": it will be built anew from the log, once that is sound\n"
	for i, c := range []struct {
		change func()
		code   int
		says   string
	}{
		{func() { damage(filepath.Join(dir, "side", "0000000001.side")) }, cli.ExitOK, sound},
		{func() { damage(logs[1]) }, cli.ExitCorrupt, unsound},
		{func() { err = os.Remove(logs[1]) }, cli.ExitCorrupt, unsound},
	} {
		if c.change(); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := runLine(t, "verify", "-d", dir)
		if code != c.code || strings.Count(stderr, ".side") != 1 || !strings.Contains(stderr, c.says) {
			t.Errorf("%d: exit code %d, %s", i, code, stderr)
		}
	}
}
