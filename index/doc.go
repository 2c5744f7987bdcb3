// Package index keeps the live records of hot key ranges in key order, so that a scan, or a read of a key that is not there, touches
// nothing else: no memtable, no segment.
//
// A Range is a copy. It is complete as of an LSN: what it does not have was not there then, or since. Writers keep it current. It
// promises: a read at an LSN from which on a part of the range is complete gives exactly the newest versions of that LSN, whatever
// writes go on; other reads are told so, and look elsewhere. Nothing is lost with a Range, and it holds nobody else's memory. It does
// not know when a range is worth its cost, which LSNs are visible, or whether a version has expired: the caller says so. It promises
// no compatibility.
//
// # Structure
//
// Leaves lie in a B-tree (google/btree) by the first key that they cover, of which some bytes are in the tree's nodes. A leaf is a block
// of some dozen records, one behind the other in key order, which never changes, and what was written since:
//
//	leaf:  first key | block | news: records, oldest first | changes: news by key | since: LSN of the newest write in block
//	block: records: LSN, time, expiry, key, value | places: where each begins, and some bytes of its key
//
// A change knows between which records of the block its key belongs, so that a scan merges both without comparing keys. A reader takes
// some leaves under the range's lock, for the time of one search in the tree, and reads on without it: blocks and changes are immutable,
// and news only grow at the end. Get returns key and value as they lie there; a Cursor copies some records at a time, in one piece.
// A writer appends to the news and writes the changes anew; when there are many, those that every new reader sees go into a new block. A
// reader at an LSN before since is not served by that leaf.
//
// # Building
//
//  1. New makes a Range that takes writes and serves nobody. The caller publishes it to writers, and waits until those are through
//     that may not have seen it. Let LSN be one that all of these are below.
//  2. The caller reads the records of the range as of LSN and gives them to Fill.
//  3. What was written above LSN waited, and is applied then. What was written up to LSN, the caller has read.
//
// A range that can't be kept (a write whose value is not known, a range delete, memory) is dropped whole: Drop.
package index
