//go:build !linux

package main

import "time"

// cpuTime is only known on Linux.
func cpuTime() time.Duration { return 0 }

// fileSystem is only known on Linux.
func fileSystem(string) string { return "unknown file system" }
