package cache

import (
	"sync/atomic"
	"unsafe"
)

// counters counts hits and misses without making goroutines wait for each other's cache line.
type counters [16]stripe

type stripe struct {
	hits, misses atomic.Int64
	_            [112]byte
}

// stripe returns the counters of the calling goroutine, chosen by the address of its stack.
func (c *counters) stripe() *stripe {
	var b byte
	x := uint64(uintptr(unsafe.Pointer(&b)) >> 11)
	return &c[x*0x9e3779b97f4a7c15>>60]
}

func (c *counters) sum() (hits, misses int64) {
	for i := range c {
		hits += c[i].hits.Load()
		misses += c[i].misses.Load()
	}
	return hits, misses
}
