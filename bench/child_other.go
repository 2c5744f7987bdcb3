//go:build !linux

package main

import "syscall"

// dieWithParent is known on Linux only.
func dieWithParent() *syscall.SysProcAttr { return nil }
