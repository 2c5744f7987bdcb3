//go:build !unix

package segment

func cpuTime() int64 { return 0 }
