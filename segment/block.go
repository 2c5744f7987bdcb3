package segment

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Kinds of blocks. Never renumber.
const (
	kindData         = 1
	kindIndex        = 2
	kindFilter       = 3
	kindTop          = 4
	kindDue          = 5
	kindDueIndex     = 6
	kindRangeDeletes = 7
	kindProperties   = 8
)

var kindNames = [...]string{kindData: "data", kindIndex: "index", kindFilter: "filter", kindTop: "top index",
	kindDue: "due", kindDueIndex: "due index", kindRangeDeletes: "range deletes", kindProperties: "properties"}

// Columns of sorted blocks. Never renumber. The first three are in each of them.
const (
	colEnd    = 0 // where the entry ends in the heap
	colKeyLen = 1 // length of the key without what all keys of the block share
	colLSN    = 2

	colTime    = 3 // of data blocks: with the top bit flipped, so that the order is that of unsigned numbers
	colOp      = 4
	colFlags   = 5
	colSession = 6
	colParts   = 7 // length of the parts

	colOffset = 3 // of index blocks: where a block begins
	colLength = 4 // and its length with its header
	colFilter = 5 // of top indexes: length of the filter page that follows the index block, 0 without

	maxColumns = 8
)

// columnsOf is the number of columns by kind, 0 for blocks that are not sorted.
var columnsOf = [...]int{kindData: 8, kindIndex: 5, kindFilter: 0, kindTop: 6, kindDue: 3, kindDueIndex: 5,
	kindRangeDeletes: 0, kindProperties: 0}

const (
	sortedHead   = 16 // bytes before the columns' bases
	signBit      = 1 << 63
	prefixLen    = 8
	datasetLen   = 4 // bytes of the dataset in front of a key
	dueLen       = 8 // bytes of the due time in front of the dataset
	maxHeadBytes = sortedHead + maxColumns*8 + maxColumns
)

// headLen returns where the columns of a block with k columns begin.
func headLen(k int) int { return sortedHead + 8*k + (k+7)&^7 }

// widthMask has the bits of a number of w bytes.
var widthMask = [9]uint64{0, 1<<8 - 1, 1<<16 - 1, 1<<24 - 1, 1<<32 - 1, 1<<40 - 1, 1<<48 - 1, 1<<56 - 1, math.MaxUint64}

// column is an array of numbers of one width, each less by base than what it stands for.
type column struct {
	base, mask uint64
	at, width  int // of the array in the block
}

// sorted is a view of a sorted block: entries in the order of their keys, newest first among those of one key. See the
// package comment for its bytes. It is valid as long as the bytes are.
type sorted struct {
	b        []byte
	n        int // entries
	used     int // where the columns end
	prefixes int // where their array begins
	common   []byte
	heap     []byte
	cols     [maxColumns]column
}

// parse makes s the view of b. It reports false if the parts of the block lie outside of b; what they hold is check's
// to judge, once, when the block is read.
func (s *sorted) parse(b []byte, kind byte) bool {
	k := columnsOf[kind]
	at := headLen(k)
	if len(b) < at || b[0] != kind || int(b[1]) != k {
		return false
	}
	n, common := uint64(binary.LittleEndian.Uint32(b[4:])), uint64(binary.LittleEndian.Uint32(b[8:]))
	if n == 0 || n > uint64(len(b)/prefixLen) {
		return false
	}
	s.b, s.n = b, int(n)
	widths := b[sortedHead+8*k : at]
	if common > uint64(len(b)-at) {
		return false
	}
	s.common = b[at : at+int(common)]
	at += int(common)
	for i := range k {
		w := int(widths[i])
		if w > 8 || at > len(b) {
			return false
		}
		col := &s.cols[i]
		*col = column{base: binary.LittleEndian.Uint64(b[sortedHead+8*i:])} // without width, col reads from a line in use
		if w > 0 {
			col.mask, col.at, col.width = widthMask[w], at, w
			at += s.n * w
		}
	}
	s.used, s.prefixes = at, (at+7)&^7
	at = s.prefixes + prefixLen*s.n
	if at > len(b) {
		return false
	}
	s.heap = b[at:]
	return true
}

// col returns the number of entry i in column c. It may read up to 8 bytes more than the number has: the prefixes
// follow.
func (s *sorted) col(c, i int) uint64 {
	col := &s.cols[c]
	return col.base + binary.LittleEndian.Uint64(s.b[col.at+i*col.width:])&col.mask
}

// prefix returns the 8 bytes of key i that follow what all keys share, as a big-endian number. What lacks is zero.
func (s *sorted) prefix(i int) uint64 {
	return binary.LittleEndian.Uint64(s.b[s.prefixes+prefixLen*i:])
}

func (s *sorted) lsn(i int) event.LSN { return event.LSN(s.col(colLSN, i)) }

// span returns where entry i lies in the heap.
func (s *sorted) span(i int) (from, to int) {
	if i > 0 {
		from = int(s.col(colEnd, i-1))
	}
	return from, int(s.col(colEnd, i))
}

// restLen returns how many bytes of a key are in the heap, if n follow what all keys share.
func restLen(n int) int { return max(0, n-prefixLen) }

// rest returns what follows the prefix in key i, and the key's length without what all keys share.
func (s *sorted) rest(i int) ([]byte, int) {
	n := int(s.col(colKeyLen, i))
	from, _ := s.span(i)
	return s.heap[from : from+restLen(n)], n
}

// appendKey appends key i.
func (s *sorted) appendKey(dst []byte, i int) []byte {
	rest, n := s.rest(i)
	dst = append(dst, s.common...)
	var p [prefixLen]byte
	binary.BigEndian.PutUint64(p[:], s.prefix(i))
	return append(append(dst, p[:min(n, prefixLen)]...), rest...)
}

// searchStride is how far apart the prefixes are that a search looks at first: one in each cache line.
const searchStride = 64 / prefixLen

// lower returns the first entry at or after a position, n if there is none, and whether it has the position's key.
func (s *sorted) lower(k *searchKey) (i int, same bool) {
	switch c := k.against(s.common); {
	case c < 0:
		return 0, false
	case c > 0:
		return s.n, false
	}
	p := k.prefix(len(s.common))
	i = s.lowerPrefix(p)
	if i == s.n || s.prefix(i) != p {
		return i, false
	}
	c := s.compare(i, k)
	if c < 0 {
		if i++; i == s.n || s.prefix(i) != p {
			return i, false
		}
		if c = s.compare(i, k); c < 0 {
			if i = s.lowerOfEqual(k, p, i+1); i == s.n || s.prefix(i) != p {
				return i, false
			}
			c = s.compare(i, k)
		}
	}
	return i, c <= sameKey
}

// lowerPrefix returns the first entry whose prefix is not less than p.
//
// In a block that is not in the processor's caches each step of a binary search waits for memory. So the search stops
// halving early and counts, in one pass over a prefix of each cache line, those that are less: these loads don't wait for
// each other. Neither part has a branch that depends on the data.
func (s *sorted) lowerPrefix(p uint64) int {
	at := s.b[s.prefixes:]
	lo, n := 0, s.n
	for n > 32*searchStride {
		half := n >> 1
		if binary.LittleEndian.Uint64(at[prefixLen*(lo+half-1):]) < p {
			lo += half
		}
		n -= half
	}
	lines := at[prefixLen*lo : prefixLen*(lo+n)]
	less := uint64(0)
	for i := prefixLen * (searchStride - 1); i+prefixLen <= len(lines); i += prefixLen * searchStride {
		_, borrow := bits.Sub64(binary.LittleEndian.Uint64(lines[i:]), p, 0)
		less += borrow
	}
	lo += int(less) * searchStride
	line := lines[prefixLen*searchStride*less:]
	less = 0
	for i := 0; i < searchStride && len(line) >= prefixLen; i++ {
		_, borrow := bits.Sub64(binary.LittleEndian.Uint64(line), p, 0)
		less += borrow
		line = line[prefixLen:]
	}
	return lo + int(less)
}

// lowerOfEqual ends the search among entries from lo on whose prefix is p.
func (s *sorted) lowerOfEqual(k *searchKey, p uint64, lo int) int {
	step := 1
	for lo+step < s.n && s.prefix(lo+step) == p {
		step *= 2
	}
	hi := min(lo+step, s.n) // entries from hi on are not before k, or their prefix is larger
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s.prefix(mid) == p && s.compare(mid, k) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// What compare says besides a negative number: the entry lies before the position.
const (
	samePosition = 0
	sameKey      = 1 // after the position, but the key is the same
	otherKey     = 2 // after the position
)

// compare says where entry i, which has the same prefix as k, lies relative to k.
func (s *sorted) compare(i int, k *searchKey) int {
	c := len(s.common)
	rest, n := s.rest(i)
	m := k.len() - c
	if n < prefixLen || m < prefixLen {
		if n != m { // what is shorter is a prefix of the other
			return sign(n < m)
		}
	} else if c := bytes.Compare(rest, k.rest(c+prefixLen)); c != 0 {
		return sign(c < 0)
	}
	switch lsn := s.lsn(i); {
	case lsn > k.lsn:
		return -1
	case lsn == k.lsn:
		return samePosition
	}
	return sameKey
}

func sign(before bool) int {
	if before {
		return -1
	}
	return otherKey
}

// floor returns the last entry at or before a position, -1 if there is none.
func (s *sorted) floor(k *searchKey) int {
	i, same := s.lower(k)
	if same && s.lsn(i) == k.lsn {
		return i
	}
	return i - 1
}

// fill sets all of e but dataset and key from entry i of a data block.
func (s *sorted) fill(i int, e *Entry) {
	from, to := s.span(i)
	s.fillFrom(i, from+restLen(int(s.col(colKeyLen, i))), to, e)
}

// fillFrom is fill for who knows where in the heap the value begins and the entry ends.
func (s *sorted) fillFrom(i, from, to int, e *Entry) {
	parts := to - int(s.col(colParts, i))
	e.LSN = s.lsn(i)
	e.Time = int64(s.col(colTime, i) ^ signBit)
	e.Op = event.Op(s.col(colOp, i))
	e.Flags = event.Flags(s.col(colFlags, i))
	e.Session = event.SessionID(s.col(colSession, i))
	e.Value = s.heap[from:parts:parts]
	e.Parts = s.heap[parts:to:to]
}

// handle returns where the block of entry i of an index lies.
func (s *sorted) handle(i int) handle {
	return handle{offset: s.col(colOffset, i), length: s.col(colLength, i)}
}

// check judges all that parse does not, so that nothing read later can lie outside of the block or out of order. The
// error is event.ErrUnsupported or corruption.
func (s *sorted) check(kind byte) error {
	bad := func(what string, i int) error {
		return corruption.New(0, "%s block: %s of entry %d of %d", kindNames[kind], what, i, s.n)
	}
	k := columnsOf[kind]
	if s.b[2]|s.b[3] != 0 || binary.LittleEndian.Uint32(s.b[12:]) != 0 ||
		!coding.AllZero(s.b[sortedHead+9*k:headLen(k)]) || !coding.AllZero(s.b[s.used:s.prefixes]) {
		return corruption.New(0, "%s block: reserved bytes are not zero", kindNames[kind])
	}
	if kind == kindData && s.uniform() {
		if i, what := s.checkUniform(); what != "" {
			return bad(what, i)
		}
		return nil
	}
	at := uint64(0)
	for i := range s.n {
		end, n, lsn := s.col(colEnd, i), s.col(colKeyLen, i), s.col(colLSN, i)
		if end < at || end > uint64(len(s.heap)) {
			return bad("place", i)
		}
		span := end - at
		if n > uint64(len(s.b)) || uint64(restLen(int(n))) > span {
			return bad("key length", i)
		}
		if n < prefixLen && s.prefix(i)&(math.MaxUint64>>(8*n)) != 0 {
			return bad("prefix", i)
		}
		if lsn > uint64(event.MaxLSN) {
			return bad("LSN", i)
		}
		span -= uint64(restLen(int(n)))
		var err error
		switch kind {
		case kindData:
			err = s.checkData(i, int(end), span)
		case kindDue:
			if len(s.common)+int(n) <= dueLen+datasetLen || lsn == 0 || span != 0 {
				return bad("key", i)
			}
		default:
			if span != 0 || s.col(colLength, i) > maxBlockBytes || s.col(colOffset, i) > math.MaxInt64-2*maxBlockBytes ||
				kind == kindTop && s.col(colFilter, i) > maxBlockBytes {
				return bad("handle", i)
			}
		}
		if err != nil {
			return err
		}
		if i > 0 && !s.ascends(i) {
			return bad("order", i)
		}
		at = end
	}
	if at != uint64(len(s.heap)) {
		return bad("end", s.n-1)
	}
	return nil
}

// uniform reports whether all entries of a data block have keys of one length, and one op, flags and session, and no
// parts: the usual case. Then these are sound, and so are all LSNs.
func (s *sorted) uniform() bool {
	wide := s.cols[colKeyLen].width | s.cols[colOp].width | s.cols[colFlags].width | s.cols[colSession].width |
		s.cols[colParts].width
	n, op, flags, lsn := s.cols[colKeyLen].base, s.cols[colOp].base, s.cols[colFlags].base, &s.cols[colLSN]
	return wide == 0 && n <= event.MaxKeyBytes && s.cols[colParts].base == 0 &&
		len(s.common)+int(n) > datasetLen && len(s.common)+int(n) <= datasetLen+event.MaxKeyBytes &&
		op <= math.MaxUint8 && storable(event.Op(op)) && flags <= math.MaxUint8 && event.Flags(flags)&^event.KnownFlags == 0 &&
		lsn.base > 0 && lsn.base <= uint64(event.MaxLSN) && lsn.mask <= uint64(event.MaxLSN)-lsn.base
}

// checkUniform is check for a uniform block. It returns what is wrong with which entry.
func (s *sorted) checkUniform() (int, string) {
	n := s.cols[colKeyLen].base
	rest, size, filled := uint64(restLen(int(n))), uint64(len(s.heap)), uint64(math.MaxUint64)>>(8*n)
	at, last := uint64(0), uint64(0)
	for i := range s.n {
		end := s.col(colEnd, i)
		if end < at || end > size {
			return i, "place"
		}
		if end-at < rest {
			return i, "key length"
		}
		at = end
		p := s.prefix(i)
		if p&filled != 0 {
			return i, "prefix"
		}
		if p <= last && i > 0 && !s.ascends(i) {
			return i, "order"
		}
		last = p
	}
	if at != size {
		return s.n - 1, "end"
	}
	return 0, ""
}

// checkData judges entry i of a data block, which ends at end in the heap and has span bytes besides its key.
func (s *sorted) checkData(i, end int, span uint64) error {
	bad := func(what string) error {
		return corruption.New(0, "data block: %s of entry %d of %d", what, i, s.n)
	}
	n := len(s.common) + int(s.col(colKeyLen, i)) - datasetLen
	if n < 1 || n > event.MaxKeyBytes {
		return bad("key length")
	}
	if s.col(colLSN, i) == 0 {
		return bad("LSN")
	}
	op, flags, parts := s.col(colOp, i), s.col(colFlags, i), s.col(colParts, i)
	if op == 0 || op > math.MaxUint8 || flags > math.MaxUint8 {
		return bad("op")
	}
	if !storable(event.Op(op)) {
		return event.Unsupported("op %d in a segment", op)
	}
	if event.Flags(flags)&^event.KnownFlags != 0 {
		return event.Unsupported("event flags %s", event.Flags(flags))
	}
	if parts > span {
		return bad("parts")
	}
	if parts > 0 {
		return event.CheckParts(s.heap[end-int(parts) : end])
	}
	return nil
}

// storable reports whether a segment may hold events of an op: those that make a version of a key.
func storable(o event.Op) bool {
	return o.Known() && !o.System() && o != event.OpDeleteRange
}

// ascends reports whether entry i lies after the one before it.
func (s *sorted) ascends(i int) bool {
	if p, q := s.prefix(i-1), s.prefix(i); p != q {
		return p < q
	}
	a, n := s.rest(i - 1)
	b, m := s.rest(i)
	if n < prefixLen || m < prefixLen {
		if n != m {
			return n < m
		}
	} else if c := bytes.Compare(a, b); c != 0 {
		return c < 0
	}
	return s.lsn(i-1) > s.lsn(i)
}
