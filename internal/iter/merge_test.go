package iter

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests, 0 = random")

type version struct {
	ds  event.DatasetID
	key string
	lsn event.LSN
}

func compare(a, b version) int {
	return cmp.Or(cmp.Compare(a.ds, b.ds), cmp.Compare(a.key, b.key), cmp.Compare(b.lsn, a.lsn))
}

// list is a Source over versions in memory.
type list struct {
	vs   []version
	i    int
	fail int // index at which it fails, if err is set
	err  error
	met  error
}

func (l *list) at(i int) bool {
	l.i = min(max(i, -1), len(l.vs))
	if l.err != nil && l.i == l.fail {
		l.met = l.err
		return false
	}
	return l.i >= 0 && l.i < len(l.vs)
}

func (l *list) First() bool { return l.at(0) }
func (l *list) Last() bool  { return l.at(len(l.vs) - 1) }
func (l *list) Next() bool  { return l.at(l.i + 1) }
func (l *list) Prev() bool  { return l.at(l.i - 1) }
func (l *list) Err() error  { return l.met }

func (l *list) SeekGE(ds event.DatasetID, key []byte) bool {
	i, _ := slices.BinarySearchFunc(l.vs, version{ds, string(key), event.MaxLSN}, compare)
	return l.at(i)
}

func (l *list) SeekLT(ds event.DatasetID, key []byte) bool {
	i, _ := slices.BinarySearchFunc(l.vs, version{ds, string(key), event.MaxLSN}, compare)
	return l.at(i - 1)
}

func (l *list) At() (event.DatasetID, []byte, event.LSN) {
	v := l.vs[l.i]
	return v.ds, []byte(v.key), v.lsn
}

// deal spreads versions over sources and returns them all in order. Some versions go to two sources.
func deal(rng *rand.Rand, count, n int, key func() string) (sources []Source, all []version) {
	lists := make([]list, count)
	for lsn := range n {
		v := version{event.DatasetID(rng.IntN(3)), key(), event.LSN(lsn + 1)}
		if rng.IntN(8) == 0 {
			v.ds = ^event.DatasetID(0)
		}
		for range 1 + max(0, rng.IntN(20)-18) {
			l := &lists[rng.IntN(count)]
			if len(l.vs) == 0 || l.vs[len(l.vs)-1] != v {
				l.vs = append(l.vs, v)
				all = append(all, v)
			}
		}
	}
	for i := range lists {
		slices.SortFunc(lists[i].vs, compare)
		sources = append(sources, &lists[i])
	}
	slices.SortFunc(all, compare)
	return sources, all
}

var shapes = map[string]func(*rand.Rand) string{
	"few":   func(rng *rand.Rand) string { return fmt.Sprint("k", rng.IntN(9)) },
	"many":  func(rng *rand.Rand) string { return fmt.Sprintf("user:%06d", rng.IntN(5000)) },
	"zeros": func(rng *rand.Rand) string { return string(make([]byte, 1+rng.IntN(12))) },
	"shared": func(rng *rand.Rand) string { // mostly; now and then a key shares less, or nothing
		long := "all of them begin with this"
		return long[:max(1, min(len(long), rng.IntN(len(long)*60)))] + fmt.Sprintf("%03d", rng.IntN(900))
	},
	"prefix": func(rng *rand.Rand) string { return "12345678"[:1+rng.IntN(8)] + "\x00\x00\x00"[:rng.IntN(4)] },
}

// TestAgainstSortedList moves at random and compares each place with that in the sorted list of all versions.
func TestAgainstSortedList(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			seed := *seedFlag
			if seed == 0 {
				seed = rand.Uint64()
			}
			t.Logf("repeat with: go test -run '%s' ./internal/iter -seed %d", t.Name(), seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 60 {
				key := func() string { return shape(rng) }
				sources, all := deal(rng, 1+rng.IntN(9), rng.IntN(1000), key)
				walk(t, rng, New(sources...), all, key)
			}
		})
	}
}

func walk(t *testing.T, rng *rand.Rand, m *Merge, all []version, key func() string) {
	for i := 0; m.Next(); i++ {
		if ds, k, lsn := m.At(); i >= len(all) || (version{ds, string(k), lsn}) != all[i] {
			t.Fatalf("forward, place %d: at %v", i, version{ds, string(k), lsn})
		}
	}
	for i := len(all) - 1; m.Prev(); i-- {
		if ds, k, lsn := m.At(); i < 0 || (version{ds, string(k), lsn}) != all[i] {
			t.Fatalf("backward, place %d: at %v", i, version{ds, string(k), lsn})
		}
	}
	at := -1
	same := func(i, j int) bool { return all[i].ds == all[j].ds && all[i].key == all[j].key }
	for range 300 {
		move, ok := "", false
		switch n := rng.IntN(20); {
		case n < 7:
			move, ok = "Next", m.Next()
			at = min(at+1, len(all))
		case n < 14:
			move, ok = "Prev", m.Prev()
			at = max(at-1, -1)
		case n < 15:
			move, ok = "NextKey", m.NextKey()
			from := at
			for at = min(at+1, len(all)); from >= 0 && at < len(all) && same(at, from); at++ {
			}
		case n < 16:
			move, ok = "PrevKey", m.PrevKey()
			from := at
			for at = max(at-1, -1); from < len(all) && at >= 0 && same(at, from); at-- {
			}
		case n < 17:
			move, ok, at = "First", m.First(), 0
		case n < 18:
			move, ok, at = "Last", m.Last(), len(all)-1
		default:
			v := version{event.DatasetID(rng.IntN(4)), key(), event.MaxLSN}
			at, _ = slices.BinarySearchFunc(all, v, compare)
			if n == 18 {
				move, ok = fmt.Sprint("SeekGE", v), m.SeekGE(v.ds, []byte(v.key))
			} else {
				move, ok = fmt.Sprint("SeekLT", v), m.SeekLT(v.ds, []byte(v.key))
				at--
			}
		}
		want := at >= 0 && at < len(all)
		if ok != want || m.Valid() != want {
			t.Fatalf("%s: %v, valid %v, want %v (place %d of %d)", move, ok, m.Valid(), want, at, len(all))
		}
		if !want {
			continue
		}
		ds, k, lsn := m.At()
		if got := (version{ds, string(k), lsn}); got != all[at] {
			t.Fatalf("%s: at %v, want %v (place %d of %d)", move, got, all[at], at, len(all))
		}
	}
}

func TestNoSources(t *testing.T) {
	m := New()
	if m.First() || m.Last() || m.Next() || m.Prev() || m.SeekGE(1, nil) || m.SeekLT(1, nil) || m.NextKey() || m.Valid() ||
		m.Err() != nil {
		t.Fatal("a merge of nothing yields something")
	}
}

// TestSourceGivenFirstComesFirst: of a version that two sources have, the newer source's comes first, last backwards.
func TestSourceGivenFirstComesFirst(t *testing.T) {
	vs := []version{{1, "a", 5}}
	m := New(&list{vs: vs}, &list{vs: vs}, &list{vs: vs})
	var got []int
	for ok := m.First(); ok; ok = m.Next() {
		got = append(got, m.Source())
	}
	for ok := m.Prev(); ok; ok = m.Prev() {
		got = append(got, m.Source())
	}
	if want := []int{0, 1, 2, 2, 1, 0}; !slices.Equal(got, want) {
		t.Fatalf("sources %v, want %v", got, want)
	}
}

// TestErrorEndsTheMerge: what a failed source would have yielded is missing from then on, so nothing may follow.
func TestErrorEndsTheMerge(t *testing.T) {
	broken := errors.New("broken")
	a := []version{{1, "a", 1}, {1, "c", 1}, {1, "e", 1}}
	b := []version{{1, "b", 1}, {1, "d", 1}}
	m := New(&list{vs: a, err: broken, fail: 1}, &list{vs: b})
	n := 0
	for ok := m.First(); ok; ok = m.Next() {
		n++
	}
	if n != 1 || m.Err() != broken || m.Valid() || m.Next() || m.Prev() {
		t.Fatalf("%d versions, error %v, valid %v", n, m.Err(), m.Valid())
	}
}

// TestNothingIsAllocated once the merge is made and has met its longest key.
func TestNothingIsAllocated(t *testing.T) {
	sources := numbered(4, 10000, "user:%09d")
	m := New(sources...)
	m.First()
	key := []byte("user:000005000")
	if n := testing.AllocsPerRun(100, func() { m.Next(); m.NextKey(); m.Prev(); m.SeekGE(0, key); m.SeekLT(0, key) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// keys is a Source that costs next to nothing.
type keys struct {
	keys [][]byte
	i    int
}

func (k *keys) First() bool                               { k.i = 0; return len(k.keys) > 0 }
func (k *keys) Last() bool                                { k.i = len(k.keys) - 1; return k.i >= 0 }
func (k *keys) Next() bool                                { k.i++; return k.i < len(k.keys) }
func (k *keys) Prev() bool                                { k.i--; return k.i >= 0 }
func (k *keys) Err() error                                { return nil }
func (k *keys) At() (event.DatasetID, []byte, event.LSN)  { return 0, k.keys[k.i], 1 }
func (k *keys) SeekLT(_ event.DatasetID, key []byte) bool { k.SeekGE(0, key); return k.Prev() }
func (k *keys) SeekGE(_ event.DatasetID, key []byte) (ok bool) {
	k.i, _ = slices.BinarySearchFunc(k.keys, key, bytes.Compare)
	return k.i < len(k.keys)
}

// numbered spreads numbered keys over sources at random.
func numbered(count, n int, format string) []Source {
	rng := rand.New(rand.NewPCG(1, 1))
	all := make([]*keys, count)
	for i := range all {
		all[i] = &keys{}
	}
	for i := range n {
		k := all[rng.IntN(count)]
		k.keys = append(k.keys, fmt.Appendf(nil, format, i))
	}
	sources := make([]Source, count)
	for i, k := range all {
		sources[i] = k
	}
	return sources
}

func BenchmarkNext(b *testing.B) {
	for _, count := range []int{1, 2, 4, 8, 16} {
		for _, format := range []string{"%08d", "user:%09d:name"} {
			for _, dir := range []string{"forward", "backward"} {
				b.Run(fmt.Sprintf("sources=%d/key=%s/%s", count, fmt.Sprintf(format, 0), dir), func(b *testing.B) {
					m := New(numbered(count, 100_000, format)...)
					b.ResetTimer()
					for range b.N {
						ok := false
						if dir == "forward" {
							if ok = m.Next(); !ok {
								m.First()
							}
						} else if ok = m.Prev(); !ok {
							m.Last()
						}
					}
				})
			}
		}
	}
}
