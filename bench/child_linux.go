package main

import "syscall"

// dieWithParent makes the system kill a worker whose driver is gone.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
