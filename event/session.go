package event

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/dyngodb/dyngo/internal/coding"
)

// Session is who writes: it is stored once, in the event that opens the session and in the dictionary of each later log
// file; the events only carry the id.
type Session struct {
	ID      SessionID // ≥ 1
	Opened  int64     // log time, Unix nanoseconds
	Actor   string    // who; may be empty, like the others
	Address string    // from where
	Client  string    // with what
}

// AppendSession appends the encoding of s.
func AppendSession(dst []byte, s Session) []byte {
	dst = coding.AppendUvarint(dst, uint64(s.ID))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Opened))
	dst = coding.AppendBytes(dst, s.Actor)
	dst = coding.AppendBytes(dst, s.Address)
	return coding.AppendBytes(dst, s.Client)
}

// ParseSession decodes a Session, which must be all of b. The strings are copies.
func ParseSession(b []byte) (Session, error) {
	r := coding.NewReader(b)
	s := Session{ID: SessionID(r.Uvarint()), Opened: int64(r.Uint64())}
	s.Actor, s.Address, s.Client = string(r.Bytes()), string(r.Bytes()), string(r.Bytes())
	if r.End() != nil {
		return Session{}, corruptIn("session", &r)
	}
	if s.ID == 0 {
		return Session{}, corrupt(0, "session id 0")
	}
	return s, nil
}

// Consistency is what a dataset promises; see the root package. Never renumber.
type Consistency uint8

// The consistencies.
const (
	Strong   Consistency = 1
	Causal   Consistency = 2
	Eventual Consistency = 3
)

// String returns the consistency's name.
func (c Consistency) String() string {
	switch c {
	case Strong:
		return "strong"
	case Causal:
		return "causal"
	case Eventual:
		return "eventual"
	}
	return "consistency(" + strconv.Itoa(int(c)) + ")"
}

// DatasetOptions are the options of a dataset that change the meaning of what is stored.
type DatasetOptions struct {
	Consistency Consistency
	TTL         int64 // nanoseconds, 0 = values do not expire
	LargeValue  int64 // bytes from which on a value goes to data frames, 0 = none does
	Compression Codec // of new values
}

// AppendDatasetOptions appends the encoding of o.
func AppendDatasetOptions(dst []byte, o DatasetOptions) []byte {
	dst = coding.AppendUvarint(append(dst, byte(o.Consistency)), uint64(o.TTL))
	return append(coding.AppendUvarint(dst, uint64(o.LargeValue)), byte(o.Compression))
}

// ParseDatasetOptions decodes DatasetOptions, which must be all of b: a newer version that knows more options appends
// them, so bytes left over are ErrUnsupported.
func ParseDatasetOptions(b []byte) (DatasetOptions, error) {
	r := coding.NewReader(b)
	consistency, ttl, large, codec := r.Byte(), r.Uvarint(), r.Uvarint(), r.Byte()
	switch {
	case r.Err() != nil:
		return DatasetOptions{}, corruptIn("dataset options", &r)
	case consistency == 0 || ttl > math.MaxInt64 || large > math.MaxInt64:
		return DatasetOptions{}, corrupt(0, "dataset options: consistency %d, ttl %d, large value %d", consistency, ttl, large)
	case Consistency(consistency) > Eventual:
		return DatasetOptions{}, Unsupported("dataset consistency %d", consistency)
	case Codec(codec) > CodecZstd:
		return DatasetOptions{}, Unsupported("dataset compression %d", codec)
	case r.Len() > 0:
		return DatasetOptions{}, Unsupported("%d bytes of dataset options", len(b))
	}
	return DatasetOptions{Consistency: Consistency(consistency), TTL: int64(ttl), LargeValue: int64(large),
		Compression: Codec(codec)}, nil
}
