//go:build !linux

package work

import (
	"errors"
	"os"
	"time"
)

var errNotLinux = errors.New("measured on Linux only")

// CPUTime is not known here.
func CPUTime() time.Duration { return 0 }

func deviceOf(string) (major, minor uint32, err error) { return 0, 0, errNotLinux }

// FreeBytes is the room left on the disk of dir for an ordinary user.
func FreeBytes(string) (int64, error) { return 0, errNotLinux }

func syncData(f *os.File) error { return f.Sync() }
