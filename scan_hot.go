package dyngo

import (
	"bytes"
	"errors"

	"github.com/dyngodb/dyngo/index"
)

// A scan of a dataset with hot ranges goes part by part: what lies in a hot range is read from that alone, what lies between two from
// memory and segments. A hot range that can't serve the scan any more, be it dropped or too new for the scan's LSN, is read from there
// as well, from the key on at which it stopped.

// start is where a scan begins: at a key, backwards before it; nil is the end that it begins at.
func (r *Range) start() []byte {
	if r.Reverse {
		return r.To
	}
	return r.From
}

// end is where it ends.
func (r *Range) end() []byte {
	if r.Reverse {
		return r.From
	}
	return r.To
}

// beyond says whether nothing of the scanned range is left at a place.
func (s *scanner) beyond(at []byte) bool {
	end := s.whole.end()
	switch {
	case s.whole.Reverse:
		return at != nil && (len(at) == 0 || end != nil && bytes.Compare(at, end) <= 0)
	default:
		return end != nil && bytes.Compare(at, end) >= 0
	}
}

// enter goes on at a place, in the hot range that it lies in unless that is not, or else with what lies before the next one.
func (s *scanner) enter(at []byte, not *index.Range) {
	reverse := s.whole.Reverse
	r := hotAt(s.hot, at, reverse)
	if r != nil && r != not {
		s.in = r
		from, to := at, r.To
		if end := s.whole.To; end != nil && (to == nil || bytes.Compare(end, to) < 0) {
			to = end
		}
		if reverse {
			from, to = r.From, at
			if end := s.whole.From; end != nil && bytes.Compare(end, from) > 0 {
				from = end
			}
		}
		s.cursor.Seek(r, from, to, reverse, s.max)
		return
	}
	// Memory and segments, from here to the next hot range.
	s.in, s.r = nil, s.whole
	if reverse {
		s.r.To = at
	} else {
		s.r.From = at
	}
	n := after(s.hot, at, reverse)
	switch {
	case reverse:
		if r != nil {
			n-- // from not on
		}
		if n > 0 && s.hot[n-1].To != nil && (s.r.From == nil || bytes.Compare(s.hot[n-1].To, s.r.From) > 0) {
			s.r.From = s.hot[n-1].To
		}
	case n < len(s.hot) && (s.r.To == nil || bytes.Compare(s.hot[n].From, s.r.To) < 0):
		s.r.To = s.hot[n].From
	}
	s.restart()
}

// restart has the merge of memory and segments begin anew, with r.
func (s *scanner) restart() {
	s.close()
	s.pairs, s.values, s.i, s.start = s.pairs[:0], s.values[:0], 0, 0
	s.done, s.ahead, s.started = false, false, false
}

// nextPart is next for a dataset with hot ranges.
func (s *scanner) nextPart() (int, error) {
	for {
		var at []byte
		var not *index.Range
		if s.in == nil {
			if n, err := s.nextMerged(); n > 0 || err != nil {
				return n, err
			}
			if at = s.r.end(); at == nil {
				return 0, nil
			}
		} else {
			served := true
			if s.record == len(s.records) {
				room := scanStep
				if s.left > 0 {
					room = min(room, s.left)
				}
				var n int
				n, served = s.cursor.Next(s.records[:room])
				s.records, s.record = s.records[:n], 0
			}
			if s.record < len(s.records) {
				if n, err := s.hotPairs(); n > 0 || err != nil {
					return n, err
				}
				continue
			}
			switch {
			case !served:
				at, not = s.cursor.At, s.in
			case s.whole.Reverse:
				if at = s.in.From; len(at) == 0 {
					return 0, nil
				}
			default:
				if at = s.in.To; at == nil {
					return 0, nil
				}
			}
		}
		if s.beyond(at) {
			return 0, nil
		}
		s.enter(at, not)
	}
}

// hotPairs takes the next records of the hot range: as many as have their values, or one that has not.
func (s *scanner) hotPairs() (n int, err error) {
	if s.isClosed() {
		return 0, ErrClosed
	}
	if d := s.ds.dropped.Load(); d != 0 && LSN(d) <= s.max {
		return 0, s.ds.errDropped()
	}
	for s.record < len(s.records) {
		r, kv := s.records[s.record], &s.kvs[n]
		if r.Elsewhere() && n > 0 {
			break
		}
		s.record++
		expires := r.Expires()
		if expires != 0 && !s.ds.before(s.at, expires) {
			continue
		}
		kv.Key, kv.Value = r.Pair()
		s.stamp(kv, r.LSN(), r.Time(), expires)
		if s.r.KeysOnly || r.Elsewhere() {
			kv.Value = nil
		}
		if r.Elsewhere() {
			live, err := s.hotValue(kv)
			if live || err != nil {
				return one(live, err)
			}
			continue
		}
		n++
	}
	return n, nil
}

// hotValue finds a value that the hot range does not keep.
func (s *scanner) hotValue(kv *KV) (bool, error) {
	var f found
	err := s.ds.find(&f, kv.Key, s.max, s.at)
	if errors.Is(err, ErrNotFound) {
		return false, nil // it has expired, or was erased
	}
	if err != nil {
		return false, err
	}
	if s.r.KeysOnly && f.sealed() == nil {
		f.release()
		return true, nil
	}
	v := f.value(s.raw[:0])
	s.raw = v.inline
	s.pin(&v)
	f.release()
	return s.resolve(kv, &v)
}
