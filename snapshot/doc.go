// Package snapshot is the state of a store at one LSN, kept under a name: a folder that is itself a store.
//
// A snapshot that has its name is whole and durable: it is made under another name, and renamed when everything in it is on
// disk. It shares its files with the store by hard links, so it takes no room until the store gives its own names of them up.
// Nothing is ever written to a shared file: log files before the newest, segments and value files don't change. The package
// makes no promise of compatibility to Go code; the files below are read by every later version.
//
// # Files
//
// The snapshots of a store are the folders in its directory snapshots. A name has 1 to 128 letters, digits, dots, dashes and
// underscores and begins with a letter or digit; what begins with ".tmp-" is on its way in or out, and counts for nothing. A
// folder holds
//
//	wal/       the log files from the oldest that the manifest needs to the one with the LSN: hard links, or copies where
//	           the file system has none. Then the beginning of the next log file, copied: its header, which states where
//	           the one before ends, and its dictionary. CLEAN, which says that the log ends behind that.
//	segments/  segments, history segments and value files of one version of the manifest: as the log files
//	manifest/  one file that begins with that version
//	integrity/ the tree over the log, if the store keeps one: the full files are links, the last one is copied up to a frame
//	           before the LSN; see package integrity
//	SNAPSHOT   see below
//
// So the folder opens read-only as any store that was closed, and Verify checks it. It must not be written to, since a store that
// grew out of it would have LSNs that mean something else in the store that it is of: package dyngo refuses to where SNAPSHOT is.
// SNAPSHOT is written after all but the tree; without it a folder is no snapshot.
//
// Integers are little-endian, CRC is CRC-32C (Castagnoli).
//
//	offset  size  field
//	     0     8  magic       "DYNGOSNP"
//	     8     4  crc         of bytes [12, 128)
//	    12     4  version     1; the 16 bytes up to here are the same in all versions
//	    16    16  log id
//	    32    16  timeline    that the LSN belongs to
//	    48     8  LSN         of the state
//	    56     8  time        log time of the state, i64, Unix nanoseconds: not before that of the LSN
//	    64     8  created     wall time, i64, Unix nanoseconds
//	    72     8  files       in the other folders
//	    80     8  bytes       of these files
//	    88    40  zero
//
// A folder that Restore is making into a store holds the same bytes as RESTORE, of the state that it is to have, from before
// the first of the store's files is there until after the last one is: with it, the folder is no store. And a store that is
// being set back holds them as RECOVER, of the state that it had, from before its files move aside until the new ones are there.
//
// # Example
//
// The snapshot of LSN 9 of log 01 01 … in timeline 02 02 …, with 3 files of 12288 bytes:
//
//	44 59 4e 47 4f 53 4e 50                           magic
//	a0 8f 37 d5                                       crc
//	01 00 00 00                                       version 1
//	01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01   log id
//	02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02   timeline
//	09 00 00 00 00 00 00 00                           LSN 9
//	00 00 2a 36 fe 9c 97 17                           time 1700000000000000000
//	00 00 2a 36 fe 9c 97 17                           created at the same time
//	03 00 00 00 00 00 00 00                           3 files
//	00 30 00 00 00 00 00 00                           12288 bytes
//	00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00   zero
//	00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//	00 00 00 00 00 00 00 00
//
// # Crash points
//
//  1. folders and links or copies are made under the name .tmp-<name>; the copies are synced
//  2. the directories are synced, with CLEAN and the manifest; SNAPSHOT is written
//  3. the folder gets its name, and the directory snapshots is synced
//
// A crash before 3 leaves a folder that counts for nothing; the next owner removes it. A snapshot that is dropped gets the
// temporary name first, durably, then its files are removed.
//
// # Downsides
//
// Where files are shared, damage to one is damage to the store and to its snapshots: a snapshot is no backup. Copies take the
// room of the whole store, and time.
package snapshot
