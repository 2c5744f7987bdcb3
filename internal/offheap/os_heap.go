//go:build !unix || race

package offheap

import (
	"fmt"
	"sync"
	"unsafe"
)

// regions keeps the Go memory behind each block alive, by the block's address.
var regions struct {
	sync.Mutex
	byAddr map[uintptr][]uint64
}

// osAlloc takes 2 MiB more than asked for and returns the aligned part.
func osAlloc(size int, _ bool) unsafe.Pointer {
	b := make([]uint64, (size+ChunkBytes)/8)
	p := unsafe.Pointer(unsafe.SliceData(b))
	p = unsafe.Add(p, -uintptr(p)&(ChunkBytes-1))
	regions.Lock()
	defer regions.Unlock()
	if regions.byAddr == nil {
		regions.byAddr = make(map[uintptr][]uint64)
	}
	regions.byAddr[uintptr(p)] = b
	return p
}

func osFree(p unsafe.Pointer, size int) {
	regions.Lock()
	defer regions.Unlock()
	if regions.byAddr[uintptr(p)] == nil {
		panic(fmt.Sprintf("dyngo: bug: offheap: free of %d bytes at %#x, which were not given out", size, uintptr(p)))
	}
	delete(regions.byAddr, uintptr(p))
}

// poison overwrites freed memory: under the race detector a late reader becomes a reported race, elsewhere it reads
// nonsense that checks notice. Copies double what is there: the detector looks at each as a whole, not at each byte.
func poison(b []byte) {
	b[0] = 0xdb
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}
