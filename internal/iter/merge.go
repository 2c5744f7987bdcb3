package iter

import (
	"bytes"
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
)

// Source is a sorted sequence of versions, each once. It stands on a version, before the first or after the last. The
// methods that move return whether it stands on a version then; an error counts as the end, and Err tells.
type Source interface {
	First() bool
	Last() bool
	SeekGE(ds event.DatasetID, key []byte) bool // the first version of the first key at or after key
	SeekLT(ds event.DatasetID, key []byte) bool // the last version of the last key before key
	Next() bool                                 // only after a move; after the last version it stays there
	Prev() bool

	// At returns where the source stands. The key is valid until the source moves.
	At() (ds event.DatasetID, key []byte, lsn event.LSN)

	// Err returns the error that ended the source.
	Err() error
}

// Merge visits the versions of several sources in order.
type Merge struct {
	heads   []head
	losers  []int32 // losers[n] is the index in heads that lost at inner node n, from 1; losers[0] is the winner
	reverse bool    // heads are set up for going backwards
	err     error

	shared []byte // what the keys of all heads that are not at an end begin with; a copy
	ties   int    // comparisons of keys with the same prefix since shared was sought

	buf  []byte  // of skip
	plan []int32 // of build
}

// head is what is compared of a source.
type head struct {
	group  uint64 // dataset + 1, ^0 at the end of the source; inverted when going backwards, again ^0 at the end
	prefix uint64 // 8 bytes of the key after shared, big-endian, zeros if it is shorter; inverted when going backwards
	lsn    event.LSN
	key    []byte
	src    Source
}

const ended = ^uint64(0)

// New returns a Merge of sources, newest first. It stands before the first version.
func New(sources ...Source) *Merge {
	n := len(sources)
	m := &Merge{heads: make([]head, n), losers: make([]int32, max(n, 1)), plan: make([]int32, 2*n), reverse: true}
	for i, s := range sources {
		m.heads[i] = head{group: ended, src: s}
	}
	m.build()
	return m
}

// Valid reports whether the Merge stands on a version.
func (m *Merge) Valid() bool {
	return len(m.heads) > 0 && m.heads[m.losers[0]].group != ended && m.err == nil
}

// Err returns the first error of a source. The Merge ends with it, since what follows would lack versions.
func (m *Merge) Err() error { return m.err }

// Source returns the index of the source that the version is from.
func (m *Merge) Source() int { return int(m.losers[0]) }

// At returns where the Merge stands; only if Valid. The key is valid until the Merge moves.
func (m *Merge) At() (ds event.DatasetID, key []byte, lsn event.LSN) {
	h := &m.heads[m.losers[0]]
	return h.dataset(m.reverse), h.key, h.lsn
}

func (h *head) dataset(reverse bool) event.DatasetID {
	if reverse {
		return event.DatasetID(^h.group - 1)
	}
	return event.DatasetID(h.group - 1)
}

// First goes to the first version of all.
func (m *Merge) First() bool {
	return m.place(false, Source.First)
}

// Last goes to the last version of all.
func (m *Merge) Last() bool {
	return m.place(true, Source.Last)
}

// SeekGE goes to the first version of the first key at or after key.
func (m *Merge) SeekGE(ds event.DatasetID, key []byte) bool {
	return m.place(false, func(s Source) bool { return s.SeekGE(ds, key) })
}

// SeekLT goes to the last version, which is the oldest, of the last key before key.
func (m *Merge) SeekLT(ds event.DatasetID, key []byte) bool {
	return m.place(true, func(s Source) bool { return s.SeekLT(ds, key) })
}

func (m *Merge) place(reverse bool, move func(Source) bool) bool {
	m.reverse, m.err = reverse, nil
	for i := range m.heads {
		m.heads[i].group = ended // not in the way of the first key's shared
	}
	for i := range m.heads {
		h := &m.heads[i]
		m.load(h, move(h.src))
	}
	m.share()
	m.build()
	return m.Valid()
}

// Next goes to the version that follows. From before the first it goes to the first, after the last it stays.
func (m *Merge) Next() bool {
	if m.reverse {
		return m.turn(false)
	}
	return m.advance()
}

// Prev goes to the version that comes before. From after the last it goes to the last, before the first it stays.
func (m *Merge) Prev() bool {
	if !m.reverse {
		return m.turn(true)
	}
	return m.advance()
}

// advance moves the winner on in the direction that the heads are set up for.
func (m *Merge) advance() bool {
	if !m.Valid() {
		return false
	}
	w := m.losers[0]
	h := &m.heads[w]
	if m.reverse {
		m.load(h, h.src.Prev())
	} else {
		m.load(h, h.src.Next())
	}
	m.replay(w)
	return m.heads[m.losers[0]].group != ended && m.err == nil
}

// turn changes the direction and moves on. The winner stands at the Merge's place, each other source on its first
// version behind it, or at its end; so one step back takes each to its first version behind the place in the new
// direction.
func (m *Merge) turn(reverse bool) bool {
	if m.err != nil {
		return false
	}
	m.reverse = reverse
	for i := range m.heads {
		h := &m.heads[i]
		switch {
		case h.group == ended && reverse:
			m.load(h, h.src.Last())
		case h.group == ended:
			m.load(h, h.src.First())
		case reverse:
			m.load(h, h.src.Prev())
		default:
			m.load(h, h.src.Next())
		}
	}
	m.build()
	return m.Valid()
}

// load sets a head up after its source moved.
func (m *Merge) load(h *head, ok bool) {
	if !ok {
		h.group, h.key = ended, nil
		if err := h.src.Err(); err != nil && m.err == nil {
			m.err = err
		}
		return
	}
	ds, key, lsn := h.src.At()
	h.key, h.lsn = key, lsn
	h.group = uint64(ds) + 1
	if m.reverse {
		h.group = ^h.group
	}
	if n := len(m.shared); len(key) < n || string(key[:n]) != string(m.shared) {
		m.shorten(key)
	}
	h.prefix = m.prefixOf(key)
}

// prefixOf returns what is compared of a key that begins with shared.
func (m *Merge) prefixOf(key []byte) (v uint64) {
	rest := key[len(m.shared):]
	switch {
	case len(rest) >= 8:
		v = binary.BigEndian.Uint64(rest)
	case len(key) >= 8:
		v = binary.BigEndian.Uint64(key[len(key)-8:]) << (64 - 8*len(rest))
	default:
		for i, c := range rest {
			v |= uint64(c) << (56 - 8*i)
		}
	}
	if m.reverse {
		v = ^v
	}
	return v
}

// shorten makes shared what it has in common with a key.
func (m *Merge) shorten(key []byte) {
	m.shared = m.shared[:commonLen(m.shared, key)]
	m.prefixes()
}

// share makes shared as long as the keys of all heads allow.
func (m *Merge) share() {
	m.ties, m.shared = 0, m.shared[:0]
	first := true
	for i := range m.heads {
		h := &m.heads[i]
		switch {
		case h.group == ended:
		case first:
			m.shared, first = append(m.shared, h.key...), false
		default:
			m.shared = m.shared[:commonLen(m.shared, h.key)]
		}
	}
	m.prefixes()
}

// prefixes sets the prefix of each head. That changes no order.
func (m *Merge) prefixes() {
	for i := range m.heads {
		if h := &m.heads[i]; h.group != ended {
			h.prefix = m.prefixOf(h.key)
		}
	}
}

func commonLen(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// before reports whether head a comes before head b in the direction that is being gone.
func (m *Merge) before(a, b int32) bool {
	x, y := &m.heads[a], &m.heads[b]
	if x.group != y.group {
		return x.group < y.group
	}
	if x.prefix != y.prefix {
		return x.prefix < y.prefix
	}
	return m.beforeInFull(a, b)
}

func (m *Merge) beforeInFull(a, b int32) bool {
	x, y := &m.heads[a], &m.heads[b]
	m.ties++
	less := a < b
	if c := bytes.Compare(x.key, y.key); c != 0 {
		less = c < 0
	} else if x.lsn != y.lsn {
		less = x.lsn > y.lsn
	}
	return less != (m.reverse && x.group != ended)
}

// manyTies is how many comparisons of keys in full make it worth to look for what all keys share now.
const manyTies = 256

// replay finds the winner after head w, which was it, has changed.
func (m *Merge) replay(w int32) {
	if m.ties >= manyTies {
		m.share()
	}
	for n := (int(w) + len(m.heads)) / 2; n > 0; n /= 2 {
		if l := m.losers[n]; m.before(l, w) {
			m.losers[n], w = w, l
		}
	}
	m.losers[0] = w
}

// build plays all comparisons. Node n has the children 2n and 2n+1; those from len(heads) on are the heads.
func (m *Merge) build() {
	k := len(m.heads)
	if k == 0 {
		return
	}
	for i := range k {
		m.plan[k+i] = int32(i)
	}
	for n := k - 1; n > 0; n-- {
		w, l := m.plan[2*n], m.plan[2*n+1]
		if m.before(l, w) {
			w, l = l, w
		}
		m.plan[n], m.losers[n] = w, l
	}
	m.losers[0] = 0
	if k > 1 {
		m.losers[0] = m.plan[1]
	}
}

// NextKey goes forward to the first version of the next key.
func (m *Merge) NextKey() bool { return m.skip(m.Next) }

// PrevKey goes backwards to the last version, which is the oldest, of the key before.
func (m *Merge) PrevKey() bool { return m.skip(m.Prev) }

// skip moves until the key is another one. If the Merge stands on none it moves once.
func (m *Merge) skip(move func() bool) bool {
	if !m.Valid() {
		return move()
	}
	ds, key, _ := m.At()
	m.buf = append(m.buf[:0], key...)
	for move() {
		if d, k, _ := m.At(); d != ds || !bytes.Equal(k, m.buf) {
			return true
		}
	}
	return false
}
