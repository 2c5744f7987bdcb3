// Package corruption holds the one error for damaged bytes.
//
// Every decoder reports what it cannot accept as an *Error. A decoder that sees only a slice leaves File empty and
// counts Offset from the start of that slice; whoever knows where the slice came from adds both with Locate. The
// package makes no promise of compatibility; the root package exports the type as CorruptionError.
package corruption

import (
	"errors"
	"fmt"
)

// ErrCorrupt is matched by every *Error through errors.Is.
var ErrCorrupt = errors.New("corrupt")

// Error says that bytes contradict what was written there.
type Error struct {
	File   string // relative to the database directory; empty while only a slice of it is known
	Offset int64  // first byte in doubt, counted from the start of File (of the decoded slice while File is empty)
	What   string // "wal frame: crc 1f2e3d4c, want 9ab0c1d2"
	Err    error  // cause, may be nil
}

// New returns an Error at an offset of a slice whose file is not known yet.
func New(offset int64, format string, args ...any) *Error {
	return &Error{Offset: offset, What: fmt.Sprintf(format, args...)}
}

// At returns an Error at a place of a file.
func At(file string, offset int64, format string, args ...any) *Error {
	return &Error{File: file, Offset: offset, What: fmt.Sprintf(format, args...)}
}

// Locate adds the place to an *Error that has none yet: file, and base added to its offset. Any other error, and one
// that already has a file, is returned as it is.
func Locate(err error, file string, base int64) error {
	e, ok := err.(*Error)
	if !ok || e.File != "" {
		return err
	}
	located := *e
	located.File = file
	located.Offset += base
	return &located
}

// Shift adds base to the offset of an *Error that has no file yet: for a decoder that hands part of its slice on.
func Shift(err error, base int) error { return Locate(err, "", int64(base)) }

// Error names the place first, so that a log line can be found by file.
func (e *Error) Error() string {
	s := "corrupt: " + e.What
	switch {
	case e.File != "":
		s = fmt.Sprintf("%s at %d: %s", e.File, e.Offset, s)
	case e.Offset != 0:
		s = fmt.Sprintf("at %d: %s", e.Offset, s)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes errors.Is(err, ErrCorrupt) true for every *Error.
func (e *Error) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
