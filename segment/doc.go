// Package segment is the immutable sorted file of DynGO: versions of keys in order, in blocks, with what is needed to
// find them.
//
// Writer makes a segment from entries in order; Reader gives the newest version of a key at an LSN, in one read each of
// filter page, index block and data block if they are not in the cache; Iter visits entries in both directions; DueIter
// visits those with an expiry in the order in which they expire. The package makes no promise of compatibility to Go
// code; the files below are read by every later version.
//
// What a reader returns is sound: each block was checked when it was read, before it went into the cache. Damage is
// corruption, named with file and offset; what a newer version wrote is event.ErrUnsupported. Nothing read from a file
// makes a reader panic or allocate more than the file has bytes or 32 MiB.
//
// Life of a segment: Create → Add, AddRangeDelete → Finish (durable but for its directory entry), or Abort at any time
// → Open → Get, NewIter, Due, Verify from anywhere → Close → removed by who knows that nobody reads it. A file that a
// crash left without a footer is not a segment: Open calls it corrupt, and as long as no manifest names it, it may be
// removed.
//
// A Writer and an iterator belong to one goroutine at a time; a Reader may be used by many. The package starts no
// goroutines. Blocks of a Reader are references into the cache, counted; see package cache.
//
// # File
//
// Integers are little-endian; varint and str are those of package event, CRC is CRC-32C (Castagnoli). Numbers on disk
// are never renumbered.
//
//	header          64 bytes
//	partitions      one after the other: 1 or more data blocks, their index block, their filter page if there are filters
//	due blocks      and the due index, if any entry has an expiry
//	range deletes   blocks, if there are any
//	properties      a block
//	top index       a block, if there are entries
//	footer          160 bytes, the end of the file
//
// A partition has at most 13,056 keys with 10 bits each in the filter (as many as a page of 16 KiB takes) and at most
// 16 KiB of index. The top index has an entry for each partition and stays in memory; index blocks and filter pages are
// read through the cache like data blocks. Nothing but the top index grows in memory while a segment is written.
//
// Before a data block of 2 to 4 KiB there may be 8 or more zeros, as many as lead to the next multiple of 4 KiB: a block
// that lies within a page costs one page to read. Nothing else lies between blocks. A writer whose blocks have 2 KiB or
// more before compression writes such zeros where they keep a block from lying in two pages, up to a 32nd of the file.
//
// Header, for who has only the start of a file:
//
//	offset  size  field
//	     0     8  magic       "DYNGOSEG"
//	     8     4  crc         of bytes [12, 64)
//	    12     4  version     1; the 16 bytes up to here are the same in all versions
//	    16    16  salt        random, in the CRC of each block
//	    32     8  number      of the file
//	    40     8  run         its run
//	    48     8  created     i64, Unix nanoseconds
//	    56     8  zero
//
// Footer. A newer version may have a longer one: its length is found from the end.
//
//	offset  size  field
//	     0    32  sha256      of the file without the footer
//	    32    16  salt        as in the header
//	    48     8  compat      feature bits: a reader may ignore those it does not know
//	    56     8  incompat    feature bits: who does not know one must not read
//	    64    16  properties  offset and length of the block, as in the next three
//	    80    16  top index   0 and 0 without entries
//	    96    16  due index   0 and 0 without
//	   112    16  range deletes, all their blocks together; 0 and 0 without
//	   128     8  size        of the file
//	   136     4  zero
//	   140     4  length      of the footer, 160; the 20 bytes from here on are the same in all versions
//	   144     4  version     1
//	   148     4  crc         of the footer before it
//	   152     8  magic       "DYNGOEND"
//
// Checked in this order: length, magic, crc, version (another is unsupported), feature bits (unknown ones are
// unsupported), the rest.
//
// # Blocks
//
//	offset  size  field
//	     0     4  crc         see below
//	     4     4  stored      bytes of the body
//	     8     4  raw         the same before compression; when compressed, larger than stored and at most 32 MiB
//	    12     1  kind        1 data, 2 index, 3 filter, 4 top index, 5 due, 6 due index, 7 range deletes, 8 properties;
//	                          others are unsupported
//	    13     1  codec       0 none, 1 s2, 2 zstd; others are unsupported
//	    14     2  zero
//	    16        body
//
// crc covers the body, then bytes [4, 16) of the header, then the file's salt and the block's offset (u64), so that a
// block that is copied elsewhere never validates. A block that compression does not make an eighth smaller is stored as
// it is; so are filter pages and the indexes that have no bound in size (top, due). Before compression a data block has
// at most 4,080 bytes (WriterOptions.BlockBytes), which makes a page with its header, unless it holds a single larger
// entry: memory for blocks comes in powers of two. Compression is not unique; all else has one spelling.
//
// # Sorted blocks
//
// Data, index and due blocks hold entries in the order of their keys, and entries of one key by falling LSN. A key here
// is the dataset (u32, big-endian), then the key's bytes; in due blocks and the due index the due time comes before
// them (u64, big-endian, with the top bit flipped). A block before compression:
//
//	offset  size  field
//	     0     1  kind        as in the header
//	     1     1  columns     k: 8 data, 5 index, 6 top index, 3 due, 5 due index
//	     2     2  zero
//	     4     4  entries     n, at least 1
//	     8     4  shared      s: bytes that all keys have in common at their start, as many as there are
//	    12     4  zero
//	    16    8k  bases       u64 for each column
//	          k  widths      u8 for each column, 0 to 8; then zeros to a multiple of 8
//	          s  shared      the bytes
//	              columns     each n numbers of its width; then zeros to a multiple of 8
//	          8n  prefixes    u64 for each entry: the 8 bytes of the key behind the shared ones as a big-endian number,
//	                          zeros where it has fewer
//	              heap        for each entry: the rest of the key behind the prefix, then in data blocks value and parts
//
// A column is an array of numbers less its base, which is the least of them, in as few bytes as the greatest takes: a
// column whose numbers are all the same takes none. So any entry is found by its index, and a key by a binary search
// over the prefixes that looks at nothing else but for keys which agree in them.
//
//	column  data             index, due index         top index                             due
//	0       end in heap      end in heap              end in heap                           end in heap
//	1       key length       key length               key length                            key length
//	2       LSN              LSN                      LSN                                   LSN
//	3       log time         offset of the block      offset of the index block
//	4       op               length with its header   length with its header
//	5       flags                                     length of the filter page, 0 without
//	6       session
//	7       length of parts
//
// The key length is that without the shared bytes. Log times have the top bit flipped, so that their order is that of
// numbers without sign.
//
// The entry of a block in an index is the position at which the block begins: not after its first entry, and after the
// last entry of the block before. For the first block it is its first key with the largest LSN (2^63-1); else, if the
// first entry has the key of the entry before it, that key and the LSN of that entry less 1; else the shortest key that
// is greater than the last one, with the largest LSN. So a version of a key is sought in one block, however many blocks
// the versions of the key span. The filter page of a partition follows its index block.
//
// # Filter pages
//
//	offset  size  field
//	     0     1  kind        3
//	     1     3  zero
//	     4     4  lines       n, 1 to 255
//	     8    56  zero
//	    64   64n  lines       of eight u64
//
// The hash of a key is XXH3-64 over its bytes, seeded with the file's seed plus the dataset times 0x9e3779b97f4a7c15,
// all modulo 2^64. It belongs to line (hash times n) divided by 2^64; in word w of the line (0 to 7), bit (g >> 6w) mod
// 64 is set, where g is (hash times 0x9e3779b97f4a7c15 mod 2^64) >> 16. A key whose versions lie in several partitions
// is in the page of each.
//
// # Range deletes
//
//	offset  size  field
//	     0     1  kind        7
//	     1     3  zero
//	     4     4  n           at least 1
//	     8        n times     dataset varint · LSN varint · log time i64 · from str, empty: from the first key · to str,
//	                          not deleted itself, empty: to the last key
//
// LSNs ascend, also from block to block.
//
// # Properties
//
// Kind (u8, 8), 3 zeros, then to the end: tag varint · body str, tags ascending, none twice. A tag is the number of the
// property times 2, plus 1 if a reader that does not know it must stop; others that it does not know it keeps apart.
//
//	1 must  origin    number varint · run varint · created i64 · flushed LSN varint
//	2       replaces  n varint · n numbers of segments varint, ascending; left out if there are none
//	3 must  counts    entries, keys, tombstones, range deletes, record times, dues, raw bytes, referred bytes; varints
//	4 must  keys      smallest: dataset varint · key str; largest: the same; left out without entries
//	5 must  range     least and greatest LSN, varints · least and greatest log time, i64; left out without any LSN
//	6       dues      least and greatest, i64; left out without dues
//	7       filters   kind u8 (1: the pages above) · bits a key u8 · seed u64; left out without filters
//
// # Extra properties
//
// Tags from 64 on are never those of segments. Files of other kinds that are built on this format, under names of their
// own, use them for what they have beside entries; a segment has none.
//
// # Example
//
// A data block at offset 64 of a file whose salt is the bytes 00 to 0f, not compressed. It holds two versions of
// "apple" in dataset 1: a put of "red" by session 3, LSN 9, and a delete, LSN 8:
//
//	67 7a 07 a3               crc
//	83 00 00 00               131 bytes
//	83 00 00 00               as many before compression
//	01 00 00 00               data, not compressed
//	01 08 00 00               data, 8 columns
//	02 00 00 00               2 entries
//	09 00 00 00               that share 9 bytes of their keys
//	00 00 00 00
//	03 00 00 00 00 00 00 00   both entries end at 3 in the heap
//	00 00 00 00 00 00 00 00   no more bytes of the keys
//	08 00 00 00 00 00 00 00   LSN 8 and up
//	00 00 2a 36 fe 9c 97 97   log time 1700000000000000000 and up
//	01 00 00 00 00 00 00 00   op 1, put, and up
//	00 00 00 00 00 00 00 00   no flags
//	03 00 00 00 00 00 00 00   session 3
//	00 00 00 00 00 00 00 00   no parts
//	00 00 01 02 01 00 00 00   widths
//	00 00 00 01 61 70 70 6c 65   dataset 1, "apple"
//	01 00                     LSN 9, 8
//	2c 01 00 00               300 ns later, and the base
//	00 01                     put, delete
//	00 00 00 00 00 00 00      filled up
//	00 00 00 00 00 00 00 00   prefixes
//	00 00 00 00 00 00 00 00
//	72 65 64                  "red"
//
// # Downsides
//
// A key of which a reader wants one byte costs the decompression of its block. The filter of a partition is asked only
// after a search of the top index, which has an entry for each 13,056 keys: it grows with the file. A sorted block is
// written when it is full, so a writer holds one. The CRC finds accidents; who can write to the files can also make
// blocks that validate. A top index or due index of a gigabyte is refused: keys of 64 KiB that share nothing reach that
// at some 100,000 partitions of at least 8 blocks.
package segment
