package compaction

import (
	"cmp"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/manifest"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of the random tests, 0 = random")
	storesFlag = flag.Int("stores", 40, "stores that each random test makes")
)

func newSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with: go test -run '%s' ./compaction -seed %d -stores %d", t.Name(), seed, *storesFlag)
	return seed
}

// randomStore has a few runs with random keys, cut at random, so that segments overlap as they like.
func randomStore(t *testing.T, rng *rand.Rand) *sim {
	s := newSim(t, 1<<30, 64<<20)
	s.entry = 1 << (10 + rng.IntN(11))
	s.opts = Options{FileBytes: s.entry * (4 + rng.Int64N(60)), SpaceShare: 0.05 + rng.Float64()/2}
	s.opts.MaxSources = 1 + rng.IntN(8)
	s.opts.MaxJobBytes = s.opts.FileBytes * (4 + rng.Int64N(16))
	s.opts.FreeBytes = 1 + rng.Int64N(s.opts.FileBytes)
	space := uint64(10 + rng.IntN(5000))
	for range 1 + rng.IntN(12) {
		newest := map[uint64]simEntry{}
		from, width := uint64(0), space
		if rng.IntN(3) == 0 {
			from, width = rng.Uint64N(space), 1+rng.Uint64N(space)
		}
		dead := rng.IntN(4) * rng.IntN(4)
		for range 1 + rng.IntN(2000/(1+rng.IntN(20))) {
			s.lsn++
			e := simEntry{key: from + rng.Uint64N(width), lsn: s.lsn, gone: rng.IntN(10) < dead}
			newest[e.key] = e
			if delete(s.live, e.key); !e.gone {
				s.live[e.key] = true
			}
		}
		var es []simEntry
		for _, e := range newest {
			es = append(es, e)
		}
		slices.SortFunc(es, func(a, b simEntry) int { return cmp.Compare(a.key, b.key) })
		c := newCutter(nil, 0, 0, false, &Options{FileBytes: min(s.entry*(1+rng.Int64N(100)), s.opts.FileBytes)})
		s.nextRun++
		s.apply(&manifest.Edit{Add: s.output(es, c, s.nextRun-1), FlushedLSN: &s.lsn})
	}
	return s
}

// checkJob holds a job against the rules that make it right on a version.
func checkJob(t *testing.T, v *manifest.Version, o Options, j *Job) {
	t.Helper()
	in := map[manifest.FileNum]bool{}
	for k, s := range j.Inputs {
		if v.Segment(s.Num) != s || in[s.Num] {
			t.Fatalf("input %d is not there, or twice:\n%s", s.Num, j.Explain())
		}
		in[s.Num] = true
		if k > 0 && s.Run > j.Inputs[k-1].Run || s.Run > j.Newest || s.Run < j.Output {
			t.Fatalf("input %d is not in order:\n%s", s.Num, j.Explain())
		}
		if s.Entries > 0 && (s.Smallest.Compare(j.Lo) < 0 || s.Largest.Compare(j.Hi) > 0) {
			t.Fatalf("input %d reaches out of the job's keys:\n%s", s.Num, j.Explain())
		}
	}
	if j.Why == "" || j.Reason == 0 || j.Kind == 0 {
		t.Fatalf("no explanation: %+v", j)
	}
	if j.Kind == Merge && j.ReadBytes > o.withDefaults().MaxJobBytes && len(j.Inputs) > 1 {
		t.Fatalf("beyond the limit:\n%s", j.Explain())
	}
	for _, s := range j.Inputs {
		for i := range v.Runs {
			r := &v.Runs[i]
			if r.ID >= s.Run || r.ID < j.Output || j.Kind == Drop {
				continue
			}
			for _, o := range r.Segments {
				if o.Overlaps(s) && !in[o.Num] {
					t.Fatalf("segment %d overlaps input %d and is no input:\n%s\n%s", o.Num, s.Num, j.Explain(), v)
				}
			}
		}
	}
	if j.Kind != Merge || j.Hi.Compare(manifest.Key{}) == 0 {
		return
	}
	for i := range v.Runs {
		for _, s := range v.Runs[i].Overlapping(j.Lo, j.Hi) {
			if v.Runs[i].ID == j.Output && !in[s.Num] {
				t.Fatalf("segment %d of the output's run lies in the way:\n%s", s.Num, j.Explain())
			}
		}
	}
}

// TestPickOnRandomVersions does what is picked until nothing is. Each job must be right, reads must stay as they are,
// it must come to an end, and then the bounds must hold.
func TestPickOnRandomVersions(t *testing.T) {
	seed := newSeed(t)
	for n := range *storesFlag {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := randomStore(t, rng)
		in := s.input()
		in.Full = rng.IntN(5) == 0
		for jobs := 0; ; jobs++ {
			j, ok := Pick(s.v, in)
			if !ok {
				break
			}
			checkJob(t, s.v, in.Options, &j)
			s.do(&j)
			s.check()
			if jobs > 2000 {
				t.Fatalf("store %d: no end of jobs; the last:\n%s\n%s", n, j.Explain(), s.v)
			}
		}
		p := newPicker(s.v, &in)
		for i := range p.runs {
			for _, seg := range p.runs[i].segs {
				if st := p.at(seg.Smallest); len(st.runs) > p.o.MaxSources {
					t.Fatalf("store %d: a key in %d runs, %d are allowed\n%s", n, len(st.runs), p.o.MaxSources, s.v)
				}
			}
		}
		if len(p.runs) == 0 {
			continue
		}
		if oldest := &p.runs[p.oldest()]; p.twice > p.allowed(oldest.bytes()+oldest.refs) {
			t.Fatalf("store %d: %d bytes twice or stale, %d are allowed\n%s", n, p.twice, p.allowed(oldest.bytes()+oldest.refs), s.v)
		}
		if in.Full && len(p.runs) > 1 {
			t.Fatalf("store %d: %d runs are left\n%s", n, len(p.runs), s.v)
		}
		for seg := range s.v.All() {
			if in.Full && seg.Tombstones > 0 {
				t.Fatalf("store %d: segment %s has tombstones left", n, seg)
			}
		}
	}
}

// TestPickBesideRunningJobs picks several jobs before any is done, and does them in any order.
func TestPickBesideRunningJobs(t *testing.T) {
	seed := newSeed(t)
	beside := 0
	for n := range *storesFlag {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := randomStore(t, rng)
		in := s.input()
		for jobs := 0; ; {
			for len(in.Running) < 3 {
				j, ok := Pick(s.v, in)
				if !ok {
					break
				}
				checkJob(t, s.v, in.Options, &j)
				in.Running = append(in.Running, j)
			}
			if len(in.Running) == 0 {
				break
			}
			if len(in.Running) > 1 {
				beside++
			}
			i := rng.IntN(len(in.Running))
			s.do(&in.Running[i])
			s.check()
			in.Running = slices.Delete(in.Running, i, i+1)
			if jobs++; jobs > 2000 {
				t.Fatalf("store %d: no end of jobs", n)
			}
		}
	}
	if beside == 0 {
		t.Fatal("no two jobs were ever picked beside each other")
	}
}
