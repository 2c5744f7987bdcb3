package dyngo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
)

// scan yields the pairs of a range as they were.
func (p *past) scan(ds *Dataset, r Range, closed *atomic.Bool, yield func(KV, error) bool) {
	if err := r.check(); err != nil {
		yield(KV{}, err)
		return
	}
	s := &pastScan{p: p, ds: ds, r: r, viewClosed: closed}
	defer s.close()
	for left := r.Limit; ; left-- {
		ok, err := s.next()
		if err != nil {
			yield(KV{}, p.explain(err))
			return
		}
		if !ok || !yield(s.kv, nil) || left == 1 {
			return
		}
	}
}

// pastScan merges the side files and overlays of a view's log files, which have all versions above the floor, with what the
// segments have: of each key it takes the newest version, wherever that is; see past. The segments' version has its value at
// hand, that of a log file has not: if memory has the same version, the log is spared. Memory of its own is one block for
// each file.
type pastScan struct {
	p          *past
	ds         *Dataset
	r          Range
	viewClosed *atomic.Bool

	begun  bool
	src    *sources // with a reference
	disk   diskScan
	ranges *memtable.RangeDeletes
	files  []*pastCursor // all, by log file
	live   []*pastCursor // those with another key, by it in the order of the scan

	key    []byte // visited last
	at     int    // so many of live are still at it
	onDisk bool   // so are the segments
	kv     KV
	val    []byte
	raw    []byte
}

// pastCursor visits the keys of one log file, of each the newest event up to the view's LSN that had an effect, or those of a
// history segment.
type pastCursor struct {
	layer int
	file  *sideFile // nil: a history segment
	it    *segment.Iter
	at    place
	was   formerVersion // of a history segment
	key   []byte
	err   error
}

func (s *pastScan) close() {
	for _, c := range s.files {
		c.it.Close()
		if c.file != nil {
			s.p.db.side.put(c.file)
		}
	}
	s.files, s.live = nil, nil
	s.at, s.onDisk = 0, false
	if s.src != nil {
		s.disk.close()
		s.src.release()
		s.src = nil
	}
}

// rest is the range that is still to be visited.
func (s *pastScan) rest() Range {
	r := s.r
	if s.key != nil {
		if r.Reverse {
			r.To = bytes.Clone(s.key)
		} else {
			r.From = append(bytes.Clone(s.key), 0) // the smallest key after it
		}
	}
	return r
}

// begin places the scan behind the key visited last.
func (s *pastScan) begin() (err error) {
	p, ctx, r := s.p, context.Background(), s.rest()
	s.begun = true
	if s.ranges, err = p.rangesOf(ctx, s.ds.id); err != nil {
		return err
	}
	s.src = p.db.sorted.acquire()
	s.disk.begin(s.src, event.MaxLSN, s.ds.id, s.ranges, r, p.lsn, 0)
	for i := range p.files {
		f, err := p.layer(ctx, i)
		if err != nil {
			return err
		}
		if err := s.start(&pastCursor{layer: i, file: f, it: f.NewIter(segment.IterOptions{})}, r); err != nil {
			return err
		}
	}
	for _, h := range s.src.history {
		if err := s.start(&pastCursor{it: h.NewIter(segment.IterOptions{})}, r); err != nil {
			return err
		}
	}
	slices.SortFunc(s.live, func(a, b *pastCursor) int { return s.compare(a.key, b.key) })
	return nil
}

// start places a cursor at its first key.
func (s *pastScan) start(c *pastCursor, r Range) error {
	s.files = append(s.files, c)
	switch {
	case !r.Reverse:
		c.it.SeekGE(s.ds.id, r.From)
	case r.To == nil:
		c.it.SeekLT(s.ds.id+1, nil)
	default:
		c.it.SeekLT(s.ds.id, r.To)
	}
	if c.settle(s); c.err != nil {
		return s.damaged(c)
	}
	if c.key != nil {
		s.live = append(s.live, c)
	}
	return nil
}

// errAgain says that a layer was damaged and can be made anew.
var errAgain = errors.New("again")

func (s *pastScan) damaged(c *pastCursor) error {
	if c.file != nil && errors.Is(c.err, ErrCorrupt) && s.p.discard(c.layer, c.file) {
		return errAgain
	}
	return c.err
}

func (s *pastScan) compare(a, b []byte) int {
	if s.r.Reverse {
		return bytes.Compare(b, a)
	}
	return bytes.Compare(a, b)
}

// settle takes the key that the iterator stands at, or the next one that has an event that counts, and passes over it. Going
// back, the events of a key come oldest first.
func (c *pastCursor) settle(s *pastScan) {
	found := false
	for c.err == nil {
		if !c.it.Valid() {
			c.err = c.it.Err()
			break
		}
		e := c.it.Entry()
		if e.Dataset != s.ds.id || s.r.Reverse && bytes.Compare(e.Key, s.r.From) < 0 ||
			!s.r.Reverse && s.r.To != nil && bytes.Compare(e.Key, s.r.To) >= 0 {
			break
		}
		if found && !bytes.Equal(e.Key, c.key) {
			return
		}
		if e.LSN <= s.p.lsn && e.Flags&event.FlagNotApplied == 0 && (!found || s.r.Reverse) &&
			(c.file == nil || e.Op != event.OpRedact) {
			c.key = append(c.key[:0], e.Key...)
			c.take(e)
			found = true
		}
		if s.r.Reverse {
			c.it.Prev()
		} else {
			c.it.Next()
		}
	}
	if !found || c.err != nil {
		c.key = nil
	}
}

// take remembers an event.
func (c *pastCursor) take(e *segment.Entry) {
	if c.file != nil {
		c.at, c.err = c.file.placeOf(e)
		return
	}
	c.at = place{op: e.Op, lsn: e.LSN}
	c.was.set(e)
}

// next goes to the next pair, which is in kv then, and reports whether there is one.
func (s *pastScan) next() (bool, error) {
	db := s.p.db
	call := db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	for {
		if db.closed.Load() || s.viewClosed.Load() {
			return false, ErrClosed
		}
		var live bool
		var err error
		if !s.begun {
			err = s.begin()
		}
		if err == nil {
			live, err = s.step()
		}
		switch {
		case err == errAgain:
			s.close()
			s.begun = false
		case err == errEnd:
			return false, nil
		case live || err != nil:
			return live, err
		}
	}
}

var errEnd = errors.New("end")

// step visits one key and reports whether it has a value.
func (s *pastScan) step() (bool, error) {
	if err := s.advance(); err != nil {
		return false, err
	}
	onDisk, err := s.disk.valid()
	if err != nil {
		return false, err
	}
	switch {
	case onDisk && (len(s.live) == 0 || s.compare(s.disk.key(), s.live[0].key) <= 0):
		s.key = append(s.key[:0], s.disk.key()...)
	case len(s.live) > 0:
		s.key = append(s.key[:0], s.live[0].key...)
		onDisk = false
	default:
		return false, errEnd
	}
	var newest *pastCursor
	logged := LSN(0)
	for s.at = 0; s.at < len(s.live) && bytes.Equal(s.live[s.at].key, s.key); s.at++ {
		if c := s.live[s.at]; c.at.lsn > logged {
			newest, logged = c, c.at.lsn
		}
	}
	s.onDisk = onDisk
	if onDisk && s.disk.entry().LSN >= logged {
		return s.segmentPair(s.disk.entry())
	}
	if newest.at.op == event.OpRedact {
		return false, s.p.errLost(logged)
	}
	if !s.p.mayLive(s.ranges, newest.at.op, s.key, logged) {
		return false, nil
	}
	if newest.file == nil {
		return s.formerPair(&newest.was)
	}
	return s.loggedPair(&newest.at)
}

// advance moves what is at the key visited last on.
func (s *pastScan) advance() error {
	if s.onDisk {
		s.disk.next()
	}
	n := s.at
	s.at, s.onDisk = 0, false
	for i := n - 1; i >= 0; i-- {
		c := s.live[i]
		c.settle(s)
		if c.err != nil {
			return s.damaged(c)
		}
		if c.key == nil {
			s.live = slices.Delete(s.live, i, i+1)
			continue
		}
		for j := i; j+1 < len(s.live) && s.compare(s.live[j+1].key, s.live[j].key) < 0; j++ {
			s.live[j], s.live[j+1] = s.live[j+1], s.live[j]
		}
	}
	return nil
}

// segmentPair makes a pair of a version in a segment.
func (s *pastScan) segmentPair(e *segment.Entry) (bool, error) {
	if !s.ds.entryAlive(s.ranges, e, s.key, s.p.lsn, s.p.at) {
		return false, nil
	}
	due, _ := event.Expiry(e.Parts)
	s.pair(e.LSN, e.Time, due)
	if s.r.KeysOnly && e.Flags&closedFlags == 0 {
		return true, nil
	}
	v := loadEntry(e, s.raw[:0])
	s.raw = v.inline
	return s.resolve(&v)
}

// loggedPair makes a pair of a version in the log, which is read unless memory has it.
func (s *pastScan) loggedPair(at *place) (bool, error) {
	db := s.p.db
	g := db.reads.Enter()
	if r, ok := db.mem.Get(db.mem.Hash(s.ds.id, s.key), s.ds.id, s.key, s.p.lsn); ok && r.LSN() == at.lsn {
		due, expires := expiryOf(r)
		if expires && s.p.at >= due {
			g.Exit()
			return false, nil
		}
		s.pair(at.lsn, at.time, due)
		if s.r.KeysOnly && r.Flags()&closedFlags == 0 {
			g.Exit()
			return true, nil
		}
		v := loadValue(r, s.raw[:0])
		if !v.stub {
			s.raw = v.inline
		}
		g.Exit()
		return s.resolve(&v)
	}
	g.Exit()
	f, err := db.readFormer(at)
	if err != nil {
		return false, err
	}
	return s.formerPair(f)
}

// formerPair makes a pair of a version that was read from the log or history.
func (s *pastScan) formerPair(f *formerVersion) (bool, error) {
	if !s.p.lives(s.ranges, f, s.key) {
		return false, nil
	}
	due, _ := event.Expiry(f.parts)
	s.pair(f.lsn, f.time, due)
	if s.r.KeysOnly && f.flags&closedFlags == 0 {
		return true, nil
	}
	v := f.stored(s.key)
	return s.resolve(&v)
}

// pair sets all of the pair but the value.
func (s *pastScan) pair(lsn LSN, time, due int64) {
	s.kv = KV{Key: s.key[:len(s.key):len(s.key)], LSN: lsn, Time: unixTime(time), Expires: unixTime(due)}
}

// resolve reads the value of the pair. It reports false if the value's subject was erased.
func (s *pastScan) resolve(v *value) (bool, error) {
	db := s.p.db
	var err error
	if v.sealed != nil {
		if gone, err := db.erased(v.sealed); gone || err != nil || s.r.KeysOnly {
			return !gone && err == nil, err
		}
		if s.kv.Subject, err = db.subject(v.sealed); err != nil {
			return false, err
		}
	}
	read := db.valueReads.Enter() // retention waits
	defer read.Exit()
	if s.val == nil {
		s.val = []byte{} // an empty value is one
	}
	s.val, err = v.resolve(db, s.val[:0])
	s.kv.Value = s.val
	if errors.Is(err, ErrErased) { // just now
		return false, nil
	}
	return err == nil, err
}
