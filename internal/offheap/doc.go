// Package offheap hands out memory that Go's collector neither scans nor counts.
//
// It promises zeroed memory (but for AllocChunk), aligned to its size class (to 2 MiB from 2 MiB on), and exact accounting: InUse is the
// sum of what was given out and not given back, Mapped what the process holds for it. It does not find leaks or double
// frees of small blocks beyond a cheap check, and it does not compact: a slab goes back to the operating system only
// when all its blocks are free. The package promises no compatibility.
//
// Life of a block: Alloc → used by its owner alone → Free, once, with the slice that Alloc returned. Structures that
// readers reach without locks call Free through package epoch, after the grace period.
//
// Where memory comes from:
//
//	size n            source
//	n <= 1 MiB        power-of-two class (256 B … 1 MiB), carved from a 2 MiB slab of that class
//	n == 2 MiB        a chunk; a few freed chunks are kept for the next call
//	other n > 1 MiB   its own mapping, rounded up to whole pages
//
// On Unix the mappings are anonymous, aligned to 2 MiB and marked for huge pages where the system has them: a random
// probe into a big table then costs one cache miss and no page walk. The first slab of each class is not: as long as a process needs
// few blocks of a class, they take their pages and not 2 MiB. Elsewhere, and under the race detector (which
// does not see mapped memory), blocks are ordinary Go memory without pointers; freed blocks are then overwritten, so
// that the detector reports a reader that comes after Free as a race.
//
// Concurrency: all functions may be called at any time; one mutex, held for some ten instructions except when the
// system is asked for memory. The downside of the classes is rounding: up to half of a block may be unused.
//
// Go pointers must not be stored in this memory: the collector does not look here.
package offheap
