package memtable

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// sorted returns "dataset/key@lsn" of what Sorted keeps.
func (f *fixture) sorted(gens []tail.Generation, o SortedOptions) (out []string) {
	f.tb.Helper()
	s := f.t.Sorted(gens, o)
	defer s.Free()
	bytes := int64(0)
	for r := range s.Records() {
		out = append(out, fmt.Sprintf("%d/%s@%d", r.Dataset(), r.Key(), r.LSN()))
		bytes += int64(r.Size())
	}
	if s.Len() != len(out) || s.Bytes() != bytes {
		f.tb.Fatalf("Sorted says %d records of %d bytes, it has %d of %d", s.Len(), s.Bytes(), len(out), bytes)
	}
	return out
}

func TestSortedKeepsWhatIsNeeded(t *testing.T) {
	for _, c := range []struct {
		name  string
		write string // keys in the order of their LSNs; what comes after | is outside the generation
		pins  []event.LSN
		upTo  event.LSN // durable
		want  string
	}{
		{name: "nothing", upTo: 0},
		{name: "the newest of each key", write: "b a b a c", upTo: 5, want: "a@4 b@3 c@5"},
		{name: "the newest up to each pin", write: "a a a a", pins: []event.LSN{1, 3}, upTo: 4, want: "a@4 a@3 a@1"},
		{name: "a pin before the first version", write: "b a a", pins: []event.LSN{1}, upTo: 3, want: "a@3 b@1"},
		{name: "two pins on one version", write: "a b c a", pins: []event.LSN{2, 3}, upTo: 4, want: "a@4 a@1 b@2 c@3"},
		{name: "versions that are not durable", write: "a a a a", upTo: 2, want: "a@4 a@3 a@2"},
		{name: "a durable successor outside", write: "a b | a", upTo: 3, want: "b@2"},
		{name: "a successor outside that is not durable", write: "a b | a", upTo: 2, want: "a@1 b@2"},
		{name: "a pin before the successor outside", write: "a a b | a", pins: []event.LSN{3}, upTo: 4, want: "a@2 b@3"},
		{name: "the direct successor is durable, the newest is not", write: "a | a a a", upTo: 2, want: ""},
		{name: "the newest is durable, a pin is between", write: "a | b a a a", pins: []event.LSN{2}, upTo: 5, want: "a@1"},
		{name: "many successors outside", write: "a |" + strings.Repeat(" a", maxAskSteps+1), upTo: 2, want: "a@1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			inside, outside, _ := strings.Cut(c.write, "|")
			for _, key := range strings.Fields(inside) {
				f.put(1, key, "value")
			}
			g := f.ap.Seal()
			for _, key := range strings.Fields(outside) {
				f.put(1, key, "value")
			}
			got := strings.Join(f.sorted([]tail.Generation{g}, SortedOptions{Pins: c.pins, Durable: c.upTo}), " ")
			if got = strings.ReplaceAll(got, "1/", ""); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSortedLeavesOutWhatWasNotApplied(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(2, "b", "1")
	f.record(1, event.OpPut, []byte("stale"), []byte("2")) // never inserted
	f.record(1, event.OpDeleteRange, []byte("from"), []byte("to"))
	f.record(0, event.OpSessionOpened, nil, []byte("3"))
	f.record(2, event.OpDeleteRange, nil, nil)
	f.put(1, "a", "4")
	g := f.ap.Seal()
	if got, want := f.sorted([]tail.Generation{g}, SortedOptions{Durable: f.lsn}), []string{"1/a@6", "2/b@1"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	s := f.t.Sorted([]tail.Generation{g}, SortedOptions{Durable: f.lsn})
	defer s.Free()
	var got []string
	for r := range s.Unkeyed() {
		got = append(got, fmt.Sprintf("%d %v %d %q %q", r.LSN(), r.Op(), r.Dataset(), r.Key(), r.Value()))
	}
	want := []string{`3 delete-range 1 "from" "to"`, `4 session-opened 0 "" "3"`, `5 delete-range 2 "" ""`}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// TestSortedRandomly compares with what a look at all versions says.
func TestSortedRandomly(t *testing.T) {
	seed := newSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range max(1, *stepsFlag/200) {
		f := newFixture(t)
		keys := randomKeys(rng, 1+rng.IntN(300))
		m := model{}
		write := func(n int) {
			for range n {
				key := keys[int(float64(len(keys))*rng.Float64()*rng.Float64())] // some more often
				ds := event.DatasetID(1 + rng.IntN(3))
				m.add(ds, string(key), version{f.put(ds, string(key), "value"), ""})
			}
		}
		write(rng.IntN(500))
		f.ap.Seal() // below the generations that are sorted
		first := f.lsn + 1
		var gens []tail.Generation
		for range 1 + rng.IntN(3) {
			write(rng.IntN(1000))
			gens = append(gens, f.ap.Seal())
		}
		last := f.lsn
		write(rng.IntN(2000))
		o := SortedOptions{Durable: event.LSN(rng.Uint64N(uint64(f.lsn) + 1))}
		for range rng.IntN(4) {
			o.Pins = append(o.Pins, event.LSN(rng.Uint64N(uint64(f.lsn)+1)))
		}
		slices.Sort(o.Pins)

		needs := func(at, next event.LSN) bool {
			for _, l := range append([]event.LSN{o.Durable}, o.Pins...) {
				if at <= l && l < next {
					return true
				}
			}
			return at > o.Durable
		}
		var want []string
		for ds := event.DatasetID(1); ds <= 3; ds++ {
			for _, key := range keys { // in order
				vs := m[ds][string(key)]
				for i := len(vs) - 1; i >= 0; i-- {
					at := vs[i].lsn
					keep := at >= first && at <= last
					switch {
					case !keep || i == len(vs)-1:
					case vs[i+1].lsn <= last:
						keep = needs(at, vs[i+1].lsn)
					default: // the index is asked, from the newest on
						for k := len(vs) - 1; k > i && k > len(vs)-1-maxAskSteps; k-- {
							keep = keep && needs(at, vs[k].lsn)
						}
					}
					if keep {
						want = append(want, fmt.Sprintf("%d/%s@%d", ds, key, at))
					}
				}
			}
		}
		if got := f.sorted(gens, o); !slices.Equal(got, want) {
			t.Fatalf("%d keys, LSNs %d to %d of %d, %+v:\n got %q\nwant %q", len(keys), first, last, f.lsn, o, got, want)
		}
		f.parts(gens, o, 1+rng.IntN(6))
		f.close()
	}
}

// parts checks that Parts gives what Records does, with all versions of a key in one part, and about as many records in each.
func (f *fixture) parts(gens []tail.Generation, o SortedOptions, n int) {
	f.tb.Helper()
	s := f.t.Sorted(gens, o)
	defer s.Free()
	parts := s.Parts(n)
	if len(parts) == 0 || len(parts) > n {
		f.tb.Fatalf("%d parts of %d", len(parts), n)
	}
	var got, last, longest = []tail.Record(nil), tail.Record{}, 0
	for i, part := range parts {
		before, versions := len(got), 0
		for r := range part {
			same := !last.IsZero() && last.Dataset() == r.Dataset() && string(last.Key()) == string(r.Key())
			if versions++; !same {
				versions = 1
			}
			longest = max(longest, versions)
			if same && len(got) == before {
				f.tb.Errorf("part %d begins within the versions of %q", i, r.Key())
			}
			got, last = append(got, r), r
		}
		if len(got) == before && s.Len() > 0 {
			f.tb.Errorf("part %d of %d is empty", i, len(parts))
		}
	}
	if want := slices.Collect(s.Records()); !slices.Equal(got, want) {
		f.tb.Errorf("%d parts have %d records, want %d, or another order", len(parts), len(got), len(want))
	}
	for i, part := range parts {
		if k, most := len(slices.Collect(part)), s.Len()/n+1+longest; k > most {
			f.tb.Errorf("part %d of %d has %d records of %d, want %d at most", i, len(parts), k, s.Len(), most)
		}
	}
}
