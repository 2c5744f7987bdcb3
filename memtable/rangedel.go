package memtable

import (
	"bytes"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
)

// RangeDeletes is the range deletes of one dataset. Adding is for one goroutine at a time; reads take no lock. The zero
// value is empty.
//
// It is an immutable list of disjoint intervals in key order, each with the LSNs of the range deletes that cover it, so a
// read costs one binary search, and nothing while there are no range deletes.
type RangeDeletes struct {
	set  atomic.Pointer[[]interval]
	ever atomic.Bool
}

// interval is [from, to), to nil = open end; lsns ascend.
type interval struct {
	from, to []byte
	lsns     []event.LSN
}

// Any says whether there are range deletes.
func (r *RangeDeletes) Any() bool { return r.set.Load() != nil }

// Ever says whether there ever were any, forgotten ones too.
func (r *RangeDeletes) Ever() bool { return r.ever.Load() }

// Len is the number of intervals.
func (r *RangeDeletes) Len() int {
	if s := r.set.Load(); s != nil {
		return len(*s)
	}
	return 0
}

// Covers says whether a range delete with an LSN in (after, max] covers key.
func (r *RangeDeletes) Covers(key []byte, after, max event.LSN) bool {
	s := r.set.Load()
	if s == nil {
		return false
	}
	v, ok := find(*s, key)
	return ok && v.covers(after, max)
}

// Covering returns the interval [from, to), to nil = open end, around key in which every key is covered by a range delete
// with an LSN in (after, max]. The slices are shared and must not be changed.
func (r *RangeDeletes) Covering(key []byte, after, max event.LSN) (from, to []byte, ok bool) {
	s := r.set.Load()
	if s == nil {
		return nil, nil, false
	}
	v, ok := find(*s, key)
	if !ok || !v.covers(after, max) {
		return nil, nil, false
	}
	return v.from, v.to, true
}

// find returns the interval that key lies in.
func find(set []interval, key []byte) (interval, bool) {
	i := sort.Search(len(set), func(i int) bool { return set[i].to == nil || bytes.Compare(key, set[i].to) < 0 })
	if i == len(set) || bytes.Compare(key, set[i].from) < 0 {
		return interval{}, false
	}
	return set[i], true
}

// covers says whether one of the interval's LSNs lies in (after, max].
func (v interval) covers(after, max event.LSN) bool {
	j := sort.Search(len(v.lsns), func(j int) bool { return v.lsns[j] > after })
	return j < len(v.lsns) && v.lsns[j] <= max
}

// Add adds a range delete of [from, to), to nil or empty = open end, with an LSN above all before. An empty range is
// nothing. The slices are copied. oldest is the lowest LSN that is still read at: of the range deletes up to it the newest
// stands for all. One goroutine at a time.
func (r *RangeDeletes) Add(from, to []byte, lsn, oldest event.LSN) {
	if len(to) == 0 {
		to = nil
	} else {
		to = bytes.Clone(to)
	}
	from = append([]byte{}, from...)
	if to != nil && bytes.Compare(from, to) >= 0 {
		return
	}
	r.ever.Store(true)
	for { // again if Forget came between
		was := r.set.Load()
		var old []interval
		if was != nil {
			old = *was
		}
		set := withRange(old, from, to, lsn, oldest)
		if r.set.CompareAndSwap(was, &set) {
			return
		}
	}
}

// withRange returns a copy of old with one range delete more.
func withRange(old []interval, from, to []byte, lsn, oldest event.LSN) []interval {
	var set []interval
	lo := sort.Search(len(old), func(i int) bool { return old[i].to == nil || bytes.Compare(from, old[i].to) < 0 })
	hi := len(old)
	if to != nil {
		hi = sort.Search(len(old), func(i int) bool { return bytes.Compare(to, old[i].from) <= 0 })
	}
	set = append(make([]interval, 0, len(old)+3), old[:lo]...)
	at := from // what of [from, to) is not yet in set begins here
	for _, v := range old[lo:hi] {
		if bytes.Compare(v.from, at) < 0 { // the part before the new range stays as it is
			set = append(set, interval{v.from, at, v.lsns})
			v.from = at
		} else if bytes.Compare(at, v.from) < 0 { // a gap
			set = append(set, interval{at, v.from, []event.LSN{lsn}})
		}
		if to != nil && (v.to == nil || bytes.Compare(to, v.to) < 0) { // the part behind it
			set = append(set, interval{v.from, to, appendLSN(v.lsns, lsn, oldest)}, interval{to, v.to, v.lsns})
			at = nil
			break
		}
		set = append(set, interval{v.from, v.to, appendLSN(v.lsns, lsn, oldest)})
		if at = v.to; at == nil {
			break
		}
	}
	if at != nil && (to == nil || bytes.Compare(at, to) < 0) {
		set = append(set, interval{at, to, []event.LSN{lsn}})
	}
	set = append(set, old[hi:]...)
	return set
}

// Set makes r hold what o holds now; what is added to or forgotten by o later does not change r.
func (r *RangeDeletes) Set(o *RangeDeletes) { r.set.Store(o.set.Load()) }

// Forget removes range deletes for which gone is true: the caller knows that nothing is left under them. Safe beside Add.
func (r *RangeDeletes) Forget(gone func(event.LSN) bool) {
	for {
		old := r.set.Load()
		if old == nil {
			return
		}
		set := make([]interval, 0, len(*old))
		for _, v := range *old {
			v.lsns = slices.DeleteFunc(slices.Clone(v.lsns), gone)
			if len(v.lsns) > 0 {
				set = append(set, v)
			}
		}
		next := &set
		if len(set) == 0 {
			next = nil
		}
		if r.set.CompareAndSwap(old, next) {
			return
		}
	}
}

func appendLSN(lsns []event.LSN, lsn, oldest event.LSN) []event.LSN {
	first := sort.Search(len(lsns), func(i int) bool { return lsns[i] > oldest })
	return append(append([]event.LSN(nil), lsns[max(first-1, 0):]...), lsn)
}
