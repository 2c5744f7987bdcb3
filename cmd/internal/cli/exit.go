package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Exit codes. They are part of the command's interface: never renumber.
const (
	ExitOK          = 0
	ExitFailure     = 1   // anything without a code of its own; also rows that a load could not take
	ExitUsage       = 2   // unknown command or flag, wrong arguments
	ExitNotFound    = 3   // no such key, dataset or store
	ExitDenied      = 4   // the file system or the store says no
	ExitUnavailable = 5   // another process has the store open, or it takes no writes now
	ExitCorrupt     = 6   // damaged bytes, or a verification that failed
	ExitConflict    = 7   // a condition of the write did not hold
	ExitInterrupted = 130 // ^C
)

// cliError is an error with the code to exit with and advice on what to do.
type cliError struct {
	code int
	try  string // one line without the "Try:", may be empty
	err  error
}

func (e *cliError) Error() string { return e.err.Error() }
func (e *cliError) Unwrap() error { return e.err }

// Fail makes an error that ends the program with code, advising try.
func Fail(code int, try, format string, args ...any) error {
	return &cliError{code: code, try: try, err: fmt.Errorf(format, args...)}
}

// Usage makes an error about how the command was called.
func Usage(try, format string, args ...any) error {
	return Fail(ExitUsage, try, format, args...)
}

// In says that err is about what lies in dir, for advice, where that is not the store of --dir.
func In(dir string, err error) error {
	if err == nil {
		return nil
	}
	return &placedError{dir: dir, err: err}
}

type placedError struct {
	dir string
	err error
}

func (e *placedError) Error() string { return e.err.Error() }
func (e *placedError) Unwrap() error { return e.err }

// errSilent ends the program with code without another word: the command has said what is wrong.
func errSilent(code int) error { return &cliError{code: code, err: errors.New("")} }

// explain turns any error into what the user sees: the code, what happened, and what to try. dir is
// the store the command worked on.
func explain(err error, dir string) (code int, what, try string) {
	what = strings.TrimPrefix(err.Error(), "dyngo: ")
	var ce *cliError
	if errors.As(err, &ce) {
		return ce.code, what, ce.try
	}
	var placed *placedError
	if errors.As(err, &placed) {
		dir = placed.dir
	}
	if errors.Is(err, context.Canceled) {
		return ExitInterrupted, "interrupted", ""
	}
	if code, what, try, ok := explainEngine(err, what, dir); ok {
		return code, what, try
	}
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return ExitDenied, what, fmt.Sprintf("ls -ld %s, and run as a user who may work there", ShellQuote(deniedAt(err, dir)))
	case errors.Is(err, fs.ErrNotExist):
		return ExitNotFound, what, ""
	case errors.Is(err, syscall.ENOSPC):
		return ExitFailure, what, "free space on the device, then run the command again"
	}
	return ExitFailure, what, ""
}

// deniedAt is the file or folder that the file system has refused, or the nearest one around it that can be seen; dir if err names none.
func deniedAt(err error, dir string) string {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return dir
	}
	for name := filepath.Clean(at.Path); ; name = filepath.Dir(name) {
		if _, err := os.Lstat(name); err == nil || name == filepath.Dir(name) {
			return name
		}
	}
}

// exitCodeOf is the code that err will end the program with.
func exitCodeOf(err error) int {
	code, _, _ := explain(err, "")
	return code
}

// report prints what explain says to stderr, in the name of the program, and returns the code.
func report(stderr io.Writer, program string, err error, dir string) int {
	code, what, try := explain(err, dir)
	if what == "" {
		return code
	}
	fmt.Fprintf(stderr, "%s: %s\n", program, what)
	if try != "" {
		fmt.Fprintf(stderr, "Try: %s\n", try)
	}
	return code
}
