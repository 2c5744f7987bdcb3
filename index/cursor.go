package index

import (
	"bytes"

	"github.com/dyngodb/dyngo/event"
)

const (
	copyBytes = 16 << 10 // the most that is copied at a time, unless one record takes more
	maxKept   = 64 << 10 // of a cursor that is not in use
)

// Cursor goes through a range in key order, or backwards, at one LSN. It belongs to one goroutine, and holds no lock between two
// calls. The zero Cursor is at the end.
type Cursor struct {
	r       *Range
	max     event.LSN
	reverse bool
	from    []byte // of what is visited; nil = the range's end
	to      []byte

	leaf    leaf   // that it is in, as it was found
	i, last int    // records of its block still to come: [i, last), backwards from last-1
	j, k    int    // of its changes still to come: [j, k)
	next    []byte // where the next leaf begins; backwards: before where the next one lies
	more    bool   // there is a next leaf
	taken   int64  // pairs that the range was not told of

	copied []byte // what the records lie in that Next returned last

	// Leaves are found several at a time: a search costs more than a step to the next one. What was written to them since is not of
	// this read.
	ahead    [5]leaf
	at, have int  // of those in ahead
	whole    bool // there are no more than these

	// At is where it stands when it can't go on: keys from here on, backwards before here, are still to be visited.
	At []byte
}

// Seek begins at the first key of [from, to), backwards at the last one. nil is the range's end; both lie in the range.
func (c *Cursor) Seek(r *Range, from, to []byte, reverse bool, max event.LSN) {
	c.tell()
	*c = Cursor{r: r, max: max, reverse: reverse, from: from, to: to, more: true, copied: c.copied[:0]}
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

// Release drops what the cursor refers to, but for its own memory if nobody has records any more that Next returned.
func (c *Cursor) Release(keep bool) {
	c.tell()
	copied := c.copied[:0]
	if !keep || cap(copied) > maxKept {
		copied = nil
	}
	*c = Cursor{copied: copied}
}

// Next fills dst from its start with the next live versions and returns how many; they lie in memory of the cursor's until the next call.
// 0 is the end if served, else the place from which on the range can't serve this read: At.
func (c *Cursor) Next(dst []Record) (n int, served bool) {
	for {
		switch {
		case c.j < c.k && !c.recordFirst():
			if c.change(&dst[0]) {
				c.taken++
				return 1, true
			}
		case c.i < c.last:
			n := c.records(dst)
			c.taken += int64(n)
			return n, true
		case !c.more:
			return 0, true
		case !c.load():
			c.At, c.more = c.next, false
			return 0, false
		}
	}
}

// records takes records of the block up to the next change, of which there is at least one. They are copied in one piece: so their cache
// misses overlap.
func (c *Cursor) records(dst []Record) int {
	b := c.leaf.block
	from, to := c.i, c.last
	switch {
	case !c.reverse:
		if c.j < c.k {
			to = min(to, int(c.leaf.changes[c.j].at))
		}
		to = min(to, from+len(dst))
		for to-from > 1 && b.startOf(to)-b.startOf(from) > copyBytes {
			to -= (to - from) / 2
		}
		c.i = to
	default:
		if c.j < c.k {
			from = max(from, c.leaf.changes[c.k-1].behind())
		}
		from = max(from, to-len(dst))
		for to-from > 1 && b.startOf(to)-b.startOf(from) > copyBytes {
			from += (to - from) / 2
		}
		c.last = from
	}
	start := b.startOf(from)
	c.copied = append(c.copied[:0], b.data[start:b.startOf(to)]...)
	for i := from; i < to; i++ {
		at := i - from
		if c.reverse {
			at = to - 1 - i
		}
		end := b.startOf(i+1) - start
		dst[at] = c.copied[b.startOf(i)-start : end : end]
	}
	return to - from
}

// recordFirst says whether a record of the block comes before the next change, of which there is one.
func (c *Cursor) recordFirst() bool {
	if !c.reverse {
		return c.i < min(int(c.leaf.changes[c.j].at), c.last)
	}
	return c.last > max(c.leaf.changes[c.k-1].behind(), c.i)
}

// change takes the next changes, which are of one key. False: there is no live version among them.
func (c *Cursor) change(r *Record) bool {
	first := c.j
	if c.reverse {
		for first = c.k - 1; c.leaf.changes[first].older; {
			first--
		}
	}
	i, end, seen := c.leaf.seenAt(first, c.max)
	if c.reverse {
		c.k = first
	} else {
		c.j = end
	}
	if !seen {
		return false
	}
	if c.leaf.changes[i].over {
		if c.reverse {
			c.last--
		} else {
			c.i++
		}
	}
	c.copied = append(c.copied[:0], c.leaf.record(i)...)
	*r = c.copied
	return c.copied[16]&flagDead == 0
}

// find finds the leaf at next and some behind it, backwards those before next. False: the range does not serve.
func (c *Cursor) find() bool {
	r := c.r
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state != ready {
		return false
	}
	c.at, c.have, c.whole = 0, 0, true
	take := func(l item) bool {
		if c.have == len(c.ahead) {
			c.whole = false
			return false
		}
		c.ahead[c.have] = *l.leaf
		c.have++
		return c.reverse && bytes.Compare(l.first, c.from) > 0 || !c.reverse && (c.to == nil || bytes.Compare(l.first, c.to) < 0)
	}
	if !c.reverse {
		r.leaves.AscendGreaterOrEqual(r.leafOf(c.next), take)
		return true
	}
	if c.next == nil {
		r.leaves.Descend(take)
		return true
	}
	p := r.pivot(c.next)
	defer p.done()
	r.leaves.DescendLessOrEqual(p, func(l item) bool {
		return bytes.Equal(l.first, c.next) || take(l) // it begins where the visited part does
	})
	return true
}

// load goes to the leaf that begins at next, backwards to the one that ends there. False: it does not serve the read.
func (c *Cursor) load() bool {
	if left := c.have - c.at; left == 0 || left == 1 && !c.whole && !c.reverse {
		if !c.find() {
			return false
		}
	}
	if c.at == c.have { // backwards: nothing lies before
		c.i, c.last, c.j, c.k, c.more = 0, 0, 0, 0, false
		return true
	}
	l := &c.leaf
	*l = c.ahead[c.at]
	c.at++
	if c.max < l.since {
		return false
	}
	c.i, c.last, c.j, c.k = 0, len(l.block.places), 0, len(l.changes)
	low, high := c.from, c.to
	var after []byte // where the leaf ends, forwards
	hasAfter := c.at < c.have
	if c.reverse {
		high = c.next
	} else if low = c.next; hasAfter {
		after = c.ahead[c.at].first
	}
	if bytes.Compare(l.first, low) < 0 {
		var has bool
		c.i, has = l.block.search(0, low)
		c.j, _ = l.changeOf(low, c.i, has)
	}
	if high != nil && (c.reverse || !hasAfter || bytes.Compare(high, after) < 0) {
		var has bool
		c.last, has = l.block.search(0, high)
		c.k, _ = l.changeOf(high, c.last, has)
	}
	c.i, c.j = min(c.i, c.last), min(c.j, c.k)
	if c.reverse {
		c.next, c.more = l.first, bytes.Compare(l.first, c.from) > 0
	} else {
		c.next, c.more = after, hasAfter && (c.to == nil || bytes.Compare(after, c.to) < 0)
	}
	return true
}
