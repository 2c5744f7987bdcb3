package memtable

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/dyngodb/dyngo/internal/tail"
)

// radixFrom is the number of entries from which the radix sort is faster than comparing.
const radixFrom = 192

// sortEntries sorts es by key, drops second entries of a key and returns what is left of es. tmp is scratch of the same
// length. Nobody else sees the entries yet.
func sortEntries(a *tail.Arena, es, tmp []entry) []entry {
	if !sortPrefixes(es, tmp) {
		return es
	}
	return sortTies(a, es)
}

// sortPrefixes sorts es by prefix and reports whether some prefix comes twice.
func sortPrefixes(es, tmp []entry) (ties bool) {
	if len(es) >= radixFrom {
		radixSort(es, tmp)
	} else {
		slices.SortFunc(es, func(x, y entry) int { return cmp.Compare(x.prefix, y.prefix) })
	}
	for i := 1; i < len(es) && !ties; i++ {
		ties = es[i].prefix == es[i-1].prefix
	}
	return ties
}

// radixSort sorts by prefix, byte by byte from the last one; bytes that are the same in all prefixes cost nothing.
func radixSort(es, tmp []entry) {
	var counts [8][256]uint32
	for i := range es {
		p := es[i].prefix
		for b := range 8 {
			counts[b][byte(p>>(8*b))]++
		}
	}
	src, dst := es, tmp[:len(es)]
	for b := range 8 {
		c := &counts[b]
		if c[byte(src[0].prefix>>(8*b))] == uint32(len(es)) {
			continue
		}
		sum := uint32(0)
		for i, n := range c {
			c[i] = sum
			sum += n
		}
		for i := range src {
			k := byte(src[i].prefix >> (8 * b))
			dst[c[k]] = src[i]
			c[k]++
		}
		src, dst = dst, src
	}
	if &src[0] != &es[0] {
		copy(es, src)
	}
}

// sortTies sorts entries of equal prefix by the keys themselves and drops second entries of a key.
func sortTies(a *tail.Arena, es []entry) []entry {
	n := 0
	for i := 0; i < len(es); {
		j := i + 1
		for j < len(es) && es[j].prefix == es[i].prefix {
			j++
		}
		tie := es[i:j]
		i = j
		if len(tie) > 1 {
			slices.SortFunc(tie, func(x, y entry) int {
				return bytes.Compare(a.Record(tail.Pos(x.pos)).Key(), a.Record(tail.Pos(y.pos)).Key())
			})
			tie = slices.CompactFunc(tie, func(x, y entry) bool {
				return x.pos == y.pos ||
					string(a.Record(tail.Pos(x.pos)).Key()) == string(a.Record(tail.Pos(y.pos)).Key())
			})
		}
		n += copy(es[n:], tie)
	}
	return es[:n]
}
