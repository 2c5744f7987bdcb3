package memtable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// TestFirstPageDoesNotWaitForAllKeys to be sorted: what a scan with a limit wants is there before, and the rest afterwards.
func TestFirstPageDoesNotWaitForAllKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range []struct {
		limit   int
		reverse bool
	}{{5, false}, {5, true}, {100, false}, {100, true}} {
		limit, reverse := c.limit, c.reverse
		t.Run(fmt.Sprintf("limit %d, reverse %v", limit, reverse), func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			rng := rand.New(rand.NewPCG(seed, 1))
			keys := randomKeys(rng, 2000)
			for _, i := range rng.Perm(len(keys)) {
				f.put(1, string(keys[i]), "old")
				if i%3 == 0 {
					f.put(1, string(keys[i]), "new")
				}
				f.put(2, string(keys[i])+"x", "of another dataset")
			}
			from, to := keys[500], keys[1500]
			want := slices.Clone(keys[500:1500])
			if reverse {
				slices.Reverse(want)
			}
			od, mine := f.t.order.begin(1) // nobody sorts
			if !mine {
				t.Fatal("the dataset is sorted already")
			}
			upTo := f.lsn
			f.put(1, string(keys[700])+"!", "later than the scan")
			for _, i := range []int{501, 1497} {
				f.put(1, string(keys[i]), "later, too")
			}
			it := f.t.Scan(1, ScanOptions{From: from, To: to, Reverse: reverse, Max: upTo, Limit: limit})
			var got []string
			read := func() int {
				g := f.d.Enter()
				defer g.Exit()
				items := make([]tail.Record, 1+rng.IntN(40))
				n := it.Next(items)
				for _, r := range items[:n] {
					got = append(got, string(r.Key()))
					if i, _ := slices.BinarySearchFunc(keys, r.Key(), bytes.Compare); (show(r) == "new") != (i%3 == 0) {
						t.Errorf("%q has %s", r.Key(), show(r))
					}
				}
				return n
			}
			for read() > 0 {
			}
			if len(got) < limit || len(got) > 2*limit+16 || !it.Waits() {
				t.Fatalf("%d keys before the others are sorted; waits for them: %v", len(got), it.Waits())
			}
			go od.finish()
			for n := 1; n > 0; {
				it.Await()
				n = read()
			}
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || got[i] != string(want[i]) {
					t.Fatalf("%d keys, want %d; they differ from %d on", len(got), len(want), i)
				}
			}
			if it := f.t.Scan(1, ScanOptions{Max: f.lsn, Limit: 1}); it.page.keys != nil {
				t.Error("a scan of what is sorted looks for its first keys itself")
			}
		})
	}
}

// TestFirstPageOfOneChunk knows that there are more keys, whoever of those that look has found them all.
func TestFirstPageOfOneChunk(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(2, "of another dataset", "v")
	f.ap.Seal() // what follows lies in another chunk
	for i := range 4 * (10 + 5 + 16) {
		f.put(1, fmt.Sprintf("k%03d", i), "v")
	}
	od, _ := f.t.order.begin(1)
	defer od.finish()
	for i := range 200 {
		if p := od.firstPage(ScanOptions{Limit: 10, Max: f.lsn, Reverse: i%2 == 0}); len(p.keys) < 10 || p.whole {
			t.Fatalf("%d keys, all there are: %v", len(p.keys), p.whole)
		}
	}
}

// TestFirstPageThatIsJustFull has all keys, also when the last one of them comes again.
func TestFirstPageThatIsJustFull(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	const limit, n = 4, 4 + 2 + 16
	for range 3 {
		for i := range n {
			f.put(1, fmt.Sprintf("k%02d", i), "v")
		}
	}
	od, _ := f.t.order.begin(1)
	defer od.finish()
	for _, reverse := range []bool{false, true} {
		if p := od.firstPage(ScanOptions{Limit: limit, Max: f.lsn, Reverse: reverse}); len(p.keys) != n || !p.whole {
			t.Errorf("reverse %v: %d keys of %d, all there are: %v", reverse, len(p.keys), n, p.whole)
		}
	}
}

// TestFirstPageIsACopy: its keys stay when the memory that they were found in holds something else.
func TestFirstPageIsACopy(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(1, "left", "v")
	od, _ := f.t.order.begin(1)
	defer od.finish()
	p := od.firstPage(ScanOptions{Limit: 4, Max: f.lsn})
	f.a.Pieces()[0].Filled(f.lsn)(func(r tail.Record) bool { return copy(r.Key(), "else") == 0 })
	if len(p.keys) != 1 || string(p.keys[0]) != "left" {
		t.Errorf("the page has %q", p.keys)
	}
}

// TestFirstPageBesideWriters has what was there when the scan began, whatever lies half written behind it.
func TestFirstPageBesideWriters(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := newFixture(t)
	defer f.close()
	rng := rand.New(rand.NewPCG(seed, 2))
	keys := randomKeys(rng, 20_000)
	rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	od, _ := f.t.order.begin(1)
	defer od.finish()
	var inserted atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, key := range keys {
			f.put(1, string(key), "v")
			inserted.Add(1)
		}
	}()
	var there [][]byte // sorted
	for n, limit := int64(0), 10; n < int64(len(keys)); {
		before := n
		n = inserted.Load()
		p := od.firstPage(ScanOptions{Limit: limit, Max: event.LSN(n)})
		there = append(there, keys[before:n]...)
		slices.SortFunc(there, bytes.Compare)
		want := there[:min(len(there), limit+limit/2+16)]
		if !slices.EqualFunc(p.keys, want, bytes.Equal) || p.whole != (len(want) == len(there)) {
			t.Errorf("%d keys as of LSN %d, all there are: %v; want %d of %d", len(p.keys), n, p.whole, len(want), len(there))
			break
		}
	}
	<-ended
}

// TestFirstPageAfterRecovery has keys that are not in the table yet.
func TestFirstPageAfterRecovery(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	for i := range 100 {
		key := fmt.Appendf(nil, "k%02d", i)
		f.t.AddPending(f.t.Hash(1, key), f.record(1, event.OpPut, key, []byte("v")))
	}
	od, _ := f.t.order.begin(1)
	defer od.finish()
	it := f.t.Scan(1, ScanOptions{From: []byte("k50"), Max: f.lsn, Limit: 5})
	g := f.d.Enter()
	defer g.Exit()
	items := make([]tail.Record, 5)
	if n := it.Next(items); n != 5 || string(items[0].Key()) != "k50" || string(items[4].Key()) != "k54" {
		t.Errorf("%d keys", n)
	}
}

// TestFirstPageOfOverwrittenKeys has each of them once, wherever its versions lie, and those of other datasets not at all.
func TestFirstPageOfOverwrittenKeys(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	for range 50 {
		for i := 99; i >= 0; i-- {
			f.put(1, fmt.Sprintf("k%02d", i), "v")
			f.put(2, fmt.Sprintf("j%02d", i), "v")
		}
	}
	od, _ := f.t.order.begin(1)
	defer od.finish()
	for _, reverse := range []bool{false, true} {
		p := od.firstPage(ScanOptions{From: []byte("k10"), To: []byte("k90"), Limit: 4, Reverse: reverse, Max: f.lsn})
		first, step := 10, 1
		if reverse {
			first, step = 89, -1
		}
		for i, key := range p.keys {
			if want := fmt.Sprintf("k%02d", first+i*step); string(key) != want {
				t.Errorf("reverse %v: key %d is %q, want %q", reverse, i, key, want)
			}
		}
		if len(p.keys) != 4+2+16 || p.whole {
			t.Errorf("reverse %v: %d keys, all there are: %v", reverse, len(p.keys), p.whole)
		}
	}
}

// TestFirstPageOfAllThereIs needs nothing to be sorted.
func TestFirstPageOfAllThereIs(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	for i := range 50 {
		f.put(1, fmt.Sprintf("k%02d", i), "v")
	}
	f.insert(1, event.OpDelete, []byte("k07"), nil)
	od, _ := f.t.order.begin(1)
	it := f.t.Scan(1, ScanOptions{From: []byte("k05"), To: []byte("k15"), Max: f.lsn, Limit: 1000})
	g := f.d.Enter()
	items := make([]tail.Record, 64)
	if n := it.Next(items); n != 10 || string(items[0].Key()) != "k05" || string(items[9].Key()) != "k14" {
		t.Errorf("%d keys", n)
	}
	if n := it.Next(items); n != 0 || it.Waits() {
		t.Errorf("%d more keys, waits: %v", n, it.Waits())
	}
	g.Exit()
	od.finish()
}

// BenchmarkFirstPage finds the first 100 keys of a million.
func BenchmarkFirstPage(b *testing.B) {
	bt := newBench()
	defer bt.close()
	bt.fill(make([]byte, 100))
	od, _ := bt.t.order.begin(1)
	defer od.finish()
	for b.Loop() {
		if p := od.firstPage(ScanOptions{Limit: 100, Max: bt.lsn}); len(p.keys) < 100 {
			b.Fatal(len(p.keys))
		}
	}
}
