package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// FS shows a backup as the folder that it was made from, the root of a file system that is only read. Calls that would change
// something fail with fs.ErrPermission.
func FS(ctx context.Context, from Objects, b *Backup) vfs.FS { return &view{ctx, from, b} }

type view struct {
	ctx  context.Context
	from Objects
	b    *Backup
}

func denied(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission} }

func missing(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (v *view) find(name string) *File {
	i, ok := slices.BinarySearchFunc(v.b.Files, clean(name), func(f File, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return nil
	}
	return &v.b.Files[i]
}

// Sum is the SHA-256 of a file, nil if there is none of the name.
func (v *view) Sum(name string) *[sha256.Size]byte {
	f := v.find(name)
	if f == nil {
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
	for _, f := range v.b.Files {
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
