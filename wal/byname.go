package wal

import (
	"fmt"
	"path"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// byName reads a log file that may get another content meanwhile: when a value is redacted, a file without it takes the name, in which
// all else has its place. So each read opens the file that has the name by then, and nobody who reads on after a redaction gets the
// value. A file that is gone is an error, fs.ErrNotExist, though who had it open could read on: it may have been redacted before.
type byName struct {
	fs   vfs.FS
	dir  string
	info FileInfo
	head Header
}

// open opens the file that has the name now, which must be the one that was read before, or that one with less in it.
func (f *byName) open() (vfs.File, error) {
	file, head, err := openHeader(f.fs, f.dir, f.info)
	if err == nil && !head.SameFile(&f.head) {
		file.Close()
		err = fmt.Errorf("%s was replaced by another file while it was read; begin again", relName(f.dir, f.info.Name))
	}
	return file, err
}

// ReadAt reads from the file as io.ReaderAt does.
func (f *byName) ReadAt(b []byte, off int64) (int, error) {
	file, err := f.open()
	if err != nil {
		return 0, err
	}
	defer file.Close() // only read from
	return file.ReadAt(b, off)
}

// Size returns the size in bytes.
func (f *byName) Size() (int64, error) {
	info, err := f.fs.Stat(path.Join(f.dir, f.info.Name))
	return info.Size, err
}
