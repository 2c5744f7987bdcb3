package memtable

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

// fixture is a table with all that belongs to it. Close checks that no memory is left.
type fixture struct {
	tb    testing.TB
	start int64
	a     *tail.Arena
	d     *epoch.Domain
	t     *Table
	ap    *tail.Appender
	lsn   event.LSN
}

func newFixture(tb testing.TB) *fixture {
	start := offheap.InUse()
	a, d := tail.NewArena(), epoch.New()
	f := &fixture{tb: tb, start: start, a: a, d: d, t: New(a, d), ap: a.NewAppender()}
	f.t.order.firstPage = 0
	return f
}

func (f *fixture) close() {
	f.tb.Helper()
	f.t.Close()
	f.d.Close()
	f.a.Close()
	if got := offheap.InUse(); got != f.start {
		f.tb.Errorf("offheap.InUse %d after Close, want %d", got, f.start)
	}
}

// record writes a record with the next LSN and returns its place.
func (f *fixture) record(ds event.DatasetID, op event.Op, key, value []byte) tail.Pos {
	p := f.ap.Reserve(event.PayloadSize(1, key, value, nil))
	f.lsn++
	r := f.a.Record(p)
	r.SetLogPos(uint64(f.lsn) << 8)
	event.AppendPayload(r.Payload()[:0], 1, key, value, nil)
	r.Fill(f.lsn, int64(f.lsn), ds, op, 0, 0)
	return p
}

func (f *fixture) insert(ds event.DatasetID, op event.Op, key, value []byte) event.LSN {
	p := f.record(ds, op, key, value)
	h := f.t.Hash(ds, key)
	f.t.Lock(h)
	f.t.Insert(h, p)
	f.t.Unlock(h)
	return f.lsn
}

func (f *fixture) put(ds event.DatasetID, key, value string) event.LSN {
	return f.insert(ds, event.OpPut, []byte(key), []byte(value))
}

// get returns the value of key as of max, "-" for a delete, "" if there is no version.
func (f *fixture) get(ds event.DatasetID, key string, max event.LSN) string {
	g := f.d.Enter()
	defer g.Exit()
	r, ok := f.t.Get(f.t.Hash(ds, []byte(key)), ds, []byte(key), max)
	if !ok {
		return ""
	}
	return show(r)
}

func show(r tail.Record) string {
	if r.Op() == event.OpDelete {
		return "-"
	}
	return string(r.Value())
}

func (f *fixture) wantGet(ds event.DatasetID, key string, max event.LSN, want string) {
	f.tb.Helper()
	if got := f.get(ds, key, max); got != want {
		f.tb.Fatalf("dataset %d, key %q as of %d: got %q, want %q", ds, key, max, got, want)
	}
}

func TestVersionsOfAKey(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.wantGet(1, "a", event.MaxLSN, "")
	one := f.put(1, "a", "first")
	f.put(2, "a", "of another dataset")
	two := f.put(1, "a", "second")
	del := f.insert(1, event.OpDelete, []byte("a"), nil)
	last := f.put(1, "a", "third")
	f.wantGet(1, "a", one-1, "")
	f.wantGet(1, "a", one, "first")
	f.wantGet(1, "a", two-1, "first")
	f.wantGet(1, "a", two, "second")
	f.wantGet(1, "a", del, "-")
	f.wantGet(1, "a", last, "third")
	f.wantGet(2, "a", event.MaxLSN, "of another dataset")
	f.wantGet(3, "a", event.MaxLSN, "")

	h := f.t.Hash(1, []byte("a"))
	f.t.Lock(h)
	if _, r, ok := f.t.Head(h, 1, []byte("a")); !ok || r.LSN() != last {
		t.Fatal("Head is not the newest version")
	}
	for _, lsn := range []event.LSN{one, two, del, last} {
		if r, ok := f.t.FindLSN(h, 1, lsn); !ok || r.LSN() != lsn {
			t.Fatalf("FindLSN(%d) failed", lsn)
		}
	}
	if _, ok := f.t.FindLSN(h, 1, 2); ok {
		t.Fatal("FindLSN found a version of another dataset")
	}
	f.t.Unlock(h)
}

func TestManyKeysThroughGrowth(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	const keys = 60_000
	for i := range keys {
		f.put(event.DatasetID(1+i%3), fmt.Sprint("key", i), fmt.Sprint(i))
	}
	for i := range keys {
		f.wantGet(event.DatasetID(1+i%3), fmt.Sprint("key", i), event.MaxLSN, fmt.Sprint(i))
		f.wantGet(event.DatasetID(1+(i+1)%3), fmt.Sprint("key", i), event.MaxLSN, "")
	}
	f.checkIndex()
	if m := f.t.Metrics(); m.Keys != keys || m.Versions != keys {
		t.Fatalf("Metrics: %d keys, %d versions, want %d", m.Keys, m.Versions, keys)
	}
	// To 64, 256 and, most of them, 512 slots a shard.
	if m := f.t.Metrics(); m.Moves < 2*shardCount || m.Moves > 4*shardCount || m.LongestNs <= 0 {
		t.Errorf("%d moves of %d shards, the longest step took %d ns", m.Moves, shardCount, m.LongestNs)
	}
}

// TestCollisions inserts keys of one shard that have one of few tags, so that tables hold long runs of equal tags.
func TestCollisions(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	var keys []string
	key := make([]byte, 8)
	for i := uint64(0); len(keys) < 200; i++ {
		binary.BigEndian.PutUint64(key, i)
		if h := f.t.Hash(1, key); h>>56 == 0 && tagOf(h)>>48 < 1024 {
			keys = append(keys, string(key))
		}
	}
	values := make(map[string]string)
	for i, key := range keys {
		// A new key and an older one each time; all are looked up, also while the table drains into a larger one.
		for _, k := range []string{key, keys[i*31%(i+1)], keys[i/2]} {
			values[k] = fmt.Sprint(k, f.lsn)
			f.put(1, k, values[k])
		}
		for _, k := range keys {
			f.wantGet(1, k, event.MaxLSN, values[k])
		}
	}
	f.checkIndex()
	if m := f.t.Metrics(); m.Keys != int64(len(keys)) {
		t.Fatalf("%d keys, want %d", m.Keys, len(keys))
	}
}

func TestLockMany(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	counts := make([]int, shardCount) // each guarded by its shard's lock
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			for range 500 {
				hs := make([]uint64, 1+rng.IntN(8))
				for i := range hs {
					hs[i] = rng.Uint64()
				}
				l := f.t.LockMany(hs)
				for _, h := range hs {
					counts[h>>56]++
				}
				l.Unlock()
				if rng.IntN(50) == 0 {
					f.t.LockAll()
					for i := range counts {
						counts[i]++
					}
					f.t.UnlockAll()
				}
			}
		})
	}
	wg.Wait()
	hs := []uint64{0, 1 << 56, 1}
	if n := testing.AllocsPerRun(100, func() { l := f.t.LockMany(hs); l.Unlock() }); n != 0 {
		t.Fatalf("LockMany allocates %v times", n)
	}
}

func TestPending(t *testing.T) {
	for _, how := range []string{"on first use", "drained", "cancelled"} {
		t.Run(how, func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			const keys, rounds = 2000, 3
			for round := range rounds {
				for i := range keys {
					key := []byte(fmt.Sprint(i))
					f.t.AddPending(f.t.Hash(1, key), f.record(1, event.OpPut, key, []byte(fmt.Sprint(round))))
					if i%97 == 0 {
						f.wantGet(1, string(key), event.MaxLSN, fmt.Sprint(round))
					}
				}
			}
			if m := f.t.Metrics(); m.Pending == 0 {
				t.Fatal("nothing is pending")
			}
			switch how {
			case "drained":
				if err := f.t.DrainPending(context.Background(), 3); err != nil {
					t.Fatal(err)
				}
				if m := f.t.Metrics(); m.Pending != 0 || m.Keys != keys || m.Versions != keys*rounds {
					t.Fatalf("after DrainPending: %+v", m)
				}
			case "cancelled":
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if err := f.t.DrainPending(ctx, 1); err != context.Canceled {
					t.Fatal(err)
				}
			}
			f.put(1, "7", "written after recovery")
			f.wantGet(1, "7", event.MaxLSN, "written after recovery")
			for i := range keys {
				if i == 7 {
					continue
				}
				f.wantGet(1, fmt.Sprint(i), event.MaxLSN, fmt.Sprint(rounds-1))
				f.wantGet(1, fmt.Sprint(i), keys, "0")
			}
			if m := f.t.Metrics(); how == "on first use" && m.Pending != 0 {
				t.Fatalf("%d pending after all was read", m.Pending)
			}
		})
	}
}

// TestReadersDuringInserts has readers look for keys that are being inserted and overwritten through many growths: what
// was inserted before a read began is seen, in whole.
func TestReadersDuringInserts(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	const keys, rounds, writers = 5000, 3, 2
	var seen [writers]atomic.Int64 // number of inserts that have returned
	var mu sync.Mutex              // guards the appender
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range keys * rounds {
				key := binary.BigEndian.AppendUint64([]byte{byte(w)}, uint64(n%keys))
				h := f.t.Hash(1, key)
				f.t.Lock(h)
				mu.Lock()
				p := f.record(1, event.OpPut, key, binary.BigEndian.AppendUint64(key, uint64(n)))
				mu.Unlock()
				f.t.Insert(h, p)
				f.t.Unlock(h)
				seen[w].Store(int64(n + 1))
			}
		})
	}
	for g := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for {
				w := rng.IntN(writers)
				done := seen[w].Load()
				if done == 0 {
					continue
				}
				n := max(0, done-1-rng.Int64N(keys))
				key := binary.BigEndian.AppendUint64([]byte{byte(w)}, uint64(n%keys))
				pin := f.d.Enter()
				r, ok := f.t.Get(f.t.Hash(1, key), 1, key, event.MaxLSN)
				if !ok {
					t.Errorf("key %x is missing", key)
				} else if v := r.Value(); string(v[:9]) != string(key) || binary.BigEndian.Uint64(v[9:]) < uint64(n) {
					t.Errorf("key %x has value %x, want at least round of %d", key, v, n)
				}
				pin.Exit()
				if !ok || done == keys*rounds {
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNoAllocations(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	key, value := []byte("key"), []byte("value")
	f.insert(1, event.OpPut, key, value)
	if n := testing.AllocsPerRun(1000, func() { f.insert(1, event.OpPut, key, value) }); n != 0 {
		t.Errorf("Insert allocates %v times", n)
	}
	n := testing.AllocsPerRun(1000, func() {
		g := f.d.Enter()
		f.t.Get(f.t.Hash(1, key), 1, key, event.MaxLSN)
		g.Exit()
	})
	if n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}

func TestInsertOutOfOrderPanics(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	key := []byte("key")
	p := f.record(1, event.OpPut, key, nil)
	f.insert(1, event.OpPut, key, nil)
	h := f.t.Hash(1, key)
	f.t.Lock(h)
	defer f.t.Unlock(h)
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	f.t.Insert(h, p)
}
