package dyngo

import (
	"iter"
	"sync/atomic"

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

// pair is one result of a scan, copied out of the pinned memory.
type pair struct {
	keyEnd  int // of the key in buf, which begins at the previous pair's valueEnd
	valEnd  int
	value   value // what is not inline
	plain   bool  // the value lies in buf
	lsn     LSN
	time    int64
	expires int64
}

// scan runs in steps: copy some pairs under a pin, give it back, yield them. Nothing is pinned while the caller works.
func (ds *Dataset) scan(r Range, max LSN, at int64, closed *atomic.Bool, yield func(KV, error) bool) {
	db := ds.db
	if len(r.From) > MaxKeyBytes || len(r.To) > MaxKeyBytes {
		yield(KV{}, limitError("range end of %d bytes, at most %d are allowed", len(r.From)+len(r.To), MaxKeyBytes))
		return
	}
	if r.Limit < 0 {
		yield(KV{}, limitError("Range.Limit is %d, it can't be negative", r.Limit))
		return
	}
	// The first scan of a dataset sorts it: that may take long, so it must not pin reads; Close waits for it all the same.
	call := db.calls.Enter()
	if db.closed.Load() {
		call.Exit()
		yield(KV{}, ErrClosed)
		return
	}
	it := db.mem.Scan(ds.id, memtable.ScanOptions{From: r.From, To: r.To, Reverse: r.Reverse, KeysOnly: r.KeysOnly, Max: max})
	call.Exit()
	var (
		items = make([]memtable.Item, firstScanBatch)
		pairs []pair
		buf   []byte
		val   []byte
		left  = r.Limit
	)
	for done := false; !done; {
		g := db.reads.Enter()
		if db.closed.Load() || closed != nil && closed.Load() {
			g.Exit()
			yield(KV{}, ErrClosed)
			return
		}
		if d := ds.dropped.Load(); d != 0 && LSN(d) <= max {
			g.Exit()
			yield(KV{}, ds.errDropped())
			return
		}
		n := it.Next(items)
		pairs, buf = pairs[:0], buf[:0]
		for _, item := range items[:n] {
			rec := item.Record
			if !ds.alive(rec, max, at) {
				continue
			}
			p := pair{lsn: rec.LSN(), time: rec.Time()}
			if due, ok := expiryOf(rec); ok {
				p.expires = due
			}
			buf = append(buf, rec.Key()...)
			p.keyEnd = len(buf)
			if !r.KeysOnly {
				if plain(rec) {
					p.plain = true
					buf = append(buf, rec.Value()...)
				} else {
					p.value = loadValue(rec, nil)
				}
			}
			p.valEnd = len(buf)
			pairs = append(pairs, p)
		}
		g.Exit()
		done = n == 0
		start := 0
		for i := range pairs {
			p := &pairs[i]
			kv := KV{Key: buf[start:p.keyEnd:p.keyEnd], LSN: p.lsn, Time: unixTime(p.time), Expires: unixTime(p.expires)}
			switch {
			case r.KeysOnly:
			case p.plain:
				kv.Value = buf[p.keyEnd:p.valEnd:p.valEnd]
			default:
				call := db.calls.Enter()
				var err error
				if err = ErrClosed; !db.closed.Load() {
					val, err = p.value.resolve(db, val[:0])
				}
				call.Exit()
				if err != nil {
					yield(KV{}, openError(db.dir, err))
					return
				}
				kv.Value = val
			}
			start = p.valEnd
			if !yield(kv, nil) {
				return
			}
			if left > 0 {
				if left--; left == 0 {
					return
				}
			}
		}
		if len(items) < maxScanBatch && len(buf) < maxScanBytes/4 {
			items = make([]memtable.Item, len(items)*4)
		}
	}
}
