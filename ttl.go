package dyngo

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/wal"
)

// expirer ends versions whose time to live is over: it logs an expire event for each that is still the key's newest. Reads
// don't depend on it, they compare times themselves.
type expirer struct {
	db   *DB
	wake chan struct{}

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
		if r, ok := e.db.mem.FindLSN(d.hash, d.ds, d.lsn); ok && r.Links()&tail.LinkSuperseded == 0 {
			kept = append(kept, d)
		}
	}
	e.due = kept
	slices.SortFunc(e.due, func(a, b dueEntry) int { return cmp.Compare(a.at, b.at) }) // sorted is a heap
	e.room = 2 * len(e.due)
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
	for {
		d, isDue, wait := e.next(e.db.now())
		if isDue {
			if err := e.expire(d); errors.Is(err, wal.ErrFailed) || errors.Is(err, ErrClosed) || errors.Is(err, wal.ErrClosed) {
				return
			}
			select {
			case <-e.db.ctx.Done():
				return
			default:
			}
			continue
		}
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-timer.C():
		case <-e.wake:
		case <-e.db.ctx.Done():
			return
		}
	}
}

// expire logs the end of one version, unless it was superseded or its dataset dropped.
func (e *expirer) expire(d dueEntry) error {
	db := e.db
	ds := db.catalog.byID(d.ds)
	if ds == nil {
		return nil
	}
	g := db.reads.Enter()
	r, ok := db.mem.FindLSN(d.hash, d.ds, d.lsn)
	if !ok || ds.ranges.Covers(r.Key(), d.lsn, ^LSN(0)) {
		g.Exit()
		return nil
	}
	key := append([]byte(nil), r.Key()...)
	g.Exit()

	call, err := db.enterCall()
	if err != nil {
		return err
	}
	defer call.Exit()
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{ds: ds, kind: event.OpExpire, key: key, hash: d.hash, ifLSN: d.lsn, parts: event.AppendPrevLSN(nil, d.lsn)})
	now := db.now()
	if err := db.commit(c, wal.Ack{Window: Eventual.window()}, true, now); err != nil {
		if errors.Is(err, errSuperseded) {
			return nil
		}
		db.opts.Logger.Error("dyngo: an expired key could not be logged as such; reads treat it as absent all the same", "err", err)
		return err
	}
	db.count.expired.Add(1)
	if f := db.opts.Listener.Expired; f != nil {
		f(ds.name, key, c.log.First, unixTime(d.at), time.Duration(now-d.at))
	}
	return nil
}
