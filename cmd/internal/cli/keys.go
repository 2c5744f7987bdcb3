package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
)

// AddEscaped gives cmd the flag -e, by which keys are written as tables show them.
func AddEscaped(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("escaped", "e", false, `read \xNN in keys as that byte, as tables write them`)
}

// AddWhy gives cmd the flags that say why, kept in the event for audits.
func AddWhy(cmd *cobra.Command) func() dyngo.WriteOptions {
	reason := cmd.Flags().String("reason", "", "why, kept in the log for audits")
	ticket := cmd.Flags().String("ticket", "", "ticket number or link, kept in the log for audits")
	correlation := cmd.Flags().String("correlation", "", "what it belongs to, as a request id, kept in the log")
	return func() dyngo.WriteOptions {
		return dyngo.WriteOptions{Reason: *reason, Ticket: *ticket, Correlation: *correlation}
	}
}

// ParseKey reads a key from the command line; what names it in errors. It may not be empty.
func ParseKey(what, arg string, escaped bool) ([]byte, error) {
	key, err := ParseBytes(what, arg, escaped)
	switch {
	case err != nil:
		return nil, err
	case len(key) == 0:
		return nil, Usage("", "%s is empty: a key has 1 byte to 64 KiB", what)
	case len(key) > dyngo.MaxKeyBytes:
		return nil, Usage("", "%s has %d bytes: a key has 1 byte to 64 KiB", what, len(key))
	}
	return key, nil
}

func ParseBytes(what, arg string, escaped bool) ([]byte, error) {
	if !escaped {
		return []byte(arg), nil
	}
	b, err := unescapeBytes(arg)
	if err != nil {
		return nil, Usage(`\x5c for a backslash before an x, or leave --escaped out`, "%s: %v", what, err)
	}
	return b, nil
}

// KeyRange is the keys that begin with prefix and lie in [from, to); empty means no such bound.
func KeyRange(prefix, from, to []byte) dyngo.Range {
	r := dyngo.Range{}
	if len(prefix) > 0 {
		r = dyngo.Prefix(prefix)
	}
	if len(from) > 0 && bytes.Compare(from, r.From) > 0 {
		r.From = from
	}
	if len(to) > 0 && (r.To == nil || bytes.Compare(to, r.To) < 0) {
		r.To = to
	}
	return r
}

// Empty reports whether no key can lie in the range.
func Empty(r dyngo.Range) bool {
	return r.To != nil && bytes.Compare(r.From, r.To) >= 0
}

// Confirm asks a person on the terminal, and refuses without one: then only --yes will do.
func Confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	if !IsTerminal(cmd.InOrStdin()) {
		return Usage("--yes to do it, --dry-run to see what would go", "%s? Nothing was changed", question)
	}
	ask := cmd.ErrOrStderr()
	if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
		defer tty.Close()
		ask = tty // even where stderr goes to a file
	}
	fmt.Fprintf(ask, "%s? [y/N] ", question)
	answer, err := bufio.NewReader(Stdin(cmd)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return Fail(ExitFailure, "", "not confirmed, nothing was changed")
}
