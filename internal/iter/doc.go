// Package iter merges sorted sequences of versions of keys.
//
// It promises: a Merge yields every version of every source, in the order of the sources, in both directions and
// after any change of direction; a version that several sources have comes once for each, that of the source given
// first first. It allocates nothing once it is made. It does not know what versions mean: which of them a read sees
// is for the caller to say. It promises no compatibility.
//
// Order: by dataset ascending, then the bytes of the key ascending, then LSN descending, so the newest version of a key
// comes first.
//
// Life of a Merge: New → SeekGE, First, Next … → the sources are closed by whoever made them. One goroutine at a time.
//
// # How it works
//
// A tree of losers: each inner node holds the source that lost the comparison there, the winner of all is the version
// that comes next. After the winner moved, only the nodes on the way from its leaf to the root are compared again, one
// comparison for each, log2 of the number of sources. What is compared is kept beside the tree: dataset and the first 8
// bytes of the key as two numbers, so that keys themselves are looked at only if those are the same. Going backwards
// both numbers are kept inverted, and the comparison is the same.
//
// Keys that share their first 8 bytes cost a comparison of the bytes; that is the price of sources that know nothing of
// each other.
package iter
