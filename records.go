package dyngo

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/segment"
)

// Records that gets found in segments are kept by key, as they are, in memory that recent events leave unused: a block has some dozen
// records, of which often one is hot. A key's record is the newest version that segments have. So it answers any read of the key that
// memory does not, and whose LSN is not below the version's:
//
//   - A newer version comes into segments by a flush, and is found in memory until its generation leaves. Before that, leave takes the
//     records of all its keys out.
//   - A get adds a record only if no generation has left, and none was about to, since it began: before it asked for the newest LSN.
//   - Range deletes, expiry and drops are looked at in each read. Before a range delete is forgotten all records go.
//   - Values that lie elsewhere, and encrypted ones, are not kept.

// recordCopy is the record that a read has found, out of the reach of the cache.
type recordCopy struct{ buf []byte }

var recordCopies = sync.Pool{New: func() any { return new(recordCopy) }}

// recordHeader is LSN and time.
const recordHeader = 8 + 8

const recordsTick = time.Second

// minRecordBytes is what records may take of the share of recent events, if they are asked for. More is theirs as long as recent events
// leave it.
func minRecordBytes(budget int64) int64 { return budget / 4 }

// openRecords makes the cache. A store that is only read learns of new segments without that anything leaves memory: it has none.
func (db *DB) openRecords() {
	if !db.opts.NoRecordCache && !db.opts.ReadOnly {
		db.records = cache.NewRecords(recentBytes(db.opts.MemoryBudget))
	}
}

// beginRecord comes before a read whose record may be kept: before it asks for the newest LSN.
func (db *DB) beginRecord() uint64 {
	if db.records == nil {
		return 0
	}
	return db.records.Begin()
}

// runRecords fits records to what is in memory, and has them sample the next part of the hashes, each second. It ends with db.ctx.
func (f *flusher) runRecords() {
	timer := f.db.opts.Clock.NewTimer(recordsTick)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-f.db.ctx.Done():
			return
		}
		f.fitRecords()
		f.db.records.NextPart()
		timer.Reset(recordsTick)
	}
}

// fitRecords gives records what recent events leave of their share, but for the next generation.
func (f *flusher) fitRecords() {
	if r := f.db.records; r != nil {
		budget := f.db.opts.MemoryBudget
		r.SetLimit(max(minRecordBytes(budget), recentBytes(budget)-f.db.keeper.memory.Used()-f.used()-generationBytes(budget)))
	}
}

// recorded looks for the record of a key that memory does not have.
func (f *found) recorded(ds *Dataset, key []byte, hash uint64, max LSN) bool {
	c := recordCopies.Get().(*recordCopy)
	var ok bool
	c.buf, ok = ds.db.records.Get(c.buf[:0], hash, uint32(ds.id), key)
	if !ok || LSN(binary.LittleEndian.Uint64(c.buf)) > max {
		recordCopies.Put(c)
		return false
	}
	session, n := binary.Uvarint(c.buf[recordHeader:])
	parts, m := binary.Uvarint(c.buf[recordHeader+n:])
	rest := c.buf[recordHeader+n+m:]
	f.entry = segment.Entry{Dataset: ds.id, Key: key, LSN: LSN(binary.LittleEndian.Uint64(c.buf)), Time: int64(binary.LittleEndian.Uint64(c.buf[8:])),
		Op: event.OpPut, Session: event.SessionID(session), Parts: rest[:parts:parts], Value: rest[parts:]}
	f.copied = c
	return true
}

// record keeps what was found in segments by a read that began there.
func (f *found) record(ds *Dataset, key []byte, hash, begun uint64) {
	e, r := &f.entry, ds.db.records
	if e.Op != event.OpPut || e.Flags&event.ValueFlags != 0 || len(key)+len(e.Value)+len(e.Parts) > cache.MaxRecordBytes/2 {
		return
	}
	c := recordCopies.Get().(*recordCopy)
	b := binary.LittleEndian.AppendUint64(c.buf[:0], uint64(e.LSN))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time))
	b = binary.AppendUvarint(b, uint64(e.Session))
	b = binary.AppendUvarint(b, uint64(len(e.Parts)))
	c.buf = append(append(b, e.Parts...), e.Value...)
	r.Add(begun, hash, uint32(ds.id), key, c.buf)
	recordCopies.Put(c)
}

// forgetRecords takes out the records of all keys of a generation that is about to leave memory.
func (db *DB) forgetRecords(g generation) {
	r := db.records
	if r == nil {
		return
	}
	r.Advance()
	if r.Empty() {
		return
	}
	n := 0
	for _, rec := range g.Generation.Records() {
		if ds := rec.Dataset(); ds != 0 {
			r.Remove(db.mem.Hash(ds, rec.Key()), uint32(ds), rec.Key())
			n++
		}
	}
	r.Departed(n)
}
