package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/wal"
)

const (
	// frameBytes is how large frames become that hold several batches.
	frameBytes = 1 << 20
	// spillBytes is from how many bytes on a batch goes to data frames.
	spillBytes = 8 << 20
)

// A copier writes events of one log as those of another. Several of the source's groups share a frame, a batch never spans two. Values
// stay as they are stored; those that lie apart are copied ahead.
type copier struct {
	log   *wal.Builder
	files *wal.Files // of the source
	kept  bool       // LSNs are those of the source

	time int64 // log time of the newest event
	wall int64 // of the source's frame
	hlc  uint64
	next event.LSN // of the next event

	buf   []byte // room for a frame's header, and events; the last batch may be open
	base  int64  // log time of the first of them
	count uint32
	open  int    // where the open batch begins in buf
	in    uint32 // events in it
	flags int    // where the flags of its last event are, in buf, or in piece:
	spill *wal.Spill
	piece []byte // the open batch's events that are not yet in a data frame

	entries                []dictEntry
	set                    *event.DatasetInfo // of the pair put last
	sessions               event.SessionID    // newest
	sets                   event.DatasetID    // newest
	payload, parts, stored []byte

	events, baseKeys, lost int64
}

// dictEntry is what dictionaries tell of from an LSN on.
type dictEntry struct {
	lsn, dropped event.LSN // dropped 0 = not
	session      *event.Session
	dataset      *event.DatasetInfo
}

func newCopier(files *wal.Files, kept bool, began int64) *copier {
	return &copier{files: files, kept: kept, time: began, next: 1, buf: make([]byte, wal.FrameHeaderSize, frameBytes+frameBytes/4)}
}

// dictionary is the body of the dictionary frame of a file whose first LSN is next.
func (c *copier) dictionary(next event.LSN) []byte {
	d := event.Dictionary{NextSession: 1, NextDataset: 1}
	c.entries = slices.DeleteFunc(c.entries, func(e dictEntry) bool { return e.dropped > 0 && e.dropped < next })
	for _, e := range c.entries {
		switch {
		case e.lsn >= next:
		case e.session != nil:
			d.Sessions = append(d.Sessions, *e.session)
			d.NextSession = max(d.NextSession, e.session.ID+1)
		default:
			d.Datasets = append(d.Datasets, *e.dataset)
		}
	}
	d.NextSession, d.NextDataset = max(d.NextSession, c.sessions+1), c.sets+1
	slices.SortFunc(d.Sessions, func(a, b event.Session) int { return int(int64(a.ID) - int64(b.ID)) })
	slices.SortFunc(d.Datasets, func(a, b event.DatasetInfo) int { return int(int64(a.ID) - int64(b.ID)) })
	return event.AppendDictionary(nil, &d)
}

// learn keeps what dictionaries are to tell; the event has the LSN c.next.
func (c *copier) learn(e *event.Event) error {
	switch e.Op {
	case event.OpSessionOpened:
		s, err := event.ParseSession(e.Value)
		if err != nil {
			return err
		}
		c.entries = append(c.entries, dictEntry{lsn: c.next, session: &s})
		c.sessions = max(c.sessions, s.ID)
	case event.OpDatasetCreated, event.OpDatasetChanged:
		created := c.next
		for i := range c.entries {
			if old := &c.entries[i]; old.dataset != nil && old.dataset.ID == e.Dataset && old.dropped == 0 {
				created, old.dropped = old.dataset.Created, c.next // another name or other options take its place
			}
		}
		c.entries = append(c.entries, dictEntry{lsn: c.next, dataset: &event.DatasetInfo{ID: e.Dataset, Created: created,
			Name: string(e.Key), Options: slices.Clone(e.Value)}})
		c.sets = max(c.sets, e.Dataset)
	case event.OpDatasetDropped:
		for i := range c.entries {
			if old := &c.entries[i]; old.dataset != nil && old.dataset.ID == e.Dataset && old.dropped == 0 {
				old.dropped = c.next
			}
		}
	}
	return nil
}

// add takes an event of the source.
func (c *copier) add(e *cli.LogEvent) error {
	if c.kept && e.LSN != c.next {
		return fmt.Errorf("the log goes on with LSN %d where LSN %d follows", e.LSN, c.next)
	}
	if e.Op.System() {
		if err := c.learn(e.Event); err != nil {
			return err
		}
	}
	payload, err := c.payloadOf(e)
	if err != nil || payload == nil {
		return err
	}
	return c.append(e.Op, e.Flags, e.Dataset, e.Time, payload)
}

// begin adds what the dictionary of the source's first log file tells of: its datasets, as far as they are wanted, and sessions.
func (c *copier) begin(d *event.Dictionary, wants func(name string) bool) error {
	for _, s := range d.Sessions {
		if err := c.session(s, c.time); err != nil {
			return err
		}
	}
	for _, ds := range d.Datasets {
		if !wants(ds.Name) {
			continue
		}
		e := event.Event{Op: event.OpDatasetCreated, Dataset: ds.ID, Key: []byte(ds.Name), Value: ds.Options}
		if err := c.system(&e, 0, c.time); err != nil {
			return err
		}
	}
	return nil
}

// session adds the event of a session; one without an id gets the next.
func (c *copier) session(s event.Session, at int64) error {
	if s.ID == 0 {
		s.ID, s.Opened = c.sessions+1, at
	}
	return c.system(&event.Event{Op: event.OpSessionOpened, Value: event.AppendSession(nil, s)}, s.ID, at)
}

// system adds an event of the store itself, as a batch of its own.
func (c *copier) system(e *event.Event, by event.SessionID, at int64) error {
	if err := c.learn(e); err != nil {
		return err
	}
	payload := event.AppendPayload(nil, by, e.Key, e.Value, nil)
	if err := c.append(e.Op, 0, e.Dataset, max(at, c.time), payload); err != nil {
		return err
	}
	return c.end()
}

// put adds a pair of the source whose event is not at hand.
func (c *copier) put(dataset string, kv *dyngo.KV) error {
	if kv.Subject != "" { // in plain text it could not be erased any more
		return cli.Fail(cli.ExitDenied, "dyngo-cli restore, or --archive", "the log has no longer the encrypted value of a subject that %q has "+
			"in dataset %q", kv.Key, dataset)
	}
	if c.set == nil || c.set.Name != dataset {
		i := slices.IndexFunc(c.entries, func(e dictEntry) bool { return e.dataset != nil && e.dropped == 0 && e.dataset.Name == dataset })
		if i < 0 {
			return fmt.Errorf("the log does not tell of dataset %q, which is there", dataset)
		}
		c.set = c.entries[i].dataset
	}
	info := c.set
	o, err := event.ParseDatasetOptions(info.Options)
	if err != nil {
		return err
	}
	flags, value := event.Flags(0), kv.Value
	if int64(len(value)) >= o.LargeValue {
		ref := event.ValueRef{RawSize: int64(len(value))}
		for part := range slices.Chunk(value, event.MaxPieceBytes) {
			pos, crc, err := c.log.Data(part)
			if err != nil {
				return err
			}
			n := uint32(len(part))
			ref.Pieces = append(ref.Pieces, event.Piece{File: pos.File, Offset: uint64(pos.Offset), StoredLen: n, RawLen: n, CRC: crc})
		}
		flags, value = event.FlagValueRef, event.AppendValueRef(nil, ref)
	}
	c.parts = c.parts[:0]
	if !kv.Expires.IsZero() {
		c.parts = event.AppendExpiry(c.parts, kv.Expires.UnixNano())
	}
	c.parts = event.AppendSource(c.parts, strconv.AppendUint(nil, uint64(kv.LSN), 10))
	c.payload = event.AppendPayload(c.payload[:0], 0, kv.Key, value, c.parts)
	c.baseKeys++
	if err := c.append(event.OpPut, flags, info.ID, c.time, c.payload); err != nil {
		return err
	}
	return c.end()
}

// payloadOf is an event's payload in the new log, nil if its value is gone.
func (c *copier) payloadOf(e *cli.LogEvent) ([]byte, error) {
	value, changed := e.Value, false
	if e.Flags&event.FlagValueRef != 0 {
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			return nil, err
		}
		if gone, err := c.copyPieces(ref.Pieces, e.Flags&event.FlagRedacted != 0); err != nil || gone {
			return nil, err
		}
		value, changed = event.AppendValueRef(nil, ref), true
	}
	key, parts := e.Key, e.Parts
	if c.kept {
		if e.Op == event.OpSegmentSealed { // a file of this name here is another one
			key, changed = append([]byte("of the source: "), e.Key...), true
		}
	} else {
		c.parts = event.AppendPartsWithout(c.parts[:0], parts, event.TagPrevLSN, event.TagTransaction, event.TagSource)
		parts, changed = event.InsertPart(c.parts, event.TagSource, strconv.AppendUint(c.stored[:0], uint64(e.LSN), 10)), true
	}
	if !changed {
		return wirePayload(e.Wire), nil
	}
	c.payload = event.AppendPayload(c.payload[:0], e.Session, key, value, parts)
	return c.payload, nil
}

// wirePayload is the payload in the wire form of an event, which was checked.
func wirePayload(wire []byte) []byte {
	_, n := coding.Uvarint(wire)
	n += 2        // op and flags
	for range 2 { // dataset and time
		_, m := coding.Uvarint(wire[n:])
		n += m
	}
	return wire[n:]
}

// copyPieces copies the data frames of a value, and has the pieces name the new ones: of one that was redacted, zeros. gone says that one
// can't be read any more.
func (c *copier) copyPieces(pieces []event.Piece, redacted bool) (gone bool, err error) {
	for i := range pieces {
		p := &pieces[i]
		b := slices.Grow(c.stored[:0], int(p.StoredLen))[:p.StoredLen]
		c.stored = b
		err := c.files.ReadPiece(b, wal.Position{File: p.File, Offset: int64(p.Offset)}, p.CRC)
		if redacted && errors.Is(err, wal.ErrRedacted) {
			err = nil
		}
		if cli.IsGone(err) && !c.kept {
			c.lost++
			return true, nil
		}
		if err != nil {
			return false, err
		}
		pos, crc, err := c.log.Data(b)
		if err != nil {
			return false, err
		}
		p.File, p.Offset, p.CRC = pos.File, uint64(pos.Offset), crc // another CRC if it was redacted
	}
	return false, nil
}

// append adds an event to the open batch.
func (c *copier) append(op event.Op, flags event.Flags, ds event.DatasetID, at int64, payload []byte) error {
	c.time = max(c.time, at)
	size := event.MaxWireOverhead + len(payload)
	if c.spill == nil && len(c.buf)-c.open+size > spillBytes {
		if err := c.beginSpill(); err != nil {
			return err
		}
	}
	flags |= event.FlagMore // the last one loses it
	if c.spill != nil {
		if size > wal.MaxDataBytes {
			return event.Unsupported("%s of %d bytes in a batch of more than %d", op, len(payload), spillBytes)
		}
		if flags&event.FlagNotApplied != 0 {
			c.spill.NotApplied = append(c.spill.NotApplied, uint64(c.in))
			flags &^= event.FlagNotApplied
		}
		if len(c.piece)+size > frameBytes {
			if err := c.writePiece(); err != nil {
				return err
			}
		}
		c.flags = flagsAt(len(c.piece), op, flags, ds, 0, payload)
		c.piece = event.AppendWire(c.piece, op, flags, ds, 0, payload)
	} else {
		if c.count == 0 && c.in == 0 {
			c.base = c.time
		}
		delta := c.time - c.base
		c.flags = flagsAt(len(c.buf), op, flags, ds, delta, payload)
		c.buf = event.AppendWire(c.buf, op, flags, ds, delta, payload)
	}
	c.in++
	c.next++
	c.events++
	return nil
}

// flagsAt is where the flags will be of an event whose wire form begins at an offset.
func flagsAt(at int, op event.Op, flags event.Flags, ds event.DatasetID, delta int64, payload []byte) int {
	size := event.WireSize(op, flags, ds, delta, len(payload))
	n := 1
	for ; coding.UvarintLen(uint64(size-n)) != n; n++ {
	}
	return at + n + 1
}

// beginSpill moves the open batch to data frames.
func (c *copier) beginSpill() error {
	batch := c.buf[c.open:] // which nothing is written over before it is done with
	if err := c.write(); err != nil {
		return err
	}
	c.spill, c.base = &wal.Spill{}, c.time
	for i := uint32(0); len(batch) > 0; i++ {
		e, payload, n, err := event.ParseWire(batch)
		if err != nil {
			return err
		}
		if e.Flags&event.FlagNotApplied != 0 {
			c.spill.NotApplied = append(c.spill.NotApplied, uint64(i))
		}
		if len(c.piece)+n+event.MaxWireOverhead > frameBytes {
			if err := c.writePiece(); err != nil {
				return err
			}
		}
		c.piece = event.AppendWire(c.piece, e.Op, e.Flags&^event.FlagNotApplied, e.Dataset, 0, payload)
		batch = batch[n:]
	}
	return nil
}

func (c *copier) writePiece() error {
	if len(c.piece) == 0 {
		return nil
	}
	pos, crc, err := c.log.Data(c.piece)
	if err == nil {
		c.spill.Add(pos, len(c.piece), crc)
		c.piece = c.piece[:0]
	}
	return err
}

// end ends the open batch.
func (c *copier) end() error {
	if c.in == 0 {
		return nil
	}
	if c.spill == nil {
		c.buf[c.flags] &^= byte(event.FlagMore)
		c.count += c.in
		c.in, c.open = 0, len(c.buf)
		if len(c.buf) >= frameBytes {
			return c.write()
		}
		return nil
	}
	c.piece[c.flags] &^= byte(event.FlagMore)
	if err := c.writePiece(); err != nil {
		return err
	}
	body := c.spill.Append(make([]byte, wal.FrameHeaderSize))
	f := wal.Frame{Kind: wal.KindCommit, Flags: wal.FrameSpilled, BaseLSN: c.next - event.LSN(c.in), BaseTime: c.time, WallTime: c.wall,
		HLC: c.hlc, Count: c.in}
	c.spill, c.in = nil, 0
	return c.log.Commit(&f, body)
}

// write writes the batches that have ended; none is open, or it is not in buf.
func (c *copier) write() error {
	if c.count > 0 {
		f := wal.Frame{Kind: wal.KindCommit, BaseLSN: c.next - event.LSN(c.count+c.in), BaseTime: c.base, WallTime: c.wall, HLC: c.hlc,
			Count: c.count}
		if err := c.log.Commit(&f, c.buf[:c.open:c.open]); err != nil { // it is filled up elsewhere
			return err
		}
	}
	c.buf, c.count, c.open = c.buf[:wal.FrameHeaderSize], 0, wal.FrameHeaderSize
	return nil
}

// sync makes what has ended durable. A batch that is open waits.
func (c *copier) sync() error {
	if c.in > 0 {
		return nil
	}
	if err := c.write(); err != nil {
		return err
	}
	return c.log.Sync()
}
