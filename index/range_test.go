package index

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/event"
)

// version is one write of a key in the model.
type version struct {
	lsn  event.LSN
	data string
	dead bool
}

// history is all writes of all keys.
type history map[string][]version

// at is what a read at max sees, in key order.
func (h history) at(max event.LSN) (keys []string, values map[string]version) {
	values = map[string]version{}
	for k, vs := range h {
		for _, v := range slices.Backward(vs) {
			if v.lsn <= max {
				if !v.dead {
					keys, values[k] = append(keys, k), v
				}
				break
			}
		}
	}
	slices.Sort(keys)
	return keys, values
}

func (h history) write(rng *rand.Rand, lsn event.LSN, keys int) (e Entry) {
	k := fmt.Sprintf("k%05d", rng.IntN(keys))
	if rng.IntN(20) == 0 { // not as the others begin, or the beginning of some
		k = []string{"", "a", "k", "k0", "k00", "k000\x00", "kz", "z", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"}[rng.IntN(9)]
	}
	v := version{lsn: lsn, data: fmt.Sprintf("%d:%s", lsn, bytes.Repeat([]byte("x"), rng.IntN(300))), dead: rng.IntN(3) == 0}
	h[k] = append(h[k], v)
	e = Entry{Key: []byte(k), LSN: lsn, Time: int64(lsn) * 10, Dead: v.dead, Elsewhere: rng.IntN(10) == 0}
	if !v.dead && !e.Elsewhere {
		e.Value = []byte(v.data)
	}
	if !v.dead {
		e.Expires = expiry(lsn)
	}
	return e
}

// expiry is when the write of an LSN expires: one of three does.
func expiry(lsn event.LSN) int64 {
	if lsn%3 == 0 {
		return int64(lsn) * 20
	}
	return 0
}

// compare reads a range at max in every way.
func compare(t *testing.T, r *Range, h history, max event.LSN, rng *rand.Rand) (served bool) {
	t.Helper()
	keys, values := h.at(max)
	check := func(e *Entry, key string) {
		t.Helper()
		v := values[key]
		if string(e.Key) != key || e.LSN != v.lsn || e.Time != int64(v.lsn)*10 || e.Expires != expiry(v.lsn) || !e.Elsewhere && string(e.Value) != v.data {
			t.Fatalf("at %d: got %q of LSN %d, want %q of LSN %d", max, e.Key, e.LSN, key, v.lsn)
		}
	}
	var from, to []byte
	if rng.IntN(2) == 0 {
		from = fmt.Appendf(nil, "k%05d", rng.IntN(500))
		keys = slices.DeleteFunc(keys, func(k string) bool { return k < string(from) })
	}
	if rng.IntN(2) == 0 {
		to = fmt.Appendf(nil, "k%05d", rng.IntN(500))
		if from != nil && bytes.Compare(to, from) < 0 {
			to = from
		}
		keys = slices.DeleteFunc(keys, func(k string) bool { return k >= string(to) })
	}
	served = true
	for _, reverse := range []bool{false, true} {
		want := slices.Clone(keys)
		if reverse {
			slices.Reverse(want)
		}
		var c stepper
		var e Entry
		c.Seek(r, from, to, reverse, max)
		for {
			ok, on := c.step(&e)
			if !ok {
				if on && len(want) > 0 {
					t.Fatalf("at %d, from %q to %q, reverse %v: %q is missing", max, from, to, reverse, want[0])
				}
				if !on { // the rest is still to come, and nothing was passed over
					served = false
					if len(want) > 0 && (!reverse && want[0] < string(c.At) || reverse && c.At != nil && want[0] >= string(c.At)) {
						t.Fatalf("at %d: stopped at %q before it gave %q", max, c.At, want[0])
					}
				}
				break
			}
			if len(want) == 0 {
				t.Fatalf("at %d, from %q to %q, reverse %v: %q too much", max, from, to, reverse, e.Key)
			}
			check(&e, want[0])
			want = want[1:]
		}
	}
	for range 10 {
		key := fmt.Sprintf("k%05d", rng.IntN(500))
		if rng.IntN(4) == 0 {
			key = []string{"", "k", "kz", "z", "k00"}[rng.IntN(5)]
		}
		var e Entry
		found, on := r.Get([]byte(key), max, &e)
		if _, has := values[key]; on && found != has {
			t.Fatalf("at %d: found %s: %v", max, key, found)
		}
		if on && found {
			check(&e, key)
		}
	}
	return served
}

// build fills a range as of an LSN.
func build(r *Range, h history, lsn event.LSN, visible event.LSN) error {
	b := r.Fill(lsn)
	keys, values := h.at(lsn)
	for _, k := range keys {
		v := values[k]
		b.Add(&Entry{Key: []byte(k), Value: []byte(v.data), LSN: v.lsn, Time: int64(v.lsn) * 10, Expires: expiry(v.lsn)})
	}
	return b.Done(visible)
}

// A range that is built while writes go on, and kept current, gives at each LSN that it serves what a model gives.
func TestRangeIsAsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 20 {
		h, lsn := history{}, event.LSN(0)
		keys := 1 + rng.IntN(500)
		for range rng.IntN(3000) {
			lsn++
			h.write(rng, lsn, keys)
		}
		r, at := New(nil, nil, nil), lsn
		lag := event.LSN(rng.IntN(300)) // of what is visible to all
		for range rng.IntN(500) {
			lsn++
			e := h.write(rng, lsn, keys)
			r.Apply(&e, lsn-min(lag, lsn))
		}
		if _, on := r.Get([]byte("k00001"), lsn, &Entry{}); on {
			t.Fatal("a range that is being built serves")
		}
		if err := build(r, h, at, lsn-min(lag, lsn)); err != nil {
			t.Fatal(err)
		}
		for i := range 4000 {
			lsn++
			e := h.write(rng, lsn, keys)
			r.Apply(&e, lsn-min(lag, lsn))
			if i%100 == 0 {
				if !compare(t, r, h, lsn, rng) {
					t.Fatalf("round %d: a read of the newest LSN is not served", round)
				}
				if lag < forceNews && lsn-lag >= at && !compare(t, r, h, lsn-lag, rng) {
					t.Fatalf("round %d: a read of what is visible to all is not served", round)
				}
				compare(t, r, h, lsn-event.LSN(rng.IntN(int(min(lsn, 2000)))), rng)
			}
		}
		want := int64(0)
		live := int64(0)
		r.leaves.Ascend(func(l item) bool {
			want, live = want+l.bytes(), live+int64(len(l.block.places))
			return true
		})
		if ok, bytes, n := r.Ready(); !ok || bytes != want || n != live {
			t.Fatalf("round %d: ready %v, %d bytes and %d keys are counted, there are %d and %d", round, ok, bytes, n, want, live)
		}
	}
}

// A queue, whose keys come at one end and go at the other, does not leave leaves behind.
func TestQueueLeavesNoLeaves(t *testing.T) {
	r := New(nil, nil, nil)
	if err := r.Fill(0).Done(0); err != nil {
		t.Fatal(err)
	}
	lsn := event.LSN(0)
	for i := range 50_000 {
		lsn++
		r.Apply(&Entry{Key: fmt.Appendf(nil, "%08d", i), Value: []byte("v"), LSN: lsn}, lsn)
		if i >= 100 {
			lsn++
			r.Apply(&Entry{Key: fmt.Appendf(nil, "%08d", i-100), Dead: true, LSN: lsn}, lsn)
		}
	}
	if n := r.leaves.Len(); n > 40 {
		t.Errorf("%d leaves for 100 keys", n)
	}
	var c stepper
	c.Seek(r, nil, nil, false, lsn)
	n := 0
	for e := (Entry{}); ; n++ {
		if ok, _ := c.step(&e); !ok {
			break
		}
	}
	if n != 100 {
		t.Errorf("%d keys, want 100", n)
	}
}

func TestDroppedRangeServesNobody(t *testing.T) {
	r := New([]byte("a"), []byte("c"), nil)
	for key, in := range map[string]bool{"a": true, "b": true, "bz": true, "c": false, "A": false} {
		if r.Covers([]byte(key)) != in {
			t.Errorf("covers %q: %v", key, !in)
		}
	}
	b := r.Fill(1)
	b.Add(&Entry{Key: []byte("b"), LSN: 1})
	if err := b.Done(1); err != nil {
		t.Fatal(err)
	}
	var c Cursor
	c.Seek(r, nil, nil, false, 1)
	r.Drop()
	if n, served := c.Next(make([]Record, 1)); n > 0 || served || string(c.At) != "a" {
		t.Errorf("a cursor in a dropped range: %d entries, %v, at %q", n, served, c.At)
	}
	if _, served := r.Get([]byte("b"), 1, &Entry{}); served {
		t.Error("a dropped range serves a read")
	}
	if !r.Apply(&Entry{Key: []byte("b"), LSN: 2}, 2) {
		t.Error("a write to a dropped range is told to drop it")
	}
	b = New(nil, nil, nil).Fill(1)
	b.r.Drop()
	if err := b.Done(1); !errors.Is(err, ErrDropped) {
		t.Errorf("done with a dropped range: %v", err)
	}
	r = New(nil, nil, nil)
	for i := range maxPending {
		if !r.Apply(&Entry{Key: []byte("b"), LSN: event.LSN(i + 1)}, 0) {
			t.Fatalf("after %d writes the range is dropped", i)
		}
	}
	if r.Apply(&Entry{Key: []byte("b"), LSN: maxPending + 1}, 0) {
		t.Error("writes wait without bound")
	}
}

// Readers and writers at once: each scan has the keys in order, none twice, and of each pair of keys that are written one behind the
// other never the second without the first.
func TestRangeUnderLoad(t *testing.T) {
	r := New(nil, nil, nil)
	var next, visible atomic.Uint64
	if err := r.Fill(0).Done(0); err != nil {
		t.Fatal(err)
	}
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	var commit sync.Mutex // LSNs become visible in order
	for w := range 2 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 5000 {
				k := rng.IntN(200)
				commit.Lock()
				lsn := event.LSN(next.Add(2))
				v := fmt.Append(nil, lsn)
				for i, half := range []string{"b", "a"} { // b has the smaller LSN
					r.Apply(&Entry{Key: fmt.Appendf(nil, "%s%03d", half, k), Value: v, LSN: lsn - 1 + event.LSN(i)}, event.LSN(visible.Load()))
				}
				visible.Store(uint64(lsn))
				commit.Unlock()
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				max := event.LSN(visible.Load())
				var c stepper
				var e Entry
				c.Seek(r, nil, nil, false, max)
				seen, last := map[string]string{}, ""
				for {
					ok, served := c.step(&e)
					if !ok {
						if !served {
							seen = nil
						}
						break
					}
					if cmp.Compare(string(e.Key), last) <= 0 || e.LSN > max {
						t.Errorf("%q after %q, LSN %d at %d", e.Key, last, e.LSN, max)
						return
					}
					last = string(e.Key)
					seen[last] = string(e.Value)
				}
				for k, v := range seen {
					if k[0] == 'a' && seen["b"+k[1:]] != v {
						t.Errorf("at %d: %s is %s, its twin %s", max, k, v, seen["b"+k[1:]])
						return
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

// A range that is shortened while it is built has all that was written to it before and after, by way of the longer one too.
func TestShortenedRangeIsAsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		h, lsn := history{}, event.LSN(0)
		write := func(n int, to ...*Range) {
			for range n {
				lsn++
				e := h.write(rng, lsn, 300)
				if len(to) > 0 {
					to[rng.IntN(len(to))].Apply(&e, lsn)
				}
			}
		}
		write(1000)
		long, at := New(nil, nil, nil), lsn
		write(100, long)
		b := long.Fill(at)
		keys, values := h.at(at)
		cut := rng.IntN(len(keys))
		for _, k := range keys[:cut] {
			v := values[k]
			b.Add(&Entry{Key: []byte(k), Value: []byte(v.data), LSN: v.lsn, Time: int64(v.lsn) * 10, Expires: expiry(v.lsn)})
		}
		short := b.Shorten([]byte(keys[cut]))
		write(100, long)
		if err := b.Done(lsn); err != nil {
			t.Fatal(err)
		}
		write(1000, long)
		for k := range h { // what lies behind the end
			if k >= keys[cut] {
				delete(h, k)
			}
		}
		want, _ := h.at(lsn)
		var c stepper
		var e Entry
		c.Seek(short, nil, nil, false, lsn)
		for _, k := range want {
			if ok, _ := c.step(&e); !ok || string(e.Key) != k || e.LSN != h[k][len(h[k])-1].lsn {
				t.Fatalf("%v, %q of LSN %d, want %q", ok, e.Key, e.LSN, k)
			}
		}
		if ok, served := c.step(&e); ok || !served {
			t.Fatalf("after the last key: %v, %v, %q", ok, served, e.Key)
		}
		if _, served := long.Get([]byte("k00001"), lsn, &e); served {
			t.Fatal("the longer range serves")
		}
		long.Drop()
		if _, served := short.Get([]byte("k00001"), lsn, &e); served {
			t.Fatal("it serves when the longer one was dropped")
		}
	}
}

// What waits while a range is built counts among what ranges may take, and all is given back when it goes.
func TestMemoryOfRanges(t *testing.T) {
	m := NewMemory(1 << 20)
	r := New(nil, nil, m)
	b := r.Fill(1)
	value := make([]byte, 8<<10)
	n := 0
	for n < 1000 && r.Apply(&Entry{Key: fmt.Appendf(nil, "k%06d", n), Value: value, LSN: event.LSN(2 + n)}, 1) {
		n++
	}
	if n < 100 || n > 130 {
		t.Errorf("%d writes of 8 KiB wait in 1 MiB", n)
	}
	if err := b.Done(1); !errors.Is(err, ErrTooManyWrites) || !r.Outgrew() || m.Used() != 0 {
		t.Errorf("%v, %d bytes are still taken", err, m.Used())
	}
	r = New(nil, nil, m)
	b = r.Fill(1)
	for n = 0; m.Room() > 0; n++ {
		b.Add(&Entry{Key: fmt.Appendf(nil, "k%06d", n), Value: value, LSN: 1})
	}
	short := b.Shorten(fmt.Appendf(nil, "k%06d", n))
	if err := b.Done(1); err != nil || n < 90 {
		t.Fatalf("%d records, %v", n, err)
	}
	if _, bytes, _ := short.Ready(); bytes != m.Used() || bytes < 7<<17 {
		t.Errorf("the range has %d bytes, %d are taken", bytes, m.Used())
	}
	for i := 0; short.Apply(&Entry{Key: fmt.Appendf(nil, "j%06d", i), Value: value, LSN: event.LSN(i + 2)}, event.LSN(i)); i++ {
	}
	if !short.Outgrew() || m.Used() != 0 {
		t.Errorf("it went, and %d bytes are still taken", m.Used())
	}
}

// stepper is a Cursor that goes on entry by entry, and takes some at a time, now more, now fewer.
type stepper struct {
	Cursor
	records []Record
	calls   int
}

func (s *stepper) step(e *Entry) (ok, served bool) {
	served = true
	if len(s.records) == 0 {
		s.calls++
		s.records = make([]Record, 1+s.calls%20)
		var n int
		n, served = s.Next(s.records)
		s.records = s.records[:n]
	}
	if len(s.records) == 0 {
		return false, served
	}
	s.records[0].Entry(e)
	s.records = s.records[1:]
	return true, true
}
