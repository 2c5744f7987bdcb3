package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
)

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		err  error
		code int
		what string // beginning
		try  string // part
	}{
		{"usage", Usage("do this", "bad flag"), ExitUsage, "bad flag", "do this"},
		{"interrupted", fmt.Errorf("scan: %w", context.Canceled), ExitInterrupted, "interrupted", ""},
		{"locked", &dyngo.LockedError{Dir: "x", PID: 42}, ExitUnavailable, "x is open for writing in process 42", "stop process 42"},
		{"locked by somebody", &dyngo.LockedError{Dir: "x"}, ExitUnavailable, "x is open", "stop the other process"},
		{"damage", fmt.Errorf("get: %w", &dyngo.CorruptionError{File: "wal/1.log", Offset: 7, What: "crc"}),
			ExitCorrupt, "get: wal/1.log at 7: ", "dyngo-cli verify -d 'my store'"},
		{"newer", fmt.Errorf("x: %w", dyngo.ErrUnsupported), ExitFailure, "x: ", "newer"},
		{"no store", dyngo.ErrNoStore, ExitNotFound, "no store", "--dir"},
		{"no dataset", fmt.Errorf("%w: %q", dyngo.ErrNoDataset, "d"), ExitNotFound, "no such dataset", "datasets"},
		{"no key", dyngo.ErrNotFound, ExitNotFound, "key not found", ""},
		{"conflict", &dyngo.ConflictError{Want: 1, Have: 2}, ExitConflict, "the key is at LSN 2", "again"},
		{"limit", dyngo.ErrLimit, ExitUsage, "limit exceeded", ""},
		{"log failed", dyngo.ErrLogFailed, ExitUnavailable, "", "device"},
		{"outcome unknown", dyngo.ErrOutcomeUnknown, ExitUnavailable, "", "get"},
		{"denied", &fs.PathError{Op: "open", Path: dir + "/none/p", Err: fs.ErrPermission}, ExitDenied, "open ", "ls -ld " + dir + ","},
		{"denied somewhere", fs.ErrPermission, ExitDenied, "permission", "'my store'"},
		{"damage elsewhere", In("src", &dyngo.CorruptionError{File: "f"}), ExitCorrupt, "f at 0: ", "dyngo-cli verify -d src "},
		{"anything else", errors.New("boom"), ExitFailure, "boom", ""},
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
	if code := report(&out, "dyngo-cli", Fail(ExitFailure, "again", "it broke"), "d"); code != ExitFailure ||
		out.String() != "dyngo-cli: it broke\nTry: again\n" {
		t.Errorf("%d, %q", code, out.String())
	}
	out.Reset()
	if code := report(&out, "dyngo-cli", errSilent(ExitCorrupt), "d"); code != ExitCorrupt || out.Len() > 0 {
		t.Errorf("%d, %q", code, out.String())
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
		r := KeyRange([]byte(c.prefix), []byte(c.from), []byte(c.to))
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

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"./dyngo-data": "./dyngo-data", "my store": "'my store'", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'",
	} {
		if got := ShellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s", in, got)
		}
	}
}
