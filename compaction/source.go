package compaction

import (
	"fmt"
	"sort"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/iter"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// InputError is the failure to read an input. If it matches corruption.ErrCorrupt, the segment is damaged.
type InputError struct {
	Num manifest.FileNum
	Err error
}

// Error names the segment; what it wraps names file and offset if they are known.
func (e *InputError) Error() string { return fmt.Sprintf("read segment %s: %v", e.Num, e.Err) }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// source is the inputs of one run, one after the other. One of them is open at a time.
type source struct {
	segs []*manifest.Segment // of one run, with entries, in key order
	open OpenFunc

	i     int // of the open one
	it    *segment.Iter
	close func()
	err   error
}

var _ iter.Source = (*source)(nil)

// load opens segment i, if there is one.
func (s *source) load(i int) bool {
	if s.it != nil && s.i == i {
		return true
	}
	s.release()
	if i < 0 || i >= len(s.segs) || s.err != nil {
		return false
	}
	r, done, err := s.open(s.segs[i])
	if err != nil {
		s.err = &InputError{s.segs[i].Num, err}
		return false
	}
	s.i, s.it, s.close = i, r.NewIter(segment.IterOptions{NoFill: true}), done
	return true
}

// release closes what is open.
func (s *source) release() {
	if s.it != nil {
		s.it.Close()
		s.close()
		s.it = nil
	}
}

// on goes on to the neighbour in a direction when the open segment has come to its end.
func (s *source) on(ok bool, step int) bool {
	for !ok {
		if s.it == nil {
			return false
		}
		if err := s.it.Err(); err != nil {
			s.err = &InputError{s.segs[s.i].Num, err}
			s.release()
			return false
		}
		if !s.load(s.i + step) {
			return false
		}
		if step > 0 {
			ok = s.it.First()
		} else {
			ok = s.it.Last()
		}
	}
	return true
}

func (s *source) First() bool { return s.load(0) && s.on(s.it.First(), 1) }
func (s *source) Last() bool  { return s.load(len(s.segs)-1) && s.on(s.it.Last(), -1) }
func (s *source) Next() bool  { return s.it != nil && s.on(s.it.Next(), 1) }
func (s *source) Prev() bool  { return s.it != nil && s.on(s.it.Prev(), -1) }
func (s *source) Err() error  { return s.err }

func (s *source) SeekGE(ds event.DatasetID, key []byte) bool {
	k := manifest.Key{Dataset: ds, Key: key}
	i := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].Largest.Compare(k) >= 0 })
	return s.load(i) && s.on(s.it.SeekGE(ds, key), 1)
}

func (s *source) SeekLT(ds event.DatasetID, key []byte) bool {
	k := manifest.Key{Dataset: ds, Key: key}
	i := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].Smallest.Compare(k) >= 0 })
	return s.load(i-1) && s.on(s.it.SeekLT(ds, key), -1)
}

func (s *source) At() (event.DatasetID, []byte, event.LSN) {
	e := s.it.Entry()
	return e.Dataset, e.Key, e.LSN
}

// entry returns the version that the source stands on, valid until it moves.
func (s *source) entry() *segment.Entry { return s.it.Entry() }
