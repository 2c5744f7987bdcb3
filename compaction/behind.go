package compaction

import "github.com/dyngodb/dyngo/manifest"

// Behind says how far a version is beyond the bounds that Pick keeps: 0 within them, 1 where merging has fallen so far
// behind that it should wait for nobody, more where it can't follow and those who write should be slowed down. It rises
// with the bytes above the oldest run and with the runs that hold a key: 1 is as many again as are allowed.
// Of in only Options, Replaced and DiskBytes count.
func Behind(v *manifest.Version, in Input) float64 {
	p := newPicker(v, &Input{Options: in.Options, Replaced: in.Replaced, DiskBytes: in.DiskBytes})
	allowed := int64(0)
	if len(p.runs) > 0 {
		allowed = p.allowed(p.runs[p.oldest()].bytes())
	}
	beyond := float64(p.upper-allowed) / float64(allowed+4*p.o.FileBytes)
	if len(p.runs) > p.o.MaxSources {
		most := 0
		for i := range p.runs {
			for _, s := range p.runs[i].segs {
				most = max(most, len(p.at(s.Smallest).runs))
			}
		}
		beyond = max(beyond, float64(most)/float64(p.o.MaxSources)-1)
	}
	return max(beyond, 0)
}
