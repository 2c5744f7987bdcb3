package dyngo

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/index"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/internal/heat"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
)

type guard = epoch.Guard

const (
	firstScanBatch = 16 // pairs copied under one pin: few at first, since many scans end soon
	maxScanBatch   = 64
	maxScanBytes   = 256 << 10
	scanStep       = 16 // records found at a time: what was just found is copied while the processor's caches have it
)

// Scan yields the pairs of a range in key order, all at one LSN: what the dataset's consistency makes visible when the
// sequence begins. kv.Key and kv.Value are valid until the next step. An error ends the sequence. The sequence holds old
// versions back until it ends; it may be left at any time. The first scan of a dataset turns its order on, which costs one
// sort of what is there.
func (ds *Dataset) Scan(r Range) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) { ds.scanNow(r, yield) } // short: so it is inlined, and loops don't allocate
}

func (ds *Dataset) scanNow(r Range, yield func(KV, error) bool) {
	lsn, at, err := ds.db.holdLSN(ds.opts.Consistency != Strong)
	if err != nil {
		yield(KV{}, err)
		return
	}
	defer ds.db.views.drop(lsn)
	ds.scan(r, lsn, at, nil, yield)
}

// scan yields the pairs of a range at (max, at). Nothing is pinned while the caller works; the scan only holds the files that
// it reads from.
func (ds *Dataset) scan(r Range, max LSN, at int64, closed *atomic.Bool, yield func(KV, error) bool) {
	if err := r.check(); err != nil {
		yield(KV{}, err)
		return
	}
	s := scanners.Get().(*scanner)
	s.ds, s.r, s.whole, s.max, s.at, s.closed = ds, r, r, max, at, closed
	defer s.free()
	g := ds.db.reads.Enter() // numbered: what is sampled goes by that
	s.sampled, s.stripe = ds.db.heat.Due(g.Tick()), g.Stripe()
	g.Exit()
	if list := ds.hot.list.Load(); list != nil {
		s.hot = *list
		s.enter(r.start(), nil)
	}
	for s.left = r.Limit; ; {
		n, err := s.nextTimed()
		if err != nil {
			yield(KV{}, openError(ds.db.dir, err))
			return
		}
		if n == 0 {
			s.sample(nil)
			return
		}
		for i := range n {
			kv := &s.kvs[i]
			if i > 0 && s.isClosed() {
				yield(KV{}, openError(ds.db.dir, ErrClosed))
				return
			}
			last := s.left == 1
			if last {
				s.detach(kv)
			}
			if !yield(*kv, nil) || last {
				s.sample(kv.Key)
				return
			}
			if s.left > 0 {
				s.left--
			}
		}
	}
}

// isClosed says whether nothing may be read any more.
func (s *scanner) isClosed() bool { return s.closed != nil && s.closed.Load() || s.ds.db.closed.Load() }

// sample tells how far the scan has come, if it is to be told: to a key, nil = all of its range.
func (s *scanner) sample(last []byte) {
	if !s.sampled {
		return
	}
	s.ds.db.keeper.scans.Add(1)
	from, to, reach := s.whole.From, s.whole.To, heat.Before
	if s.whole.To == nil {
		reach = heat.ToEnd
	}
	switch {
	case last == nil:
	case s.whole.Reverse:
		from = last
	default:
		to, reach = last, heat.Through
	}
	s.ds.db.heat.AddScan(s.stripe, s.ds.id, from, to, reach)
}

func (r *Range) check() error {
	if len(r.From) > MaxKeyBytes || len(r.To) > MaxKeyBytes {
		return limitError("range end of %d bytes, at most %d are allowed", len(r.From)+len(r.To), MaxKeyBytes)
	}
	if r.Limit < 0 {
		return limitError("Range.Limit is %d, it can't be negative", r.Limit)
	}
	return nil
}

// scanners keeps scanners with their buffers. One that panics in the caller's loop goes there too: it is reset in any case.
var scanners = sync.Pool{New: func() any { return &scanner{records: make([]index.Record, 0, scanStep)} }}

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
//     Of runs that only have newer events than what has left by then, memory has everything: they are passed over.
//  3. The version that the scan has to see stays in some segment: its LSN is held.
type scanner struct {
	ds     *Dataset
	r      Range
	max    LSN
	at     int64
	closed *atomic.Bool // of the view, may be nil

	departures uint64
	ranges     memtable.RangeDeletes
	src        *sources // with a reference; nil before the first step
	onDisk     bool     // there are segments: disk is in use
	disk       diskScan
	mem        memtable.Iterator

	sampled bool // it is one of those that are told to heat
	stripe  int  // where its first guard was counted

	hot    []*index.Range // of the dataset; nil = there are none, and r is all that is scanned
	whole  Range          // what is scanned, of which r is the part without a hot range that the scan is in, or in is the hot one:
	in     *index.Range   // nil = r
	cursor index.Cursor   // of in
	// records are what cursor returned, from record on still to be visited.
	records []index.Record
	record  int
	// building says that the scan fills a hot range: it is not answered by others, and does not resolve what they don't keep.
	building, elsewhere bool

	left   int     // of the limit, the present pair included; 0 = no limit
	batch  int     // pairs that a step copies
	pairs  []pair  // copied from memory, in the order of the scan
	values []value // of pairs whose value is not plain
	buf    []byte  // what they lie in
	copied []byte  // what pairs of the segments lie in that next found last
	i      int     // next pair
	start  int     // where its key begins in buf
	done   bool    // memory has no more

	pinned uint64 // log file, 0 = none: values of spilled batches in pairs lie in it or later ones

	// kvs is what next found. Pairs are given out some at a time: to make each just before the caller gets a copy would have the
	// processor wait until it can load what it has stored.
	kvs      [scanStep]KV
	time     int64     // of the last pair,
	logTime  time.Time // which is this
	expires  int64     // of the last pair,
	due      time.Time // which is this
	ahead    bool      // the last pair is of the segments, which still stand there
	last     []byte    // the key passed last, but for keys of pairs while there are no segments
	started  bool      // last is one
	detached bool      // key and value of the last pair have memory of their own
	val      []byte    // holds the last value that was not plain in memory
	raw      []byte    // the same as it is stored, of segments

	pairBytes int // what a pair took in buf lately
}

// pair is one version copied out of memory.
type pair struct {
	lsn     LSN
	time    int64
	expires int64
	keyEnd  int32 // of the key in buf, which begins at the previous pair's valEnd
	valEnd  int32
	value   int32 // of a value that is not plain: its index in values, else -1: the value lies in buf
	dead    bool  // not a value: it only hides what segments have
}

// maxKept is the largest buffer that a scanner keeps when it is not in use.
const maxKept = 64 << 10

// detach gives the pair, the last one, memory of its own, so that the scan's is of use again.
func (s *scanner) detach(kv *KV) {
	n := len(kv.Key)
	b := append(append(make([]byte, 0, n+len(kv.Value)), kv.Key...), kv.Value...)
	kv.Key = b[:n:n]
	if kv.Value != nil {
		kv.Value = b[n:]
	}
	s.detached = true
}

// free ends the scan. What key and value of the last pair lie in, if they were not detached, is not used again: the caller
// may have left the loop with them.
func (s *scanner) free() {
	s.close()
	s.mem.Clear()
	s.disk.clear()
	if cap(s.raw) > maxKept {
		s.raw = nil
	}
	clear(s.values[:cap(s.values)])
	if !s.detached {
		s.buf, s.copied, s.last, s.val = nil, nil, nil, nil
	}
	for _, b := range []*[]byte{&s.buf, &s.copied, &s.val} {
		if cap(*b) > maxKept {
			*b = nil
		}
	}
	s.cursor.Release(s.detached)
	clear(s.records[:cap(s.records)])
	*s = scanner{cursor: s.cursor, records: s.records[:0], disk: s.disk, pairs: s.pairs[:0], values: s.values[:0], pairBytes: s.pairBytes,
		buf: s.buf[:0], copied: s.copied[:0], last: s.last[:0], val: s.val[:0], raw: s.raw[:0]}
	scanners.Put(s)
}

// close gives back what the scan holds.
func (s *scanner) close() {
	s.unpin()
	if s.onDisk {
		s.disk.close()
		s.onDisk = false
	}
	if s.src != nil {
		s.src.release()
		s.src = nil
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

// nextTimed is next, and tells what it took if the scan is sampled.
func (s *scanner) nextTimed() (int, error) {
	if !s.sampled {
		return s.next()
	}
	clock, k := s.ds.db.opts.Clock, s.ds.db.keeper
	began := clock.Mono()
	n, err := s.next()
	spent := &k.merged
	if s.in != nil {
		spent = &k.hot
	}
	spent.add(time.Duration(clock.Mono()-began), max(n, 1))
	return n, err
}

// next goes to the next live pairs and returns how many there are in kvs then, 0 at the end.
func (s *scanner) next() (int, error) {
	if s.hot == nil {
		return s.nextMerged()
	}
	return s.nextPart()
}

// nextMerged is next for what memory and segments have of r.
func (s *scanner) nextMerged() (int, error) {
	s.passed()
	for {
		if s.i == len(s.pairs) && !s.done {
			if err := s.step(); err != nil {
				return 0, err
			}
			continue
		}
		if s.isClosed() {
			return 0, ErrClosed
		}
		if !s.onDisk {
			if n, err := s.memPairs(); n > 0 || err != nil || s.done {
				return n, err
			}
			continue
		}
		var key []byte
		if s.i < len(s.pairs) {
			key = s.buf[s.start:s.pairs[s.i].keyEnd]
		}
		ok, err := s.disk.valid()
		if err != nil {
			return 0, err
		}
		order := 1
		if ok {
			order = -1
			if key != nil {
				order = s.order(s.disk.key(), key)
			}
			if order == 0 {
				s.disk.next() // memory's version is newer
			}
		}
		if key == nil && order >= 0 {
			return 0, nil
		}
		n := 0
		if order < 0 {
			n, err = s.diskPairs(key)
		} else {
			s.pass(key)
			n, err = one(s.memPair(&s.kvs[0]))
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// one turns whether there is a pair into how many there are.
func one(live bool, err error) (int, error) {
	if !live || err != nil {
		return 0, err
	}
	return 1, nil
}

// memPairs takes the next pairs of memory, as long as their values are plain, or one whose value is not.
func (s *scanner) memPairs() (n int, err error) {
	for n < len(s.kvs) && s.i < len(s.pairs) {
		plain := s.pairs[s.i].value < 0
		if !plain && n > 0 {
			break
		}
		live, err := s.memPair(&s.kvs[n])
		if err != nil {
			return 0, err
		}
		if live {
			if n++; !plain {
				break
			}
		}
	}
	return n, nil
}

// memPair takes the next pair of memory.
func (s *scanner) memPair(kv *KV) (bool, error) {
	p, key := &s.pairs[s.i], s.start
	s.i++
	s.start = int(p.valEnd)
	if p.dead {
		return false, nil
	}
	kv.Key, kv.Value = s.buf[key:p.keyEnd:p.keyEnd], nil
	s.stamp(kv, p.lsn, p.time, p.expires)
	switch {
	case p.value >= 0:
		return s.resolve(kv, &s.values[p.value])
	case !s.r.KeysOnly:
		kv.Value = s.buf[p.keyEnd:p.valEnd:p.valEnd]
	}
	return true, nil
}

// stamp sets what tells of the version.
func (s *scanner) stamp(kv *KV, lsn LSN, time, expires int64) {
	s.elsewhere = false
	if time != s.time { // the same for all of a batch
		s.time, s.logTime = time, unixTime(time)
	}
	if expires != s.expires {
		s.expires, s.due = expires, unixTime(expires)
	}
	kv.LSN, kv.Time, kv.Expires, kv.Subject = lsn, s.logTime, s.due, ""
}

// diskPairs takes the pairs of the segments that come before memory's next key, nil = it has none: as long as their values are plain, or
// one whose value is not.
func (s *scanner) diskPairs(end []byte) (n int, err error) {
	room := len(s.kvs)
	if s.left > 0 {
		room = min(room, s.left)
	}
	s.copied = s.copied[:0] // when it grows, the pairs lie in what it was
	for ok := true; ok; {
		e := s.disk.entry()
		if s.ds.entryAlive(&s.ranges, e, e.Key, s.max, s.at) {
			if e.Flags&closedFlags != 0 || !s.r.KeysOnly && (e.Flags&event.ValueFlags != 0 || len(e.Parts) > 0) {
				if n == 0 {
					return one(s.diskPair(&s.kvs[0], e))
				}
				break
			}
			s.copyEntry(&s.kvs[n], e)
			n++
		} else {
			s.pass(e.Key)
		}
		s.disk.next()
		if ok, err = s.disk.valid(); err != nil {
			break // it comes again
		}
		ok = ok && n < room && len(s.copied) < maxScanBytes && (end == nil || s.order(s.disk.key(), end) < 0)
	}
	if n > 0 {
		s.pass(s.kvs[n-1].Key)
		return n, nil
	}
	return 0, err
}

// order is that of two keys in the scan.
func (s *scanner) order(a, b []byte) int {
	if s.r.Reverse {
		a, b = b, a
	}
	return bytes.Compare(a, b)
}

// copyEntry makes kv a pair of the segments whose value is plain or not asked for.
func (s *scanner) copyEntry(kv *KV, e *segment.Entry) {
	at := len(s.copied)
	s.copied = append(s.copied, e.Key...)
	end := len(s.copied)
	kv.Value = nil
	if !s.r.KeysOnly {
		s.copied = append(s.copied, e.Value...)
		kv.Value = s.copied[end:len(s.copied):len(s.copied)]
	}
	kv.Key = s.copied[at:end:end]
	s.stampEntry(kv, e)
}

// stampEntry is stamp for a version of the segments.
func (s *scanner) stampEntry(kv *KV, e *segment.Entry) {
	due := int64(0)
	if len(e.Parts) > 0 {
		due, _ = event.Expiry(e.Parts)
	}
	s.stamp(kv, e.LSN, e.Time, due)
}

// diskPair takes the pair of the segments whose entry is e, which stay there until it was passed.
func (s *scanner) diskPair(kv *KV, e *segment.Entry) (bool, error) {
	s.pass(e.Key)
	s.ahead = true
	kv.Key, kv.Value = s.last, nil
	s.stampEntry(kv, e)
	v := loadEntry(e, s.raw[:0])
	s.raw = v.inline
	live, err := s.resolve(kv, &v)
	if !live && err == nil {
		s.passed()
	}
	return live, err
}

// passed moves the segments on behind the pair that was taken of them last.
func (s *scanner) passed() {
	if s.ahead {
		s.ahead = false
		s.disk.next()
	}
}

// resolve reads the value of the pair. It reports false if the value's subject was erased.
func (s *scanner) resolve(kv *KV, v *value) (bool, error) {
	db := s.ds.db
	if s.building {
		if s.elsewhere = v.ref || v.stub || v.sealed != nil || v.raw > maxHotValue; s.elsewhere {
			return true, nil
		}
	}
	call := db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if db.closed.Load() {
		return false, ErrClosed
	}
	var err error
	if v.sealed != nil {
		if gone, err := db.erased(v.sealed); gone || err != nil || s.r.KeysOnly {
			return !gone && err == nil, err
		}
		if kv.Subject, err = db.subject(v.sealed); err != nil {
			return false, err
		}
	}
	if s.val == nil {
		s.val = []byte{} // an empty value is one
	}
	if s.val, err = v.resolve(db, s.val[:0]); err != nil {
		if errors.Is(err, ErrErased) { // just now
			return false, nil
		}
		if s.closed != nil && s.closed.Load() { // meanwhile: what the view saw may have gone
			return false, ErrClosed
		}
		return false, err
	}
	kv.Value = s.val
	return true, nil
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
	// Close waits: who begins later finds no files. The first scan of a dataset sorts it, which may take long: so it must not pin reads.
	call := db.calls.Enter()
	defer call.Exit()
	if db.closed.Load() {
		return ErrClosed
	}
	s.departures = departures
	s.ranges.Set(s.ds.ranges) // before the segments: of what is forgotten later nothing is left in later ones
	s.src = db.sorted.acquire()
	r := s.rest()
	left := LSN(db.sorted.leaving.Load()) // of newer events memory has all
	if s.onDisk = s.src.oldest <= left; s.onDisk {
		s.disk.begin(s.src, left, s.ds.id, &s.ranges, r, s.max, s.left)
	}
	s.mem.Reset(db.mem, s.ds.id, memtable.ScanOptions{From: r.From, To: r.To, Reverse: r.Reverse, KeysOnly: r.KeysOnly, Max: s.max, Limit: s.left})
	return nil
}

// step copies the next versions of memory.
func (s *scanner) step() error {
	if s.i > 0 && !s.onDisk {
		s.pass(s.buf[s.keyStart(s.i-1):s.pairs[s.i-1].keyEnd])
	}
	db := s.ds.db
	for {
		departures := db.mem.Departures()
		if s.src == nil || departures != s.departures {
			if err := s.begin(departures); err != nil {
				return err
			}
		}
		s.mem.Await()
		if err := s.copy(); err != nil {
			return err
		}
		if db.mem.Departures() == departures {
			if len(s.pairs) == 0 && !s.done {
				continue // memory has more, but has to sort it first
			}
			return nil
		}
		s.pairs, s.i, s.done = s.pairs[:0], 0, false
	}
}

// keyStart is where the key of a pair begins in buf.
func (s *scanner) keyStart(i int) int32 {
	if i == 0 {
		return 0
	}
	return s.pairs[i-1].valEnd
}

// copy is one step under a pin.
func (s *scanner) copy() error {
	switch {
	case s.batch == 0:
		if s.batch = firstScanBatch; s.left > 0 {
			s.batch = maxScanBatch
		}
		room := maxScanBatch
		if s.left > 0 {
			room = min(room, s.left)
		}
		if n := min(room*s.pairBytes, maxKept); cap(s.buf) < n {
			s.buf = make([]byte, 0, n)
		}
	case s.batch < maxScanBatch:
		s.batch = min(4*s.batch, maxScanBatch)
	}
	g := s.ds.db.reads.Enter()
	defer g.Exit()
	if s.ds.db.closed.Load() || s.closed != nil && s.closed.Load() {
		return ErrClosed
	}
	if d := s.ds.dropped.Load(); d != 0 && LSN(d) <= s.max {
		return s.ds.errDropped()
	}
	s.i, s.start = 0, 0
	s.pairs, s.values, s.buf = s.pairs[:0], s.values[:0], s.buf[:0]
	s.unpin()
	batch := s.batch
	if s.left > 0 {
		batch = min(batch, s.left)
	}
	var found [scanStep]tail.Record
	for !s.done && len(s.pairs) < batch && len(s.buf) < maxScanBytes {
		n := s.mem.Next(found[:min(scanStep, batch-len(s.pairs))])
		if n == 0 {
			s.done = !s.mem.Waits()
			break
		}
		for _, rec := range found[:n] {
			s.copyRecord(rec)
		}
	}
	if n := len(s.pairs); n > 0 {
		s.pairBytes = max(len(s.buf)/n+1, s.pairBytes*7/8)
	}
	return nil
}

// copyRecord copies one version.
func (s *scanner) copyRecord(rec tail.Record) {
	op, flags, mem, _ := rec.State()
	key, val, parts := rec.Split()
	lsn, expires := rec.LSN(), int64(0)
	if mem&tail.MemExpiry != 0 {
		expires, _ = event.Expiry(parts)
	}
	dead := op != event.OpPut || s.ranges.Any() && s.ranges.Covers(key, lsn, s.max) ||
		mem&tail.MemExpiry != 0 && !s.ds.before(s.at, expires)
	if dead && !s.onDisk {
		return
	}
	if len(s.pairs) == cap(s.pairs) {
		s.pairs = slices.Grow(s.pairs, maxScanBatch)
	}
	s.pairs = s.pairs[:len(s.pairs)+1]
	p := &s.pairs[len(s.pairs)-1] // filled in place: a copy of what was just written would wait for it
	p.lsn, p.time, p.expires, p.value, p.dead = lsn, rec.Time(), expires, -1, dead
	s.buf = append(s.buf, key...)
	p.keyEnd = int32(len(s.buf))
	switch {
	case dead:
	case s.r.KeysOnly:
		if flags&closedFlags != 0 {
			p.value = int32(len(s.values))
			s.values = append(s.values, value{sealed: sealedBy(flags, parts, key)})
		}
	default:
		if plain(flags, mem, parts) {
			s.buf = append(s.buf, val...)
		} else {
			p.value = int32(len(s.values))
			v := loadValue(rec, nil)
			s.pin(&v)
			s.values = append(s.values, v)
		}
	}
	p.valEnd = int32(len(s.buf))
}
