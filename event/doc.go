// Package event holds the vocabulary of DynGO: the event, its LSN, and how both are spelled in bytes.
//
// It promises compatibility: names do not change, and bytes that one version wrote every later one reads.
// An event is immutable once it has an LSN. Decoders return slices of what they were given and allocate nothing on the
// way of a put; everything that they return was checked. All functions are safe for concurrent use on different memory.
//
// Three kinds of error are kept apart: corruption (bytes that no version writes; an internal type that the root package
// exports, with the offset of the first byte in doubt), ErrUnsupported (bytes that a newer version wrote and this one
// must not pass over), and a panic with "dyngo: bug:" for a caller that breaks a rule stated here.
//
// # Format
//
// Integers are little-endian. A varint is an unsigned LEB128 number (7 bits a byte, lowest first) in as few bytes as it
// takes. Everything has exactly one spelling; another one is corruption. A str is a varint length and that many bytes.
// The numbers of ops, flags, tags and kinds are never renumbered.
//
// An event on the wire, as it stands in a commit frame of the log:
//
//	size     varint   bytes after this field
//	op       u8       see Op; from 0x80 on a reader that does not know it skips the event
//	flags    u8       see Flags; an unknown bit is unsupported
//	dataset  varint   32 bits; 0 = the log itself
//	delta    varint   63 bits: log time minus the base time of the frame, nanoseconds
//	payload           to the end; of an unknown op: anything
//
// The payload, the same in memory and in the log:
//
//	session  varint   who wrote it; 0 = the engine
//	key      str      at most 65536 bytes
//	value    str      with FlagValueRef: a value reference; with FlagSealed: encrypted, see package keyring; with FlagRedacted:
//	                  as many zeros as it had bytes, or a reference to pieces of zeros
//	parts             to the end
//
// A part, zero or more, tags ascending, none twice:
//
//	tag      varint   number of the part times 2, plus 1 if a reader that does not know it must stop; see Tag
//	body     str      in the one form that belongs to the tag
//
// A value reference stands for a value of 1 B to 1 GiB that lies in data frames:
//
//	size     varint   of the value, the sum of the pieces' raw lengths
//	n        varint   pieces, at least one
//	n times:
//	  file   varint   sequence of the log file, at least 1
//	  offset varint   of the data frame in it, a multiple of 8
//	  stored varint   length of its body, 1 to 1 MiB
//	  raw    varint   the same before compression, 1 to 1 MiB; with codec 0 equal to stored
//	  codec  u8       0 none, 1 s2, 2 zstd; others are unsupported
//	  crc    u32      CRC-32C of the body
//
// A session: id varint (at least 1) · opened i64 (log time) · actor str · address str · client str.
//
// Options of a dataset: consistency u8 (1 strong, 2 causal, 3 eventual) · ttl varint (nanoseconds) · large value varint
// (bytes) · compression u8 (a codec). Bytes after these are options of a newer version: unsupported.
//
// A dictionary: n varint, then n entries, ordered by kind and then by id, none twice:
//
//	kind     u8       from 0x80 on a reader that does not know it skips the entry
//	body     str      1 session         a session
//	                  2 dataset         id varint (1 to 2^32-1) · created varint (LSN) · name str · options str
//	                  3 merge function  id varint · name str
//	                  4 key             id varint · info str
//	                  5 next ids        next session varint · next dataset varint; always there, once
//
// A redact event has the annotation value-hash: in hexadecimal, what the hash tree has of the value (see package integrity).
//
// # Example
//
// A put of "k" = "hello" into dataset 1, 1000 ns after the base time of its frame, by session 300, that expires at log
// time 1700000000000000000 and has a reason:
//
//	28           size 40
//	01           op 1, put
//	04           flags 4: the batch goes on with the next event
//	01           dataset 1
//	e8 07        delta 1000
//	ac 02        session 300
//	01 6b        key "k"
//	05 68 65 6c 6c 6f                 value "hello"
//	03 08 00 00 2a 36 fe 9c 97 17     part 1, must be understood: expiry
//	0a 0d 01 06 72 65 61 73 6f 6e 04 74 65 73 74   part 5, may be skipped: 1 annotation, "reason" = "test"
//
// # Downsides
//
// A value is followed by the parts, so a reader that only wants a part steps over key and value by their lengths. Keys
// are not compressed against each other; the log as a whole is, once it is archived.
package event
