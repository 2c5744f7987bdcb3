package index

import (
	"bytes"

	"github.com/dyngodb/dyngo/event"
)

// Cursor goes through a range in key order, or backwards, at one LSN. It belongs to one goroutine, and holds no lock between two
// calls. The zero Cursor is at the end.
type Cursor struct {
	r       *Range
	max     event.LSN
	reverse bool
	from    []byte // of what is visited; nil = the range's end
	to      []byte

	block   *block // of the leaf that it is in; nil = it is at none
	i, last int    // slots still to come: [i, last), backwards from last-1
	changes []Entry
	j, k    int    // of changes still to come: [j, k)
	next    []byte // where the next leaf begins; backwards: before where the next one lies
	more    bool   // there is a next leaf
	taken   int64  // pairs that the range was not told of

	// At is where it stands when it can't go on: keys from here on, backwards before here, are still to be visited.
	At []byte
}

// Seek begins at the first key of [from, to), backwards at the last one. nil is the range's end; both lie in the range.
func (c *Cursor) Seek(r *Range, from, to []byte, reverse bool, max event.LSN) {
	c.tell()
	*c = Cursor{r: r, max: max, reverse: reverse, from: from, to: to, more: true, changes: c.changes[:0]}
	if c.from == nil {
		c.from = r.From
	}
	if c.to == nil {
		c.to = r.To
	}
	if c.next = c.from; reverse {
		c.next = c.to
	}
}

// tell tells the range how many pairs were taken from it.
func (c *Cursor) tell() {
	if c.taken > 0 {
		c.r.pairs.Add(c.taken)
		c.taken = 0
	}
}

// Release drops what the cursor refers to, and keeps its buffer.
func (c *Cursor) Release() {
	c.tell()
	clear(c.changes[:cap(c.changes)])
	*c = Cursor{changes: c.changes[:0]}
}

// Next goes to the next live version, which e is then; its memory never changes. ok = false is the end if served, else the place from
// which on the range can't serve this read: At.
func (c *Cursor) Next(e *Entry) (ok, served bool) {
	for {
		if c.j == c.k { // no news: the usual case
			if c.i < c.last {
				i := c.i
				if c.reverse {
					c.last--
					i = c.last
				} else {
					c.i++
				}
				c.taken++
				c.block.entry(i, e)
				return true, true
			}
		} else if c.merged(e) {
			c.taken++
			return true, true
		} else if c.j < c.k || c.i < c.last {
			continue
		}
		if !c.more {
			return false, true
		}
		if !c.load() {
			c.At, c.more = c.next, false
			return false, false
		}
	}
}

// merged takes the next of slots and changes; false: it was a delete.
func (c *Cursor) merged(e *Entry) bool {
	i, j := c.i, c.j
	if c.reverse {
		i, j = c.last-1, c.k-1
	}
	order := 1 // of the slot beside the change
	if c.i < c.last {
		if order = bytes.Compare(c.block.key(i), c.changes[j].Key); c.reverse {
			order = -order
		}
	}
	if order < 0 {
		c.passSlot()
		c.block.entry(i, e)
		return true
	}
	if order == 0 {
		c.passSlot()
	}
	if c.reverse {
		c.k--
	} else {
		c.j++
	}
	*e = c.changes[j]
	return !e.Dead
}

func (c *Cursor) passSlot() {
	if c.reverse {
		c.last--
	} else {
		c.i++
	}
}

// load goes to the leaf that begins at next, backwards to the one that ends there. False: it does not serve the read.
func (c *Cursor) load() bool {
	r := c.r
	r.mu.RLock()
	if r.state != ready {
		r.mu.RUnlock()
		return false
	}
	var l *leaf
	var after []byte // where the leaf ends, forwards
	hasAfter := false
	if c.reverse {
		last := func(b *leaf) bool {
			if c.next != nil && bytes.Compare(b.first, c.next) >= 0 {
				return true // it begins where the visited part does
			}
			l = b
			return false
		}
		if c.next == nil {
			r.leaves.Descend(last)
		} else {
			r.leaves.DescendLessOrEqual(&leaf{first: c.next}, last)
		}
	} else {
		l = r.leafOf(c.next)
		r.leaves.AscendGreaterOrEqual(l, func(b *leaf) bool {
			if b == l {
				return true
			}
			after, hasAfter = b.first, true
			return false
		})
	}
	if l == nil { // backwards: nothing lies before
		r.mu.RUnlock()
		c.block, c.i, c.last, c.j, c.k, c.more = nil, 0, 0, 0, 0, false
		return true
	}
	block, news, since := l.block, l.news, l.since
	r.mu.RUnlock()
	if c.max < since {
		return false
	}
	c.block = block
	c.changes = c.changes[:0]
	if len(news) > 0 {
		c.changes = newest(c.changes, news, c.max)
	}
	c.i, c.last, c.j, c.k = 0, len(block.slots), 0, len(c.changes)
	low, high := c.from, c.to
	if c.reverse {
		high = c.next
	} else {
		low = c.next
	}
	if bytes.Compare(l.first, low) < 0 {
		c.i, _ = block.search(low)
		for c.j < c.k && bytes.Compare(c.changes[c.j].Key, low) < 0 {
			c.j++
		}
	}
	if high != nil && (c.reverse || !hasAfter || bytes.Compare(high, after) < 0) {
		c.last, _ = block.search(high)
		for c.j < c.k && bytes.Compare(c.changes[c.k-1].Key, high) >= 0 {
			c.k--
		}
	}
	if c.i > c.last {
		c.i = c.last
	}
	if c.reverse {
		c.next, c.more = l.first, bytes.Compare(l.first, c.from) > 0
	} else {
		c.next, c.more = after, hasAfter && (c.to == nil || bytes.Compare(after, c.to) < 0)
	}
	return true
}
