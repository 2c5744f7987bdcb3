package segment

import (
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// pageBytes is what systems and devices read at least. A data block that takes most of a page costs one page to read if it
// lies in one, else two; so zeros may lie before it, up to the next page.
const (
	pageBytes = 4 << 10

	// padShare is which part of a file may be such zeros: one in so many bytes.
	padShare = 32

	// leastPad is how many zeros there are at least: with fewer, who reads the blocks one after the other could not tell them
	// from the header of a block, whose body is never empty.
	leastPad = 8
)

// align writes zeros if that keeps a data block of length bytes, which comes next, within a page.
func (w *Writer) align(length uint64) (gap int64) {
	at := w.pos + int64(len(w.out))
	gap = -at & (pageBytes - 1)
	if w.opts.BlockBytes < pageBytes/2 || length < pageBytes/2 || length > pageBytes || int64(length) <= gap ||
		gap < leastPad || (w.padded+gap)*padShare > at {
		return 0
	}
	w.padded += gap
	w.out = append(w.out, make([]byte, gap)...)
	return gap
}

// unalign takes back what align has just written.
func (w *Writer) unalign(gap int64) {
	w.padded -= gap
	w.out = w.out[:int64(len(w.out))-gap]
}

// padding returns how many zeros there are up to the next page, 0 if a block begins at offset at, where b begins.
func padding(b []byte, at int64) (int64, error) {
	gap := -at & (pageBytes - 1)
	if gap < leastPad || int64(len(b)) < gap || !coding.AllZero(b[:leastPad]) {
		return 0, nil
	}
	if !coding.AllZero(b[:gap]) {
		return 0, corruption.New(0, "segment: bytes between two blocks are not zero")
	}
	return gap, nil
}
