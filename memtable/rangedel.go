package memtable

import (
	"bytes"
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
	set atomic.Pointer[[]interval]
}

// interval is [from, to), to nil = open end; lsns ascend.
type interval struct {
	from, to []byte
	lsns     []event.LSN
}

// Any says whether there are range deletes.
func (r *RangeDeletes) Any() bool { return r.set.Load() != nil }

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
	set := *s
	i := sort.Search(len(set), func(i int) bool { return set[i].to == nil || bytes.Compare(key, set[i].to) < 0 })
	if i == len(set) || bytes.Compare(key, set[i].from) < 0 {
		return false
	}
	lsns := set[i].lsns
	j := sort.Search(len(lsns), func(j int) bool { return lsns[j] > after })
	return j < len(lsns) && lsns[j] <= max
}

// Add adds a range delete of [from, to), to nil or empty = open end, with an LSN above all before. An empty range is
// nothing. The slices are copied. oldest is the lowest LSN that is still read at: of the range deletes up to it the newest
// stands for all.
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
	var old, set []interval
	if s := r.set.Load(); s != nil {
		old = *s
	}
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
	r.set.Store(&set)
}

func appendLSN(lsns []event.LSN, lsn, oldest event.LSN) []event.LSN {
	first := sort.Search(len(lsns), func(i int) bool { return lsns[i] > oldest })
	return append(append([]event.LSN(nil), lsns[max(first-1, 0):]...), lsn)
}
