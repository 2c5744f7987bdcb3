package compaction

import (
	"bytes"
	"cmp"
	"math/bits"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
)

// Cutter says where a sequence of entries in order is cut into the files of a run. One goroutine at a time.
//
// Files of the oldest run are cut by size, and where another dataset begins if they are not small. Those of newer
// runs are cut where files of the oldest run begin, so that they can be merged with it, and with each other, a part
// at a time. Which of these places is decided by a hash of the key, so that all runs choose the same ones: each place
// has a level, half of them 0, a quarter 1 and so on, and a run whose files would be too small at all places is cut
// at those from some level on.
type Cutter struct {
	places []place // where files of the oldest run begin, ascending; none for the oldest run itself
	next   int     // first place that was not passed

	fileBytes, leastBytes int64
	datasetBytes          int64 // from which on a file ends with a dataset
	wideBytes             int64 // of the oldest run: most that a file should reach over
	level                 int   // from which on places are taken

	started bool
	dataset event.DatasetID // of the entry before
	over    int64           // bytes of the oldest run that the file reaches over
}

type place struct {
	key   manifest.Key
	bytes int64 // of the oldest run's file that begins there
	level int
}

// levelOf is the level of a place.
func levelOf(k manifest.Key) int {
	h := uint64(14695981039346656037) ^ uint64(k.Dataset)
	for _, b := range k.Key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	h ^= h >> 32
	return bits.TrailingZeros64(h*0x9e3779b97f4a7c15>>20 | 1<<40)
}

// NewCutter returns a Cutter for files of a run above the oldest of v that will have about so many bytes, such as a
// flush.
func NewCutter(v *manifest.Version, bytes int64, o Options) *Cutter {
	o = o.withDefaults()
	for i := len(v.Runs) - 1; i >= 0; i-- {
		if segs := withEntries(v.Runs[i].Segments); len(segs) > 0 {
			return newCutter(segs, v.Runs[i].SizeBytes(), bytes, false, &o)
		}
	}
	return newCutter(nil, 0, bytes, false, &o)
}

func withEntries(segs []*manifest.Segment) []*manifest.Segment {
	for len(segs) > 0 && segs[len(segs)-1].Entries == 0 {
		segs = segs[:len(segs)-1]
	}
	return segs
}

// newCutter returns a Cutter for output of some size among oldest, the files of the oldest run that it may reach over.
// With wide it is cut wherever it reaches over much.
func newCutter(oldest []*manifest.Segment, oldestBytes, bytes int64, wide bool, o *Options) *Cutter {
	c := &Cutter{fileBytes: o.FileBytes, leastBytes: o.FileBytes / 8, datasetBytes: o.FileBytes / 4,
		wideBytes: stepBytes(oldestBytes, o)}
	if wide {
		c.leastBytes = 0
	}
	under := int64(0)
	for _, s := range oldest {
		c.places = append(c.places, place{s.Smallest, s.SizeBytes, levelOf(s.Smallest)})
		under += s.SizeBytes
	}
	if n := int64(len(c.places)); n > 0 && bytes > 0 {
		file := int64(float64(bytes) / float64(max(under, 1)) * float64(c.wideBytes)) // reaches over wideBytes
		file = min(max(file, c.leastBytes), c.fileBytes)
		c.level = max(0, bits.Len64(uint64(file*n/max(bytes, 1)))-1)
	}
	return c
}

// Again returns a Cutter for another part of the run, of which it has seen nothing.
func (c *Cutter) Again() *Cutter {
	return &Cutter{places: c.places, fileBytes: c.fileBytes, leastBytes: c.leastBytes, datasetBytes: c.datasetBytes, wideBytes: c.wideBytes,
		level: c.level}
}

// Cut reports whether a new file begins with the next entry, which is of this key; size is what the file before it has.
// It must be called for each key once, in order, and never between two versions of a key.
func (c *Cutter) Cut(ds event.DatasetID, key []byte, size int64) bool {
	other := c.started && ds != c.dataset
	c.dataset = ds
	passed, level, jumped := 0, -1, int64(0)
	for c.next < len(c.places) && c.places[c.next].notAfter(ds, key) {
		pl := &c.places[c.next]
		c.next++
		passed++
		level = max(level, pl.level)
		jumped += pl.bytes
	}
	cut := false
	switch {
	case !c.started || size == 0:
	case other && size >= c.datasetBytes:
		cut = true
	case len(c.places) == 0:
		cut = size >= c.fileBytes
	case passed == 0:
		cut = size >= 2*c.fileBytes
	case passed > 2 && 2*jumped > c.wideBytes: // a gap
		cut = true
	case size < c.leastBytes:
	case c.over+jumped > c.wideBytes:
		cut = true
	default: // the larger the file, the more places are good enough
		cut = level >= c.level-int(4*max(0, size-c.fileBytes)/c.fileBytes)
	}
	c.over += jumped
	if cut || !c.started {
		c.over = 0
		if passed > 0 {
			c.over = c.places[c.next-1].bytes
		}
	}
	c.started = true
	return cut
}

// notAfter reports whether the place is at or before a key.
func (p *place) notAfter(ds event.DatasetID, key []byte) bool {
	return cmp.Or(cmp.Compare(p.key.Dataset, ds), bytes.Compare(p.key.Key, key)) <= 0
}

// cutter returns the Cutter for the outputs of a job on v.
func (j *Job) cutter(v *manifest.Version, o *Options) *Cutter {
	for i := len(v.Runs) - 1; i >= 0; i-- {
		r := &v.Runs[i]
		if len(withEntries(r.Segments)) == 0 {
			continue
		}
		if r.ID >= j.Output {
			break
		}
		return newCutter(r.Overlapping(j.Lo, j.Hi), r.SizeBytes(), j.WriteBytes, j.wide, o)
	}
	c := newCutter(nil, 0, j.WriteBytes, false, o)
	if j.Reason == SmallFiles {
		c.datasetBytes = o.FileBytes // or they would be small again
	}
	return c
}
