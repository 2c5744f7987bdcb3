//go:build !linux

package vfs

// AdviseRandom does nothing on this system.
func AdviseRandom(File) {}

// Prefetch does nothing on this system.
func Prefetch(File, int64, int64) {}

// WriteBehind does nothing on this system.
func WriteBehind(File, int64, int64) {}
