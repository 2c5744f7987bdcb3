package dyngo

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// expirer ends versions whose time to live is over: it logs an expire event for each that is still the key's newest. Reads
// don't depend on it, they compare times themselves. Versions in memory wait in a heap; those in segments are found through
// the segments' due-time index.
type expirer struct {
	db   *DB
	wake chan struct{}

	seen    *sources                      // what cursors were made for; only run touches it and cursors
	cursors map[manifest.FileNum]int64    // of segments with expiries: the first one that was not yet looked at; absent = none
	known   map[manifest.FileNum]struct{} // segments that cursors were made for

	mu   sync.Mutex // guards the fields below; a leaf
	due  []dueEntry // binary heap, earliest first
	room int        // number of entries at which those of superseded versions are dropped
}

// dueEntry is 32 bytes and has no pointers. The version is found again by the hash of its key and its LSN.
type dueEntry struct {
	at   int64
	lsn  LSN
	hash uint64
	ds   event.DatasetID
}

func newExpirer(db *DB) *expirer { return &expirer{db: db, wake: make(chan struct{}, 1)} }

// add remembers that a version is due at a time. Safe for concurrent use.
func (e *expirer) add(at int64, lsn LSN, ds event.DatasetID, hash uint64) {
	e.mu.Lock()
	if len(e.due) >= max(e.room, minDueRoom) {
		e.dropSuperseded()
	}
	e.due = append(e.due, dueEntry{at, lsn, hash, ds})
	i := len(e.due) - 1
	for i > 0 && e.due[i].at < e.due[(i-1)/2].at {
		e.due[i], e.due[(i-1)/2] = e.due[(i-1)/2], e.due[i]
		i = (i - 1) / 2
	}
	e.mu.Unlock()
	if i == 0 {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

const minDueRoom = 4096

// dropSuperseded keeps the entries of versions that are still the newest of their key, so that overwriting a key does not
// make the heap grow without bound. Room is made for twice as many, which makes it cheap on average. mu is held.
func (e *expirer) dropSuperseded() {
	g := e.db.reads.Enter()
	defer g.Exit()
	kept := e.due[:0]
	for _, d := range e.due {
		if _, ok := e.newest(d); ok {
			kept = append(kept, d)
		}
	}
	e.due = kept
	slices.SortFunc(e.due, func(a, b dueEntry) int { return cmp.Compare(a.at, b.at) }) // sorted is a heap
	e.room = 2 * len(e.due)
}

// newest finds a version in memory if it is still the newest of its key. The caller holds a guard of reads. (The record's
// link bits do not tell: what an eviction has just copied is marked as superseded.)
func (e *expirer) newest(d dueEntry) (tail.Record, bool) {
	r, ok := e.db.mem.FindLSN(d.hash, d.ds, d.lsn)
	if ok {
		_, r, ok = e.db.mem.Head(d.hash, d.ds, r.Key())
	}
	return r, ok && r.LSN() == d.lsn
}

// recovered takes what recovery finds, before run starts.
func (e *expirer) recovered(at int64, lsn LSN, ds event.DatasetID, hash uint64) {
	e.add(at, lsn, ds, hash)
}

// next takes the earliest entry if it is due, else says how long to wait; 0, false = nothing is pending.
func (e *expirer) next(now int64) (d dueEntry, isDue bool, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.due) == 0 {
		return d, false, 0
	}
	d = e.due[0]
	if d.at > now {
		return d, false, time.Duration(d.at - now)
	}
	n := len(e.due) - 1
	e.due[0] = e.due[n]
	e.due = e.due[:n]
	for i := 0; ; {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < n && e.due[c].at < e.due[least].at {
				least = c
			}
		}
		if least == i {
			break
		}
		e.due[i], e.due[least] = e.due[least], e.due[i]
		i = least
	}
	return d, true, 0
}

func (e *expirer) pending() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.due)
}

// run ends with db.ctx.
func (e *expirer) run() {
	timer := e.db.opts.Clock.NewTimer(time.Hour)
	defer timer.Stop()
	for e.db.ctx.Err() == nil {
		now := e.db.now()
		d, isDue, wait := e.next(now)
		if isDue {
			if err := e.expire(d); e.ended(err) {
				return
			} else if err != nil {
				e.add(d.at, d.lsn, d.ds, d.hash)
				timer.Reset(dueRetry)
				select { // not on wake: the entry is the first again
				case <-timer.C():
				case <-e.db.ctx.Done():
				}
			}
			continue
		}
		again, err := e.segments(now)
		if e.ended(err) {
			return
		}
		if again > 0 && (wait == 0 || again < wait) {
			wait = again
		}
		if wait > 0 {
			timer.Reset(wait)
			if err == nil && e.db.now()-now > int64(time.Millisecond) {
				continue // the timer was set too late: time has passed since wait was reckoned
			}
		}
		select {
		case <-timer.C():
		case <-e.wake:
		case <-e.db.ctx.Done():
			return
		}
	}
}

// ended says that an error leaves nothing to be done: the log takes no more. Any other is tried again: the log could not be
// started, or a segment not be read.
func (e *expirer) ended(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, wal.ErrClosed) {
		return true
	}
	if err != nil {
		e.db.opts.Logger.Error("dyngo: an expired key could not be logged as such; reads treat it as absent all the same", "err", err)
	}
	return errors.Is(err, wal.ErrFailed)
}

// nudge has run look at new segments.
func (e *expirer) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// segments ends what is due in segments and returns how long to wait for the next, 0 = nothing is pending.
func (e *expirer) segments(now int64) (time.Duration, error) {
	s := e.db.sorted.acquire()
	defer s.release()
	if s != e.seen {
		e.seen = s
		e.look(s)
	}
	wait := time.Duration(0)
	for i := range s.runs {
		for j, seg := range s.runs[i].Segments {
			at, ok := e.cursors[seg.Num]
			if !ok {
				continue
			}
			if at <= now {
				var err error
				if at, err = e.dueIn(s.runs[i].readers[j], at, now); err != nil {
					return dueRetry, err
				}
				if at == 0 {
					delete(e.cursors, seg.Num)
					continue
				}
				e.cursors[seg.Num] = at
			}
			if d := max(time.Duration(at-now), time.Microsecond); wait == 0 || d < wait {
				wait = d
			}
		}
	}
	return wait, nil
}

// dueRetry is how long after a segment could not be read, or an event not be logged, it is tried again.
const dueRetry = time.Second

// look makes cursors for segments that are new, and forgets those that are gone.
func (e *expirer) look(s *sources) {
	cursors := map[manifest.FileNum]int64{}
	for seg := range s.version.All() {
		if seg.Dues == 0 {
			continue
		}
		if at, ok := e.cursors[seg.Num]; ok {
			cursors[seg.Num] = at
		} else if _, before := e.known[seg.Num]; !before {
			cursors[seg.Num] = seg.MinDue
		}
	}
	e.known = map[manifest.FileNum]struct{}{}
	for seg := range s.version.All() {
		e.known[seg.Num] = struct{}{}
	}
	e.cursors = cursors
}

// dueIn ends the versions of one segment that are due from a time on up to now. It returns the next time, 0 = none.
func (e *expirer) dueIn(r *segment.Reader, from, now int64) (int64, error) {
	it := r.Due(from)
	defer it.Close()
	for it.Next() {
		d := it.Due()
		if d.Due > now {
			return d.Due, nil
		}
		if e.db.ctx.Err() != nil {
			return from, ErrClosed
		}
		ds := e.db.catalog.byID(d.Dataset)
		if ds == nil || ds.ranges.Covers(d.Key, d.LSN, event.MaxLSN) {
			continue
		}
		key := bytes.Clone(d.Key)
		if err := e.end(ds, key, e.db.mem.Hash(d.Dataset, key), d.LSN, d.Due); err != nil {
			return from, err
		}
	}
	return 0, it.Err()
}

// expire logs the end of one version in memory, unless it was superseded or its dataset dropped. One that has left memory is
// found through its segment.
func (e *expirer) expire(d dueEntry) error {
	db := e.db
	ds := db.catalog.byID(d.ds)
	if ds == nil {
		return nil
	}
	g := db.reads.Enter()
	r, ok := e.newest(d)
	if !ok || ds.ranges.Covers(r.Key(), d.lsn, ^LSN(0)) {
		g.Exit()
		return nil
	}
	key := append([]byte(nil), r.Key()...)
	g.Exit()
	return e.end(ds, key, d.hash, d.lsn, d.at)
}

// end logs the end of a version if it is still the key's newest.
func (e *expirer) end(ds *Dataset, key []byte, hash uint64, lsn LSN, due int64) error {
	db := e.db
	if !db.started.Load() { // a store that is only opened is written to if an event follows, not to find that none does
		if ok, err := e.isNewest(ds, key, hash, lsn); !ok || err != nil {
			return err
		}
	}
	at, now, err := db.logExpiry(ds, key, hash, lsn)
	if errors.Is(err, errSuperseded) || errors.Is(err, ErrNoDataset) {
		return nil
	}
	if err != nil {
		return err
	}
	db.count.expired.Add(1)
	if f := db.opts.Listener.Expired; f != nil {
		f(ds.name, key, at, unixTime(due), time.Duration(now-due))
	}
	return nil
}

// isNewest looks for a newer version of the key, in memory and in segments.
func (e *expirer) isNewest(ds *Dataset, key []byte, hash uint64, lsn LSN) (bool, error) {
	g := e.db.reads.Enter()
	defer g.Exit()
	if _, head, ok := e.db.mem.Head(hash, ds.id, key); ok {
		return head.LSN() == lsn, nil
	}
	var entry segment.Entry
	b, ok, err := e.db.sorted.current.Load().get(ds.id, key, event.MaxLSN, &entry)
	if !ok || err != nil {
		return false, err
	}
	defer b.Release()
	return entry.LSN == lsn, nil
}

// logExpiry writes the event that ends the version with an LSN. It returns the event's LSN and when it was written.
func (db *DB) logExpiry(ds *Dataset, key []byte, hash uint64, lsn LSN) (LSN, int64, error) {
	call, err := db.enterCall()
	if err != nil {
		return 0, 0, err
	}
	defer call.Exit()
	c := db.newCommit()
	defer db.release(c)
	prev := event.AppendPrevLSN(nil, lsn)
	c.ops = append(c.ops, op{ds: ds, kind: event.OpExpire, key: key, hash: hash, ifLSN: lsn, base: prev, parts: prev})
	now := db.now()
	err = db.commit(c, wal.Ack{Window: Eventual.window()}, true, now)
	return c.log.First, now, err
}
