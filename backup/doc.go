// Package backup keeps copies of a store in a place of immutable objects: full once, then only what is new.
//
// A backup that List tells of was whole and durable when it was made: its manifest is put last. Each object has the SHA-256 of its
// content in its name, so one that is damaged or cut off is found, and files that several backups have are there once. The package
// makes no promise of compatibility to Go code; the objects below are read by every later version.
//
// A backup is made from the folder of a snapshot, which does not change meanwhile; so making one holds nobody up. FS shows a
// backup as the folder that it was made from, to read: what restores a snapshot restores a backup.
//
// # Objects
//
// Objects is what a place has to do: put if absent, get, list, delete. Dir is one in a folder. Names are paths with slashes:
//
//	files/<first two digits>/<SHA-256, 64 hexadecimal digits>   a file of a store, as it is
//	backups/<id>-<SHA-256>.json                                 a manifest: what a backup consists of
//
// An id is the wall time of the backup, in UTC, as 20261128T213000.123456789Z, so manifests are listed in the order of time. A
// manifest is a JSON object:
//
//	format     1; another is unsupported
//	id         as in the name
//	log        id of the log, 32 hexadecimal digits
//	timeline   the same of the timeline
//	seed       the same of the hash seed in the store's manifest: with another one, numbers of segments mean others
//	floor      LSN up to which history is gone: 0, or what retention has dropped
//	lsn        of the state
//	time       log time of the state, RFC 3339 in UTC
//	files      in the order of their names:
//	  name     relative to the store's folder
//	  bytes    of the file
//	  sha256   of the file, 64 hexadecimal digits
//
// Other fields are passed over. A backup can be restored to each LSN from floor to lsn. Between two backups of a timeline there is
// a gap if the later floor is above the earlier lsn: the states between can't be restored.
//
// # Crash points
//
// Files are put first, then the manifest: an interrupted backup leaves files that no manifest names. The next one goes on with
// them. Expire deletes manifests before files, so what is left is whole.
//
// # Downsides
//
// Files are not packed or encrypted. Two that back up into one place at once may each put a file that the other puts too; Expire
// must not run beside them.
package backup
