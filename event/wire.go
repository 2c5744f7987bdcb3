package event

import (
	"math"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// MaxWireOverhead is how much longer an event's wire form can be than its payload.
const MaxWireOverhead = coding.MaxVarintLen + 2 + 5 + coding.MaxVarintLen

// MinWireBytes is the length of the shortest wire form that ParseWire accepts: it bounds a count of events by the bytes
// that hold them.
const MinWireBytes = 5

// WireSize returns the length of what AppendWire appends for a payload of payloadLen bytes.
func WireSize(_ Op, _ Flags, dataset DatasetID, delta int64, payloadLen int) int {
	n := 2 + coding.UvarintLen(uint64(dataset)) + coding.UvarintLen(uint64(delta)) + payloadLen
	return coding.UvarintLen(uint64(n)) + n
}

// AppendWire appends an event as it stands in a commit frame. delta is its log time minus the frame's base time, in
// nanoseconds, ≥ 0. It allocates nothing if dst has room.
func AppendWire(dst []byte, op Op, flags Flags, dataset DatasetID, delta int64, payload []byte) []byte {
	n := 2 + coding.UvarintLen(uint64(dataset)) + coding.UvarintLen(uint64(delta)) + len(payload)
	dst = coding.AppendUvarint(dst, uint64(n))
	dst = append(dst, byte(op), byte(flags))
	dst = coding.AppendUvarint(dst, uint64(dataset))
	dst = coding.AppendUvarint(dst, uint64(delta))
	return append(dst, payload...)
}

// ParseWire decodes one event from the start of b and checks all of it, parts included. The event aliases b; its LSN is 0
// and its Time is the delta to the frame's base time. payload is what AppendPayload made, n the length of the wire form:
// the payload is its end, b[n-len(payload):n].
//
// An event whose op is unknown and skippable comes back with the payload unsplit: no session, key, value or parts. The
// error is ErrUnsupported or corruption with an offset in b. It allocates only for an error.
func ParseWire(b []byte) (e Event, payload []byte, n int, err error) {
	size, k := coding.Uvarint(b)
	if k <= 0 || size > uint64(len(b)-k) {
		return Event{}, nil, 0, lengthError("event", 0, k)
	}
	n = k + int(size)
	b = b[:n:n]
	if size < 4 {
		return Event{}, nil, 0, corrupt(0, "event of %d bytes", size)
	}
	e.Op, e.Flags = Op(b[k]), Flags(b[k+1])
	if !e.Op.Known() && !e.Op.Skippable() {
		return Event{}, nil, 0, unknownOp(e.Op, k)
	}
	if e.Flags&^KnownFlags != 0 {
		return Event{}, nil, 0, Unsupported("event flags %s", e.Flags)
	}
	at := k + 2
	v, m := coding.Uvarint(b[at:])
	if m <= 0 || v > math.MaxUint32 {
		return Event{}, nil, 0, corrupt(at, "dataset id")
	}
	e.Dataset = DatasetID(v)
	at += m
	v, m = coding.Uvarint(b[at:])
	if m <= 0 || v > math.MaxInt64 {
		return Event{}, nil, 0, corrupt(at, "time delta")
	}
	e.Time = int64(v)
	at += m
	payload = b[at:]
	if !e.Op.Known() {
		return e, payload, n, nil
	}
	if e.Session, e.Key, e.Value, e.Parts, err = SplitPayload(payload); err != nil {
		return Event{}, nil, 0, corruption.Shift(err, at)
	}
	if len(e.Parts) > 0 {
		if err := CheckParts(e.Parts); err != nil {
			return Event{}, nil, 0, corruption.Shift(err, n-len(e.Parts))
		}
	}
	// A plain put needs no more than this; all else is looked at one by one.
	if e.Op != OpPut || e.Flags&ValueFlags != 0 || e.Dataset == 0 || len(e.Key) == 0 || len(e.Key) > MaxKeyBytes {
		if err := checkForm(&e, at, n-len(e.Parts)-len(e.Value)); err != nil {
			return Event{}, nil, 0, err
		}
	}
	return e, payload, n, nil
}

func unknownOp(o Op, offset int) error {
	if o == 0 {
		return corrupt(offset, "op 0")
	}
	return Unsupported("op %d", uint8(o))
}

// checkForm checks what the op says about dataset, key and value. The payload begins at offset at, the value at valueAt.
func checkForm(e *Event, at, valueAt int) error {
	if len(e.Key) > MaxKeyBytes {
		return corrupt(at, "%s: key of %d bytes", e.Op, len(e.Key))
	}
	if e.Flags&FlagValueRef != 0 {
		if e.Op != OpPut && e.Op != OpMerge {
			return corrupt(at, "%s: its value is a reference", e.Op)
		}
		if _, ok := FindPart(e.Parts, TagCodec); ok {
			return corrupt(at, "%s: a codec beside the pieces' own", e.Op)
		}
		if err := checkValueRef(e.Value); err != nil {
			return corruption.Shift(err, valueAt)
		}
	}
	if e.Flags&FlagSealed != 0 {
		if e.Op != OpPut && e.Op != OpMerge {
			return corrupt(at, "%s: its value is sealed", e.Op)
		}
		if _, ok := SubjectKey(e.Parts); !ok {
			return corrupt(at, "%s: its value is sealed, and no key is named", e.Op)
		}
		if _, ok := FindPart(e.Parts, TagCodec); ok {
			return corrupt(at, "%s: a codec of a sealed value", e.Op)
		}
	}
	if e.Flags&FlagRedacted != 0 {
		if e.Op != OpPut && e.Op != OpMerge {
			return corrupt(at, "%s: its value is redacted", e.Op)
		}
		if e.Flags&FlagValueRef == 0 && !coding.AllZero(e.Value) {
			return corrupt(valueAt, "%s: its value is redacted, and not zero", e.Op)
		}
		if _, ok := FindPart(e.Parts, TagValueSalt); ok {
			return corrupt(at, "%s: a salt of a redacted value", e.Op)
		}
	}
	ofLog := e.Op == OpSessionOpened
	ofDataset := !e.Op.System() || e.Op >= OpDatasetCreated && e.Op <= OpDatasetDropped
	if ofDataset && e.Dataset == 0 || ofLog && e.Dataset != 0 {
		return corrupt(at, "%s: dataset %d", e.Op, e.Dataset)
	}
	wantKey := ofDataset && e.Op != OpDeleteRange
	if wantKey && len(e.Key) == 0 || ofLog && len(e.Key) != 0 {
		return corrupt(at, "%s: key of %d bytes", e.Op, len(e.Key))
	}
	switch e.Op {
	case OpDelete, OpExpire, OpRedact, OpDatasetDropped:
		if len(e.Value) != 0 {
			return corrupt(at, "%s: value of %d bytes", e.Op, len(e.Value))
		}
		if e.Op == OpExpire || e.Op == OpRedact {
			if lsn, ok := PrevLSN(e.Parts); !ok || lsn == 0 {
				return corrupt(at, "%s: no version named", e.Op)
			}
		}
	case OpDeleteRange:
		if len(e.Value) > MaxKeyBytes {
			return corrupt(at, "%s: key of %d bytes", e.Op, len(e.Value))
		}
	case OpDatasetCreated, OpDatasetChanged:
		_, err := ParseDatasetOptions(e.Value)
		return corruption.Shift(err, valueAt)
	case OpSessionOpened:
		_, err := ParseSession(e.Value)
		return corruption.Shift(err, valueAt)
	}
	return nil
}
