package dyngo

import (
	"errors"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/wal"
)

const (
	// spillBatch is the encoded size from which a batch is written ahead into data frames while it is built, so that
	// only keys and references stay in memory.
	spillBatch = 8 << 20
	// spillPiece is how much of a batch goes into one data frame.
	spillPiece = 512 << 10
	batchChunk = 64 << 10
)

// Batch collects events that are committed together: after a crash all are there or none, and no view sees a part; a
// current read of a dataset sees its events all at once, those of a Causal dataset before those of a Strong one. Keys and
// values are copied when added, so the slices stay the caller's. Errors of single events are kept and returned by
// Commit, which then commits nothing. A batch that was neither committed nor Reset holds log files back if it has large values
// or is large itself. A Batch belongs to one goroutine.
type Batch struct {
	db        *DB
	c         *commit // ops so far
	chunk     []byte  // copies of keys and values
	keys      []byte  // copies of keys whose events were spilled
	wire      int64   // encoded bytes so far, an upper bound
	spilled   int     // ops whose events are in data frames
	pending   int64   // encoded bytes of the others
	spill     *wal.Spill
	applied   []bool
	committed bool
	err       error
}

// NewBatch returns an empty batch.
func (db *DB) NewBatch() *Batch { return &Batch{db: db, c: &commit{}} }

// Len is the number of events in the batch.
func (b *Batch) Len() int { return len(b.c.ops) }

// Reset empties the batch for reuse. What it spilled into the log is garbage there.
func (b *Batch) Reset() {
	b.c.hold.release()
	clear(b.c.ops)
	*b.c = commit{ops: b.c.ops[:0], hashes: b.c.hashes[:0], scratch: nil, log: wal.Commit{Sizes: b.c.log.Sizes[:0], Pos: b.c.log.Pos[:0]}}
	*b = Batch{db: b.db, c: b.c, chunk: b.chunk[:0], applied: b.applied[:0]}
}

// Put adds a put.
func (b *Batch) Put(ds *Dataset, key, value []byte) { b.PutWith(ds, key, value, WriteOptions{}) }

// PutWith adds a put with options; Ack is ignored, see CommitWith.
func (b *Batch) PutWith(ds *Dataset, key, value []byte, wo WriteOptions) {
	b.add(op{ds: ds, kind: event.OpPut, key: key, value: value}, wo)
}

// PutNewest adds a newest-wins put; Applied tells its outcome after Commit.
func (b *Batch) PutNewest(ds *Dataset, key, value []byte, t time.Time) {
	b.PutNewestWith(ds, key, value, t, WriteOptions{})
}

// PutNewestWith adds a newest-wins put with options; Ack is ignored, see CommitWith.
func (b *Batch) PutNewestWith(ds *Dataset, key, value []byte, t time.Time, wo WriteOptions) {
	rt, err := newRecordTime(t)
	if b.err == nil {
		b.err = err
	}
	b.add(op{ds: ds, kind: event.OpPut, key: key, value: value, newest: true, time: rt}, wo)
}

// Delete adds a delete.
func (b *Batch) Delete(ds *Dataset, key []byte) { b.DeleteWith(ds, key, WriteOptions{}) }

// DeleteWith adds a delete with options; TTL has no meaning here, and Ack is ignored, see CommitWith.
func (b *Batch) DeleteWith(ds *Dataset, key []byte, wo WriteOptions) {
	b.add(op{ds: ds, kind: event.OpDelete, key: key}, wo)
}

// DeleteRange adds a range delete: it covers what the store and the batch hold so far.
func (b *Batch) DeleteRange(ds *Dataset, from, to []byte) {
	b.DeleteRangeWith(ds, from, to, WriteOptions{})
}

// DeleteRangeWith adds a range delete with options; TTL has no meaning here, and Ack is ignored, see CommitWith.
func (b *Batch) DeleteRangeWith(ds *Dataset, from, to []byte, wo WriteOptions) {
	b.add(op{ds: ds, kind: event.OpDeleteRange, key: from, value: to}, wo)
}

// Applied tells after Commit whether event i was applied: false only for a stale PutNewest.
func (b *Batch) Applied(i int) bool { return i < len(b.applied) && b.applied[i] }

func (b *Batch) copy(p []byte) []byte {
	if p == nil {
		return nil
	}
	if cap(b.chunk)-len(b.chunk) < len(p) {
		b.chunk = make([]byte, 0, max(batchChunk, len(p)))
	}
	start := len(b.chunk)
	b.chunk = append(b.chunk, p...)
	return b.chunk[start:len(b.chunk):len(b.chunk)]
}

func (b *Batch) add(o op, wo WriteOptions) {
	if b.err != nil {
		return
	}
	if b.committed {
		b.err = errors.New("dyngo: an event was added to a batch after its Commit; Reset it first")
		return
	}
	g, err := b.db.enterCall()
	if err != nil {
		b.err = err
		return
	}
	defer g.Exit()
	if b.err = wo.validate(); b.err != nil {
		return
	}
	n := len(b.c.ops)
	if b.err = b.c.add(b.db, o, wo, b.db.now()); b.err != nil {
		return
	}
	p := &b.c.ops[n]
	p.key = b.copy(p.key)
	if p.flags&event.FlagValueRef == 0 {
		p.value = b.copy(p.value)
	}
	b.c.value = b.c.value[:0]
	size := int64(event.PayloadSize(b.db.session, p.key, p.value, p.parts)) + event.MaxWireOverhead + recordTimeRoom
	b.wire += size
	b.pending += size
	if b.wire > MaxBatchBytes {
		b.err = limitError("batch of more than %d bytes, at most %d are allowed", b.wire, int64(MaxBatchBytes))
		return
	}
	if b.wire > b.db.opts.spillBatch && b.pending > b.db.opts.spillPiece {
		b.err = b.writeAhead(len(b.c.ops) - 1)
	}
}

// recordTimeRoom is what a delete may grow by when it is decided.
const recordTimeRoom = 16

// Commit commits the events and returns the LSN of the last one; the others' LSNs precede it densely. It is acknowledged
// as the strongest dataset in it says. An empty batch returns the LSN 0 and writes nothing. After an error nothing of the
// batch is in the store, unless the error is ErrOutcomeUnknown. The batch is kept until Reset; committing it again
// repeats its events.
func (b *Batch) Commit() (LSN, error) { return b.CommitWith(WriteOptions{}) }

// CommitWith is Commit with options; TTL, Reason, Ticket and Correlation are those of the single events.
func (b *Batch) CommitWith(wo WriteOptions) (LSN, error) {
	if b.err != nil {
		return 0, b.err
	}
	db, c := b.db, b.c
	g, err := db.enterCall()
	if err != nil {
		return 0, err
	}
	defer g.Exit()
	if err := wo.validate(); err != nil {
		return 0, err
	}
	if len(c.ops) == 0 {
		return 0, nil
	}
	if err := c.hold.again(); err != nil {
		return 0, err
	}
	defer func() { c.hold.release() }()
	if b.spill != nil {
		if err := b.writeAhead(len(c.ops)); err != nil {
			return 0, openError(db.dir, err)
		}
	}
	frees := true
	for i := range c.ops {
		o := &c.ops[i]
		if o.ds.dropped.Load() != 0 {
			return 0, o.check(db)
		}
		frees = frees && o.kind != event.OpPut
		o.flags &^= event.FlagNotApplied | event.FlagMore
		o.parts = o.base
		if !o.newest {
			o.time = recordTime{}
		}
		if i+1 < len(c.ops) {
			o.flags |= event.FlagMore
		}
	}
	c.log.Sizes, c.hashes, c.seen = c.log.Sizes[:0], c.hashes[:0], nil
	c.log.Wire, c.log.Spill = 0, nil
	if b.spill != nil { // each commit has its own list of stale events
		spill := *b.spill
		spill.NotApplied, c.log.Spill = nil, &spill
	}
	b.committed = true
	if err := db.commit(c, db.ack(c, wo.Ack), frees, db.now()); err != nil {
		return 0, openError(db.dir, err)
	}
	c.hold.referred(c.log.Last())
	b.applied = b.applied[:0]
	for i := range c.ops {
		b.applied = append(b.applied, c.ops[i].flags&event.FlagNotApplied == 0)
	}
	return c.log.Last(), nil
}

// writeAhead puts the events up to op end into data frames. What stays in memory of each is its key and where its value
// lies.
func (b *Batch) writeAhead(end int) error {
	if b.spill == nil {
		b.spill = &wal.Spill{}
		if b.c.hold == nil {
			b.c.hold = b.db.beginHold("a batch is being written")
		}
		b.c.hold.stubs = true
	}
	var buf []byte
	first := b.spilled
	flush := func(end int) error {
		if len(buf) == 0 {
			return nil
		}
		if _, err := b.db.log.Admit(b.db.now(), 0, false); err != nil {
			return err
		}
		pos, crc, err := b.db.log.AppendData(buf)
		if err != nil {
			return err
		}
		b.spill.Add(pos, len(buf), crc)
		at := wal.Position{File: pos.File, Offset: pos.Offset + wal.FrameHeaderSize}
		for i := first; i < end; i++ {
			b.stub(&b.c.ops[i], at, buf)
		}
		buf, first = buf[:0], end
		return nil
	}
	for i := b.spilled; i < end; i++ {
		o := &b.c.ops[i]
		flags := o.flags | event.FlagMore
		if end == len(b.c.ops) && i == end-1 {
			flags &^= event.FlagMore // only Commit writes the last event
		}
		payload := event.AppendPayload(nil, b.db.session, o.key, o.value, o.parts)
		if int64(len(buf)+len(payload)+event.MaxWireOverhead) > b.db.opts.spillPiece {
			if err := flush(i); err != nil {
				return err
			}
		}
		buf = event.AppendWire(buf, o.kind, flags, o.ds.id, 0, payload)
		o.wireEnd = len(buf)
	}
	if err := flush(end); err != nil {
		return err
	}
	b.spilled, b.pending = end, 0
	b.chunk = nil
	return nil
}

// stub replaces the op's value by its place in the log and moves what stays into memory of its own. at is where buf lies.
func (b *Batch) stub(o *op, at wal.Position, buf []byte) {
	keep := len(o.key)
	if cap(b.keys)-len(b.keys) < keep+tail.StubBytes {
		b.keys = make([]byte, 0, max(batchChunk, keep+tail.StubBytes))
	}
	start := len(b.keys)
	b.keys = append(b.keys, o.key...)
	o.key = b.keys[start:len(b.keys):len(b.keys)]
	if len(o.value) > tail.StubBytes && o.flags&event.FlagValueRef == 0 && o.kind == event.OpPut {
		valueEnd := o.wireEnd - len(o.parts)
		off := valueEnd - len(o.value)
		crc := coding.CRC(buf[off:valueEnd])
		size := len(o.value)
		start = len(b.keys)
		b.keys = b.keys[:start+tail.StubBytes]
		o.value = b.keys[start:len(b.keys):len(b.keys)]
		at.Offset += int64(off)
		tail.Stub{LogPos: wal.JoinLogPos(at), Len: uint32(size), CRC: crc}.Put(o.value)
		o.stub = true
	} else if o.flags&event.FlagValueRef == 0 {
		start = len(b.keys)
		b.keys = append(b.keys, o.value...)
		o.value = b.keys[start:len(b.keys):len(b.keys)]
	}
}
