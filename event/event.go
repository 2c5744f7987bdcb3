package event

import "strconv"

// LSN is a log sequence number: dense and increasing within a timeline, 1 for the first event. 0 means none.
type LSN uint64

// MaxLSN is the largest LSN there can be.
const MaxLSN LSN = 1<<63 - 1

// DatasetID names a dataset within a log. Never reused. 0 stands for the log itself: the dataset of system events that
// belong to none.
type DatasetID uint32

// SessionID names a session within a log. Never reused. 0 stands for the engine itself.
type SessionID uint64

// Limits that a decoder enforces.
const (
	MaxKeyBytes   = 64 << 10 // longest key
	MaxValueBytes = 1 << 30  // longest value, before compression
	MaxPieceBytes = 1 << 20  // longest stored piece of a large value or spilled batch, also before compression
	MaxInlineRaw  = 16 << 20 // longest value, before compression, of an event that holds it itself
)

// Event is one immutable fact.
type Event struct {
	LSN     LSN
	Time    int64 // log time, Unix nanoseconds; never goes back along the LSNs
	Op      Op
	Flags   Flags
	Dataset DatasetID
	Session SessionID
	Key     []byte
	Value   []byte // an encoded ValueRef with FlagValueRef, compressed with a codec part, encrypted with FlagSealed; see FlagRedacted
	Parts   []byte // encoded optional parts, see FindPart; empty if there are none
}

// Flags are properties of one event. Unknown bits are unsupported. Never renumber.
type Flags uint8

const (
	// FlagNotApplied marks an event that lost: it is logged and changes no state (a put that was not newest).
	FlagNotApplied Flags = 1 << 0
	// FlagValueRef says that Value is an encoded ValueRef: the bytes lie in data frames.
	FlagValueRef Flags = 1 << 1
	// FlagMore says that the batch goes on with the next event.
	FlagMore Flags = 1 << 2
	// FlagSealed says that the value is encrypted under the key that the subject-key part names: see package keyring. What a
	// reference stands for is, then, in pieces.
	FlagSealed Flags = 1 << 3
	// FlagRedacted says that the value was destroyed after the event was logged, see OpRedact: zeros stand in its place, or in that
	// of the pieces that it refers to. The event is in the hash tree as it was, without this flag.
	FlagRedacted Flags = 1 << 4

	// ValueFlags are those that say how the value is stored: they go wherever the value goes.
	ValueFlags = FlagValueRef | FlagSealed | FlagRedacted
	// KnownFlags are all that this version knows.
	KnownFlags = FlagNotApplied | FlagMore | ValueFlags
)

// String lists the flags' names, "-" if none is set.
func (f Flags) String() string {
	s := ""
	for i, name := range [...]string{"not-applied", "value-ref", "more", "sealed", "redacted"} {
		if f&(1<<i) != 0 {
			s += "|" + name
		}
	}
	if rest := f &^ KnownFlags; rest != 0 {
		s += "|0x" + strconv.FormatUint(uint64(rest), 16)
	}
	if s == "" {
		return "-"
	}
	return s[1:]
}
