package dyngo_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// change is one event as the model sees it.
type change struct {
	kind    string // put, newest, del, range, expire, create, drop, session
	ds      string
	key, to string
	value   string
	time    int64         // newest
	ttl     time.Duration // put and newest, 0 = the dataset's
	expires int64         // put and newest, 0 = never; follows from ttl
}

// attempt is a batch that was handed to the store.
type attempt struct {
	changes []change
	first   dyngo.LSN // LSNs are dense, so it is known before
	acked   bool      // it returned, and durable was asked for
}

func (a *attempt) last() dyngo.LSN { return a.first + dyngo.LSN(len(a.changes)) - 1 }

// model is what a store must hold: the effect of a prefix of the attempts. One goroutine writes, tests may look from others.
type model struct {
	mu       sync.Mutex
	attempts []attempt
}

func (m *model) begin(cs ...change) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts = append(m.attempts, attempt{changes: cs, first: m.nextLocked()})
	return len(m.attempts) - 1
}

func (m *model) nextLocked() dyngo.LSN {
	if n := len(m.attempts); n > 0 {
		return m.attempts[n-1].last() + 1
	}
	return 1
}

// done notes that attempt i returned with the LSN of its last event, which must be the next one: no event is logged that
// nobody asked for.
func (m *model) done(i int, last dyngo.LSN, durable bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := &m.attempts[i]
	if a.last() != last {
		return fmt.Errorf("%v ends at LSN %d, want %d", a.changes[0], last, a.last())
	}
	a.acked = durable
	return nil
}

// cut forgets what a crash has taken back: the store goes on behind lsn.
func (m *model) cut(lsn dyngo.LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.attempts) > 0 && m.attempts[len(m.attempts)-1].last() > lsn {
		m.attempts = m.attempts[:len(m.attempts)-1]
	}
}

// swap exchanges the changes of two attempts of equal length.
func (m *model) swap(i, j int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts[i].changes, m.attempts[j].changes = m.attempts[j].changes, m.attempts[i].changes
}

// durable notes that everything up to lsn is durable.
func (m *model) durable(lsn dyngo.LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.attempts {
		a := &m.attempts[i]
		a.acked = a.acked || a.last() <= lsn
	}
}

// crash takes the picture that a crash leaves, and the model that fits it, while the store is at work: what is
// acknowledged before the picture must be in it, what begins until after it may be.
func (m *model) crash(picture func() *vfs.Crash) (*model, *vfs.Crash) {
	m.mu.Lock()
	acked := make([]bool, len(m.attempts))
	for i, a := range m.attempts {
		acked[i] = a.acked
	}
	m.mu.Unlock()
	fs := picture()
	m.mu.Lock()
	defer m.mu.Unlock()
	then := &model{attempts: slices.Clone(m.attempts)}
	for i := range then.attempts {
		then.attempts[i].acked = i < len(acked) && acked[i]
	}
	return then, fs
}

type cell struct {
	value   string
	time    int64
	hasTime bool
	expires int64
}

type contents map[string]map[string]cell // dataset, key

func (c contents) apply(ch change) {
	keys := c[ch.ds]
	switch ch.kind {
	case "create":
		c[ch.ds] = map[string]cell{}
	case "drop":
		delete(c, ch.ds)
	case "put":
		keys[ch.key] = cell{value: ch.value, expires: ch.expires}
	case "newest":
		old, ok := keys[ch.key]
		if !ok || !old.hasTime || ch.time > old.time {
			keys[ch.key] = cell{value: ch.value, time: ch.time, hasTime: true, expires: ch.expires}
		}
	case "del", "expire":
		old := keys[ch.key]
		keys[ch.key] = cell{value: gone, time: old.time, hasTime: old.hasTime}
	case "range":
		for k, old := range keys {
			if k >= ch.key && (ch.to == "" || k < ch.to) {
				keys[k] = cell{value: gone, time: old.time, hasTime: old.hasTime}
			}
		}
	}
}

// gone marks a deleted key, which keeps its record time.
const gone = "\x00gone"

// replay returns the effect of the attempts up to lsn, which must be the end of one.
func (m *model) replay(lsn dyngo.LSN) (contents, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := contents{}
	for i, a := range m.attempts { // to the end: an acknowledged attempt may follow one that was not
		switch {
		case a.last() <= lsn:
			for _, ch := range a.changes {
				c.apply(ch)
			}
		case a.first <= lsn:
			return nil, fmt.Errorf("the store ends at LSN %d, in the middle of attempt %d with %d..%d", lsn, i, a.first, a.last())
		case a.acked:
			return nil, fmt.Errorf("the store ends at LSN %d, attempt %d was acknowledged as durable at %d..%d", lsn, i, a.first, a.last())
		}
	}
	if next := m.nextLocked(); lsn >= next {
		return nil, fmt.Errorf("the store ends at LSN %d, nothing was written beyond %d", lsn, next-1)
	}
	return c, nil
}

// due lists the keys, as dataset/key, whose version ends by now, in the order of the times at which they end.
func (m *model) due(now int64) []string {
	m.mu.Lock()
	end := m.nextLocked() - 1
	m.mu.Unlock()
	c, err := m.replay(end)
	if err != nil {
		panic(err) // all attempts end there
	}
	at := map[string]int64{}
	for ds, keys := range c {
		for k, v := range keys {
			if v.value != gone && v.expires != 0 && v.expires <= now {
				at[ds+"/"+k] = v.expires
			}
		}
	}
	return slices.SortedFunc(maps.Keys(at), func(a, b string) int { return cmp.Compare(at[a], at[b]) })
}

// at returns the contents as of lsn, and whether lsn is the end of an attempt. now decides what is expired.
func (m *model) at(lsn dyngo.LSN, now int64) (map[string]map[string]string, error) {
	c, err := m.replay(lsn)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]string{}
	for ds, keys := range c {
		out[ds] = map[string]string{}
		for k, v := range keys {
			if v.value != gone && (v.expires == 0 || v.expires > now) {
				out[ds][k] = v.value
			}
		}
	}
	return out, nil
}

// dump reads a whole store, each key by scan, by reverse scan and by get.
func dump(db *dyngo.DB) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, info := range db.Datasets() {
		ds, err := db.Dataset(info.Name)
		if err != nil {
			return nil, err
		}
		keys := map[string]string{}
		var order []string
		for kv, err := range ds.Scan(dyngo.Range{}) {
			if err != nil {
				return nil, fmt.Errorf("scan of %s: %w", info.Name, err)
			}
			keys[string(kv.Key)] = string(kv.Value)
			order = append(order, string(kv.Key))
		}
		if !sort.StringsAreSorted(order) || len(order) != len(keys) {
			return nil, fmt.Errorf("scan of %s is not in key order, or repeats keys", info.Name)
		}
		var reverse []string
		for kv, err := range ds.Scan(dyngo.Range{Reverse: true, KeysOnly: true}) {
			if err != nil {
				return nil, err
			}
			reverse = append(reverse, string(kv.Key))
		}
		slices.Reverse(reverse)
		if !slices.Equal(order, reverse) {
			return nil, fmt.Errorf("scan of %s forward gives %d keys, backward %d", info.Name, len(order), len(reverse))
		}
		for k, v := range keys {
			got, err := ds.Get([]byte(k))
			if err != nil || !bytes.Equal(got, []byte(v)) {
				return nil, fmt.Errorf("get %s/%q = %.40q, %v; scan gave %.40q", info.Name, k, got, err, v)
			}
		}
		out[info.Name] = keys
	}
	return out, nil
}

// check compares what a store shows with the model at lsn, which is where the store ends but for expire events.
func (m *model) check(db *dyngo.DB, lsn dyngo.LSN, now int64) error {
	_, err := m.checked(db, lsn, now)
	return err
}

// checked is check that returns what the store shows.
func (m *model) checked(db *dyngo.DB, lsn dyngo.LSN, now int64) (map[string]map[string]string, error) {
	want, err := m.at(lsn, now)
	if err != nil {
		return nil, err
	}
	got, err := dump(db)
	if err == nil {
		err = differ(want, got)
	}
	return got, err
}

func differ(want, got map[string]map[string]string) error {
	if w, g := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(w, g) {
		return fmt.Errorf("datasets %q, want %q", g, w)
	}
	for ds, keys := range want {
		for k, v := range keys {
			if g, ok := got[ds][k]; !ok || g != v {
				return fmt.Errorf("%s/%q is %.60q (there: %v), want %.60q", ds, k, g, ok, v)
			}
		}
		for k, g := range got[ds] {
			if _, ok := keys[k]; !ok {
				return fmt.Errorf("%s/%q is %.60q, it must not be there", ds, k, g)
			}
		}
	}
	return nil
}
