package vfs

import (
	"io"
	"io/fs"
	"sync/atomic"
)

// faultFile is an open file of a Fault.
type faultFile struct {
	fs     *Fault
	file   File
	name   string
	usage  *usage
	closed atomic.Bool
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	c := Call{Op: OpRead, Name: f.name, Off: off, Len: len(p)}
	v := f.fs.judge(&c)
	var n int
	var err error
	switch {
	case v.fail && v.kind == FailShort:
		if n, err = f.file.ReadAt(p[:len(p)/2], off); err == nil {
			err = pathError("read", f.name, v.err)
		}
	case v.fail:
		err = pathError("read", f.name, v.err)
	default:
		n, err = f.file.ReadAt(p, off)
	}
	var told error
	if err != io.EOF {
		told = err
	}
	f.fs.done(&c, v, told)
	return n, err
}

// WriteAt writes what a plan and the quota allow. Like a disk it gives space away block by block, so a write that
// does not fit leaves its first blocks.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	c := Call{Op: OpWrite, Name: f.name, Off: off, Len: len(p)}
	v := f.fs.judge(&c)
	allowed, stop := len(p), error(nil)
	if v.fail {
		stop = v.err
		switch v.kind {
		case FailShort, FailNoSpace:
			allowed = len(p) / 2
		case FailAfter:
		default:
			allowed = 0
		}
	}
	if fits := f.fs.reserve(f.usage, off, allowed); fits < allowed {
		allowed, stop = fits, ErrNoSpace
	}
	var n int
	var err error
	if allowed > 0 || stop == nil {
		n, err = f.file.WriteAt(p[:allowed], off)
	}
	if err == nil {
		err = pathError("write", f.name, stop)
	}
	f.fs.done(&c, v, err)
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	return f.fs.do(Call{Op: OpTruncate, Name: f.name, Off: size}, func() error {
		return f.fs.thenAccount(f.file.Truncate(size), func(s *space) { s.truncated(f.usage, size) })
	}, nil)
}

func (f *faultFile) Sync() error {
	return f.fs.do(Call{Op: OpSync, Name: f.name}, f.file.Sync, f.syncFailed)
}

func (f *faultFile) SyncData() error {
	return f.fs.do(Call{Op: OpSyncData, Name: f.name}, f.file.SyncData, f.syncFailed)
}

// syncFailed lets the file below do what systems do after a failed sync, if it knows how.
func (f *faultFile) syncFailed() {
	if below, ok := f.file.(interface{ syncFailed() }); ok {
		below.syncFailed()
	}
}

func (f *faultFile) Size() (size int64, err error) {
	err = f.fs.do(Call{Op: OpSize, Name: f.name}, func() (err error) {
		size, err = f.file.Size()
		return err
	}, nil)
	return size, err
}

// Close closes the file even when it is planned to fail, as closing does.
func (f *faultFile) Close() error {
	if f.closed.Swap(true) {
		return pathError("close", f.name, fs.ErrClosed)
	}
	var closed error
	called := false
	closing := func() error {
		called = true
		closed = f.file.Close()
		f.fs.mu.Lock()
		delete(f.fs.mu.open, f)
		f.fs.mu.Unlock()
		return f.fs.thenAccount(closed, func(s *space) { s.closed(f.usage) })
	}
	err := f.fs.do(Call{Op: OpClose, Name: f.name}, closing, nil)
	if !called {
		_ = closing() // the planned error is the one to tell
	}
	return err
}
