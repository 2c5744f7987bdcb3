package dyngo

import (
	"bytes"
	"iter"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/memtable"
)

type guard = epoch.Guard

const (
	firstScanBatch = 16 // pairs copied under one pin: few at first, since many scans end soon
	maxScanBatch   = 512
	maxScanBytes   = 256 << 10
)

// Scan yields the pairs of a range in key order, all at one LSN: what the dataset's consistency makes visible when the
// sequence begins. kv.Key and kv.Value are valid until the next step. An error ends the sequence. The sequence holds old
// versions back until it ends; it may be left at any time. The first scan of a dataset turns its order on, which costs one
// sort of what is there.
func (ds *Dataset) Scan(r Range) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		var v *View
		var err error
		if ds.opts.Consistency == Strong {
			v, err = ds.db.View()
		} else {
			v, err = ds.db.ViewApplied()
		}
		if err != nil {
			yield(KV{}, err)
			return
		}
		defer v.Close()
		ds.scan(r, v.lsn, v.at, nil, yield)
	}
}

// scan yields the pairs of a range at (max, at). Nothing is pinned while the caller works; the scan only holds the files that
// it reads from.
func (ds *Dataset) scan(r Range, max LSN, at int64, closed *atomic.Bool, yield func(KV, error) bool) {
	if len(r.From) > MaxKeyBytes || len(r.To) > MaxKeyBytes {
		yield(KV{}, limitError("range end of %d bytes, at most %d are allowed", len(r.From)+len(r.To), MaxKeyBytes))
		return
	}
	if r.Limit < 0 {
		yield(KV{}, limitError("Range.Limit is %d, it can't be negative", r.Limit))
		return
	}
	s := scanner{ds: ds, r: r, max: max, at: at, closed: closed}
	defer s.close()
	for left := r.Limit; ; left-- {
		kv, ok, err := s.next()
		if err != nil {
			yield(KV{}, openError(ds.db.dir, err))
			return
		}
		if !ok || !yield(kv, nil) || left == 1 {
			return
		}
	}
}

// scanner merges what memory has of a range with what the segments have. Of a key that both have, memory's version is the
// newer one.
//
// Memory is read in steps: under a pin some versions are copied, deletes included; then the pin is given back. The segments
// are those that were current when the scan last looked for departures. No key is lost when a generation leaves memory:
//
//  1. A generation's segment is current before its departure begins, and departures is raised before its first key goes.
//  2. A step of memory counts only if departures was the same before and after it. So what it did not see had left before,
//     and is in the segments, which were looked at after departures was read. Else the step is repeated with the segments
//     that are current then, from the last key on.
//  3. The version that the scan has to see stays in some segment: its LSN is held.
type scanner struct {
	ds     *Dataset
	r      Range
	max    LSN
	at     int64
	closed *atomic.Bool // of the view, may be nil

	departures uint64
	ranges     *memtable.RangeDeletes
	src        *sources  // with a reference; nil before the first step
	disk       *diskScan // nil when there are no segments
	mem        *memtable.Iterator

	items []memtable.Item
	pairs []pair // copied from memory, in the order of the scan
	buf   []byte // what they lie in
	i     int    // next pair
	start int    // where its key begins in buf
	done  bool   // memory has no more

	pinned uint64 // log file, 0 = none: values of spilled batches in pairs lie in it or later ones

	last    []byte // the key passed last
	started bool
	val     []byte // holds the last value that was not plain in memory
	raw     []byte // the same as it is stored, of segments
}

// pair is one version copied out of memory.
type pair struct {
	keyEnd  int // of the key in buf, which begins at the previous pair's valEnd
	valEnd  int
	value   value // what is not inline
	plain   bool  // the value lies in buf
	dead    bool  // not a value: it only hides what segments have
	lsn     LSN
	time    int64
	expires int64
}

func (s *scanner) close() {
	s.unpin()
	if s.disk != nil {
		s.disk.close()
	}
	if s.src != nil {
		s.src.release()
	}
}

// pin keeps the log file in which a value of a spilled batch lies until the pairs were passed: its record may leave memory
// before. Large values need no pin, since their version stays in some segment. The record is pinned.
func (s *scanner) pin(v *value) {
	if !v.stub || s.pinned != 0 && s.pinned <= v.log.File {
		return
	}
	s.ds.db.holds.pin(v.log.File)
	s.unpin()
	s.pinned = v.log.File
}

func (s *scanner) unpin() {
	if s.pinned != 0 {
		s.ds.db.holds.unpin(s.pinned)
		s.pinned = 0
	}
}

// next returns the next live pair.
func (s *scanner) next() (KV, bool, error) {
	for {
		if s.i == len(s.pairs) && !s.done {
			if err := s.step(); err != nil {
				return KV{}, false, err
			}
			continue
		}
		if s.closed != nil && s.closed.Load() || s.ds.db.closed.Load() {
			return KV{}, false, ErrClosed
		}
		var key []byte
		if s.i < len(s.pairs) {
			key = s.buf[s.start:s.pairs[s.i].keyEnd]
		}
		fromDisk := false
		if s.disk != nil {
			ok, err := s.disk.valid()
			if err != nil {
				return KV{}, false, err
			}
			if ok {
				order := -1
				if key != nil {
					if order = bytes.Compare(s.disk.key(), key); s.r.Reverse {
						order = -order
					}
				}
				if order == 0 {
					s.disk.next() // memory's version is newer
				}
				fromDisk = order < 0
			}
		}
		switch {
		case fromDisk:
			kv, live, err := s.diskPair()
			if live || err != nil {
				return kv, live, err
			}
		case key == nil:
			return KV{}, false, nil
		default:
			kv, live, err := s.memPair()
			if live || err != nil {
				return kv, live, err
			}
		}
	}
}

// memPair takes the next pair of memory.
func (s *scanner) memPair() (KV, bool, error) {
	p := &s.pairs[s.i]
	key := s.buf[s.start:p.keyEnd:p.keyEnd]
	s.pass(key)
	s.i++
	s.start = p.valEnd
	if p.dead {
		return KV{}, false, nil
	}
	kv := KV{Key: key, LSN: p.lsn, Time: unixTime(p.time), Expires: unixTime(p.expires)}
	switch {
	case s.r.KeysOnly:
	case p.plain:
		kv.Value = s.buf[p.keyEnd:p.valEnd:p.valEnd]
	default:
		return s.resolve(kv, p.value)
	}
	return kv, true, nil
}

// diskPair takes the next pair of the segments.
func (s *scanner) diskPair() (KV, bool, error) {
	e := s.disk.entry()
	s.pass(e.Key)
	defer s.disk.next()
	if !s.ds.entryAlive(s.ranges, e, e.Key, s.max, s.at) {
		return KV{}, false, nil
	}
	kv := KV{Key: s.last, LSN: e.LSN, Time: unixTime(e.Time)}
	if due, ok := event.Expiry(e.Parts); ok {
		kv.Expires = unixTime(due)
	}
	if s.r.KeysOnly {
		return kv, true, nil
	}
	v := loadEntry(e, s.raw[:0])
	s.raw = v.inline
	return s.resolve(kv, v)
}

func (s *scanner) resolve(kv KV, v value) (KV, bool, error) {
	db := s.ds.db
	call := db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if db.closed.Load() {
		return KV{}, false, ErrClosed
	}
	var err error
	if s.val, err = v.resolve(db, s.val[:0]); err != nil {
		if s.closed != nil && s.closed.Load() { // meanwhile: what the view saw may have gone
			return KV{}, false, ErrClosed
		}
		return KV{}, false, err
	}
	kv.Value = s.val
	return kv, true, nil
}

// pass remembers the key that the scan is at.
func (s *scanner) pass(key []byte) {
	s.last, s.started = append(s.last[:0], key...), true
}

// rest is the range that is still to be visited.
func (s *scanner) rest() Range {
	r := s.r
	if s.started {
		if r.Reverse {
			r.To = bytes.Clone(s.last)
		} else {
			r.From = append(bytes.Clone(s.last), 0) // the smallest key after it
		}
	}
	return r
}

// begin looks at the sources that are current now, from the last key on.
func (s *scanner) begin(departures uint64) error {
	db := s.ds.db
	s.close()
	s.disk, s.src = nil, nil
	s.departures = departures
	s.ranges = s.ds.ranges.Snapshot() // before the segments: of what is forgotten later nothing is left in later ones
	s.src = db.sorted.acquire()
	r := s.rest()
	if !s.src.empty() {
		s.disk = newDiskScan(s.src, s.ds.id, s.ranges, r, s.max)
	}
	// The first scan of a dataset sorts it: that may take long, so it must not pin reads; Close waits for it all the same.
	call := db.calls.Enter()
	defer call.Exit()
	if db.closed.Load() {
		return ErrClosed
	}
	s.mem = db.mem.Scan(s.ds.id, memtable.ScanOptions{From: r.From, To: r.To, Reverse: r.Reverse, KeysOnly: r.KeysOnly, Max: s.max})
	return nil
}

// step copies the next versions of memory.
func (s *scanner) step() error {
	db := s.ds.db
	for {
		departures := db.mem.Departures()
		if s.src == nil || departures != s.departures {
			if err := s.begin(departures); err != nil {
				return err
			}
		}
		if err := s.copy(); err != nil {
			return err
		}
		if db.mem.Departures() == departures {
			break
		}
		s.pairs = s.pairs[:0]
	}
	s.i, s.start = 0, 0
	return nil
}

// copy is one step under a pin.
func (s *scanner) copy() error {
	db := s.ds.db
	switch {
	case s.items == nil:
		s.items = make([]memtable.Item, firstScanBatch)
	case len(s.items) < maxScanBatch && len(s.buf) < maxScanBytes/4:
		s.items = make([]memtable.Item, len(s.items)*4)
	}
	g := db.reads.Enter()
	defer g.Exit()
	if db.closed.Load() || s.closed != nil && s.closed.Load() {
		return ErrClosed
	}
	if d := s.ds.dropped.Load(); d != 0 && LSN(d) <= s.max {
		return s.ds.errDropped()
	}
	n := s.mem.Next(s.items)
	s.done = n == 0
	s.pairs, s.buf = s.pairs[:0], s.buf[:0]
	s.unpin()
	for _, item := range s.items[:n] {
		rec := item.Record
		p := pair{lsn: rec.LSN(), time: rec.Time(), dead: !s.ds.alive(s.ranges, rec, s.max, s.at)}
		if p.dead && s.disk == nil {
			continue
		}
		if due, ok := expiryOf(rec); ok {
			p.expires = due
		}
		s.buf = append(s.buf, rec.Key()...)
		p.keyEnd = len(s.buf)
		if !s.r.KeysOnly && !p.dead {
			if p.plain = plain(rec); p.plain {
				s.buf = append(s.buf, rec.Value()...)
			} else {
				p.value = loadValue(rec, nil)
				s.pin(&p.value)
			}
		}
		p.valEnd = len(s.buf)
		s.pairs = append(s.pairs, p)
	}
	return nil
}
