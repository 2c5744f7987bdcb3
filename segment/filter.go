package segment

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Hash returns the hash of a key by which filters are asked. The seed is that of the segment's writer, one for the
// whole database. It allocates nothing.
func Hash(seed uint64, ds event.DatasetID, key []byte) uint64 {
	// The dataset goes into the seed, so that the key need not be copied behind it. The factor is odd: two datasets never
	// share a seed.
	return xxh3.HashSeed(key, seed+uint64(ds)*0x9e3779b97f4a7c15)
}

// A filter page says of a hash that it is surely not one of those added, or may be. It is a split block Bloom filter:
// the hash chooses a line of 512 bits, a cache line, and a bit in each of its eight words. At 10 bits a key 1 of 100
// hashes that were not added is taken for one that was.
const (
	filterHead  = 64 // bytes before the first line, so that lines are cache lines
	filterLine  = 64 // bytes of a line
	filterWords = filterLine / 8

	maxFilterLines = (16<<10 - filterHead) / filterLine // a page is at most 16 KiB
	maxBitsPerKey  = 32
)

// filterKeys returns how many keys a page takes.
func filterKeys(bitsPerKey int) int { return maxFilterLines * filterLine * 8 / bitsPerKey }

// appendFilter appends the page of some hashes, at least one and at most filterKeys.
func appendFilter(dst []byte, hashes []uint64, bitsPerKey int) []byte {
	lines := (len(hashes)*bitsPerKey + filterLine*8 - 1) / (filterLine * 8)
	at := len(dst)
	dst = append(dst, make([]byte, filterHead+lines*filterLine)...)
	page := dst[at:]
	page[0] = kindFilter
	binary.LittleEndian.PutUint32(page[4:], uint32(lines))
	for _, h := range hashes {
		line := page[filterHead+filterLine*lineOf(h, uint32(lines)):][:filterLine]
		g := wordBits(h)
		for w := range filterWords {
			word := line[8*w : 8*w+8]
			binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)|1<<(g>>(6*w)&63))
		}
	}
	return dst
}

// lineOf maps a hash to one of n lines.
func lineOf(h uint64, n uint32) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

// wordBits returns eight numbers of 6 bits, lowest first. Hashes of one line are alike in their upper bits; after the
// multiplication the upper 48 bits depend on all of the others.
func wordBits(h uint64) uint64 { return h * 0x9e3779b97f4a7c15 >> 16 }

// filterHas reports whether a hash may have been added to a page that was checked.
func filterHas(page []byte, h uint64) bool {
	lines := binary.LittleEndian.Uint32(page[4:])
	line := page[filterHead+filterLine*lineOf(h, lines):][:filterLine]
	g := wordBits(h)
	miss := ^binary.LittleEndian.Uint64(line) >> (g & 63)
	miss |= ^binary.LittleEndian.Uint64(line[8:]) >> (g >> 6 & 63)
	miss |= ^binary.LittleEndian.Uint64(line[16:]) >> (g >> 12 & 63)
	miss |= ^binary.LittleEndian.Uint64(line[24:]) >> (g >> 18 & 63)
	miss |= ^binary.LittleEndian.Uint64(line[32:]) >> (g >> 24 & 63)
	miss |= ^binary.LittleEndian.Uint64(line[40:]) >> (g >> 30 & 63)
	miss |= ^binary.LittleEndian.Uint64(line[48:]) >> (g >> 36 & 63)
	miss |= ^binary.LittleEndian.Uint64(line[56:]) >> (g >> 42 & 63)
	return miss&1 == 0
}

// checkFilter says whether filterHas can read a page.
func checkFilter(page []byte) error {
	if len(page) < filterHead+filterLine || page[0] != kindFilter || page[1]|page[2]|page[3] != 0 {
		return corruption.New(0, "filter page of %d bytes", len(page))
	}
	lines := binary.LittleEndian.Uint32(page[4:])
	if lines == 0 || lines > maxFilterLines || len(page) != filterHead+int(lines)*filterLine ||
		!coding.AllZero(page[8:filterHead]) {
		return corruption.New(4, "filter page of %d bytes with %d lines", len(page), lines)
	}
	return nil
}
