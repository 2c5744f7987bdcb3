package compaction

import (
	"bytes"
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// rangeDeletes is the range deletes of a job's inputs. Each stays if an older entry that it covers may be left: in a
// segment that is no input, or among what the job keeps for an older view. Memory is no concern: what is older than a
// range delete in a segment was flushed before it or with it.
type rangeDeletes struct {
	all    []segment.RangeDelete // by dataset and LSN, each once
	needed []atomic.Bool
}

// collect reads the range deletes of the inputs.
func (r *rangeDeletes) collect(j *Job, o *RunOptions) error {
	for _, s := range j.Inputs {
		if s.RangeDeletes == 0 {
			continue
		}
		reader, done, err := o.Open(s)
		if err != nil {
			return &InputError{s.Num, err}
		}
		r.all = append(r.all, reader.RangeDeletes()...)
		done()
	}
	slices.SortFunc(r.all, compareRangeDeletes)
	r.all = slices.CompactFunc(r.all, func(a, b segment.RangeDelete) bool { return compareRangeDeletes(a, b) == 0 })
	r.all = withoutCovered(r.all, &o.Live)
	r.needed = make([]atomic.Bool, len(r.all))
	inputs := map[manifest.FileNum]bool{}
	for _, s := range j.Inputs {
		inputs[s.Num] = true
	}
	for i := range r.all {
		d := &r.all[i]
		for k := range o.Version.Runs {
			for _, s := range o.Version.Runs[k].InRange(d.Dataset, d.From, d.To) {
				if !inputs[s.Num] && s.MinLSN < d.LSN {
					r.needed[i].Store(true)
				}
			}
		}
	}
	return nil
}

// compareAtMost bounds how many newer range deletes each is compared with.
const compareAtMost = 64

// withoutCovered leaves out range deletes that a newer one makes needless: one of a range around theirs, if no read
// is at an LSN between. It stays as long as anything older is left in its range, so in theirs. So of the many that
// trim a dataset from one end one is left.
func withoutCovered(sorted []segment.RangeDelete, l *Liveness) []segment.RangeDelete {
	kept := make([]segment.RangeDelete, 0, len(sorted)) // newest first
	for i := len(sorted) - 1; i >= 0; i-- {
		d := &sorted[i]
		covered := func(n segment.RangeDelete) bool { return n.Dataset == d.Dataset && covers(&n, d, l) }
		if !slices.ContainsFunc(kept[max(0, len(kept)-compareAtMost):], covered) {
			kept = append(kept, *d)
		}
	}
	slices.Reverse(kept)
	return kept
}

// covers reports whether every read that a range delete hides something from, a newer one hides the same from.
func covers(newer, d *segment.RangeDelete, l *Liveness) bool {
	around := bytes.Compare(newer.From, d.From) <= 0 &&
		(newer.To == nil || d.To != nil && bytes.Compare(d.To, newer.To) <= 0)
	if !around || newer.LSN > l.Durable {
		return false
	}
	i, _ := slices.BinarySearch(l.Pins, d.LSN)
	return i == len(l.Pins) || l.Pins[i] >= newer.LSN
}

func compareRangeDeletes(a, b segment.RangeDelete) int {
	return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.LSN, b.LSN))
}

// keeps notes that a version stays: the newer range deletes that cover its key have to.
func (r *rangeDeletes) keeps(e *segment.Entry) {
	i, _ := slices.BinarySearchFunc(r.all, segment.RangeDelete{Dataset: e.Dataset, LSN: e.LSN + 1}, compareRangeDeletes)
	for ; i < len(r.all) && r.all[i].Dataset == e.Dataset; i++ {
		d := &r.all[i]
		if bytes.Compare(d.From, e.Key) <= 0 && (d.To == nil || bytes.Compare(e.Key, d.To) < 0) {
			r.needed[i].Store(true)
		}
	}
}

// kept returns those that stay.
func (r *rangeDeletes) kept() (kept []segment.RangeDelete) {
	for i := range r.all {
		if r.needed[i].Load() {
			kept = append(kept, r.all[i])
		}
	}
	return kept
}

// below tells for ascending keys whether an older run has a segment that could hold them.
type below struct {
	runs [][]*manifest.Segment // with entries, of runs older than the output, from the first that may hold the next key
}

func newBelow(v *manifest.Version, output manifest.RunID) *below {
	b := &below{}
	for i := range v.Runs {
		if segs := withEntries(v.Runs[i].Segments); v.Runs[i].ID < output && len(segs) > 0 {
			b.runs = append(b.runs, segs)
		}
	}
	return b
}

func (b *below) has(ds event.DatasetID, key []byte) bool {
	k := manifest.Key{Dataset: ds, Key: key}
	for i, segs := range b.runs {
		for len(segs) > 0 && segs[0].Largest.Compare(k) < 0 {
			segs = segs[1:]
		}
		b.runs[i] = segs
		if len(segs) > 0 && segs[0].Smallest.Compare(k) <= 0 {
			return true
		}
	}
	return false
}
