// Package vfs is the only way from DynGO to files. It promises nothing to other modules.
//
// Four file systems share one small interface:
//
//   - OS is the machine's own.
//   - NewMem keeps everything in memory.
//   - NewCrash is memory that knows what a power cut would leave: see Crash.
//   - NewFault wraps any of them, counts calls and lets chosen ones fail: see Fault.
//
// # Names
//
// Names are slash-separated paths on every system. OS takes them as the process would (absolute, or relative to its
// working directory); the file systems in memory have one root, so "a/b" and "/a/b" are the same file there.
//
// # Errors
//
// Errors match io/fs.ErrNotExist, io/fs.ErrExist and the like through errors.Is; a full disk matches ErrNoSpace. No
// call creates anything unless its name says so: Create, Link, Rename, MkdirAll and Lock.
//
// # Durability
//
// Bytes written are durable after Sync or SyncData of their file. SyncData covers growth of the file too, but not a
// shrinking Truncate. A directory entry (Create, Link, Rename, Remove, a new directory) is durable after SyncDir of the
// directory that holds it, and syncing a file does not make its entry durable. That is less than most file systems
// give and what POSIX gives; the crash file system takes away everything else.
//
// # Concurrency
//
// An FS and its Files may be used by many goroutines at once. Close of a File must be its last call.
package vfs
