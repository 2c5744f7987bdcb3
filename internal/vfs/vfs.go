package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"
)

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Sync makes all content and attributes of the file durable.
	Sync() error

	// SyncData makes the content durable with what is needed to read it, growth of the file included: fdatasync where
	// the system has it, else the same as Sync.
	SyncData() error

	// Truncate sets the size in bytes. Bytes that it adds read as zeros.
	Truncate(size int64) error

	// Size returns the size in bytes.
	Size() (int64, error)
}

// Info describes a file or directory.
type Info struct {
	Size int64 // bytes, 0 for a directory
	Dir  bool
}

// FS is a file system. See the package comment on names, errors and durability.
type FS interface {
	// Create creates a file and opens it for reading and writing. It fails with fs.ErrExist if the name is taken.
	Create(name string) (File, error)

	// Open opens an existing file for reading only.
	Open(name string) (File, error)

	// OpenRW opens an existing file for reading and writing.
	OpenRW(name string) (File, error)

	// Remove removes a file or an empty directory.
	Remove(name string) error

	// Rename moves a file or directory, replacing a file of the new name in one step.
	Rename(oldName, newName string) error

	// Link gives an existing file a second name. It fails with fs.ErrExist if the new name is taken.
	Link(oldName, newName string) error

	// MkdirAll creates a directory with the parents it lacks; an existing directory is no error.
	MkdirAll(name string) error

	// List returns the names (not paths) in a directory, sorted.
	List(dir string) ([]string, error)

	// Stat describes a file or directory.
	Stat(name string) (Info, error)

	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error

	// Lock takes an exclusive lock on a file, which is created if need be and never removed, and writes the process id
	// into it. If another holder has it, Lock fails at once with *LockedError. Closing the result gives the lock back;
	// so does the end of the process, however it ends.
	Lock(name string) (io.Closer, error)

	// ReadFile returns the whole content of a file of at most limit bytes, or ErrTooLarge.
	ReadFile(name string, limit int64) ([]byte, error)

	// Free returns how many bytes the caller may still write to the file system that holds dir, and its size in bytes.
	Free(dir string) (available, total int64, err error)
}

var (
	// ErrNoSpace is matched by the error of a write that found the disk or the quota full.
	ErrNoSpace error = syscall.ENOSPC

	// ErrTooLarge is returned by ReadFile for a file above the limit given.
	ErrTooLarge = errors.New("file too large")

	// ErrUnsupported is returned by OS on systems where DynGO does not run.
	ErrUnsupported = errors.New("vfs: operating system not supported")
)

// IsNoSpace reports whether an error says that the disk, or what the user may have of it, is full.
func IsNoSpace(err error) bool { return errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.EDQUOT) }

// LockedError is the error of Lock when the lock is taken.
type LockedError struct {
	Name string
	PID  int // of the holder, as it wrote it; 0 if it has not yet
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lock %s: held by another process", e.Name)
	}
	return fmt.Sprintf("lock %s: held by process %d", e.Name, e.PID)
}

// Exists reports whether name is there.
func Exists(fsys FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// WriteFileSync gives the file name the content data in one step that a crash cannot split, durable on return:
//
//  1. write and sync a temporary file, name + ".tmp"; one that a crash left there is replaced,
//  2. rename it to name,
//  3. sync the directory.
//
// Concurrent calls for one name are the caller's to exclude.
func WriteFileSync(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

// Restrict leaves a directory or file to its owner alone, on a file system that has owners.
func Restrict(fsys FS, name string) error {
	if f, ok := fsys.(interface{ restrict(name string) error }); ok {
		return f.restrict(name)
	}
	return nil
}

// readAll reads a file whose size is known to the file system, within limit. The size may change between asking and
// reading: a shorter file gives what it has, a longer one is cut to the size seen.
func readAll(f File, name string, limit int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, limit)}
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// IsNoLinks reports whether the error of Link says that the file system can't give a file, or this one, a second name.
func IsNoLinks(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// copyStep is how many bytes CopyFile reads at a time.
const copyStep = 256 << 10

// CopyFile copies the first n bytes of a file, all of them if n is negative, to a name that is not taken, and syncs the copy. The
// directory is the caller's to sync. step, if not nil, is called with the bytes as they are read; its error ends the copy. After
// an error the copy is removed, if that can be.
func CopyFile(from FS, src string, to FS, dst string, n int64, step func(b []byte) error) (size int64, err error) {
	in, err := from.Open(src)
	if err != nil {
		return 0, err
	}
	defer in.Close() // only read from
	if size, err = in.Size(); err != nil {
		return 0, err
	}
	switch {
	case n > size:
		return 0, &fs.PathError{Op: "copy", Path: src, Err: fmt.Errorf("%w: %d bytes, want %d", io.ErrUnexpectedEOF, size, n)}
	case n >= 0:
		size = n
	}
	out, err := to.Create(dst)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = to.Remove(dst) // the first error is the one to tell
		}
	}()
	buf := make([]byte, min(size, copyStep))
	for at := int64(0); at < size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-at)]
		if n, err := in.ReadAt(part, at); n < len(part) {
			return 0, fmt.Errorf("read %s at %d: %w", src, at, err)
		}
		if step != nil {
			if err := step(part); err != nil {
				return 0, err
			}
		}
		if _, err := out.WriteAt(part, at); err != nil {
			return 0, err
		}
	}
	return size, out.Sync()
}
