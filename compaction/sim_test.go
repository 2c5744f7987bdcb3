package compaction

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
)

// simEntry is a version of a key. All entries have the same size.
type simEntry struct {
	key  uint64
	lsn  event.LSN
	gone bool // a tombstone
}

// sim is a store without files: it has the versions of the manifest, and the entries of each segment in memory.
type sim struct {
	tb      testing.TB
	opts    Options
	entry   int64 // bytes
	v       *manifest.Version
	content map[manifest.FileNum][]simEntry
	lsn     event.LSN
	mem     map[uint64]simEntry
	memMax  int
	cut     bool // flushes are cut where the oldest run is
	live    map[uint64]bool

	nextFile manifest.FileNum
	nextRun  manifest.RunID

	written, flushed, added int64 // bytes: by flushes and jobs, by flushes, by the user
	jobs, moves             int
	maxJob                  int64
	maxSpace, sumSpace      float64 // of live bytes, when all live
	spaces                  int
	maxDepth, maxFiles      int
	byReason                map[string]int64 // bytes written
}

func newSim(tb testing.TB, memEntries int, fileBytes int64) *sim {
	s := &sim{tb: tb, v: &manifest.Version{}, content: map[manifest.FileNum][]simEntry{}, mem: map[uint64]simEntry{},
		memMax: memEntries, live: map[uint64]bool{}, nextFile: 1, nextRun: 1, entry: fileBytes / int64(memEntries),
		byReason: map[string]int64{}}
	s.opts.FileBytes = fileBytes
	s.opts = s.opts.withDefaults()
	return s
}

func simKey(k uint64) manifest.Key {
	return manifest.Key{Dataset: 1, Key: binary.BigEndian.AppendUint64(nil, k)}
}

func (s *sim) put(k uint64) { s.write(simEntry{key: k}) }
func (s *sim) del(k uint64) { s.write(simEntry{key: k, gone: true}) }

func (s *sim) write(e simEntry) {
	s.lsn++
	e.lsn = s.lsn
	s.mem[e.key] = e
	if e.gone {
		delete(s.live, e.key)
	} else {
		s.live[e.key] = true
	}
	s.added += s.entry
	if len(s.mem) >= s.memMax {
		s.flush()
	}
}

func (s *sim) flush() {
	var es []simEntry
	for _, e := range s.mem {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b simEntry) int { return cmp.Compare(a.key, b.key) })
	c := newCutter(nil, 0, 0, false, &Options{FileBytes: 1 << 60})
	if s.cut {
		c = NewCutter(s.v, int64(len(es))*s.entry, s.opts)
	}
	s.nextRun++
	segs := s.output(es, c, s.nextRun-1)
	for _, seg := range segs {
		s.flushed += seg.SizeBytes
	}
	s.apply(&manifest.Edit{Add: segs, FlushedLSN: &s.lsn})
	clear(s.mem)
	s.compact()
	s.measure()
}

// output makes segments.
func (s *sim) output(es []simEntry, c *Cutter, run manifest.RunID) (segs []*manifest.Segment) {
	var cur []simEntry
	end := func() {
		if len(cur) == 0 {
			return
		}
		n := int64(len(cur))
		seg := &manifest.Segment{Num: s.nextFile, Run: run, SizeBytes: n * s.entry, RawBytes: n * s.entry, Entries: n,
			Keys: n, Smallest: simKey(cur[0].key), Largest: simKey(cur[n-1].key), MinLSN: cur[0].lsn}
		for _, e := range cur {
			seg.MinLSN, seg.MaxLSN = min(seg.MinLSN, e.lsn), max(seg.MaxLSN, e.lsn)
			if e.gone {
				seg.Tombstones++
			}
		}
		s.content[s.nextFile] = slices.Clone(cur)
		s.nextFile++
		s.written += seg.SizeBytes
		segs = append(segs, seg)
		cur = cur[:0]
	}
	for _, e := range es {
		if c.Cut(1, simKey(e.key).Key, int64(len(cur))*s.entry) {
			end()
		}
		cur = append(cur, e)
	}
	end()
	return segs
}

func (s *sim) apply(e *manifest.Edit) {
	e.NextFile, e.NextRun = s.nextFile, s.nextRun
	v, err := s.v.Apply(e)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.v = v
}

func (s *sim) input() Input {
	return Input{Options: s.opts, Durable: s.lsn}
}

// compact does jobs until there is none.
func (s *sim) compact() {
	for n := 0; ; n++ {
		j, ok := Pick(s.v, s.input())
		if !ok {
			return
		}
		if n == 100000 {
			s.tb.Fatalf("no end of jobs; the last: %s", j.Explain())
		}
		s.do(&j)
	}
}

func (s *sim) do(j *Job) {
	var edit manifest.Edit
	if j.Kind == Move {
		s.moves++
		edit.Add = j.moved()
		for _, seg := range edit.Add {
			edit.Remove = append(edit.Remove, seg.Num)
		}
		s.apply(&edit)
		return
	}
	s.jobs++
	newest := map[uint64]simEntry{}
	for _, seg := range j.Inputs {
		edit.Remove = append(edit.Remove, seg.Num)
		if j.Kind == Merge {
			for _, e := range s.content[seg.Num] {
				if o, ok := newest[e.key]; !ok || o.lsn < e.lsn {
					newest[e.key] = e
				}
			}
		}
		delete(s.content, seg.Num)
	}
	if j.Kind == Merge {
		if j.ReadBytes > s.opts.MaxJobBytes && len(j.Inputs) > 1 {
			s.tb.Fatalf("a job beyond the limit: %s", j.Explain())
		}
		s.maxJob = max(s.maxJob, j.ReadBytes)
		bottom := !olderOverlaps(s.v, j)
		var es []simEntry
		for _, e := range newest {
			if !e.gone || !bottom {
				es = append(es, e)
			}
		}
		slices.SortFunc(es, func(a, b simEntry) int { return cmp.Compare(a.key, b.key) })
		before := s.written
		edit.Add = s.output(es, j.cutter(s.v, &s.opts), j.Output)
		id := fmt.Sprint(j.Reason)
		if j.Output == s.v.Runs[len(s.v.Runs)-1].ID {
			id += "/oldest"
		}
		s.byReason[id] += s.written - before
		if s.lsn > event.LSN(20*s.memMax) {
			var out int64
			for _, seg := range edit.Add {
				out += seg.SizeBytes
			}
			s.space(out)
		}
	}
	s.apply(&edit)
}

func (s *sim) space(more int64) float64 {
	x := float64(s.v.SizeBytes()+more) / float64(max(1, int64(len(s.live))*s.entry))
	s.maxSpace = max(s.maxSpace, x)
	return x
}

func (s *sim) measure() {
	if s.lsn > event.LSN(20*s.memMax) {
		s.sumSpace += s.space(0)
		s.spaces++
	}
	s.maxFiles = max(s.maxFiles, s.v.SegmentCount())
	in := s.input()
	p := newPicker(s.v, &in)
	for i := range p.runs {
		for _, seg := range p.runs[i].segs {
			s.maxDepth = max(s.maxDepth, len(p.at(seg.Smallest).runs))
		}
	}
}

func (s *sim) shares() (out string) {
	for _, id := range slices.Sorted(maps.Keys(s.byReason)) {
		out += fmt.Sprintf(" %s %.2f", id, float64(s.byReason[id])/float64(s.added))
	}
	return out
}

func (s *sim) amplification() float64 { return float64(s.written) / float64(s.added) }

// check reads every key that was ever written the way the engine does, and holds the order of sources against what it
// must be: for each key LSNs fall from run to run.
func (s *sim) check() {
	s.tb.Helper()
	found := map[uint64]simEntry{}
	for i := range s.v.Runs {
		for _, seg := range s.v.Runs[i].Segments {
			for _, e := range s.content[seg.Num] {
				if newer, ok := found[e.key]; !ok {
					found[e.key] = e
				} else if newer.lsn <= e.lsn {
					s.tb.Fatalf("key %d: LSN %d in run %d, below LSN %d in a newer run\n%s", e.key, e.lsn, s.v.Runs[i].ID,
						newer.lsn, s.v)
				}
			}
		}
	}
	for k, e := range found {
		if e.gone == s.live[k] {
			s.tb.Fatalf("key %d: tombstone %v, but alive %v", k, e.gone, s.live[k])
		}
	}
	for k := range s.live {
		if _, ok := found[k]; !ok {
			s.tb.Fatalf("key %d is gone", k)
		}
	}
}

// olderOverlaps reports whether a run older than the output has segments between the job's keys.
func olderOverlaps(v *manifest.Version, j *Job) bool {
	for i := range v.Runs {
		if v.Runs[i].ID < j.Output && len(v.Runs[i].Overlapping(j.Lo, j.Hi)) > 0 {
			return true
		}
	}
	return false
}

type load struct {
	name string
	run  func(put, del func(uint64), n int, rng *rand.Rand)
}

func scramble(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 }

var loads = []load{
	{"uniform", func(put, _ func(uint64), n int, rng *rand.Rand) {
		for range 6 * n {
			put(scramble(uint64(rng.IntN(n))))
		}
	}},
	{"zipf", func(put, _ func(uint64), n int, rng *rand.Rand) {
		z := rand.NewZipf(rng, 1.01, 10, uint64(n-1))
		for range 6 * n {
			put(scramble(z.Uint64()))
		}
	}},
	{"sequential", func(put, _ func(uint64), n int, rng *rand.Rand) {
		for k := range 6 * n {
			put(uint64(k))
		}
	}},
	{"random new", func(put, _ func(uint64), n int, rng *rand.Rand) {
		for k := range 2 * n {
			put(scramble(uint64(k)))
		}
	}},
	{"queue", func(put, del func(uint64), n int, rng *rand.Rand) {
		for k := range 3 * n {
			put(uint64(k))
			if k >= n/2 {
				del(uint64(k - n/2))
			}
		}
	}},
	{"delete", func(put, del func(uint64), n int, rng *rand.Rand) {
		for range 6 * n {
			if k := scramble(uint64(rng.IntN(n))); rng.IntN(2) == 0 {
				put(k)
			} else {
				del(k)
			}
		}
	}},
}

var (
	ratioFlag = flag.Int("ratio", 12, "largest store of the simulation, in flushes")
	memFlag   = flag.Int("mem", 250, "entries of a flush in the simulation")
)

// TestSimulation runs loads against stores without files and holds what they cost against the promises: space, sources,
// the size of jobs, and the bytes written against those of a store with levels.
func TestSimulation(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%-12s %8s %5s | %6s %7s | %6s %6s %6s %6s %6s %8s\n", "load", "live/mem", "cut", "WA",
		"levels", "space", "max", "depth", "files", "jobs", "max job")
	for _, l := range loads {
		for _, ratio := range []int{12, 50, 200} {
			if ratio > *ratioFlag {
				continue
			}
			peer := newLeveled(*memFlag, 64<<20)
			l.run(peer.put, peer.del, ratio**memFlag, rand.New(rand.NewPCG(1, 2)))
			for _, cut := range []bool{false, true} {
				s := newSim(t, *memFlag, 64<<20)
				s.cut = cut
				l.run(s.put, s.del, ratio**memFlag, rand.New(rand.NewPCG(1, 2)))
				space := s.sumSpace / float64(max(s.spaces, 1))
				fmt.Fprintf(&out, "%-12s %8d %5v | %6.2f %7.2f | %6.2f %6.2f %6d %6d %6d %8s %v\n", l.name, ratio, cut,
					s.amplification(), peer.amplification(), space, s.maxSpace, s.maxDepth, s.maxFiles, s.jobs, formatBytes(s.maxJob),
					s.shares())
				if limit := peer.amplification(); s.amplification() > limit && (cut || s.amplification() > 2*limit) {
					t.Errorf("%s, %d flushes: %.2f bytes written for each, a store with levels %.2f", l.name, ratio,
						s.amplification(), peer.amplification())
				}
				if space > 1.25 {
					t.Errorf("%s, %d flushes: %.2f bytes for each that lives", l.name, ratio, space)
				}
				if s.maxDepth > s.opts.MaxSources {
					t.Errorf("%s, %d flushes: a key in %d runs", l.name, ratio, s.maxDepth)
				}
			}
		}
	}
	t.Log(out.String())
}
