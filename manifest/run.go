package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/event"
)

// Run is a list of segments with disjoint key ranges, in key order. Those that hold only range deletes come last, by
// number. Immutable as a part of a version.
type Run struct {
	ID       RunID
	Segments []*Segment
}

// newRun puts segments in order. It returns an error and the segment that is wrong if two overlap.
func newRun(id RunID, segments []*Segment) (Run, *Segment, error) {
	slices.SortFunc(segments, func(a, b *Segment) int {
		if (a.Entries == 0) != (b.Entries == 0) {
			return cmp.Compare(b.Entries, a.Entries)
		}
		return cmp.Or(a.Smallest.Compare(b.Smallest), cmp.Compare(a.Num, b.Num))
	})
	for i := 1; i < len(segments); i++ {
		if a, b := segments[i-1], segments[i]; a.Overlaps(b) {
			return Run{}, b, fmt.Errorf("run %d: segment %s from %s on overlaps segment %s, which goes to %s", id, b.Num,
				b.Smallest, a.Num, a.Largest)
		}
	}
	return Run{ID: id, Segments: segments}, nil, nil
}

// Find returns the segment whose key range holds the key, nil if there is none. It allocates nothing.
func (r *Run) Find(ds event.DatasetID, key []byte) *Segment {
	i := r.firstNotBefore(ds, key)
	if i == len(r.Segments) {
		return nil
	}
	s := r.Segments[i]
	if s.Entries == 0 || s.Smallest.Dataset > ds || s.Smallest.Dataset == ds && bytes.Compare(s.Smallest.Key, key) > 0 {
		return nil
	}
	return s
}

// firstNotBefore returns the index of the first segment that holds no entries or whose largest key is not before the
// key, len(r.Segments) if there is none.
func (r *Run) firstNotBefore(ds event.DatasetID, key []byte) int {
	low, high := 0, len(r.Segments)
	for low < high {
		mid := int(uint(low+high) >> 1)
		s := r.Segments[mid]
		if s.Entries == 0 || s.Largest.Dataset > ds || s.Largest.Dataset == ds && bytes.Compare(s.Largest.Key, key) >= 0 {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// Overlapping returns the segments that may hold a key from the first to the last, both included, in key order. The
// result is a part of r.Segments: not to be changed.
func (r *Run) Overlapping(first, last Key) []*Segment {
	i := r.firstNotBefore(first.Dataset, first.Key)
	return r.until(i, func(s *Segment) bool { return s.Smallest.Compare(last) <= 0 })
}

// InRange is Overlapping for the keys [from, to) of a dataset; a nil to is an open end.
func (r *Run) InRange(ds event.DatasetID, from, to []byte) []*Segment {
	return r.until(r.firstNotBefore(ds, from), func(s *Segment) bool {
		return s.Smallest.Dataset < ds || s.Smallest.Dataset == ds && (to == nil || bytes.Compare(s.Smallest.Key, to) < 0)
	})
}

// until returns the segments from index i on that hold entries and that take accepts.
func (r *Run) until(i int, take func(*Segment) bool) []*Segment {
	end := i
	for end < len(r.Segments) && r.Segments[end].Entries > 0 && take(r.Segments[end]) {
		end++
	}
	return r.Segments[i:end:end]
}

// SizeBytes is the size of the run's files.
func (r *Run) SizeBytes() (n int64) {
	for _, s := range r.Segments {
		n += s.SizeBytes
	}
	return n
}

// MaxLSN is the newest LSN in the run.
func (r *Run) MaxLSN() (lsn event.LSN) {
	for _, s := range r.Segments {
		lsn = max(lsn, s.MaxLSN)
	}
	return lsn
}
