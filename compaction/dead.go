package compaction

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// dead finds segments of which nothing can be seen any more. They need not be read.
func (p *picker) dead() *Job {
	d := deadness{p: p, ranges: map[event.DatasetID][]segment.RangeDelete{}}
	for _, r := range p.in.RangeDeletes {
		d.ranges[r.Dataset] = append(d.ranges[r.Dataset], r)
	}
	for _, rs := range d.ranges {
		slices.SortFunc(rs, func(a, b segment.RangeDelete) int { return bytes.Compare(a.From, b.From) })
	}
	for k := range p.v.Runs {
		j := &Job{Kind: Drop, Reason: Dead, Output: p.v.Runs[k].ID, Newest: p.v.Runs[k].ID, Score: 1000}
		var counts [len(causes)]int
		for _, s := range p.v.Runs[k].Segments {
			cause := d.cause(s)
			if cause == 0 || p.isBusy(s) {
				continue
			}
			counts[cause]++
			j.ReclaimBytes += s.SizeBytes
			if s.Entries > 0 {
				if j.SourcesRemoved == 0 {
					j.Lo = s.Smallest
				}
				j.Hi, j.SourcesRemoved = s.Largest, 1
			}
			j.Inputs = append(j.Inputs, s)
		}
		if len(j.Inputs) == 0 || p.inArea(j) {
			continue
		}
		for cause, n := range counts {
			if n > 0 {
				j.Why += fmt.Sprintf("; in %d %s %s", n, plural(n, "segment"), causes[cause])
			}
		}
		j.Why = j.Why[2:]
		return j
	}
	return p.rangeDeleteFiles()
}

func (p *picker) inArea(j *Job) bool {
	a := area{j.Newest, j.Output, j.Lo, j.Hi}
	return slices.ContainsFunc(p.under, func(u area) bool { return u.meets(&a) })
}

// cause is why a segment is dead, 0 if it is not.
type cause int

const (
	notDead cause = iota
	hidden
	expired
	unneeded
)

var causes = [...]string{
	hidden:   "every entry is covered by a range delete or was in a dropped dataset",
	expired:  "every entry has expired",
	unneeded: "no range delete covers an older entry that is left",
}

// deadness finds dead segments.
type deadness struct {
	p      *picker
	ranges map[event.DatasetID][]segment.RangeDelete // by From
}

func (d *deadness) cause(s *manifest.Segment) cause {
	switch {
	case s.Entries == 0:
		if d.unneeded(s) {
			return unneeded
		}
	case s.Dues == s.Entries && s.MaxDue <= d.p.in.ExpiredUntil:
		return expired
	case d.hidden(s):
		return hidden
	}
	return notDead
}

// hides reports whether what takes versions away at an LSN does so for every read that could see a version of s.
func (d *deadness) hides(s *manifest.Segment, lsn event.LSN) bool {
	if lsn <= s.MaxLSN || lsn > d.p.in.Durable {
		return false
	}
	return !slices.ContainsFunc(d.p.in.Pins, func(pin event.LSN) bool { return s.MinLSN <= pin && pin < lsn })
}

// maxDatasets bounds how many dataset ids within one segment are looked at.
const maxDatasets = 1024

// hidden reports whether each key between the segment's smallest and largest is covered, or its dataset dropped.
func (d *deadness) hidden(s *manifest.Segment) bool {
	if d.p.in.Dropped == nil && len(d.ranges) == 0 || s.Largest.Dataset-s.Smallest.Dataset > maxDatasets {
		return false
	}
	for ds := s.Smallest.Dataset; ; ds++ {
		if !d.dropped(s, ds) {
			var lo, hi []byte
			if ds == s.Smallest.Dataset {
				lo = s.Smallest.Key
			}
			if ds == s.Largest.Dataset {
				hi = s.Largest.Key
			}
			if !d.covered(s, ds, lo, hi) {
				return false
			}
		}
		if ds == s.Largest.Dataset {
			return true
		}
	}
}

func (d *deadness) dropped(s *manifest.Segment, ds event.DatasetID) bool {
	if d.p.in.Dropped == nil {
		return false
	}
	lsn := d.p.in.Dropped(ds)
	return lsn != 0 && d.hides(s, lsn)
}

// covered reports whether range deletes together cover the keys from lo to hi, both inclusive, nil hi = to the end.
func (d *deadness) covered(s *manifest.Segment, ds event.DatasetID, lo, hi []byte) bool {
	at := lo // what is before it is covered
	for _, r := range d.ranges[ds] {
		if bytes.Compare(r.From, at) > 0 {
			return false
		}
		if !d.hides(s, r.LSN) || r.To != nil && bytes.Compare(r.To, at) <= 0 {
			continue
		}
		if r.To == nil || hi != nil && bytes.Compare(hi, r.To) < 0 {
			return true
		}
		at = r.To
	}
	return false
}

// unneeded reports whether a segment of range deletes alone has nothing older left to cover. Memory is no concern: what
// is older than a range delete in a segment was flushed before it or with it.
func (d *deadness) unneeded(s *manifest.Segment) bool {
	for o := range d.p.v.All() {
		if o.Entries > 0 && o.MinLSN < s.MaxLSN && d.mayCover(s, o) {
			return false
		}
	}
	return true
}

// mayCover reports whether a range delete in s could cover a key of o. Which range deletes there are in s is known from
// their LSNs alone; if none of those that are known fits, all keys count as covered.
func (d *deadness) mayCover(s, o *manifest.Segment) bool {
	known := int64(0)
	for _, r := range d.p.in.RangeDeletes {
		if r.LSN < s.MinLSN || r.LSN > s.MaxLSN {
			continue
		}
		known++
		from, to := manifest.Key{Dataset: r.Dataset, Key: r.From}, manifest.Key{Dataset: r.Dataset + 1}
		if r.To != nil {
			to = manifest.Key{Dataset: r.Dataset, Key: r.To}
		}
		if o.MinLSN < r.LSN && o.Largest.Compare(from) >= 0 && o.Smallest.Compare(to) < 0 {
			return true
		}
	}
	return known < s.RangeDeletes
}

// manyFiles is how many files that could be one are merged.
const manyFiles = 4

// rangeDeleteFiles puts segments that hold only range deletes together.
func (p *picker) rangeDeleteFiles() *Job {
	j := &Job{Kind: Merge, Reason: SmallFiles, Score: 1}
	for k := range p.v.Runs {
		for _, s := range p.v.Runs[k].Segments {
			if s.Entries == 0 && !p.isBusy(s) {
				j.Inputs = append(j.Inputs, s)
				j.ReadBytes += s.SizeBytes
				j.Newest = cmp.Or(j.Newest, s.Run)
				j.Output = s.Run
			}
		}
	}
	if len(j.Inputs) < manyFiles {
		return nil
	}
	j.WriteBytes = j.ReadBytes
	j.Why = fmt.Sprintf("%d segments that hold only range deletes can be one", len(j.Inputs))
	return j
}
