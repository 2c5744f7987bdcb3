//go:build !race

package offheap

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages. An error only means that there are none, so it is dropped.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
