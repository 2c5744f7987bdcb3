package vfs

import "golang.org/x/sys/unix"

// AdviseRandom tells the system that reads of f mostly begin somewhere else than the last one ended, so that it should read
// no more than is asked for. It is a hint: where the system or f does not take it, nothing happens.
func AdviseRandom(f File) { advise(f, 0, 0, unix.FADV_RANDOM) }

// Prefetch asks the system to read n bytes of f from off on in the background. It is a hint as AdviseRandom is.
func Prefetch(f File, off, n int64) { advise(f, off, n, unix.FADV_WILLNEED) }

func advise(f File, off, n int64, advice int) {
	of, ok := f.(*osFile)
	if !ok {
		return
	}
	_ = of.raw.Control(func(fd uintptr) { // an error leaves things as they are
		_ = unix.Fadvise(int(fd), off, n, advice)
	})
}
