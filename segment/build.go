package segment

import (
	"encoding/binary"
	"math/bits"

	"github.com/dyngodb/dyngo/event"
)

// builder makes one sorted block after another. It knows the exact size of the block before an entry is added, so that
// blocks are as full as their limit allows.
type builder struct {
	kind  byte
	k     int // columns
	limit int // bytes of a block, unless it has fewer than least entries
	least int

	n        int
	shared   int    // bytes that all keys have in common
	keyBytes int    // of all keys
	minKey   int    // length of the shortest key
	maxKey   int    // and of the longest
	rests    int    // bytes of all keys behind their prefixes
	payload  int    // bytes of all payloads
	first    int    // bytes of the first entry's payload
	arena    []byte // keys and payloads, one behind the other
	entries  []built
	vals     [maxColumns][]uint64 // from colLSN on
	min, max [maxColumns]uint64
}

// built says where an entry is in the arena.
type built struct{ at, keyLen, end int }

func newBuilder(kind byte, limit, least int) *builder {
	b := &builder{kind: kind, k: columnsOf[kind]}
	b.begin(limit, least)
	return b
}

// begin makes the builder empty, for blocks of another size.
func (b *builder) begin(limit, least int) {
	b.limit, b.least = limit, max(least, 1)
	b.reset()
}

// reset makes the builder empty.
func (b *builder) reset() {
	b.n, b.keyBytes, b.rests, b.payload = 0, 0, 0, 0
	b.arena, b.entries = b.arena[:0], b.entries[:0]
	for i := range b.vals {
		b.vals[i] = b.vals[i][:0]
	}
}

// numbers are the columns of an entry from colLSN on, by column.
type numbers [maxColumns]uint64

// add adds an entry whose key has shared bytes in common with the one before. If the block would grow beyond its limit,
// it reports false and changes nothing.
func (b *builder) add(key []byte, shared int, v *numbers, value, parts []byte) bool {
	payload := len(value) + len(parts)
	if b.n == 0 {
		b.shared, b.minKey, b.maxKey, b.first = len(key), len(key), len(key), payload
		b.min, b.max = *v, *v
		b.append(key, v, value, parts)
		return true
	}
	shared = min(b.shared, shared)
	minKey, maxKey := min(b.minKey, len(key)), max(b.maxKey, len(key))
	rests := b.rests + restLen(len(key)-shared)
	if shared != b.shared {
		rests = b.restsWith(shared) + restLen(len(key)-shared)
	}
	heap := rests + b.payload + payload
	end0 := restLen(b.entries[0].keyLen-shared) + b.first
	width := widthOf(uint64(heap-end0)) + widthOf(uint64(maxKey-minKey))
	var lo, hi numbers
	for c := colLSN; c < b.k; c++ {
		lo[c], hi[c] = min(b.min[c], v[c]), max(b.max[c], v[c])
		width += widthOf(hi[c] - lo[c])
	}
	if b.n >= b.least && sortedSize(b.k, b.n+1, width, shared)+heap > b.limit {
		return false
	}
	b.shared, b.minKey, b.maxKey, b.min, b.max = shared, minKey, maxKey, lo, hi
	b.rests = rests - restLen(len(key)-shared)
	b.append(key, v, value, parts)
	return true
}

func (b *builder) append(key []byte, v *numbers, value, parts []byte) {
	at := len(b.arena)
	b.arena = append(append(append(b.arena, key...), value...), parts...)
	b.entries = append(b.entries, built{at: at, keyLen: len(key), end: len(b.arena)})
	for c := colLSN; c < b.k; c++ {
		b.vals[c] = append(b.vals[c], v[c])
	}
	b.n++
	b.keyBytes += len(key)
	b.rests += restLen(len(key) - b.shared)
	b.payload += len(value) + len(parts)
}

// restsWith returns what rests is if keys share that many bytes.
func (b *builder) restsWith(shared int) int {
	if b.minKey >= shared+prefixLen {
		return b.keyBytes - b.n*(shared+prefixLen)
	}
	n := 0
	for i := range b.entries {
		n += restLen(b.entries[i].keyLen - shared)
	}
	return n
}

// widthOf returns how many bytes a column needs whose largest number is v.
func widthOf(v uint64) int { return (bits.Len64(v) + 7) / 8 }

// sortedSize returns the length of a block of n entries without its heap, given the sum of its columns' widths.
func sortedSize(k, n, width, shared int) int {
	return (headLen(k)+shared+n*width+7)&^7 + n*prefixLen
}

// size returns about how long the block is, a little too much.
func (b *builder) size() int {
	return headLen(b.k) + b.n*(4*b.k+prefixLen) + b.rests + b.payload
}

// finish appends the block to dst and makes the builder empty.
func (b *builder) finish(dst []byte) []byte {
	k, n, shared := b.k, b.n, b.shared
	heap := b.rests + b.payload
	ends := b.ends()
	b.vals[colEnd], b.min[colEnd], b.max[colEnd] = ends, ends[0], uint64(heap)
	lens := b.vals[colKeyLen]
	for i := range b.entries {
		lens = append(lens, uint64(b.entries[i].keyLen-shared))
	}
	b.vals[colKeyLen], b.min[colKeyLen], b.max[colKeyLen] = lens, uint64(b.minKey-shared), uint64(b.maxKey-shared)

	width := 0
	for c := range k {
		width += widthOf(b.max[c] - b.min[c])
	}
	base, size := len(dst), sortedSize(k, n, width, shared)+heap
	if cap(dst)-base < size {
		dst = append(make([]byte, 0, base+size), dst...)
	}
	dst = dst[:base+size]
	p, le := dst[base:], binary.LittleEndian
	clear(p[:headLen(k)])
	p[0], p[1] = b.kind, byte(k)
	le.PutUint32(p[4:], uint32(n))
	le.PutUint32(p[8:], uint32(shared))
	at := headLen(k)
	at += copy(p[at:], b.arena[b.entries[0].at:][:shared])
	for c := range k {
		w := widthOf(b.max[c] - b.min[c])
		le.PutUint64(p[sortedHead+8*c:], b.min[c])
		p[sortedHead+8*k+c] = byte(w)
		at = putColumn(p, at, w, b.vals[c], b.min[c])
	}
	prefixes := (at + 7) &^ 7
	clear(p[at:prefixes])
	out := p[prefixes+n*prefixLen:]
	for i := range b.entries {
		e := &b.entries[i]
		key := b.arena[e.at+shared : e.at+e.keyLen]
		le.PutUint64(p[prefixes+prefixLen*i:], prefix8(key))
		out = out[copy(out, b.arena[e.at+e.keyLen-restLen(len(key)):e.end]):]
	}
	b.reset()
	return dst
}

// ends computes the first column.
func (b *builder) ends() []uint64 {
	ends, at := b.vals[colEnd], 0
	for i := range b.entries {
		e := &b.entries[i]
		at += restLen(e.keyLen-b.shared) + e.end - e.at - e.keyLen
		ends = append(ends, uint64(at))
	}
	return ends
}

// putColumn writes numbers less base in w bytes each, and returns where they end. It writes zeros or what is
// overwritten later up to 8 bytes behind; the prefixes are there.
func putColumn(p []byte, at, w int, vals []uint64, base uint64) int {
	if w == 0 {
		return at
	}
	for _, v := range vals {
		binary.LittleEndian.PutUint64(p[at:], v-base)
		at += w
	}
	return at
}

// fence finds the shortest key that lies after last and not after next, which shares bytes with it, and the LSN that
// puts the position after last's version. It is where a block that begins with next begins: a version of next's key
// that is sought is never looked for in the block before.
func fence(next []byte, shared int, lastLSN event.LSN, sameKey bool) ([]byte, event.LSN) {
	if sameKey {
		return next, lastLSN - 1
	}
	return next[:shared+1], event.MaxLSN
}
