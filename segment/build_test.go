package segment

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testTime = 1700000000_000000000
	testSeed = 0x0123456789abcdef
)

// mapCache keeps every block.
type mapCache struct {
	mu     sync.Mutex // guards the fields below
	blocks map[cache.Key]*cache.Block
	hits   int
	misses int
}

func newMapCache() *mapCache { return &mapCache{blocks: map[cache.Key]*cache.Block{}} }

func (c *mapCache) Get(k cache.Key) *cache.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.blocks[k]; b != nil && b.Acquire() {
		c.hits++
		return b
	}
	c.misses++
	return nil
}

func (c *mapCache) Add(k cache.Key, b *cache.Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocks[k] == nil && b.Acquire() {
		c.blocks[k] = b
	}
}

func (c *mapCache) Metrics() (m cache.Metrics) { return m }

func (c *mapCache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.blocks {
		b.Release()
	}
	clear(c.blocks)
}

// put is an entry that puts a value.
func put(key, value string, lsn event.LSN) Entry {
	return Entry{Dataset: 1, Key: []byte(key), LSN: lsn, Time: testTime + int64(lsn), Op: event.OpPut, Session: 3,
		Value: []byte(value)}
}

// sortEntries puts entries in the order of a segment.
func sortEntries(es []Entry) {
	slices.SortFunc(es, func(a, b Entry) int { return compareEntries(&a, &b) })
}

func compareEntries(a, b *Entry) int {
	if c := (Key{a.Dataset, a.Key}).Compare(Key{b.Dataset, b.Key}); c != 0 {
		return c
	}
	if a.LSN > b.LSN {
		return -1
	}
	return 1
}

// write writes a segment.
func write(t testing.TB, fsys vfs.FS, name string, o WriterOptions, es []Entry, rs ...RangeDelete) *Properties {
	t.Helper()
	p, err := tryWrite(fsys, name, o, es, rs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryWrite(fsys vfs.FS, name string, o WriterOptions, es []Entry, rs []RangeDelete) (*Properties, error) {
	if o.HashSeed == 0 {
		o.HashSeed = testSeed
	}
	w, err := Create(fsys, name, o)
	if err != nil {
		return nil, err
	}
	for i := range es {
		if err := w.Add(&es[i]); err != nil {
			w.Abort()
			return nil, err
		}
	}
	for _, r := range rs {
		w.AddRangeDelete(r)
	}
	p, err := w.Finish()
	if err != nil {
		w.Abort()
	}
	return p, err
}

// open opens a segment for the time of the test.
func open(t testing.TB, fsys vfs.FS, name string, c cache.Cache) *Reader {
	t.Helper()
	r, err := Open(fsys, name, ReaderOptions{Cache: c, Num: 7, HashSeed: testSeed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// get is Get without the block.
func get(r *Reader, ds event.DatasetID, key []byte, max event.LSN) (Entry, bool, error) {
	var e Entry
	b, ok, err := r.Get(ds, key, Hash(testSeed, ds, key), max, &e)
	if !ok {
		return Entry{}, false, err
	}
	e = clone(&e)
	b.Release()
	return e, true, err
}

func clone(e *Entry) Entry {
	c := *e
	c.Key, c.Value, c.Parts = bytes.Clone(e.Key), bytes.Clone(e.Value), bytes.Clone(e.Parts)
	return c
}

func equal(a, b *Entry) bool {
	return a.Dataset == b.Dataset && bytes.Equal(a.Key, b.Key) && a.LSN == b.LSN && a.Time == b.Time && a.Op == b.Op &&
		a.Flags == b.Flags && a.Session == b.Session && bytes.Equal(a.Value, b.Value) && bytes.Equal(a.Parts, b.Parts)
}

func show(e *Entry) string {
	return fmt.Sprintf("%d %.40q@%d t%d %s %s s%d %.40q (%d) %x", e.Dataset, e.Key, e.LSN, e.Time, e.Op, e.Flags, e.Session,
		e.Value, len(e.Value), e.Parts)
}

// randomEntries returns entries of all shapes: keys that share prefixes, keys of 1 byte and of 64 KiB, binary keys, few
// and many versions, all ops, with and without parts, a few datasets, values up to just above 256 KiB.
func randomEntries(rnd *rand.Rand, n int) []Entry {
	var es []Entry
	var prefixes [][]byte
	for range 4 {
		prefixes = append(prefixes, randomBytes(rnd, rnd.IntN(20)))
	}
	seen := map[string]bool{}
	lsn := event.LSN(1 + rnd.IntN(1000))
	for len(es) < n {
		ds := event.DatasetID([]uint32{1, 2, 256, 1 << 31}[min(rnd.IntN(20), 3)])
		key := randomKey(rnd, prefixes)
		if seen[fmt.Sprint(ds, key)] {
			continue
		}
		seen[fmt.Sprint(ds, key)] = true
		versions := 1
		switch rnd.IntN(12) {
		case 0:
			versions = 1 + rnd.IntN(60)
		case 1, 2:
			versions = 2
		}
		for range versions {
			lsn += event.LSN(1 + rnd.IntN(3))
			es = append(es, randomEntry(rnd, ds, key, lsn))
		}
	}
	sortEntries(es)
	return es
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func randomKey(rnd *rand.Rand, prefixes [][]byte) []byte {
	key := bytes.Clone(prefixes[rnd.IntN(len(prefixes))])
	switch rnd.IntN(20) {
	case 0:
		return randomBytes(rnd, 1)
	case 1: // around the 8 bytes of a prefix, with zeros
		return append(key, make([]byte, 1+rnd.IntN(12))...)
	case 2:
		if rnd.IntN(10) == 0 {
			return append(bytes.Repeat([]byte{'x'}, event.MaxKeyBytes-4), randomBytes(rnd, 4)...)
		}
		return append(key, randomBytes(rnd, 1+rnd.IntN(300))...)
	case 3, 4, 5:
		return append(key, randomBytes(rnd, 1+rnd.IntN(3))...)
	}
	return fmt.Appendf(key, "key-%06d", rnd.IntN(1_000_000))
}

func randomEntry(rnd *rand.Rand, ds event.DatasetID, key []byte, lsn event.LSN) Entry {
	e := Entry{Dataset: ds, Key: key, LSN: lsn, Time: testTime + int64(lsn)*1000 - int64(rnd.IntN(2))<<60, Op: event.OpPut,
		Session: event.SessionID(rnd.IntN(3)), Value: bytes.Repeat([]byte{byte(lsn)}, rnd.IntN(60))}
	switch rnd.IntN(30) {
	case 0:
		e.Op, e.Value = event.OpDelete, nil
	case 1:
		e.Op, e.Value, e.Parts = event.OpExpire, nil, event.AppendPrevLSN(nil, lsn-1)
	case 2:
		e.Op = event.OpMerge
	case 3, 4:
		e.Parts = event.AppendExpiry(nil, testTime+int64(rnd.IntN(50)))
	case 5:
		e.Parts = event.AppendRecordTime(event.AppendExpiry(nil, -int64(rnd.IntN(50))), int64(lsn))
	case 6:
		e.Flags, e.Value = event.FlagMore|event.FlagValueRef, event.AppendValueRef(nil, event.ValueRef{RawSize: 100,
			Pieces: []event.Piece{{File: 1, Offset: 4096, StoredLen: 100, RawLen: 100}}})
	case 7:
		if rnd.IntN(20) == 0 {
			e.Value = randomBytes(rnd, 256<<10+rnd.IntN(100))
		} else {
			e.Value = randomBytes(rnd, rnd.IntN(3000))
		}
	case 8:
		e.Parts = event.AppendAnnotations(nil, []event.Annotation{{Key: "reason", Value: "because"}})
	}
	return e
}
