package memtable

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
)

const entryBytes = 16

// entry stands for a key in a run.
type entry struct {
	prefix uint64 // 8 bytes of the key after the run's common prefix, big-endian, short keys padded with zeros
	pos    uint64 // Pos of some version of the key; atomic once the run is published
}

func (e *entry) load() tail.Pos { return tail.Pos(atomic.LoadUint64(&e.pos)) }

// run holds keys of one dataset in order, each once. Its memory lies outside Go's heap. It is immutable but for the
// entries' pos, which may move to another version of the same key.
type run struct {
	mem     []byte
	es      []entry // in mem
	common  string  // all keys begin with it
	merging bool    // guarded by ordered.collectMu
}

// newRun returns a run with room for n entries.
func newRun(n int) *run {
	r := &run{mem: offheap.Alloc(n * entryBytes)}
	if n > 0 {
		r.es = unsafe.Slice((*entry)(unsafe.Pointer(unsafe.SliceData(r.mem))), n)
	}
	return r
}

func (r *run) free() { offheap.Free(r.mem) }

// prefixAt returns the 8 bytes of key from skip on.
func prefixAt(key []byte, skip int) uint64 {
	key = key[skip:]
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// commonLen returns how many bytes a and b share at the start.
func commonLen[A, B []byte | string](a A, b B) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// widen says how to compute prefixes after a shorter common prefix, of which skip bytes are left: the bytes that are no
// longer skipped move in from the left.
func (r *run) widen(skip int) (high uint64, shift uint) {
	d := len(r.common) - skip
	if d == 0 {
		return 0, 0
	}
	var b [8]byte
	copy(b[:], r.common[skip:])
	return binary.BigEndian.Uint64(b[:]), uint(8 * d)
}

// seek returns the index of the first key ≥ key.
func (r *run) seek(a *tail.Arena, key []byte) int { return r.seekFrom(a, key, 0) }

// seekFrom is seek for a key that is known to be at or behind index lo. It is fast when the answer is near lo.
func (r *run) seekFrom(a *tail.Arena, key []byte, lo int) int {
	skip := len(r.common)
	if len(key) < skip || string(key[:skip]) != r.common {
		if string(key) <= r.common {
			return lo
		}
		return len(r.es)
	}
	want := prefixAt(key, skip)
	lo = r.seekPrefix(want, lo)
	// Among equal prefixes the keys themselves decide.
	hi := lo
	for step := 1; hi < len(r.es) && r.es[hi].prefix == want && bytes.Compare(r.key(a, hi), key) < 0; step *= 2 {
		lo = hi + 1
		hi += step
	}
	hi = min(hi, len(r.es))
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if r.es[m].prefix == want && bytes.Compare(r.key(a, m), key) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// seekPrefix returns the index of the first entry from lo on whose prefix is ≥ want. It is fast when that is near lo.
func (r *run) seekPrefix(want uint64, lo int) int {
	step := 8
	if lo == 0 {
		step = len(r.es)
	}
	hi := lo
	for hi < len(r.es) && r.es[hi].prefix < want {
		lo = hi + 1
		hi = min(hi+step, len(r.es))
		step *= 2
	}
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if r.es[m].prefix < want {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

func (r *run) key(a *tail.Arena, i int) []byte { return a.Record(r.es[i].load()).Key() }

// runSet is what a scan reads: runs that together hold each key of the dataset at least once. It is immutable.
type runSet struct {
	runs []*run // largest first, roughly
	skip int    // bytes that all keys share
}

func newRunSet(runs []*run) *runSet {
	s := &runSet{runs: runs}
	for i, r := range runs {
		if i == 0 {
			s.skip = len(r.common)
		}
		s.skip = min(s.skip, commonLen(r.common, runs[0].common))
	}
	return s
}

func (s *runSet) entries() int {
	n := 0
	for _, r := range s.runs {
		n += len(r.es)
	}
	return n
}
