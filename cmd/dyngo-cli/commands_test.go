package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
)

// TestTree holds every command to the conventions: a short text, examples, no page wider than a
// terminal.
func TestTree(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
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
			if w := textWidth(strings.TrimSuffix(line, "\n")); w > 80 {
				t.Errorf("%s: help has a line of %d columns: %s", cmd.CommandPath(), w, line)
			}
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRootCommand())
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
		what string // beginning
		try  string // part
	}{
		{"usage", usage("do this", "bad flag"), exitUsage, "bad flag", "do this"},
		{"interrupted", fmt.Errorf("scan: %w", context.Canceled), exitInterrupted, "interrupted", ""},
		{"locked", &dyngo.LockedError{Dir: "x", PID: 42}, exitUnavailable, "x is open for writing in process 42", "stop process 42"},
		{"locked by somebody", &dyngo.LockedError{Dir: "x"}, exitUnavailable, "x is open", "stop the other process"},
		{"damage", fmt.Errorf("get: %w", &dyngo.CorruptionError{File: "wal/1.log", Offset: 7, What: "crc"}),
			exitCorrupt, "get: wal/1.log at 7: ", "dyngo-cli verify -d 'my store'"},
		{"newer", fmt.Errorf("x: %w", dyngo.ErrUnsupported), exitFailure, "x: ", "newer"},
		{"no store", dyngo.ErrNoStore, exitNotFound, "no store", "--dir"},
		{"no dataset", fmt.Errorf("%w: %q", dyngo.ErrNoDataset, "d"), exitNotFound, "no such dataset", "datasets"},
		{"no key", dyngo.ErrNotFound, exitNotFound, "key not found", ""},
		{"conflict", &dyngo.ConflictError{Want: 1, Have: 2}, exitConflict, "the key is at LSN 2", "again"},
		{"limit", dyngo.ErrLimit, exitUsage, "limit exceeded", ""},
		{"log failed", dyngo.ErrLogFailed, exitUnavailable, "", "device"},
		{"outcome unknown", dyngo.ErrOutcomeUnknown, exitUnavailable, "", "get"},
		{"denied", &fs.PathError{Op: "open", Path: "p", Err: fs.ErrPermission}, exitDenied, "open p", "'my store'"},
		{"anything else", errors.New("boom"), exitFailure, "boom", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, what, try := explain(c.err, "my store")
			if code != c.code || !strings.HasPrefix(what, c.what) || !strings.Contains(try, c.try) {
				t.Errorf("got %d, %q, try %q", code, what, try)
			}
		})
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	if code := report(&out, fail(exitFailure, "again", "it broke"), "d"); code != exitFailure ||
		out.String() != "dyngo-cli: it broke\nTry: again\n" {
		t.Errorf("%d, %q", code, out.String())
	}
	out.Reset()
	if code := report(&out, errSilent(exitCorrupt), "d"); code != exitCorrupt || out.Len() > 0 {
		t.Errorf("%d, %q", code, out.String())
	}
}

func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"-d", dir, "put", "d", "k", "v"}, nil, &out, &errs); code != exitOK {
		t.Fatalf("put: %d, %s", code, errs.String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range [][]string{
		{"verify"}, {"log", "tail", "--follow"}, {"datasets"}, {"datasets", "drop", "d", "--yes"},
		{"del", "d", "--prefix", "", "--yes"}, {"del", "d", "--prefix", "", "--dry-run"}, {"bench", "--keys", "1000", "--time", "1h"},
	} {
		out.Reset()
		errs.Reset()
		if code := run(ctx, append(args, "-d", dir), nil, &out, &errs); code != exitInterrupted ||
			!strings.HasSuffix(errs.String(), "dyngo-cli: interrupted\n") {
			t.Errorf("%v: exit code %d, stderr %q", args, code, errs.String())
		}
	}
	if names, err := filepath.Glob(filepath.Join(dir, "dyngo-bench-*")); err != nil || len(names) > 0 {
		t.Errorf("an interrupted bench leaves %v, %v", names, err)
	}
}

func TestKeyRange(t *testing.T) {
	for _, c := range []struct{ prefix, from, to, want string }{
		{"", "", "", "[- -)"},
		{"a", "", "", "[a b)"},
		{"a\xff", "", "", "[a\xff b)"},
		{"\xff", "", "", "[\xff -)"},
		{"", "b", "", "[b -)"},
		{"", "", "c", "[- c)"},
		{"b", "a", "z", "[b c)"},
		{"b", "ba", "bz", "[ba bz)"},
		{"b", "c", "", "[c c)"},
	} {
		r := keyRange([]byte(c.prefix), []byte(c.from), []byte(c.to))
		bound := func(b []byte) string {
			if b == nil {
				return "-"
			}
			return string(b)
		}
		from := bound(r.From)
		if from == "" {
			from = "-"
		}
		if got := fmt.Sprintf("[%s %s)", from, bound(r.To)); got != c.want {
			t.Errorf("prefix %q, from %q, to %q: got %q, want %q", c.prefix, c.from, c.to, got, c.want)
		}
	}
}

func TestSnakeCase(t *testing.T) {
	for in, want := range map[string]string{
		"DurableLSN": "durable_lsn", "LSN": "lsn", "TTLPending": "ttl_pending", "OpenViews": "open_views",
		"already_snake": "already_snake", "P99": "p99", "IOWaitNs": "io_wait_ns", "": "",
	} {
		if got := snakeCase(in); got != want {
			t.Errorf("snakeCase(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestLatencies(t *testing.T) {
	var all, half latencies
	for i := 1; i <= 1000; i++ {
		l := &all
		if i%2 == 0 {
			l = &half
		}
		l.add(time.Duration(i) * time.Microsecond)
	}
	all.merge(&half)
	for q, want := range map[float64]time.Duration{
		0: time.Microsecond, 0.5: 501 * time.Microsecond, 0.99: 991 * time.Microsecond, 1: time.Millisecond,
	} {
		if got := all.quantile(q); got < want*96/100 || got > want*104/100 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	var one latencies
	for _, d := range []time.Duration{-1, 0, 1, 63, 64, 127, 1 << 40, 1<<63 - 1} {
		one.add(d) // must not leave the array
		if got := bucketValue(latencyBucket(d)); d > 0 && (got < d-d/31-1 || got-d > d/31+1) {
			t.Errorf("%d is counted as %d", d, got)
		}
	}
	if (&latencies{}).quantile(0.5) != 0 {
		t.Error("quantile of nothing")
	}
}

func TestBenchKey(t *testing.T) {
	for n, want := range map[int]string{0: "key-000000000000", 7: "key-000000000007", 99_999_999: "key-000099999999"} {
		if got := string(appendBenchKey(nil, n)); got != want {
			t.Errorf("key %d is %s", n, got)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"./dyngo-data": "./dyngo-data", "my store": "'my store'", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s", in, got)
		}
	}
}
