package wal

import (
	"errors"
	"fmt"
	"sync"

	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// maxOpenFiles bounds the log files that Files keeps open.
const maxOpenFiles = 64

// Files reads single pieces of log files, keeping the files open. Safe for concurrent use.
type Files struct {
	fs  vfs.FS
	dir string

	mu    sync.Mutex // guards the fields below; held while a file is opened, not while it is read
	files map[uint64]*openFile
	infos map[uint64]FileInfo
	tick  int64
	done  bool
	// oldest is the sequence below which files were dropped.
	oldest uint64
}

// ErrDropped is returned for what lies in a log file that was dropped on purpose.
var ErrDropped = errors.New("wal: the log file was dropped")

// openFile is closed when it is dropped from the map and nobody reads it.
type openFile struct {
	vfs.File
	name    string
	head    Header
	used    int64
	readers int
	dropped bool
}

// OpenFiles returns the reader of the log files in dir. It opens none.
func OpenFiles(fs vfs.FS, dir string) *Files {
	return &Files{fs: fs, dir: dir, files: map[uint64]*openFile{}, infos: map[uint64]FileInfo{}}
}

// Name is the file's name relative to the store's directory, for messages.
func (f *Files) Name(seq uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i, ok := f.infos[seq]; ok {
		return "wal/" + i.Name
	}
	return fmt.Sprintf("wal/%010d-*.log", seq)
}

func (f *Files) get(seq uint64) (*openFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil, ErrClosed
	}
	if seq < f.oldest {
		return nil, fmt.Errorf("%w: file %d", ErrDropped, seq)
	}
	f.tick++
	if of := f.files[seq]; of != nil {
		of.used = f.tick
		of.readers++
		return of, nil
	}
	info, ok := f.infos[seq]
	if !ok {
		infos, err := ListFiles(f.fs, f.dir)
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			f.infos[i.Seq] = i
		}
		if info, ok = f.infos[seq]; !ok {
			return nil, &corruption.Error{File: fmt.Sprintf("wal/%010d-*.log", seq), What: "the file is missing"}
		}
	}
	file, head, err := openHeader(f.fs, f.dir, info)
	if err != nil {
		return nil, err
	}
	of := &openFile{File: file, name: "wal/" + info.Name, head: head, used: f.tick, readers: 1}
	if len(f.files) >= maxOpenFiles {
		var oldest uint64
		for s, o := range f.files {
			if oldest == 0 || o.used < f.files[oldest].used {
				oldest = s
			}
		}
		f.drop(oldest)
	}
	f.files[seq] = of
	return of, nil
}

// drop forgets a file; f.mu is held.
func (f *Files) drop(seq uint64) error {
	of := f.files[seq]
	delete(f.files, seq)
	of.dropped = true
	if of.readers == 0 {
		return of.Close()
	}
	return nil
}

// Drop has reads of files before oldest return ErrDropped.
func (f *Files) Drop(oldest uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.oldest = max(f.oldest, oldest)
}

// Forget closes a file that was removed: its space comes back with the last read of it.
func (f *Files) Forget(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.infos, seq)
	if f.files[seq] != nil {
		f.drop(seq) // only read from: nothing can be lost
	}
}

func (f *Files) put(of *openFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if of.readers--; of.readers == 0 && of.dropped {
		of.Close() // only read from: nothing can be lost
	}
}

// ReadAt fills b from a position. What it reads is the caller's to check.
func (f *Files) ReadAt(b []byte, pos Position) error {
	of, err := f.get(pos.File)
	if err != nil {
		return err
	}
	defer f.put(of)
	if _, err := readFull(of, b, pos.Offset); err != nil {
		return readError(err, of.name, pos.Offset)
	}
	return nil
}

// ReadPiece fills b with the body of the data frame at pos, whose CRC must be crc.
func (f *Files) ReadPiece(b []byte, pos Position, crc uint32) error {
	body := Position{File: pos.File, Offset: pos.Offset + FrameHeaderSize}
	if err := f.ReadAt(b, body); err != nil {
		return err
	}
	if have := BodyCRC(b); have != crc {
		return &corruption.Error{File: f.Name(pos.File), Offset: pos.Offset, What: fmt.Sprintf("data frame: crc %08x, want %08x", have, crc)}
	}
	return nil
}

// Close closes the files. Reads in progress must have ended.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = true
	var errs []error
	for s := range f.files {
		errs = append(errs, f.drop(s))
	}
	return errors.Join(errs...)
}
