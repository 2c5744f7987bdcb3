// Package clitest is what the tests of DynGO's programs have in common: the rules that every command keeps, and the commands
// of test scripts.
package clitest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// Tree holds every command to the conventions: a short text, examples, no page wider than a
// terminal.
func Tree(t *testing.T, cmd *cobra.Command) {
	t.Helper()
	if cmd.Name() == "completion" || cmd.Name() == "help" {
		return // cobra's
	}
	if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
		t.Errorf("%s: short text %q", cmd.CommandPath(), cmd.Short)
	}
	if cmd.Example == "" && !cmd.Hidden {
		t.Errorf("%s: no examples", cmd.CommandPath())
	}
	if cmd.Args == nil || cmd.RunE == nil {
		t.Errorf("%s: takes any argument, or does nothing", cmd.CommandPath())
	}
	var page bytes.Buffer
	cmd.SetOut(&page)
	if err := cmd.Help(); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(page.String()) {
		if w := cli.TextWidth(strings.TrimSuffix(line, "\n")); w > 80 {
			t.Errorf("%s: help has a line of %d columns: %s", cmd.CommandPath(), w, line)
		}
	}
	for _, child := range cmd.Commands() {
		Tree(t, child)
	}
}

// Setup gives scripts an environment in which what they print does not depend on who runs them.
func Setup(env *testscript.Env) error {
	env.Setenv("DYNGO_DIR", "")
	env.Setenv("DYNGO_KEYS", "")
	env.Setenv("NO_COLOR", "")
	env.Setenv("USER", "tester")
	return nil
}

// Commands are the commands of scripts beside testscript's own.
func Commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exitcode": exitCode,
		"waitfile": waitFile,
		"waitgrep": waitGrep,
		"flip":     flipByte,
		"cut":      cutFile,
		"bytes":    writeBytes,
	}
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

// Patience bounds every wait for a condition.
const Patience = 20 * time.Second

// waitUntil polls for a condition.
func waitUntil(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			ts.Fatalf("after %v: %s", Patience, what)
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
