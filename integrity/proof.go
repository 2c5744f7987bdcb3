package integrity

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/wal"
)

// The formats of bundles. A change of what they mean takes a new name.
const (
	InclusionFormat   = "dyngo-inclusion-1"
	ConsistencyFormat = "dyngo-consistency-1"
)

// Inclusion proves that an event is in the log that a tree head stands for. As JSON it is a bundle that can be checked with
// nothing else at hand, see docs/verifier. In JSON, bytes are base64. Key and value may be taken out of it: the proof holds.
type Inclusion struct {
	Format string      `json:"format"`
	Event  ProofEvent  `json:"event"`
	Frame  ProofFrame  `json:"frame"`
	Tree   FrameInTree `json:"tree"`
	Head   string      `json:"head"` // a note
}

// ProofEvent is the event's leaf, and what its commitments are of.
type ProofEvent struct {
	LSN       event.LSN       `json:"lsn"`
	Time      int64           `json:"time"` // log time, Unix nanoseconds
	Op        event.Op        `json:"op"`
	Flags     event.Flags     `json:"flags"`
	Dataset   event.DatasetID `json:"dataset"`
	Session   event.SessionID `json:"session"`
	KeyHash   Hash            `json:"key_hash"`
	ValueHash Hash            `json:"value_hash"`
	Parts     []byte          `json:"parts,omitempty"`
	Salt      []byte          `json:"salt,omitempty"` // of both commitments
	Key       []byte          `json:"key,omitempty"`
	Value     []byte          `json:"value,omitempty"` // up to MaxProofValue, and no large one; absent, ValueHash stands for it
}

// ProofFrame is the frame's record, and the way from the event to its root.
type ProofFrame struct {
	LSN   event.LSN `json:"lsn"` // of its first event
	Count uint32    `json:"count"`
	Wall  int64     `json:"wall"` // Unix nanoseconds
	HLC   uint64    `json:"hlc"`
	Proof []Hash    `json:"proof"` // RFC 6962 audit path of event lsn - frame lsn among count
}

// FrameInTree is the way from the frame to the root in the head.
type FrameInTree struct {
	Index int64  `json:"index"` // of the frame, from 0
	Size  int64  `json:"size"`  // frames in the head's tree
	Proof []Hash `json:"proof"`
}

// MaxProofValue is the longest value that a bundle holds itself.
const MaxProofValue = 1 << 20

// Prove makes the proof that the event lsn, which is in frame, the tree's index-th, is in the tree of head, which note holds.
// The bundle has the key, and a value that the event holds itself.
func (t *Tree) Prove(s *Source, frame *wal.Frame, lsn event.LSN, index int64, head *Head, note string) (*Inclusion, error) {
	n, i := uint64(frame.Count), uint64(lsn-frame.BaseLSN)
	if lsn < frame.BaseLSN || i >= n {
		panic(fmt.Sprintf("dyngo: bug: LSN %d is not among the %d of the frame of LSN %d", lsn, n, frame.BaseLSN))
	}
	// The path is the roots of ranges of leaves, which are computed while the events go by.
	ranges := pathRanges(i, n)
	roots := make([]Frontier, len(ranges))
	var leaf Leaf
	p := &Inclusion{Format: InclusionFormat, Head: note}
	at := uint64(0)
	record, err := s.record(frame, func(e *event.Event) {
		if at == i {
			p.Event.reveal(s, e)
		}
	}, func(l *Leaf, h Hash) {
		if at == i {
			leaf = *l
			leaf.Parts = slices.Clone(l.Parts)
		}
		for j, r := range ranges {
			if r.from <= at && at < r.to {
				roots[j].Add(h)
				break
			}
		}
		at++
	})
	if err != nil {
		return nil, err
	}
	entry, err := t.At(index)
	if err != nil {
		return nil, err
	}
	if entry.LSN != frame.BaseLSN || entry.Hash != record.Hash() {
		return nil, Mismatch(frame, index)
	}
	e := &p.Event
	e.LSN, e.Time, e.Op, e.Flags, e.Dataset, e.Session = leaf.LSN, leaf.Time, leaf.Op, leaf.Flags, leaf.Dataset, leaf.Session
	e.KeyHash, e.ValueHash, e.Parts = leaf.Key, leaf.Value, leaf.Parts
	p.Frame = ProofFrame{LSN: record.LSN, Count: record.Count, Wall: record.Wall, HLC: record.HLC, Proof: []Hash{}}
	p.Tree = FrameInTree{Index: index, Size: head.Size}
	for j := range roots {
		p.Frame.Proof = append(p.Frame.Proof, roots[j].Root())
	}
	if p.Tree.Proof, err = tlog.ProveRecord(head.Size, index, t); err != nil {
		return nil, err
	}
	if p.Tree.Proof == nil {
		p.Tree.Proof = []Hash{}
	}
	return p, p.Check(nil)
}

// reveal adds what the commitments are of.
func (p *ProofEvent) reveal(s *Source, e *event.Event) {
	p.Key = bytes.Clone(e.Key)
	if salt, ok := event.ValueSalt(e.Parts); ok {
		p.Salt = salt[:]
	}
	if e.Flags&event.FlagRedacted != 0 {
		return
	}
	value := e.Value
	if codec, raw, packed := event.CodecOf(e.Parts); packed && raw <= MaxProofValue {
		var err error
		if value, err = s.Unpack(codec, e.Value, raw); err != nil {
			return // the leaf's computation says so
		}
	} else if packed {
		return
	}
	if e.Flags&event.FlagValueRef == 0 && len(value) <= MaxProofValue {
		p.Value = bytes.Clone(value)
	}
}

// Mismatch is the corruption that a frame of the log is not the one that was put into the tree as number index.
func Mismatch(f *wal.Frame, index int64) error {
	return corruption.At(f.Name, f.Offset, "the frame of LSN %d is not the one whose hash the tree has as number %d", f.BaseLSN, index)
}

type leafRange struct{ from, to uint64 }

// pathRanges are the ranges of leaves whose roots form the audit path of leaf i among n, from the leaf up.
func pathRanges(i, n uint64) (path []leafRange) {
	for from, to := uint64(0), n; to-from > 1; {
		mid := from + 1<<(bits.Len64(to-from-1)-1)
		if i < mid {
			path, to = append(path, leafRange{mid, to}), mid
		} else {
			path, from = append(path, leafRange{from, mid}), mid
		}
	}
	for a, b := 0, len(path)-1; a < b; a, b = a+1, b-1 {
		path[a], path[b] = path[b], path[a]
	}
	return path
}

// Check follows the proof from the event to the head, which must be signed with the key, if there is one. An error says which
// step fails.
func (p *Inclusion) Check(k *Key) error {
	if p.Format != InclusionFormat {
		return event.Unsupported("proof %q", p.Format)
	}
	h, err := k.ParseNote(p.Head)
	if err != nil {
		return err
	}
	e, f := &p.Event, &p.Frame
	switch {
	case e.Key != nil && KeyHash(e.Salt, e.Key) != e.KeyHash:
		return errors.New("proof: the key is not the one of key_hash")
	case e.Value != nil && ValueHash(e.Salt, e.Value) != e.ValueHash:
		return errors.New("proof: the value is not the one of value_hash")
	case e.LSN < f.LSN || uint64(e.LSN-f.LSN) >= uint64(f.Count):
		return errors.New("proof: the event's LSN is not in the frame")
	case p.Tree.Size != h.Size:
		return errors.New("proof: it leads to a tree of another size than the head's")
	case p.Tree.Index < 0 || p.Tree.Index >= p.Tree.Size:
		return errors.New("proof: the frame's index is not in the tree")
	}
	l := Leaf{LSN: e.LSN, Time: e.Time, Op: e.Op, Flags: e.Flags, Dataset: e.Dataset, Session: e.Session, Key: e.KeyHash,
		Value: e.ValueHash, Parts: e.Parts}
	root, err := climb(l.Hash(), uint64(e.LSN-f.LSN), uint64(f.Count), f.Proof)
	if err != nil {
		return fmt.Errorf("proof: from the event to its frame: %w", err)
	}
	r := Record{LSN: f.LSN, Count: f.Count, Wall: f.Wall, HLC: f.HLC, Root: root}
	if err := tlog.CheckRecord(p.Tree.Proof, p.Tree.Size, h.Root, p.Tree.Index, r.Hash()); err != nil {
		return errors.New("proof: it does not lead to the root of the head")
	}
	return nil
}

// climb computes the root that a leaf's audit path leads to.
func climb(h Hash, i, n uint64, path []Hash) (Hash, error) {
	ranges := pathRanges(i, n)
	if len(ranges) != len(path) {
		return h, fmt.Errorf("%d hashes, %d are wanted", len(path), len(ranges))
	}
	for j, r := range ranges {
		if r.from > i {
			h = tlog.NodeHash(h, path[j])
		} else {
			h = tlog.NodeHash(path[j], h)
		}
	}
	return h, nil
}

// Consistency proves that the log of an older tree head is a prefix of that of a newer one.
type Consistency struct {
	Format string `json:"format"`
	Old    string `json:"old"` // a note
	New    string `json:"new"` // a note
	Proof  []Hash `json:"proof"`
}

// ProveConsistency makes the proof for two heads of this tree, the older one of at least one frame.
func (t *Tree) ProveConsistency(from, to *Head, fromNote, toNote string) (*Consistency, error) {
	if from.Size < 1 || from.Size > to.Size {
		return nil, fmt.Errorf("a proof leads from 1 to %d frames to %d, not from %d", to.Size, to.Size, from.Size)
	}
	proof, err := tlog.ProveTree(to.Size, from.Size, t)
	if err != nil {
		return nil, err
	}
	c := &Consistency{Format: ConsistencyFormat, Old: fromNote, New: toNote, Proof: append([]Hash{}, proof...)}
	return c, c.Check(nil)
}

// Check follows the proof; both heads must be signed with the key, if there is one.
func (c *Consistency) Check(k *Key) error {
	if c.Format != ConsistencyFormat {
		return event.Unsupported("proof %q", c.Format)
	}
	from, err := k.ParseNote(c.Old)
	if err != nil {
		return fmt.Errorf("older head: %w", err)
	}
	to, err := k.ParseNote(c.New)
	switch {
	case err != nil:
		return fmt.Errorf("newer head: %w", err)
	case from.Origin != to.Origin:
		return errors.New("proof: the heads are of two logs")
	case from.Size < 1 || from.Size > to.Size:
		return errors.New("proof: the older head has more frames")
	}
	if err := tlog.CheckTree(c.Proof, to.Size, to.Root, from.Size, from.Root); err != nil {
		return errors.New("proof: the older log is no prefix of the newer one")
	}
	return nil
}
