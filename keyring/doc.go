// Package keyring keeps the keys that the values of subjects are encrypted under, in a folder of its own, so that all that was
// ever written of a subject can be made unreadable by destroying one key.
//
// A subject is whom values are about: a person, a customer, a tenant. The log, and all that is derived or copied from it, only
// ever has what Key.Seal made; the keys are in the folder and nowhere else. Who has a copy of a key file can still read after
// the key was destroyed here: copies of the folder must be bounded, as short-lived backups apart from those of the log.
//
// A Ring is an open folder. It creates keys as subjects are first written of, finds them again by the id that events carry, and
// destroys them. All methods are safe for concurrent use. Reading takes no lock; the first call that changes something takes
// the folder's lock and has it until Close. The package makes no promise of compatibility to Go code; its bytes are read by
// every later version.
//
// # Ids
//
// No name of a subject is in the log, or in the name of a file. The folder has a secret, 32 random bytes, and HMAC is
// HMAC-SHA-256 with it. The digest of a subject is HMAC(01 · name). Its keys are numbered from 1; the id of key n is the first
// 8 bytes of HMAC(02 · n as u64 · name), as u64 without the highest bit. Only the last of them can be live: a subject that is
// written of again after its key was destroyed gets the next. An id that another subject has already is passed over.
// In a copy that was made while a key was destroyed two may be live: the first is used, and both are destroyed, see Erasure.More.
//
// # Files
//
// Integers are little-endian, CRC is CRC-32C (Castagnoli). Every file begins with
//
//	offset  size  field
//	     0     8  magic
//	     8     4  crc      of all bytes from 12 on
//	    12     4  version  1; the 16 bytes up to here are the same in all versions
//
// KEYRING, magic "DYNGOKYR", makes a folder a folder of keys. Without it, no key can be found by its subject:
//
//	16     8  created  wall time, i64, Unix nanoseconds
//	24    32  secret
//	56     8  zero
//
// <id, 16 hexadecimal digits>.key, magic "DYNGOKEY", is a key, or what is left of it:
//
//	 16     8  id
//	 24     1  state    1 live, 2 destroyed
//	 25     7  zero
//	 32     8  created  wall time, i64, Unix nanoseconds
//	 40     8  gone     destroyed: when, wall time, i64, Unix nanoseconds; live: zero
//	 48     8  LSN      destroyed: of the event that says so, zero as long as there is none; live: zero
//	 56    16  log id   destroyed: of the log that has the event; live: zero
//	 72    32  digest   of the subject
//	104    16  fingerprint  the first 16 bytes of SHA-256("dyngo subject key" · key)
//	120    32  key      live: AES-256; destroyed: zero
//	152     1  length   live: of the name; destroyed: zero
//	153   255  name     live: of the subject, then zeros; destroyed: zero
//	408   104  zero
//
// erasing-<log id, 32 hexadecimal digits>, magic "DYNGOERA", says that a store is about to destroy a key: see below. Its body
// goes on with id u64 · digest (32 bytes) · fingerprint (16 bytes) · created i64 · begun i64, wall time · after u64, the last
// LSN before · reason str · ticket str · correlation str, each str a varint length and the bytes.
//
// LOCK is the lock. NEW.tmp is a file on its way in; one that is left counts for nothing. Only its owner may read a file that is made
// here, or a folder; a folder that was there keeps its mode.
//
// # Sealed values
//
// A value is encrypted in pieces: a value that stands in its event is one, a large one has one for each data frame. A piece is
//
//	12  nonce       random
//	 n  ciphertext  AES-256-GCM of codec u8 · if it is not 0, the length before compression as varint · the bytes
//	16  tag
//
// and what is authenticated with it is 01 · key id u64 · number of the piece u32 · u8, 1 for the last piece · the record's key.
// So no piece can be moved to another record, place or key.
//
// Nonces are random. With 2^32 pieces under one key two share a nonce with a probability of 2^-33, where NIST SP 800-38D
// allows 2^-32; each doubling makes that four times as much. Two pieces with one nonce tell the XOR of their bytes to whoever has both, and
// let him make others. Nobody counts the pieces, and no key is replaced by itself: see Downsides.
//
// # Crash points
//
// A key file is written and synced under another name, renamed, and the folder synced, before anything is sealed with the key.
// To destroy a key:
//
//  1. the file erasing-… is made, durably
//  2. the key file is overwritten in place, so that the bytes of key and name are gone from where they lay, and synced
//  3. the event is in the log, durably; that is the caller's to do
//  4. the key file is overwritten with the event's LSN, and synced
//  5. the file erasing-… is removed, durably
//
// So no log says that a key is gone while it is there. A crash leaves the file erasing-…, and Pending tells of it; the key file may
// be torn then, which step 2 mends when it is done again.
//
// # Downsides
//
// Overwriting in place is all that a program can do: a file system that copies on write, a log-structured one or a solid-state
// drive may keep the old bytes for a while, and so do copies of the folder. A process that has used a key has it in its memory
// until it ends; one that reads beside the store's owner forgets it within a second, as Key says. Names of subjects are in the
// key files that are live. A subject gets another key only after its key was destroyed, and a count of pieces would cost a write of the
// key file now and then: a subject of which more than four thousand million values are written should be several ones.
package keyring
