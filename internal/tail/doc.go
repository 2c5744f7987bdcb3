// Package tail holds the end of the log in memory: the records that the memtable's entries point to.
//
// An event's payload is copied here once, on commit, and then read in place. The memory lies outside Go's heap and
// holds no Go pointers, so that the collector sees none of the records. The package gives out places and walks over
// records in the order of arrival; it knows nothing of keys, visibility or durability. It promises no compatibility.
//
// Life of a record: Appender.Reserve → filled by the caller (Payload, then Fill) → published by package memtable, from then
// on immutable but for the atomic fields → its generation is sealed (Appender.Seal) → what still lives is copied
// elsewhere, or the generation departs (Generation.Depart) → Generation.Release, through package epoch.
//
// # Record
//
// A record starts at a multiple of 8. Integers are in the byte order of the machine; the layout exists in memory only.
//
//	offset  size  field
//	     0     8  prev        Pos of the key's version before this one, 0 = none; atomic
//	     8     8  lsn
//	    16     8  time        log time, Unix nanoseconds
//	    24     8  logpos      where the event's wire bytes are: file sequence<<40 | offset; 0 = not written; atomic
//	    32     4  size        of the whole record, a multiple of 8
//	    36     4  dataset
//	    40     4  state       op | event flags<<8 | Mem<<16 | Link<<24; atomic
//	    44     4  payloadLen
//	    48     n  payload     as in the log: session, key length, key, value length, value, parts (see package event)
//
// In a record with MemStub the value in the payload is a Stub of 24 bytes: the value itself is in the log.
//
//	offset  size  field of a Stub, little-endian
//	     0     8  logpos      of the value's bytes, as above
//	     8     4  len         of the value in bytes
//	    12     4  crc         CRC-32C of those bytes
//	    16     8  reserved    zero
//
// # Position
//
// A Pos is chunk number<<18 | offset/8 and fits 48 bits. Chunk numbers go up from 1 and begin again after 2^30-1. A
// record may be read only while the caller holds a guard of the epoch domain through which the generation is released,
// or knows otherwise that the record lives.
//
// A generation may depart before it is released: from then on Lookup does not find its records. So a Pos may be kept
// beyond its record, as long as nobody asks for it after 2^30 more chunks (2 PiB of events): Lookup tells that it means
// nothing any more, since the number is not that of the chunk which now has its place in the directory.
//
// # Chunks
//
// Memory comes in chunks of 2 MiB. A record never spans chunks; what does not fit begins a new chunk, and a record of
// more than 2 MiB gets a chunk of its own size. The end of a chunk may thus stay unused; Generation.Bytes counts it. When
// an appender is half through a chunk, a goroutine of the arena makes the next one ready (mapped and touched), so that
// Reserve under the caller's lock does not wait for the kernel. If it is not ready in time, Reserve makes one itself.
//
// Concurrency: an Appender belongs to one caller at a time. Everything else may be called at any time. Record is a plain
// pointer: reading its plain fields is safe when the record was published to the reader through an atomic store.
package tail
