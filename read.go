package dyngo

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/heat"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// Get returns a copy of key's value, or ErrNotFound. It sees what the dataset's consistency makes visible: the durable
// LSN for Strong, the applied LSN otherwise.
func (ds *Dataset) Get(key []byte) ([]byte, error) { return ds.AppendGet(nil, key) }

// AppendGet appends key's value to dst and returns it, or dst and ErrNotFound. It allocates nothing when dst has room and
// the value is in memory and not compressed.
func (ds *Dataset) AppendGet(dst, key []byte) ([]byte, error) {
	return ds.appendAt(dst, key, 0, 0)
}

// Has says whether key is present. Values are not read.
func (ds *Dataset) Has(key []byte) (bool, error) { return ds.hasAt(key, 0, 0) }

func (ds *Dataset) hasAt(key []byte, max LSN, at int64) (bool, error) {
	var f found
	err := ds.find(&f, key, max, at)
	if err == ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s := f.sealed()
	f.release()
	gone, err := ds.db.erased(s)
	return !gone, openError(ds.db.dir, err)
}

// Lookup returns key with its value, LSN, log time and expiry, all copies, or ErrNotFound. The LSN is what PutIf takes.
func (ds *Dataset) Lookup(key []byte) (KV, error) {
	var f found
	if err := ds.find(&f, key, 0, 0); err != nil {
		return KV{}, err
	}
	kv := KV{Key: append([]byte(nil), key...), LSN: f.lsn(), Time: unixTime(f.time())}
	if at, ok := event.Expiry(f.parts()); ok {
		kv.Expires = unixTime(at)
	}
	v := f.value(nil)
	call := ds.db.calls.Enter() // Close waits until the log was read, memory need not
	defer call.Exit()
	read := ds.db.valueReads.Enter() // so does retention
	defer read.Exit()
	f.release()
	var err error
	if kv.Subject, err = ds.db.subject(v.sealed); err == nil {
		kv.Value, err = v.resolve(ds.db, []byte{})
	}
	return kv, openError(ds.db.dir, err)
}

// appendAt reads key at max (0 = what is visible now) and time at (0 = now).
func (ds *Dataset) appendAt(dst, key []byte, max LSN, at int64) ([]byte, error) {
	var f found
	if err := ds.find(&f, key, max, at); err != nil {
		return dst, err
	}
	// The common case: the value lies in memory as it is.
	if f.plain() {
		dst = append(dst, f.stored()...)
		f.release()
		return dst, nil
	}
	v := f.value(nil)
	call := ds.db.calls.Enter() // Close waits until the log was read, memory need not
	defer call.Exit()
	read := ds.db.valueReads.Enter() // so does retention
	defer read.Exit()
	f.release()
	dst, err := v.resolve(ds.db, dst)
	return dst, openError(ds.db.dir, err)
}

// found is a version of a key, in memory or in a segment. It is valid until release.
type found struct {
	guard   guard
	rec     tail.Record // zero when the version lies in a segment:
	entry   segment.Entry
	block   *cache.Block // what entry aliases, unless it is in a hot range
	copied  *recordCopy
	inEntry bool // entry is the version, not rec

	counts int64 // how many searches this one stands for in the sample, 0 = it is none of it
}

func (f *found) release() {
	if f.block != nil {
		f.block.Release()
	}
	if f.copied != nil {
		recordCopies.Put(f.copied)
	}
	f.guard.Exit()
}

func (f *found) lsn() LSN {
	if f.inEntry {
		return f.entry.LSN
	}
	return f.rec.LSN()
}

func (f *found) time() int64 {
	if f.inEntry {
		return f.entry.Time
	}
	return f.rec.Time()
}

func (f *found) parts() []byte {
	if f.inEntry {
		return f.entry.Parts
	}
	return f.rec.Parts()
}

// plain says that the value is stored as it is.
func (f *found) plain() bool {
	if f.inEntry {
		_, _, packed := event.CodecOf(f.entry.Parts)
		return !packed && f.entry.Flags&event.ValueFlags == 0
	}
	return plain(f.rec.Flags(), f.rec.Mem(), f.rec.Parts())
}

// sealed is what opens the value, nil if it is not sealed.
func (f *found) sealed() *sealed {
	if f.inEntry {
		return sealedBy(f.entry.Flags, f.entry.Parts, f.entry.Key)
	}
	return sealedRecord(f.rec)
}

// stored is the value as it is stored.
func (f *found) stored() []byte {
	if f.inEntry {
		return f.entry.Value
	}
	return f.rec.Value()
}

// value copies what is needed to read the value after release; buf is reused.
func (f *found) value(buf []byte) value {
	if f.inEntry {
		return loadEntry(&f.entry, buf)
	}
	return loadValue(f.rec, buf)
}

// find looks for key's live version, in memory, then in the segments from the newest run to the oldest. Nothing is held when
// it returns an error.
//
// Why nothing is missed when a generation leaves memory meanwhile: its segment is part of the sources before its first key
// goes; so who misses the key in memory, and loads the sources after that, finds it there. The range deletes are looked at
// last: one that was forgotten has nothing under it in what is current, and who looks at older sources is waited for.
//
// Segments of which memory has everything need no look. What leaves is told before the first key goes, and looked at after
// the key was missed.
func (ds *Dataset) find(f *found, key []byte, max LSN, at int64) error {
	db := ds.db
	if err := checkKey(key); err != nil {
		return err
	}
	g := db.reads.Enter() // its tick is looked at here, not where it is copied to: that is a nanosecond less
	f.guard = g
	if db.closed.Load() {
		f.guard.Exit()
		return ErrClosed
	}
	if db.heat.Due(g.Tick()) && f.counts == 0 {
		g.Cancel()                             // with one tick more, what is sampled would have a say in what is sampled next
		return ds.findSampled(f, key, max, at) // which asks for the newest LSN under a guard of its own: none holds that of this one
	}
	current, begun := max == 0, db.beginRecord()
	if current {
		max = ds.visible()
	}
	if d := ds.dropped.Load(); d != 0 && LSN(d) <= max {
		f.guard.Exit()
		return ds.errDropped()
	}
	hash := db.mem.Hash(ds.id, key)
	r, ok := db.mem.Get(hash, ds.id, key, max)
	if ok {
		if f.rec = r; ds.alive(ds.ranges, r, max, at) {
			return nil
		}
		f.guard.Exit()
		return ErrNotFound
	}
	if ok, served := f.hotEntry(ds, key, max, at); served {
		if !ok {
			f.guard.Exit()
			return ErrNotFound
		}
		return nil
	}
	s := db.sorted.current.Load()
	left := LSN(db.sorted.leaving.Load())
	if s.oldest > left {
		f.guard.Exit()
		return ErrNotFound
	}
	ok, err := f.inSegments(ds, s, key, hash, begun, max, left, current)
	if ok && ds.entryAlive(ds.ranges, &f.entry, key, max, at) {
		f.inEntry = true
		return nil
	}
	f.release()
	f.block, f.copied = nil, nil
	if err != nil {
		return openError(db.dir, err)
	}
	return ErrNotFound
}

// inSegments looks for a key's version in segments and their records: in the latter first, unless these only sample. A version that
// was found without the records is kept there, if the read is one of the present.
func (f *found) inSegments(ds *Dataset, s *sources, key []byte, hash, begun uint64, max, left LSN, current bool) (ok bool, err error) {
	db := ds.db
	var look func() bool
	add := db.records != nil && current
	if db.records != nil {
		samples, in := db.records.Samples(hash)
		switch {
		case !in:
			add = false
		case samples:
			look = func() bool { return f.recorded(ds, key, hash, max) }
		case f.recorded(ds, key, hash, max):
			return true, nil
		}
	}
	db.pacer.Foreground(1, 0)
	f.block, ok, err = s.getLeft(ds.id, key, max, left, f.counts, look, &f.entry)
	if ok && f.block != nil && add {
		f.record(ds, key, hash, begun)
	}
	return ok, err
}

// findSampled is find for one of those that are sampled, which tells of it. It is apart, since what others pay for it counts.
func (ds *Dataset) findSampled(f *found, key []byte, max LSN, at int64) error {
	db := ds.db
	f.counts = int64(db.heat.Interval())
	began, kind := db.opts.Clock.Mono(), heat.Read
	err := ds.find(f, key, max, at)
	if err == ErrNotFound {
		kind = heat.Miss
	} else if err != nil {
		return err
	}
	db.heat.Add(f.guard.Stripe(), kind, ds.id, db.mem.Hash(ds.id, key), key, clock.Elapsed(db.opts.Clock, began))
	return err
}

// alive says whether a version is a value at (max, at): not a delete, not covered by a range delete, not expired. at = 0
// means now.
func (ds *Dataset) alive(ranges *memtable.RangeDeletes, r tail.Record, max LSN, at int64) bool {
	if r.Op() != event.OpPut {
		return false
	}
	if ranges.Any() && ranges.Covers(r.Key(), r.LSN(), max) {
		return false
	}
	due, ok := expiryOf(r)
	return !ok || ds.before(at, due)
}

// entryAlive is alive for a version in a segment.
func (ds *Dataset) entryAlive(ranges *memtable.RangeDeletes, e *segment.Entry, key []byte, max LSN, at int64) bool {
	if e.Op != event.OpPut {
		return false
	}
	if ranges.Any() && ranges.Covers(key, e.LSN, max) {
		return false
	}
	if len(e.Parts) == 0 {
		return true
	}
	due, ok := event.Expiry(e.Parts)
	return !ok || ds.before(at, due)
}

// before says whether a time, 0 = now, is before due.
func (ds *Dataset) before(at, due int64) bool {
	if at == 0 {
		at = ds.db.now()
	}
	return at < due
}

func expiryOf(r tail.Record) (int64, bool) {
	if r.Mem()&tail.MemExpiry == 0 {
		return 0, false
	}
	return event.Expiry(r.Parts())
}

// value is what is needed to read a version's value after its memory is no longer pinned.
type value struct {
	inline []byte  // stored bytes, a copy
	ref    bool    // inline is an encoded event.ValueRef
	sealed *sealed // nil = it is not
	codec  event.Codec
	raw    int  // size before compression, with codec
	stub   bool // the stored bytes are in the log:
	log    wal.Position
	size   uint32
	crc    uint32
}

// loadValue copies what is needed to read the record's value; buf is reused. The record is pinned.
func loadValue(r tail.Record, buf []byte) value {
	v := value{ref: r.Flags()&event.FlagValueRef != 0, sealed: sealedRecord(r)}
	if codec, raw, ok := event.CodecOf(r.Parts()); ok {
		v.codec, v.raw = codec, raw
	}
	if r.Mem()&tail.MemStub != 0 {
		v.stub = true
		s := tail.ParseStub(r.Value())
		v.log, v.size, v.crc = wal.SplitLogPos(s.LogPos), s.Len, s.CRC
		return v
	}
	v.inline = append(buf[:0], r.Value()...)
	return v
}

// loadEntry is loadValue for a version in a segment.
func loadEntry(e *segment.Entry, buf []byte) value {
	v := value{ref: e.Flags&event.FlagValueRef != 0, sealed: sealedBy(e.Flags, e.Parts, e.Key)}
	if codec, raw, ok := event.CodecOf(e.Parts); ok {
		v.codec, v.raw = codec, raw
	}
	v.inline = append(buf[:0], e.Value...)
	return v
}

// resolve appends the value to dst, reading the log where need be. One device read for a value that left memory.
func (v *value) resolve(db *DB, dst []byte) ([]byte, error) {
	stored := v.inline
	if v.stub {
		stored = make([]byte, v.size)
		if err := db.files.ReadAt(stored, v.log); err != nil {
			return dst, err
		}
		if crc := coding.CRC(stored); crc != v.crc {
			return dst, &corruption.Error{File: db.files.Name(v.log.File), Offset: v.log.Offset,
				What: fmt.Sprintf("value of %d bytes: crc %08x, want %08x", v.size, crc, v.crc)}
		}
	}
	if v.ref {
		ref, err := event.ParseValueRef(stored)
		if err != nil {
			return dst, err
		}
		if v.sealed != nil && !db.opts.sealed {
			return v.sealed.openLarge(db, dst, ref)
		}
		return db.appendLarge(dst, ref)
	}
	if v.sealed != nil && !db.opts.sealed {
		return v.sealed.open(db, dst, 0, true, stored)
	}
	if v.codec != 0 {
		return decompress(dst, v.codec, stored, v.raw)
	}
	return append(dst, stored...), nil
}
