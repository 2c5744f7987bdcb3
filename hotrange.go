package dyngo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/index"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/segment"
)

// hotRanges are the key ranges of a dataset whose live records are kept in key order in memory; see package index. Scans, and gets of
// keys that have left memory, are answered by them alone. Writers keep them current; each range delete drops those that it touches.
//
// Why a range that serves readers has all that was written:
//
//  1. A range is on the list, by an atomic store, before LockAll. A writer looks at the list with the locks of its shards: it has put
//     its event into memory before, and has an LSN, or sees the range and applies its event to it.
//  2. The range is filled as of an LSN that is durable and not below those of the former. Its view holds it.
//  3. The latter apply in the order of their LSNs for each key, since the key's shard is locked.
//  4. A reader is served at LSNs from which on the range is complete. All events up to its LSN were applied before the LSN was visible.
//
// A range delete holds all shards. It drops ranges before its LSN is visible, so who reads at or above it is not served by them: he
// looks for a part of the range later than that.
type hotRanges struct {
	list atomic.Pointer[[]*index.Range] // by From, disjoint, in building too; nil = none. Immutable
	mu   sync.Mutex                     // one change of list at a time
}

// maxHotValue is the size of values above which a hot range only knows that they are there.
const maxHotValue = 8 << 10

// hotAt returns the range that a key lies in, nil = none; backwards, the one that what lies right before the key is in. There, nil is
// the end.
func hotAt(list []*index.Range, key []byte, reverse bool) *index.Range {
	n := after(list, key, reverse)
	if n == 0 {
		return nil
	}
	r := list[n-1] // it begins at the key or before
	if r.To != nil && (key == nil && reverse || bytes.Compare(key, r.To) > 0 || !reverse && bytes.Equal(key, r.To)) {
		return nil
	}
	return r
}

// after is the index of the first range that begins behind a key, backwards at it or behind.
func after(list []*index.Range, key []byte, reverse bool) int {
	if reverse && key == nil {
		return len(list)
	}
	n, has := slices.BinarySearchFunc(list, key, func(r *index.Range, key []byte) int { return bytes.Compare(r.From, key) })
	if has && !reverse {
		n++
	}
	return n
}

// add puts a range on the list, unless another one overlaps.
func (h *hotRanges) add(r *index.Range) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []*index.Range
	if old := h.list.Load(); old != nil {
		list = *old
	}
	for _, o := range list {
		if overlap(o.From, o.To, r.From, r.To) {
			return false
		}
	}
	list = slices.Insert(slices.Clone(list), after(list, r.From, false), r)
	h.list.Store(&list)
	return true
}

// replace has a range on the list stand for another one.
func (h *hotRanges) replace(old, r *index.Range) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list.Load()
	if list == nil || !slices.Contains(*list, old) {
		return false
	}
	next := slices.Clone(*list)
	next[slices.Index(next, old)] = r
	h.list.Store(&next)
	return true
}

// remove drops ranges and takes them off the list.
func (h *hotRanges) remove(which func(*index.Range) bool) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.list.Load()
	if old == nil {
		return 0
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(r *index.Range) bool {
		gone := which(r)
		if gone {
			r.Drop()
			n++
		}
		return gone
	})
	if len(list) == 0 {
		h.list.Store(nil)
	} else if n > 0 {
		h.list.Store(&list)
	}
	return n
}

// cut drops the ranges that a range delete of [from, to) touches. All shards are locked.
func (h *hotRanges) cut(from, to []byte) {
	if h.list.Load() == nil {
		return
	}
	h.remove(func(r *index.Range) bool { return overlap(r.From, r.To, from, to) })
}

// apply takes a write of a key into the range that it lies in. The key's shard is locked.
func (h *hotRanges) apply(o *op, lsn LSN, at int64) {
	list := h.list.Load()
	if list == nil {
		return
	}
	r := hotAt(*list, o.key, false)
	if r == nil {
		return
	}
	e := index.Entry{Key: o.key, LSN: lsn, Time: at, Expires: o.expires, Dead: o.kind != event.OpPut}
	if !e.Dead {
		e.Value, e.Elsewhere = o.hotValue()
	}
	k := o.ds.db.keeper
	timed := k.applies.Add(1)%64 == 0
	var began int64
	if timed {
		began = o.ds.db.opts.Clock.Mono()
	}
	if !r.Apply(&e, o.ds.visible()) {
		h.remove(func(x *index.Range) bool { return x == r })
	}
	if timed {
		k.applied.add(time.Duration(o.ds.db.opts.Clock.Mono()-began), 1)
	}
}

// hotValue is the value as readers see it, unless that takes more than a copy and unpacking.
func (o *op) hotValue() (value []byte, elsewhere bool) {
	if o.stub || o.flags&event.ValueFlags != 0 {
		return nil, true
	}
	codec, raw, packed := event.CodecOf(o.parts)
	if !packed {
		raw = len(o.value)
	}
	if raw > maxHotValue {
		return nil, true
	}
	if !packed {
		return o.value, false
	}
	value, err := decompress(nil, codec, o.value, raw)
	return value, err != nil
}

// errOverlap says that a key would be in two ranges.
var errOverlap = limitError("another hot range has some of its keys")

// errHotBudget says that the records of a range take more than they may.
var errHotBudget = errors.New("its records take more memory than indexes may")

// buildHot makes [from, to) a hot range. If nobody waits for it, that goes at the pace of background work, and it ends where there is
// no more memory.
func (ds *Dataset) buildHot(ctx context.Context, from, to []byte, waited bool) (_ *index.Range, err error) {
	db, r := ds.db, index.New(from, to, ds.db.keeper.memory)
	if to != nil && bytes.Compare(from, to) >= 0 {
		return nil, limitError("a hot range from %q to %q has no keys", from, to)
	}
	if !ds.hot.add(r) {
		return nil, errOverlap
	}
	defer func() {
		if err != nil {
			ds.hot.remove(func(x *index.Range) bool { return x == r })
		}
	}()
	db.mem.LockAll() // who has not seen the range is through
	db.mem.UnlockAll()
	if err := db.log.WaitDurable(ctx, db.log.LastLSN()); err != nil {
		return nil, err
	}
	lsn, _, err := db.holdLSN(false)
	if err != nil {
		return nil, err
	}
	defer db.views.drop(lsn)
	work := db.pacer.Begin(pacer.Index)
	defer work.End()
	b := r.Fill(lsn)
	s := scanners.Get().(*scanner)
	defer s.free()
	// At the beginning of time nothing has expired: who reads at lsn in a view that is older than this may see what has since.
	s.ds, s.max, s.at, s.building = ds, lsn, 1, true
	s.r = Range{From: from, To: to}
	var e index.Entry
	for unpaid := int64(0); ; {
		n, err := s.nextMerged()
		if err != nil {
			return nil, openError(db.dir, err)
		}
		if n == 0 {
			break
		}
		for i := range n {
			kv := &s.kvs[i]
			e = index.Entry{Key: kv.Key, Value: kv.Value, LSN: kv.LSN, Time: unixNanos(kv.Time), Expires: unixNanos(kv.Expires), Elsewhere: s.elsewhere}
			if len(e.Value) > maxHotValue {
				e.Value, e.Elsewhere = nil, true
			}
			b.Add(&e)
			unpaid += int64(len(e.Key) + len(e.Value) + 64)
		}
		if unpaid > 64<<10 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if !waited {
				if err := work.Wait(ctx, unpaid); err != nil {
					return nil, err
				}
			}
			unpaid = 0
			if db.closed.Load() {
				return nil, ErrClosed
			}
		}
		if db.keeper.memory.Room() <= 0 {
			if waited {
				return nil, errHotBudget
			}
			long := r
			r = b.Shorten(append(bytes.Clone(e.Key), 0)) // what there is room for
			if !ds.hot.replace(long, r) {
				return nil, index.ErrDropped
			}
			break
		}
	}
	return r, b.Done(ds.visible())
}

// hotEntry looks for a key's version at max in the range that it lies in. served = false: somewhere else has to be looked. The version is
// in f.entry.
func (f *found) hotEntry(ds *Dataset, key []byte, max LSN, at int64) (ok, served bool) {
	list := ds.hot.list.Load()
	if list == nil {
		return false, false
	}
	r := hotAt(*list, key, false)
	if r == nil {
		return false, false
	}
	var e index.Entry
	if ok, served = r.Get(key, max, &e); !served || e.Elsewhere {
		return false, false
	}
	if !ok || e.Expires != 0 && !ds.before(at, e.Expires) {
		return false, true
	}
	f.inEntry = true
	f.entry = segment.Entry{Dataset: ds.id, Key: key, Value: e.Value, LSN: e.LSN, Time: e.Time, Op: event.OpPut}
	if e.Expires != 0 {
		f.entry.Parts = event.AppendExpiry(nil, e.Expires)
	}
	return true, true
}
