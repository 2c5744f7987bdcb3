package heat

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/dyngodb/dyngo/event"
)

// Rates are operations a second by kind.
type Rates struct {
	Reads, Misses, Scans, Writes float64
}

// Sum is all of them.
func (r Rates) Sum() float64 { return r.Reads + r.Misses + r.Scans + r.Writes }

// Range is a key range of a dataset, as small as its heat is worth.
type Range struct {
	From, To []byte // [From, To); copies. From is empty for the first key, To nil for the open end.
	Rates    Rates  // averages over about the last 15 seconds
}

// Key is a hot key.
type Key struct {
	Key   []byte // a copy of its first MaxKeyBytes bytes
	Cut   bool   // it is longer
	Rates Rates  // averages over about the last 15 seconds
}

// Picture is what is known at one moment.
type Picture struct {
	Age      time.Duration // since New
	Interval int           // one operation in so many is sampled at present, 0 = none
	Steps    int           // of the past
	Datasets []Dataset     // of which something is known, by ID
}

// Dataset is what is known of one dataset.
type Dataset struct {
	ID     event.DatasetID
	Rates  Rates       // of the whole dataset; a scan counts once
	Ranges []PastRange // in key order; they cover all keys
	Keys   []Key       // the hottest first
}

// PastRange is a Range with its past.
type PastRange struct {
	Range
	Past Past
}

// Past has rates in steps of StepTime, oldest first, as many for each kind, at most Steps; nil where all are 0. The last one is
// of the present step.
type Past struct {
	Reads  []float64 `json:",omitempty"`
	Misses []float64 `json:",omitempty"`
	Scans  []float64 `json:",omitempty"`
	Writes []float64 `json:",omitempty"`
}

// Look returns everything, with at most so many keys of each dataset. It takes about a millisecond.
func (s *Sampler) Look(keys int) Picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collectLocked(0)
	p := Picture{Age: time.Duration(s.now - s.began), Interval: s.Interval(), Steps: int(min(s.step(s.now)+1, Steps))}
	var whole counts
	for i, x := range s.cells.list {
		if n := len(p.Datasets); n == 0 || p.Datasets[n-1].ID != x.dataset {
			p.Datasets = append(p.Datasets, Dataset{ID: x.dataset, Keys: s.hottestKeys(x.dataset, keys)})
			whole = counts{}
		}
		d := &p.Datasets[len(p.Datasets)-1]
		for k := range kinds {
			whole[k] += x.now[k]
		}
		whole[Scan] += x.begun - x.now[Scan]
		d.Rates = s.rates(&whole)
		d.Ranges = append(d.Ranges, PastRange{Range: s.rangeAt(i), Past: s.past(x)})
	}
	return p
}

// Recent are the ranges of one dataset, in key order, with their rates since the step before the present one began: what has ended
// counts no more soon.
type Recent struct {
	Dataset       event.DatasetID
	RangesPerScan float64 // that a scan passes through on average; 0 = nothing was scanned
	Ranges        []Range
}

// Recent returns what went on lately, by dataset. It leaves out ranges in which nothing did.
func (s *Sampler) Recent() (list []Recent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collectLocked(0)
	step := s.step(s.now)
	first := max(step-1, 0)
	seconds := max(time.Duration(s.now-s.began-first*int64(StepTime)).Seconds(), minSeconds)
	passed, begun := 0.0, 0.0
	for i, x := range s.cells.list {
		if n := len(list); n == 0 || list[n-1].Dataset != x.dataset {
			list = append(list, Recent{Dataset: x.dataset})
			passed, begun = 0, 0
		}
		r := &list[len(list)-1]
		if passed, begun = passed+x.now[Scan], begun+x.begun; begun > 0 {
			r.RangesPerScan = passed / begun
		}
		lately := func(k Kind) float64 {
			n := float64(x.past[step%Steps][k])
			if first < step {
				n += float64(x.past[first%Steps][k])
			}
			return n / seconds
		}
		if rates := (Rates{Reads: lately(Read), Misses: lately(Miss), Scans: lately(Scan), Writes: lately(Write)}); rates.Sum() > 0 {
			from, to := s.cells.bounds(i)
			r.Ranges = append(r.Ranges, Range{From: from, To: to, Rates: rates})
		}
	}
	return list
}

// rangeAt is the range of cell i.
func (s *Sampler) rangeAt(i int) Range {
	from, to := s.cells.bounds(i)
	return Range{From: from, To: to, Rates: s.rates(&s.cells.list[i].now)}
}

// rates turns decayed counts into operations a second. A count that grows by r a second for long becomes r·HalfLife/ln 2;
// one that began a moment ago, so much less.
func (s *Sampler) rates(c *counts) Rates {
	seconds := HalfLife.Seconds() / math.Ln2 * (1 - math.Exp2(-float64(s.now-s.began)/float64(HalfLife)))
	seconds = max(seconds, minSeconds)
	return Rates{Reads: round(c[Read] / seconds), Misses: round(c[Miss] / seconds), Scans: round(c[Scan] / seconds), Writes: round(c[Write] / seconds)}
}

// minSeconds is the least time that a rate is taken over.
const minSeconds = 0.1

// round leaves three digits: there are no more in a sample.
func round(x float64) float64 {
	if x < 1e-3 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	if unit < 1 {
		return math.Round(x/unit) / math.Round(1/unit)
	}
	return math.Round(x/unit) * unit
}

// past lists the rates in the steps since New.
func (s *Sampler) past(x *cell) (p Past) {
	now := s.step(s.now)
	for k, list := range []*[]float64{Read: &p.Reads, Miss: &p.Misses, Scan: &p.Scans, Write: &p.Writes} {
		rates, any := make([]float64, 0, Steps), false
		for n := max(now-Steps+1, 0); n <= now; n++ {
			seconds := StepTime.Seconds()
			if n == now {
				seconds = max(time.Duration(s.now-s.began-n*int64(StepTime)).Seconds(), minSeconds)
			}
			rate := round(float64(x.past[n%Steps][k]) / seconds)
			rates, any = append(rates, rate), any || rate > 0
		}
		if any {
			*list = rates
		}
	}
	return p
}

// hottestKeys lists keys of a dataset by what was surely seen of them.
func (s *Sampler) hottestKeys(ds event.DatasetID, n int) []Key {
	var of []*watched
	for i := range s.keys.list {
		if w := &s.keys.list[i]; w.id.dataset == ds {
			of = append(of, w)
		}
	}
	slices.SortFunc(of, func(a, b *watched) int {
		return cmp.Or(cmp.Compare(b.own.sum(), a.own.sum()), bytes.Compare(a.key[:a.n], b.key[:b.n]))
	})
	keys := make([]Key, 0, min(n, len(of)))
	for _, w := range of[:min(n, len(of))] {
		if r := s.rates(&w.own); r.Sum() > 0 {
			keys = append(keys, Key{Key: bytes.Clone(w.key[:w.n]), Cut: w.cut, Rates: r})
		}
	}
	return keys
}

// Totals are estimates of what was done since New, and how long it took lately.
type Totals struct {
	// Reads of keys that were there, Misses of keys that were not, Scans, Writes of keys.
	Reads, Misses, Scans, Writes int64
	// ReadP50Ns and ReadP99Ns are what half and 99 of 100 lookups of a key took at most in about the last 15 seconds, without the
	// reading of large values; 0 = nothing is known. WriteP50Ns and WriteP99Ns are the same for commits, until they were
	// acknowledged.
	ReadP50Ns, ReadP99Ns, WriteP50Ns, WriteP99Ns int64
}

// Totals returns them as of now.
func (s *Sampler) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collectLocked(0)
	n := func(k Kind) int64 { return int64(math.Round(s.total[k])) }
	lookups := s.took[Read]
	for i := range lookups {
		lookups[i] += s.took[Miss][i]
	}
	ns := func(l *latencies, q float64) int64 { return int64(l.quantile(q)) }
	writes := &s.took[Write]
	return Totals{
		Reads: n(Read), Misses: n(Miss), Scans: n(Scan), Writes: n(Write),
		ReadP50Ns: ns(&lookups, 0.5), ReadP99Ns: ns(&lookups, 0.99), WriteP50Ns: ns(writes, 0.5), WriteP99Ns: ns(writes, 0.99),
	}
}

// Bytes is the memory that the Sampler takes.
func (s *Sampler) Bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytesLocked()
}

func (s *Sampler) bytesLocked() int {
	n := int(unsafe.Sizeof(*s)) + len(s.rings)*int(unsafe.Sizeof(ring{}))
	for i := range s.rings {
		n += len(s.rings[i].slots) * int(unsafe.Sizeof(slot{}))
	}
	const pointer = int(unsafe.Sizeof(uintptr(0)))
	for _, list := range [][]*cell{s.cells.list, s.cells.spare} {
		n += cap(list) * pointer
		for _, x := range list {
			n += int(unsafe.Sizeof(*x)) + cap(x.from)
		}
	}
	n += cap(s.keys.list)*int(unsafe.Sizeof(watched{})) + cap(s.keys.heap)*2
	n += len(s.keys.index) * 2 * int(unsafe.Sizeof(keyID{})+8) // of a map that is half full
	return n + cap(s.recent.order)*pointer
}
