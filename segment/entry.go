package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
)

// Entry is one version of a key: what is needed to make its event again.
type Entry struct {
	Dataset event.DatasetID
	Key     []byte // not empty, at most event.MaxKeyBytes
	LSN     event.LSN
	Time    int64 // log time, Unix nanoseconds
	Op      event.Op
	Flags   event.Flags
	Session event.SessionID
	Value   []byte // as in the event's payload: see event.Event.Value
	Parts   []byte // encoded, as in the event's payload
}

// Event returns the event that the entry stands for; it aliases what the entry aliases.
func (e *Entry) Event() event.Event {
	return event.Event{LSN: e.LSN, Time: e.Time, Op: e.Op, Flags: e.Flags, Dataset: e.Dataset, Session: e.Session,
		Key: e.Key, Value: e.Value, Parts: e.Parts}
}

// Key is a key of a dataset.
type Key struct {
	Dataset event.DatasetID
	Key     []byte
}

// Compare orders keys as segments do: by dataset, then by the bytes of the key.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Dataset, o.Dataset), bytes.Compare(k.Key, o.Key))
}

// splitKey returns a copy of a key that comes behind its dataset.
func splitKey(b []byte) Key {
	return Key{Dataset: event.DatasetID(binary.BigEndian.Uint32(b)), Key: bytes.Clone(b[datasetLen:])}
}

// RangeDelete says that the keys in [From, To) of a dataset have no value as of an LSN.
type RangeDelete struct {
	Dataset event.DatasetID
	From    []byte // empty: from the first key
	To      []byte // nil: to the last key; not empty
	LSN     event.LSN
	Time    int64 // log time, Unix nanoseconds
}
