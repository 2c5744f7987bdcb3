package cache

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/internal/offheap"
)

var recordSeed = maphash.MakeSeed()

func recordHash(dataset uint32, key []byte) uint64 {
	return maphash.Bytes(recordSeed, append(binary.BigEndian.AppendUint32(nil, dataset), key...))
}

// TestRecordsAreWhatWasAdded adds, reads and removes records at random within little memory: what is found is what was added last, and
// memory stays within the limit, whatever that is at the moment.
func TestRecordsAreWhatWasAdded(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	before := offheap.InUse()
	most := int64(4 << 20)
	r, limit := NewRecords(most), most
	model := map[string]string{}
	key := func() (uint32, []byte, string) {
		ds, k := uint32(1+rng.IntN(2)), fmt.Appendf(nil, "key%d", rng.IntN(3000))
		return ds, k, fmt.Sprint(ds, string(k))
	}
	found := 0
	for range 200_000 {
		ds, k, name := key()
		h := recordHash(ds, k)
		switch n := rng.IntN(100); {
		case n < 45:
			got, ok := r.Get([]byte("before"), h, ds, k)
			if ok && string(got) != "before"+model[name] || !ok && string(got) != "before" {
				t.Fatalf("%s: got %.40q, want %.40q", name, got, model[name])
			}
			if ok {
				found++
			}
		case n < 90:
			if _, ok := model[name]; ok {
				r.Remove(h, ds, k)
			}
			value := fmt.Sprintf("%d:%s", rng.Uint64(), make([]byte, rng.IntN(400)))
			if rng.IntN(1000) == 0 {
				value = string(make([]byte, MaxRecordBytes)) // too large
			}
			model[name] = value
			r.Add(r.Begin(), h, ds, k, []byte(value))
		case n < 99:
			r.Remove(h, ds, k)
			delete(model, name)
			if _, ok := r.Get(nil, h, ds, k); ok {
				t.Fatalf("%s was found after Remove", name)
			}
		case rng.IntN(20) == 0:
			limit = most / int64(1+rng.IntN(8))
			r.SetLimit(limit)
		case rng.IntN(100) == 0:
			r.Clear()
			if m := r.Metrics(); m.Records != 0 || m.Bytes != 0 {
				t.Fatalf("after Clear: %+v", m)
			}
		}
		if used := r.Bytes(); used > limit+limit/10+int64(len(r.shards))*recordChunk {
			t.Fatalf("%d bytes of %d", used, limit)
		}
	}
	if m := r.Metrics(); found < 500 || m.Hits < int64(found) || m.Misses == 0 || m.Removed == 0 {
		t.Errorf("%d found, %+v", found, m)
	}
	r.Clear()
	if n := offheap.InUse() - before; n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
}

// TestRecordsKeepWhatIsRead: what is read again and again stays, whatever passes by once.
func TestRecordsKeepWhatIsRead(t *testing.T) {
	r := NewRecords(1 << 20)
	defer r.Clear()
	value := make([]byte, 100)
	hits := 0
	for i := range 100_000 {
		if i%4 == 0 && sampled(r, i/4%1000, value) {
			hits++
		}
		sampled(r, 1000+i, value)
	}
	if hits < 23_000 {
		t.Errorf("%d of 25000 reads of 1000 hot keys hit", hits)
	}
}

// sampled gets or adds as the engine does, and says whether key i was found.
func sampled(r *Records, i int, value []byte) bool {
	k := fmt.Appendf(nil, "%d", i)
	h := recordHash(1, k)
	if _, in := r.Samples(h); !in {
		return false
	}
	if _, ok := r.Get(nil, h, 1, k); ok {
		return true
	}
	r.Add(r.Begin(), h, 1, k, value)
	return false
}

// TestRecordsSampleWhereFewHit: gets that are spread over too many keys soon leave most of the cache's memory and most hashes alone; keys
// that become hot are found, whichever part of the hashes they are in.
func TestRecordsSampleWhereFewHit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const limit = 4 << 20
	r := NewRecords(limit)
	defer r.Clear()
	value := make([]byte, 100)
	for range 500_000 {
		sampled(r, rng.IntN(10_000_000), value)
	}
	in := 0
	for range 10_000 {
		if samples, is := r.Samples(rng.Uint64()); !samples {
			t.Fatal("a shard does not sample")
		} else if is {
			in++
		}
	}
	if in < 1000 || in > 1500 || r.Bytes() > limit/sampleParts+int64(len(r.shards))*recordChunk {
		t.Fatalf("%d of 10000 hashes are in the sample, %d bytes", in, r.Bytes())
	}
	gets, hits := 0, 0
	for ; gets < 5_000_000 && hits < 1000; gets++ {
		if gets%100_000 == 0 {
			r.NextPart()
		}
		if key := rng.IntN(10); sampled(r, key, value) {
			hits++
		} else if samples, _ := r.Samples(recordHash(1, fmt.Append(nil, key))); samples {
			hits = 0
		}
	}
	if hits < 1000 {
		t.Fatal("ten hot keys are not found")
	}
	t.Logf("ten hot keys hit after %d gets", gets)
}

// TestRecordsSampleWhereMuchDeparts: where more is taken out than hits, few records are kept, until hits are more again.
func TestRecordsSampleWhereMuchDeparts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const limit, hot, generation = 4 << 20, 5_000, 8_000
	r := NewRecords(limit)
	defer r.Clear()
	value := make([]byte, 100)
	run := func(getsPerDeparture int) (samples int) {
		for range 20 {
			for range getsPerDeparture {
				sampled(r, rng.IntN(hot), value)
			}
			r.Departed(generation)
		}
		for range 1000 {
			if is, _ := r.Samples(rng.Uint64()); is {
				samples++
			}
		}
		return samples
	}
	for range 2 {
		if n := run(4 * generation); n != 0 {
			t.Fatalf("%d of 1000 hashes are sampled where four hit for each that departs", n)
		}
		if n := run(generation / 4); n != 1000 || r.Bytes() > limit/sampleParts+int64(len(r.shards))*recordChunk {
			t.Fatalf("%d of 1000 hashes are sampled where a quarter hits for each that departs; %d bytes", n, r.Bytes())
		}
	}
}

// TestNothingIsAddedThatWasLookedUpBefore an Advance.
func TestNothingIsAddedThatWasLookedUpBefore(t *testing.T) {
	r := NewRecords(1 << 20)
	defer r.Clear()
	k := []byte("k")
	h := recordHash(1, k)
	begun := r.Begin()
	r.Advance()
	r.Remove(h, 1, k)
	r.Add(begun, h, 1, k, []byte("old"))
	if got, ok := r.Get(nil, h, 1, k); ok {
		t.Errorf("got %q", got)
	}
	begun = r.Begin()
	r.Clear()
	r.Add(begun, h, 1, k, []byte("old"))
	if got, ok := r.Get(nil, h, 1, k); ok {
		t.Errorf("after Clear: got %q", got)
	}
}

// TestRecordsWithOneHash of different keys are told apart.
func TestRecordsWithOneHash(t *testing.T) {
	r := NewRecords(1 << 20)
	defer r.Clear()
	for _, c := range []struct {
		ds  uint32
		key string
	}{{1, "a"}, {1, "b"}, {2, "b"}, {2, "bb"}} {
		r.Add(r.Begin(), 0, c.ds, []byte(c.key), fmt.Appendf(nil, "%d%s", c.ds, c.key))
		if got, ok := r.Get(nil, 0, c.ds, []byte(c.key)); !ok || string(got) != fmt.Sprint(c.ds, c.key) {
			t.Errorf("%d %s: got %q, %v", c.ds, c.key, got, ok)
		}
	}
	r.Remove(0, 1, []byte("a"))
	if _, ok := r.Get(nil, 0, 2, []byte("bb")); !ok {
		t.Error("another key's Remove took it")
	}
}

// What was looked up before an Advance, or a Clear, is not added after it: a newer version may have left its place meanwhile.
func TestRecordsTakeNothingFromBeforeAnAdvance(t *testing.T) {
	for name, advance := range map[string]func(*Records){"advance": (*Records).Advance, "clear": (*Records).Clear} {
		r := NewRecords(1 << 20)
		begun := r.Begin()
		advance(r)
		r.Add(begun, 0, 1, []byte("k"), []byte("old"))
		if got, ok := r.Get(nil, 0, 1, []byte("k")); ok || !r.Empty() {
			t.Errorf("%s: %q was added", name, got)
		}
		r.Add(r.Begin(), 0, 1, []byte("k"), []byte("new"))
		if got, ok := r.Get(nil, 0, 1, []byte("k")); string(got) != "new" || !ok {
			t.Errorf("%s: %q, %v afterwards", name, got, ok)
		}
		r.Clear()
	}
}

// TestRecordsNeverFallBack: while versions are written to memory, flushed to segments and leave memory, readers, who ask memory, records
// and segments in this order and add what segments have, never find one that is older than what was there when they began.
func TestRecordsNeverFallBack(t *testing.T) {
	r := NewRecords(1 << 20)
	defer r.Clear()
	const keys, rounds = 16, 20_000
	var memory, segments [keys]atomic.Uint64 // newest version, 0 = none
	var wg sync.WaitGroup
	var hits, added atomic.Int64
	done := make(chan struct{})
	for g := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				i := rng.IntN(keys)
				k := []byte{byte(i)}
				h := recordHash(1, k)
				least := max(segments[i].Load(), memory[i].Load())
				begun := r.Begin()
				found := memory[i].Load()
				if found == 0 {
					if b, ok := r.Get(nil, h, 1, k); ok {
						found = binary.LittleEndian.Uint64(b)
						hits.Add(1)
					}
				}
				if found == 0 {
					found = segments[i].Load()
					if rng.IntN(4) == 0 {
						runtime.Gosched() // a version goes the whole way meanwhile, now and then
					}
					r.Add(begun, h, 1, k, binary.LittleEndian.AppendUint64(nil, found))
					added.Add(1)
				}
				if found < least {
					t.Errorf("key %d: found version %d, there was %d", i, found, least)
					return
				}
				if runtime.GOMAXPROCS(0) == 1 && rng.IntN(4) == 0 {
					runtime.Gosched() // or a round takes as long as three readers may run at a stretch
				}
			}
		})
	}
	for n := range uint64(rounds) {
		i := n % keys
		k := []byte{byte(i)}
		memory[i].Store(n + 1)
		segments[i].Store(n + 1)
		r.Advance()
		if !r.Empty() {
			r.Remove(recordHash(1, k), 1, k)
		}
		memory[i].Store(0)
		if n%8 == 0 {
			r.Clear() // so that one is the first there is now and then
		}
		runtime.Gosched() // or hardly anything is added in between
	}
	close(done)
	wg.Wait()
	if hits.Load() == 0 || added.Load() == 0 {
		t.Errorf("%d hits, %d added", hits.Load(), added.Load())
	}
}

func BenchmarkRecords(b *testing.B) {
	r := NewRecords(160 << 20)
	defer r.Clear()
	value, key := make([]byte, 100), make([]byte, 12)
	const n = 800_000
	at := func(i uint64) uint64 {
		binary.BigEndian.PutUint64(key[4:], i)
		return maphash.Bytes(recordSeed, key)
	}
	b.Run("add", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			r.Add(r.Begin(), at(uint64(i)), 1, key, value)
		}
	})
	r.Clear()
	for i := range uint64(n) {
		r.Add(r.Begin(), at(i), 1, key, value)
	}
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		var dst []byte
		for range b.N {
			var ok bool
			if dst, ok = r.Get(dst[:0], at(rand.Uint64N(n)), 1, key); !ok {
				b.Fatal("missing")
			}
		}
	})
}
