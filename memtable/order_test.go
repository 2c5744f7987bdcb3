package memtable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
)

// randomKeys returns distinct keys with many shared beginnings, of lengths around the size of a prefix.
func randomKeys(rng *rand.Rand, n int) [][]byte {
	common := bytes.Repeat([]byte("c"), rng.IntN(12))
	seen := make(map[string]bool)
	for len(seen) < n {
		key := slices.Clone(common)
		for range 1 + rng.IntN(14) {
			key = append(key, []byte{0, 1, 'a', 0xff}[rng.IntN(4)])
		}
		seen[string(key)] = true
	}
	keys := make([][]byte, 0, n)
	for key := range seen {
		keys = append(keys, []byte(key))
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func (f *fixture) runOf(keys [][]byte, rng *rand.Rand) *run {
	var ps posList
	defer ps.free()
	for _, i := range rng.Perm(len(keys)) {
		ps.add(uint64(f.record(1, event.OpPut, keys[i], nil)))
		if rng.IntN(10) == 0 {
			ps.add(uint64(f.record(1, event.OpPut, keys[i], nil))) // twice
		}
	}
	return f.t.sortedRun(&ps, "")
}

func (f *fixture) wantKeys(r *run, keys [][]byte) {
	f.tb.Helper()
	if len(r.es) != len(keys) {
		f.tb.Fatalf("run has %d keys, want %d", len(r.es), len(keys))
	}
	for i, key := range keys {
		if got := r.key(f.a, i); !bytes.Equal(got, key) {
			f.tb.Fatalf("key %d of the run is %q, want %q", i, got, key)
		}
		if !bytes.HasPrefix(key, []byte(r.common)) || r.es[i].prefix != prefixAt(key, len(r.common)) {
			f.tb.Fatalf("key %q: common prefix %q, prefix %x", key, r.common, r.es[i].prefix)
		}
	}
}

func TestSortMergeSeek(t *testing.T) {
	seed := newSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	f := newFixture(t)
	defer f.close()
	for _, n := range []int{1, 2, 50, radixFrom - 1, 1000, 5000} {
		keys := randomKeys(rng, n)
		whole := f.runOf(keys, rng)
		f.wantKeys(whole, keys)

		for range 200 { // seek, from the start and from somewhere before
			i := rng.IntN(n)
			key := slices.Clone(keys[i])
			switch rng.IntN(4) {
			case 0:
				key = append(key, 0)
			case 1:
				key = key[:rng.IntN(len(key))]
			case 2:
				key[rng.IntN(len(key))]++
			}
			want, _ := slices.BinarySearchFunc(keys, key, bytes.Compare)
			if got := whole.seek(f.a, key); got != want {
				t.Fatalf("seek(%q) is %d, want %d", key, got, want)
			}
			if from := rng.IntN(want + 1); whole.seekFrom(f.a, key, from) != want {
				t.Fatalf("seekFrom(%q, %d) is %d, want %d", key, from, whole.seekFrom(f.a, key, from), want)
			}
		}

		// Split the keys over runs, some in several, and merge them: by prefix ranges too, so that runs have different
		// common prefixes.
		parts := make([][][]byte, 1+rng.IntN(6))
		for i, key := range keys {
			parts[i*len(parts)/len(keys)] = append(parts[i*len(parts)/len(keys)], key)
			if rng.IntN(5) == 0 {
				j := rng.IntN(len(parts))
				if !slices.ContainsFunc(parts[j], func(k []byte) bool { return bytes.Equal(k, key) }) {
					parts[j] = append(parts[j], key)
				}
			}
		}
		var runs []*run
		for _, part := range parts {
			if len(part) > 0 {
				runs = append(runs, f.runOf(part, rng))
			}
		}
		merged := mergeRuns(f.a, runs)
		f.wantKeys(merged, keys)
		for _, r := range append(runs, merged, whole) {
			r.free()
		}
	}
}

func TestOrderIsOffUntilAsked(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(1, "b", "1")
	f.put(2, "b", "2")
	if f.t.Ordered(1) || f.t.Metrics().RunBytes != 0 {
		t.Fatal("in order without a scan")
	}
	f.t.EnableOrder(1)
	f.t.EnableOrder(1)
	if !f.t.Ordered(1) || f.t.Ordered(2) {
		t.Fatal("Ordered is wrong after EnableOrder")
	}
	f.put(1, "a", "3")
	rng := rand.New(rand.NewPCG(1, 1))
	got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil)
	if want := []string{"a=3", "b=1"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if got := f.scan(rng, 3, ScanOptions{Max: f.lsn}, show, nil); len(got) != 0 {
		t.Fatalf("scan of an empty dataset: %q", got)
	}
}

// TestBackgroundSorts checks that keys which nobody scans are put into few runs all the same.
func TestBackgroundSorts(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.t.order.limits = limits{freshBatch: 100, tinyRun: 8, inlineMerge: 64}
	f.t.EnableOrder(1)
	for i := range 20_000 {
		f.put(1, fmt.Sprint(i*7919%20_000), "")
	}
	for m := f.t.Metrics(); m.UnsortedKeys >= 100 || m.Runs > 8; m = f.t.Metrics() {
		runtime.Gosched()
	}
	if m := f.t.Metrics(); m.SortedKeys+m.UnsortedKeys != 20_000 {
		t.Fatalf("%d keys in runs, %d to sort, want 20000 in all", m.SortedKeys, m.UnsortedKeys)
	}
}

// TestFrozenRunsAreNotMerged: while entries are moved out of a generation no merge may copy an old place.
func TestFrozenRunsAreNotMerged(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.t.EnableOrder(1)
	od := f.t.order.all()[1]
	rng := rand.New(rand.NewPCG(1, 1))
	od.freeze()
	for i := range 5 {
		f.put(1, fmt.Sprint(i), "")
		if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); len(got) != i+1 {
			t.Fatalf("scan sees %d keys, want %d", len(got), i+1)
		}
	}
	if n := f.t.Metrics().Runs; n != 5 {
		t.Fatalf("%d runs while frozen, want 5", n)
	}
	od.thaw()
	f.put(1, "5", "")
	f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil)
	if n := f.t.Metrics().Runs; n != 1 {
		t.Fatalf("%d runs after thawing, want 1", n)
	}
}

// TestScanRefreshesEntries checks that a scan which had to ask the index leaves entries behind that need not.
func TestScanRefreshesEntries(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.t.EnableOrder(1)
	rng := rand.New(rand.NewPCG(1, 1))
	f.put(1, "a", "1")
	f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil)
	f.put(1, "a", "2")
	if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); !slices.Equal(got, []string{"a=2"}) {
		t.Fatalf("got %q", got)
	}
	r := f.t.order.all()[1].runs.Load().runs[0]
	if lsn := f.a.Record(r.es[0].load()).LSN(); lsn != f.lsn {
		t.Fatalf("entry points to LSN %d, want %d", lsn, f.lsn)
	}
}
