package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// ValueWriter makes a value file. Not for concurrent use.
type ValueWriter struct {
	fs    vfs.FS
	name  string
	file  vfs.File
	buf   []byte // not yet written
	at    int64  // where buf goes
	hash  hash.Hash
	index []byte
	count uint64
	last  Position
}

// valueBuffer is how much a ValueWriter writes at a time.
const valueBuffer = 256 << 10

// CreateValueFile begins a value file under a name that is not taken.
func CreateValueFile(fsys vfs.FS, name string, head ValueHead) (*ValueWriter, error) {
	file, err := fsys.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create value file: %w", err)
	}
	w := &ValueWriter{fs: fsys, name: name, file: file, hash: sha256.New()}
	b := head.encode()
	w.buf = append(w.buf, b[:]...)
	return w, nil
}

// Add adds the stored bytes of the piece at a position of the log. Positions ascend. The bytes were checked.
func (w *ValueWriter) Add(pos Position, stored []byte) error {
	if !w.last.Before(pos) || len(stored) == 0 || len(stored) > MaxDataBytes {
		panic(fmt.Sprintf("dyngo: bug: value file: piece of %d bytes at %+v after %+v", len(stored), pos, w.last))
	}
	off := uint64(pos.Offset)
	if pos.File == w.last.File {
		off -= uint64(w.last.Offset)
	}
	w.index = coding.AppendUvarint(coding.AppendUvarint(w.index, pos.File-w.last.File), off)
	w.index = coding.AppendUvarint(w.index, uint64(len(stored)))
	w.index = binary.LittleEndian.AppendUint32(w.index, coding.CRC(stored))
	w.last, w.count = pos, w.count+1
	w.buf = append(w.buf, stored...)
	if len(w.buf) < valueBuffer {
		return nil
	}
	return w.flush()
}

func (w *ValueWriter) flush() error {
	if _, err := w.file.WriteAt(w.buf, w.at); err != nil {
		return fmt.Errorf("write value file: %w", err)
	}
	w.hash.Write(w.buf)
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// Finish makes the file durable, and returns its size and the SHA-256 of all its bytes. The directory is the caller's to
// sync. There must be a piece.
func (w *ValueWriter) Finish() (size int64, sum [32]byte, err error) {
	if w.count == 0 {
		panic("dyngo: bug: value file without pieces")
	}
	le := binary.LittleEndian
	var foot [valueFooterSize]byte
	le.PutUint64(foot[0:], uint64(w.at)+uint64(len(w.buf)))
	le.PutUint64(foot[8:], w.count)
	le.PutUint32(foot[16:], coding.CRC(w.index))
	le.PutUint32(foot[20:], coding.CRC(foot[:20]))
	copy(foot[24:], valueMagic)
	w.buf = append(append(w.buf, w.index...), foot[:]...)
	if err := w.flush(); err != nil {
		return 0, sum, err
	}
	if err := w.file.Sync(); err != nil {
		return 0, sum, fmt.Errorf("sync value file: %w", err)
	}
	file := w.file
	w.file = nil
	return w.at, [32]byte(w.hash.Sum(nil)), file.Close()
}

// Abort closes and removes the file. After Finish it does nothing.
func (w *ValueWriter) Abort() {
	if w.file == nil {
		return
	}
	w.file.Close() // it goes
	w.file = nil
	_ = w.fs.Remove(w.name) // what stays is an orphan
}
