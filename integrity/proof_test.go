package integrity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// TestProofs makes frames of 1 to 9 events and proves each event by each later head; whatever is changed in a proof, it fails.
func TestProofs(t *testing.T) {
	key, public := newKeys(t)
	tree := mustOpen(t, vfs.NewMem(), Options{Height: 2})
	var frames []*wal.Frame
	var notes []string
	var heads []*Head
	next := event.LSN(1)
	for n := 1; n <= 9; n++ {
		var events []event.Event
		for i := range n {
			events = append(events, event.Event{Op: event.OpPut, Dataset: 1, Session: 2, Key: fmt.Appendf(nil, "k%d", i), Value: []byte("v")})
		}
		f := frameOf(next, events...)
		r, err := noSource.RecordOf(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Append(next, r.Hash()); err != nil {
			t.Fatal(err)
		}
		next += event.LSN(n)
		root, err := tree.Root(int64(n))
		if err != nil {
			t.Fatal(err)
		}
		h := exampleHead()
		h.Size, h.Root, h.LSN = int64(n), root, next-1
		note, err := key.Sign(h)
		if err != nil {
			t.Fatal(err)
		}
		frames, notes, heads = append(frames, f), append(notes, note), append(heads, h)
	}
	for i, f := range frames {
		for j := i; j < len(heads); j++ {
			for lsn := f.BaseLSN; lsn < f.BaseLSN+event.LSN(f.Count); lsn++ {
				p, err := tree.Prove(noSource, f, lsn, int64(i), heads[j], notes[j])
				if err != nil {
					t.Fatal(err)
				}
				p.Event.Key, p.Event.Value = fmt.Appendf(nil, "k%d", lsn-f.BaseLSN), []byte("v")
				if err := p.Check(public); err != nil {
					t.Fatalf("LSN %d by the head of %d frames: %v", lsn, j+1, err)
				}
				if i == 4 && j == 6 && lsn == f.BaseLSN+2 {
					refuses(t, public, p)
				}
			}
		}
	}
	for i := range heads {
		for j := i; j < len(heads); j++ {
			c, err := tree.ProveConsistency(heads[i], heads[j], notes[i], notes[j])
			if err == nil {
				err = c.Check(public)
			}
			if err != nil {
				t.Errorf("head %d is consistent with %d: %v", i+1, j+1, err)
			}
		}
	}
	if _, err := tree.Prove(noSource, frames[3], frames[3].BaseLSN, 2, heads[8], notes[8]); err == nil {
		t.Error("a frame is proved at another one's place")
	}
}

// refuses changes each number and each hash of a proof in turn.
func refuses(t *testing.T, k *Key, p *Inclusion) {
	t.Helper()
	sound, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range sound {
		if !(c >= '0' && c <= '8' || c >= 'a' && c <= 'y' || c >= 'A' && c <= 'Y') || sound[i+1] == '=' {
			continue // the last digit of base64 has bits without meaning
		}
		b := bytes.Clone(sound)
		b[i]++
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var q Inclusion
		if d.Decode(&q) != nil {
			continue
		}
		if q.Check(k) == nil && q.Event.Key != nil && q.Event.Value != nil {
			t.Errorf("accepted with byte %d changed: %s", i, b)
		}
	}
}

// TestSaltedLeaves are commitments that say nothing once the salt is gone.
func TestSaltedLeaves(t *testing.T) {
	salt := [16]byte{1}
	e := event.Event{LSN: 1, Op: event.OpPut, Dataset: 1, Key: []byte("k"), Value: []byte("v"), Parts: event.AppendValueSalt(nil, salt)}
	l, err := noSource.LeafOf(&e)
	if err != nil || l.Key != KeyHash(salt[:], e.Key) || l.Value != ValueHash(salt[:], e.Value) || len(l.Parts) != 0 ||
		l.Key == KeyHash(nil, e.Key) || l.Value == ValueHash(nil, e.Value) {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestLeafIsOfTheRawValue gives a value that is stored packed, or in data frames, the leaf that it has when stored as it is.
func TestLeafIsOfTheRawValue(t *testing.T) {
	raw := strings.Repeat("value ", 100)
	s := &Source{
		Piece: func(p event.Piece) ([]byte, error) { return []byte(raw[p.Offset : p.Offset+uint64(p.StoredLen)]), nil },
		Unpack: func(c event.Codec, b []byte, n int) ([]byte, error) {
			if c != event.CodecS2 || string(b) != "packed" || n != len(raw) {
				t.Errorf("unpack %v, %q, %d", c, b, n)
			}
			return []byte(raw), nil
		},
	}
	e := event.Event{LSN: 1, Op: event.OpPut, Dataset: 1, Key: []byte("k"), Value: []byte(raw)}
	plain, err := s.LeafOf(&e)
	if err != nil {
		t.Fatal(err)
	}
	e.Value, e.Parts = []byte("packed"), event.AppendCodec(nil, event.CodecS2, len(raw))
	if packed, err := s.LeafOf(&e); err != nil || packed.Hash() != plain.Hash() {
		t.Errorf("packed: %v", err)
	}
	ref := event.ValueRef{RawSize: int64(len(raw)), Pieces: []event.Piece{{File: 1, Offset: 0, StoredLen: 96, RawLen: 96},
		{File: 1, Offset: 96, StoredLen: 504, RawLen: 504}}}
	e.Value, e.Parts, e.Flags = event.AppendValueRef(nil, ref), nil, event.FlagValueRef
	if large, err := s.LeafOf(&e); err != nil || large.Hash() != plain.Hash() {
		t.Errorf("in data frames: %v", err)
	}
}
