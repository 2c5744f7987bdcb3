package compaction

import (
	"sort"

	"github.com/dyngodb/dyngo/manifest"
)

// picker is a version as Pick looks at it, and what limits the choice.
type picker struct {
	v  *manifest.Version
	in *Input
	o  Options

	runs  []run // newest first; only segments with entries, and only runs that have some
	upper int64 // bytes of all runs but the oldest
	twice int64 // the same, with large values, and what is stale in the oldest: what may be there for nothing
	room  int64 // what a job may write, where DiskBytes is known
	busy  map[manifest.FileNum]bool
	under []area // of the jobs under way
}

// run is the segments with entries of a run, in key order.
type run struct {
	id   manifest.RunID
	segs []*manifest.Segment
	sums []int64 // sums[k] is the bytes of segs[:k]
	refs int64   // bytes of large values
}

func (r *run) bytes() int64 { return r.sums[len(r.segs)] }

func (r *run) bytesOf(s span) int64 { return r.sums[s.to] - r.sums[s.from] }

// area is runs and keys that a job concerns. A job is done beside another if their areas have nothing in common: the
// one cannot move versions of a key past those of the other then, and the outputs of both cannot overlap in a run.
type area struct {
	newest, oldest manifest.RunID
	lo, hi         manifest.Key
}

func (a *area) meets(b *area) bool {
	return a.oldest <= b.newest && b.oldest <= a.newest && a.lo.Compare(b.hi) <= 0 && b.lo.Compare(a.hi) <= 0
}

func newPicker(v *manifest.Version, in *Input) *picker {
	p := &picker{v: v, in: in, o: in.Options.withDefaults(), busy: map[manifest.FileNum]bool{}}
	if in.DiskBytes > 0 {
		p.room = in.DiskBytes - in.DiskBytes/4
		for i := range in.Running {
			p.room -= in.Running[i].WriteBytes
		}
		p.o.MaxJobBytes = min(p.o.MaxJobBytes, max(p.room, 0))
	}
	if in.Full {
		p.o.SpaceShare, p.o.FreeBytes, p.o.MaxSources = 0, 0, 1
	}
	for i := range v.Runs {
		r := run{id: v.Runs[i].ID, sums: []int64{0}}
		for _, s := range v.Runs[i].Segments {
			if s.Entries > 0 {
				r.segs = append(r.segs, s)
				r.sums = append(r.sums, r.sums[len(r.sums)-1]+s.SizeBytes)
				r.refs += s.RefBytes
			}
		}
		if len(r.segs) > 0 {
			p.runs = append(p.runs, r)
		}
	}
	for i := range p.runs[:max(0, len(p.runs)-1)] {
		p.upper += p.runs[i].bytes()
		p.twice += p.runs[i].bytes() + p.runs[i].refs
	}
	if len(p.runs) > 0 {
		stale := int64(0)
		for _, s := range p.runs[p.oldest()].segs {
			stale += p.stale(s)
		}
		p.twice += int64(float64(stale) / p.twiceShare()) // all of it, so none of what allowed gives for what is not
	}
	for i := range in.Running {
		j := &in.Running[i]
		entries := false
		for _, s := range j.Inputs {
			p.busy[s.Num] = true
			entries = entries || s.Entries > 0
		}
		if entries {
			p.under = append(p.under, area{j.Newest, j.Output, j.Lo, j.Hi})
		}
	}
	return p
}

// oldest is the index of the oldest run.
func (p *picker) oldest() int { return len(p.runs) - 1 }

// allowed is how many bytes the runs above the oldest may have, for so many in the oldest. What counts is what they have
// twice, so where little is overwritten they may have more: a load of new keys is not merged again and again for nothing.
func (p *picker) allowed(oldest int64) int64 {
	share := p.o.SpaceShare / p.twiceShare()
	allowed := max(p.o.FreeBytes, int64(share*float64(oldest)))
	if p.in.DiskBytes > 0 {
		allowed = min(allowed, p.in.DiskBytes/2)
	}
	return allowed
}

// twiceShare is the share of the bytes in newer runs that count as being there twice.
func (p *picker) twiceShare() float64 { return min(max(2*p.replaced(), leastReplaced), 1) }

// fits reports whether the disk has room for what a job writes.
func (p *picker) fits(j *Job) bool {
	return p.in.DiskBytes == 0 || j.Kind != Merge || j.WriteBytes <= p.room
}

// leastReplaced bounds by how much more runs above the oldest may have than SpaceShare: what was not overwritten so far may
// be tomorrow.
const leastReplaced = 0.2

// staleShare is the share of the older versions of a segment's keys that were kept for a pin and that no pin needs any more. Where
// the oldest pin lies among the LSNs of those that replace them, it counts in proportion.
func (p *picker) staleShare(s *manifest.Segment) float64 {
	from, to := s.MinReplacing, s.MaxReplacing
	at := p.in.Durable
	if len(p.in.Pins) > 0 {
		at = min(at, p.in.Pins[0])
	}
	if from == 0 || at < from {
		return 0
	}
	return float64(min(at, to)-from+1) / float64(to-from+1)
}

// staleEntries is how many entries a merge drops of a segment alone.
func (p *picker) staleEntries(s *manifest.Segment) float64 {
	return p.staleShare(s) * float64(s.Entries-s.Keys)
}

// stale is how many bytes, with large values, those entries take.
func (p *picker) stale(s *manifest.Segment) int64 {
	if s.Entries == 0 {
		return 0
	}
	return int64(p.staleEntries(s) / float64(s.Entries) * float64(s.SizeBytes+s.RefBytes))
}

// replaced is the share of entries in newer runs that replace an older one.
func (p *picker) replaced() float64 {
	if p.in.Replaced == 0 {
		return 0.5
	}
	return p.in.Replaced
}

// step is how many bytes of the oldest run a job should take up: a part of it, so that little disk is needed for a
// while, but not so few bytes that there are very many jobs and files.
func (p *picker) step() int64 {
	if len(p.runs) == 0 {
		return p.o.FileBytes
	}
	return stepBytes(p.runs[p.oldest()].bytes(), &p.o)
}

func stepBytes(oldestBytes int64, o *Options) int64 {
	return min(max(oldestBytes/16, o.FileBytes), o.MaxJobBytes/2)
}

// isBusy reports whether a segment must be left alone.
func (p *picker) isBusy(s *manifest.Segment) bool {
	return p.busy[s.Num] || p.in.Avoid != nil && p.in.Avoid(s.Num)
}

// span is the segments [from, to) of a run.
type span struct{ from, to int }

func (s span) len() int { return s.to - s.from }

// overlapping returns the segments of a run that may hold keys from lo to hi, both inclusive.
func (r *run) overlapping(lo, hi manifest.Key) span {
	from := sort.Search(len(r.segs), func(i int) bool { return r.segs[i].Largest.Compare(lo) >= 0 })
	to := from
	if n := len(r.segs) - from; n > 0 {
		to += sort.Search(n, func(i int) bool { return r.segs[from+i].Smallest.Compare(hi) > 0 })
	}
	return span{from, to}
}

// candidate is a set of inputs that is closed: for each input, all older segments of the runs i to j that may hold one
// of its keys are inputs too, and so is every segment of run j between lo and hi.
type candidate struct {
	i, j    int    // runs; both have inputs
	spans   []span // by run, from i on
	lo, hi  manifest.Key
	bytes   int64 // of all inputs
	twice   int64 // of those that are not in run j, with large values, and what is stale in those that are
	files   int
	sources int // runs with inputs
}

// closure returns the smallest candidate with the segments of seed in run i that goes down to run j, or to the last one
// before it that has inputs.
func (p *picker) closure(i int, seed span, j int) candidate {
	c := candidate{i: i, j: i, spans: make([]span, 0, j-i+1)}
	r := &p.runs[i]
	c.lo, c.hi = r.segs[seed.from].Smallest, r.segs[seed.to-1].Largest
	c.add(p, i, seed)
	for k := i + 1; k <= j; k++ {
		c.add(p, k, p.runs[k].overlapping(c.lo, c.hi))
	}
	c.spans = c.spans[:c.j-i+1]
	c.measure(p)
	return c
}

// add takes in segments of the run after the last one.
func (c *candidate) add(p *picker, k int, s span) {
	c.spans = append(c.spans, s)
	if s.len() == 0 {
		return
	}
	r := &p.runs[k]
	if lo := r.segs[s.from].Smallest; lo.Compare(c.lo) < 0 {
		c.lo = lo
	}
	if hi := r.segs[s.to-1].Largest; hi.Compare(c.hi) > 0 {
		c.hi = hi
	}
	c.j = k
}

func (c *candidate) measure(p *picker) {
	c.bytes, c.twice, c.files, c.sources = 0, 0, 0, 0
	for n, s := range c.spans {
		if s.len() == 0 {
			continue
		}
		r := &p.runs[c.i+n]
		bytes := r.bytesOf(s)
		c.bytes += bytes
		c.files += s.len()
		c.sources++
		for _, seg := range r.segs[s.from:s.to] {
			if c.i+n != c.j {
				c.twice += seg.SizeBytes + seg.RefBytes
			} else {
				c.twice += p.stale(seg)
			}
		}
	}
}

// density is what a merge moves to an older run, or finds stale there, for each byte that it rewrites.
func (c *candidate) density() float64 { return float64(c.twice) / float64(max(c.bytes, 1)) }

// grow takes in segments of newer runs whose keys all lie between lo and hi, as long as that leaves the candidate
// closed: they cost only themselves.
func (c *candidate) grow(p *picker, limit int64) {
	for k := c.i - 1; k >= 0; k-- {
		r := &p.runs[k]
		s := r.overlapping(c.lo, c.hi)
		for s.len() > 0 && r.segs[s.from].Smallest.Compare(c.lo) < 0 {
			s.from++
		}
		for s.len() > 0 && r.segs[s.to-1].Largest.Compare(c.hi) > 0 {
			s.to--
		}
		if s.len() == 0 {
			continue
		}
		larger := *c
		larger.i = k
		larger.spans = append(append([]span{s}, make([]span, c.i-1-k)...), c.spans...)
		larger.measure(p)
		if larger.bytes > limit || !p.closed(&larger, r.segs[s.from].Smallest, r.segs[s.to-1].Largest) || p.anyBusy(r, s) {
			return
		}
		*c = larger
	}
}

// closed reports whether all segments of the candidate's runs, but the newest, between two keys are its inputs.
func (p *picker) closed(c *candidate, lo, hi manifest.Key) bool {
	for n, s := range c.spans[1:] {
		if o := p.runs[c.i+1+n].overlapping(lo, hi); o.len() > 0 && (o.from < s.from || o.to > s.to) {
			return false
		}
	}
	return true
}

func (p *picker) anyBusy(r *run, s span) bool {
	for _, seg := range r.segs[s.from:s.to] {
		if p.isBusy(seg) {
			return true
		}
	}
	return false
}

// free reports whether the candidate can be done now: none of its segments is busy, and no job under way is in its
// area.
func (p *picker) free(c *candidate) bool {
	return p.freeInto(c, c.j)
}

func (p *picker) freeInto(c *candidate, j int) bool {
	a := area{p.runs[c.i].id, p.runs[j].id, c.lo, c.hi}
	for k := range p.under {
		if p.under[k].meets(&a) {
			return false
		}
	}
	for n, s := range c.spans {
		if p.anyBusy(&p.runs[c.i+n], s) {
			return false
		}
	}
	return true
}

// inputs lists the candidate's segments.
func (p *picker) inputs(c *candidate) []*manifest.Segment {
	segs := make([]*manifest.Segment, 0, c.files)
	for n, s := range c.spans {
		segs = append(segs, p.runs[c.i+n].segs[s.from:s.to]...)
	}
	return segs
}

// job makes a merge of the candidate.
func (p *picker) job(reason Reason, c *candidate, need float64) *Job {
	j := &Job{Kind: Merge, Reason: reason, Inputs: p.inputs(c), Output: p.runs[c.j].id, Newest: p.runs[c.i].id,
		Lo: c.lo, Hi: c.hi, ReadBytes: c.bytes, SourcesRemoved: c.sources - 1}
	j.ReclaimBytes = p.reclaim(c)
	j.WriteBytes = c.bytes - j.ReclaimBytes
	gain := float64(j.ReclaimBytes) + float64(j.SourcesRemoved)*float64(p.o.FileBytes)/4
	j.Score = need * gain / float64(max(j.ReadBytes, 1))
	return j
}

// reclaim is how many bytes a merge is expected to free.
func (p *picker) reclaim(c *candidate) int64 {
	var newer, older, tombstones, bytes, entries int64
	var stale float64
	for n, s := range c.spans {
		for _, seg := range p.runs[c.i+n].segs[s.from:s.to] {
			stale += p.staleEntries(seg)
			tombstones += seg.Tombstones
			entries += seg.Entries
			bytes += seg.SizeBytes
			if c.i+n == c.j {
				older += seg.Keys
			} else {
				newer += seg.Entries - seg.Tombstones
			}
		}
	}
	gone := float64(tombstones)                              // hide as many older entries
	gone += min(float64(newer)*p.replaced(), float64(older)) // replace them
	gone = min(gone, float64(entries-tombstones)) * boolFloat(c.sources > 1)
	if p.seesAll(c) { // then the tombstones go too
		gone += float64(tombstones)
	}
	gone = min(gone+stale, float64(entries))
	return int64(gone / float64(max(entries, 1)) * float64(bytes))
}

// seesAll reports whether no older run has a segment that could hold a key of the candidate.
func (p *picker) seesAll(c *candidate) bool {
	for k := c.j + 1; k < len(p.runs); k++ {
		if p.runs[k].overlapping(c.lo, c.hi).len() > 0 {
			return false
		}
	}
	return true
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
