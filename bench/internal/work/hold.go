package work

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A store that is eight times as large as memory is measured under a limit for the process and its page
// cache together. Where the system can enforce that (a memory cgroup, which the driver makes), it does.
// Elsewhere the worker itself holds the page cache of its store: every few milliseconds it asks how much
// of the files is cached, and drops pieces at random until that and the process's own memory are within
// the limit, mapped pieces too, so that an engine that maps its files gets no more than the others. A
// random victim serves a little worse than the system's, the same for every engine.

const (
	holdEvery  = 5 * time.Millisecond
	holdFiles  = 200 * time.Millisecond // between two looks for new files
	holdPiece  = 1 << 20
	minHold    = 4 << 20 // of page cache that is left in any case
	holdSlack  = 50      // a fiftieth of the limit is dropped beyond it, so that it lasts a while
	holdRounds = 4096    // pieces dropped before the next look
)

// holderCPU is the processor time that holding took in this process, in nanoseconds.
var holderCPU atomic.Int64

// anonPeak is the most memory of its own that the holder saw this process have.
var anonPeak atomic.Int64

// overLimit says so if the process alone took more than the limit of s while the holder looked.
func overLimit(s Spec) []string {
	if peak := anonPeak.Load(); s.MemoryLimit > 0 && peak > s.MemoryLimit {
		return []string{fmt.Sprintf("the process alone took up to %d MiB, more than the limit of %d MiB for it and its "+
			"page cache; a cgroup would have ended it", peak>>20, s.MemoryLimit>>20)}
	}
	return nil
}

// limitMemory puts the memory limit of s into force and tells what keeps it; release ends it.
func limitMemory(s Spec) (kept string, release func()) {
	mib := s.MemoryLimit >> 20
	switch {
	case s.MemoryLimit == 0:
		return "", func() {}
	case s.Grouped:
		return fmt.Sprintf("a memory cgroup of %d MiB for the process and its page cache", mib), func() {}
	}
	release, err := holdCache(s.Dir, s.MemoryLimit)
	if err != nil {
		return fmt.Sprintf("nothing but the engine's own settings: %v", err), func() {}
	}
	return fmt.Sprintf("the worker, which drops page cache of the store so that it and the process take %d MiB", mib), release
}

// storeFiles lists the files in and below dir. Those that go while it looks are left out.
func storeFiles(dir string) []string {
	var names []string
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return nil
	})
	return names
}
