package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// FS shows a backup as the folder that it was made from, the root of a file system that is only read. Calls that would change
// something fail with fs.ErrPermission. If the log was followed behind the backup, the folder's log goes on as far as that.
func FS(ctx context.Context, from Objects, b *Backup) vfs.FS {
	v := &view{ctx: ctx, from: from, files: b.Files, parts: map[string]*logFile{}}
	if len(b.chain) == 0 {
		return v
	}
	// The newest log file went on, and so CLEAN holds no more.
	newest := b.Files[b.newestLog()].Name
	v.files = slices.DeleteFunc(slices.Clone(b.Files), func(f File) bool { return f.Name == newest || f.Name == "wal/"+wal.CleanName })
	for i := range b.chain {
		f := &b.chain[i]
		v.files = append(v.files, *f.of())
		if f.sealed == "" {
			v.parts["wal/"+f.file] = f
		}
	}
	slices.SortFunc(v.files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return v
}

type view struct {
	ctx   context.Context
	from  Objects
	files []File              // by name
	parts map[string]*logFile // of the log file that has no object of its own
}

func denied(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission} }

func missing(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (v *view) find(name string) *File {
	i, ok := slices.BinarySearchFunc(v.files, clean(name), func(f File, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return nil
	}
	return &v.files[i]
}

// Sum is the SHA-256 of a file, nil if there is none of the name, or if it consists of parts: each is held against its own.
func (v *view) Sum(name string) *[sha256.Size]byte {
	f := v.find(name)
	if f == nil || f.SHA256 == "" {
		return nil
	}
	b, err := hex.DecodeString(f.SHA256)
	if err != nil || len(b) != sha256.Size { // it was checked when the manifest was read
		panic("dyngo: bug: SHA-256 " + f.SHA256)
	}
	return (*[sha256.Size]byte)(b)
}

func (v *view) Open(name string) (vfs.File, error) {
	f := v.find(name)
	if f == nil {
		return nil, missing("open", name)
	}
	if parts := v.parts[f.Name]; parts != nil {
		return &viewFile{newPartsFile(v.ctx, v.from, parts), name}, nil
	}
	o, err := v.from.Get(v.ctx, f.object())
	if errors.Is(err, fs.ErrNotExist) { // which must not look as if the store had no such file
		return nil, corruption.At(f.object(), 0, "the object, which is %s of the backup, is missing", f.Name)
	}
	if err != nil {
		return nil, err
	}
	return &viewFile{o, name}, nil
}

func (v *view) Stat(name string) (vfs.Info, error) {
	if f := v.find(name); f != nil {
		return vfs.Info{Size: f.Bytes}, nil
	}
	if names, err := v.List(name); err != nil || len(names) == 0 {
		return vfs.Info{}, missing("stat", name)
	}
	return vfs.Info{Dir: true}, nil
}

func (v *view) List(dir string) (names []string, err error) {
	prefix := clean(dir)
	if prefix != "" {
		prefix += "/"
	}
	for _, f := range v.files {
		if rest, ok := strings.CutPrefix(f.Name, prefix); ok {
			name, _, _ := strings.Cut(rest, "/")
			if n := len(names); n == 0 || names[n-1] != name {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, missing("list", dir)
	}
	return names, nil
}

func (v *view) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := v.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	size, err := f.Size()
	if err == nil && size > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: vfs.ErrTooLarge}
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

func (v *view) Create(name string) (vfs.File, error) { return nil, denied("create", name) }
func (v *view) OpenRW(name string) (vfs.File, error) { return nil, denied("open", name) }
func (v *view) Remove(name string) error             { return denied("remove", name) }
func (v *view) Rename(name, _ string) error          { return denied("rename", name) }
func (v *view) Link(name, _ string) error            { return denied("link", name) }
func (v *view) MkdirAll(name string) error           { return denied("mkdir", name) }
func (v *view) SyncDir(name string) error            { return denied("sync", name) }
func (v *view) Lock(name string) (io.Closer, error)  { return nil, denied("lock", name) }
func (v *view) Free(string) (int64, int64, error)    { return 0, 0, nil }

// viewFile is an open file of a backup.
type viewFile struct {
	Object
	name string
}

func (f *viewFile) WriteAt([]byte, int64) (int, error) { return 0, denied("write", f.name) }
func (f *viewFile) Truncate(int64) error               { return denied("truncate", f.name) }
func (f *viewFile) Sync() error                        { return denied("sync", f.name) }
func (f *viewFile) SyncData() error                    { return denied("sync", f.name) }

// partsFile reads a log file that consists of parts. Each part is read whole and checked; one stays in memory.
type partsFile struct {
	ctx  context.Context
	from Objects
	file *logFile

	mu    sync.Mutex // guards the fields below; held during I/O
	parts []piece
	have  piece // whose content is in bytes; to is 0 before the first
	bytes []byte
}

func newPartsFile(ctx context.Context, from Objects, file *logFile) *partsFile {
	return &partsFile{ctx: ctx, from: from, file: file, parts: slices.DeleteFunc(slices.Clone(file.parts), func(p piece) bool { return p.ended })}
}

func (f *partsFile) Size() (int64, error) { return f.file.to, nil }

func (f *partsFile) Close() error { return nil }

func (f *partsFile) ReadAt(b []byte, off int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(b) {
		at := off + int64(n)
		if at >= f.file.to {
			return n, io.EOF
		}
		if at < f.have.from || at >= f.have.to {
			if err := f.load(at); err != nil {
				return n, err
			}
		}
		n += copy(b[n:], f.bytes[at-f.have.from:])
	}
	return n, nil
}

// load reads the part that a place lies in. Who archives the log puts small parts together to large ones, and these to a file: what
// has gone meanwhile is looked for again.
func (f *partsFile) load(at int64) error {
	i := slices.IndexFunc(f.parts, func(p piece) bool { return p.from <= at && at < p.to })
	b, err := f.parts[i].content(f.ctx, f.from)
	if err == nil {
		f.have, f.bytes = f.parts[i], b
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	gone := corruption.At(f.parts[i].name, 0, "the object, which is a part of %s of the backup, is missing", f.file.file)
	now, _, err := listPieces(f.ctx, f.from, f.file.folder())
	if err != nil {
		return err
	}
	for _, p := range now {
		if p.sealed != "" && p.to > at {
			return f.loadSealed(&p, at)
		}
	}
	j := slices.IndexFunc(now, func(p piece) bool { return !p.record() && p.from <= at && at < p.to })
	if j < 0 {
		return gone
	}
	if b, err = now[j].content(f.ctx, f.from); err != nil {
		return gone
	}
	f.have, f.bytes = now[j], b
	return nil
}

// loadSealed reads as much as a part may have from the whole file. It was checked when it was put; who reads it, checks each frame.
func (f *partsFile) loadSealed(p *piece, at int64) error {
	o, err := f.from.Get(f.ctx, p.of().object())
	if err != nil {
		return corruption.At(p.of().object(), 0, "the object, which is %s of the backup, can't be read: %v", p.file, err)
	}
	defer o.Close() // only read from
	b := make([]byte, min(p.to-at, maxPiece))
	if n, err := o.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read %s: %w", p.of().object(), err)
	}
	f.have, f.bytes = *p, b
	f.have.from, f.have.to = at, at+int64(len(b))
	return nil
}
