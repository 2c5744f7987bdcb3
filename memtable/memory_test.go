package memtable

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/dyngodb/dyngo/internal/offheap"
)

var memoryFlag = flag.Int("memorykeys", 200_000, "keys of TestMemoryPerKey; the goal is stated for 10000000")

// TestMemoryPerKey checks that all that is not the tail itself takes at most 64 bytes a key, after each key was
// overwritten once: by the allocator's account, and by what the system says where it says so.
func TestMemoryPerKey(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own: run without -race")
	}
	const limit = 64
	keys := *memoryFlag
	f := newFixture(t)
	defer f.close()
	rssBefore := residentBytes()
	key, value := make([]byte, 16), make([]byte, 8)
	fill := func() {
		for i := range uint64(keys) {
			binary.BigEndian.PutUint64(key[8:], i*0x9e3779b97f4a7c15)
			f.insert(1, 1, key, value)
		}
	}
	fill()
	fill()
	check := func(what string) {
		f.d.Synchronize()
		runtime.GC()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		m := f.t.Metrics()
		rest := offheap.InUse() - f.start - f.a.Bytes() + int64(ms.HeapAlloc)
		// Of the tail, the end of the last chunk and the spare one may not be resident.
		rss := residentBytes() - rssBefore - f.a.Bytes()
		t.Logf("%s: %d keys: index %.1f B/key, runs %.1f B/key, all but the tail %.1f B/key, resident %.1f B/key",
			what, keys, perKey(m.IndexBytes, keys), perKey(m.RunBytes, keys), perKey(rest, keys), perKey(rss, keys))
		if got := perKey(rest, keys); got > limit {
			t.Errorf("%s: %.1f bytes a key, want at most %d", what, got, limit)
		}
		if got := perKey(rss, keys); keys >= 1_000_000 && rss > 0 && got > limit {
			t.Errorf("%s: %.1f resident bytes a key, want at most %d", what, got, limit)
		}
	}
	check("by key")
	f.t.EnableOrder(1)
	check("in order")
}

func perKey(n int64, keys int) float64 { return float64(n) / float64(keys) }

// residentBytes returns the process's resident memory, 0 if the system does not say.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
