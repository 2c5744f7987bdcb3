package event

import (
	"errors"
	"fmt"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// ErrUnsupported is matched by the error of reading what a newer version wrote: the bytes are sound, but this version
// cannot say what they mean.
var ErrUnsupported = errors.New("written by a newer version")

// UnsupportedError says what this version does not know.
type UnsupportedError struct {
	What string // "op 77", "log file version 2"
}

// Unsupported returns an UnsupportedError.
func Unsupported(format string, args ...any) error {
	return &UnsupportedError{What: fmt.Sprintf(format, args...)}
}

// Error says what is not known.
func (e *UnsupportedError) Error() string { return "not supported by this version: " + e.What }

// Is makes errors.Is(err, ErrUnsupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

func corrupt(offset int, format string, args ...any) error {
	return corruption.New(int64(offset), format, args...)
}

// corruptIn turns the failure of a reader into corruption at the place where it was met.
func corruptIn(what string, r *coding.Reader) error {
	return &corruption.Error{Offset: int64(r.Offset()), What: what, Err: r.Err()}
}
