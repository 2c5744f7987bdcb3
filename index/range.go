package index

import (
	"bytes"
	"errors"
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

	slotBytes = 40
	newsBytes = 120 // of an Entry and what holds it
	degree    = 32  // of the B-tree
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
	leaves  *btree.BTreeG[*leaf]
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
	first []byte
	block *block
	news  []Entry   // only appended to; their memory is theirs
	since event.LSN // reads from here on are served
}

// block is records in key order. Immutable.
type block struct {
	data  []byte
	slots []slot
}

// slot says where a record lies in data: its key is [key, value), its value ends at end.
type slot struct {
	key, value, end uint32
	elsewhere       bool
	lsn             event.LSN
	time, expires   int64
}

func (b *block) key(i int) []byte {
	s := &b.slots[i]
	return b.data[s.key:s.value:s.value]
}

func (b *block) entry(i int, e *Entry) {
	s := &b.slots[i]
	*e = Entry{Key: b.data[s.key:s.value:s.value], Value: b.data[s.value:s.end:s.end], LSN: s.lsn, Time: s.time, Expires: s.expires,
		Elsewhere: s.elsewhere}
}

// search returns the first slot whose key is not before key.
func (b *block) search(key []byte) (i int, found bool) {
	lo, hi := 0, len(b.slots)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(b.key(mid), key); {
		case c < 0:
			lo = mid + 1
		case c == 0:
			return mid, true
		default:
			hi = mid
		}
	}
	return lo, false
}

func (b *block) bytes() int64 { return int64(cap(b.data)) + int64(cap(b.slots))*slotBytes }

func (b *block) add(e *Entry) {
	at := uint32(len(b.data))
	b.data = append(append(b.data, e.Key...), e.Value...)
	b.slots = append(b.slots, slot{key: at, value: at + uint32(len(e.Key)), end: uint32(len(b.data)), elsewhere: e.Elsewhere, lsn: e.LSN,
		time: e.Time, expires: e.Expires})
}

// New makes a range of the keys from from on and before to, nil = open, in some memory, nil = without bound. It takes writes and serves
// nobody until Fill.
func New(from, to []byte, m *Memory) *Range {
	r := &Range{From: bytes.Clone(from), To: bytes.Clone(to), memory: m}
	r.leaves = btree.NewG(degree, func(a, b *leaf) bool { return bytes.Compare(a.first, b.first) < 0 })
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
	if len(b.block.slots) >= leafKeys || len(b.block.data) >= leafBytes {
		b.cut()
		b.first = bytes.Clone(e.Key)
	}
	b.block.add(e)
	b.keys++
}

func (b *Builder) cut() {
	l := &leaf{first: b.first, block: &block{data: slices.Clip(b.block.data), slots: slices.Clip(b.block.slots)}, since: b.lsn}
	b.full = append(b.full, l)
	n := l.bytes()
	b.bytes += n
	b.block = &block{}
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
	for _, l := range b.full {
		r.leaves.ReplaceOrInsert(l)
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

func (l *leaf) bytes() int64 {
	n := l.block.bytes() + int64(cap(l.first)) + 128
	for i := range l.news {
		n += l.news[i].bytes()
	}
	return n
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
	own := *e
	own.Key = append(append(make([]byte, 0, len(e.Key)+len(e.Value)), e.Key...), e.Value...)
	own.Key, own.Value = own.Key[:len(e.Key):len(e.Key)], own.Key[len(e.Key):]
	return r.apply(&own, visible)
}

func (r *Range) apply(own *Entry, visible event.LSN) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.state {
	case shortened:
		return !r.cut.Covers(own.Key) || r.cut.apply(own, visible)
	case building:
		if len(r.pending) == maxPending {
			r.outgrew = true
			r.drop()
			return false
		}
		r.pending = append(r.pending, *own)
		r.account(own.bytes())
		return r.fits()
	case ready:
		r.writes++
		r.put(own, visible)
		return r.fits()
	}
	return true
}

// bytes is what a write takes that is not in a block.
func (e *Entry) bytes() int64 { return newsBytes + int64(len(e.Key)+len(e.Value)) }

// put adds a write to its leaf. r.mu is held.
func (r *Range) put(e *Entry, visible event.LSN) {
	l := r.leafOf(e.Key)
	l.news = append(l.news, *e)
	r.account(e.bytes())
	if len(l.news)%maxNews == 0 {
		r.fold(l, visible)
	}
}

// pivots are leaves to search the tree with.
var pivots = sync.Pool{New: func() any { return new(leaf) }}

// leafOf returns the leaf that covers a key of the range. r.mu is held.
func (r *Range) leafOf(key []byte) (found *leaf) {
	pivot := pivots.Get().(*leaf)
	pivot.first = key
	r.leaves.DescendLessOrEqual(pivot, func(l *leaf) bool {
		found = l
		return false
	})
	pivot.first = nil
	pivots.Put(pivot)
	return found
}

// fold writes the block of a leaf anew with its news up to an LSN, with all if too many would be left. r.mu is held.
func (r *Range) fold(l *leaf, visible event.LSN) {
	n := 0 // news that go into the block: those before the first that not everybody sees
	for n < len(l.news) && l.news[n].LSN <= visible {
		n++
	}
	if len(l.news)-n >= forceNews {
		n = len(l.news)
	}
	if n == 0 {
		return
	}
	r.account(-l.bytes())
	before := len(l.block.slots)
	since := l.since
	for i := range l.news[:n] {
		since = max(since, l.news[i].LSN)
	}
	changes := newest(nil, l.news[:n], event.MaxLSN)
	leaves := merge(l.block, changes, l.first)
	rest := slices.Clone(l.news[n:])
	r.keys -= int64(before)
	for i, m := range leaves {
		m.since = since
		r.keys += int64(len(m.block.slots))
		for j := range rest {
			e := &rest[j]
			if bytes.Compare(e.Key, m.first) >= 0 && (i == len(leaves)-1 || bytes.Compare(e.Key, leaves[i+1].first) < 0) {
				m.news = append(m.news, *e)
			}
		}
		r.account(m.bytes())
		r.leaves.ReplaceOrInsert(m)
	}
	if len(leaves) == 1 && len(leaves[0].block.slots) == 0 && len(leaves[0].news) == 0 {
		r.absorb(leaves[0])
	}
}

// absorb has the leaf before an empty one cover its keys too. r.mu is held.
func (r *Range) absorb(l *leaf) {
	var before *leaf
	r.leaves.DescendLessOrEqual(l, func(b *leaf) bool {
		before = b
		return b == l
	})
	if before == l {
		return // the first
	}
	r.account(-l.bytes())
	r.leaves.Delete(l)
	both := *before
	both.since = max(before.since, l.since)
	r.leaves.ReplaceOrInsert(&both)
}

// newest appends the last write of each key that a read at max sees, in key order.
func newest(dst, news []Entry, max event.LSN) []Entry {
	dst = dst[:0]
	for i := len(news) - 1; i >= 0; i-- {
		e := &news[i]
		if e.LSN > max {
			continue
		}
		at, has := slices.BinarySearchFunc(dst, e.Key, func(d Entry, key []byte) int { return bytes.Compare(d.Key, key) })
		if !has {
			dst = slices.Insert(dst, at, *e)
		}
	}
	return dst
}

// merge writes the leaves of a block with changes, the first of which covers the keys from first on.
func merge(b *block, changes []Entry, first []byte) []*leaf {
	size, n := len(b.data), len(b.slots)
	for i := range changes {
		size, n = size+len(changes[i].Key)+len(changes[i].Value), n+1
	}
	parts := 1
	if size > 2*leafBytes || n > 2*leafKeys {
		parts = max(size/leafBytes, n/leafKeys, 2)
	}
	var leaves []*leaf
	out := &leaf{first: first, block: &block{data: make([]byte, 0, size/parts+1), slots: make([]slot, 0, n/parts+1)}}
	add := func(e *Entry) {
		if parts > 1 && len(out.block.slots) > 0 && (len(out.block.slots) > n/parts || len(out.block.data) > size/parts) {
			leaves = append(leaves, out)
			out = &leaf{first: bytes.Clone(e.Key), block: &block{data: make([]byte, 0, size/parts+1), slots: make([]slot, 0, n/parts+1)}}
		}
		out.block.add(e)
	}
	var e Entry
	i, j := 0, 0
	for i < len(b.slots) || j < len(changes) {
		order := -1
		switch {
		case i == len(b.slots):
			order = 1
		case j < len(changes):
			order = bytes.Compare(b.key(i), changes[j].Key)
		}
		if order >= 0 {
			if !changes[j].Dead {
				add(&changes[j])
			}
			j++
			if order == 0 {
				i++
			}
			continue
		}
		b.entry(i, &e)
		add(&e)
		i++
	}
	leaves = append(leaves, out)
	return leaves
}

// Get finds the version of a key of the range that a read at max sees. Without served the range can't say. e aliases memory that does
// not change.
func (r *Range) Get(key []byte, max event.LSN, e *Entry) (found, served bool) {
	r.mu.RLock()
	if r.state != ready {
		r.mu.RUnlock()
		return false, false
	}
	l := r.leafOf(key)
	block, news, since := l.block, l.news, l.since
	r.mu.RUnlock()
	if max < since {
		return false, false
	}
	r.gets.Add(1)
	for i := len(news) - 1; i >= 0; i-- {
		if n := &news[i]; n.LSN <= max && bytes.Equal(n.Key, key) {
			*e = *n
			return !e.Dead, true
		}
	}
	i, ok := block.search(key)
	if ok {
		block.entry(i, e)
	}
	return ok, true
}
