package vfs

import "strings"

// pidBytes is the fixed size of a lock file's content, so that writing a pid over another needs no truncation, between
// which and the write a reader would find nothing.
const pidBytes = 20

func padRight(s string, n int) string { return s + strings.Repeat(" ", max(0, n-len(s))) }
