//go:build linux || darwin

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Modes of what OS creates, before the umask: the owner writes, the group reads, others see nothing.
const (
	fileMode = 0o640
	dirMode  = 0o750
)

// OS is the machine's file system.
var OS FS = osFS{}

type osFS struct{}

func openOS(name string, flag int) (*osFile, error) {
	f, err := os.OpenFile(name, flag, fileMode)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close() // the first error is the one to tell
		return nil, err
	}
	return &osFile{File: f, raw: raw}, nil
}

// asFile keeps a nil *osFile from becoming a File that is not nil.
func asFile(f *osFile, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Create(name string) (File, error) {
	return asFile(openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL))
}

func (osFS) Open(name string) (File, error)   { return asFile(openOS(name, os.O_RDONLY)) }
func (osFS) OpenRW(name string) (File, error) { return asFile(openOS(name, os.O_RDWR)) }

func (osFS) Remove(name string) error             { return os.Remove(name) }
func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }
func (osFS) Link(oldName, newName string) error   { return os.Link(oldName, newName) }
func (osFS) MkdirAll(name string) error           { return os.MkdirAll(name, dirMode) }

func (osFS) restrict(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if info.IsDir() {
		mode = 0o700
	}
	return os.Chmod(name, mode)
}

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Stat(name string) (Info, error) {
	st, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	if st.IsDir() {
		return Info{Dir: true}, nil
	}
	return Info{Size: st.Size()}, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := openOS(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading: nothing to lose
	return readAll(f, name, limit)
}

func (osFS) Free(dir string) (available, total int64, err error) {
	var st syscall.Statfs_t
	if err := ignoringEINTR(func() error { return syscall.Statfs(dir, &st) }); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := int64(st.Bsize) // the types differ between systems
	return int64(st.Bavail) * block, int64(st.Blocks) * block, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	err = ignoringEINTR(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err == nil {
		// A process id of another file system's lock is a hint for a human, it need not survive a power cut.
		_, err = f.WriteAt([]byte(padRight(strconv.Itoa(os.Getpid())+"\n", pidBytes)), 0)
		if err == nil {
			return &osLock{f}, nil
		}
	} else if errors.Is(err, syscall.EWOULDBLOCK) {
		var b [pidBytes]byte
		n, _ := f.ReadAt(b[:], 0) // what cannot be read is an unknown pid, not another error
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		err = &LockedError{Name: name, PID: pid}
	} else {
		err = &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	_ = f.Close() // the first error is the one to tell
	return nil, err
}

// osLock holds a flock, which belongs to the open file and ends when it is closed.
type osLock struct{ f *os.File }

func (l *osLock) Close() error {
	// Blank the pid first, so that nobody reads ours after the lock has gone to a holder that has not written its own.
	_, err := l.f.WriteAt([]byte(padRight("\n", pidBytes)), 0)
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	return err
}

// osFile is an *os.File with SyncData and Size.
type osFile struct {
	*os.File
	raw syscall.RawConn // keeps the descriptor from being closed and reused during a call
}

func (f *osFile) SyncData() error {
	c := syncCalls.Get().(*syncCall)
	defer syncCalls.Put(c)
	c.err = nil
	err := f.raw.Control(c.run)
	if err == nil {
		err = c.err
	}
	if err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// syncCall is one fdatasync, kept with its function so that a commit allocates nothing for it.
type syncCall struct {
	err error
	run func(fd uintptr)
}

var syncCalls = sync.Pool{New: func() any {
	c := &syncCall{}
	c.run = func(fd uintptr) {
		c.err = ignoringEINTR(func() error { return fdatasync(int(fd)) })
	}
	return c
}}

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

// privateSocket makes a socket private before it has a name. Where the system does not know that, the mode set after
// binding has to do.
func privateSocket(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}
