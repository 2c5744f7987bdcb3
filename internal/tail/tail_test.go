package tail

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/offheap"
)

func put(a *Arena, ap *Appender, lsn event.LSN, key, value string) Pos {
	k, v := []byte(key), []byte(value)
	p := ap.Reserve(event.PayloadSize(3, k, v, nil))
	r := a.Record(p)
	event.AppendPayload(r.Payload()[:0], 3, k, v, nil)
	r.Fill(lsn, int64(lsn)*10, 7, event.OpPut, event.FlagMore, MemExpiry)
	return p
}

func TestRecordFields(t *testing.T) {
	start := offheap.InUse()
	a := NewArena()
	ap := a.NewAppender()
	long := string(bytes.Repeat([]byte("k"), 200))
	for i, key := range []string{"a", "key", long} {
		r := a.Record(put(a, ap, event.LSN(i+1), key, "value"))
		if r.LSN() != event.LSN(i+1) || r.Time() != int64(i+1)*10 || r.Dataset() != 7 || r.Op() != event.OpPut ||
			r.Flags() != event.FlagMore || r.Mem() != MemExpiry || r.Links() != 0 || r.Prev() != 0 || r.LogPos() != 0 {
			t.Fatalf("fields of %q differ", key)
		}
		if string(r.Key()) != key || cap(r.Key()) != len(key) || string(r.Value()) != "value" || len(r.Parts()) != 0 || r.Session() != 3 {
			t.Fatalf("payload of %q differs: %q %q %q %d", key, r.Key(), r.Value(), r.Parts(), r.Session())
		}
		r.Link(99, 0)
		r.SetLogPos(1 << 41)
		r.AddLinks(LinkSuperseded)
		op, flags, mem, link := r.State()
		if r.Prev() != 99 || r.LogPos() != 1<<41 || op != event.OpPut || flags != event.FlagMore || mem != MemExpiry ||
			link != LinkSuperseded {
			t.Fatal("atomic fields differ")
		}
	}
	a.Close()
	a.Close()
	if got := offheap.InUse(); got != start {
		t.Fatalf("offheap.InUse %d after Close, want %d", got, start)
	}
}

func TestKeyAfterLongVarints(t *testing.T) {
	a := NewArena()
	defer a.Close()
	ap := a.NewAppender()
	for _, session := range []event.SessionID{0, 127, 128, 1 << 40, 1<<64 - 1} {
		for _, n := range []int{1, 127, 128, 16383, 16384, event.MaxKeyBytes} {
			key, value := bytes.Repeat([]byte("k"), n), []byte("v")
			p := ap.Reserve(event.PayloadSize(session, key, value, nil))
			r := a.Record(p)
			event.AppendPayload(r.Payload()[:0], session, key, value, nil)
			if !bytes.Equal(r.Key(), key) || string(r.Value()) != "v" || r.Session() != session {
				t.Fatalf("session %d, key of %d bytes: got key of %d, value %q", session, n, len(r.Key()), r.Value())
			}
		}
	}
}

func TestStubRoundTrip(t *testing.T) {
	want := Stub{LogPos: 5<<40 | 4096, Len: 77, CRC: 0xdeadbeef}
	b := bytes.Repeat([]byte{0xff}, StubBytes)
	want.Put(b)
	if got := ParseStub(b); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// TestGenerations fills several generations with records of all sizes, reads them back by every route and releases
// them in random order.
func TestGenerations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	start := offheap.InUse()
	a := NewArena()
	ap := a.NewAppender()
	if g := ap.Seal(); !g.IsEmpty() || g.Bytes() != 0 {
		t.Fatal("generation without records is not empty")
	}
	type item struct {
		pos   Pos
		value string
	}
	var all []item
	var gens []Generation
	var counts []int
	for range 4 {
		count := 200 + rng.IntN(200)
		for range count {
			n := rng.IntN(1 << rng.IntN(16))
			if rng.IntN(100) == 0 {
				n = rng.IntN(5 << 20)
			}
			value := string(bytes.Repeat([]byte{byte(n)}, n))
			all = append(all, item{put(a, ap, event.LSN(len(all)+1), fmt.Sprint(len(all)), value), value})
		}
		gens = append(gens, ap.Seal())
		counts = append(counts, count)
	}
	i := 0
	check := func(p Pos, r Record) {
		if p != all[i].pos || r.LSN() != event.LSN(i+1) || string(r.Value()) != all[i].value {
			t.Fatalf("record %d at %v: LSN %d, want place %v", i, p, r.LSN(), all[i].pos)
		}
		i++
	}
	for n, g := range gens {
		before := i
		for p, r := range g.Records() {
			if !g.Has(p) || gens[(n+1)%len(gens)].Has(p) {
				t.Fatalf("Has(%v) is wrong", p)
			}
			check(p, r)
		}
		if i-before != counts[n] {
			t.Fatalf("generation %d has %d records, want %d", n, i-before, counts[n])
		}
	}
	from := rng.IntN(len(all))
	to := from + rng.IntN(len(all)-from)
	i = from
	for p, r := range a.Walk(all[from].pos, all[to].pos) {
		check(p, r)
	}
	if i != to {
		t.Fatalf("Walk ended before record %d, want %d", i, to)
	}
	for p, r := range a.Walk(all[to].pos, 0) {
		check(p, r)
	}
	if i != len(all) {
		t.Fatalf("Walk ended before record %d, want %d", i, len(all))
	}
	rng.Shuffle(len(gens), func(i, j int) { gens[i], gens[j] = gens[j], gens[i] })
	spare := false
	for _, g := range gens {
		before := a.Bytes()
		g.Release()
		fell := before - a.Bytes()
		if fell == g.Bytes()-ChunkBytes && !spare { // the chunk that is kept ready has come meanwhile
			fell, spare = g.Bytes(), true
		}
		if fell != g.Bytes() {
			t.Fatalf("Bytes fell by %d, want %d", fell, g.Bytes())
		}
	}
	a.Close()
	if got := offheap.InUse(); got != start {
		t.Fatalf("offheap.InUse %d after Close, want %d", got, start)
	}
}

// TestPublishedRecords has a reader follow what a writer publishes, while chunks come and go.
func TestPublishedRecords(t *testing.T) {
	a := NewArena()
	defer a.Close()
	ap := a.NewAppender()
	var cur atomic.Uint64
	var wg sync.WaitGroup
	const count = 100_000
	wg.Go(func() {
		for lsn := event.LSN(0); lsn < count; {
			p := Pos(cur.Load())
			if p == 0 {
				continue
			}
			r := a.Record(p)
			if r.LSN() < lsn || string(r.Key()) != string(r.Value()) {
				t.Errorf("LSN %d after %d, key %q, value %q", r.LSN(), lsn, r.Key(), r.Value())
				return
			}
			lsn = r.LSN()
		}
	})
	for i := range event.LSN(count) {
		s := fmt.Sprint(i)
		cur.Store(uint64(put(a, ap, i+1, s, s)))
	}
	wg.Wait()
}

// TestPieces yield what is filled and has not departed, in the order of Reserve.
func TestPieces(t *testing.T) {
	a := NewArena()
	defer a.Close()
	ap := a.NewAppender()
	last := event.LSN(0)
	fill := func(n int) {
		for range n {
			last++
			put(a, ap, last, "key", string(bytes.Repeat([]byte("v"), 1000)))
		}
	}
	want := func(what string, pieces []Piece, max, from, to event.LSN) {
		t.Helper()
		next := from
		for _, p := range pieces {
			for r := range p.Filled(max) {
				if r.LSN() != next || string(r.Key()) != "key" {
					t.Fatalf("%s: LSN %d, want %d", what, r.LSN(), next)
				}
				next++
			}
		}
		if next != to+1 {
			t.Fatalf("%s: up to LSN %d, want %d", what, next-1, to)
		}
	}
	want("empty", a.Pieces(), event.MaxLSN, 1, 0)
	fill(5000)
	first := ap.Seal()
	fill(5000)
	ap.Reserve(100) // by who has not filled it yet
	pieces := a.Pieces()
	fill(10)
	want("all", pieces, event.MaxLSN, 1, 10_000)
	want("up to an LSN", pieces, 7000, 1, 7000)
	want("beyond what is not filled", a.Pieces(), event.MaxLSN, 1, 10_010)
	first.Depart()
	want("departed since", pieces, event.MaxLSN, 5001, 10_000)
	want("departed before", a.Pieces(), event.MaxLSN, 5001, 10_010)
	first.Release()
	want("released", pieces, event.MaxLSN, 5001, 10_000)
}

func BenchmarkReserve(b *testing.B) {
	a := NewArena()
	defer a.Close()
	ap := a.NewAppender()
	payload := event.AppendPayload(nil, 1, make([]byte, 16), make([]byte, 100), nil)
	b.ReportAllocs()
	b.SetBytes(int64(recordSize(len(payload))))
	for i := 0; b.Loop(); i++ {
		p := ap.Reserve(len(payload))
		r := a.Record(p)
		r.Fill(event.LSN(i), 0, 1, event.OpPut, 0, 0)
		copy(r.Payload(), payload)
		if ap.Bytes() >= 64<<20 {
			ap.Seal().Release()
		}
	}
}
