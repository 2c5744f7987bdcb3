package compaction

import (
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
)

// What makes a segment worth a job for its tombstones.
const (
	denseShare  = 0.2 // of its entries, in a segment that is merged alone
	worthShare  = 0.3 // of the bytes of a merge that it is expected to reclaim
	fewEntries  = 100 // a segment with fewer waits for other reasons
	scanPenalty = 4   // by how much less is enough where scans step over tombstones
)

// tombstones merges a segment that is full of them with all that they hide, down to the oldest run, so that they go
// too.
func (p *picker) tombstones() (best *Job) {
	last := p.oldest()
	for i := range p.runs {
		for k, s := range p.runs[i].segs {
			dense := float64(s.Tombstones) >= denseShare*float64(s.Entries) && s.Entries >= fewEntries
			if !dense && !(p.in.Full && s.Tombstones > 0) {
				continue
			}
			c := p.closure(i, span{k, k + 1}, last)
			if c.bytes > max(p.o.MaxJobBytes, s.SizeBytes) || !p.free(&c) {
				continue
			}
			if c.sources == 1 && !p.allCanGo(s) {
				continue // it would be picked again and again
			}
			worth := worthShare
			if c.sources == 1 {
				worth = denseShare / 2
			}
			if p.in.Heat[s.Num].Scans > 1 {
				worth /= scanPenalty
			}
			if p.in.Full {
				worth = 0
			}
			j := p.job(Tombstones, &c, 1)
			if float64(j.ReclaimBytes) < worth*float64(j.ReadBytes) || best != nil && best.Score >= j.Score {
				continue
			}
			best = j
			j.Why = fmt.Sprintf("%d of %d entries of segment %d only hide older ones", s.Tombstones, s.Entries, uint64(s.Num))
		}
	}
	return best
}

// allCanGo reports whether every tombstone of a segment that has nothing older below it goes when it is rewritten: no
// pin can see versions of the segment that its newest ones hide.
func (p *picker) allCanGo(s *manifest.Segment) bool {
	return s.MaxLSN <= p.in.Durable &&
		!slices.ContainsFunc(p.in.Pins, func(pin event.LSN) bool { return s.MinLSN <= pin && pin < s.MaxLSN })
}

// What a source costs those who read, and what rewriting costs. Rough: they decide only whether reads pay for a merge.
const (
	readSeconds    = 2e-6  // for one more source to look for a key in: its filter, and now and then a block for nothing
	scanSeconds    = 1e-4  // for one more source of a scan: a block
	byteSeconds    = 2e-8  // to rewrite a byte
	horizonSeconds = 60    // for how long a merge is expected to pay
	manyReads      = 100.0 // a second; fewer are no reason
)

// reads merges where the sources that reads are spared are worth more than the bytes rewritten.
func (p *picker) reads() (best *Job) {
	if len(p.in.Heat) == 0 {
		return nil
	}
	var hot []stack
	for i := range p.runs {
		for _, s := range p.runs[i].segs {
			if h := p.in.Heat[s.Num]; h.Reads+h.Scans >= manyReads {
				if st := p.at(s.Smallest); len(st.runs) > 1 {
					hot = append(hot, st)
				}
			}
		}
	}
	slices.SortStableFunc(hot, func(a, b stack) int { return -cmpFloat(saved(a.spare), saved(b.spare)) })
	for _, st := range hot[:min(len(hot), maxPlaces)] {
		for a := range st.runs {
			for b := a + 1; b < len(st.runs); b++ {
				c := p.closure(st.runs[a], span{st.segs[a], st.segs[a] + 1}, st.runs[b])
				if c.bytes > p.o.MaxJobBytes {
					break
				}
				if c.j != st.runs[b] || !p.free(&c) {
					continue
				}
				spare := p.spare(&c)
				need := saved(spare) * horizonSeconds / (float64(c.bytes) * byteSeconds)
				if need < 1 {
					continue
				}
				if j := p.job(Reads, &c, min(need, 4)); best == nil || j.Score > best.Score {
					best = j
					j.Why = fmt.Sprintf("%.3g reads and %.3g scans a second look into %d runs here, and would into one", spare.Reads,
						spare.Scans, c.sources)
				}
			}
		}
	}
	return best
}

// saved is how many seconds a second reads are spared by sources that are not there.
func saved(h Heat) float64 { return h.Reads*readSeconds + h.Scans*scanSeconds }

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// spare is the heat that a merge takes away: all of its inputs' but that of the run with most.
func (p *picker) spare(c *candidate) (h Heat) {
	var most Heat
	for n, s := range c.spans {
		var r Heat
		for _, seg := range p.runs[c.i+n].segs[s.from:s.to] {
			sh := p.in.Heat[seg.Num]
			r.Reads, r.Scans = r.Reads+sh.Reads, r.Scans+sh.Scans
		}
		h.Reads, h.Scans = h.Reads+r.Reads, h.Scans+r.Scans
		most.Reads, most.Scans = max(most.Reads, r.Reads), max(most.Scans, r.Scans)
	}
	return Heat{h.Reads - most.Reads, h.Scans - most.Scans}
}

// uncertain is by how much the size of an output may be overestimated while it is written: blocks in memory are not
// compressed yet.
const uncertain = 64 << 10

// smallFiles makes one of neighbours in the oldest run, which nothing else would merge.
func (p *picker) smallFiles() *Job {
	if len(p.runs) == 0 {
		return nil
	}
	last := p.oldest()
	r := &p.runs[last]
	limit := p.o.FileBytes - uncertain
	for from := 0; from < len(r.segs); {
		to := from
		for to < len(r.segs) && r.sums[to+1]-r.sums[from] <= limit && !p.isBusy(r.segs[to]) &&
			r.segs[to].SizeBytes <= p.o.FileBytes/manyFiles {
			to++
		}
		if to-from < manyFiles {
			from = max(from+1, to)
			continue
		}
		c := p.closure(last, span{from, to}, last)
		if p.free(&c) {
			j := p.job(SmallFiles, &c, 1)
			j.SourcesRemoved, j.Score = 0, 0.01*float64(to-from)
			j.Why = fmt.Sprintf("%d neighbours of %s together can be one", to-from, formatBytes(c.bytes))
			return j
		}
		from = to
	}
	return nil
}
