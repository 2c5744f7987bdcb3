package blockcache

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/segment"
)

// What the store of the recordings looks like: every key in the oldest run, every 8th in the middle one, every 32nd in
// the newest. Keys have 16 bytes, values 120 that no codec makes smaller, so that a block of 16 KiB is one in the file.
const (
	storeKeys  = 1 << 21
	valueBytes = 120
	dataset    = event.DatasetID(1)
)

// store is three runs of segments in memory. Blocks come through its cache.
type store struct {
	fs    vfs.FS
	cache cache.Cache
	keys  uint64
	runs  [3]run // newest first
	files uint64 // numbers given so far
	noise []byte
}

type run struct {
	every, rest uint64 // the run has the keys whose number, spread, leaves this rest
	parts       []*part
}

// part is a segment with keys [from, to).
type part struct {
	from, to uint64
	r        *segment.Reader
}

// spread mixes key numbers, one to one below a power of two.
func spread(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 >> 7 }

func newStore(c cache.Cache, keys uint64) (*store, error) {
	s := &store{fs: vfs.NewMem(), cache: c, keys: keys, noise: make([]byte, 1<<16)}
	rng := rand.NewChaCha8([32]byte{'b', 'l', 'o', 'c', 'k'})
	_, _ = rng.Read(s.noise) // never fails
	s.runs = [3]run{{every: 32, rest: 1}, {every: 8, rest: 3}, {every: 1}}
	for i, parts := range []uint64{1, 2, 16} {
		r := &s.runs[i]
		for n := range parts {
			p, err := s.write(keys*n/parts, keys*(n+1)/parts, r, uint64(len(s.runs)-i)*keys)
			if err != nil {
				return nil, err
			}
			r.parts = append(r.parts, p)
		}
	}
	return s, nil
}

func (s *store) close() {
	for _, r := range s.runs {
		for _, p := range r.parts {
			_ = p.r.Close() // a file in memory, only read from
		}
	}
}

// fileBytes returns the size of all segments, which is about that of all blocks.
func (s *store) fileBytes() (n int64) {
	for _, r := range s.runs {
		for _, p := range r.parts {
			n += p.r.Properties().SizeBytes
		}
	}
	return n
}

// write makes a segment of the keys in [from, to) that a run has.
func (s *store) write(from, to uint64, r *run, lsn uint64) (*part, error) {
	name, w, err := s.create()
	if err != nil {
		return nil, err
	}
	key := newKey()
	for i := from; i < to; i++ {
		if spread(i)%r.every != r.rest {
			continue
		}
		at := spread(i) % uint64(len(s.noise)-valueBytes)
		e := segment.Entry{Dataset: dataset, Key: putKey(key, i), LSN: event.LSN(lsn + i), Op: event.OpPut,
			Value: s.noise[at : at+valueBytes]}
		if err := w.Add(&e); err != nil {
			return nil, err
		}
	}
	return s.finish(name, w, from, to)
}

// rewrite replaces a segment of the oldest run by a copy, as a compaction does: the blocks get other keys.
func (s *store) rewrite(n int) error {
	old := s.runs[2].parts[n]
	name, w, err := s.create()
	if err != nil {
		return err
	}
	it := old.r.NewIter(segment.IterOptions{NoFill: true})
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := w.Add(it.Entry()); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	p, err := s.finish(name, w, old.from, old.to)
	if err != nil {
		return err
	}
	s.runs[2].parts[n] = p
	return old.r.Close()
}

func (s *store) create() (string, *segment.Writer, error) {
	s.files++
	name := fmt.Sprintf("%010d.seg", s.files)
	w, err := segment.Create(s.fs, name, segment.WriterOptions{Num: s.files, Compression: segment.NoCompression})
	return name, w, err
}

func (s *store) finish(name string, w *segment.Writer, from, to uint64) (*part, error) {
	props, err := w.Finish()
	if err != nil {
		return nil, err
	}
	r, err := segment.Open(s.fs, name, segment.ReaderOptions{Cache: s.cache, Num: props.Num})
	if err != nil {
		return nil, err
	}
	return &part{from: from, to: to, r: r}, nil
}

// at returns the part of a run that has key i, if any has.
func (r *run) at(i uint64) *part {
	n, _ := slices.BinarySearchFunc(r.parts, i, func(p *part, i uint64) int {
		if p.to <= i {
			return -1
		}
		return 1
	})
	return r.parts[n]
}

func newKey() []byte { return []byte("customer--------") }

func putKey(k []byte, i uint64) []byte {
	binary.BigEndian.PutUint64(k[8:], i)
	return k
}

func keyNumber(k []byte) uint64 { return binary.BigEndian.Uint64(k[8:]) }

// point reads one key: the runs from the newest on, up to the first that has it.
func (s *store) point(i uint64) error {
	key := putKey(newKey(), i)
	hash := segment.Hash(0, dataset, key)
	var e segment.Entry
	for n := range s.runs {
		b, ok, err := s.runs[n].at(i).r.Get(dataset, key, hash, event.MaxLSN, &e)
		if err != nil {
			return err
		}
		if ok {
			b.Release()
			return nil
		}
	}
	return fmt.Errorf("key %d is in no segment", i)
}

// scan reads up to n keys from i on, in all runs, to the end of the segment at most.
func (s *store) scan(i, n uint64) error {
	key := putKey(newKey(), i)
	for r := range s.runs {
		it := s.runs[r].at(i).r.NewIter(segment.IterOptions{})
		for ok := it.SeekGE(dataset, key); ok && keyNumber(it.Entry().Key) < i+n; {
			ok = it.Next()
		}
		err := it.Err()
		it.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep reads all keys of all runs in order, again and again, some at a time.
type sweep struct {
	s   *store
	pos uint64
	its [3]*segment.Iter // nil: at the start of the part that has pos
}

// next reads n keys on.
func (w *sweep) next(n uint64) error {
	to := min(w.pos+n, w.s.keys)
	for r := range w.s.runs {
		for from := w.pos; from < to; {
			p := w.s.runs[r].at(from)
			it := w.its[r]
			ok := true
			if it == nil {
				it = p.r.NewIter(segment.IterOptions{})
				w.its[r], ok = it, it.First()
			} else {
				ok = it.Valid()
			}
			for ok && keyNumber(it.Entry().Key) < to {
				ok = it.Next()
			}
			if err := it.Err(); err != nil {
				return err
			}
			if from = min(to, p.to); from == p.to {
				w.close(r)
			}
		}
	}
	w.pos = to % w.s.keys
	return nil
}

func (w *sweep) close(r int) {
	if w.its[r] != nil {
		w.its[r].Close()
		w.its[r] = nil
	}
}
