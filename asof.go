package dyngo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// check says whether a dataset that is gone was there.
func (p *past) check(ds *Dataset) error {
	all, err := p.datasets(context.Background())
	if err != nil {
		return p.explain(err)
	}
	if _, ok := all[ds.id]; !ok {
		return fmt.Errorf("%w: %q was not there at LSN %d", ErrNoDataset, ds.name, p.lsn)
	}
	return nil
}

// catalogNow is datasets for calls of the user.
func (p *past) catalogNow() (map[event.DatasetID]event.DatasetInfo, error) {
	call := p.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if p.db.closed.Load() {
		return nil, ErrClosed
	}
	all, err := p.datasets(context.Background())
	return all, p.explain(err)
}

// dataset finds a dataset that was there.
func (p *past) dataset(name string) (*Dataset, error) {
	all, err := p.catalogNow()
	if err != nil {
		return nil, err
	}
	for _, info := range all {
		if info.Name == name {
			return p.handle(info)
		}
	}
	return nil, fmt.Errorf("%w: %q at LSN %d", ErrNoDataset, name, p.lsn)
}

func (p *past) handle(info event.DatasetInfo) (*Dataset, error) {
	if ds := p.db.catalog.byID(info.ID); ds != nil {
		return ds, nil
	}
	stored, err := event.ParseDatasetOptions(info.Options)
	if err != nil {
		return nil, fmt.Errorf("dataset %q, created at LSN %d: %w", info.Name, info.Created, err)
	}
	ds := &Dataset{db: p.db, id: info.ID, name: info.Name, created: info.Created,
		opts: decodeOptions(stored), ranges: &memtable.RangeDeletes{}}
	ds.dropped.Store(1) // whenever that was: its own calls are all later
	return ds, nil
}

// formerVersion is a version of a key that was read from the log, or copied out of a segment.
type formerVersion struct {
	op    event.Op
	flags event.Flags
	lsn   LSN
	time  int64
	value []byte
	parts []byte
}

// stored is what is needed to read the value of a key's version.
func (f *formerVersion) stored(key []byte) value {
	v := value{inline: f.value, ref: f.flags&event.FlagValueRef != 0, sealed: sealedBy(f.flags, f.parts, key)}
	if codec, raw, ok := event.CodecOf(f.parts); ok {
		v.codec, v.raw = codec, raw
	}
	return v
}

func (f *formerVersion) set(e *segment.Entry) {
	f.op, f.flags, f.lsn, f.time = e.Op, e.Flags, e.LSN, e.Time
	f.value, f.parts = append(f.value[:0], e.Value...), append(f.parts[:0], e.Parts...)
}

// appendTo appends a key's value to dst.
func (p *past) appendTo(ds *Dataset, dst, key []byte) ([]byte, error) {
	var f found
	old, err := p.find(&f, ds, key)
	if err != nil {
		return dst, err
	}
	if old == nil && f.plain() { // the common case: the value lies in memory as it is
		dst = append(dst, f.stored()...)
		f.release()
		return dst, nil
	}
	call := p.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	read := p.db.valueReads.Enter() // so does retention
	defer read.Exit()
	var v value
	if old != nil {
		v = old.stored(key)
	} else {
		v = f.value(nil)
		f.release()
	}
	dst, err = v.resolve(p.db, dst)
	return dst, p.explain(err)
}

func (p *past) has(ds *Dataset, key []byte) (bool, error) {
	var f found
	old, err := p.find(&f, ds, key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var s *sealed
	if old != nil {
		s = sealedBy(old.flags, old.parts, key)
	} else {
		s = f.sealed()
		f.release()
	}
	gone, err := p.db.erased(s)
	return !gone && err == nil, p.explain(err)
}

// find looks for a key's version that was alive. It is in f, which is to be released, or else in what is returned.
func (p *past) find(f *found, ds *Dataset, key []byte) (*formerVersion, error) {
	db := p.db
	if err := checkKey(key); err != nil {
		return nil, err
	}
	ranges := &noRanges
	if ds.ranges.Ever() || ds.dropped.Load() != 0 { // else no range delete covers what is in memory, or newest in segments
		var err error
		if ranges, err = p.rangesIn(ds); err != nil {
			return nil, err
		}
	}
	f.guard = db.reads.Enter()
	if db.closed.Load() {
		f.guard.Exit()
		return nil, ErrClosed
	}
	// 1. Memory.
	hash := db.mem.Hash(ds.id, key)
	if r, ok := db.mem.Get(hash, ds.id, key, p.lsn); ok {
		if f.rec = r; ds.alive(ranges, r, p.lsn, p.at) {
			return nil, nil
		}
		f.guard.Exit()
		return nil, ErrNotFound
	}
	_, newer := db.mem.Get(hash, ds.id, key, event.MaxLSN)
	s := db.sorted.current.Load() // after memory, as in Dataset.find
	if s.version.FlushedLSN == 0 {
		f.guard.Exit() // nothing has left memory
		return nil, ErrNotFound
	}
	db.pacer.Foreground(1, 0)
	// 2. The newest version up to there that segments have. If there is no newer one at all, no event lies between.
	var below formerVersion
	b, ok, newerThere, err := s.getPast(ds.id, key, p.lsn, &f.entry)
	if err != nil {
		f.guard.Exit()
		return nil, p.explain(err)
	}
	if ok && !newer && !newerThere && ds.dropped.Load() == 0 && p.mayLive(ranges, f.entry.Op, key, f.entry.LSN) &&
		!ds.ranges.Covers(key, p.lsn, event.MaxLSN) {
		f.block, f.inEntry = b, true
		if due, ok := event.Expiry(f.entry.Parts); !ok || p.at < due {
			return nil, nil
		}
		f.release()
		return nil, ErrNotFound
	}
	// 3. and 4. The log, and what was below it.
	if ok {
		below.set(&f.entry)
		b.Release()
	}
	if (!ok || below.lsn <= s.version.FloorLSN) && len(s.history) > 0 {
		b, ok, err = s.floorVersion(ds.id, key, &f.entry)
		if below = (formerVersion{}); ok {
			below.set(&f.entry)
			b.Release()
		}
	}
	read := db.valueReads.Enter() // what below refers to stays
	defer read.Exit()
	flushed := s.version.FlushedLSN
	f.guard.Exit()
	if err != nil {
		return nil, p.explain(err)
	}
	return p.former(ds, key, &below, flushed)
}

// rangesIn is rangesOf for calls of the user.
func (p *past) rangesIn(ds *Dataset) (*memtable.RangeDeletes, error) {
	call := p.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if p.db.closed.Load() {
		return nil, ErrClosed
	}
	r, err := p.rangesOf(context.Background(), ds.id)
	return r, p.explain(err)
}

// former finds the version that is not in memory: what the log has is newer than below, which segments have. All events up to
// flushed may have left memory.
func (p *past) former(ds *Dataset, key []byte, below *formerVersion, flushed LSN) (*formerVersion, error) {
	db := p.db
	call := db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if db.closed.Load() {
		return nil, ErrClosed
	}
	ctx := context.Background()
	ranges, err := p.rangesOf(ctx, ds.id)
	if err != nil {
		return nil, p.explain(err)
	}
	at, ok, err := p.newest(ctx, ds.id, key, below.lsn, flushed)
	if err != nil {
		return nil, p.explain(err)
	}
	if ok {
		if !p.mayLive(ranges, at.op, key, at.lsn) {
			return nil, ErrNotFound
		}
		if below, err = db.readFormer(&at); err != nil {
			return nil, p.explain(err)
		}
	}
	if below.op == event.OpRedact {
		return nil, p.errLost(below.lsn)
	}
	if !p.lives(ranges, below, key) {
		return nil, ErrNotFound
	}
	return below, nil
}

// explain says of an error that comes of files that are gone why they are.
func (w *window) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrDropped):
		return fmt.Errorf("%w: a value went with a log file before LSN %d (%w)", ErrOutsideWindow, w.floor()+1, err)
	case w.db.opts.ReadOnly && len(w.files) > 0:
		files, ferr := wal.ListFiles(w.db.opts.FS, w.db.walDir())
		if ferr == nil && (len(files) == 0 || files[0].Seq > w.files[0].Seq) {
			return fmt.Errorf("%w (%w)", w.errOvertaken(), err)
		}
	}
	return openError(w.db.dir, err)
}

func (w *window) errOvertaken() error {
	return fmt.Errorf("%w: the process that writes has dropped log files since this store was opened; open it again",
		ErrOutsideWindow)
}

// errLost is the error for a version whose value retention could not keep.
func (p *past) errLost(lsn LSN) error {
	return fmt.Errorf("%w: the value of LSN %d went with a log file before LSN %d", ErrOutsideWindow, lsn, p.floor()+1)
}

// mayLive says whether a version that does not expire has a value in the view.
func (p *past) mayLive(ranges *memtable.RangeDeletes, op event.Op, key []byte, lsn LSN) bool {
	return op == event.OpPut && !(ranges.Any() && ranges.Covers(key, lsn, p.lsn))
}

// lives says whether a version has a value in the view.
func (p *past) lives(ranges *memtable.RangeDeletes, f *formerVersion, key []byte) bool {
	if !p.mayLive(ranges, f.op, key, f.lsn) {
		return false
	}
	due, ok := event.Expiry(f.parts)
	return !ok || p.at < due
}

// readFormer reads an event of a key from the log.
func (db *DB) readFormer(p *place) (*formerVersion, error) {
	e, err := db.readEvent(p)
	if err != nil {
		return nil, err
	}
	return &formerVersion{op: e.Op, flags: e.Flags, lsn: e.LSN, time: e.Time, value: e.Value, parts: e.Parts}, nil
}

// Lookup returns key with its value, LSN, log time and expiry in the view, all copies, or ErrNotFound.
func (v *View) Lookup(ds *Dataset, key []byte) (KV, error) {
	r := Range{From: key, Limit: 1}
	if len(key) < MaxKeyBytes {
		r.To = append(bytes.Clone(key), 0)
	}
	for kv, err := range v.Scan(ds, r) {
		if err != nil {
			return KV{}, err
		}
		if !bytes.Equal(kv.Key, key) {
			break
		}
		kv.Key, kv.Value = bytes.Clone(kv.Key), append([]byte{}, kv.Value...)
		return kv, nil
	}
	if err := checkKey(key); err != nil {
		return KV{}, err
	}
	return KV{}, ErrNotFound
}

// Time is as of when the view decides what has expired.
func (v *View) Time() time.Time { return unixTime(v.at) }
