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
}

// Item is a key with its newest version that the scan sees. Both are valid as long as the guard under which Next
// returned them.
type Item struct {
	Key    []byte
	Record tail.Record
}

// touchAhead is how many records are touched before the first of them is looked at, so that cache misses overlap.
const touchAhead = 16

// Iterator visits a dataset's keys in order, each with its newest version ≤ Max, deletes included. It copies no data and
// holds no memory of the table between two calls of Next. One goroutine at a time.
type Iterator struct {
	od      *ordered
	opts    ScanOptions
	set     *runSet // the runs that m points into
	m       merger
	last    []byte // key visited last, when started
	started bool
	sink    uint64
}

// Scan returns an iterator over a dataset. All inserts of events up to o.Max must have returned before the first call of
// Next. The slices in o must stay as they are while the iterator is used. The first scan of a dataset turns its order
// on, see EnableOrder: the caller should hold no guard and must hold no lock.
func (t *Table) Scan(ds event.DatasetID, o ScanOptions) *Iterator {
	return &Iterator{od: t.order.enable(ds), opts: o}
}

// Next fills dst from its start with the next items and returns how many; 0 means that there are no more. The caller
// holds a guard, which may be another one for each call.
func (it *Iterator) Next(dst []Item) int {
	if !it.started {
		it.od.collect()
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
	if it.started && it.last != nil {
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
func (it *Iterator) nextOfOne(dst []Item) int {
	c := &it.m.cur[0]
	a, step := it.od.t.arena, it.m.step
	n := 0
	var last tail.Record
	for n < len(dst) && c.i != c.end {
		ahead := min((c.end-c.i)*step, touchAhead, len(dst)-n)
		for j := range ahead {
			it.sink += uint64(a.Record(c.r.es[c.i+j*step].load()).LSN())
		}
		for range ahead {
			r, v, ok := it.version(&c.r.es[c.i])
			last = r
			c.i += step
			if ok {
				dst[n] = Item{Key: v.Key(), Record: v}
				n++
			}
		}
	}
	if !last.IsZero() {
		it.last = append(it.last[:0], last.Key()...)
	}
	if c.i == c.end {
		it.m.cur = it.m.cur[:0]
	}
	return n
}

func (it *Iterator) nextOfMany(dst []Item) int {
	n := 0
	var last tail.Record
	for n < len(dst) && len(it.m.cur) > 0 {
		c := &it.m.cur[0]
		prefix := c.prefix
		r, v, ok := it.version(&c.r.es[c.i])
		if ok {
			dst[n] = Item{Key: v.Key(), Record: v}
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
	if !last.IsZero() {
		it.last = append(it.last[:0], last.Key()...)
	}
	return n
}

// version returns some record of the entry's key, and its newest version ≤ Max.
func (it *Iterator) version(e *entry) (some, seen tail.Record, ok bool) {
	t := it.od.t
	p := e.load()
	r := t.arena.Record(p)
	if r.Links()&tail.LinkSuperseded != 0 {
		return it.resolve(e, p, r)
	}
	if r.LSN() <= it.opts.Max {
		return r, r, true
	}
	seen, ok = t.visible(r.Prev(), it.opts.Max)
	return r, seen, ok
}

// resolve finds the newest version through the index, because the entry points to an older one, and has the entry point
// to it, for the next scan.
func (it *Iterator) resolve(e *entry, p tail.Pos, r tail.Record) (some, seen tail.Record, ok bool) {
	t := it.od.t
	key := r.Key()
	head, newest, ok := t.Head(t.Hash(it.od.ds, key), it.od.ds, key)
	if !ok {
		panic("dyngo: bug: memtable: a run holds a key that the index has not")
	}
	newest.AddLinks(tail.LinkAnchor) // before the entry points to it
	atomic.CompareAndSwapUint64(&e.pos, uint64(p), uint64(head))
	seen, ok = t.visible(head, it.opts.Max)
	return r, seen, ok
}
