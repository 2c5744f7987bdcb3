// Package wal is the durable ordered log of events: its files, its writer and its readers.
//
// Log is the writing end: commits join a group, a group becomes one frame, a leader writes and syncs it and wakes the
// group. Scanner reads all frames in order and judges how the log ends; recovery stands on it. Files reads single pieces,
// Follow reads beside a live writer, Verify checks everything. The package makes no promise of compatibility to Go code;
// the files below are read by every later version.
//
// What a reader returns is sound: CRC, chain, LSN and place were checked. What was known to be durable and cannot be read
// is corruption, named with file and offset; what a crash tore is left out and reported; what a newer version wrote is
// event.ErrUnsupported. Readers open files for reading only and change nothing.
//
// # Files
//
// A log is a directory with files named by sequence and first LSN, like 0000000001-00000000000000000001.log, and CLEAN
// while it is closed. Sequences are never reused within a timeline; each file's header names the one before. Other names
// are passed over: a file on its way gets its name only when header and dictionary are durable.
//
// Integers are little-endian, CRC is CRC-32C (Castagnoli), numbers on disk are never renumbered. A file is a header and
// frames:
//
//	offset  size  field
//	     0     8  magic       "DYNGOLOG"
//	     8     4  crc         of bytes [12, 4096)
//	    12     4  version     1; the 16 bytes up to here are the same in all versions
//	    16    16  log id      random, the same in all files of the log
//	    32    16  timeline    random; changes only after a cut
//	    48     8  sequence    of this file, from 1
//	    56     8  prev        sequence of the file before, 0 if there is none: then the next four are 0
//	    64     8  prev end    where its frames end
//	    72     4  prev chain  original CRC of its last frame
//	    76     1  prev ending 1 sealed: nothing or zeros follow the end; 2 cut: a crash left it, ignore what follows
//	    77     1  hash        1 SHA-256
//	    78     1  cipher      0 none
//	    79     1  zero
//	    80     8  compat      feature bits: a reader may ignore those it does not know; 1: a value in the file was redacted
//	    88     8  ro-compat   feature bits: who does not know one must not write
//	    96     8  incompat    feature bits: who does not know one must not read
//	   104     8  key         of the cipher
//	   112    32  salt        random, in the CRC of every frame
//	   144     8  first LSN   of the next event to follow this header, as in the name
//	   152     8  first time  log time when the file was made, i64, Unix nanoseconds
//	   160     8  created     wall time when the file was made, i64, Unix nanoseconds
//	   168  3928  zero
//	  4096        frames, the first a dictionary, the only one of the file
//
// Checked in this order: length, magic, crc, version (another is unsupported), feature bits and ids (unknown ones are
// unsupported), the rest.
//
// # Frames
//
// A frame begins at a multiple of 8. After its body it is filled up with zeros to the next one.
//
//	offset  size  field
//	     0     4  crc         see below
//	     4     4  length      of the body: commit and dictionary to 16 MiB, data 1 to 1 MiB, watermark 0
//	     8     1  kind        1 commit, 2 data, 3 dictionary, 4 watermark
//	     9     1  flags       1 spilled (commit only), 2 redacted; an unknown bit is unsupported
//	    10     2  zero
//	    12     4  count       events in a commit frame, at least 1; else 0
//	    16     8  LSN         of the first event in a commit frame; else the next to be assigned when it was written
//	    24     8  base time   log time, i64, Unix nanoseconds
//	    32     8  wall time   raw wall clock, i64, Unix nanoseconds
//	    40     8  hlc         48 bits of milliseconds, 16 bits of counter
//	    48     4  chain       original CRC of the frame before it in the log, 0 in a log's first
//	    52     4  original    CRC when first written, if redacted; else 0
//	    56     8  durable     LSN known to be durable when it was written, less than the LSN above
//	    64     n  body
//
// crc covers the body, then bytes [4, 64) of the header, then the file's salt (32 bytes) and sequence (u64) and the
// frame's offset (u64): the body's part can be computed before the place is known, and a frame that is copied elsewhere
// never validates. The original CRC of a frame is its crc, or the field if it is redacted.
//
// The body of a commit frame is count events (see package event) whose LSNs follow densely on those before, and nothing
// else; a batch never spans frames. Spilled, its events lie in data frames before it, each of which holds whole events,
// with time delta 0 and without the flag not-applied:
//
//	total    varint   bytes of the events
//	n        varint   data frames, at least one
//	n times           a piece as in a value reference, without compression
//	m        varint   events that were not applied
//	m times  varint   events between this one and the one before it (or the first)
//
// Redaction writes a file that nobody appends to any more anew, with zeros in place of a value. The event says so too (see package
// event). A piece of a redacted large value is zeros; one of a spilled batch has its events, one of them redacted. What refers to a
// data frame that is redacted keeps the CRC that its body had. A file on its way to take the place of the old one is called
// redact-, the sequence, the LSN of the event, and one after which the log says whether it is to, like
// redact-0000000001-00000000000000000005-00000000000000000009.tmp.
//
// The body of a data frame is a piece of a large value or of a spilled batch; what refers to it comes later in the log, by
// file, offset, length and CRC of the body. That of a dictionary frame is an event.Dictionary.
//
// # CLEAN
//
// Written in one step when the log is closed, after everything that it states is durable. Removed durably before the
// first write of the next owner. If the newest file has more than 8 MiB by then, another was started behind it, which has
// a dictionary and no events yet: the next owner reads that one alone.
//
//	offset  size  field
//	     0     8  magic       "DYNGOCLN"
//	     8     4  crc         of bytes [12, 64)
//	    12     4  version     1
//	    16     8  sequence    of the last file
//	    24     8  end         offset in it
//	    32     4  chain       original CRC of its last frame
//	    36     4  zero
//	    40     8  next LSN
//	    48     8  last time   newest log time given out, i64, Unix nanoseconds
//	    56     8  zero
//
// # How a log ends
//
// Let X be where the first frame is missing or unsound.
//
//  1. There is a later file: its header says where this one ends. A defect before is corruption. If it was sealed, so is
//     a byte behind that is not zero; if it was cut, what follows is ignored.
//  2. CLEAN names this file: any difference from what it states is corruption, and so is a byte behind the end that is
//     not zero.
//  3. Else, if nothing or only zeros lie behind X, the log ends at X.
//  4. Else, if a sound frame behind X says that the next LSN was durable, the bytes at X were durable too and are damaged:
//     corruption.
//  5. Else the tail was torn by a crash. The log ends at X; the next writer leaves this file as it is and begins a new
//     one that states the cut.
//
// What lies between the last frame that states a durable LSN and X in case 5 may have been acknowledged, if it decayed
// rather than tore: that cannot be told apart, and the report says so. A frame whose CRC holds is never torn: a wrong
// chain or LSN in it is corruption. So is a file whose header or dictionary does not read.
//
// A reader without the lock reads again what looks damaged before it believes it, because a writer may be at work.
//
// # Value files
//
// When log files are dropped, the pieces of large values in them that something refers to stay in a value file. References
// stay what they are: a piece is found by the log file and the offset where its data frame was. A file is told by its magic.
// Either it is a log file as it was, and each piece lies where it lay; or it holds pieces, one behind the other:
//
//	offset  size  field
//	     0     8  magic       "DYNGOVAL"
//	     8     4  crc         of bytes [12, 64)
//	    12     4  version     1; the 16 bytes up to here are the same in all versions
//	    16    16  log id      of the log that the pieces are from
//	    32     8  number      of this file, as in the name
//	    40     8  incompat    feature bits: who does not know one must not read
//	    48     8  created     wall time, i64, Unix nanoseconds
//	    56     8  zero
//	    64        pieces      their stored bytes, at least one, in the order of the index
//	           n  index       for each piece, ordered by log file and offset:
//
//	log file  varint   less that of the piece before, 0 for the first
//	offset    varint   of its data frame in the log file; less that of the piece before, if that is of the same file
//	length    varint   1 to 1 MiB
//	crc       u32      of the stored bytes
//
// and then, to the end of the file,
//
//	offset  size  field
//	     0     8  index       where it begins
//	     8     8  pieces      how many
//	    16     4  index crc
//	    20     4  crc         of bytes [0, 20)
//	    24     8  magic       "DYNGOVAL"
//
// The manifest has the SHA-256 of the file. Three pieces, of log files 2 and 3:
//
//	44 59 4e 47 4f 56 41 4c                           magic
//	bc fa 15 1c                                       crc
//	01 00 00 00                                       version 1
//	01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01   log id
//	07 00 00 00 00 00 00 00                           file 7
//	00 00 00 00 00 00 00 00                           no features
//	00 00 2a 36 fe 9c 97 17                           made at 1700000000000000000
//	00 00 00 00 00 00 00 00                           zero
//	76 61 6c 75 65                                    "value"
//	6c 61 72 67 65 72                                 "larger"
//	6c 61 73 74                                       "last"
//	02 c0 20 05 63 03 e0 e1                           of log file 2, at 4160, 5 bytes
//	00 48 06 f2 90 87 2f                              of the same, 72 bytes on, 6 bytes
//	01 c0 20 04 01 04 5e 07                           of the next log file, at 4160, 4 bytes
//	4f 00 00 00 00 00 00 00                           the index begins at 79
//	03 00 00 00 00 00 00 00                           3 pieces
//	38 1c a1 f8                                       index crc
//	8a 45 d9 c9                                       crc
//	44 59 4e 47 4f 56 41 4c                           magic
//
// # Archived log files
//
// A log file that is dropped may be copied elsewhere, packed in the Zstandard Seekable Format, so that any zstd unpacks it: a
// zstd frame for each MiB of it (the last may be shorter), each with the checksum of its content; then two skippable frames,
// which zstd passes over: what DynGO knows of the file, and the seek table, which follows from that.
//
//	offset  size  field
//	     0     4  0x184d2a50
//	     4     4  bytes that follow: 64 + 8 n
//	     8     8  magic       "DYNGOARC"
//	    16     4  crc         of what follows in this skippable frame
//	    20     4  version     1
//	    24     8  size        of the log file
//	    32     4  frame       bytes of the log file in each zstd frame, to 64 MiB
//	    36     4  n           zstd frames
//	    40    32  SHA-256     of the log file
//	    72   8 n  frames      for each: size of the zstd frame u32 · CRC-32C of its bytes u32
//
//	     0     4  0x184d2a5e
//	     4     4  bytes that follow: 8 n + 9
//	     8   8 n  frames      for each: size of the zstd frame u32 · bytes of the log file in it u32
//	     …     4  n
//	           1  zero
//	           4  0x8f92eab1
//
// # Example
//
// A commit frame at offset 4160 of file 7, whose salt is the bytes 00 to 1f. It holds a put of "k" = "v" into dataset 1 by
// session 3, LSN 9:
//
//	18 66 8e 2d               crc
//	0a 00 00 00               length 10
//	01 00 00 00               commit, no flags
//	01 00 00 00               1 event
//	09 00 00 00 00 00 00 00   LSN 9
//	00 00 2a 36 fe 9c 97 17   base time 1700000000000000000
//	00 00 2a 36 fe 9c 97 17   wall time
//	00 00 00 68 e5 cf 8b 01   hlc: 1700000000000 ms, counter 0
//	04 03 02 01               chain: the frame before has the CRC 01020304
//	00 00 00 00               not redacted
//	08 00 00 00 00 00 00 00   LSN 8 and all before were durable
//	09 01 00 01 00 03 01 6b   the event
//	01 76
//	00 00 00 00 00 00         filled up
//
// # Downsides
//
// Small commits carry 64 bytes of header each. A damaged frame costs all that follow it in its file when the log is
// opened: they are only reached by Verify. A log that was torn and is opened often has many short files. The CRC finds
// accidents; who can write to the files can also make frames that validate.
package wal
