package memtable

import (
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// ScanOptions says what a scan visits.
type ScanOptions struct {
	From    []byte    // first key, nil = the first there is
	To      []byte    // end, not visited itself, nil = after the last key
	Reverse bool      // from the end to the beginning
	Max     event.LSN // versions above it are not seen

	KeysOnly bool // the caller will not look at values: their cache lines are left alone
	Limit    int  // after about so many keys the caller will stop, 0 = it is not known
}

// touchAhead is how many records are touched before the first of them is looked at, so that cache misses overlap, and
// touchBytes how much of each. (Measured with 1 M records in order of arrival, values read: half the time of none.)
const (
	touchAhead = 16
	touchBytes = 512
)

// Iterator visits the keys of a dataset in memory in order, each with its newest version ≤ Max, deletes included. It
// copies no data and holds no memory of the table between two calls of Next. One goroutine at a time.
//
// A key is visited, once, if its newest version ≤ Max is in memory when the call of Next that passes it returns. One whose
// version left before that may be visited or not; the package comment says how a scan of memory and segments finds it.
type Iterator struct {
	od        *ordered
	opts      ScanOptions
	page      page
	set       *runSet // the runs that m points into
	m         merger
	last      []byte // key visited last, when started
	started   bool
	collected bool                    // into runs, what was inserted before
	ahead     [touchAhead]tail.Record // only during Next
	left      uint                    // bit by index in ahead: the record has departed
	sink      byte                    // keeps the touching loads alive

	lastBuf [64]byte // first memory of last and m.cur
	curBuf  [4]cursor
}

// Scan returns an iterator over a dataset. All inserts of events up to o.Max must have returned before the call. The slices in o must
// stay as they are while the iterator is used. The first scan of a dataset turns its order on, see EnableOrder: the caller should hold no
// guard and must hold no lock. With a Limit it does not wait until all is sorted, but looks for the first keys itself; who wants more
// than these has to know Waits and Await.
func (t *Table) Scan(ds event.DatasetID, o ScanOptions) *Iterator {
	it := &Iterator{}
	it.Reset(t, ds, o)
	return it
}

// Reset makes it, which may be the zero Iterator, one that Scan returns.
func (it *Iterator) Reset(t *Table, ds event.DatasetID, o ScanOptions) {
	last := it.last
	od, mine := t.order.begin(ds)
	*it = Iterator{od: od, opts: o}
	it.last, it.m.cur = last[:0], it.curBuf[:0]
	if it.last == nil {
		it.last = it.lastBuf[:0]
	}
	switch {
	case od.isBuilt():
	case o.Limit > 0 && o.Limit <= maxPage && t.atLeast(t.order.firstPage):
		if mine {
			defer t.order.done.Go(od.finish) // after the page, which many wait for
		}
		it.page = od.firstPage(o)
	default:
		if mine {
			od.finish()
		}
		<-od.built
	}
}

// Clear forgets the table. The Iterator is of use again after Reset.
func (it *Iterator) Clear() { *it = Iterator{} }

// Next fills dst from its start with the next records, the newest version of each key that the scan sees, and returns how
// many; 0 means that there are no more. They are valid as long as the guard that the caller holds, which may be another one
// for each call.
func (it *Iterator) Next(dst []tail.Record) int {
	if it.page.keys != nil || it.page.whole {
		return it.nextOfPage(dst)
	}
	if !it.collected {
		it.od.collect()
		it.collected = true
	}
	if set := it.od.runs.Load(); set != it.set {
		it.seek(set)
	}
	n := 0
	if len(it.m.cur) == 1 {
		n = it.nextOfOne(dst)
	} else {
		n = it.nextOfMany(dst)
	}
	it.started = true
	return n
}

// seek places the cursors into the runs of set, after the key visited last.
func (it *Iterator) seek(set *runSet) {
	a := it.od.t.arena
	from, to := it.opts.From, it.opts.To
	if it.started && len(it.last) > 0 {
		if it.opts.Reverse {
			to = it.last
		} else {
			from = append(it.last, 0) // the smallest key after it; last keeps its length
		}
	}
	it.set = set
	it.m = merger{a: a, step: 1, cur: it.m.cur[:0]}
	if it.opts.Reverse {
		it.m.step = -1
	}
	for _, r := range set.runs {
		lo, hi := 0, len(r.es)
		if len(from) > 0 {
			lo = r.seek(a, from)
		}
		if to != nil {
			hi = r.seekFrom(a, to, lo)
		}
		it.m.add(r, set.skip, lo, hi)
	}
}

// nextOfOne is Next when one run is left: no comparisons.
func (it *Iterator) nextOfOne(dst []tail.Record) int {
	c := &it.m.cur[0]
	n := 0
	var last tail.Record
	for n < len(dst) && c.i != c.end {
		k := it.touch(c, len(dst)-n)
		for j := range k {
			r, v, ok := it.ahead[j], it.ahead[j], true
			if r.Links()&tail.LinkSuperseded != 0 || r.LSN() > it.opts.Max || it.left>>j&1 != 0 {
				_, v, ok = it.version(&c.r.es[c.i])
			}
			if ok {
				dst[n] = v
				n++
			}
			c.i += it.m.step
		}
		last = it.ahead[k-1]
	}
	it.visited(last)
	if c.i == c.end {
		it.m.cur = it.m.cur[:0]
		return n
	}
	return n
}

func (it *Iterator) nextOfMany(dst []tail.Record) int {
	n := 0
	var last tail.Record
	for n < len(dst) && len(it.m.cur) > 0 {
		c := &it.m.cur[0]
		if (c.touched-c.i)*it.m.step <= 0 {
			c.touched = c.i + it.m.step*it.touch(c, len(dst)-n)
		}
		prefix := c.prefix
		r, v, ok := it.version(&c.r.es[c.i])
		if ok {
			dst[n] = v
			n++
		}
		last = r
		// Pass over the same key in other runs too, so that what is left begins with another one.
		for it.m.next(); len(it.m.cur) > 0 && it.m.cur[0].prefix == prefix; it.m.next() {
			if c := &it.m.cur[0]; string(c.r.key(it.m.a, c.i)) != string(r.Key()) {
				break
			}
		}
	}
	it.visited(last)
	return n
}

// visited remembers where the scan is. The record is none if nothing was visited.
func (it *Iterator) visited(r tail.Record) {
	if !r.IsZero() {
		it.last = append(it.last[:0], r.Key()...)
	}
	clear(it.ahead[:])
}

// touch loads what the next entries of c lead to into the processor's caches: records, and for those that are
// superseded the slot of their key and the newest version. It returns for how many entries, at most limit; their records
// are in ahead.
func (it *Iterator) touch(c *cursor, limit int) int {
	t, step := it.od.t, it.m.step
	k := min((c.end-c.i)*step, touchAhead, limit)
	it.left = 0
	for j := range k {
		p := c.r.es[c.i+j*step].load()
		r, ok := t.arena.Lookup(p)
		if !ok {
			r = t.arena.Record(p)
			it.left |= 1 << j
		}
		it.ahead[j] = r
	}
	superseded := tail.Link(0)
	for j := range k {
		superseded |= it.ahead[j].Links()
		if !it.opts.KeysOnly {
			it.sink += it.ahead[j].Touch(touchBytes)
		}
	}
	if superseded&tail.LinkSuperseded == 0 {
		return k
	}
	var hs [touchAhead]uint64
	for j := range k {
		if r := it.ahead[j]; r.Links()&tail.LinkSuperseded != 0 {
			hs[j] = t.Hash(it.od.ds, r.Key())
			it.sink += byte(t.homeSlot(hs[j]))
		}
	}
	for j := range k {
		if hs[j] == 0 {
			continue
		}
		if w := t.homeSlot(hs[j]); w != 0 && (w^tagOf(hs[j]))>>48 == 0 {
			if r, ok := t.arena.Lookup(tail.Pos(w & posMask)); ok {
				it.sink += byte(r.LSN())
			}
		}
	}
	return k
}

// homeSlot returns what is in the first slot that a probe for h looks at.
func (t *Table) homeSlot(h uint64) uint64 {
	return atomic.LoadUint64(t.states[h>>(64-shardBits)].Load().cur.at(h))
}

// version returns some record of the entry's key, and its newest version ≤ Max.
func (it *Iterator) version(e *entry) (some, seen tail.Record, ok bool) {
	t := it.od.t
	p := e.load()
	r, ok := t.arena.Lookup(p)
	if !ok { // it can be read still, but the key may have come back without marking it
		return it.resolve(e, p, t.arena.Record(p))
	}
	if r.Links()&tail.LinkSuperseded != 0 {
		return it.resolve(e, p, r)
	}
	if r.LSN() <= it.opts.Max {
		return r, r, true
	}
	seen, ok = t.visible(r, it.opts.Max)
	return r, seen, ok
}

// resolve finds the newest version through the index, because the entry points to an older one or one that has departed,
// and has the entry point to it, for the next scan. There is none if the key has left.
func (it *Iterator) resolve(e *entry, p tail.Pos, r tail.Record) (some, seen tail.Record, ok bool) {
	t := it.od.t
	key := r.Key()
	head, newest, ok := t.Head(t.Hash(it.od.ds, key), it.od.ds, key)
	if !ok {
		return r, tail.Record{}, false
	}
	atomic.CompareAndSwapUint64(&e.pos, uint64(p), uint64(head))
	seen, ok = t.visible(newest, it.opts.Max)
	return r, seen, ok
}
