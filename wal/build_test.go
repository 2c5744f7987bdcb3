package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// builder writes a log byte by byte, without the writer: tests say exactly what stands in the files, right or wrong.
// Everything in it is deterministic. Frames are collected in file and stored by store.
type builder struct {
	fs   vfs.FS
	dir  string
	head Header
	file []byte // content of the current file
	end  int    // of its last frame; bytes after are what a test added

	chain    uint32
	next     event.LSN
	time     int64 // log time
	durable  event.LSN
	dict     event.Dictionary
	lastFile string
}

const testTime = 1_700_000_000_000_000_000 // log time of the first frame

func newBuilder(fsys vfs.FS, dir string) *builder {
	if err := fsys.MkdirAll(dir); err != nil {
		panic(err)
	}
	b := &builder{fs: fsys, dir: dir, next: 1, time: testTime}
	b.dict.NextSession, b.dict.NextDataset = 1, 1
	return b
}

// start begins the next file; ending says how the one before is said to have ended.
func (b *builder) start(ending Ending) {
	h := Header{
		LogID: [16]byte{1, 2, 3}, TimelineID: [16]byte{9, 8, 7}, Seq: b.head.Seq + 1, PrevSeq: b.head.Seq,
		PrevEnd: uint64(b.end), PrevChain: b.chain, PrevEnding: ending, HashID: HashSHA256, FirstLSN: b.next,
		FirstTime: b.time, Created: b.time + 5,
	}
	for i := range h.Salt {
		h.Salt[i] = byte(h.Seq)*17 + byte(i)
	}
	b.startWith(h)
}

func (b *builder) startWith(h Header) {
	if b.file != nil {
		b.store()
	}
	b.head = h
	enc := h.Encode()
	b.file, b.end = bytes.Clone(enc[:]), HeaderSize
	b.frame(Frame{Kind: KindDictionary}, event.AppendDictionary(nil, &b.dict))
}

// frame appends a frame; fields that are zero get what a writer would put there.
func (b *builder) frame(f Frame, body []byte) Position {
	if f.BaseLSN == 0 {
		f.BaseLSN = b.next
	}
	if f.BaseTime == 0 {
		f.BaseTime, f.WallTime = b.time, b.time+5
		f.HLC = uint64(f.WallTime/1e6) << 16
	}
	if f.Chain == 0 {
		f.Chain = b.chain
	}
	if f.DurableLSN == 0 {
		f.DurableLSN = b.durable
	}
	return b.raw(f, body)
}

// raw appends a frame as it is, at the end of the file's content.
func (b *builder) raw(f Frame, body []byte) Position {
	at := len(b.file)
	b.file = append(b.file, make([]byte, FrameHeaderSize)...)
	b.file = append(b.file, body...)
	for len(b.file)%frameAlign != 0 {
		b.file = append(b.file, 0)
	}
	f.CRC = SealFrame(b.file[at:], &f, len(body), BodyCRC(body), &b.head.Salt, b.head.Seq, int64(at))
	b.chain = f.OriginalCRC()
	b.end = len(b.file)
	return Position{File: b.head.Seq, Offset: int64(at)}
}

// commit appends a commit frame of encoded events.
func (b *builder) commit(events ...[]byte) Position {
	pos := b.frame(Frame{Kind: KindCommit, Count: uint32(len(events))}, bytes.Join(events, nil))
	b.next += event.LSN(len(events))
	b.time += 1000
	return pos
}

// put is an encoded put into dataset 1.
func put(key, value string) []byte {
	return event.AppendWire(nil, event.OpPut, 0, 1, 10, event.AppendPayload(nil, 1, []byte(key), []byte(value), nil))
}

// puts appends a commit frame of n puts.
func (b *builder) puts(n int) Position {
	var events [][]byte
	for i := range n {
		events = append(events, put(fmt.Sprintf("key-%d", int(b.next)+i), fmt.Sprintf("value of LSN %d", int(b.next)+i)))
	}
	return b.commit(events...)
}

// data appends a data frame.
func (b *builder) data(body []byte) event.Piece {
	pos := b.frame(Frame{Kind: KindData}, body)
	return event.Piece{File: pos.File, Offset: uint64(pos.Offset), StoredLen: uint32(len(body)), RawLen: uint32(len(body)),
		CRC: BodyCRC(body)}
}

// watermark appends a watermark frame that calls everything so far durable.
func (b *builder) watermark() Position {
	b.durable = b.next - 1
	return b.frame(Frame{Kind: KindWatermark}, nil)
}

// store writes the current file.
func (b *builder) store() {
	b.lastFile = path.Join(b.dir, FileName(b.head.Seq, b.head.FirstLSN))
	overwrite(b.fs, b.lastFile, b.file)
}

// clean stores the current file and closes the log.
func (b *builder) clean() {
	b.store()
	c := b.cleanFile()
	if err := WriteClean(b.fs, b.dir, c); err != nil {
		panic(err)
	}
}

func (b *builder) cleanFile() Clean {
	return Clean{Seq: b.head.Seq, End: uint64(b.end), Chain: b.chain, NextLSN: b.next, LastTime: b.time}
}

// overwrite gives a file a content, in one step as writers do: who follows the log never sees a half of it.
func overwrite(fsys vfs.FS, name string, content []byte) {
	f, err := fsys.Create(name + ".new")
	if err == nil {
		_, err = f.WriteAt(content, 0)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = fsys.Rename(name+".new", name)
	}
	if err != nil {
		panic(err)
	}
}

// smallLog is a closed log of two files with a value in data frames.
func smallLog(t testing.TB, fsys vfs.FS) *builder {
	t.Helper()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	b.puts(3)
	p := b.data([]byte("a large value"))
	b.watermark()
	b.start(EndingSealed)
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: int64(p.RawLen), Pieces: []event.Piece{p}})
	b.commit(event.AppendWire(nil, event.OpPut, event.FlagValueRef, 1, 0, event.AppendPayload(nil, 1, []byte("big"), ref, nil)))
	b.puts(1)
	b.watermark()
	b.clean()
	return b
}
