package vfs

import (
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
)

// blockSize is the unit of storage in memory, and the unit in which the crash file system loses writes.
const blockSize = 4096

type block [blockSize]byte

// zeroBlock is what a hole reads as. Never written.
var zeroBlock block

// blockRef is one block of a file. A block is changed in place only while gen is the file's own: blocks of an earlier
// generation are shared with what is durable or with a clone.
type blockRef struct {
	data *block // nil is a hole
	gen  uint64
}

// fileData is the content of a file.
type fileData struct {
	mu     sync.RWMutex // guards all below
	size   int64        // bytes; blocks behind it are zero
	blocks []blockRef
	gen    uint64

	unsynced unsynced // see durable.go
}

func (d *fileData) init() { d.gen = 1 }

func (d *fileData) currentSize() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.size
}

// at returns the content of block i, for reading.
func (d *fileData) at(i int64) *block {
	if i >= int64(len(d.blocks)) || d.blocks[i].data == nil {
		return &zeroBlock
	}
	return d.blocks[i].data
}

// mutable returns block i for writing, growing the file's block list to it. mu is held.
func (d *fileData) mutable(i int64) *block {
	for int64(len(d.blocks)) <= i {
		d.blocks = append(d.blocks, blockRef{})
	}
	ref := &d.blocks[i]
	switch {
	case ref.data == nil:
		*ref = blockRef{new(block), d.gen}
	case ref.gen != d.gen:
		c := *ref.data
		*ref = blockRef{&c, d.gen}
	}
	return ref.data
}

// freeze makes all blocks copied before they change again. mu is held.
func (d *fileData) freeze() { d.gen++ }

// memFile is an open file of a memFS.
type memFile struct {
	fs       *memFS
	ino      *inode
	name     string
	writable bool
	closed   atomic.Bool
}

func (f *memFile) fail(op string, err error) error { return pathError(op, f.name, err) }

// usable reports why a call cannot go ahead.
func (f *memFile) usable(write bool) error {
	switch {
	case f.closed.Load():
		return fs.ErrClosed
	case write && !f.writable:
		return syscall.EBADF
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.usable(false); err != nil {
		return 0, f.fail("read", err)
	}
	if err := f.fs.gate.read(); err != nil {
		return 0, f.fail("read", err)
	}
	if off < 0 {
		return 0, f.fail("read", syscall.EINVAL)
	}
	d := &f.ino.file
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := 0
	for n < len(p) && off < d.size {
		within := off % blockSize
		m := min(int64(len(p)-n), blockSize-within, d.size-off)
		copy(p[n:], d.at(off / blockSize)[within:within+m])
		n += int(m)
		off += m
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.usable(true); err != nil {
		return 0, f.fail("write", err)
	}
	if off < 0 {
		return 0, f.fail("write", syscall.EINVAL)
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	last, err := f.fs.gate.mutation()
	if err != nil {
		return 0, f.fail("write", err)
	}
	d := &f.ino.file
	d.mu.Lock()
	defer d.mu.Unlock()
	if last != nil { // the kill or the power cut comes in the middle
		p = p[:f.fs.cutWrite(f.ino, len(p))]
	}
	n := 0
	for n < len(p) {
		i, within := off/blockSize, off%blockSize
		f.fs.beforeWrite(f.ino, i)
		m := copy(d.mutable(i)[within:], p[n:])
		n += m
		off += int64(m)
	}
	if n > 0 && off > d.size {
		f.fs.beforeResize(f.ino)
		d.size = off
	}
	return n, f.fail("write", last)
}

func (f *memFile) Truncate(size int64) error {
	if err := f.usable(true); err != nil {
		return f.fail("truncate", err)
	}
	if size < 0 {
		return f.fail("truncate", syscall.EINVAL)
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	last, err := f.fs.gate.mutation()
	if err != nil {
		return f.fail("truncate", err)
	}
	d := &f.ino.file
	d.mu.Lock()
	defer d.mu.Unlock()
	if size == d.size {
		return f.fail("truncate", last)
	}
	f.fs.beforeResize(f.ino)
	if size < d.size {
		keep := (size + blockSize - 1) / blockSize
		for i := keep; i < int64(len(d.blocks)); i++ {
			f.fs.beforeWrite(f.ino, i)
		}
		if within := size % blockSize; within != 0 && keep <= int64(len(d.blocks)) {
			f.fs.beforeWrite(f.ino, keep-1)
			clear(d.mutable(keep - 1)[within:])
		}
		if keep < int64(len(d.blocks)) {
			clear(d.blocks[keep:])
			d.blocks = d.blocks[:keep]
		}
	}
	d.size = size
	return f.fail("truncate", last)
}

func (f *memFile) Sync() error     { return f.fail("sync", f.sync(true)) }
func (f *memFile) SyncData() error { return f.fail("syncdata", f.sync(false)) }

func (f *memFile) sync(attributes bool) error {
	if err := f.usable(false); err != nil {
		return err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	last, err := f.fs.gate.mutation()
	if err != nil {
		return err
	}
	if last != nil {
		return last // a call that the crash catches has synced nothing
	}
	f.fs.makeFileDurable(f.ino, attributes)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.usable(false); err != nil {
		return 0, f.fail("size", err)
	}
	if err := f.fs.gate.read(); err != nil {
		return 0, f.fail("size", err)
	}
	return f.ino.file.currentSize(), nil
}

func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	return nil
}
