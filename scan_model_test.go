package dyngo_test

import (
	"bytes"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var scanSeed = flag.Uint64("scan.seed", 0, "seed of TestScansAreAsTheModel, 0 = random")

// scanVersion is what a scan has to say of a key.
type scanVersion struct {
	value   string
	lsn     dyngo.LSN
	expires int64 // 0 = never
}

type scanContents map[string]scanVersion

// scanModel runs random operations, also in the loops of scans, whose pairs they must not change.
type scanModel struct {
	t     *testing.T
	db    *dyngo.DB
	clock *clock.Manual
	rng   *rand.Rand
	ds    []*dyngo.Dataset
	now   []scanContents // of ds
	views []scanView
	kept  []keptPair
	step  int
	scans int // in progress
}

// scanView is a view with what it has to see.
type scanView struct {
	*dyngo.View
	ds   []*dyngo.Dataset
	want []scanContents
	at   int64
}

// keptPair is a pair with which a loop was left.
type keptPair struct {
	kv         dyngo.KV
	key, value string
}

func (m *scanModel) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("step %d: %v", m.step, err)
	}
}

// wait has time go on until a call that is paced has ended.
func (m *scanModel) wait(call func() error) {
	m.t.Helper()
	done := make(chan error)
	go func() { done <- call() }()
	for {
		select {
		case err := <-done:
			m.must(err)
			return
		default:
			m.clock.Advance(time.Millisecond)
			runtime.Gosched()
		}
	}
}

// key is one of few, some of which begin with others.
func (m *scanModel) key() []byte {
	b := make([]byte, 1+m.rng.IntN(3), 12)
	for i := range b {
		b[i] = "\x00\x01ab\xff"[m.rng.IntN(5)]
	}
	if m.rng.IntN(3) == 0 {
		return append([]byte("longer-"), b...)
	}
	return b
}

// end is one of a range.
func (m *scanModel) end() []byte {
	switch m.rng.IntN(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{}
	}
	return m.key()
}

// span is a range that some keys lie in.
func (m *scanModel) span() (from, to []byte) {
	for {
		if from, to = m.end(), m.end(); to == nil || bytes.Compare(from, to) < 0 {
			return from, to
		}
	}
}

func (m *scanModel) value() string {
	n := m.rng.IntN(100)
	switch m.rng.IntN(30) {
	case 0:
		n = 0
	case 1:
		n = 9000 + m.rng.IntN(20_000)
	case 2:
		n = 100_000
	}
	if m.rng.IntN(2) == 0 {
		return strings.Repeat(fmt.Sprintf("%d ", m.step), n/4)
	}
	return big(n, byte(m.step))
}

func (m *scanModel) write() {
	i := m.rng.IntN(len(m.ds))
	ds, now := m.ds[i], m.now[i]
	switch n := m.rng.IntN(20); {
	case n < 12:
		key, v := m.key(), scanVersion{value: m.value()}
		var o dyngo.WriteOptions
		if m.rng.IntN(8) == 0 {
			o.TTL = time.Duration(1+m.rng.IntN(20)) * time.Second
			v.expires = m.clock.Wall() + int64(o.TTL)
		}
		lsn, err := ds.PutWith(key, []byte(v.value), o)
		m.must(err)
		v.lsn = lsn
		now[string(key)] = v
	case n < 15:
		key := m.key()
		_, err := ds.Delete(key)
		m.must(err)
		delete(now, string(key))
	case n < 16:
		from, to := m.span()
		_, err := ds.DeleteRange(from, to)
		m.must(err)
		maps.DeleteFunc(now, func(k string, _ scanVersion) bool { return k >= string(from) && (to == nil || k < string(to)) })
	default:
		b := m.db.NewBatch()
		var keys []string
		var values []string
		for range 1 + m.rng.IntN(8) {
			keys, values = append(keys, string(m.key())), append(values, m.value())
			b.Put(ds, []byte(keys[len(keys)-1]), []byte(values[len(values)-1]))
		}
		lsn, err := b.Commit()
		m.must(err)
		for j, key := range keys {
			now[key] = scanVersion{value: values[j], lsn: lsn - dyngo.LSN(len(keys)-1-j)}
		}
	}
}

func (m *scanModel) act() {
	m.step++
	ctx := m.t.Context()
	i := m.rng.IntN(len(m.ds))
	switch n := m.rng.IntN(100); {
	case n < 55:
		m.write()
	case n < 57:
		m.wait(func() error { return m.db.Flush(ctx) })
	case n < 60:
		m.wait(func() error { return m.db.LeaveMemory(ctx) })
	case n < 61:
		m.wait(func() error { return m.db.Compact(ctx) })
	case n < 63:
		m.must(m.db.WaitDurable(ctx, m.db.LSN()))
		m.clock.Advance(time.Second)
	case n < 66:
		from, to := m.span()
		if _, err := m.ds[i].BuildHot(from, to); err != nil && !strings.Contains(err.Error(), "another hot range") {
			m.t.Fatal(err)
		}
	case n < 67:
		m.ds[i].DropHotAt(m.key())
	case n < 69:
		m.must(m.db.WaitDurable(ctx, m.db.LSN()))
		v, err := m.db.View()
		m.must(err)
		w := scanView{View: v, ds: slices.Clone(m.ds), at: m.clock.Wall()}
		for _, c := range m.now {
			w.want = append(w.want, maps.Clone(c))
		}
		m.views = append(m.views, w)
		if m.scans == 0 && len(m.views) > 4 {
			m.must(m.views[0].Close())
			m.views = m.views[1:]
		}
	case n < 70 && m.rng.IntN(4) == 0:
		last := len(m.ds) - 1
		name := m.ds[last].Name()
		_, err := m.db.DropDataset(name)
		m.must(err)
		ds, err := m.db.CreateDataset(name, nil)
		m.must(err)
		m.ds[last], m.now[last] = ds, scanContents{}
	case m.scans < 2 && n < 80 && len(m.views) > 0:
		v := &m.views[m.rng.IntN(len(m.views))]
		i := m.rng.IntN(len(v.ds))
		m.scan(func(r dyngo.Range) iter.Seq2[dyngo.KV, error] { return v.Scan(v.ds[i], r) }, v.want[i], v.at)
	case m.scans < 2:
		ds := m.ds[i]
		m.scan(ds.Scan, maps.Clone(m.now[i]), m.clock.Wall())
	}
}

// scan compares one with what it has to see.
func (m *scanModel) scan(scan func(dyngo.Range) iter.Seq2[dyngo.KV, error], want scanContents, at int64) {
	r := dyngo.Range{From: m.end(), To: m.end(), Reverse: m.rng.IntN(2) == 0, KeysOnly: m.rng.IntN(4) == 0}
	if m.rng.IntN(2) == 0 {
		r.Limit = 1 + m.rng.IntN(40)
	}
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(k string) bool {
		return k < string(r.From) || r.To != nil && k >= string(r.To) || want[k].expires != 0 && want[k].expires <= at
	})
	if r.Reverse {
		slices.Reverse(keys)
	}
	if r.Limit > 0 {
		keys = keys[:min(len(keys), r.Limit)]
	}
	began := m.step
	say := func(format string, a ...any) {
		m.t.Helper()
		m.t.Fatalf("steps %d to %d, scan of %q to %q, reverse %t, limit %d, keys only %t: %s", began, m.step, r.From, r.To, r.Reverse, r.Limit,
			r.KeysOnly, fmt.Sprintf(format, a...))
	}
	m.scans++
	defer func() { m.scans-- }()
	busy := m.rng.IntN(3) == 0
	stop := -1
	if m.rng.IntN(4) == 0 {
		stop = m.rng.IntN(20)
	}
	n := 0
	for kv, err := range scan(r) {
		if err != nil {
			say("pair %d: %v", n, err)
		}
		if n == len(keys) || string(kv.Key) != keys[n] {
			say("pair %d is %q, want %q", n, kv.Key, append(keys, "the end")[n])
		}
		v := want[keys[n]]
		if r.KeysOnly {
			v.value = ""
		}
		if string(kv.Value) != v.value || (kv.Value == nil) != r.KeysOnly {
			say("%q = %.20q, want %.20q", kv.Key, kv.Value, v.value)
		}
		if kv.LSN != v.lsn || v.expires == 0 != kv.Expires.IsZero() || v.expires != 0 && kv.Expires.UnixNano() != v.expires {
			say("%q has LSN %d, expires %v, want %d, %d", kv.Key, kv.LSN, kv.Expires, v.lsn, v.expires)
		}
		if busy && m.rng.IntN(4) == 0 {
			m.act()
			if string(kv.Key) != keys[n] || string(kv.Value) != v.value {
				say("pair %d changed to %q = %.20q while the loop had it, it was %q = %.20q", n, kv.Key, kv.Value, keys[n], v.value)
			}
		}
		if n++; n == stop {
			if m.kept = append(m.kept, keptPair{kv, keys[n-1], v.value}); len(m.kept) > 5 {
				m.kept = m.kept[1:]
			}
			break
		}
	}
	if n != len(keys) && n != stop {
		say("it ends after %d of %d keys", n, len(keys))
	}
	for _, k := range m.kept {
		if string(k.kv.Key) != k.key || string(k.kv.Value) != k.value {
			say("a pair with which a loop was left changed to %q = %.20q, it was %q = %.20q", k.kv.Key, k.kv.Value, k.key, k.value)
		}
	}
}

// Scans of datasets with the same keys find what their model has, whatever memory, segments and hot ranges hold of them, in whatever part
// and direction, and whatever happens between two pairs.
func TestScansAreAsTheModel(t *testing.T) {
	t.Parallel()
	seed := *scanSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -run TestScansAreAsTheModel -scan.seed %d", seed)
	rounds, steps := 6, 2500
	if testing.Short() {
		rounds, steps = 2, 800
	}
	for round := range rounds {
		m := &scanModel{t: t, clock: manualClock(), rng: rand.New(rand.NewPCG(seed, uint64(round)))}
		o := &dyngo.Options{FS: vfs.NewMem(), Clock: m.clock, MemoryBudget: 8 << 20}
		if m.rng.IntN(2) == 0 {
			o.SpillFrom(8<<10, 4<<10)
		}
		m.db = mustOpen(t, storeDir, o)
		for i, o := range []*dyngo.DatasetOptions{{Consistency: dyngo.Eventual, LargeValue: 256 << 10}, {Compression: dyngo.S2}, nil} {
			ds, err := m.db.CreateDataset(fmt.Sprint(i), o)
			m.must(err)
			m.ds, m.now = append(m.ds, ds), append(m.now, scanContents{})
		}
		for m.step < steps {
			m.act()
		}
		m.must(m.db.Close())
	}
}
