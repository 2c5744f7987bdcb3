package wal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const (
	archiveMagic = "DYNGOARC"
	// archiveFrame is how much of the log file each zstd frame holds.
	archiveFrame = 1 << 20

	skippable       = 8          // bytes of a skippable frame's head
	skipArchive     = 0x184d2a50 // its magic, of what this package knows of the file
	skipSeekTable   = 0x184d2a5e // the same of the seek table
	seekMagic       = 0x8f92eab1
	seekFooterSize  = 9
	archiveHeadSize = 64
	maxArchived     = 1 << 40 // bytes of a log file
)

// Archived is an archived log file, read as if it were the file itself. Safe for concurrent use. It makes one zstd frame of
// the file plain at a time, and keeps the last one.
type Archived struct {
	Size   int64 // of the log file
	SHA256 [32]byte
	Header Header // of the log file

	file   vfs.File
	name   string
	frame  int64 // bytes of each zstd frame but the last when plain
	frames []archivedFrame
	dec    *zstd.Decoder

	mu     sync.Mutex // guards the fields below; held while a frame is read
	packed []byte
	plain  []byte
	have   int // frame in plain, -1 = none
}

// archivedFrame is a zstd frame.
type archivedFrame struct {
	at  int64
	n   uint32 // bytes
	crc uint32
}

// OpenArchived opens an archived log file. name is for messages.
func OpenArchived(fsys vfs.FS, full, name string) (*Archived, error) {
	file, err := fsys.Open(full)
	if err != nil {
		return nil, fmt.Errorf("open archived log file: %w", err)
	}
	a := &Archived{file: file, name: name, have: -1}
	if err := a.load(); err != nil {
		if a.dec != nil {
			a.dec.Close()
		}
		file.Close() // only read from
		return nil, locate(err, name, 0)
	}
	return a, nil
}

func (a *Archived) load() error {
	size, err := a.file.Size()
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	var foot [seekFooterSize]byte
	at := size - seekFooterSize
	if at < 0 {
		return corruption.New(size, "archived log file: %d bytes", size)
	}
	if _, err := readFull(a.file, foot[:], at); err != nil {
		return err
	}
	n := int64(le.Uint32(foot[:]))
	table := seekFooterSize + skippable + 8*n
	start := size - table - skippable - archiveHeadSize - 8*n
	if le.Uint32(foot[5:]) != seekMagic || foot[4] != 0 || n == 0 || start <= 0 {
		return corruption.New(at, "archived log file: footer of %d frames in %d bytes", n, size)
	}
	b := make([]byte, size-start) // a part of the file
	if _, err := readFull(a.file, b, start); err != nil {
		return err
	}
	if err := a.parse(b, n, start); err != nil {
		return corruption.Shift(err, int(start))
	}
	a.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(a.frame)))
	if err != nil {
		return err
	}
	return a.loadHeader()
}

// parse decodes what lies behind the frames, which end at an offset of the file.
func (a *Archived) parse(b []byte, n, end int64) error {
	le := binary.LittleEndian
	head := b[skippable:]
	tail := head[archiveHeadSize+8*n:]
	head = head[:archiveHeadSize+8*n]
	if le.Uint32(b) != skipArchive || int64(le.Uint32(b[4:])) != int64(len(head)) || string(head[:8]) != archiveMagic {
		return corruption.New(0, "archived log file: magic %q", head[:8])
	}
	if want, have := le.Uint32(head[8:]), coding.CRC(head[12:]); want != have {
		return corruption.New(skippable+8, "archived log file: crc %08x, want %08x", have, want)
	}
	if v := le.Uint32(head[12:]); v != version {
		return event.Unsupported("archived log file version %d", v)
	}
	a.Size, a.frame = int64(le.Uint64(head[16:])), int64(le.Uint32(head[24:]))
	copy(a.SHA256[:], head[32:])
	if a.frame == 0 || a.frame > 64<<20 || a.Size < HeaderSize || a.Size > maxArchived || (a.Size+a.frame-1)/a.frame != n ||
		int64(le.Uint32(head[28:])) != n {
		return corruption.New(skippable+16, "archived log file: %d bytes in %d frames of %d", a.Size, n, a.frame)
	}
	at := int64(0)
	for i := range n {
		e := head[archiveHeadSize+8*i:]
		f := archivedFrame{at: at, n: le.Uint32(e), crc: le.Uint32(e[4:])}
		if at += int64(f.n); at > end {
			break
		}
		a.frames = append(a.frames, f)
	}
	if at != end {
		return corruption.New(skippable+archiveHeadSize, "archived log file: frames end at %d, want %d", at, end)
	}
	if string(tail) != string(a.seekTable(nil)) {
		return corruption.New(int64(len(b)-len(tail)), "archived log file: the seek table is not that of its frames")
	}
	return nil
}

// rawLen is how many bytes frame i has when plain.
func (a *Archived) rawLen(i int) int64 { return min(a.frame, a.Size-int64(i)*a.frame) }

// seekTable appends the seek table.
func (a *Archived) seekTable(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, skipSeekTable)
	dst = le.AppendUint32(dst, uint32(8*len(a.frames)+seekFooterSize))
	for i, f := range a.frames {
		dst = le.AppendUint32(le.AppendUint32(dst, f.n), uint32(a.rawLen(i)))
	}
	dst = append(le.AppendUint32(dst, uint32(len(a.frames))), 0)
	return le.AppendUint32(dst, seekMagic)
}

// head appends what this package knows of the file.
func (a *Archived) head(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(le.AppendUint32(dst, skipArchive), uint32(archiveHeadSize+8*len(a.frames)))
	start := len(dst)
	dst = append(dst, archiveMagic...)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, version)
	dst = le.AppendUint64(dst, uint64(a.Size))
	dst = le.AppendUint32(le.AppendUint32(dst, uint32(a.frame)), uint32(len(a.frames)))
	dst = append(dst, a.SHA256[:]...)
	for _, f := range a.frames {
		dst = le.AppendUint32(le.AppendUint32(dst, f.n), f.crc)
	}
	le.PutUint32(dst[start+8:], coding.CRC(dst[start+12:]))
	return dst
}

func (a *Archived) loadHeader() error {
	var b [HeaderSize]byte
	if _, err := a.ReadAt(b[:], 0); err != nil {
		return err
	}
	var err error
	a.Header, err = ParseHeader(b[:])
	return err
}

// ReadAt reads the log file, as io.ReaderAt does.
func (a *Archived) ReadAt(b []byte, off int64) (n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n < len(b) {
		at := off + int64(n)
		if at < 0 || at >= a.Size {
			return n, io.EOF
		}
		i := int(at / a.frame)
		if err := a.unpack(i); err != nil {
			return n, err
		}
		n += copy(b[n:], a.plain[at-int64(i)*a.frame:])
	}
	return n, nil
}

// unpack makes frame i plain; a.mu is held.
func (a *Archived) unpack(i int) error {
	if a.have == i {
		return nil
	}
	f := a.frames[i]
	a.have, a.packed = -1, append(a.packed[:0], make([]byte, f.n)...)
	if _, err := readFull(a.file, a.packed, f.at); err != nil {
		return readError(err, a.name, f.at)
	}
	if crc := coding.CRC(a.packed); crc != f.crc {
		return corruption.At(a.name, f.at, "zstd frame: crc %08x, want %08x", crc, f.crc)
	}
	var err error
	a.plain, err = a.dec.DecodeAll(a.packed, a.plain[:0])
	if err != nil || int64(len(a.plain)) != a.rawLen(i) {
		return &corruption.Error{File: a.name, Offset: f.at, What: fmt.Sprintf("zstd frame of %d bytes, want %d", len(a.plain), a.rawLen(i)), Err: err}
	}
	a.have = i
	return nil
}

// Verify reads every byte and checks it. pace, if not nil, is called with the bytes of each step.
func (a *Archived) Verify(ctx context.Context, pace func(bytes int64) error) error {
	h, b := sha256.New(), make([]byte, a.frame)
	for at := int64(0); at < a.Size; at += a.frame {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := b[:min(a.frame, a.Size-at)]
		if _, err := a.ReadAt(part, at); err != nil {
			return err
		}
		h.Write(part)
		if pace != nil {
			if err := pace(int64(len(part))); err != nil {
				return err
			}
		}
	}
	if sum := [32]byte(h.Sum(nil)); sum != a.SHA256 {
		return corruption.At(a.name, 0, "archived log file: SHA-256 %x, want %x", sum, a.SHA256)
	}
	return nil
}

// Close closes the file.
func (a *Archived) Close() error {
	a.dec.Close()
	return a.file.Close()
}

// WriteArchived copies a sealed log file, packed, to a name that is not taken, durably but for the directory. What it says of
// the file is checked by whoever reads it back: see Archived.Verify. pace is called with the bytes of each step.
func WriteArchived(fsys vfs.FS, logFile, name string, pace func(bytes int64) error) (err error) {
	src, err := fsys.Open(logFile)
	if err != nil {
		return fmt.Errorf("archive log file: %w", err)
	}
	defer src.Close() // only read from
	a := &Archived{frame: archiveFrame}
	if a.Size, err = src.Size(); err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithWindowSize(archiveFrame))
	if err != nil {
		return err
	}
	defer enc.Close()
	if a.file, err = fsys.Create(name); err != nil {
		return fmt.Errorf("archive log file: %w", err)
	}
	defer func() {
		if err = errors.Join(err, a.file.Close()); err != nil {
			_ = fsys.Remove(name) // what stays is replaced
		}
	}()
	at := int64(0)
	h, plain := sha256.New(), make([]byte, archiveFrame)
	for off := int64(0); off < a.Size; off += archiveFrame {
		part := plain[:min(archiveFrame, a.Size-off)]
		if _, err := readFull(src, part, off); err != nil {
			return fmt.Errorf("archive log file: %w", err)
		}
		h.Write(part)
		a.packed = enc.EncodeAll(part, a.packed[:0])
		if _, err := a.file.WriteAt(a.packed, at); err != nil {
			return fmt.Errorf("archive log file: %w", err)
		}
		a.frames = append(a.frames, archivedFrame{at: at, n: uint32(len(a.packed)), crc: coding.CRC(a.packed)})
		at += int64(len(a.packed))
		if err := pace(int64(len(part))); err != nil {
			return err
		}
	}
	a.SHA256 = [32]byte(h.Sum(nil))
	if _, err := a.file.WriteAt(a.seekTable(a.head(nil)), at); err != nil {
		return fmt.Errorf("archive log file: %w", err)
	}
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("archive log file: %w", err)
	}
	return nil
}

// ArchivedName is the name of a log file in an archive.
func ArchivedName(logFile string) string { return logFile + ".zst" }
