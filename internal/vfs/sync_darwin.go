package vfs

import "syscall"

// fdatasync asks the drive itself to write its cache: macOS has no cheaper call that survives a power cut, and plain
// fsync there does not.
func fdatasync(fd int) error {
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_FULLFSYNC, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
