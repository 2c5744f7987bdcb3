// Package integrity holds the hash tree over the log: what is hashed, the files that keep the tree, signed tree heads, and
// proofs that others can check.
//
// Whoever has a tree head from elsewhere can tell whether the log is still the one that the head stands for, with all events up
// to it, in order and unchanged. A CRC finds accidents; the tree finds intent. What it can't find: events that were lost from
// the end since the newest head that somebody outside has, and what a forger signs who has the signing key and whom nobody
// holds against an older head. The package makes no promise of compatibility to Go code; the bytes below never change.
//
// Tree is one goroutine's to append to and everybody's to read. It does no work of its own: the root package feeds it behind
// the log. Everything in its files can be computed again from the log, as long as retention has not dropped it; the tree
// outlives that.
//
// # Leaves
//
// Integers are little-endian. H is SHA-256, · puts bytes one behind the other. Each event is a leaf of its frame's tree:
//
//	offset  size  field
//	     0     1  form       1
//	     1     1  op         see package event
//	     2     1  flags      without value-ref (2), as how a value is stored makes no difference, and redacted (16)
//	     3     1  zero
//	     4     4  dataset
//	     8     8  LSN
//	    16     8  time       log time, Unix nanoseconds
//	    24     8  session
//	    32    32  key        H(02 · key)
//	    64    32  value      H(03 · value), the value before compression, after encryption under a subject key
//	    96     n  parts      as in the event, without codec (7) and value salt (8)
//
// An event that has a value salt (16 bytes) has H(04 · salt · key) and H(05 · salt · value) instead: who has destroyed salt and
// value has left nothing to guess from. What an event lacks counts as empty.
//
// An event whose value was redacted keeps its leaf: the event that says so (op redact) has the hash that stands for the value. Who
// knows the log can try out with it what the value may have been: a hash is no secret where a value can be guessed.
//
// The tree of a frame is that of RFC 6962 over the leaves of its events in LSN order, spilled or not: a leaf's hash is
// H(00 · leaf), a node's H(01 · left · right), and the left one of two subtrees has the largest power of two of leaves that is
// smaller than all. Its root is in the frame's record:
//
//	offset  size  field
//	     0     1  form       1
//	     1     3  zero
//	     4     4  count      events
//	     8     8  LSN        of the first
//	    16     8  wall time  of the frame
//	    24     8  hlc        of the frame
//	    32    32  root
//
// The records of all commit frames, in the log's order, are the leaves of the tree over the log, again that of RFC 6962.
//
// # Tree files
//
// The folder integrity holds files named by number from 0, like 0000000000.tree, each with the leaf hashes of the next 2^height
// frames (65,536), and heads, the tree heads that were signed, one note behind the other. A file:
//
//	offset  size  field
//	     0     8  magic      "DYNGOTRE"
//	     8     4  crc        CRC-32C of bytes [12, 64)
//	    12     4  version    1; the 16 bytes up to here are the same in all versions
//	    16    16  log id
//	    32     8  number
//	    40     1  height     1 to 24
//	    41    23  zero
//	    64  44 n  entries    for each frame:
//
//	     0     8  LSN        of the frame's first event
//	     8    32  hash       H(00 · record)
//	    40     4  crc        CRC-32C of the frame's index in the tree (u64) and the 40 bytes before
//
// and behind the entries, once there are 2^height:
//
//	 0    32  root       of the tree of the entries
//	32     4  crc        CRC-32C of root and the file's name
//
// A file's header is durable before its first entry, a full file before the next one begins. Entries become durable now and
// then; what a crash leaves of the last file ends before the first entry that is unsound, and the rest is computed again.
//
// # Tree heads
//
// A head is a signed note (C2SP signed-note) with the text of a checkpoint (C2SP tlog-checkpoint): origin, frames, root in
// base64, and two lines more. The first tree is that of the example below:
//
//	dyngo.log/01010101010101010101010101010101
//	1
//	VQMNpaHInJkUP3U05zaGfY3oCwyRNDd2Pp4vIwODCCc=
//	lsn 9
//	time 2023-11-14T22:13:20Z
//
// lsn is the last event that the tree has, time when the head was made, RFC 3339 in UTC. An empty line and the signatures
// follow: Ed25519 over the text with its last line end.
//
// The file heads is replaced in one step for each head that is added, and so whole after a crash. It has 1024 heads at most: of more,
// every second of the older half goes. The first and the newest stay.
//
// # Example
//
// The leaf of a put of "k" = "v" into dataset 1 by session 3, LSN 9, log time 1700000000000000000:
//
//	01 01 00 00                                       form 1, put, no flags
//	01 00 00 00                                       dataset 1
//	09 00 00 00 00 00 00 00                           LSN 9
//	00 00 2a 36 fe 9c 97 17                           time
//	03 00 00 00 00 00 00 00                           session 3
//	a9 d0 ae f8 fd c4 0f 45 45 d9 41 bb 3a 1c 50 94   key: H(02 · "k")
//	c8 0e c7 dd 3d 18 4f 0f f6 95 9b 6e 86 66 f4 74
//	b0 d3 2d 0a 07 26 91 ce e2 2c a2 70 f3 4d ba bc   value: H(03 · "v")
//	02 21 81 c5 b4 ec c5 7e f8 31 36 91 f2 e9 2d 18
//
// The record of its frame, which holds nothing else:
//
//	01 00 00 00                                       form 1
//	01 00 00 00                                       1 event
//	09 00 00 00 00 00 00 00                           LSN 9
//	00 00 2a 36 fe 9c 97 17                           wall time
//	00 00 00 68 e5 cf 8b 01                           hlc
//	ea ef dd d3 b6 49 17 0b 72 34 41 aa f8 44 85 e7   root: the leaf's hash
//	f0 3d f4 c3 bb bb 56 d9 c3 a0 bb 72 82 c4 18 7b
//
// # Proofs
//
// Inclusion and Consistency are bundles in JSON. The README of docs/verifier says how one is checked; the program there does
// so and uses nothing of DynGO.
//
// # Downsides
//
// Dictionary, data and watermark frames are not in the tree themselves: the first repeats what events say, the others hold what
// events refer to. A large value that retention has dropped takes with it the possibility to compute its frame's record anew;
// the hash in the tree file stands for it then. One file of the tree is read to prove one frame.
package integrity
