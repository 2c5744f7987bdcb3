package dyngo_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// diffLine is a change as tests compare it.
func diffLine(c *dyngo.Change) string {
	show := func(kv *dyngo.KV) string {
		if kv == nil {
			return "-"
		}
		return fmt.Sprintf("%q", kv.Value)
	}
	return fmt.Sprintf("%s/%s %s -> %s", c.Dataset, c.Key, show(c.Before), show(c.After))
}

func diffLines(t *testing.T, db *dyngo.DB, from, to dyngo.Target, o *dyngo.DiffOptions) (lines []string) {
	t.Helper()
	for c, err := range db.Diff(t.Context(), from, to, o) {
		if err != nil {
			t.Fatalf("diff from %v to %v: %v", from, to, err)
		}
		lines = append(lines, diffLine(&c))
	}
	return lines
}

func wantDiff(t *testing.T, db *dyngo.DB, from, to dyngo.Target, o *dyngo.DiffOptions, want ...string) {
	t.Helper()
	if got := diffLines(t, db, from, to, o); !slices.Equal(got, want) {
		t.Errorf("diff from %v to %v: got\n%s\nwant\n%s", from, to, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkDiff compares what Diff says of the state of a view and another one of its past or future with what the model has. It
// returns how many keys differ, and how many of them have expired though no event between the two says so.
func checkDiff(t *testing.T, rng *rand.Rand, db *dyngo.DB, m *model, v *dyngo.View) (changed, ended int) {
	t.Helper()
	from := dyngo.AtLSN(v.LSN())
	to := dyngo.AtLSN(db.DurableLSN() - dyngo.LSN(rng.Uint64N(uint64(db.DurableLSN()-db.Metrics().FloorLSN)+1)))
	if rng.IntN(2) == 0 {
		to = dyngo.AtTime(v.Time().Add(time.Duration(rng.IntN(200)) * time.Millisecond))
	}
	w, err := db.ViewAt(t.Context(), to)
	if errors.Is(err, dyngo.ErrOutsideWindow) {
		return 0, 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if rng.IntN(2) == 0 {
		from, to, v, w = to, from, w, v
	}
	o := dyngo.DiffOptions{}
	if rng.IntN(3) == 0 {
		o.Dataset = []string{"a", "b", "c"}[rng.IntN(3)]
	}
	if rng.IntN(3) == 0 {
		o.From = fmt.Appendf(nil, "key-%03d", rng.IntN(150))
	}
	if rng.IntN(3) == 0 {
		o.To = fmt.Appendf(nil, "key-%03d", rng.IntN(150))
	}
	was, is := m.past(v.LSN(), v.Time().UnixNano()), m.past(w.LSN(), w.Time().UnixNano())
	var want []string
	for _, name := range []string{"a", "b", "c"} {
		for i := range 150 {
			key := fmt.Sprintf("key-%03d", i)
			x, had := was[name][key]
			y, has := is[name][key]
			if x == y && had == has || o.Dataset != "" && o.Dataset != name || key < string(o.From) || o.To != nil && key >= string(o.To) {
				continue
			}
			c := dyngo.Change{Dataset: name, Key: []byte(key)}
			if had {
				c.Before = &dyngo.KV{Value: []byte(x)}
			}
			if has {
				c.After = &dyngo.KV{Value: []byte(y)}
			}
			want = append(want, diffLine(&c))
		}
	}
	low, high := min(v.LSN(), w.LSN()), max(v.LSN(), w.LSN())
	i := 0
	for c, err := range db.Diff(t.Context(), from, to, &o) {
		if errors.Is(err, dyngo.ErrNoDataset) && o.Dataset != "" && was[o.Dataset] == nil && is[o.Dataset] == nil {
			break
		}
		if err != nil {
			t.Fatalf("diff from %v to %v: %v", from, to, err)
		}
		if got := diffLine(&c); i == len(want) || got != want[i] {
			t.Fatalf("diff from %v (LSN %d) to %v (LSN %d) of %q [%s, %s): change %d is %.200s, want %.200s",
				from, v.LSN(), to, w.LSN(), o.Dataset, o.From, o.To, i, got, append(want, "none")[i])
		}
		if c.Before == nil || c.After == nil {
			if one := cmp.Or(c.Before, c.After); !one.Expires.IsZero() && one.LSN <= low && !m.touched(c.Dataset, string(c.Key), low, high) {
				ended++
			}
		}
		i++
	}
	if i < len(want) {
		t.Fatalf("diff from %v (LSN %d) to %v (LSN %d) of %q [%s, %s): %d changes, the next should be %.200s",
			from, v.LSN(), to, w.LSN(), o.Dataset, o.From, o.To, i, want[i])
	}
	return i, ended
}

// touched says whether an event in (after, upTo] names a key, or may hide it.
func (m *model) touched(ds, key string, after, upTo dyngo.LSN) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.attempts {
		for i, ch := range a.changes {
			lsn := a.first + dyngo.LSN(i)
			if lsn > after && lsn <= upTo && ch.ds == ds && (ch.key == key || ch.kind == "range" || ch.kind == "drop") {
				return true
			}
		}
	}
	return false
}

// A difference has what changed in between, as a whole: what was put back is not part of it.
func TestDiff(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, options(fs, c))
	defer func() { _ = db.Close() }()
	start := time.Unix(0, c.Now())
	create := func(name string) *dyngo.Dataset {
		t.Helper()
		ds, err := db.CreateDataset(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ds
	}
	must := func(lsn dyngo.LSN, err error) dyngo.LSN {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	put := func(ds *dyngo.Dataset, pairs ...string) (lsn dyngo.LSN) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			lsn = must(ds.Put([]byte(pairs[i]), []byte(pairs[i+1])))
		}
		return lsn
	}
	fruit, veg := create("fruit"), create("veg")
	put(veg, "carrot", "1", "leek", "2")
	first := put(fruit, "apple", "1", "fig", "2", "lime", "3", "pear", "4")
	must(fruit.PutWith([]byte("melon"), []byte("5"), dyngo.WriteOptions{TTL: time.Second}))
	second := must(fruit.PutWith([]byte("grape"), []byte("6"), dyngo.WriteOptions{TTL: time.Minute}))
	put(fruit, "apple", "other", "apple", "1", "fig", "22", "kiwi", "9", "plum", "8")
	must(fruit.Delete([]byte("plum")))
	must(fruit.DeleteRange([]byte("l"), []byte("m")))
	if applied, _, err := fruit.PutNewest([]byte("pear"), []byte("newer"), start); err != nil || !applied {
		t.Fatal(applied, err)
	}
	if applied, _, err := fruit.PutNewest([]byte("pear"), []byte("stale"), start.Add(-time.Hour)); err != nil || applied {
		t.Fatal(applied, err)
	}
	third := must(db.DropDataset("veg"))
	veg = create("veg")
	last := put(veg, "leek", "2", "onion", "3")
	at, everything := dyngo.AtLSN, (*dyngo.DiffOptions)(nil)
	check := func() {
		t.Helper()
		wantDiff(t, db, at(first), at(first), everything)
		wantDiff(t, db, at(first), at(second), everything, `fruit/grape - -> "6"`, `fruit/melon - -> "5"`)
		wantDiff(t, db, at(second), at(last), everything, `fruit/fig "2" -> "22"`, `fruit/kiwi - -> "9"`, `fruit/lime "3" -> -`,
			`fruit/pear "4" -> "newer"`, `veg/carrot "1" -> -`, `veg/onion - -> "3"`)
		wantDiff(t, db, at(last), at(second), everything, `fruit/fig "22" -> "2"`, `fruit/kiwi "9" -> -`, `fruit/lime - -> "3"`,
			`fruit/pear "newer" -> "4"`, `veg/carrot - -> "1"`, `veg/onion "3" -> -`)
		wantDiff(t, db, at(second), at(third), &dyngo.DiffOptions{Dataset: "veg"}, `veg/carrot "1" -> -`, `veg/leek "2" -> -`)
		wantDiff(t, db, at(second), at(last), &dyngo.DiffOptions{From: []byte("kiwi"), To: []byte("onion")}, `fruit/kiwi - -> "9"`,
			`fruit/lime "3" -> -`)
		wantDiff(t, db, at(0), at(first), &dyngo.DiffOptions{Dataset: "veg"}, `veg/carrot - -> "1"`, `veg/leek - -> "2"`)
	}
	check()
	// Values expire between two times though no event is between them, and before the event that says so.
	c.Advance(time.Second - 1)
	now := dyngo.AtTime(start.Add(time.Second - 1))
	wantDiff(t, db, at(last), now, everything)
	c.Advance(time.Hour)
	wantDiff(t, db, now, dyngo.AtTime(start.Add(time.Second)), everything, `fruit/melon "5" -> -`)
	wantDiff(t, db, dyngo.AtTime(start.Add(time.Hour)), now, everything, `fruit/grape - -> "6"`, `fruit/melon - -> "5"`)
	check()
	if err := errors.Join(db.Flush(t.Context()), db.Compact(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	o := options(fs, c)
	o.ReadOnly = true
	db = mustOpen(t, storeDir, o)
	check()
	wantDiff(t, db, now, dyngo.AtTime(start.Add(time.Hour)), everything, `fruit/grape "6" -> -`, `fruit/melon "5" -> -`)
}

// What can't be compared is said, with the window.
func TestDiffErrors(t *testing.T) {
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem(), Clock: manualClock()})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := ds.Put([]byte("k"), []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	fails := func(from, to dyngo.Target, o *dyngo.DiffOptions, want error) {
		t.Helper()
		n := 0
		for c, err := range db.Diff(t.Context(), from, to, o) {
			if n++; !errors.Is(err, want) {
				t.Errorf("diff from %v to %v: %+v, %v, want %v", from, to, c, err, want)
			}
		}
		if n != 1 {
			t.Errorf("diff from %v to %v yields %d times", from, to, n)
		}
	}
	fails(dyngo.AtLSN(lsn+1), dyngo.AtLSN(0), nil, dyngo.ErrOutsideWindow)
	fails(dyngo.AtLSN(0), dyngo.AtLSN(lsn+1), nil, dyngo.ErrOutsideWindow)
	fails(dyngo.AtLSN(0), dyngo.AtLSN(lsn), &dyngo.DiffOptions{Dataset: "e"}, dyngo.ErrNoDataset)
	fails(dyngo.AtLSN(0), dyngo.AtLSN(lsn), &dyngo.DiffOptions{From: make([]byte, dyngo.MaxKeyBytes+1)}, dyngo.ErrLimit)
	for range db.Diff(t.Context(), dyngo.AtLSN(0), dyngo.AtLSN(lsn), nil) {
		if err := db.Close(); err != nil { // it waits for no sequence
			t.Fatal(err)
		}
	}
	fails(dyngo.AtLSN(0), dyngo.AtLSN(lsn), nil, dyngo.ErrClosed)
}
