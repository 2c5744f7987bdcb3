//go:build !unix

package memtable

func cpuTime() int64 { return 0 }
