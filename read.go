package dyngo

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/tail"
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
func (ds *Dataset) Has(key []byte) (bool, error) {
	g, _, err := ds.find(key, 0, 0)
	if err != nil {
		if err == ErrNotFound {
			return false, nil
		}
		return false, err
	}
	g.Exit()
	return true, nil
}

// Lookup returns key with its value, LSN, log time and expiry, all copies, or ErrNotFound. The LSN is what PutIf takes.
func (ds *Dataset) Lookup(key []byte) (KV, error) {
	g, r, err := ds.find(key, 0, 0)
	if err != nil {
		return KV{}, err
	}
	kv := KV{Key: append([]byte(nil), key...), LSN: r.LSN(), Time: unixTime(r.Time())}
	if at, ok := expiryOf(r); ok {
		kv.Expires = unixTime(at)
	}
	v := loadValue(r, nil)
	call := ds.db.calls.Enter() // Close waits until the log was read, memory need not
	defer call.Exit()
	g.Exit()
	kv.Value, err = v.resolve(ds.db, []byte{})
	return kv, openError(ds.db.dir, err)
}

// appendAt reads key at max (0 = what is visible now) and time at (0 = now).
func (ds *Dataset) appendAt(dst, key []byte, max LSN, at int64) ([]byte, error) {
	g, r, err := ds.find(key, max, at)
	if err != nil {
		return dst, err
	}
	// The common case: the value lies in memory as it is.
	if plain(r) {
		dst = append(dst, r.Value()...)
		g.Exit()
		return dst, nil
	}
	v := loadValue(r, nil)
	call := ds.db.calls.Enter() // Close waits until the log was read, memory need not
	defer call.Exit()
	g.Exit()
	dst, err = v.resolve(ds.db, dst)
	return dst, openError(ds.db.dir, err)
}

// find returns key's live version, pinned until the guard is given back. The guard is given back on error.
func (ds *Dataset) find(key []byte, max LSN, at int64) (guard, tail.Record, error) {
	db := ds.db
	if err := checkKey(key); err != nil {
		return guard{}, tail.Record{}, err
	}
	g := db.reads.Enter()
	if db.closed.Load() {
		g.Exit()
		return guard{}, tail.Record{}, ErrClosed
	}
	if max == 0 {
		max = ds.visible()
	}
	if d := ds.dropped.Load(); d != 0 && LSN(d) <= max {
		g.Exit()
		return guard{}, tail.Record{}, ds.errDropped()
	}
	r, ok := db.mem.Get(db.mem.Hash(ds.id, key), ds.id, key, max)
	if !ok || !ds.alive(r, max, at) {
		g.Exit()
		return guard{}, tail.Record{}, ErrNotFound
	}
	return g, r, nil
}

// alive says whether a version is a value at (max, at): not a delete, not covered by a range delete, not expired. at = 0
// means now.
func (ds *Dataset) alive(r tail.Record, max LSN, at int64) bool {
	if r.Op() != event.OpPut {
		return false
	}
	if ds.ranges.Any() && ds.ranges.Covers(r.Key(), r.LSN(), max) {
		return false
	}
	if due, ok := expiryOf(r); ok {
		if at == 0 {
			at = ds.db.now()
		}
		return at < due
	}
	return true
}

func expiryOf(r tail.Record) (int64, bool) {
	if r.Mem()&tail.MemExpiry == 0 {
		return 0, false
	}
	return event.Expiry(r.Parts())
}

// value is what is needed to read a version's value after its memory is no longer pinned.
type value struct {
	inline []byte // stored bytes, a copy
	ref    bool   // inline is an encoded event.ValueRef
	codec  event.Codec
	raw    int  // size before compression, with codec
	stub   bool // the stored bytes are in the log:
	log    wal.Position
	size   uint32
	crc    uint32
}

// loadValue copies what is needed to read the record's value; buf is reused. The record is pinned.
func loadValue(r tail.Record, buf []byte) value {
	v := value{ref: r.Flags()&event.FlagValueRef != 0}
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
		return db.appendLarge(dst, ref)
	}
	if v.codec != 0 {
		return decompress(dst, v.codec, stored, v.raw)
	}
	return append(dst, stored...), nil
}
