package segment

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var modelSeed = flag.Uint64("model.seed", 0, "run the model test with this seed only")

// TestModel writes segments of random entries and holds every way to read them against a slice.
func TestModel(t *testing.T) {
	rounds := uint64(30)
	if testing.Short() {
		rounds = 5
	}
	for seed := uint64(1); seed <= rounds; seed++ {
		if *modelSeed == 0 || *modelSeed == seed {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Logf("repeat with -run '^TestModel$' -model.seed %d", seed)
				rnd := rand.New(rand.NewPCG(seed, 1))
				newModel(t, rnd).run()
			})
		}
	}
}

// model is a segment and the entries that it must have.
type model struct {
	t   *testing.T
	rnd *rand.Rand
	es  []Entry
	rs  []RangeDelete
	r   *Reader
	p   *Properties
}

func newModel(t *testing.T, rnd *rand.Rand) *model {
	m := &model{t: t, rnd: rnd, es: randomEntries(rnd, 1+rnd.IntN(3000))}
	for i := range rnd.IntN(4) * 20 {
		m.rs = append(m.rs, RangeDelete{Dataset: 1, From: randomBytes(rnd, rnd.IntN(5)), To: []byte{byte(i), 1},
			LSN: event.LSN(10000 + 17*i%101), Time: testTime})
	}
	o := WriterOptions{
		Num: 7, Run: 9, Replaces: []uint64{5, 3, 5},
		Compression: Compression(rnd.IntN(3)), BlockBytes: []int{0, 1 << 10, 2000, 32 << 10}[rnd.IntN(4)],
		FilterBits: []int{0, 0, 6, -1}[rnd.IntN(4)], dueBytes: []int{0, 500, 5000}[rnd.IntN(3)],
	}
	fsys := vfs.NewMem()
	m.p = write(t, fsys, "a.seg", o, m.es, m.rs...)
	if names, err := fsys.List("."); err != nil || len(names) != 1 {
		t.Fatalf("files %q, %v", names, err)
	}
	c := newMapCache()
	t.Cleanup(c.Close)
	m.r = open(t, fsys, "a.seg", c)
	return m
}

func (m *model) run() {
	if err := m.r.Verify(context.Background(), nil); err != nil {
		m.t.Fatal(err)
	}
	m.properties()
	m.gets()
	for _, o := range []IterOptions{{}, {NoFill: true}, {KeysOnly: true}} {
		m.scans(o)
		m.walk(o)
	}
	m.dues()
}

func (m *model) properties() {
	p := m.r.Properties()
	keys, tombstones, dues := 0, 0, 0
	var replacing struct{ from, to event.LSN }
	for i := range m.es {
		e := &m.es[i]
		if i == 0 || !bytes.Equal(e.Key, m.es[i-1].Key) || e.Dataset != m.es[i-1].Dataset {
			keys++
		} else if newer := m.es[i-1].LSN; m.es[i-1].Op == event.OpMerge {
			// what it is applied to is part of its value
		} else if replacing.from == 0 {
			replacing.from, replacing.to = newer, newer
		} else {
			replacing.from, replacing.to = min(replacing.from, newer), max(replacing.to, newer)
		}
		if len(e.Value) == 0 && (e.Op == event.OpDelete || e.Op == event.OpExpire) {
			tombstones++
		}
		if _, ok := event.Expiry(e.Parts); ok {
			dues++
		}
	}
	first, last := &m.es[0], &m.es[len(m.es)-1]
	if p.Entries != int64(len(m.es)) || p.Keys != int64(keys) || p.Tombstones != int64(tombstones) || p.Dues != int64(dues) ||
		p.RangeDeletes != int64(len(m.rs)) || p.Smallest.Compare(Key{first.Dataset, first.Key}) != 0 ||
		p.Largest.Compare(Key{last.Dataset, last.Key}) != 0 || !slices.Equal(p.Replaces, []uint64{3, 5}) || p.Run != 9 {
		m.t.Fatalf("%s, want %d entries, %d keys, %d tombstones, %d dues, %d range deletes", p, len(m.es), keys,
			tombstones, dues, len(m.rs))
	}
	written := *m.p
	if written.MinReplacing != replacing.from || written.MaxReplacing != replacing.to {
		m.t.Fatalf("LSN %d to %d replace others, want %d to %d", written.MinReplacing, written.MaxReplacing, replacing.from, replacing.to)
	}
	written.MinReplacing, written.MaxReplacing = 0, 0 // which is not in the file
	if !reflect.DeepEqual(*p, written) {
		m.t.Fatalf("%+v as written, %+v as read", *m.p, *p)
	}
	slices.SortFunc(m.rs, func(a, b RangeDelete) int { return int(a.LSN) - int(b.LSN) })
	for i, r := range m.r.RangeDeletes() {
		if w := m.rs[i]; r.LSN != w.LSN || !bytes.Equal(r.From, w.From) || !bytes.Equal(r.To, w.To) || r.Dataset != w.Dataset {
			m.t.Fatalf("range delete %d is %+v, want %+v", i, r, w)
		}
	}
}

// at returns the first entry at or after a version.
func (m *model) at(ds event.DatasetID, key []byte, lsn event.LSN) int {
	want := Entry{Dataset: ds, Key: key, LSN: lsn}
	i, _ := slices.BinarySearchFunc(m.es, want, func(e, want Entry) int {
		if e.LSN == want.LSN && e.Dataset == want.Dataset && bytes.Equal(e.Key, want.Key) {
			return 0
		}
		return compareEntries(&e, &want)
	})
	return i
}

func (m *model) gets() {
	ask := func(ds event.DatasetID, key []byte, max event.LSN) {
		m.t.Helper()
		got, ok, err := get(m.r, ds, key, max)
		if err != nil {
			m.t.Fatal(err)
		}
		i := m.at(ds, key, max)
		want := i < len(m.es) && m.es[i].Dataset == ds && bytes.Equal(m.es[i].Key, key)
		if ok != want || ok && !equal(&got, &m.es[i]) {
			m.t.Fatalf("get %d %.60q@%d: %t %s, want %t", ds, key, max, ok, show(&got), want)
		}
	}
	for i := range m.es {
		e := &m.es[i]
		ask(e.Dataset, e.Key, e.LSN)
		ask(e.Dataset, e.Key, e.LSN-1)
		ask(e.Dataset, e.Key, ^event.LSN(0))
	}
	for range 500 {
		e := &m.es[m.rnd.IntN(len(m.es))]
		key := m.near(e.Key)
		ask(e.Dataset, key, event.MaxLSN)
		ask(e.Dataset+1, e.Key, event.MaxLSN)
		ask(e.Dataset-1, e.Key, event.MaxLSN)
	}
}

// near returns a key that is little different.
func (m *model) near(key []byte) []byte {
	key = bytes.Clone(key)
	switch m.rnd.IntN(4) {
	case 0:
		return append(key, 0)
	case 1:
		if len(key) > 1 {
			return key[:len(key)-1]
		}
	case 2:
		key[len(key)-1]++
	case 3:
		key[m.rnd.IntN(len(key))]--
	}
	return key
}

func (m *model) want(it *Iter, i int) {
	m.t.Helper()
	if ok := i >= 0 && i < len(m.es); it.Valid() != ok || it.Err() != nil {
		m.t.Fatalf("valid %t at %d of %d, %v", it.Valid(), i, len(m.es), it.Err())
	} else if ok {
		want := m.es[i]
		if it.opts.KeysOnly {
			want.Value = nil
		}
		if got := it.Entry(); !equal(got, &want) {
			m.t.Fatalf("entry %d is %s, want %s", i, show(got), show(&m.es[i]))
		}
	}
}

func (m *model) scans(o IterOptions) {
	it := m.r.NewIter(o)
	defer it.Close()
	i := 0
	for ok := it.First(); ok; ok = it.Next() {
		m.want(it, i)
		i++
	}
	m.want(it, i)
	if i != len(m.es) {
		m.t.Fatalf("%d entries forward, want %d", i, len(m.es))
	}
	for ok := it.Last(); ok; ok = it.Prev() {
		i--
		m.want(it, i)
	}
	if i != 0 {
		m.t.Fatalf("%d entries backward, want %d", len(m.es)-i, len(m.es))
	}
}

// walk seeks and moves at random.
func (m *model) walk(o IterOptions) {
	it := m.r.NewIter(o)
	defer it.Close()
	i := -1
	for range 1500 {
		e := &m.es[m.rnd.IntN(len(m.es))]
		key := e.Key
		if m.rnd.IntN(2) == 0 {
			key = m.near(key)
		}
		ok, was := false, it.Valid()
		switch m.rnd.IntN(12) {
		case 0:
			ok, i = it.First(), 0
		case 1:
			ok, i = it.Last(), len(m.es)-1
		case 2, 3:
			ok, i = it.SeekGE(e.Dataset, key), m.at(e.Dataset, key, event.MaxLSN)
		case 4, 5:
			ok, i = it.SeekLT(e.Dataset, key), m.at(e.Dataset, key, event.MaxLSN)-1
		case 6, 7, 8:
			if ok = it.Next(); was {
				i++
			}
		default:
			if ok = it.Prev(); was {
				i--
			}
		}
		if ok != it.Valid() {
			m.t.Fatalf("move says %t, the iterator is %t", ok, it.Valid())
		}
		if was || it.Valid() {
			m.want(it, i)
		}
	}
}

func (m *model) dues() {
	type due struct {
		due int64
		e   *Entry
	}
	var all []due
	for i := range m.es {
		if d, ok := event.Expiry(m.es[i].Parts); ok {
			all = append(all, due{d, &m.es[i]})
		}
	}
	slices.SortStableFunc(all, func(a, b due) int {
		if a.due < b.due {
			return -1
		} else if a.due > b.due {
			return 1
		}
		return 0
	})
	for _, from := range []int64{-1 << 63, -30, 0, testTime, testTime + 25, testTime + 49, testTime + 50, 1<<63 - 1} {
		i, _ := slices.BinarySearchFunc(all, from, func(d due, from int64) int {
			if d.due < from {
				return -1
			}
			return 1
		})
		it := m.r.Due(from)
		for it.Next() {
			got := it.Due()
			if i == len(all) || got.Due != all[i].due || got.LSN != all[i].e.LSN || got.Dataset != all[i].e.Dataset ||
				!bytes.Equal(got.Key, all[i].e.Key) {
				m.t.Fatalf("from %d, entry %d of %d: %+v", from, i, len(all), got)
			}
			i++
		}
		if it.Err() != nil || i != len(all) {
			m.t.Fatalf("from %d: %d of %d dues, %v", from, i, len(all), it.Err())
		}
		it.Close()
	}
}
