package wal

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const (
	// CleanName is the name, within the log's directory, of the file that says that the log was closed.
	CleanName = "CLEAN"

	cleanMagic = "DYNGOCLN"
	cleanSize  = 64
)

// Clean states where a closed log ends, so that any defect there is known to be damage. It is durable after everything
// that it states, and removed durably before the first write that follows.
type Clean struct {
	Seq      uint64    // of the last file
	End      uint64    // offset in it
	Chain    uint32    // original CRC of its last frame
	NextLSN  event.LSN // the first that was not assigned
	LastTime int64     // newest log time given out, Unix nanoseconds
}

// Encode returns the content of the file.
func (c *Clean) Encode() [cleanSize]byte {
	var b [cleanSize]byte
	le := binary.LittleEndian
	copy(b[:8], cleanMagic)
	le.PutUint32(b[12:], version)
	le.PutUint64(b[16:], c.Seq)
	le.PutUint64(b[24:], c.End)
	le.PutUint32(b[32:], c.Chain)
	le.PutUint64(b[40:], uint64(c.NextLSN))
	le.PutUint64(b[48:], uint64(c.LastTime))
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

// ParseClean decodes the content of the file, which is all of b. The error is event.ErrUnsupported or corruption with an
// offset in b.
func ParseClean(b []byte) (Clean, error) {
	if err := checkBlock(b, cleanSize, cleanMagic, "CLEAN"); err != nil {
		return Clean{}, err
	}
	le := binary.LittleEndian
	c := Clean{
		Seq: le.Uint64(b[16:]), End: le.Uint64(b[24:]), Chain: le.Uint32(b[32:]),
		NextLSN: event.LSN(le.Uint64(b[40:])), LastTime: int64(le.Uint64(b[48:])),
	}
	switch {
	case len(b) != cleanSize:
		return Clean{}, corruption.New(cleanSize, "CLEAN: %d bytes, want %d", len(b), cleanSize)
	case le.Uint32(b[36:]) != 0 || le.Uint64(b[56:]) != 0:
		return Clean{}, corruption.New(36, "CLEAN: reserved bytes are not zero")
	case c.Seq == 0 || c.End <= HeaderSize || c.End%frameAlign != 0 || c.End > 1<<62:
		return Clean{}, corruption.New(16, "CLEAN: end %d of file %d", c.End, c.Seq)
	case c.NextLSN == 0 || c.NextLSN > event.MaxLSN+1:
		return Clean{}, corruption.New(40, "CLEAN: next LSN %d", c.NextLSN)
	}
	return c, nil
}

// WriteClean writes the file in one step that a crash cannot split. Everything that it states must be durable.
func WriteClean(fsys vfs.FS, dir string, c Clean) error {
	b := c.Encode()
	return vfs.WriteFileSync(fsys, path.Join(dir, CleanName), b[:])
}

// ReadClean reads the file; nil if there is none. Errors name the file.
func ReadClean(fsys vfs.FS, dir string) (*Clean, error) {
	b, err := fsys.ReadFile(path.Join(dir, CleanName), HeaderSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, vfs.ErrTooLarge):
		return nil, corruption.At(relName(dir, CleanName), cleanSize, "CLEAN: more than %d bytes", HeaderSize)
	case err != nil:
		return nil, err
	}
	c, err := ParseClean(b)
	if err != nil {
		return nil, locate(err, relName(dir, CleanName), 0)
	}
	return &c, nil
}
