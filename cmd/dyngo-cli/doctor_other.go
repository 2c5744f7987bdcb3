//go:build !linux

package main

// machineMemory is not known here.
func machineMemory() int64 { return 0 }

// volatileFS knows no file systems here.
func volatileFS(string) string { return "" }
