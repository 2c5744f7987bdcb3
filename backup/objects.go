package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// Objects is a place of immutable objects: a folder, or a bucket. Names are relative paths with slashes. Safe for concurrent use.
type Objects interface {
	// Put makes an object, durably and whole or not at all. It fails with fs.ErrExist if the name is taken, durably.
	Put(ctx context.Context, name string, content io.ReaderAt, size int64) error
	// Get opens an object to read; fs.ErrNotExist if there is none.
	Get(ctx context.Context, name string) (Object, error)
	// List lists the objects whose names begin with a prefix that ends in a slash, sorted.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// Object is an open object.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// Entry is an object in a list.
type Entry struct {
	Name  string
	Bytes int64
}

// Dir is a folder of objects.
type Dir struct {
	fs     vfs.FS
	root   string
	rooted atomic.Bool // root is durable
}

// NewDir returns the objects in a folder, which Put makes if it is not there.
func NewDir(fsys vfs.FS, root string) *Dir { return &Dir{fs: fsys, root: root} }

const tempSuffix = ".tmp"

// Put makes an object: it is written and synced under a temporary name of its own, renamed, and the directories are synced. Of several
// that put one object at once, each may replace it by the same.
func (d *Dir) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	full := path.Join(d.root, name)
	if err := d.taken(full); err != nil {
		return err
	}
	if err := d.fs.MkdirAll(path.Dir(full)); err != nil {
		return err
	}
	temp := full + "." + rand.Text()[:10] + tempSuffix
	f, err := d.fs.Create(temp)
	if err != nil {
		return err
	}
	err = copyTo(ctx, f, content, size)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.fs.Rename(temp, full)
	}
	if errors.Is(err, fs.ErrNotExist) { // another one was faster, and has tidied up
		if taken := d.taken(full); taken != nil {
			return taken
		}
	}
	if err != nil {
		_ = d.fs.Remove(temp) // or the next Put does
		return err
	}
	d.tidy(full)
	return d.syncDirs(path.Dir(full))
}

// taken returns fs.ErrExist if an object is there, durably.
func (d *Dir) taken(full string) error {
	there, err := vfs.Exists(d.fs, full)
	if err == nil && there {
		err = d.syncDirs(path.Dir(full)) // one that was interrupted may not have come so far
		if err == nil {
			err = &fs.PathError{Op: "put", Path: full, Err: fs.ErrExist}
		}
	}
	return err
}

// tidy removes what interrupted calls of Put have left of an object that is there now. What can't be removed takes room, no more.
func (d *Dir) tidy(full string) {
	names, _ := d.fs.List(path.Dir(full))
	for _, name := range names {
		if strings.HasPrefix(name, path.Base(full)+".") && strings.HasSuffix(name, tempSuffix) {
			_ = d.fs.Remove(path.Join(path.Dir(full), name))
		}
	}
}

// syncDirs makes a new name durable, with the directories above it that Put may have made. One that we may not read is none of
// ours.
func (d *Dir) syncDirs(dir string) error {
	for ; ; dir = path.Dir(dir) {
		err := d.fs.SyncDir(dir)
		if errors.Is(err, fs.ErrPermission) && len(dir) < len(path.Clean(d.root)) {
			err = nil
		}
		if err != nil {
			return err
		}
		if dir == path.Dir(dir) || d.rooted.Load() && dir == path.Clean(d.root) {
			d.rooted.Store(true)
			return nil
		}
	}
}

// copyStep is how many bytes are copied at a time.
const copyStep = 256 << 10

func copyTo(ctx context.Context, f vfs.File, content io.ReaderAt, size int64) error {
	buf := make([]byte, min(size, copyStep))
	for at := int64(0); at < size; at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), size-at)]
		if n, err := content.ReadAt(part, at); n < len(part) {
			return fmt.Errorf("read at %d: %w", at, err)
		}
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
	}
	return nil
}

// Get opens an object.
func (d *Dir) Get(_ context.Context, name string) (Object, error) {
	return d.fs.Open(path.Join(d.root, name))
}

// List lists objects. Where some went while a folder was listed, what took their place may not be in the list: it is listed again.
func (d *Dir) List(ctx context.Context, prefix string) ([]Entry, error) {
	for try := 0; ; try++ {
		list, err := d.list(ctx, prefix)
		if !errors.Is(err, fs.ErrNotExist) || try == maxListTries {
			return list, err
		}
	}
}

// maxListTries bounds how often a folder is listed again.
const maxListTries = 100

func (d *Dir) list(ctx context.Context, prefix string) (list []Entry, err error) {
	names, err := d.fs.List(path.Join(d.root, prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, name := range names {
		if err != nil {
			break
		}
		if err = ctx.Err(); err != nil || strings.HasSuffix(name, tempSuffix) {
			continue
		}
		name = path.Join(prefix, name)
		var info vfs.Info
		if info, err = d.fs.Stat(path.Join(d.root, name)); err != nil {
			break
		}
		if !info.Dir {
			list = append(list, Entry{name, info.Size})
			continue
		}
		var more []Entry
		more, err = d.List(ctx, name+"/")
		list = append(list, more...)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Delete removes an object, durably.
func (d *Dir) Delete(_ context.Context, name string) error {
	full := path.Join(d.root, name)
	err := d.fs.Remove(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = d.fs.SyncDir(path.Dir(full))
	}
	return err
}
