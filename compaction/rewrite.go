package compaction

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
)

// Rewrite returns the job that reads the only run as a whole and writes what is needed of it, if it holds older versions,
// deletes or range deletes. Pick takes no such job: whether it gives anything up is known only afterwards (pins and merge
// operands keep versions too), so it would take it again and again. Range deletes go only when all that may lie under them
// has been looked through at once. false: there is more than one run, work under way, or nothing to give up.
func Rewrite(v *manifest.Version, in Input) (Job, bool) {
	p := newPicker(v, &in)
	if len(p.runs) != 1 || len(p.under) > 0 {
		return Job{}, false
	}
	dead := int64(0)
	for s := range v.All() {
		dead += s.Tombstones + s.Entries - s.Keys + s.RangeDeletes
	}
	for _, id := range p.datasets() {
		if in.Dropped != nil && in.Dropped(id) != 0 {
			dead++
		}
	}
	c := p.closure(0, span{0, len(p.runs[0].segs)}, 0)
	if dead == 0 || !p.free(&c) {
		return Job{}, false
	}
	j := p.job(Tombstones, &c, 1)
	j.Why = fmt.Sprintf("%d older versions, deletes and range deletes may be needed by nobody", dead)
	return *j, true
}

// Through returns the job that merges all segments which may hold a key, with those that must go with them. After it the segments
// have only those versions of the key that a read may ask for. false: none may hold it, or work is under way there.
func Through(v *manifest.Version, in Input, k manifest.Key) (Job, bool) {
	p := newPicker(v, &in)
	for i := range p.runs {
		seed := p.runs[i].overlapping(k, k)
		if seed.len() == 0 {
			continue
		}
		c := p.closure(i, seed, p.oldest())
		if !p.free(&c) {
			return Job{}, false
		}
		j := p.job(Space, &c, 1)
		j.Why = "a value was redacted, and no segment may have it"
		return *j, true
	}
	return Job{}, false
}

// datasets are those that segments of the only run begin or end with.
func (p *picker) datasets() (ids []event.DatasetID) {
	for _, s := range p.runs[0].segs {
		ids = append(ids, s.Smallest.Dataset, s.Largest.Dataset)
	}
	return ids
}
