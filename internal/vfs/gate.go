package vfs

import (
	"errors"
	"sync"
	"sync/atomic"
)

// ErrCrashed is returned by every call on a Crash that was frozen.
var ErrCrashed = errors.New("vfs: crashed")

// gate counts the calls that change a memFS and closes for good at a chosen one.
type gate struct {
	calls  atomic.Int64 // mutating calls let through
	at     atomic.Int64 // number of the call to crash at, 0 = none
	frozen atomic.Bool
	once   sync.Once
	done   chan struct{} // closed when frozen; nil where there is no freezing
}

func (g *gate) read() error {
	if g.frozen.Load() {
		return ErrCrashed
	}
	return nil
}

// mutation counts a call. It fails if the gate is closed. At the chosen call it closes the gate and returns ErrCrashed
// as last: the call may still take effect, in part or in full, and must return last.
func (g *gate) mutation() (last, err error) {
	if g.frozen.Load() {
		return nil, ErrCrashed
	}
	n := g.calls.Add(1)
	if at := g.at.Load(); at != 0 && n >= at {
		if n > at {
			return nil, ErrCrashed
		}
		g.freeze()
		return ErrCrashed, nil
	}
	return nil, nil
}

func (g *gate) freeze() {
	g.once.Do(func() {
		g.frozen.Store(true)
		if g.done != nil {
			close(g.done)
		}
	})
}
