package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/btree"

	"github.com/dyngodb/dyngo/event"
)

// Entry is a version of a key.
type Entry struct {
	Key, Value []byte
	LSN        event.LSN
	Time       int64 // log time, Unix nanoseconds
	Expires    int64 // Unix nanoseconds, 0 = never
	Dead       bool  // the key is not there
	Elsewhere  bool  // it is, but its value is not kept here
}

// Sizes of leaves. A block is written anew when its leaf has maxNews writes, or when a reader would have to sort more than that.
const (
	leafBytes = 8 << 10
	leafKeys  = 64
	maxNews   = 16
	// forceNews is how many writes wait for all readers to see them; then they go into the block, and older readers elsewhere.
	forceNews = 16 * maxNews
	// maxPending bounds the writes that wait while a range is built; so does memory.
	maxPending = 1 << 16

	waitBytes   = 120 // of an Entry that waits, and what holds it
	changeBytes = 16  // of a change
	placeBytes  = 8   // of a place
	degree      = 32  // of the B-tree
)

// Memory is what ranges take together, and the most that they may. Safe for concurrent use.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory makes a Memory of at most limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used is what all ranges take, writes that wait for a range to be built included.
func (m *Memory) Used() int64 { return m.used.Load() }

// Room is what ranges that are built may still take: an eighth is left for what is written to them.
func (m *Memory) Room() int64 { return m.limit - m.limit/8 - m.used.Load() }

// Range is the live records of the keys from From on and before To. Safe for concurrent use.
type Range struct {
	From, To []byte // nil = open; not to be changed

	memory *Memory // nil = unbounded

	mu      sync.RWMutex // guards the fields below
	leaves  *btree.BTreeG[item]
	common  []byte // what the keys of the builder begin with; the tree's prefixes are of what comes then
	state   state
	pending []Entry // while it is built
	cut     *Range  // takes the writes, once there is one
	bytes   int64
	keys    int64
	writes  int64 // since TakeUse
	outgrew bool  // it was dropped because there was no more memory

	pairs, gets atomic.Int64 // since TakeUse
}

// Use is what a range was asked for.
type Use struct {
	Pairs  int64 // that cursors went to
	Gets   int64 // that were served
	Writes int64
}

// TakeUse returns what the range was used for since the last call.
func (r *Range) TakeUse() Use {
	u := Use{Pairs: r.pairs.Swap(0), Gets: r.gets.Swap(0)}
	r.mu.Lock()
	defer r.mu.Unlock()
	u.Writes, r.writes = r.writes, 0
	return u
}

type state uint8

const (
	building state = iota
	ready
	dropped
	shortened // and cut goes on for it
)

// leaf covers the keys from first on, up to the next leaf's.
type leaf struct {
	first   []byte
	block   *block
	news    []byte    // records of what was written since, oldest first; only appended to
	changes []change  // these by key, and those of one key newest first. Immutable
	since   event.LSN // reads from here on are served
}

// change is a write to a leaf that is not in its block. It says where in the block its key belongs: readers compare no keys.
type change struct {
	from, to uint32 // where its record lies in news
	at       uint32 // as many records of the block come before its key
	over     bool   // the next one has that key
	older    bool   // so has the change before this one
}

// behind is the first record of the block that comes after the change.
func (c *change) behind() int {
	if c.over {
		return int(c.at) + 1
	}
	return int(c.at)
}

func (l *leaf) record(i int) Record {
	c := &l.changes[i]
	return l.news[c.from:c.to:c.to]
}

// changeOf returns where the newest change of a key is, or would be, from what the block knows of the key.
func (l *leaf) changeOf(key []byte, at int, over bool) (i int, has bool) {
	i, _ = slices.BinarySearchFunc(l.changes, at, func(c change, at int) int { return int(c.at) - at })
	for ; i < len(l.changes) && int(l.changes[i].at) == at; i++ {
		switch c := &l.changes[i]; {
		case c.older:
		case c.over || over:
			if c.over {
				return i, over
			}
		default:
			if order := bytes.Compare(keyOf(l.record(i)), key); order >= 0 {
				return i, order == 0
			}
		}
	}
	return i, false
}

// seenAt returns which of a key's changes, of which the newest is i, a read at max sees; has is false if it sees none. end is behind the
// oldest.
func (l *leaf) seenAt(i int, max event.LSN) (seen, end int, has bool) {
	seen = i
	for end = i; end == i || end < len(l.changes) && l.changes[end].older; end++ {
		if !has && l.record(end).LSN() <= max {
			seen, has = end, true
		}
	}
	return seen, end, has
}

// write takes a write of a key that the leaf covers.
func (l *leaf) write(e *Entry) {
	at, over := l.block.search(0, e.Key)
	i, has := l.changeOf(e.Key, at, over)
	if l.news == nil {
		l.news = make([]byte, 0, 4*e.size())
	}
	from := len(l.news)
	l.news = appendRecord(l.news, e)
	next := make([]change, len(l.changes)+1) // readers have the former
	copy(next, l.changes[:i])
	next[i] = change{from: uint32(from), to: uint32(len(l.news)), at: uint32(at), over: over}
	copy(next[i+1:], l.changes[i:])
	if has {
		next[i+1].older = true
	}
	l.changes = next
}

// item is a leaf in the tree, found by a few bytes of its first key: most steps of a search need no more than these.
type item struct {
	prefix uint64
	*leaf
}

func (a item) less(b item) bool {
	if a.prefix != b.prefix {
		return a.prefix < b.prefix
	}
	return a.leaf != b.leaf && bytes.Compare(a.first, b.first) < 0
}

// prefixOf is a number for a key, which is not above those of later keys.
func prefixOf(common, key []byte) uint64 {
	rest, ok := bytes.CutPrefix(key, common)
	switch {
	case !ok && bytes.Compare(key, common) < 0:
		return 0
	case !ok:
		return math.MaxUint64
	case len(rest) >= 8:
		return binary.BigEndian.Uint64(rest)
	}
	var b [8]byte
	copy(b[:], rest)
	return binary.BigEndian.Uint64(b[:])
}

// block is records in key order, one behind the other. Immutable. A record is
//
//	LSN uint64 | time uint64 | length of the key << 3 | flags, uint32 | expiry uint64, if it has one | key | value
type block struct {
	data   []byte
	places []place // of records in data
	common []byte  // what all keys begin with; lies in data
}

// place is where a record begins, and the first bytes of what its key has behind common: a search by them does not touch the records.
type place struct{ start, prefix uint32 }

const (
	recordHeader = 8 + 8 + 4

	flagElsewhere = 1
	flagDead      = 2
	flagExpires   = 4
	flagBits      = 3
)

// startOf is where record i begins; all end where one would that follows.
func (b *block) startOf(i int) int {
	if i < len(b.places) {
		return int(b.places[i].start)
	}
	return len(b.data)
}

// record is where record i lies.
func (b *block) record(i int) Record {
	end := b.startOf(i + 1)
	return b.data[b.startOf(i):end:end]
}

// keyAt is where a record's key lies.
func keyAt(record []byte) (from, to int) {
	bits := binary.LittleEndian.Uint32(record[16:])
	if from = recordHeader; bits&flagExpires != 0 {
		from += 8
	}
	return from, from + int(bits>>flagBits)
}

func keyOf(record []byte) []byte {
	from, to := keyAt(record)
	return record[from:to:to]
}

// Record is a version of a key as a range keeps it; see block for its bytes.
type Record []byte

// Pair is its key, and its value unless that is elsewhere.
func (r Record) Pair() (key, value []byte) {
	from, to := keyAt(r)
	return r[from:to:to], r[to:]
}

// Elsewhere and Expires are as in Entry.
func (r Record) Elsewhere() bool { return r[16]&flagElsewhere != 0 }
func (r Record) Expires() int64 {
	if r[16]&flagExpires == 0 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(r[recordHeader:]))
}

// LSN is that of the event that wrote it, Time its log time, in Unix nanoseconds.
func (r Record) LSN() event.LSN { return event.LSN(binary.LittleEndian.Uint64(r)) }
func (r Record) Time() int64    { return int64(binary.LittleEndian.Uint64(r[8:])) }

// Entry reads the record, whose memory e then refers to.
func (r Record) Entry(e *Entry) {
	e.Key, e.Value = r.Pair()
	e.LSN, e.Time, e.Expires = r.LSN(), r.Time(), r.Expires()
	e.Dead, e.Elsewhere = r[16]&flagDead != 0, r.Elsewhere()
}

func appendRecord(dst []byte, e *Entry) []byte {
	bits := uint32(len(e.Key)) << flagBits
	if e.Elsewhere {
		bits |= flagElsewhere
	}
	if e.Dead {
		bits |= flagDead
	}
	if e.Expires != 0 {
		bits |= flagExpires
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.LSN))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Time))
	dst = binary.LittleEndian.AppendUint32(dst, bits)
	if e.Expires != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Expires))
	}
	return append(append(dst, e.Key...), e.Value...)
}

// size is the most that a record of e takes.
func (e *Entry) size() int { return recordHeader + 8 + len(e.Key) + len(e.Value) }

func (b *block) key(i int) []byte { return keyOf(b.record(i)) }

// search returns the first record from one on whose key is not before key.
func (b *block) search(from int, key []byte) (i int, found bool) {
	prefix := uint32(prefixOf(b.common, key) >> 32)
	lo, hi := from, len(b.places)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		order := cmp.Compare(b.places[mid].prefix, prefix)
		if order == 0 {
			order = bytes.Compare(b.key(mid), key)
		}
		switch {
		case order < 0:
			lo = mid + 1
		case order == 0:
			return mid, true
		default:
			hi = mid
		}
	}
	return lo, false
}

// done makes the block ready to be searched, after the last record.
func (b *block) done() *block {
	if len(b.places) == 0 {
		return b
	}
	b.common = common(b.key(0), b.key(len(b.places)-1))
	for i := range b.places {
		b.places[i].prefix = uint32(prefixOf(b.common, b.key(i)) >> 32)
	}
	return b
}

// common is what two keys both begin with, in the memory of a.
func common(a, b []byte) []byte {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n:n]
}

func (b *block) bytes() int64 { return int64(cap(b.data)) + int64(cap(b.places))*placeBytes }

func (b *block) add(record []byte) {
	b.places = append(b.places, place{start: uint32(len(b.data))})
	b.data = append(b.data, record...)
}

// copy adds records [i, j) of another block.
func (b *block) copy(o *block, i, j int) {
	if i == j {
		return
	}
	from, end := o.places[i].start, uint32(len(o.data))
	if j < len(o.places) {
		end = o.places[j].start
	}
	move := uint32(len(b.data)) - from // modulo 2^32
	for _, p := range o.places[i:j] {
		b.places = append(b.places, place{start: p.start + move})
	}
	b.data = append(b.data, o.data[from:end]...)
}

// New makes a range of the keys from from on and before to, nil = open, in some memory, nil = without bound. It takes writes and serves
// nobody until Fill.
func New(from, to []byte, m *Memory) *Range {
	r := &Range{From: bytes.Clone(from), To: bytes.Clone(to), memory: m}
	r.leaves = btree.NewG(degree, item.less)
	return r
}

// Covers says whether a key lies in the range.
func (r *Range) Covers(key []byte) bool {
	return bytes.Compare(key, r.From) >= 0 && (r.To == nil || bytes.Compare(key, r.To) < 0)
}

// Shorten ends the range before a key while it is built: the builder goes on for the range that is returned. Who still has the longer
// one may apply writes to it: they reach the other.
func (b *Builder) Shorten(to []byte) *Range {
	r, short := b.r, New(b.r.From, to, b.r.memory)
	b.r = short
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != building {
		short.state, short.outgrew = dropped, r.outgrew
		return short
	}
	short.account(b.bytes)
	for i := range r.pending {
		if e := &r.pending[i]; short.Covers(e.Key) {
			short.pending = append(short.pending, *e)
			short.account(e.bytes())
		}
	}
	r.account(-r.bytes)
	r.state, r.pending, r.cut = shortened, nil, short
	return short
}

// ErrDropped says that the range is no more.
var ErrDropped = errors.New("index: the range was dropped")

// ErrTooManyWrites says that more was written while the range was built than there is memory for.
var ErrTooManyWrites = errors.New("index: too many writes while the range was built")

// Builder takes the records of a range in key order.
type Builder struct {
	r     *Range
	lsn   event.LSN
	full  []*leaf
	block *block
	bytes int64
	keys  int64
	first []byte // of the leaf that block becomes
}

// Fill begins to build the range as of an LSN; see the package comment. Add takes the records, Done has the range serve readers.
func (r *Range) Fill(lsn event.LSN) *Builder {
	return &Builder{r: r, lsn: lsn, block: &block{}, first: r.From}
}

// Add takes the next record, whose memory stays the caller's.
func (b *Builder) Add(e *Entry) {
	if len(b.block.places) >= leafKeys || len(b.block.data) >= leafBytes {
		b.cut()
		b.first = bytes.Clone(e.Key)
	}
	b.block.places = append(b.block.places, place{start: uint32(len(b.block.data))})
	b.block.data = appendRecord(b.block.data, e)
	b.keys++
}

func (b *Builder) cut() {
	full := &block{data: slices.Clone(b.block.data), places: slices.Clone(b.block.places)}
	l := &leaf{first: b.first, block: full.done(), since: b.lsn}
	b.full = append(b.full, l)
	n := l.bytes()
	b.bytes += n
	b.block.data, b.block.places = b.block.data[:0], b.block.places[:0]
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	if b.r.state == building {
		b.r.account(n)
	}
}

// Done applies what was written meanwhile. From now on the range serves readers.
func (b *Builder) Done(visible event.LSN) error {
	b.cut()
	r := b.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.outgrew:
		return ErrTooManyWrites
	case r.state == dropped:
		return ErrDropped
	}
	r.common = commonPrefix(b.full)
	for _, l := range b.full {
		r.insert(l)
	}
	r.account(b.bytes - r.bytes) // what waited is counted again
	r.keys, r.state = b.keys, ready
	for i := range r.pending {
		if e := &r.pending[i]; e.LSN > b.lsn {
			r.put(e, visible)
		}
	}
	r.pending = nil
	if !r.fits() {
		return ErrTooManyWrites
	}
	return nil
}

// commonPrefix is what all keys of leaves begin with that were built.
func commonPrefix(full []*leaf) []byte {
	first, last := full[0].block, full[len(full)-1].block
	if len(first.places) == 0 {
		return nil
	}
	return bytes.Clone(common(first.key(0), last.key(len(last.places)-1)))
}

// insert puts a leaf into the tree, for one that has the same first key if there is one. r.mu is held.
func (r *Range) insert(l *leaf) { r.leaves.ReplaceOrInsert(item{prefixOf(r.common, l.first), l}) }

func (l *leaf) bytes() int64 {
	return l.block.bytes() + int64(cap(l.first)) + int64(cap(l.news)) + int64(cap(l.changes))*changeBytes + 160
}

// Drop ends the range: nobody is served any more.
func (r *Range) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut != nil {
		r.cut.Drop()
	}
	r.drop()
}

// drop is Drop with r.mu held.
func (r *Range) drop() {
	r.account(-r.bytes)
	r.state, r.pending, r.keys = dropped, nil, 0
	r.leaves.Clear(false)
}

// account counts bytes that the range takes more. r.mu is held.
func (r *Range) account(n int64) {
	r.bytes += n
	if r.memory != nil {
		r.memory.used.Add(n)
	}
}

// fits says whether there is memory for what the range has. If not, it is dropped. r.mu is held.
func (r *Range) fits() bool {
	if r.memory == nil || r.memory.used.Load() <= r.memory.limit {
		return true
	}
	r.outgrew = true
	r.drop()
	return false
}

// Outgrew says that the range was dropped because there was no more memory for what was written to it.
func (r *Range) Outgrew() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.outgrew
}

// Ready says whether the range serves readers, Bytes and Keys what it holds.
func (r *Range) Ready() (ok bool, bytes, keys int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state == ready, r.bytes, r.keys
}

// Apply takes a write, whose memory stays the caller's. Versions of one key come in the order of their LSNs, and each before its LSN
// is visible to anybody; visible is an LSN that all reads reach which begin from now on. False: there is no more memory for what was
// written, and the range was dropped.
func (r *Range) Apply(e *Entry, visible event.LSN) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.state {
	case shortened:
		return !r.cut.Covers(e.Key) || r.cut.Apply(e, visible)
	case building:
		if len(r.pending) == maxPending {
			r.outgrew = true
			r.drop()
			return false
		}
		own := *e
		own.Key = append(append(make([]byte, 0, len(e.Key)+len(e.Value)), e.Key...), e.Value...)
		own.Key, own.Value = own.Key[:len(e.Key):len(e.Key)], own.Key[len(e.Key):]
		r.pending = append(r.pending, own)
		r.account(own.bytes())
		return r.fits()
	case ready:
		r.writes++
		r.put(e, visible)
		return r.fits()
	}
	return true
}

// bytes is what a write takes that waits.
func (e *Entry) bytes() int64 { return waitBytes + int64(len(e.Key)+len(e.Value)) }

// put adds a write to its leaf. r.mu is held.
func (r *Range) put(e *Entry, visible event.LSN) {
	l := r.leafOf(e.Key).leaf
	before := l.bytes()
	l.write(e)
	r.account(l.bytes() - before)
	if len(l.changes)%maxNews == 0 {
		r.fold(l, visible)
	}
}

// pivots are leaves to search the tree with.
var pivots = sync.Pool{New: func() any { return new(leaf) }}

// pivot is an item to search the tree with, for a key. done has to follow.
func (r *Range) pivot(key []byte) item {
	l := pivots.Get().(*leaf)
	l.first = key
	return item{prefixOf(r.common, key), l}
}

func (p item) done() {
	p.first = nil
	pivots.Put(p.leaf)
}

// leafOf returns the leaf that covers a key of the range, as the tree has it. r.mu is held.
func (r *Range) leafOf(key []byte) (found item) {
	p := r.pivot(key)
	defer p.done()
	r.leaves.DescendLessOrEqual(p, func(l item) bool {
		found = l
		return false
	})
	return found
}

// fold writes the block of a leaf anew with its news up to an LSN, with all if too many would be left. r.mu is held.
func (r *Range) fold(l *leaf, visible event.LSN) {
	upTo, left := uint32(len(l.news)), 0 // of news: those go into the block before the first that not everybody sees
	for i := range l.changes {
		if l.record(i).LSN() > visible {
			upTo = min(upTo, l.changes[i].from)
		}
	}
	for i := range l.changes {
		if l.changes[i].from >= upTo {
			left++
		}
	}
	if left >= forceNews {
		upTo, left = uint32(len(l.news)), 0
	}
	if left == len(l.changes) {
		return
	}
	r.account(-l.bytes())
	r.keys -= int64(len(l.block.places))
	former := *l
	l.block, l.since = former.merge(upTo)
	l.news, l.changes = nil, nil
	r.keys += int64(len(l.block.places))
	if len(l.block.places) == 0 && left == 0 && r.absorb(l) {
		return
	}
	leaves := r.split(l)
	if left > 0 {
		rest := slices.Clone(former.changes)
		slices.SortFunc(rest, func(a, b change) int { return cmp.Compare(a.from, b.from) }) // as they were written
		var e Entry
		for _, c := range rest[len(rest)-left:] {
			Record(former.news[c.from:c.to]).Entry(&e)
			i := len(leaves) - 1
			for i > 0 && bytes.Compare(e.Key, leaves[i].first) < 0 {
				i--
			}
			leaves[i].write(&e)
		}
	}
	for _, l := range leaves {
		r.account(l.bytes())
	}
}

// merge is the block with the changes that lie in news before upTo, and the LSN from which on it serves.
func (l *leaf) merge(upTo uint32) (*block, event.LSN) {
	since := l.since
	out := &block{data: make([]byte, 0, len(l.block.data)+int(upTo)), places: make([]place, 0, len(l.block.places)+len(l.changes))}
	at := 0
	for i := 0; i < len(l.changes); i++ {
		c := &l.changes[i]
		for c.from >= upTo && i+1 < len(l.changes) && l.changes[i+1].older {
			i++
			c = &l.changes[i]
		}
		if c.from >= upTo {
			continue
		}
		record := l.record(i)
		since = max(since, record.LSN())
		for i+1 < len(l.changes) && l.changes[i+1].older {
			i++
		}
		out.copy(l.block, at, int(c.at))
		if at = int(c.at); c.over {
			at++
		}
		if record[16]&flagDead == 0 {
			out.add(record)
		}
	}
	out.copy(l.block, at, len(l.block.places))
	return out.done(), since
}

// split has new leaves take the last records of a leaf that is too large. It returns all, by key. r.mu is held.
func (r *Range) split(l *leaf) []*leaf {
	b, leaves := l.block, []*leaf{l}
	n, size := len(b.places), len(b.data)
	if n < 2 || n <= 2*leafKeys && size <= 2*leafBytes {
		return leaves
	}
	parts := min(max(n/leafKeys, size/leafBytes, 2), n)
	for i := range parts {
		from, to := i*n/parts, (i+1)*n/parts
		part := &block{}
		part.copy(b, from, to)
		part.done()
		if i == 0 {
			l.block = part
			continue
		}
		o := &leaf{first: bytes.Clone(b.key(from)), block: part, since: l.since}
		leaves = append(leaves, o)
		r.insert(o)
	}
	return leaves
}

// absorb has the leaf before an empty one cover its keys too, if there is one; the empty one is accounted for no more. r.mu is held.
func (r *Range) absorb(l *leaf) bool {
	var before *leaf
	p := item{prefixOf(r.common, l.first), l}
	r.leaves.DescendLessOrEqual(p, func(b item) bool {
		before = b.leaf
		return b.leaf == l
	})
	if before == l {
		return false // the first
	}
	r.leaves.Delete(p)
	before.since = max(before.since, l.since)
	return true
}

// Get finds the version of a key of the range that a read at max sees. Without served the range can't say. e aliases memory that does
// not change.
func (r *Range) Get(key []byte, max event.LSN, e *Entry) (found, served bool) {
	r.mu.RLock()
	if r.state != ready {
		r.mu.RUnlock()
		return false, false
	}
	l := *r.leafOf(key).leaf
	r.mu.RUnlock()
	if max < l.since {
		return false, false
	}
	r.gets.Add(1)
	at, over := l.block.search(0, key)
	if i, has := l.changeOf(key, at, over); has {
		if i, _, has = l.seenAt(i, max); has {
			l.record(i).Entry(e)
			return !e.Dead, true
		}
	}
	if over {
		l.block.record(at).Entry(e)
	}
	return over, true
}
