package dyngo

import (
	"errors"
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// Errors of Open.
var (
	// ErrLocked is matched when another process, or this one, has the store open for writing. The error is a
	// *LockedError, which names the process.
	ErrLocked = errors.New("dyngo: the store is open for writing elsewhere")
	// ErrCorrupt is matched by every *CorruptionError: stored bytes contradict themselves.
	ErrCorrupt = corruption.ErrCorrupt
	// ErrUnsupported is matched when files need a newer DynGO, or this system or option set can't be served.
	ErrUnsupported = event.ErrUnsupported
	// ErrNoStore is matched by a read-only Open of a directory that holds no store.
	ErrNoStore = errors.New("dyngo: no store in this directory")
	// ErrSnapshot is matched by an Open for writing of a folder that is a snapshot. It opens with Options.ReadOnly.
	ErrSnapshot = errors.New("dyngo: the folder is a snapshot, which only opens read-only")
)

// Errors of writes.
var (
	// ErrConflict is matched by PutIf when the key's LSN is another one; the error is a *ConflictError.
	ErrConflict = errors.New("dyngo: the key has another LSN")
	// ErrLimit is matched when a key, value, batch or option exceeds a limit; the text names it.
	ErrLimit = errors.New("dyngo: limit exceeded")
	// ErrReadOnly is returned for writes to a store opened with Options.ReadOnly.
	ErrReadOnly = errors.New("dyngo: the store was opened read-only")
	// ErrLogFailed is matched by every write after a write or sync of the log failed. What was acknowledged is safe and
	// reads go on; closing and reopening recovers.
	ErrLogFailed = wal.ErrFailed
	// ErrOutcomeUnknown is matched by a write that was in flight when the log failed: it may or may not be there after
	// reopening.
	ErrOutcomeUnknown = wal.ErrOutcomeUnknown
	// ErrRedact is matched by Redact when something is in the way; the text says what, and what to do before Redact is called again.
	ErrRedact = errors.New("dyngo: the value can't be redacted yet")
	// ErrUnredactable is matched by Redact when calling it again is of no use: the event has put no value, or another event has its
	// value in the same bytes. It matches ErrRedact too.
	ErrUnredactable error = unredactableError{}
	// ErrDatasetOptions is matched by CreateDataset for a dataset that exists with other options.
	ErrDatasetOptions = errors.New("dyngo: the dataset exists with other options")
)

// Errors of reads.
var (
	// ErrNotFound is returned for a key that is absent at the time and LSN of the read.
	ErrNotFound = errors.New("dyngo: key not found")
	// ErrErased is returned for a value whose subject was erased: its key was destroyed. It matches ErrNotFound too. Scans leave
	// such a pair out.
	ErrErased error = erasedError{}
	// ErrRedacted is returned for a value that was redacted: its bytes are gone from the log, see DB.Redact. It matches ErrNotFound
	// too. Scans leave such a pair out.
	ErrRedacted error = redactedError{}
	// ErrNoKeys is matched when a value of a subject is written or read and its key is not at hand: Options.Keys does not say where
	// keys are, or names another folder.
	ErrNoKeys = errors.New("dyngo: the key of a subject is not at hand")
	// ErrNoSubject is matched by Erase for a subject of which nothing was ever written with these keys.
	ErrNoSubject = errors.New("dyngo: nothing was written of this subject with these keys")
	// ErrNoDataset is matched when no dataset of that name exists, or it was dropped.
	ErrNoDataset = errors.New("dyngo: no such dataset")
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("dyngo: closed")
	// ErrOutsideWindow is matched when a Target names a state that retention has dropped, or that is not there yet. The error is
	// a *WindowError, which has the window.
	ErrOutsideWindow = errors.New("dyngo: the target lies outside of what can be read")
	// ErrNoBatch is matched by BeforeTx and AfterTx of an LSN that is not a batch's first.
	ErrNoBatch = errors.New("dyngo: no batch begins with this LSN")
	// ErrVisibility is returned by a view at the applied LSN for a Strong dataset.
	ErrVisibility = errors.New("dyngo: a view at the applied LSN can't read a Strong dataset")
)

// Errors of snapshots.
var (
	// ErrSnapshotExists is matched by Snapshot for a name that is taken.
	ErrSnapshotExists = errors.New("dyngo: there is a snapshot of this name")
	// ErrNoSnapshot is matched when no snapshot has the name.
	ErrNoSnapshot = errors.New("dyngo: no such snapshot")
)

// Errors of Restore.
var (
	// ErrNotEmpty is matched by Restore into a folder that holds something else than what an interrupted Restore has left.
	ErrNotEmpty = errors.New("dyngo: the folder to restore into is not empty")
	// ErrUnfinished is matched by Open, Verify, Repair and Restore of a folder that a Restore was interrupted in, which goes on, or
	// begins again, when it is run again; and, but for Open for writing, which goes on, of a store that Options.RecoverTo was
	// setting back.
	ErrUnfinished = errors.New("dyngo: a restore into this folder was interrupted; run it again")
	// ErrTimeline is matched by CheckToken when an LSN is of another timeline; the error is a *TimelineError.
	ErrTimeline = errors.New("dyngo: the LSN is of another timeline")
	// ErrMidBatch is matched by Restore to an LSN within a batch: a store has a batch whole or not at all.
	ErrMidBatch = wal.ErrMidBatch
)

// CorruptionError tells where stored bytes are damaged: File is relative to the store's directory, Offset is the first
// byte in doubt. It matches ErrCorrupt.
type CorruptionError = corruption.Error

// erasedError is the type of ErrErased.
type erasedError struct{}

func (erasedError) Error() string { return "dyngo: the subject was erased" }

// Is makes the error match ErrNotFound.
func (erasedError) Is(target error) bool { return target == ErrNotFound }

// unredactableError is the type of ErrUnredactable.
type unredactableError struct{}

func (unredactableError) Error() string { return "dyngo: the value can never be redacted" }

// Is makes the error match ErrRedact.
func (unredactableError) Is(target error) bool { return target == ErrRedact }

// redactedError is the type of ErrRedacted.
type redactedError struct{}

func (redactedError) Error() string { return "dyngo: the value was redacted" }

// Is makes the error match ErrNotFound.
func (redactedError) Is(target error) bool { return target == ErrNotFound }

// LockedError tells who has the store open for writing. PID is 0 when that is not known.
type LockedError struct {
	Dir string
	PID int
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("dyngo: %s is open for writing in another process", e.Dir)
	}
	return fmt.Sprintf("dyngo: %s is open for writing in process %d", e.Dir, e.PID)
}

// Is makes the error match ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// ConflictError tells which LSN the key has; 0 means that it is absent.
type ConflictError struct {
	Want, Have LSN
	head       LSN // of the newest version, a delete or expired one too
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("dyngo: the key is at LSN %d, not at %d", e.Have, e.Want)
}

// Is makes the error match ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

func limitError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrLimit}, args...)...)
}

// openError gives lower errors the names of this package.
func openError(dir string, err error) error {
	var locked *vfs.LockedError
	if errors.As(err, &locked) {
		return &LockedError{Dir: dir, PID: locked.PID}
	}
	if errors.Is(err, wal.ErrClosed) {
		return ErrClosed
	}
	return err
}
