//go:build !linux

package offheap

// residentAround is 0: the system is not asked.
func residentAround([][]byte) int64 { return 0 }
