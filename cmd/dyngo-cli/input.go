package main

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

// addEscaped gives cmd the flag -e, by which keys are written as tables show them.
func addEscaped(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("escaped", "e", false, `read \xNN in keys as that byte, as tables write them`)
}

// addWhy gives cmd the flags that say why, kept in the event for audits.
func addWhy(cmd *cobra.Command) func() dyngo.WriteOptions {
	reason := cmd.Flags().String("reason", "", "why, kept in the log for audits")
	ticket := cmd.Flags().String("ticket", "", "ticket number or link, kept in the log for audits")
	return func() dyngo.WriteOptions { return dyngo.WriteOptions{Reason: *reason, Ticket: *ticket} }
}

// parseKey reads a key from the command line; what names it in errors. It may not be empty.
func parseKey(what, arg string, escaped bool) ([]byte, error) {
	key, err := parseBytes(what, arg, escaped)
	switch {
	case err != nil:
		return nil, err
	case len(key) == 0:
		return nil, usage("", "%s is empty: a key has 1 byte to 64 KiB", what)
	case len(key) > dyngo.MaxKeyBytes:
		return nil, usage("", "%s has %d bytes: a key has 1 byte to 64 KiB", what, len(key))
	}
	return key, nil
}

func parseBytes(what, arg string, escaped bool) ([]byte, error) {
	if !escaped {
		return []byte(arg), nil
	}
	b, err := unescapeBytes(arg)
	if err != nil {
		return nil, usage(`\x5c for a backslash before an x, or leave --escaped out`, "%s: %v", what, err)
	}
	return b, nil
}

// inMemoryValue is the size up to which a value is read into memory as a whole: what the engine
// takes by Put with its default memory. Above, it is streamed.
const inMemoryValue = 64 << 20

// A source is a value to store: in memory, or a file to stream from.
type source struct {
	data []byte
	file *os.File // nil if data holds it
	size int64
	temp bool // file is ours to remove
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close()
		if s.temp {
			os.Remove(s.file.Name())
		}
	}
}

// openValue finds the value that arg stands for: itself, - for stdin, @FILE for a file's bytes.
func openValue(cmd *cobra.Command, arg string) (*source, error) {
	switch name, isFile := strings.CutPrefix(arg, "@"); {
	case arg == "-":
		return readValue(cmd.InOrStdin())
	case isFile:
		return fileValue(name)
	}
	return &source{data: []byte(arg), size: int64(len(arg))}, nil
}

func fileValue(name string) (*source, error) {
	f, err := os.Open(name)
	if err != nil {
		code := exitFailure
		if errors.Is(err, os.ErrNotExist) {
			code = exitUsage
		}
		return nil, fail(code, "- and stdin for a value that begins with @", "value @%s: %v", name, errors.Unwrap(err))
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() <= inMemoryValue {
		defer f.Close()
		s, err := readValue(f) // pipes and devices too
		if err != nil {
			return nil, fmt.Errorf("value @%s: %w", name, err)
		}
		return s, nil
	}
	if info.Size() > dyngo.MaxValueBytes {
		f.Close()
		return nil, tooLarge("@" + name)
	}
	return &source{file: f, size: info.Size()}, nil
}

// readValue reads all of r: into memory, or into a temporary file when that is too much for it.
func readValue(r io.Reader) (*source, error) {
	data, err := io.ReadAll(io.LimitReader(r, inMemoryValue+1))
	if err != nil {
		return nil, fmt.Errorf("read the value: %w", err)
	}
	if len(data) <= inMemoryValue {
		return &source{data: data, size: int64(len(data))}, nil
	}
	f, err := os.CreateTemp("", "dyngo-value-*")
	if err != nil {
		return nil, err
	}
	s := &source{file: f, temp: true}
	all := io.MultiReader(bytes.NewReader(data), r)
	if s.size, err = io.Copy(f, io.LimitReader(all, dyngo.MaxValueBytes+1)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil && s.size > dyngo.MaxValueBytes {
		err = tooLarge("from stdin")
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func tooLarge(what string) error {
	return usage("split it under several keys", "value %s: a value has at most 1 GiB", what)
}

// confirm asks a person on the terminal, and refuses without one: then only --yes will do.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(cmd.InOrStdin()) {
		return usage("--yes to do it, --dry-run to see what would go", "%s? Nothing was changed", question)
	}
	ask := cmd.ErrOrStderr()
	if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
		defer tty.Close()
		ask = tty // even where stderr goes to a file
	}
	fmt.Fprintf(ask, "%s? [y/N] ", question)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fail(exitFailure, "", "not confirmed, nothing was changed")
}
