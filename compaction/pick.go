package compaction

import (
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/manifest"
)

// Pick chooses the job that pays most, if there is one. It looks at nothing but its arguments, so the same ones give
// the same job. Without writes, applying what it picks comes to an end. See the package comment for what it aims at.
func Pick(v *manifest.Version, in Input) (Job, bool) {
	p := newPicker(v, &in)
	if j := p.dead(); j != nil {
		return *j, true
	}
	if j := p.moves(); j != nil {
		return *j, true
	}
	var best *Job
	for _, rule := range []func() *Job{p.sources, p.space, p.tombstones, p.reads, p.smallFiles} {
		if j := rule(); j != nil && p.fits(j) && (best == nil || j.Score > best.Score) {
			best = j
		}
	}
	if best == nil {
		return Job{}, false
	}
	return *best, true
}

// moves puts a whole run into the next older one if none of their keys meet: one source fewer for nothing.
func (p *picker) moves() *Job {
	for i := range p.oldest() {
		r, next := &p.runs[i], &p.runs[i+1]
		meets := func(s *manifest.Segment) bool { return next.overlapping(s.Smallest, s.Largest).len() > 0 }
		if slices.ContainsFunc(r.segs, meets) {
			continue
		}
		c := p.closure(i, span{0, len(r.segs)}, i)
		if p.freeInto(&c, i+1) {
			return p.move(Sources, &c, i+1, fmt.Sprintf("no key of run %d lies within a segment of run %d", r.id, next.id))
		}
	}
	return nil
}

func (p *picker) move(reason Reason, c *candidate, to int, why string) *Job {
	j := p.job(reason, c, 1)
	j.Kind, j.Output = Move, p.runs[to].id
	j.ReadBytes, j.WriteBytes, j.ReclaimBytes, j.SourcesRemoved = 0, 0, 0, 0
	if c.files == len(p.runs[c.i].segs) {
		j.SourcesRemoved = 1
	}
	j.Score, j.Why = 100, why
	return j
}

// stack is the segments, one a run, newest first, that hold a key.
type stack struct {
	runs, segs []int
	heat       Heat // of all of them
	spare      Heat // of all but the one that is looked into most
}

// at returns the stack at a key.
func (p *picker) at(k manifest.Key) (st stack) {
	var most Heat
	for i := range p.runs {
		o := p.runs[i].overlapping(k, k)
		if o.len() == 0 {
			continue
		}
		st.runs, st.segs = append(st.runs, i), append(st.segs, o.from)
		h := p.in.Heat[p.runs[i].segs[o.from].Num]
		st.heat.Reads, st.heat.Scans = st.heat.Reads+h.Reads, st.heat.Scans+h.Scans
		most.Reads, most.Scans = max(most.Reads, h.Reads), max(most.Scans, h.Scans)
	}
	st.spare = Heat{st.heat.Reads - most.Reads, st.heat.Scans - most.Scans}
	return st
}

// maxPlaces bounds how many places of a version are looked at in detail.
const maxPlaces = 64

// sources finds the place that most runs hold keys at, and merges there, if they are more than allowed.
func (p *picker) sources() *Job {
	if len(p.runs) <= p.o.MaxSources {
		return nil
	}
	var deep []stack
	for i := range p.runs {
		for _, s := range p.runs[i].segs {
			if st := p.at(s.Smallest); len(st.runs) > p.o.MaxSources {
				deep = append(deep, st)
			}
		}
	}
	slices.SortStableFunc(deep, func(a, b stack) int { return len(b.runs) - len(a.runs) })
	why := func(st stack) string {
		return fmt.Sprintf("a key may lie in %d runs, %d are allowed", len(st.runs), p.o.MaxSources)
	}
	need := func(st stack) float64 { n := float64(len(st.runs)) / float64(p.o.MaxSources); return n * n }
	best := p.bestOf(Sources, deep, p.oldest(), need, why)
	for _, st := range deep[:min(len(deep), maxPlaces)] {
		if best != nil {
			break
		}
		best = p.narrow(st, need(st))
	}
	return best
}

// bestOf returns the merge with the best score among those of neighbours in one of the first stacks; none reaches below
// run last.
func (p *picker) bestOf(reason Reason, stacks []stack, last int, need func(stack) float64,
	why func(stack) string) (best *Job) {
	for _, st := range stacks[:min(len(stacks), maxPlaces)] {
		for a := range st.runs {
			for b := a + 1; b < len(st.runs) && st.runs[b] <= last; b++ {
				c := p.closure(st.runs[a], span{st.segs[a], st.segs[a] + 1}, st.runs[b])
				if c.bytes > p.o.MaxJobBytes {
					break
				}
				if c.j != st.runs[b] || !p.free(&c) {
					continue
				}
				if j := p.job(reason, &c, need(st)); best == nil || j.Score > best.Score {
					best = j
					j.Why = why(st)
				}
			}
		}
	}
	return best
}

// narrow rewrites a segment of the stack that reaches over so much of older runs that no merge within the limits takes
// it in: cut into pieces, each can be merged alone.
func (p *picker) narrow(st stack, need float64) *Job {
	for n := len(st.runs) - 1; n >= 0; n-- {
		if j := p.cutUp(st.runs[n], st.segs[n], need); j != nil {
			return j
		}
	}
	return nil
}

func (p *picker) cutUp(i, k int, need float64) *Job {
	last := p.oldest()
	if i == last {
		return nil
	}
	s := p.runs[i].segs[k]
	wide := p.closure(i, span{k, k + 1}, last)
	under := p.runs[last].overlapping(s.Smallest, s.Largest)
	if wide.bytes <= p.o.MaxJobBytes || under.len() < 2 || p.runs[last].bytesOf(under) <= p.step() {
		return nil // no piece would reach over less
	}
	c := p.closure(i, span{k, k + 1}, i)
	if !p.free(&c) {
		return nil
	}
	j := p.job(Width, &c, need)
	j.wide, j.Score = true, need/10 // it leads to jobs that reclaim something
	j.Why = fmt.Sprintf("merging it into the oldest run takes %s at once, %s are allowed", formatBytes(wide.bytes),
		formatBytes(p.o.MaxJobBytes))
	return j
}

// space merges into the oldest run where that moves most bytes for those that it rewrites, or rewrites what has become stale
// there.
func (p *picker) space() *Job {
	if len(p.runs) == 0 {
		return nil
	}
	last := p.oldest()
	oldest := p.runs[last].bytes() + p.runs[last].refs
	allowed := p.allowed(oldest)
	if p.twice <= allowed {
		return nil
	}
	ratio := float64(p.twice) / float64(max(oldest, 1))
	need := float64(p.twice) / float64(max(allowed, 1<<20))
	need *= need
	what := "runs above the oldest have"
	if slices.ContainsFunc(p.runs[last].segs, func(s *manifest.Segment) bool { return p.stale(s) > 0 }) {
		what = "runs above the oldest, and old versions in it that nobody reads any more, have"
	}
	why := fmt.Sprintf("%s %s, %.0f %% of its %s; %s are allowed", what, formatBytes(p.twice), 100*ratio,
		formatBytes(oldest), formatBytes(allowed))
	var best candidate
	for i := range p.runs {
		for k, s := range p.runs[i].segs {
			if i == last && p.stale(s) == 0 {
				continue
			}
			c := p.closure(i, span{k, k + 1}, last)
			if i < last && c.sources == 1 && p.freeInto(&c, last) {
				return p.move(Space, &c, last, why+"; no older segment has keys in the range of this one")
			}
			if c.j != last || c.bytes > p.o.MaxJobBytes || !p.free(&c) {
				continue
			}
			c.grow(p, p.o.MaxJobBytes)
			if best.bytes == 0 || c.density() > best.density() {
				best = c
			}
		}
	}
	if best.bytes > 0 && best.density() >= ratio/(1+ratio)/2 {
		p.widen(&best)
		j := p.job(Space, &best, need)
		j.Why = why
		return j
	}
	// Merging at once rewrites too much: make runs that are larger, and cut where the oldest run is.
	if j := p.tier(need, why); j != nil {
		return j
	}
	for i := last - 1; i >= 0; i-- {
		for k := range p.runs[i].segs {
			if j := p.cutUp(i, k, need); j != nil {
				return j
			}
		}
	}
	if best.bytes == 0 {
		return nil
	}
	j := p.job(Space, &best, need)
	j.Why = why
	return j
}

// tier merges among the runs above the oldest.
func (p *picker) tier(need float64, why string) *Job {
	var stacks []stack
	for i := range p.oldest() {
		for _, s := range p.runs[i].segs {
			stacks = append(stacks, p.at(s.Smallest))
		}
	}
	slices.SortStableFunc(stacks, func(a, b stack) int { return len(b.runs) - len(a.runs) })
	return p.bestOf(Space, stacks, p.oldest()-1, func(stack) float64 { return need },
		func(stack) string { return why + "; larger runs can be merged into it in steps" })
}

// widen takes neighbours in while the job stays small and about as good.
func (p *picker) widen(c *candidate) {
	limit := p.step() + p.o.FileBytes
	for {
		seed := c.spans[0]
		r := &p.runs[c.i]
		wider := candidate{}
		for _, s := range []span{{seed.from, seed.to + 1}, {seed.from - 1, seed.to}} {
			if s.from < 0 || s.to > len(r.segs) {
				continue
			}
			n := p.closure(c.i, s, c.j)
			if n.bytes > limit || n.j != c.j || n.density() < c.density()*0.8 || !p.free(&n) {
				continue
			}
			n.grow(p, limit)
			if wider.bytes == 0 || n.density() > wider.density() {
				wider = n
			}
		}
		if wider.bytes == 0 || wider.files <= c.files {
			return
		}
		*c = wider
	}
}
