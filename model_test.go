package dyngo_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// change is one event as the model sees it.
type change struct {
	kind    string // put, newest, del, range, create, drop, session
	ds      string
	key, to string
	value   string
	time    int64 // newest
	expires int64 // put, 0 = never
}

// attempt is a batch that was handed to the store.
type attempt struct {
	changes []change
	first   dyngo.LSN // 0 = not known: the call did not return
	acked   bool      // it returned, and durable was asked for
}

// model is what a store must hold: the effect of a prefix of the attempts. One goroutine writes, tests may look from others.
type model struct {
	mu       sync.Mutex
	attempts []attempt
}

func (m *model) begin(cs ...change) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts = append(m.attempts, attempt{changes: cs})
	return len(m.attempts) - 1
}

// done notes that attempt i returned with the LSN of its last event.
func (m *model) done(i int, last dyngo.LSN, durable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := &m.attempts[i]
	a.first, a.acked = last-dyngo.LSN(len(a.changes))+1, durable
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
			keys[ch.key] = cell{value: ch.value, time: ch.time, hasTime: true}
		}
	case "del":
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

// at returns the contents as of lsn, and whether lsn is the end of an attempt. now decides what is expired.
func (m *model) at(lsn dyngo.LSN, now int64) (map[string]map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := contents{}
	next := dyngo.LSN(1)
	for i, a := range m.attempts { // to the end: an acknowledged attempt may follow one that was not
		first := a.first
		if first == 0 {
			first = next // it did not return: if it is there, it follows the others
		}
		last := first + dyngo.LSN(len(a.changes)) - 1
		if first > lsn {
			if a.acked {
				return nil, fmt.Errorf("the store ends at LSN %d, attempt %d was acknowledged as durable at %d..%d", lsn, i, first, last)
			}
			next = last + 1
			continue
		}
		if last > lsn {
			return nil, fmt.Errorf("the store ends at LSN %d, in the middle of attempt %d with %d..%d", lsn, i, first, last)
		}
		for _, ch := range a.changes {
			c.apply(ch)
		}
		next = last + 1
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

// checkAgainst compares a store with the model at the store's own end.
func (m *model) check(db *dyngo.DB, now int64) error {
	want, err := m.at(db.DurableLSN(), now)
	if err != nil {
		return err
	}
	got, err := dump(db)
	if err != nil {
		return err
	}
	return differ(want, got)
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

// rig drives a store and the model together. Its first error ends the script.
type rig struct {
	db    *dyngo.DB
	m     *model
	clock *clock.Manual
	ds    map[string]*dyngo.Dataset
	begun bool  // the session of this process is logged
	err   error // the first
}

func options(fs vfs.FS, c *clock.Manual) *dyngo.Options {
	return &dyngo.Options{FS: fs, Clock: c, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20}
}

// do runs one call beside the model. After the first error nothing more is tried: the model could not tell what an
// unknown outcome did.
func (r *rig) do(durable bool, call func() (dyngo.LSN, error), cs ...change) error {
	if r.err != nil {
		return r.err
	}
	if !r.begun { // the event that opens the session comes before the first write of a process
		r.begun = true
		r.m.begin(change{kind: "session"})
	}
	i := r.m.begin(cs...)
	lsn, err := call()
	if err != nil {
		r.err = err
		return err
	}
	r.m.done(i, lsn, durable)
	return nil
}

func (r *rig) create(name string, o *dyngo.DatasetOptions) error {
	return r.do(true, func() (dyngo.LSN, error) {
		ds, err := r.db.CreateDataset(name, o)
		if err != nil {
			return 0, err
		}
		r.ds[name] = ds
		i := slices.IndexFunc(r.db.Datasets(), func(d dyngo.DatasetInfo) bool { return d.Name == name })
		return r.db.Datasets()[i].Created, nil
	}, change{kind: "create", ds: name})
}

func (r *rig) drop(name string) error {
	return r.do(true, func() (dyngo.LSN, error) { return r.db.DropDataset(name) }, change{kind: "drop", ds: name})
}

// durable says that writes to the dataset are acknowledged when they are durable.
func (r *rig) durable(ds string) bool {
	return r.err == nil && r.ds[ds].Options().Consistency == dyngo.Strong
}

func (r *rig) put(ds, key, value string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) { return r.ds[ds].Put([]byte(key), []byte(value)) },
		change{kind: "put", ds: ds, key: key, value: value})
}

func (r *rig) putReader(ds, key, value string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) {
		return r.ds[ds].PutReader([]byte(key), int64(len(value)), strings.NewReader(value))
	}, change{kind: "put", ds: ds, key: key, value: value})
}

func (r *rig) newest(ds, key, value string, t int64) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) {
		_, lsn, err := r.ds[ds].PutNewest([]byte(key), []byte(value), time.Unix(0, t))
		return lsn, err
	}, change{kind: "newest", ds: ds, key: key, value: value, time: t})
}

func (r *rig) del(ds, key string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) { return r.ds[ds].Delete([]byte(key)) }, change{kind: "del", ds: ds, key: key})
}

func (r *rig) delRange(ds, from, to string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) { return r.ds[ds].DeleteRange(orNil(from), orNil(to)) },
		change{kind: "range", ds: ds, key: from, to: to})
}

func orNil(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func (r *rig) batch(cs ...change) error {
	strong := slices.ContainsFunc(cs, func(c change) bool { return r.durable(c.ds) })
	return r.do(strong, func() (dyngo.LSN, error) {
		b := r.db.NewBatch()
		for _, c := range cs {
			switch ds := r.ds[c.ds]; c.kind {
			case "put":
				b.Put(ds, []byte(c.key), []byte(c.value))
			case "newest":
				b.PutNewest(ds, []byte(c.key), []byte(c.value), time.Unix(0, c.time))
			case "del":
				b.Delete(ds, []byte(c.key))
			case "range":
				b.DeleteRange(ds, orNil(c.key), orNil(c.to))
			default:
				return 0, errors.New("no such change in a batch: " + c.kind)
			}
		}
		return b.Commit()
	}, cs...)
}

func mustOpen(t testing.TB, dir string, o *dyngo.Options) *dyngo.DB {
	t.Helper()
	db, err := dyngo.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
