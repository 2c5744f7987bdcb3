package wal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// maxOpenFiles bounds the log files that Files keeps open.
const maxOpenFiles = 64

// Files reads single pieces of log files, keeping the files open, and of the value files that stand in for those that were
// dropped. Safe for concurrent use.
type Files struct {
	fs  vfs.FS
	dir string

	// Renew is called when a file is missing, and may call Drop and Move: another process may have dropped it since. If it
	// returns true, the read is tried again. nil = nobody else drops files, or redacts: else log files are opened for each read, as one
	// without a value may have taken the name. Set it before the first read.
	Renew func() bool

	mu    sync.Mutex // guards the fields below; held while a file is opened, not while it is read
	files map[uint64]*openFile
	infos map[uint64]FileInfo
	tick  int64
	done  bool
	// oldest is the sequence below which files were dropped.
	oldest uint64
	values []ValueInfo // the newest last
}

// ValueInfo names a value file.
type ValueInfo struct {
	Num      uint64 // larger = newer
	Path     string
	Name     string // relative to the database directory
	From, To uint64 // the log files that it stands in for
}

// ErrDropped is returned for what lies in a log file that was dropped on purpose.
var ErrDropped = errors.New("wal: the log file was dropped")

// ErrRedacted is returned for a data frame that was redacted. Of a large value nothing is left then, of a spilled batch all but one value.
var ErrRedacted = errors.New("wal: the data frame was redacted")

// openFile is closed when it is dropped from the map and nobody reads it.
type openFile struct {
	vfs.File
	name    string
	head    Header
	values  *ValueFile // of a value file
	used    int64
	readers int
	dropped bool
}

// OpenFiles returns the reader of the log files in dir. It opens none.
func OpenFiles(fsys vfs.FS, dir string) *Files {
	return &Files{fs: fsys, dir: dir, files: map[uint64]*openFile{}, infos: map[uint64]FileInfo{}}
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
	if f.Renew == nil {
		if of := f.open(seq); of != nil {
			return of, nil
		}
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
			return nil, &corruption.Error{File: fmt.Sprintf("wal/%010d-*.log", seq), What: "the file is missing", Err: fs.ErrNotExist}
		}
	}
	file, head, err := openHeader(f.fs, f.dir, info)
	if err != nil {
		return nil, err
	}
	of := &openFile{File: file, name: "wal/" + info.Name, head: head}
	if f.Renew != nil {
		of.readers, of.dropped = 1, true // for this read
		return of, nil
	}
	return f.keep(seq, of), nil
}

// valueKey is what a value file is kept open under.
func valueKey(num uint64) uint64 { return 1<<63 | num }

// getValues opens a value file.
func (f *Files) getValues(info *ValueInfo) (*openFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil, ErrClosed
	}
	key := valueKey(info.Num)
	if of := f.open(key); of != nil {
		return of, nil
	}
	v, err := OpenValueFile(f.fs, info.Path, info.Name)
	if errors.Is(err, fs.ErrNotExist) {
		if !slices.ContainsFunc(f.values, func(i ValueInfo) bool { return i.Num == info.Num }) {
			return nil, fmt.Errorf("%w: log file %d, and %s with it", ErrDropped, info.From, info.Name)
		}
		return nil, &corruption.Error{File: info.Name, What: "the file is missing", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return f.keep(key, &openFile{File: v.file, name: info.Name, values: v}), nil
}

// open returns a file that is open for one more reader; f.mu is held.
func (f *Files) open(key uint64) *openFile {
	f.tick++
	of := f.files[key]
	if of != nil {
		of.used = f.tick
		of.readers++
	}
	return of
}

// keep keeps a file open, for one reader at first; f.mu is held.
func (f *Files) keep(key uint64, of *openFile) *openFile {
	of.used, of.readers = f.tick, 1
	if len(f.files) >= maxOpenFiles {
		var oldest uint64
		for s, o := range f.files {
			if oldest == 0 || o.used < f.files[oldest].used {
				oldest = s
			}
		}
		f.drop(oldest)
	}
	f.files[key] = of
	return of
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

// Move has pieces of files that were dropped read from the value files given, and from no others.
func (f *Files) Move(values []ValueInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values = slices.SortedFunc(slices.Values(values), func(a, b ValueInfo) int { return cmp.Compare(a.Num, b.Num) })
	for key := range f.files {
		if key>>63 > 0 && !slices.ContainsFunc(f.values, func(i ValueInfo) bool { return valueKey(i.Num) == key }) {
			f.drop(key) // only read from: nothing can be lost
		}
	}
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

// ReadPiece fills b with the body of the data frame at pos, whose CRC must be crc, wherever that body lies now. With ErrRedacted, b has
// what is left of it.
func (f *Files) ReadPiece(b []byte, pos Position, crc uint32) error {
	err := f.readBody(b, pos, crc)
	if f.Renew != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDropped)) && f.Renew() {
		err = f.readBody(b, pos, crc)
	}
	return err
}

// ReadSpilled returns a piece of a spilled batch, also if a value in it was redacted.
func (f *Files) ReadSpilled(p event.Piece) ([]byte, error) {
	b := make([]byte, p.StoredLen) // at most 1 MiB
	err := f.ReadPiece(b, Position{File: p.File, Offset: int64(p.Offset)}, p.CRC)
	if errors.Is(err, ErrRedacted) {
		err = nil
	}
	return b, err
}

func (f *Files) readBody(b []byte, pos Position, crc uint32) error {
	name, at := f.Name(pos.File), pos.Offset
	err := f.ReadAt(b, Position{File: pos.File, Offset: at + FrameHeaderSize})
	if errors.Is(err, ErrDropped) {
		name, at, err = f.readMoved(b, pos, err)
	}
	if err != nil {
		return err
	}
	if have := BodyCRC(b); have != crc {
		if f.redacted(pos, b) {
			return ErrRedacted
		}
		return &corruption.Error{File: name, Offset: at, What: fmt.Sprintf("data frame: crc %08x, want %08x", have, crc)}
	}
	return nil
}

// redacted says whether b is the body of a data frame that is not what it was, since it was redacted.
func (f *Files) redacted(pos Position, b []byte) bool {
	of, err := f.get(pos.File)
	if err != nil {
		return false
	}
	defer f.put(of)
	frame, err := ReadFrameAt(of, &of.head, of.name, pos.Offset)
	return err == nil && frame.Kind == KindData && frame.Flags&FrameRedacted != 0 && bytes.Equal(frame.Body, b)
}

// readMoved is ReadPiece of a file that was dropped, without the CRC, and says where the piece lies now. missing is the error
// if no value file has it.
func (f *Files) readMoved(b []byte, pos Position, missing error) (name string, at int64, err error) {
	f.mu.Lock()
	values := f.values // never changed in place
	f.mu.Unlock()
	for i := len(values) - 1; i >= 0; i-- {
		if pos.File < values[i].From || pos.File > values[i].To {
			continue
		}
		of, err := f.getValues(&values[i])
		if err != nil {
			return "", 0, err
		}
		at, ok := of.values.place(pos, len(b))
		if ok {
			_, err = readFull(of, b, at)
		}
		f.put(of)
		if err != nil {
			return "", 0, readError(err, of.name, at)
		}
		if ok {
			return of.name, at, nil
		}
	}
	return "", 0, missing
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
