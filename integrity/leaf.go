package integrity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/wal"
)

// Hash is a SHA-256.
type Hash = tlog.Hash

// The first byte of everything that is hashed. Never renumber: 0 and 1 are those of RFC 6962.
const (
	hashLeaf      = 0
	hashNode      = 1
	hashKey       = 2
	hashValue     = 3
	hashSaltKey   = 4
	hashSaltValue = 5
)

const (
	leafForm  = 1 // of event leaves
	frameForm = 1 // of frame records

	leafFixed = 96 // bytes of a leaf before the parts
	recordLen = 64 // bytes of a frame record
)

// Leaf is what the tree knows of an event; see the package comment for its bytes.
type Leaf struct {
	LSN     event.LSN
	Time    int64 // log time, Unix nanoseconds
	Op      event.Op
	Flags   event.Flags // without FlagValueRef and FlagRedacted
	Dataset event.DatasetID
	Session event.SessionID
	Key     Hash   // commitment to the key
	Value   Hash   // commitment to the value, before compression
	Parts   []byte // without codec and salt
}

// Append appends the bytes of the leaf.
func (l *Leaf) Append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, leafForm, byte(l.Op), byte(l.Flags), 0)
	dst = le.AppendUint32(dst, uint32(l.Dataset))
	dst = le.AppendUint64(dst, uint64(l.LSN))
	dst = le.AppendUint64(dst, uint64(l.Time))
	dst = le.AppendUint64(dst, uint64(l.Session))
	dst = append(append(dst, l.Key[:]...), l.Value[:]...)
	return append(dst, l.Parts...)
}

// Hash is the leaf's hash in the tree of its frame.
func (l *Leaf) Hash() Hash { return leafHash(l.Append(make([]byte, 0, 128))) }

func leafHash(data []byte) Hash {
	var buf [1 + 256]byte
	buf[0] = hashLeaf
	return sha256.Sum256(append(buf[:1], data...))
}

// KeyHash is the commitment to a key; salt is empty or has 16 bytes.
func KeyHash(salt, key []byte) Hash { return commitment(hashKey, salt, key) }

// ValueHash is the commitment to a value; salt is empty or has 16 bytes.
func ValueHash(salt, value []byte) Hash { return commitment(hashValue, salt, value) }

func commitment(kind byte, salt, data []byte) Hash {
	if len(salt) > 0 {
		kind += hashSaltKey - hashKey
	}
	if len(data) <= 239 {
		var buf [256]byte
		b := append(append(append(buf[:0], kind), salt...), data...)
		return sha256.Sum256(b)
	}
	h := sha256.New()
	h.Write([]byte{kind})
	h.Write(salt)
	h.Write(data)
	return Hash(h.Sum(nil))
}

var (
	noKey   = KeyHash(nil, nil)
	noValue = ValueHash(nil, nil)
)

// Source reads what an event refers to.
type Source struct {
	// Piece returns the stored bytes of a piece, checked. With wal.ErrRedacted they are what is left of it.
	Piece func(event.Piece) ([]byte, error)
	// Redacted returns the commitment to the value that an event with event.FlagRedacted had, false if the log does not tell. nil: of
	// none.
	Redacted func(event.LSN) (h Hash, ok bool, err error)
	// Unpack returns the raw bytes, n of them, of bytes that a codec has packed.
	Unpack func(codec event.Codec, stored []byte, n int) ([]byte, error)
}

// LeafOf computes the leaf of an event; ErrRedacted says that what its value was is not known. The parts alias those of the event or memory of their own.
func (s *Source) LeafOf(e *event.Event) (Leaf, error) {
	l := Leaf{LSN: e.LSN, Time: e.Time, Op: e.Op, Flags: e.Flags &^ (event.FlagValueRef | event.FlagRedacted), Dataset: e.Dataset, Session: e.Session,
		Parts: e.Parts, Key: noKey, Value: noValue}
	var salt []byte
	if len(e.Parts) > 0 {
		salt, _ = event.FindPart(e.Parts, event.TagValueSalt)
		l.Parts = event.AppendPartsWithout(nil, e.Parts, event.TagCodec, event.TagValueSalt)
	}
	if len(e.Key) > 0 || len(salt) > 0 {
		l.Key = KeyHash(salt, e.Key)
	}
	var err error
	switch {
	case e.Flags&event.FlagRedacted != 0:
		l.Value, err = s.redacted(e.LSN)
	case e.Flags&event.FlagValueRef != 0:
		if l.Value, err = s.large(salt, e); errors.Is(err, wal.ErrRedacted) { // the event does not say so yet
			l.Value, err = s.redacted(e.LSN)
		}
	case len(e.Value) > 0 || len(salt) > 0:
		value := e.Value
		if codec, raw, packed := event.CodecOf(e.Parts); packed {
			if value, err = s.Unpack(codec, e.Value, raw); err != nil {
				return l, err
			}
		}
		l.Value = ValueHash(salt, value)
	}
	return l, err
}

// redacted is the commitment to a value that is gone.
func (s *Source) redacted(lsn event.LSN) (h Hash, err error) {
	known := false
	if s.Redacted != nil {
		h, known, err = s.Redacted(lsn)
	}
	if !known && err == nil {
		err = ErrRedacted
	}
	return h, err
}

// large is the commitment to a value in data frames, which are read one after the other.
func (s *Source) large(salt []byte, e *event.Event) (Hash, error) {
	ref, err := event.ParseValueRef(e.Value)
	if err != nil {
		return Hash{}, err
	}
	h := sha256.New()
	kind := byte(hashValue)
	if len(salt) > 0 {
		kind = hashSaltValue
	}
	h.Write([]byte{kind})
	h.Write(salt)
	for _, p := range ref.Pieces {
		b, err := s.Piece(p)
		if err == nil && p.Codec != event.CodecNone {
			b, err = s.Unpack(p.Codec, b, int(p.RawLen))
		}
		if err != nil {
			return Hash{}, fmt.Errorf("value of LSN %d: %w", e.LSN, err)
		}
		h.Write(b)
	}
	return Hash(h.Sum(nil)), nil
}

// Record is what the tree over the frames knows of a commit frame; see the package comment for its bytes.
type Record struct {
	LSN   event.LSN // of its first event
	Count uint32    // events
	Wall  int64     // raw wall time, Unix nanoseconds
	HLC   uint64
	Root  Hash // of the tree of its events
}

// Append appends the bytes of the record.
func (r *Record) Append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, frameForm, 0, 0, 0)
	dst = le.AppendUint32(dst, r.Count)
	dst = le.AppendUint64(dst, uint64(r.LSN))
	dst = le.AppendUint64(dst, uint64(r.Wall))
	dst = le.AppendUint64(dst, r.HLC)
	return append(dst, r.Root[:]...)
}

// Hash is the record's hash in the tree over the frames.
func (r *Record) Hash() Hash { return leafHash(r.Append(make([]byte, 0, recordLen))) }

// ErrRedacted says that the leaf of an event can't be computed any more: its value was removed on purpose, and the commitment to it is
// not at hand.
var ErrRedacted = errors.New("integrity: a value was redacted")

// RecordOf computes the record of a commit frame. An error is of the source, corruption that names file and offset, or
// ErrRedacted. wal.ErrDropped in it says that the frame refers to a log file that retention has dropped.
//
// visit, if not nil, is called with each event before its leaf is computed; the event is valid during the call.
func (s *Source) RecordOf(f *wal.Frame, visit func(*event.Event)) (Record, error) {
	if visit == nil {
		visit = func(*event.Event) {}
	}
	return s.record(f, visit, func(*Leaf, Hash) {})
}

func (s *Source) record(f *wal.Frame, visit func(*event.Event), leaf func(*Leaf, Hash)) (Record, error) {
	r := Record{LSN: f.BaseLSN, Count: f.Count, Wall: f.WallTime, HLC: f.HLC}
	var buf [256]byte
	var root Frontier
	var l Leaf // once for all events, as leaf may keep it from the stack
	redacted := false
	var events iter.Seq2[*event.Event, error]
	if f.Flags&wal.FrameSpilled != 0 {
		events = f.SpilledEvents(func(p event.Piece) ([]byte, error) {
			b, err := s.Piece(p)
			if errors.Is(err, wal.ErrRedacted) {
				err = nil
			}
			return b, err
		})
	} else {
		events = f.Events()
	}
	for e, err := range events {
		if err != nil {
			return r, err
		}
		visit(e)
		redacted = redacted || e.Flags&event.FlagRedacted != 0
		if l, err = s.LeafOf(e); err != nil {
			return r, corruption.Locate(err, f.Name, f.Offset)
		}
		h := leafHash(l.Append(buf[:0]))
		leaf(&l, h)
		root.Add(h)
	}
	if f.Flags&wal.FrameRedacted != 0 && !redacted { // which one is not known
		return r, ErrRedacted
	}
	r.Root = root.Root()
	return r, nil
}

// Frontier computes the root of a tree from its leaves, in memory for its height. The zero Frontier is the tree without leaves.
type Frontier struct {
	n    uint64
	full []Hash // roots of the full subtrees so far, largest first: one for each bit of n
}

// Add adds the hash of the next leaf.
func (f *Frontier) Add(h Hash) {
	for n := f.n; n&1 != 0; n >>= 1 {
		last := len(f.full) - 1
		h = tlog.NodeHash(f.full[last], h)
		f.full = f.full[:last]
	}
	f.full = append(f.full, h)
	f.n++
}

// Root is the RFC 6962 hash of the tree; of one without leaves that of nothing.
func (f *Frontier) Root() Hash {
	if f.n == 0 {
		return sha256.Sum256(nil)
	}
	h := f.full[len(f.full)-1]
	for i := len(f.full) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.full[i], h)
	}
	return h
}
