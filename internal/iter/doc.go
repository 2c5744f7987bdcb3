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
// comparison for each, log2 of the number of sources. What is compared is kept beside the tree as two numbers: the
// dataset, and 8 bytes of the key behind those that the keys of all sources share. Keys themselves are looked at only if
// both are the same. A key that does not begin with what is shared shortens it, and all prefixes are made anew; when
// many keys had to be looked at, it is sought again and may be longer. Going backwards both numbers are kept inverted,
// and the comparison is the same.
//
// Measured over 4 sources, beside the 5 ns that the sources of the benchmark take: 20 to 25 ns a version, half of it for
// the branches that cannot be predicted.
package iter
