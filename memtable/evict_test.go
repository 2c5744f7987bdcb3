package memtable

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

func TestEvictKeepsWhatIsNeeded(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	value := strings.Repeat("v", 50)
	var lsns []event.LSN
	for i := range 6 {
		lsns = append(lsns, f.put(1, "key", fmt.Sprint(value, i)))
		f.put(1, "other", value)
	}
	gone := f.insert(1, event.OpDelete, []byte("gone"), nil)
	log := valueLog{}
	g := f.ap.Seal()
	f.put(1, "key", "after")
	got := f.t.Evict(g, EvictOptions{Durable: lsns[4], Hold: []event.LSN{lsns[1], lsns[2] + 1}, Stub: log.stub, AlwaysStub: true})
	f.checkGone(g)
	f.checkIndex()
	// Kept of key: two held versions, the durable one, the one above it. Of other: two above it. The delete is copied
	// whole.
	if got.Dropped != 3 || got.Copied+got.Stubs != 10 || got.Stubs == 0 || got.FreedBytes != tail.ChunkBytes {
		t.Fatalf("result %+v", got)
	}
	for i, max := range []event.LSN{lsns[1], lsns[2] + 1, lsns[4], lsns[5]} {
		g := f.d.Enter()
		r, ok := f.t.Get(f.t.Hash(1, []byte("key")), 1, []byte("key"), max)
		if want := fmt.Sprint(value, []int{1, 2, 4, 5}[i]); !ok || log.show(r) != want {
			t.Fatalf("as of %d: got %v, want %q", max, ok, want)
		}
		g.Exit()
	}
	f.wantGet(1, "gone", gone, "-")
	f.wantGet(1, "key", lsns[0], "")
	f.wantGet(1, "key", event.MaxLSN, "after")
	if m := f.t.Metrics(); m.Versions != 14-3 || m.Evicted != 1 {
		t.Fatalf("metrics %+v", m)
	}
	// All of the cold generation but what is newest goes with the next round.
	cold := f.t.SealCold()
	got = f.t.Evict(cold, EvictOptions{Durable: f.lsn})
	f.checkGone(cold)
	f.checkIndex()
	if got.Copied != 2 || got.Dropped != 8 {
		t.Fatalf("result of the cold generation %+v", got)
	}
}

func TestEvictCopiesWholeWhenMostlyDead(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	log := valueLog{}
	value := strings.Repeat("v", 100)
	for i := range 300 {
		f.put(1, fmt.Sprint(i%100), value)
	}
	if r := f.t.Evict(f.ap.Seal(), EvictOptions{Durable: f.lsn, Stub: log.stub}); r.Stubs != 0 || r.Copied != 100 {
		t.Fatalf("mostly dead: %+v", r)
	}
	if r := f.t.Evict(f.t.SealCold(), EvictOptions{Durable: f.lsn, Stub: log.stub}); r.Stubs == 0 {
		t.Fatalf("all alive: %+v", r)
	}
}

// TestEvictEndsDrains: a table that drains holds places of the generation and must be gone before its memory is.
func TestEvictEndsDrains(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	key := make([]byte, 8)
	for i := uint64(0); f.t.states[0].Load().old.mask == 0; i++ {
		binary.BigEndian.PutUint64(key, i)
		if f.t.Hash(1, key)>>56 == 0 {
			f.insert(1, event.OpPut, key, key)
		}
	}
	g := f.ap.Seal()
	f.t.Evict(g, EvictOptions{Durable: f.lsn})
	if f.t.states[0].Load().old.mask != 0 {
		t.Fatal("a table drains still")
	}
	f.checkGone(g)
	f.checkIndex()
	f.wantGet(1, string(key), event.MaxLSN, string(key))
}

// TestEvictWaitsForEarlierReads: a read that began before o.Durable was reached may need a version that o does not keep.
func TestEvictWaitsForEarlierReads(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	one := f.put(1, "key", "1")
	guard := f.d.Enter()
	f.put(1, "key", "2")
	done := make(chan EvictResult)
	go func(g tail.Generation, o EvictOptions) { done <- f.t.Evict(g, o) }(f.ap.Seal(), EvictOptions{Durable: f.lsn})
	for f.d.Waiting() == 0 {
		runtime.Gosched()
	}
	f.wantGet(1, "key", one, "1")
	guard.Exit()
	if r := <-done; r.Dropped != 1 {
		t.Fatalf("result %+v", r)
	}
	f.wantGet(1, "key", f.lsn, "2")
}

// TestEvictLongChain: the versions of one key are looked at once, not once per version.
func TestEvictLongChain(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	const versions = 50_000
	for i := range versions {
		f.put(1, "key", fmt.Sprint(i))
	}
	g := f.ap.Seal()
	f.put(1, "key", "last")
	if r := f.t.Evict(g, EvictOptions{Durable: f.lsn}); r.Dropped != versions || r.Copied != 0 {
		t.Fatalf("result %+v", r)
	}
	f.wantGet(1, "key", f.lsn, "last")
}

// TestEvictCopiesInKeyOrder: a scan of what was evicted reads memory in order.
func TestEvictCopiesInKeyOrder(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.t.EnableOrder(1)
	for i := range 1000 {
		f.put(1, fmt.Sprint(i*7919%1000), "value")
	}
	f.t.Evict(f.ap.Seal(), EvictOptions{Durable: f.lsn})
	last := ""
	for _, r := range f.t.SealCold().Records() {
		if key := string(r.Key()); key <= last {
			t.Fatalf("key %q is copied after %q", key, last)
		} else {
			last = key
		}
	}
	if last != "999" {
		t.Fatalf("last key %q", last)
	}
}
