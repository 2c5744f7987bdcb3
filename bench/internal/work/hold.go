package work

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
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
	holdPiece  = 2 << 20                // the largest folio: one that is not wholly in a piece stays
	minHold    = 4 << 20                // of page cache that is left in any case
	holdSlack  = 50                     // a fiftieth of the limit is dropped beyond it, so that it lasts a while
	holdRounds = 4096                   // pieces looked at before the next look at all
	holdQueue  = 32                     // pieces that wait to be dropped

	holdDroppers = 4
)

// holderCPU is the processor time that holding took in this process, in nanoseconds.
var holderCPU atomic.Int64

// held is what the holder saw: bytes of memory of the process's own and of its store's page cache.
type held struct {
	mu sync.Mutex // guards the fields below

	looks, anon, cached float64 // sums
	peak                int64   // of the process alone
}

var heldSoFar held

func (h *held) add(anon, cached int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
	h.anon += float64(anon)
	h.cached += float64(cached)
	h.peak = max(h.peak, anon)
}

// overHeld is how far the average of process and page cache may lie above the limit: what is just being
// read can't be dropped.
const overHeld = 1.25

// take tells what was held since the last call, and notes what broke the limit of s.
func (h *held) take(s Spec) (anon, cached float64, notes []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.looks == 0 {
		return 0, 0, nil
	}
	anon, cached = h.anon/h.looks, h.cached/h.looks
	limit := float64(s.MemoryLimit)
	if float64(h.peak) > limit {
		notes = append(notes, fmt.Sprintf("the process alone took up to %d MiB, more than the limit of %d MiB for it and its "+
			"page cache; a cgroup would have ended it", h.peak>>20, s.MemoryLimit>>20))
	}
	if anon+cached > overHeld*limit {
		notes = append(notes, fmt.Sprintf("process and page cache took %.0f + %.0f MiB on average, the limit of %d MiB was not "+
			"held: worth nothing beside others", anon/(1<<20), cached/(1<<20), s.MemoryLimit>>20))
	}
	h.looks, h.anon, h.cached, h.peak = 0, 0, 0, 0
	return anon, cached, notes
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
