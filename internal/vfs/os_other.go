//go:build !linux && !darwin

package vfs

import (
	"fmt"
	"io"
	"runtime"
	"syscall"
)

// OS refuses every call with ErrUnsupported: locks and syncs of this system are not known to keep DynGO's promises.
var OS FS = noFS{}

type noFS struct{}

func unsupported() error {
	return fmt.Errorf("%w: %s (DynGO runs on linux and darwin)", ErrUnsupported, runtime.GOOS)
}

func (noFS) Create(string) (File, error)                     { return nil, unsupported() }
func (noFS) Open(string) (File, error)                       { return nil, unsupported() }
func (noFS) OpenRW(string) (File, error)                     { return nil, unsupported() }
func (noFS) Remove(string) error                             { return unsupported() }
func (noFS) Rename(string, string) error                     { return unsupported() }
func (noFS) Link(string, string) error                       { return unsupported() }
func (noFS) MkdirAll(string) error                           { return unsupported() }
func (noFS) List(string) ([]string, error)                   { return nil, unsupported() }
func (noFS) Stat(string) (Info, error)                       { return Info{}, unsupported() }
func (noFS) SyncDir(string) error                            { return unsupported() }
func (noFS) Lock(string) (io.Closer, error)                  { return nil, unsupported() }
func (noFS) ReadFile(string, int64) ([]byte, error)          { return nil, unsupported() }
func (noFS) Free(string) (available, total int64, err error) { return 0, 0, unsupported() }

func privateSocket(_, _ string, _ syscall.RawConn) error { return unsupported() }
