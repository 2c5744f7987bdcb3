package manifest

import (
	"fmt"
	"iter"
	"strings"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
)

// Version is the list of files that form the database at one moment. It is immutable. The zero Version is that of a new
// database.
//
// Looking at a version needs no reference; opening its files does: they stay on disk at least until the last reference
// to a version that has them is released. See Set.Acquire.
type Version struct {
	Runs []Run // newest first; none is empty

	// FlushedLSN is the LSN up to which segments hold every event. It never falls.
	FlushedLSN event.LSN
	// FloorLSN is the LSN up to which history is gone: what the segments keep from before it is the base state. It never
	// falls, and is at most FlushedLSN.
	FloorLSN event.LSN
	// OldestLog is the sequence of the oldest log file that the database needs; those before may be gone. 0 = none is.
	OldestLog uint64

	// History holds what was current at the floor and is not any more: versions of keys that no run needs to have. Reads of
	// the present never look there; of the versions of a key there, those before the newest count as gone. By number.
	History []*Segment

	Values  []*ValueFile // by their first log file, then by number
	Damaged []Damaged    // set aside, by number

	NextFile FileNum // larger than every number in use; 0 in the zero Version stands for 1
	NextRun  RunID   // the same for runs

	Edits uint64 // how many edits led here since the database was made

	set  *Set
	refs atomic.Int64
}

// All returns the segments of all runs, newest run first, each run in key order.
func (v *Version) All() iter.Seq[*Segment] {
	return func(yield func(*Segment) bool) {
		for i := range v.Runs {
			for _, s := range v.Runs[i].Segments {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Segment returns the segment of a number, nil if no run has it. It looks at all of them.
func (v *Version) Segment(n FileNum) *Segment {
	for s := range v.All() {
		if s.Num == n {
			return s
		}
	}
	return nil
}

// ValuesOf returns the value files that stand in for a log file, by sequence.
func (v *Version) ValuesOf(log uint64) (files []*ValueFile) {
	for _, f := range v.Values {
		if f.From <= log && log <= f.To {
			files = append(files, f)
		}
	}
	return files
}

// SegmentCount is the number of segments in runs.
func (v *Version) SegmentCount() (n int) {
	for i := range v.Runs {
		n += len(v.Runs[i].Segments)
	}
	return n
}

// SizeBytes is the size of all files in the version: segments, history, value files and what was set aside.
func (v *Version) SizeBytes() (n int64) {
	for i := range v.Runs {
		n += v.Runs[i].SizeBytes()
	}
	for _, s := range v.History {
		n += s.SizeBytes
	}
	for _, f := range v.Values {
		n += f.SizeBytes
	}
	for _, d := range v.Damaged {
		n += d.Segment.SizeBytes
	}
	return n
}

// String describes the version, one file a line.
func (v *Version) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d edits, flushed LSN %d, floor LSN %d, oldest log file %d, next file %d, next run %d\n", v.Edits,
		v.FlushedLSN, v.FloorLSN, v.OldestLog, v.NextFile, v.NextRun)
	for i := range v.Runs {
		r := &v.Runs[i]
		fmt.Fprintf(&b, "run %d: %d segments, %d bytes\n", r.ID, len(r.Segments), r.SizeBytes())
		for _, s := range r.Segments {
			fmt.Fprintf(&b, "  %s\n", s)
		}
	}
	for _, s := range v.History {
		fmt.Fprintf(&b, "history %s\n", s)
	}
	for _, f := range v.Values {
		fmt.Fprintf(&b, "values %s: log files %d to %d, %d bytes\n", f.Num, f.From, f.To, f.SizeBytes)
	}
	for _, d := range v.Damaged {
		fmt.Fprintf(&b, "damaged %s: %s\n", d.Segment, d.Reason)
	}
	return b.String()
}

// Apply returns the version after an edit. The error says which rule the edit breaks; see the package comment. It looks
// at nothing but the version and the edit, and the result has no references to count.
func (v *Version) Apply(e *Edit) (*Version, error) {
	b := newBuilder(v)
	if _, err := b.apply(e); err != nil {
		return nil, err
	}
	next, _, err := b.build()
	return next, err
}

// acquire takes a reference unless the last one is gone.
func (v *Version) acquire() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back. The last one of a version may call Options.Obsolete.
func (v *Version) Release() {
	n := v.refs.Add(-1)
	if n < 0 {
		panic(fmt.Sprintf("dyngo: bug: manifest: version %d has %d references", v.Edits, n))
	}
	if n == 0 {
		v.set.retire(v)
	}
}
