// Package manifest knows which files form the database: the metadata of segments, the versions made of them, and the
// log of edits on disk that leads from one version to the next.
//
// Set is the version set. An edit that Apply returned from is durable, and decides what exists: a segment that no
// version has is not part of the database, however sound its bytes are. Version is immutable; whoever holds a
// reference to one keeps its files on disk. The package reads no segment, and makes no promise of compatibility to Go
// code; the files below are read by every later version.
//
// What a reader returns is sound: checksums, order and the rules below were checked. What was known to be durable and
// cannot be read is corruption, named with file and offset; what a crash tore is left out and reported; what a newer
// version wrote is event.ErrUnsupported.
//
// # The life of a Set
//
//	Open      reads; no manifest is an empty set; nothing is changed
//	Check     are all files of the version there?
//	Start     makes what was found durable, in a new file: the first change
//	Orphans   what a crash left in the directory of segments, to be removed
//	NewFileNum, NewRunID, Apply … Close
//
// There is one writer at a time: Apply holds Set.mu while it writes and syncs. Readers of versions take no lock. When
// the last reference to the last version that has a file is released, and an edit has removed the file,
// Options.Obsolete is told its number, once.
//
// # Rules
//
// Every version, read or made, keeps these. An edit that breaks one is corruption in a file and a bug in Apply.
//
//  1. A file number is used once, and is below the next file number; so are runs. Both, the flushed LSN, the floor LSN
//     and the oldest log file never fall.
//  2. The segments of a run have disjoint key ranges. Runs are ordered by id.
//  3. floor LSN ≤ flushed LSN, no segment holds an LSN above the flushed one, and none of history one above the floor.
//  4. What an edit removes or sets aside is there. A number that it removes and adds is a move: the run is an older
//     one, all else is as it was, and the file stays.
//  5. What the metadata of a file say can be: at least one entry or range delete, no more keys than entries, and so on.
//
// For each key, LSNs fall from run to run. That cannot be checked here: a merge puts its output into the oldest of
// its runs, so between two runs neither the LSN ranges of overlapping segments nor those of the runs themselves are
// ordered.
//
// # Files
//
// A manifest is a directory with files named by number, like 0000000001.man. The one with the largest number counts,
// the others are left over. A new file begins with the whole version: at Start, and when one would grow beyond four
// times its snapshot and 1 MiB. It is written and synced under the name new.tmp, renamed, and the directory is
// synced; then the older ones are removed. Other names are passed over.
//
// Integers are little-endian, CRC is CRC-32C (Castagnoli), a varint is an unsigned LEB128 number in as few bytes as
// it takes, a str is a varint length and that many bytes. Numbers on disk are never renumbered. A file is a header
// and records:
//
//	offset  size  field
//	     0     8  magic       "DYNGOMAN"
//	     8     4  crc         of bytes [12, 128)
//	    12     4  version     1; the 16 bytes up to here are the same in all versions
//	    16    16  log id      of the log that the database belongs to
//	    32     8  number      of this file, as in the name, from 1
//	    40     8  compat      feature bits: a reader may ignore those it does not know
//	    48     8  ro-compat   feature bits: who does not know one must not write
//	    56     8  incompat    feature bits: who does not know one must not read
//	    64    32  salt        random, in the checksums of the file's records
//	    96    16  hash seed   random, the same in all files of the database: for hashes on disk
//	   112     8  created     wall time, i64, Unix nanoseconds; 0 = not noted
//	   120     8  zero
//	   128        records: a snapshot, any number of edits, a mark or none
//
// Checked in this order: length, magic, crc, version (another is unsupported), incompat (unknown bits are
// unsupported), the rest.
//
// # Records
//
// A record begins at a multiple of 8. After its body it is filled up with zeros to the next one.
//
//	offset  size  field
//	     0     4  crc         of bytes [4, 24), the file's salt (32 bytes) and number (u64), the record's offset (u64)
//	     4     4  body crc    of the body with the zeros behind it
//	     8     4  length      of the body
//	    12     1  kind        1 snapshot, 2 edit, 3 mark; another is unsupported
//	    13     3  zero
//	    16     8  edits       edits since the database was made, with those in this record
//	    24     n  body        of a mark: nothing
//
// The header has a checksum of its own so that records can be found behind damage without trust in a length. It holds
// the place, so a record that is copied elsewhere never validates.
//
// The body of a snapshot or edit is a list of fields, ordered by number. A field is
//
//	tag      varint   number of the field times 2, plus 1 if a reader that does not know it must stop
//	body     str
//
// Those that a record may have more than once are marked with *, those of snapshots alone with s, those of edits
// alone with e. The tag of all but the reason is odd.
//
//	 1 *   segment added                 a segment
//	 2 *e  segment removed               number varint; it may have been set aside before, or be moved
//	 3 *e  segment set aside             number varint · reason str
//	 4 *s  segment that was set aside    reason str · a segment
//	 5 *   value file added              number varint · first log file varint · last log file varint · size varint ·
//	                                     SHA-256, 32 bytes · parts
//	 6 *e  value file removed            number varint
//	 7     flushed LSN                   varint
//	 8     floor LSN                     varint
//	 9     oldest log file               varint, not 0
//	10     next file number              varint, not 0
//	11     next run                      varint, not 0
//	12 e   reason                        text to the end, not empty
//	20 *   history segment added         a segment, of a run of its own
//	21 *e  history segment removed       number varint
//
// A segment:
//
//	number, run, size, raw bytes, bytes referred to, entries, keys, tombstones, range deletes, record times, expiries,
//	smallest LSN, largest LSN            13 varints
//	smallest time, largest time, smallest expiry, largest expiry, created   5 × i64, Unix nanoseconds
//	SHA-256                              32 bytes
//	smallest key, largest key            2 × (dataset varint · key str); zero and empty without entries
//	parts                                to the end
//
// Numbers are below 2^62, LSNs below 2^63, datasets below 2^32, keys at most 65536 bytes, texts for people at most
// 4096. Parts are like fields, with ascending numbers. A segment may have the part
//
//	2     replaced                      LSN varint of the oldest and of the newest entry that replaces an older one of
//	                                    its key; left out if none does or it is not known
//
// and a value file has none. An unknown field or part that may be
// passed over is: parts stay with their segment or value file when a new manifest file is begun, fields are dropped
// then.
//
// # How a manifest ends
//
// An edit is written and synced before the next one is begun. Then a mark is written behind it, which reaches the
// disk on Close or when the system pleases. The next edit is written over the mark, and not behind it: it could reach
// the disk before the mark does. So whatever lies behind a place was written when everything before it was durable.
// Let X be where the first record is missing or unsound, or the end of the mark.
//
//  1. X is where the snapshot should be: corruption, for it was durable before the file had its name.
//  2. Else, if a sound record header lies behind X (or at X, behind a mark), the bytes at X were durable and are
//     damaged: corruption.
//  3. Else, if nothing or only zeros lie at X and behind, the manifest ends at X.
//  4. Else the last edit or mark was torn by a crash. The manifest ends at X, and that is reported.
//
// Nobody appends to a file that he did not begin: the next owner leaves it as it is and starts a new one. In case 4,
// and in case 3 if the zeros are damage, an edit at X may have been durable if it has no mark behind it. That cannot
// be told apart here, and it is noticed when it matters: see below. A record whose checksums hold is never torn: a
// wrong kind, number or field in it is corruption. A reader without the lock reads again what looks damaged before it
// believes it, because a writer may be at work.
//
// # Crash points
//
// A flush or a merge goes through these steps; "found" is what the next owner sees after a crash behind the step.
//
//	1  Start: the manifest is durable           found: the set as it was; from here on, files without a manifest
//	                                            are corruption
//	2  segments are written and synced, and     found: orphans, which are removed; the log, or the inputs of the
//	   their directory is synced                merge, still hold everything
//	3  the edit is written, not synced          found: before or after the edit; Start makes that durable before
//	                                            Orphans tells of any file
//	4  the edit is synced, Apply returns        found: after the edit
//	5  readers leave the version before, the    found: after the edit; inputs that are still there are orphans
//	   inputs of the merge are removed
//
// Log files go after an edit that raises the floor and the oldest log file, and adds the history segments and value
// files that stand in for them, was durable: a crash between leaves log files below the oldest one, which the next owner removes. So no
// file goes before the edit that does without it is durable.
//
// If a durable edit is lost after all (its bytes decayed, and no mark tells), what was removed on its word is missed:
// a version that names a segment or value file which is not there fails Check, and a log that begins behind the
// oldest log file fails its scan. If nothing was removed yet, the version before the edit is a good one: the log or
// the inputs still hold everything, and the flush or merge is done again. A manifest that is lost as a whole leaves
// files without a manifest, which fail Check too.
//
// # Example
//
// A file of log 01 01 … with the number 3, the salt 00 to 1f and the hash seed a0 to af. Its snapshot is that of edit
// 7; edit 8 adds segment 9 as run 4, with one entry, a put of "k" in dataset 1 at LSN 5, and its mark follows.
//
//	44 59 4e 47 4f 4d 41 4e                           magic
//	c8 10 cb a1                                       crc
//	01 00 00 00                                       version 1
//	01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01   log id
//	03 00 00 00 00 00 00 00                           file 3
//	00 00 00 00 00 00 00 00                           compat
//	00 00 00 00 00 00 00 00                           ro-compat
//	00 00 00 00 00 00 00 00                           incompat
//	00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f   salt
//	10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f
//	a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af   hash seed
//	00 00 2a 36 fe 9c 97 17                           made at 1700000000000000000
//	00 00 00 00 00 00 00 00                           zero
//	67 b0 2a fb                                       snapshot: crc
//	26 be de 3a                                       body crc
//	0c 00 00 00                                       12 bytes
//	01 00 00 00                                       kind 1
//	07 00 00 00 00 00 00 00                           after 7 edits
//	0f 01 04                                          field 7: flushed LSN 4
//	11 01 00                                          field 8: floor LSN 0
//	15 01 09                                          field 10: file 9 is next
//	17 01 04                                          field 11: run 4 is next
//	00 00 00 00                                       filled up
//	d2 39 6a 9f                                       edit: crc
//	8a 93 e8 1f                                       body crc
//	67 00 00 00                                       103 bytes
//	02 00 00 00                                       kind 2
//	08 00 00 00 00 00 00 00                           after 8 edits
//	03 5c                                             field 1: a segment, 92 bytes
//	09 04                                             number 9, run 4
//	ac 02 02 00                                       size 300, raw 2, refers to 0
//	01 01 00 00 00 00                                 1 entry, 1 key, 0 of the others
//	05 05                                             LSN 5 to 5
//	00 00 2a 36 fe 9c 97 17 00 00 2a 36 fe 9c 97 17   times
//	00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00   no expiries
//	00 00 2a 36 fe 9c 97 17                           created
//	ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee   SHA-256
//	ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee
//	01 01 6b                                          smallest key: dataset 1, "k"
//	01 01 6b                                          largest key
//	0f 01 05                                          field 7: flushed LSN 5
//	15 01 0a                                          field 10: file 10 is next
//	17 01 05                                          field 11: run 5 is next
//	00                                                filled up
//	eb 8d 7a e5                                       mark: crc
//	00 00 00 00                                       body crc, of nothing
//	00 00 00 00                                       0 bytes
//	03 00 00 00                                       kind 3
//	08 00 00 00 00 00 00 00                           after 8 edits
//
// # Downsides
//
// The whole version is in memory, about 300 bytes a segment and its keys, and is written anew by each owner that
// changes something. An edit costs a sync of its own; edits are not grouped. Applying one takes time in proportion to
// the number of files. The checksums find accidents; who can write to the files can also make records that validate.
package manifest
