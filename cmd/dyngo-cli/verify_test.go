package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mustRun runs a command line in this process and returns its stdout.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("dyngo-cli %v: exit code %d, %s", args, code, errs.String())
	}
	return out.String()
}

// TestVerifyFindsEveryFlippedByte closes a store and then flips a bit in each byte of each file of
// its log in turn (of the zeros in a file header: of every 61st): verify must fail with 6 and name
// file and offset.
func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, "-d", dir, "datasets", "create", "scores", "--large-value", "1024")
	mustRun(t, "-d", dir, "put", "scores", "alice", "42", "--reason", "first")
	mustRun(t, "-d", dir, "put", "scores", "bob", strings.Repeat("large value ", 90))
	mustRun(t, "-d", dir, "del", "scores", "alice")
	mustRun(t, "-d", dir, "verify")
	names, err := filepath.Glob(filepath.Join(dir, "wal", "*"))
	if err != nil || len(names) < 2 {
		t.Fatalf("files of the log: %v, %v", names, err)
	}
	for _, name := range names {
		sound, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(sound); at++ {
			if at > 256 && at < 4096-61 {
				at += 60
			}
			damaged := bytes.Clone(sound)
			damaged[at] ^= 1 << (at % 8)
			if err := os.WriteFile(name, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := wantDefect(dir); err != nil {
				t.Errorf("bit %d of byte %d of %s flipped: %v", at%8, at, filepath.Base(name), err)
			}
		}
		if err := os.WriteFile(name, sound, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "-d", dir, "verify")
}

// wantDefect runs verify, which must find damage.
func wantDefect(dir string) error {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"-d", dir, "verify"}, nil, &out, &errs); code != exitCorrupt {
		return fmt.Errorf("exit code %d, want %d; %s%s", code, exitCorrupt, out.String(), errs.String())
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
	if !strings.HasPrefix(defect.File, "wal/") || defect.Offset == nil || defect.What == "" {
		return fmt.Errorf("the report names no place: %s", first)
	}
	return nil
}
