package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// NewMem returns an empty file system in memory. Its syncs do nothing.
func NewMem() FS { return newMem() }

// memFS is a tree of inodes. With track set it also knows what is durable, see durable.go.
//
// Lock order: memFS.mu, inode.mu.
type memFS struct {
	track bool
	seed  uint64

	mu struct {
		sync.RWMutex // guards the fields below and all directories; held for reading while file content changes

		root    *inode
		nextID  uint64
		locks   map[*inode]bool
		pending []dirOp // changes of directories that are not durable, oldest first
	}

	gate gate
}

// inode is a file or a directory.
type inode struct {
	id uint64 // the same in a clone

	// Directory. Guarded by memFS.mu.
	entries        map[string]*inode // nil for a file
	durableEntries map[string]*inode // what a power cut leaves for sure
	changes        uint64            // of entries so far, to draw from

	file fileData
}

func (n *inode) isDir() bool { return n.entries != nil }

func newMem() *memFS {
	m := &memFS{}
	m.mu.locks = map[*inode]bool{}
	m.mu.root = m.newInode(true)
	return m
}

// newInode needs mu held (or m unshared).
func (m *memFS) newInode(dir bool) *inode {
	m.mu.nextID++
	n := &inode{id: m.mu.nextID}
	if dir {
		n.entries = map[string]*inode{}
		n.durableEntries = map[string]*inode{}
	} else {
		n.file.init()
	}
	return n
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// split returns the parts of a name below the root.
func split(name string) []string {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return nil
	}
	return strings.Split(clean[1:], "/")
}

// find returns the inode of a name. mu is held.
func (m *memFS) find(name string) (*inode, error) {
	n := m.mu.root
	for _, part := range split(name) {
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.entries[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// findParent returns the directory that holds a name, and the name's last part. mu is held.
func (m *memFS) findParent(name string) (*inode, string, error) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return nil, "", syscall.EINVAL
	}
	dir, err := m.find(path.Dir(clean))
	if err != nil {
		return nil, "", err
	}
	if !dir.isDir() {
		return nil, "", syscall.ENOTDIR
	}
	return dir, path.Base(clean), nil
}

func (m *memFS) Create(name string) (File, error) {
	f, err := m.create(name)
	if err != nil {
		return nil, pathError("create", name, err)
	}
	return f, nil
}

func (m *memFS) create(name string) (*memFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, err := m.gate.mutation()
	if err != nil {
		return nil, err
	}
	dir, base, err := m.findParent(name)
	if err != nil {
		return nil, err
	}
	if _, ok := dir.entries[base]; ok {
		return nil, fs.ErrExist
	}
	n := m.newInode(false)
	m.changeDir(dir, setEntry{dir, base, n})
	return m.handle(n, name, true), last
}

func (m *memFS) handle(n *inode, name string, writable bool) *memFile {
	return &memFile{fs: m, ino: n, name: name, writable: writable}
}

func (m *memFS) Open(name string) (File, error)   { return m.open(name, false) }
func (m *memFS) OpenRW(name string) (File, error) { return m.open(name, true) }

func (m *memFS) open(name string, writable bool) (File, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.findChecked(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if n.isDir() {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return m.handle(n, name, writable), nil
}

// findChecked is find for calls that read. mu is held.
func (m *memFS) findChecked(name string) (*inode, error) {
	if err := m.gate.read(); err != nil {
		return nil, err
	}
	return m.find(name)
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, err := m.gate.mutation()
	if err != nil {
		return pathError("remove", name, err)
	}
	dir, base, err := m.findParent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n, ok := dir.entries[base]
	switch {
	case !ok:
		return pathError("remove", name, fs.ErrNotExist)
	case n.isDir() && len(n.entries) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.changeDir(dir, setEntry{dir, base, nil})
	return pathError("remove", name, last)
}

func linkError(op, oldName, newName string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: oldName, New: newName, Err: err}
}

func (m *memFS) Rename(oldName, newName string) error {
	return linkError("rename", oldName, newName, m.rename(oldName, newName))
}

func (m *memFS) rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, err := m.gate.mutation()
	if err != nil {
		return err
	}
	oldDir, oldBase, err := m.findParent(oldName)
	if err != nil {
		return err
	}
	n, ok := oldDir.entries[oldBase]
	if !ok {
		return fs.ErrNotExist
	}
	newDir, newBase, err := m.findParent(newName)
	if err != nil {
		return err
	}
	if n.isDir() && strings.HasPrefix(path.Clean("/"+newName)+"/", path.Clean("/"+oldName)+"/") {
		return syscall.EINVAL // into itself
	}
	if target, ok := newDir.entries[newBase]; ok {
		switch {
		case target == n:
			return last // two names of one file: rename does nothing
		case target.isDir() && !n.isDir():
			return syscall.EISDIR
		case !target.isDir() && n.isDir():
			return syscall.ENOTDIR
		case target.isDir() && len(target.entries) > 0:
			return syscall.ENOTEMPTY
		}
	}
	m.changeDir(newDir, setEntry{oldDir, oldBase, nil}, setEntry{newDir, newBase, n})
	return last
}

func (m *memFS) Link(oldName, newName string) error {
	return linkError("link", oldName, newName, m.link(oldName, newName))
}

func (m *memFS) link(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, err := m.gate.mutation()
	if err != nil {
		return err
	}
	n, err := m.find(oldName)
	if err != nil {
		return err
	}
	if n.isDir() {
		return syscall.EPERM
	}
	dir, base, err := m.findParent(newName)
	if err != nil {
		return err
	}
	if _, ok := dir.entries[base]; ok {
		return fs.ErrExist
	}
	m.changeDir(dir, setEntry{dir, base, n})
	return last
}

func (m *memFS) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, err := m.gate.mutation()
	if err != nil {
		return pathError("mkdir", name, err)
	}
	dir := m.mu.root
	for _, part := range split(name) {
		next, ok := dir.entries[part]
		if !ok {
			next = m.newInode(true)
			m.changeDir(dir, setEntry{dir, part, next})
		}
		if !next.isDir() {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		dir = next
	}
	return pathError("mkdir", name, last)
}

func (m *memFS) List(dir string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.findChecked(dir)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("list", dir, err)
	}
	names := make([]string, 0, len(n.entries))
	for name := range n.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (m *memFS) Stat(name string) (Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.findChecked(name)
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	if n.isDir() {
		return Info{Dir: true}, nil
	}
	return Info{Size: n.file.currentSize()}, nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, err := m.gate.mutation()
	if err == nil {
		err = last // a call that the crash catches has synced nothing
	}
	if err != nil {
		return pathError("syncdir", dir, err)
	}
	n, err := m.find(dir)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("syncdir", dir, err)
	}
	m.makeEntriesDurable(n)
	return nil
}

func (m *memFS) Lock(name string) (io.Closer, error) {
	f, err := m.create(name)
	if errors.Is(err, fs.ErrExist) {
		var file File
		if file, err = m.open(name, true); err != nil {
			return nil, err
		}
		f = file.(*memFile)
	} else if err != nil {
		return nil, pathError("lock", name, err)
	}
	m.mu.Lock()
	held := m.mu.locks[f.ino]
	m.mu.locks[f.ino] = true
	m.mu.Unlock()
	if held {
		return nil, &LockedError{Name: name, PID: os.Getpid()}
	}
	if _, err := f.WriteAt([]byte(padRight(strconv.Itoa(os.Getpid())+"\n", pidBytes)), 0); err != nil {
		_ = (&memLock{f}).Close() // the first error is the one to tell
		return nil, err
	}
	return &memLock{f}, nil
}

type memLock struct{ f *memFile }

func (l *memLock) Close() error {
	m := l.f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mu.locks[l.f.ino] {
		return pathError("unlock", l.f.name, fs.ErrClosed)
	}
	delete(m.mu.locks, l.f.ino)
	return nil
}

func (m *memFS) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := m.Open(name)
	if err != nil {
		return nil, err
	}
	return readAll(f, name, limit)
}

// memSpace is what a file system in memory says it has: more than anybody fills, small enough to add to.
const memSpace = 1 << 50

func (m *memFS) Free(dir string) (available, total int64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.findChecked(dir); err != nil {
		return 0, 0, pathError("statfs", dir, err)
	}
	return memSpace, memSpace, nil
}
