// Package backup keeps copies of a store in a place of immutable objects: full once, then only what is new.
//
// A backup that List tells of was whole and durable when it was made: its manifest is put last. Each object has the SHA-256 of its
// content in its name, so one that is damaged or cut off is found, and files that several backups have are there once. The package
// makes no promise of compatibility to Go code; the objects below are read by every later version.
//
// A backup is made from the folder of a snapshot, which does not change meanwhile; so making one holds nobody up. FS shows a
// backup as the folder that it was made from, to read: what restores a snapshot restores a backup. Follow archives the log behind
// a backup as it grows.
//
// # Objects
//
// Objects is what a place has to do: put if absent, get, list, delete. Dir is one in a folder. Names are paths with slashes:
//
//	files/<first two digits>/<SHA-256, 64 hexadecimal digits>   a file of a store, as it is
//	backups/<id>-<SHA-256>.json                                 a manifest: what a backup consists of
//	log/1/…                                                     the log behind a backup, see below
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
// # The log behind a backup
//
// Follow archives how the log goes on behind a backup: the log file that grows in parts, and whole when it is sealed. What is of one
// log file is in a folder of its own; log and timeline are 32 hexadecimal digits, the file is named as in the store:
//
//	log/1/<log>/<timeline>/<file>/<from>-<to>-<lsn>-<time>-<chain>-<SHA-256>            bytes [from, to) of the file
//	log/1/<log>/<timeline>/<file>/ended-<to>-<lsn>-<time>-<chain>-<SHA-256>             the file ends at to; this object is empty
//	log/1/<log>/<timeline>/<file>/sealed-<to>-<lsn>-<time>-<chain>-<file>-<SHA-256>     the file is an object; this one is empty
//
// with
//
//	1        form of what is below; another is unsupported
//	from     20 decimal digits; so have to and lsn
//	lsn      of the last event whose commit ends in the file up to to; one less than the file's first LSN if there is none
//	time     its log time, written like an id; of no event, that when the file was made
//	chain    original CRC of the frame that ends at to, 8 hexadecimal digits; 0 for a part that ends within a commit
//	file     SHA-256 of the log file up to to, which is an object in files/
//	SHA-256  of the name up to here, with the last dash, and the content
//
// A part has 4 MiB at most. Parts of a file may overlap: where two have the same bytes, they are the same. To append them in order
// gives the log file, and the object has the same bytes but for what was redacted meanwhile. The record that it has ended comes
// when its parts are all there, and that it is sealed, when the file is there; then its parts go, as small parts go when one that spans them is there. So who has listed parts and finds one gone lists them again.
//
// The chain of a backup begins in the log file that the backup ends with, from its beginning, and goes on with the files behind it as
// far as each is whole, since a record says so or a later backup has it with the file behind it, and the next one's first LSN
// follows. With it the backup can be restored to each LSN up to the last one of the chain. What was archived behind that is of no
// use, so something is missing, and List says so. A manifest does not know of chains: one that an older version has made has one too.
//
// # Crash points
//
// Files are put first, then the manifest: an interrupted backup leaves files that no manifest names. The next one goes on with
// them. Expire deletes manifests before files, so what is left is whole. Parts of the log are put in order, so what is there of a
// chain is its beginning. Of a log file that has ended, its object is put first, then the record, then the parts go; Expire deletes
// those that a crash has left, and Follow goes on with a file that has only parts.
//
// # Downsides
//
// Files are not packed or encrypted. Two that back up into one place at once may each put a file that the other puts too; Expire
// must not run beside Create. It may run beside Follow, which puts what nothing else refers to. What an interrupted Create or Expire has
// left of files stays until a backup that has them expires. What is followed is put twice, in parts and as a file. An event that is
// durable and followed by nothing is archived when the log says that it is durable: with the next commit, or the watermark within
// 100 ms; of a killed process, when the next one writes. Two copies of a store's folder that go on, each for itself, need places of
// their own: they have one log and timeline. Where they are told apart, the second one is refused.
package backup
