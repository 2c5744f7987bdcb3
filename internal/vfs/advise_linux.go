package vfs

import "golang.org/x/sys/unix"

// AdviseRandom tells the system that reads of f mostly begin somewhere else than the last one ended, so that it should read
// no more than is asked for. It is a hint: where the system or f does not take it, nothing happens.
func AdviseRandom(f File) { advise(f, 0, 0, unix.FADV_RANDOM) }

// Prefetch asks the system to read n bytes of f from off on in the background. It is a hint as AdviseRandom is.
func Prefetch(f File, off, n int64) { advise(f, off, n, unix.FADV_WILLNEED) }

// WriteBehind has the system begin to write n bytes of f from off on to the device, so that a later Sync has little left, and those of
// other files in between don't wait for all of it. It makes nothing durable, and is a hint as AdviseRandom is.
func WriteBehind(f File, off, n int64) {
	of, ok := f.(*osFile)
	if !ok {
		return
	}
	_ = of.raw.Control(func(fd uintptr) { // an error leaves things as they are
		_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func advise(f File, off, n int64, advice int) {
	of, ok := f.(*osFile)
	if !ok {
		return
	}
	_ = of.raw.Control(func(fd uintptr) { // an error leaves things as they are
		_ = unix.Fadvise(int(fd), off, n, advice)
	})
}
