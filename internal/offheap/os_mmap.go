//go:build unix && !race

package offheap

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// osAlloc maps size bytes (whole pages), aligned to 2 MiB: it maps 2 MiB more and gives back both ends. huge asks for huge pages.
func osAlloc(size int, huge bool) unsafe.Pointer {
	total := uintptr(size) + ChunkBytes
	p, err := unix.MmapPtr(-1, 0, nil, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Sprintf("dyngo: out of memory: mmap of %d bytes with %d in use: %v", size, InUse(), err))
	}
	head := -uintptr(p) & (ChunkBytes - 1)
	if head > 0 {
		unmap(p, head)
		p = unsafe.Add(p, head)
	}
	if rest := ChunkBytes - head; rest > 0 {
		unmap(unsafe.Add(p, size), rest)
	}
	if huge {
		adviseHuge(unsafe.Slice((*byte)(p), size))
	}
	return p
}

func osFree(p unsafe.Pointer, size int) { unmap(p, uintptr(size)) }

func unmap(p unsafe.Pointer, size uintptr) {
	if err := unix.MunmapPtr(p, size); err != nil {
		panic(fmt.Sprintf("dyngo: bug: offheap: munmap of %d bytes at %#x: %v", size, uintptr(p), err))
	}
}

func poison([]byte) {}
