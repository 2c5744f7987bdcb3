package work

import (
	"os"
	"syscall"
	"time"
)

// CPUTime is the processor time of this process, user and system, of all its threads.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// deviceOf returns the numbers of the block device that holds dir.
func deviceOf(dir string) (major, minor uint32, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return 0, 0, err
	}
	d := st.Dev
	return uint32(d>>8&0xfff | d>>32&^0xfff), uint32(d&0xff | d>>12&^0xff), nil
}

// FreeBytes is the room left on the disk of dir for an ordinary user.
func FreeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
