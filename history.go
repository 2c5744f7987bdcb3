package dyngo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// Version is what one event did to a key.
type Version struct {
	LSN  LSN
	Time time.Time // log time
	// Op is OpPut, OpDelete, OpExpire (the value's time was over), OpRedact, OpDeleteRange, which covered the key, or
	// OpDatasetCreated and OpDatasetDropped of a dataset of this name.
	Op         event.Op
	Value      []byte    // of a put: the caller's, not nil; else nil
	From, To   []byte    // of a range delete: [From, To), nil = open end
	Expires    time.Time // of a put: zero = never
	NotApplied bool      // a put that was not newest: logged, without effect
	// RecordTime is the age that PutNewest compares with: of a put by PutNewest, and of a delete after one; zero = none.
	RecordTime time.Time
	// AtFloor says that it is the version that was current at Metrics.FloorLSN. What came before it is gone. Who wrote it may
	// be unknown, and then Actor is empty.
	AtFloor bool
	// Lost says that the value is gone, since it was overwritten and lies in a log file that retention has dropped, though the
	// event lies above the floor: a batch or large value that was written while the log went on to the next file.
	Lost bool
	// Subject is whom the value is about, see WriteOptions.Subject; empty = nobody, or it was erased. Erased says that the
	// value can't be read any more since its subject was erased.
	Subject string
	Erased  bool
	// Redacted says of a put that its value was destroyed; an OpRedact says so of the version with the LSN Of. See DB.Redact.
	Redacted bool
	Of       LSN
	// Actor, Address and Client are who wrote, as Options.Session said; Reason, Ticket and Correlation say why, as WriteOptions
	// did.
	Actor, Address, Client      string
	Reason, Ticket, Correlation string
}

// by notes who wrote.
func (v *Version) by(s event.Session) { v.Actor, v.Address, v.Client = s.Actor, s.Address, s.Client }

// History yields what happened to key, newest first, up to what is durable when it begins: its puts, deletes and expiries,
// range deletes that cover it, and the creation of the dataset. It goes on with datasets of the same name that were dropped
// before, down to the floor of retention, Metrics.FloorLSN: it ends with the version that was current there, if any was, see
// Version.AtFloor. What lies below the floor is gone.
//
// It reads of a sealed log file that has a side file only what belongs to the key, other files from front to back. Memory
// does not grow with the number of versions. An error ends it, that of ctx too.
func (ds *Dataset) History(ctx context.Context, key []byte) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		h, err := ds.newHistory(key)
		if err != nil {
			yield(Version{}, err)
			return
		}
		for {
			v, err := h.next(ctx)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Version{}, openError(ds.db.dir, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// history walks the log files from the newest to the oldest.
type history struct {
	db    *DB
	name  []byte // of the dataset
	key   []byte
	files []wal.FileInfo // not yet done, the last one is walked now
	track
	after wal.FileInfo // the file after the current one, zero for the newest
	ended bool         // the floor was reached
	scan  *logWalk     // of the current file, nil before it is asked, or while its side file serves
}

// track is where a walk stands.
type track struct {
	id    event.DatasetID // whose events count, 0 = below the creation of one and above the drop of another
	below LSN             // only events before it count
}

// place says where an event of a key lies, and what need not be read there.
type place struct {
	op      event.Op
	flags   event.Flags
	lsn     LSN
	time    int64
	session event.SessionID
	at      wal.Position // of the wire form
	size    uint32
	crc     uint32 // of the wire form
}

func (ds *Dataset) newHistory(key []byte) (*history, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	db := ds.db
	call := db.calls.Enter()
	defer call.Exit()
	if db.closed.Load() {
		return nil, ErrClosed
	}
	if ds.dropped.Load() != 0 {
		return nil, ds.errDropped()
	}
	return db.historyOf(ds.id, []byte(ds.name), bytes.Clone(key))
}

// historyOf is a history that begins with a dataset by its id.
func (db *DB) historyOf(id event.DatasetID, name, key []byte) (*history, error) {
	h := &history{db: db, name: name, key: key}
	h.id, h.below = id, db.DurableLSN()+1
	var err error
	h.files, err = wal.ListFiles(db.opts.FS, db.walDir())
	oldest := db.sorted.set.Current().OldestLog // what is left of those before it goes
	h.files = slices.DeleteFunc(h.files, func(f wal.FileInfo) bool { return f.Seq < oldest })
	return h, err
}

// pop goes on with the file before the current one.
func (h *history) pop() {
	last := len(h.files) - 1
	h.files, h.after, h.scan = h.files[:last], h.files[last], nil
}

// next returns the next older version, io.EOF after the last.
func (h *history) next(ctx context.Context) (Version, error) {
	call := h.db.calls.Enter() // Close waits for the step
	defer call.Exit()
	for len(h.files) > 0 {
		if h.db.closed.Load() {
			return Version{}, ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return Version{}, err
		}
		file := h.files[len(h.files)-1]
		p, by, ok, err := h.find(ctx, file)
		if err != nil {
			if h.isGone(file) {
				break
			}
			return Version{}, err
		}
		if !ok {
			h.pop()
			continue
		}
		e, err := h.db.readEvent(&p)
		v := Version{LSN: p.lsn, Time: time.Unix(0, p.time), Op: p.op, NotApplied: p.flags&event.FlagNotApplied != 0}
		if err == nil {
			v, err = h.version(&e)
		}
		if err != nil && h.isGone(file) {
			break
		}
		if v.Lost = errors.Is(err, wal.ErrDropped); err != nil && !v.Lost {
			return Version{}, err
		}
		v.by(by)
		h.below = p.lsn
		switch p.op {
		case event.OpDatasetCreated:
			h.id = 0
		case event.OpDatasetDropped:
			h.id = e.Dataset
		}
		return v, nil
	}
	h.files = nil
	return h.floor()
}

// isGone says that a file was given up since the history began, and with it all before it.
func (h *history) isGone(file wal.FileInfo) bool {
	files, err := wal.ListFiles(h.db.opts.FS, h.db.walDir())
	return err == nil && len(files) > 0 && files[0].Seq > file.Seq
}

// find returns the newest event of a file that counts.
func (h *history) find(ctx context.Context, file wal.FileInfo) (place, event.Session, bool, error) {
	if file.FirstLSN >= h.below {
		return place{}, event.Session{}, false, nil
	}
	if h.scan == nil && h.after.Seq != 0 {
		if f := h.db.side.get(file, h.after); f != nil {
			p, by, ok, err := f.find(h)
			h.db.side.put(f)
			if err == nil {
				return p, by, ok, nil
			}
			h.db.side.discard(file.Seq)
		}
	}
	if h.scan == nil {
		h.scan = &logWalk{history: h, file: file.Seq}
	}
	return h.scan.find(ctx)
}

// counts says whether an event belongs to the key's history; a track alone decides.
func (h *history) counts(e *event.Event) bool {
	if e.LSN >= h.below {
		return false
	}
	switch e.Op {
	case event.OpDatasetCreated:
		return e.Dataset == h.id && h.id != 0
	case event.OpDatasetDropped:
		return h.id == 0 && bytes.Equal(e.Key, h.name)
	case event.OpDeleteRange:
		return e.Dataset == h.id && h.id != 0 && bytes.Compare(e.Key, h.key) <= 0 &&
			(len(e.Value) == 0 || bytes.Compare(h.key, e.Value) < 0)
	case event.OpPut, event.OpDelete, event.OpExpire, event.OpMerge, event.OpRedact:
		return e.Dataset == h.id && h.id != 0 && bytes.Equal(e.Key, h.key)
	}
	return false
}

// readEvent reads the event at a place.
func (db *DB) readEvent(p *place) (event.Event, error) {
	wire := make([]byte, p.size)
	if err := db.files.ReadAt(wire, p.at); err != nil {
		return event.Event{}, err
	}
	bad := func(what string, err error) (event.Event, error) {
		return event.Event{}, &corruption.Error{File: db.files.Name(p.at.File), Offset: p.at.Offset,
			What: fmt.Sprintf("event of LSN %d: %s", p.lsn, what), Err: err}
	}
	if crc := coding.CRC(wire); crc != p.crc && !redactedSince(p, wire) {
		return bad(fmt.Sprintf("crc %08x, want %08x", crc, p.crc), nil)
	}
	e, _, n, err := event.ParseWire(wire)
	if errors.Is(err, event.ErrUnsupported) {
		return event.Event{}, err
	}
	if err != nil || n != len(wire) || e.Op != p.op {
		return bad(fmt.Sprintf("%s, want %s", e.Op, p.op), err)
	}
	e.LSN, e.Time, e.Flags = p.lsn, p.time, e.Flags|p.flags&event.FlagNotApplied
	return e, nil
}

// redactedSince says whether an event is not what a side file says of it since its value was redacted.
func redactedSince(p *place, wire []byte) bool {
	e, _, n, err := event.ParseWire(wire)
	return err == nil && n == len(wire) && e.Op == p.op && e.Flags&event.FlagRedacted != 0
}

// version is what an event says, with its value wherever that is. It aliases the event.
func (h *history) version(e *event.Event) (v Version, err error) {
	v = Version{LSN: e.LSN, Time: time.Unix(0, e.Time), Op: e.Op, NotApplied: e.Flags&event.FlagNotApplied != 0}
	reason, _ := event.FindAnnotation(e.Parts, "reason")
	ticket, _ := event.FindAnnotation(e.Parts, "ticket")
	correlation, _ := event.FindAnnotation(e.Parts, "correlation")
	v.Reason, v.Ticket, v.Correlation = string(reason), string(ticket), string(correlation)
	if t, ok := event.RecordTime(e.Parts); ok {
		v.RecordTime = time.Unix(0, t)
	}
	switch e.Op {
	case event.OpPut, event.OpMerge:
		if due, ok := event.Expiry(e.Parts); ok {
			v.Expires = unixTime(due)
		}
		stored := value{inline: e.Value, ref: e.Flags&event.FlagValueRef != 0, sealed: sealedBy(e.Flags, e.Parts, e.Key)}
		if codec, raw, ok := event.CodecOf(e.Parts); ok {
			stored.codec, stored.raw = codec, raw
		}
		if v.Subject, err = h.db.subject(stored.sealed); err != nil {
			return v, err
		}
		if v.Value, err = stored.resolve(h.db, []byte{}); err != nil {
			v.Value = nil
		}
		switch {
		case errors.Is(err, ErrErased):
			v.Erased, v.Subject, err = true, "", nil
		case errors.Is(err, ErrRedacted):
			v.Redacted, err = true, nil
		}
	case event.OpRedact:
		v.Of, _ = event.PrevLSN(e.Parts)
	case event.OpDeleteRange:
		if len(e.Key) > 0 {
			v.From = e.Key
		}
		if len(e.Value) > 0 {
			v.To = e.Value
		}
	}
	return v, err
}

// floor returns the version that was current at the floor, io.EOF if there is none: the key had no value there, or was not
// yet, or history goes on above it.
func (h *history) floor() (Version, error) {
	if h.id == 0 || h.ended {
		return Version{}, io.EOF
	}
	h.ended = true
	read := h.db.valueReads.Enter() // before the look at segments: what they refer to stays
	defer read.Exit()
	s := h.db.sorted.acquire()
	defer s.release()
	at := s.version.FloorLSN
	var e segment.Entry
	b, ok, err := s.floorVersion(h.id, h.key, &e)
	if err != nil {
		return Version{}, err
	}
	if !ok {
		return Version{}, io.EOF
	}
	defer b.Release()
	if e.LSN >= h.below || e.Op != event.OpPut && e.Op != event.OpMerge && e.Op != event.OpRedact || hiddenAt(s.rangeDeletes(), &e, at) ||
		hiddenAt(s.historyRanges(), &e, at) {
		return Version{}, io.EOF
	}
	if ds := h.db.catalog.byID(h.id); ds != nil && ds.ranges.Any() && ds.ranges.Covers(h.key, e.LSN, at) {
		return Version{}, io.EOF
	}
	ev := e.Event()
	v, err := h.version(&ev)
	v.AtFloor, v.Lost = true, e.Op == event.OpRedact
	if c := h.db.retention.catalog.Load(); c != nil {
		v.by(c.sessions[e.Session])
	}
	return v, err
}

// logWalk finds the events of a key in a log file that has no side file, by reading all of it. What it finds it keeps, up to
// walkPlaces of the newest; if there were more, it reads the file again when they are used up.
type logWalk struct {
	*history
	file     uint64
	id       event.DatasetID // that the places are of
	places   []place         // LSNs ascending, used from the end
	sessions map[event.SessionID]event.Session
	complete bool // there are no older ones than places had
	read     bool
}

// walkPlaces bounds what a logWalk keeps to 4 MiB.
const walkPlaces = 64 << 10

func (w *logWalk) find(ctx context.Context) (place, event.Session, bool, error) {
	if !w.read || w.id != w.history.id || len(w.places) == 0 && !w.complete {
		if err := w.walk(ctx); err != nil {
			return place{}, event.Session{}, false, err
		}
	}
	if len(w.places) == 0 {
		return place{}, event.Session{}, false, nil
	}
	p := w.places[len(w.places)-1]
	w.places = w.places[:len(w.places)-1]
	return p, w.sessions[p.session], true, nil
}

// walk reads the file from front to back, up to the first event that is too new.
func (w *logWalk) walk(ctx context.Context) error {
	w.read, w.complete, w.id = true, true, w.history.id
	w.places, w.sessions = nil, map[event.SessionID]event.Session{}
	s, err := wal.NewScanner(w.db.opts.FS, w.db.walDir(), wal.ScanOptions{ReadOnly: true, FromFile: w.file, Only: true})
	if err != nil {
		return err
	}
	defer s.Close()
	for s.Tail().NextLSN < w.below { // what lies behind may be on its way
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = w.frame(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *logWalk) frame(f *wal.Frame) error {
	if f.Kind == wal.KindDictionary {
		d, err := event.ParseDictionary(f.Body)
		if err != nil {
			return corruption.Locate(err, f.Name, f.Offset)
		}
		for _, s := range d.Sessions {
			w.sessions[s.ID] = s
		}
		return nil
	}
	if f.Kind != wal.KindCommit {
		return nil
	}
	return unlessDropped(f, f.Places(w.db.readPiece, func(e *event.Event, at wal.Position, wire []byte) error {
		if e.Op == event.OpSessionOpened {
			s, err := event.ParseSession(e.Value)
			if err != nil {
				return corruption.Locate(err, f.Name, f.Offset)
			}
			w.sessions[s.ID] = s
		}
		if w.counts(e) {
			if len(w.places) == walkPlaces {
				w.places, w.complete = w.places[:copy(w.places, w.places[walkPlaces/2:])], false
			}
			w.places = append(w.places, placeOf(e, at, wire))
		}
		return nil
	}))
}

func placeOf(e *event.Event, at wal.Position, wire []byte) place {
	return place{op: e.Op, flags: e.Flags, lsn: e.LSN, time: e.Time, session: e.Session, at: at,
		size: uint32(len(wire)), crc: coding.CRC(wire)}
}

// readPiece reads one piece of a spilled batch.
func (db *DB) readPiece(p event.Piece) ([]byte, error) { return db.files.ReadSpilled(p) }
