package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// ListenUnix listens on a Unix socket that only the current user may connect to, replacing one that a dead process left.
// The caller knows that no live process serves it. The socket is removed when the listener is closed.
func ListenUnix(name string) (net.Listener, error) {
	const longest = 103 // of sun_path on every Unix, without the closing zero
	if len(name) > longest {
		return nil, fmt.Errorf("socket path of %d bytes, at most %d are possible; use a shorter directory", len(name), longest)
	}
	if info, err := os.Lstat(name); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, &fs.PathError{Op: "listen", Path: name, Err: errors.New("exists and is no socket")}
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{Control: privateSocket}
	l, err := config.Listen(context.Background(), "unix", name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
