package offheap

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// residentAround is how many bytes are in memory of the aligned pieces of ChunkBytes, as large as a huge page, in which the blocks lie.
func residentAround(blocks [][]byte) (n int64) {
	page, seen := uintptr(os.Getpagesize()), map[uintptr]bool{}
	for _, b := range blocks {
		first := uintptr(unsafe.Pointer(unsafe.SliceData(b))) &^ (ChunkBytes - 1)
		for at := first; at < first+ChunkBytes && !seen[first]; at += page {
			in := byte(0)
			if _, _, err := unix.Syscall(unix.SYS_MINCORE, at, page, uintptr(unsafe.Pointer(&in))); err == 0 && in&1 != 0 {
				n += int64(page)
			}
		}
		seen[first] = true
	}
	return n
}
