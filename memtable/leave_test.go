package memtable

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

// leaveAll makes all that was inserted up to now leave.
func (f *fixture) leaveAll() LeaveResult {
	f.tb.Helper()
	gens := []tail.Generation{f.ap.Seal()}
	res := f.t.Leave(gens...)
	f.checkLeft(gens, res)
	return res
}

// keysOfShard returns n keys of dataset 1 in shard 0 whose first slot in a table of minSlots is home; home < 0 = any.
func (f *fixture) keysOfShard(n, home int) (keys []string) {
	key := make([]byte, 8)
	for i := uint64(0); len(keys) < n; i++ {
		binary.BigEndian.PutUint64(key, i)
		if h := f.t.Hash(1, key); h>>56 == 0 && (home < 0 || int(h)&(minSlots-1) == home) {
			keys = append(keys, string(key))
		}
	}
	return keys
}

// wantSlots checks the shard that keysOfShard fills: keys in memory, slots taken, dead ones included, slots of the table.
func (f *fixture) wantSlots(keys, used, count int) {
	f.tb.Helper()
	s, st := &f.t.shards[0], f.t.states[0].Load()
	if s.keys != keys || s.used != used || st.cur.count() != count {
		f.tb.Fatalf("%d keys in %d slots of %d, want %d in %d of %d", s.keys, s.used, st.cur.count(), keys, used, count)
	}
	f.checkIndex()
}

func TestLeave(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	one := f.put(1, "overwritten", "1")
	f.put(1, "gone", "1")
	f.record(1, event.OpPut, []byte("stale"), nil) // never inserted
	two := f.put(1, "overwritten", "2")
	g := f.ap.Seal()
	three := f.put(1, "overwritten", "3")
	f.put(1, "new", "1")
	before := f.t.Departures()
	res := f.t.Leave(g)
	f.checkLeft([]tail.Generation{g}, res)
	f.checkIndex()
	if res.Records != 3 || res.Keys != 1 {
		t.Fatalf("result %+v", res)
	}
	if f.t.Departures() == before {
		t.Fatal("Departures did not rise")
	}
	f.wantGet(1, "overwritten", event.MaxLSN, "3")
	f.wantGet(1, "overwritten", three-1, "")
	f.wantGet(1, "overwritten", one, "")
	f.wantGet(1, "gone", event.MaxLSN, "")
	f.wantGet(1, "new", event.MaxLSN, "1")
	h := f.t.Hash(1, []byte("overwritten"))
	f.t.Lock(h)
	if _, ok := f.t.FindLSN(h, 1, two); ok {
		t.Fatal("FindLSN finds a version that left")
	}
	if _, ok := f.t.FindLSN(h, 1, three); !ok {
		t.Fatal("FindLSN does not find a version that stayed")
	}
	f.t.Unlock(h)
	if m := f.t.Metrics(); m.Keys != 2 || m.Versions != 2 || m.LeftRecords != 3 || m.LeftKeys != 1 || m.Departures != 1 {
		t.Fatalf("metrics %+v", m)
	}
	// Several at once, and one that is empty.
	f.put(1, "new", "2")
	h1 := f.ap.Seal()
	f.put(1, "new", "3")
	if res := f.t.Leave(h1, f.ap.Seal(), f.ap.Seal()); res.Records != 4 || res.Keys != 2 {
		t.Fatalf("result %+v", res)
	}
	if m := f.t.Metrics(); m.Keys != 0 || m.Versions != 0 || m.Slots != 0 || m.Bytes() != 0 {
		t.Fatalf("metrics of an empty table %+v", m)
	}
	f.put(1, "new", "4")
	f.wantGet(1, "new", event.MaxLSN, "4")
}

// TestLeaveInsertsWhatIsPending: what recovery has handed over counts as if it had been inserted.
func TestLeaveInsertsWhatIsPending(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	key := []byte("key")
	for range 2 {
		f.t.AddPending(f.t.Hash(1, key), f.record(1, event.OpPut, key, nil))
	}
	if res := f.leaveAll(); res.Records != 2 || res.Keys != 1 {
		t.Fatalf("result %+v", res)
	}
	f.checkIndex()
}

func TestLeaveOutOfOrderPanics(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(1, "a", "1")
	first := f.ap.Seal()
	f.put(1, "a", "2")
	f.t.Leave(f.ap.Seal())
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	f.t.Leave(first)
}

func TestDeadSlots(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(f *fixture, same []string) // keys with the same first slot
	}{
		{"a probe passes over them", func(f *fixture, k []string) {
			f.put(1, k[0], "1")
			g := f.ap.Seal()
			f.put(1, k[1], "1")
			f.t.Leave(g)
			f.wantSlots(1, 2, minSlots)
			f.wantGet(1, k[1], event.MaxLSN, "1")
		}},
		{"a key comes back", func(f *fixture, k []string) {
			f.put(1, "other", "1")
			f.put(1, k[0], "1")
			g := f.ap.Seal()
			f.put(1, k[1], "1") // so that the table stays
			f.t.Leave(g)
			back := f.put(1, k[0], "2")
			f.wantSlots(2, 2, minSlots)
			f.wantGet(1, k[0], event.MaxLSN, "2")
			f.wantGet(1, k[0], back-1, "")
		}},
		{"another key takes the slot", func(f *fixture, k []string) {
			f.put(1, k[0], "1")
			g := f.ap.Seal()
			f.put(1, k[1], "1")
			f.t.Leave(g)
			f.put(1, k[2], "1")
			f.wantSlots(2, 2, minSlots)
			f.wantGet(1, k[2], event.MaxLSN, "1")
			f.wantGet(1, k[0], event.MaxLSN, "")
		}},
		{"a key behind a dead slot is not inserted twice", func(f *fixture, k []string) {
			f.put(1, k[0], "1")
			g := f.ap.Seal()
			first := f.put(1, k[1], "1")
			f.t.Leave(g)
			f.put(1, k[1], "2")
			f.wantSlots(1, 2, minSlots)
			f.wantGet(1, k[1], event.MaxLSN, "2")
			f.wantGet(1, k[1], first, "1")
		}},
		{"the slot of a key that came back in front of its old one", func(f *fixture, k []string) {
			f.put(1, k[0], "1")
			f.put(1, k[1], "1")
			g := f.ap.Seal()
			f.put(1, k[2], "1")
			f.t.Leave(g)
			f.put(1, k[1], "2") // where k[0] was; its own is dead still
			f.wantSlots(2, 3, minSlots)
			f.wantGet(1, k[1], event.MaxLSN, "2")
			g = f.ap.Seal()
			f.put(1, k[0], "2")
			f.t.Leave(g)
			f.wantGet(1, k[1], event.MaxLSN, "")
			f.wantGet(1, k[0], event.MaxLSN, "2")
			f.wantSlots(1, 3, minSlots)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			f.t.leave.count = 1 // the table of shard 0 is not the next one to be renewed
			c.run(f, f.keysOfShard(3, 5))
		})
	}
}

// TestTablesFollowTheKeys: tables grow with the keys that are in memory, not with those that were, and shrink.
func TestTablesFollowTheKeys(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	keys := f.keysOfShard(1000, -1)
	f.put(1, keys[0], "stays")
	for n := 1; n+20 <= len(keys); n += 20 { // 20 keys at a time, of which 20 more leave
		for _, key := range keys[n : n+20] {
			f.put(1, key, "1")
		}
		f.put(1, keys[0], "stays")
		if n > 1 {
			f.t.Leave(f.ap.Seal())
			f.put(1, keys[0], "stays")
		}
		if count := f.t.states[0].Load().cur.count(); count > growFast {
			t.Fatalf("table of %d slots for 40 keys", count)
		}
		f.checkIndex()
	}
	f.leaveAll()
	for _, key := range keys {
		f.put(1, key, "1")
	}
	f.wantSlots(1000, 1000, 2048)
	g := f.ap.Seal()
	for _, key := range keys[:10] {
		f.put(1, key, "2")
	}
	f.t.Leave(g)
	f.wantSlots(10, 10, minSlots)
	for _, key := range keys[:10] {
		f.wantGet(1, key, event.MaxLSN, "2")
	}
	f.leaveAll()
	if f.t.states[0].Load().cur != noState.cur {
		t.Fatal("an empty shard has a table")
	}
}

// TestHysteresis: a number of keys that goes up and down by half renews no table.
func TestHysteresis(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	for keys := 1; keys < 5000; keys += 1 + keys/7 {
		s := slots{mask: uint64(nextSize(slots{mask: 1}, 0)/slotBytes) - 1}
		for keys >= s.limit() { // as inserting them does
			s.mask = uint64(nextSize(s, s.limit())/slotBytes) - 1
		}
		if tooLarge(s, keys) || s.count() > 4*growFast && tooLarge(s, keys/2+1) {
			t.Fatalf("a table of %d slots, grown for %d keys, is too large for them or for half", s.count(), keys)
		}
		if tooLarge(s, keys/6) { // a smaller one takes twice as much
			small := slots{mask: uint64(nextSize(s, keys/6)/slotBytes) - 1}
			if small.count() >= s.count() || small.limit() < 2*(keys/6) || s.count() > small.count()<<maxShrink {
				t.Fatalf("a table of %d slots follows one of %d for %d keys", small.count(), s.count(), keys/6)
			}
		}
	}
}

// TestLeaveWhileDraining: what has left comes back neither from the old table nor by being moved.
func TestLeaveWhileDraining(t *testing.T) {
	for _, overwritten := range []bool{false, true} {
		t.Run(fmt.Sprintf("overwritten=%v", overwritten), func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			keys := f.keysOfShard(200, -1)
			n := 0
			for ; f.t.states[0].Load().old.mask == 0; n++ {
				f.put(1, keys[n], "1")
			}
			inOld := keys[:n-1]
			if overwritten { // some are in both tables
				f.put(1, inOld[0], "2")
			}
			if f.t.states[0].Load().old.mask == 0 {
				t.Fatal("the table has drained")
			}
			g := f.ap.Seal()
			g.Depart() // as in the middle of Leave
			for i, key := range keys[:n] {
				f.wantGet(1, key, event.MaxLSN, "")
				if i%3 == 0 {
					f.put(1, key, "back")
				}
			}
			f.t.Leave(g)
			for i, key := range keys[:n] {
				want := ""
				if i%3 == 0 {
					want = "back"
				}
				f.wantGet(1, key, event.MaxLSN, want)
			}
			if s, st := &f.t.shards[0], f.t.states[0].Load(); s.keys != (n+2)/3 || st.old.mask != 0 {
				t.Fatalf("%d keys, want %d; a table drains: %v", s.keys, (n+2)/3, st.old.mask != 0)
			}
			f.checkIndex()
		})
	}
}

// TestLeaveWaitsForReaders: a record found before Leave can be read as long as the guard is held.
func TestLeaveWaitsForReaders(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(1, "key", "value")
	guard := f.d.Enter()
	h := f.t.Hash(1, []byte("key"))
	r, _ := f.t.Get(h, 1, []byte("key"), event.MaxLSN)
	g := f.ap.Seal()
	f.t.Leave(g)
	if _, ok := f.t.Get(h, 1, []byte("key"), event.MaxLSN); ok {
		t.Fatal("found after Leave")
	}
	if show(r) != "value" || f.a.Bytes() < g.Bytes() {
		t.Fatal("the memory is gone")
	}
	guard.Exit()
	f.d.Synchronize()
	if n := f.a.Bytes(); n > g.Bytes() { // the appender's spare chunk
		t.Fatalf("%d bytes of records are left", n)
	}
}

// TestLeaveWaitsForLocks: a record found under a shard's lock can be read until the lock is given back.
func TestLeaveWaitsForLocks(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.put(1, "key", "value")
	h := f.t.Hash(1, []byte("key"))
	g := f.ap.Seal()
	before := f.t.Departures()
	f.t.Lock(h)
	_, r, _ := f.t.Head(h, 1, []byte("key"))
	done := make(chan LeaveResult)
	go func() { done <- f.t.Leave(g) }()
	for f.a.Has(tail.Pos(*f.t.states[h>>56].Load().cur.at(h) & posMask)) {
		runtime.Gosched()
	}
	if f.t.Departures() == before {
		t.Fatal("a key has disappeared before Departures rose")
	}
	if show(r) != "value" || f.a.Bytes() < g.Bytes() {
		t.Fatal("the memory is gone")
	}
	f.t.Unlock(h)
	if res := <-done; res.Keys != 1 {
		t.Fatalf("result %+v", res)
	}
}

// TestLeaveTakesEntries: runs lose the keys that left and point to the newest version of others.
func TestLeaveTakesEntries(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.t.EnableOrder(1)
	rng := rand.New(rand.NewPCG(1, 1))
	keys := 0
	for i := range 10_000 {
		f.put(1, fmt.Sprintf("%05d", i*7919%10_000), "1")
		if i%1000 == 999 {
			f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil)
		}
	}
	g := f.ap.Seal()
	var want []string
	for i := range 10_000 {
		key := fmt.Sprintf("%05d", i)
		if i%3 == 0 {
			f.put(1, key, "2")
			want = append(want, key+"=2")
			keys++
		}
		if i%3 == 1 && i%2 == 0 {
			f.put(1, key+"new", "1")
			want = append(want, key+"new=1")
			keys++
		}
	}
	before := f.t.Metrics()
	res := f.t.Leave(g)
	f.checkLeft([]tail.Generation{g}, res)
	m := f.t.Metrics()
	if n := m.SortedKeys + m.UnsortedKeys; n != int64(keys) || m.RunBytes >= before.RunBytes {
		t.Fatalf("%d entries of %d keys, %d bytes; before %d bytes", n, keys, m.RunBytes, before.RunBytes)
	}
	if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	f.leaveAll()
	if m := f.t.Metrics(); m.Runs != 0 || m.Bytes() != 0 {
		t.Fatalf("metrics %+v", m)
	}
	f.put(1, "again", "3")
	if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); !slices.Equal(got, []string{"again=3"}) {
		t.Fatalf("got %q", got)
	}
}

// TestKeysComeBackWhileTheirGenerationLeaves: an entry of the order may lead to a departed record while the key is in
// memory again, and merging may keep that entry.
func TestKeysComeBackWhileTheirGenerationLeaves(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	rng := rand.New(rand.NewPCG(1, 1))
	f.t.EnableOrder(1)
	var want []string
	for i := range 50 {
		f.put(1, fmt.Sprintf("%02d", i), "1")
		want = append(want, fmt.Sprintf("%02d=2", i))
	}
	f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil)
	g := f.ap.Seal()
	g.Depart() // as in the middle of Leave
	if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); len(got) != 0 {
		t.Fatalf("got %q of what has departed", got)
	}
	for i := range 25 {
		f.put(1, fmt.Sprintf("%02d", i), "2")
		if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); !slices.Equal(got, want[:i+1]) {
			t.Fatalf("got %q, want %q", got, want[:i+1])
		}
	}
	for i := 25; i < 50; i++ {
		f.put(1, fmt.Sprintf("%02d", i), "2")
	}
	f.t.order.all()[1].collect() // merges, and nobody looks the keys up
	if m := f.t.Metrics(); m.Runs != 1 || m.SortedKeys != 50 {
		t.Fatalf("%d runs with %d entries, want one with 50", m.Runs, m.SortedKeys)
	}
	f.checkLeft([]tail.Generation{g}, f.t.Leave(g))
	if got := f.scan(rng, 1, ScanOptions{Max: f.lsn}, show, nil); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	f.checkIndex()
}

// TestLeaveIsSeenByAnIteratorInUse: between two steps of a scan keys leave, others get new versions.
func TestLeaveIsSeenByAnIteratorInUse(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	for i := range 100 {
		f.put(1, fmt.Sprintf("%02d", i), "1")
	}
	max := f.lsn
	g := f.ap.Seal()
	it := f.t.Scan(1, ScanOptions{Max: event.MaxLSN})
	old := f.t.Scan(1, ScanOptions{Max: max})
	step := func(it *Iterator, n int) (out []string) {
		items := make([]tail.Record, n)
		guard := f.d.Enter()
		defer guard.Exit()
		for _, item := range items[:it.Next(items)] {
			out = append(out, string(item.Key())+"="+show(item))
		}
		return out
	}
	if got := step(it, 2); !slices.Equal(got, []string{"00=1", "01=1"}) {
		t.Fatalf("got %q", got)
	}
	step(old, 2)
	f.put(1, "01", "2") // visited already
	f.put(1, "50", "2")
	f.t.Leave(g)
	if got := step(it, 100); !slices.Equal(got, []string{"50=2"}) {
		t.Fatalf("got %q", got)
	}
	if got := step(old, 100); len(got) != 0 { // its versions have left
		t.Fatalf("got %q", got)
	}
}

var floodFlag = flag.Int("flood", 300_000, "keys of TestFlood; the goal is stated for 10000000")

// TestFlood sends many keys through a small memory: what the index takes stays bounded by what is in memory.
func TestFlood(t *testing.T) {
	const inMemory, perGeneration = 70_000, 5_000
	f := newFixture(t)
	defer f.close()
	f.t.EnableOrder(2)
	var gens []tail.Generation
	limit := int64(0)
	key := make([]byte, 16)
	var most Metrics
	for i := range *floodFlag {
		binary.BigEndian.PutUint64(key[8:], uint64(i)*0x9e3779b97f4a7c15)
		f.insert(event.DatasetID(1+i%8/7), event.OpPut, key, nil)
		if (i+1)%perGeneration != 0 {
			continue
		}
		gens = append(gens, f.ap.Seal())
		if len(gens) > inMemory/perGeneration {
			f.t.Leave(gens[0])
			gens = gens[1:]
		}
		m := f.t.Metrics()
		if i < 2*inMemory {
			continue
		}
		if limit == 0 {
			limit = 2 * (offheap.InUse() - f.start)
		}
		inUse := offheap.InUse() - f.start
		if m.Keys > inMemory || m.IndexBytes > 64*inMemory || m.SortedKeys+m.UnsortedKeys > inMemory/8+1 || inUse > limit {
			t.Fatalf("after %d keys: %+v, %d bytes in use, at most %d", i+1, m, inUse, limit)
		}
		most.IndexBytes = max(most.IndexBytes, m.IndexBytes)
		most.DeadSlots = max(most.DeadSlots, m.DeadSlots)
		most.RunBytes = max(most.RunBytes, m.RunBytes)
	}
	t.Logf("%d keys, of which %d were in memory: %.1f B/key of index at most, %d dead slots, %.1f B/key of runs",
		*floodFlag, inMemory, float64(most.IndexBytes)/inMemory, most.DeadSlots, float64(most.RunBytes)*8/inMemory)
	for _, g := range gens {
		f.t.Leave(g)
	}
	if m := f.t.Metrics(); m.Keys != 0 || m.Bytes() != 0 {
		t.Fatalf("after all have left: %+v", m)
	}
}
