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
func (s *scanner) nextPart() (bool, error) {
	for {
		var at []byte
		var not *index.Range
		if s.in == nil {
			if live, err := s.nextMerged(); live || err != nil {
				return live, err
			}
			if at = s.r.end(); at == nil {
				return false, nil
			}
		} else {
			ok, served := s.cursor.Next(&s.record)
			if ok {
				if live, err := s.hotPair(); live || err != nil {
					return live, err
				}
				continue
			}
			switch {
			case !served:
				at, not = s.cursor.At, s.in
			case s.whole.Reverse:
				if at = s.in.From; len(at) == 0 {
					return false, nil
				}
			default:
				if at = s.in.To; at == nil {
					return false, nil
				}
			}
		}
		if s.beyond(at) {
			return false, nil
		}
		s.enter(at, not)
	}
}

// hotPair takes the pair at the cursor.
func (s *scanner) hotPair() (bool, error) {
	if s.closed != nil && s.closed.Load() || s.ds.db.closed.Load() {
		return false, ErrClosed
	}
	if d := s.ds.dropped.Load(); d != 0 && LSN(d) <= s.max {
		return false, s.ds.errDropped()
	}
	e := &s.record
	if e.Expires != 0 && !s.ds.before(s.at, e.Expires) {
		return false, nil
	}
	n := len(e.Key)
	s.last = append(append(s.last[:0], e.Key...), e.Value...)
	s.kv.Key, s.kv.Value = s.last[:n:n], nil
	s.stamp(e.LSN, e.Time, e.Expires)
	switch {
	case e.Elsewhere:
		return s.hotValue()
	case !s.r.KeysOnly:
		s.kv.Value = s.last[n:len(s.last):len(s.last)]
	}
	return true, nil
}

// hotValue finds a value that the hot range does not keep.
func (s *scanner) hotValue() (bool, error) {
	var f found
	err := s.ds.find(&f, s.kv.Key, s.max, s.at)
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
	return s.resolve(&v)
}
