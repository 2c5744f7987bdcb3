package integrity

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

const exampleTime = 1700000000000000000

var exampleID = func() (id [16]byte) {
	for i := range id {
		id[i] = 1
	}
	return id
}()

// frameOf makes a commit frame of events, whose LSNs are set.
func frameOf(first event.LSN, events ...event.Event) *wal.Frame {
	f := &wal.Frame{Kind: wal.KindCommit, Count: uint32(len(events)), BaseLSN: first, BaseTime: exampleTime, WallTime: exampleTime,
		HLC: exampleTime / 1e6 << 16, Name: "wal/test.log", Offset: 4096}
	for i := range events {
		events[i].LSN, events[i].Time = first+event.LSN(i), exampleTime
		e := &events[i]
		payload := event.AppendPayload(nil, e.Session, e.Key, e.Value, e.Parts)
		f.Body = event.AppendWire(f.Body, e.Op, e.Flags, e.Dataset, 0, payload)
	}
	return f
}

func exampleFrame() *wal.Frame {
	return frameOf(9, event.Event{Op: event.OpPut, Dataset: 1, Session: 3, Key: []byte("k"), Value: []byte("v")})
}

// noSource serves frames that refer to nothing.
var noSource = &Source{Piece: func(event.Piece) ([]byte, error) { return nil, io.ErrUnexpectedEOF },
	Unpack: func(event.Codec, []byte, int) ([]byte, error) { return nil, io.ErrUnexpectedEOF }}

// testLeaf is the hash of some frame.
func testLeaf(i int64) Hash { return sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i))) }

// naive is the root of leaves as RFC 6962 defines it.
func naive(leaves []Hash) Hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	return tlog.NodeHash(naive(leaves[:k]), naive(leaves[k:]))
}

func mustOpen(t *testing.T, fsys vfs.FS, o Options) *Tree {
	t.Helper()
	if o.LogID == [16]byte{} {
		o.LogID = exampleID
	}
	if !o.ReadOnly {
		if err := fsys.MkdirAll("db"); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Open(fsys, "db/"+Dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// grow appends frames up to n; frame i has the LSN 10 i + 1.
func grow(t *testing.T, tree *Tree, n int64) {
	t.Helper()
	for i := tree.Size(); i < n; i++ {
		if err := tree.Append(event.LSN(10*i+1), testLeaf(i)); err != nil {
			t.Fatal(err)
		}
	}
}
