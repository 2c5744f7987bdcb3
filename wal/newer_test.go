package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"path"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestNewerVersionsAreUnsupported has logs that a later version could write and this one must not read. They are sound, so
// none of them is corrupt.
func TestNewerVersionsAreUnsupported(t *testing.T) {
	wire := func(op event.Op, flags event.Flags, parts []byte) []byte {
		return event.AppendWire(nil, op, flags, 1, 0, payload(1, "key", "value", parts))
	}
	commit := func(wire []byte) func(*builder) { return func(b *builder) { b.commit(wire) } }
	header := func(change func(b []byte)) func(*builder) {
		return func(b *builder) {
			change(b.file)
			binary.LittleEndian.PutUint32(b.file[8:], coding.CRC(b.file[12:HeaderSize]))
		}
	}
	dict := event.AppendDictionary(nil, &event.Dictionary{NextSession: 1, NextDataset: 1})
	dict[0]++
	for _, c := range []struct {
		name  string
		write func(*builder)
	}{
		{"version 2", header(func(b []byte) { b[12] = 2 })},
		{"version 2^31", header(func(b []byte) { b[15] = 0x80 })},
		{"an incompat bit", header(func(b []byte) { b[103] = 0x80 })},
		{"a cipher", header(func(b []byte) { b[78] = 1 })},
		{"a hash", header(func(b []byte) { b[77] = 2 })},
		{"a kind of frame", func(b *builder) { b.frame(Frame{Kind: 5}, []byte("new")) }},
		{"a frame flag", func(b *builder) { b.frame(Frame{Kind: KindData, Flags: 0x80}, []byte("new")) }},
		{"an op", commit(wire(30, 0, nil))},
		{"an event flag", commit(wire(event.OpPut, 0x20, nil))},
		{"a part", commit(wire(event.OpPut, 0, []byte{15<<1 | 1, 0}))},
		{"a codec", commit(wire(event.OpPut, 0, event.AppendCodec(nil, 9, 10)))},
		{"a dictionary entry", func(b *builder) {
			b.file, b.chain = b.file[:HeaderSize], 0
			b.frame(Frame{Kind: KindDictionary}, append(dict, 6, 0))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := vfs.NewMem()
			b := newBuilder(fsys, "db/wal")
			b.start(EndingNone)
			c.write(b)
			b.clean()
			r, err := Verify(context.Background(), fsys, "db/wal", nil)
			if err != nil || len(r.Defects) == 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			for _, err := range r.Defects {
				if !errors.Is(err, event.ErrUnsupported) || errors.Is(err, corruption.ErrCorrupt) {
					t.Error(err)
				}
			}
		})
	}
	t.Run("CLEAN of version 2", func(t *testing.T) {
		fsys := vfs.NewMem()
		b := smallLog(t, fsys)
		c := b.cleanFile()
		enc := c.Encode()
		enc[12] = 2
		binary.LittleEndian.PutUint32(enc[8:], coding.CRC(enc[12:]))
		overwrite(fsys, path.Join(b.dir, CleanName), enc[:])
		if _, err := NewScanner(fsys, b.dir, ScanOptions{}); !errors.Is(err, event.ErrUnsupported) {
			t.Fatal(err)
		}
	})
}
