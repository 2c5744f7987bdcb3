package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dyngodb/dyngo"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dyngo-cli": main,
		"owner":     owner,
		"segments":  segments,
		"rolled":    rolled,
	})
}

// owner is a process that has the store open for writing and serves live.sock:
//
//	owner DIR READY [silent]
//
// It puts a key, creates the file READY, and closes the store when it is interrupted, or when the
// file READY is gone. A silent one serves nothing.
func owner() {
	if err := own(os.Args[1], os.Args[2], len(os.Args) < 4); err != nil {
		fmt.Fprintln(os.Stderr, "owner:", err)
		os.Exit(1)
	}
}

func own(dir, ready string, live bool) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Live: live, Session: dyngo.Session{Actor: "owner"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("owned", nil)
	if err != nil {
		return err
	}
	if _, err := ds.Put([]byte("here"), []byte("yes")); err != nil {
		return err
	}
	if err := os.WriteFile(ready, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		<-tick.C
		if _, err := os.Stat(ready); errors.Is(err, os.ErrNotExist) {
			return db.Close()
		}
		if _, err := ds.Put([]byte("tick"), []byte(strconv.Itoa(n))); err != nil {
			return err
		}
	}
}

// segments makes a store whose keys are in segments:
//
//	segments DIR RUNS
//
// The oldest run holds the keys k000 to k999, each of the others 300 of them and a delete. With few
// runs nothing is merged in the background.
func segments() {
	if err := flushRuns(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "segments:", err)
		os.Exit(1)
	}
}

func flushRuns(dir, count string) error {
	runs, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("sorted", nil)
	if err != nil {
		return err
	}
	for run := range runs {
		from, to := 0, 1000
		if run > 0 {
			from, to = run*200%700, run*200%700+300
		}
		b := db.NewBatch()
		for k := from; k < to; k++ {
			b.Put(ds, fmt.Appendf(nil, "k%03d", k), fmt.Appendf(nil, "value %d of run %d", k, run))
		}
		if run > 0 {
			b.Delete(ds, fmt.Appendf(nil, "k%03d", from))
		}
		if _, err := b.Commit(); err != nil {
			return err
		}
		if err := db.Flush(context.Background()); err != nil {
			return err
		}
	}
	return db.Close()
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DYNGO_DIR", "")
			env.Setenv("NO_COLOR", "")
			env.Setenv("USER", "tester")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitCode,
			"waitfile": waitFile,
			"waitgrep": waitGrep,
			"flip":     flipByte,
			"cut":      cutFile,
			"bytes":    writeBytes,
		},
	})
}

// exitCode runs a program and wants this exit code: exitcode N PROGRAM [ARGS…]. Its output is for
// stdout and stderr as with exec.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N PROGRAM [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit interface{ ExitCode() int }
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// patience bounds every wait for a condition.
const patience = 20 * time.Second

// waitUntil polls for a condition.
func waitUntil(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			ts.Fatalf("after %v: %s", patience, what)
		}
	}
}

// waitFile waits until a file exists and is not empty.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	waitUntil(ts, "no file "+args[0], func() bool {
		info, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil && info.Size() > 0
	})
}

// waitGrep waits until a file holds a match: waitgrep PATTERN FILE.
func waitGrep(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	waitUntil(ts, "no "+args[0]+" in "+args[1], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[1]))
		return err == nil && re.Match(b)
	})
}

// flipByte inverts the byte at an offset of the only file that a pattern matches: flip OFFSET
// PATTERN. A negative offset counts from the end. FILE and OFFSET are set for the script.
func flipByte(ts *testscript.TestScript, neg bool, args []string) {
	name := onlyFile(ts, args[1])
	offset, err := strconv.ParseInt(args[0], 0, 64)
	ts.Check(err)
	b, err := os.ReadFile(name)
	ts.Check(err)
	if offset < 0 {
		offset += int64(len(b))
	}
	b[offset] ^= 0xff
	ts.Check(os.WriteFile(name, b, 0o600))
	ts.Setenv("FILE", filepath.Base(name))
	ts.Setenv("OFFSET", strconv.FormatInt(offset, 10))
}

// cutFile shortens a file by some bytes: cut BYTES PATTERN.
func cutFile(ts *testscript.TestScript, neg bool, args []string) {
	name := onlyFile(ts, args[1])
	n, err := strconv.ParseInt(args[0], 0, 64)
	ts.Check(err)
	info, err := os.Stat(name)
	ts.Check(err)
	ts.Check(os.Truncate(name, info.Size()-n))
}

// writeBytes writes a file of bytes that a script can't hold: bytes FILE GO-STRING [COUNT].
func writeBytes(ts *testscript.TestScript, neg bool, args []string) {
	s, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	count := 1
	if len(args) > 2 {
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat(s, count)), 0o600))
}

func onlyFile(ts *testscript.TestScript, pattern string) string {
	names, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	if len(names) != 1 {
		ts.Fatalf("%d files match %s", len(names), pattern)
	}
	return names[0]
}
