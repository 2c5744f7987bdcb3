package pacer

import (
	"sync/atomic"
	"unsafe"
)

// stripes is a counter that many goroutines raise without waiting for each other's cache line.
type stripes [64]struct {
	n atomic.Int64
	_ [120]byte
}

// add raises the stripe that the address of the calling goroutine's stack picks.
func (s *stripes) add(n int64) {
	var b byte
	x := uint64(uintptr(unsafe.Pointer(&b)) >> 11)
	s[x*0x9e3779b97f4a7c15>>58].n.Add(n)
}

func (s *stripes) sum() (n int64) {
	for i := range s {
		n += s[i].n.Load()
	}
	return n
}
