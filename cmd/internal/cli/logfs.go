package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// packedSuffix ends the names of archived log files.
var packedSuffix = wal.ArchivedName("")

// logFS shows log files that lie elsewhere, packed ones too, as if they were in one folder. That folder is only read; everything
// else is that of the file system below. Reads of log files end with the context.
type logFS struct {
	vfs.FS
	ctx    context.Context
	wal    string     // the folder
	layers []logLayer // a file is read from the first one that has it

	mu    sync.Mutex       // guards the field below
	sizes map[string]int64 // of packed files when plain, by path
}

// logLayer is a folder of log files.
type logLayer struct {
	fs  vfs.FS
	dir string
	// frozen, if not nil, are the only files that count, and how much of them.
	frozen map[string]int64
}

func newLogFS(ctx context.Context, below vfs.FS, folder string, layers ...logLayer) *logFS {
	return &logFS{FS: below, ctx: ctx, wal: folder, layers: layers, sizes: map[string]int64{}}
}

// logName is the name of a log file that another name, maybe of a packed one, stands for.
func logName(name string) (string, bool) {
	name = strings.TrimSuffix(name, packedSuffix)
	_, _, ok := wal.ParseFileName(name)
	return name, ok
}

// isLog says whether a path is that of a log file in the folder, and which.
func (f *logFS) isLog(name string) (string, bool) {
	base := path.Base(name)
	_, _, ok := wal.ParseFileName(base)
	return base, ok && path.Dir(name) == f.wal
}

func (f *logFS) within(name string) bool { return path.Dir(name) == f.wal }

// Open opens a file, log files for reading only.
func (f *logFS) Open(name string) (vfs.File, error) {
	base, ok := f.isLog(name)
	if !ok {
		return f.FS.Open(name)
	}
	for i := range f.layers {
		file, err := f.layers[i].open(f, base)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (l *logLayer) open(f *logFS, base string) (vfs.File, error) {
	limit := int64(-1)
	if l.frozen != nil {
		var ok bool
		if limit, ok = l.frozen[base]; !ok {
			return nil, fs.ErrNotExist
		}
	}
	full := path.Join(l.dir, base)
	file, err := l.fs.Open(full)
	if err == nil {
		return &logFile{File: file, ctx: f.ctx, limit: limit}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	packed, err := wal.OpenArchived(l.fs, full+packedSuffix, full+packedSuffix)
	if err != nil {
		return nil, err
	}
	return &logFile{File: &packedFile{packed}, ctx: f.ctx, limit: limit}, nil
}

// List lists a directory.
func (f *logFS) List(dir string) ([]string, error) {
	if path.Clean(dir) != f.wal {
		return f.FS.List(dir)
	}
	var names []string
	for _, l := range f.layers {
		in, err := l.fs.List(l.dir)
		if err != nil {
			return nil, err
		}
		for _, name := range in {
			name, ok := logName(name)
			if _, is := l.frozen[name]; ok && (l.frozen == nil || is) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Stat describes a file or directory.
func (f *logFS) Stat(name string) (vfs.Info, error) {
	base, ok := f.isLog(name)
	switch {
	case path.Clean(name) == f.wal:
		return vfs.Info{Dir: true}, nil
	case !ok:
		return f.FS.Stat(name)
	}
	for i := range f.layers {
		l := &f.layers[i]
		size, err := f.sizeIn(l, path.Join(l.dir, base))
		if limit, ok := l.frozen[base]; err == nil && l.frozen != nil {
			if size = min(size, limit); !ok {
				err = fs.ErrNotExist
			}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return vfs.Info{Size: size}, err
		}
	}
	return vfs.Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// sizeIn is the size of a log file in a layer; full is its path if it is plain.
func (f *logFS) sizeIn(l *logLayer, full string) (int64, error) {
	info, err := l.fs.Stat(full)
	if !errors.Is(err, fs.ErrNotExist) {
		return info.Size, err
	}
	full += packedSuffix
	f.mu.Lock()
	defer f.mu.Unlock()
	if size, ok := f.sizes[full]; ok {
		return size, nil
	}
	a, err := wal.OpenArchived(l.fs, full, full)
	if err != nil {
		return 0, err
	}
	f.sizes[full] = a.Size
	return a.Size, a.Close()
}

func (f *logFS) denied(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission}
}

// Create creates a file elsewhere.
func (f *logFS) Create(name string) (vfs.File, error) {
	if f.within(name) {
		return nil, f.denied("create", name)
	}
	return f.FS.Create(name)
}

// OpenRW opens a file elsewhere, or a log file, which takes no change.
func (f *logFS) OpenRW(name string) (vfs.File, error) {
	if _, is := f.isLog(name); is {
		return f.Open(name)
	}
	if f.within(name) {
		return nil, f.denied("open", name)
	}
	return f.FS.OpenRW(name)
}

// Remove removes a file elsewhere.
func (f *logFS) Remove(name string) error {
	if _, is := f.isLog(name); is {
		return f.denied("remove", name)
	}
	return f.FS.Remove(name)
}

// Rename moves a file elsewhere.
func (f *logFS) Rename(old, name string) error {
	if f.within(old) || f.within(name) {
		return f.denied("rename", old)
	}
	return f.FS.Rename(old, name)
}

// Link gives a file elsewhere a second name.
func (f *logFS) Link(old, name string) error {
	if f.within(old) || f.within(name) {
		return f.denied("link", old)
	}
	return f.FS.Link(old, name)
}

// logFile is an open log file, which nobody here writes to.
type logFile struct {
	vfs.File
	ctx   context.Context
	limit int64 // only so many bytes count, -1 = all
}

func (l *logFile) ReadAt(b []byte, off int64) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	if l.limit < 0 || off+int64(len(b)) <= l.limit {
		return l.File.ReadAt(b, off)
	}
	n, err := l.File.ReadAt(b[:max(l.limit-off, 0)], off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

func (l *logFile) Size() (int64, error) {
	size, err := l.File.Size()
	if l.limit >= 0 {
		size = min(size, l.limit)
	}
	return size, err
}

// WriteAt writes nothing, and so takes only what is there already: see vfs.WriteAgain.
func (l *logFile) WriteAt(b []byte, off int64) (int, error) {
	have := make([]byte, len(b))
	n, err := l.ReadAt(have, off)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if !bytes.Equal(have[:n], b) {
		return 0, fs.ErrPermission
	}
	return len(b), nil
}

func (l *logFile) Truncate(int64) error { return fs.ErrPermission }
func (l *logFile) Sync() error          { return nil }
func (l *logFile) SyncData() error      { return nil }

// packedFile is an archived log file as a file that is only read.
type packedFile struct{ *wal.Archived }

func (p *packedFile) Size() (int64, error)               { return p.Archived.Size, nil }
func (p *packedFile) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrPermission }
func (p *packedFile) Truncate(int64) error               { return fs.ErrPermission }
func (p *packedFile) Sync() error                        { return nil }
func (p *packedFile) SyncData() error                    { return nil }
