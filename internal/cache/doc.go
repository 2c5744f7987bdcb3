// Package cache keeps blocks of files in memory, the bytes that readers of segments have read and decoded, and single records of them:
// see Records. What follows is of blocks.
//
// It promises: a block that Get returned or that its maker has not released stays as it is, whatever the cache does
// meanwhile; blocks are never freed twice and, once the cache is closed and all references are given back, never kept;
// the cache's blocks take at most CapacityBytes. It does not promise that a Get finds what was just added: a cache may
// refuse a block or drop it at any time. The package promises no compatibility.
//
// Life of a block: NewBlock (one reference, its maker's) → filled by the maker alone → Add: readable by all, immutable,
// and the cache takes a reference of its own if it wants the block → Get hands out further references → each is given
// back by Release, and the last one frees the buffer. Blocks that the cache has dropped while a reader holds them live
// on until the reader's Release; they count for the reader, not for the cache.
//
// # Why a block found is a block that lives
//
// The buffer lies outside Go's heap; the header of the block is an ordinary Go object. A reader may load the pointer
// to a header at the very moment at which the cache drops the block:
//
//  1. The header stays valid as long as someone points to it: the collector sees to that.
//  2. A count that has reached 0 never rises again: Acquire raises it only from above 0, by compare-and-swap.
//  3. So Acquire either succeeds before the last Release, and then the buffer stays until the reader's own Release; or
//     it fails, and the reader has a miss.
//  4. Keys are never used again for other bytes (file numbers are not reused, files are immutable). So even a block
//     that was dropped and that another reader still holds is the right answer.
//
// Concurrency: all methods may be called at any time until Close is called; Release may be called even then.
//
// # Trace
//
// A Recorder writes down what passes through a cache, so that caches can be compared on what readers really ask for. A
// trace is a header of 8 bytes, "dyngobt" and the format version 1, and a record for each call, in their order. Numbers
// are minimal varints; a difference is taken modulo 2^64 and zigzag encoded (0, -1, 1, -2, …).
//
//	field    content
//	call     what + 4·size, what: 0 Get that hit, 1 Get that missed, 2 Add; size of the buffer / 256, 0 in a miss
//	file     difference to the file number of the record before, to 0 in the first
//	offset   difference to the offset of the record before, to 0 in the first
//
// A miss of the block of file 7 at 4096, the Add that follows with a buffer of 16 KiB, and a hit are
//
//	64 79 6e 67 6f 62 74 01  01 0e 80 40  82 02 00 00  80 02 00 00
package cache
