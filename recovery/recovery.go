package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/wal"
)

// Options of Run. FS, Dir, Arena, Table and Mono are required.
type Options struct {
	FS    vfs.FS
	Dir   string // of the log files
	Arena *tail.Arena
	Table *memtable.Table
	Mono  func() int64 // monotonic ns, for the report
	// ReadOnly serves the sound prefix: damage ends the log there and is told in the report instead of failing Run, and
	// a frame that a live writer has not finished is no damage.
	ReadOnly bool
	// GenerationBytes is how much of the tail is handed to Seal at a time. Default 64 MiB.
	GenerationBytes int64
	// Flushed is the LSN up to which segments hold every key, range deletes included: of events up to it only what they say
	// of datasets and sessions is taken. 0 reads the whole log.
	Flushed event.LSN
	// Oldest is the sequence of the oldest log file that must be there; 0 = the first. Those before it are passed over.
	Oldest uint64
	// RecordTime looks for the record time of a key's newest version in segments. May be nil.
	RecordTime func(ds event.DatasetID, key []byte) (int64, bool, error)
	// Seal receives the generations in order while the log is read, with the LSN of their last event; their events are in
	// the memtable or noted there. An error ends Run. May be nil.
	Seal func(g tail.Generation, last event.LSN) error
	// Range receives the range deletes above Flushed. May be nil.
	Range func(ds event.DatasetID, from, to []byte, lsn event.LSN, time int64)
	// Refers is told that events up to lsn, above Flushed, refer to a log file and maybe to later ones: to large values in
	// it or, with stubs, to batches whose values stay there. May be nil.
	Refers func(file uint64, lsn event.LSN, stubs bool)
	// Due receives every version with an expiry. May be nil.
	Due func(at int64, lsn event.LSN, ds event.DatasetID, hash uint64)
}

// State is what the log says besides keys and values.
type State struct {
	LogID, TimelineID [16]byte // zero for an empty store
	Tail              wal.Tail
	Datasets          []event.DatasetInfo // alive at the end
	Sessions          []Session
	NextSession       event.SessionID
	NextDataset       event.DatasetID
	FirstFile         uint64 // the log file that reading began with, 0 = there is none
	Report            Report
}

// Session is a session with the LSN of its event.
type Session struct {
	event.Session
	LSN event.LSN
}

// Report tells what was found.
type Report struct {
	Files    int           // log files
	Bytes    int64         // of log read
	Events   int64         // read, system events and stale ones included
	LastLSN  event.LSN     // the log ends here
	Clean    bool          // the store had been closed
	Duration time.Duration // until the log had been read; shards may still be filling
	// TornTail describes what a crash left behind the end, nil if nothing. It is left out, not removed.
	TornTail *TornTail
	// Damage is where a read-only open met damage: it serves what lies before. Nil if there is none.
	Damage *corruption.Error
	// Missing is the newest log file that a read-only open found missing, of those of which segments have all that the present needs.
	// The present is served, but for large values that lie in such a file; reads of the past that need one are refused. Nil if all are there.
	Missing *corruption.Error
}

// TornTail is the incomplete end of a log that was not closed.
type TornTail struct {
	File   string // relative to the store's directory
	Offset int64  // where the log ends
	Bytes  int64  // left out behind it
	// Doubt says what can't be told: bytes written after the last watermark may have been acknowledged, if they were
	// damaged later rather than torn.
	Doubt string
}

func (t *TornTail) String() string {
	return fmt.Sprintf("%s ends at offset %d; %d bytes behind it are an incomplete write and are left out. %s", t.File, t.Offset, t.Bytes, t.Doubt)
}

// Run reads the log. It returns an error that matches corruption.ErrCorrupt on damage, event.ErrUnsupported when the
// files need a newer DynGO.
func Run(o Options) (*State, error) {
	if o.GenerationBytes == 0 {
		o.GenerationBytes = 64 << 20
	}
	r := &run{
		Options: o, hot: o.Arena.NewAppender(), datasets: map[event.DatasetID]event.DatasetInfo{},
		state: &State{NextSession: 1, NextDataset: 1},
	}
	began := o.Mono()
	var err error
	if r.state.FirstFile, r.state.Report.Missing, err = firstFile(o); err != nil {
		return nil, err
	}
	sc, err := wal.NewScanner(o.FS, o.Dir, wal.ScanOptions{ReadOnly: o.ReadOnly, FromFile: r.state.FirstFile})
	if err != nil {
		return nil, err
	}
	defer sc.Close()
	for {
		f, err := sc.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = r.frame(f)
		}
		var damage *corruption.Error
		if o.ReadOnly && errors.As(err, &damage) {
			r.state.Report.Damage = damage
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if err := r.seal(true); err != nil {
		return nil, err
	}
	s := r.state
	s.Tail = sc.Tail()
	s.LogID, s.TimelineID = sc.LogID(), sc.TimelineID()
	for _, id := range slices.Sorted(maps.Keys(r.datasets)) {
		s.Datasets = append(s.Datasets, r.datasets[id])
	}
	s.Report.Files, s.Report.Bytes = sc.Files(), sc.Bytes()
	s.Report.Clean = s.Tail.Clean
	s.Report.LastLSN = r.last
	if s.Tail.Cut {
		s.Report.TornTail = &TornTail{File: "wal/" + wal.FileName(s.Tail.File, s.Tail.FirstLSN), Offset: s.Tail.End, Bytes: s.Tail.CutBytes, Doubt: s.Tail.Doubt}
	}
	s.Report.Duration = time.Duration(o.Mono() - began)
	return s, nil
}

// run is the work in progress.
type run struct {
	Options
	state    *State
	hot      *tail.Appender
	datasets map[event.DatasetID]event.DatasetInfo
	last     event.LSN // applied
	bytes    int64     // in the open generation
	payload  []byte
}

// seal hands over the open generation when it is full, or in any case at the end.
func (r *run) seal(end bool) error {
	if r.bytes == 0 || !end && r.bytes < r.GenerationBytes {
		return nil
	}
	g := r.hot.Seal()
	r.bytes = 0
	if r.Seal != nil {
		return r.Seal(g, r.last)
	}
	return nil
}

// firstFile is the log file to begin with: the one that holds the first event above Flushed, or that such an event will go
// to. The files must follow each other without a gap; with ReadOnly only those from that one on, and the newest gap before is told.
func firstFile(o Options) (first uint64, missing *corruption.Error, err error) {
	files, err := wal.ListFiles(o.FS, o.Dir)
	if err != nil {
		return 0, nil, err
	}
	oldest := max(o.Oldest, 1)
	files = slices.DeleteFunc(files, func(f wal.FileInfo) bool { return f.Seq < oldest })
	if len(files) == 0 && o.Oldest == 0 {
		return 0, nil, nil
	}
	if len(files) == 0 || files[0].Seq != oldest {
		return 0, nil, wal.Missing(o.Dir, oldest)
	}
	if f := files[0]; f.FirstLSN > o.Flushed+1 {
		return 0, nil, &corruption.Error{File: "wal/" + f.Name, What: fmt.Sprintf("the log begins with LSN %d, the segments end with %d", f.FirstLSN, o.Flushed)}
	}
	first = files[0].Seq
	for i, f := range files[1:] {
		gap := wal.Gap(o.Dir, files[i], f)
		if gap != nil && (!o.ReadOnly || f.FirstLSN > o.Flushed+1) {
			return 0, nil, gap
		}
		if gap != nil {
			missing = gap
		}
		if f.FirstLSN <= o.Flushed+1 {
			first = f.Seq
		}
	}
	return first, missing, nil
}

// dictionary takes what is live when the first file begins.
func (r *run) dictionary(f *wal.Frame) error {
	if f.File != r.state.FirstFile {
		return nil
	}
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return inFrame(f, 0, err)
	}
	for _, info := range d.Datasets {
		r.datasets[info.ID] = info
	}
	for _, s := range d.Sessions {
		r.state.Sessions = append(r.state.Sessions, Session{Session: s})
	}
	r.state.NextSession, r.state.NextDataset = max(r.state.NextSession, d.NextSession), max(r.state.NextDataset, d.NextDataset)
	r.last = max(r.last, f.BaseLSN-1)
	return nil
}

func (r *run) frame(f *wal.Frame) error {
	switch f.Kind {
	case wal.KindCommit:
	case wal.KindDictionary:
		return r.dictionary(f)
	default:
		return nil
	}
	if f.Flags&wal.FrameSpilled != 0 {
		return r.spilled(f)
	}
	b := f.Body
	for i := range f.Count {
		e, payload, n, err := event.ParseWire(b)
		if err != nil {
			return inFrame(f, int64(len(f.Body)-len(b)), err)
		}
		e.LSN, e.Time = f.BaseLSN+event.LSN(i), f.BaseTime+e.Time
		at := wal.Position{File: f.File, Offset: f.Offset + wal.FrameHeaderSize + int64(len(f.Body)-len(b)+n-len(payload))}
		if err := r.event(&e, payload, at, false); err != nil {
			return err
		}
		b = b[n:]
	}
	r.last = f.BaseLSN + event.LSN(f.Count) - 1
	return r.seal(false)
}

// inFrame adds the place to an error about a frame's body.
func inFrame(f *wal.Frame, off int64, err error) error {
	if errors.Is(err, event.ErrUnsupported) {
		return fmt.Errorf("%s at %d: %w", f.Name, f.Offset, err)
	}
	return &corruption.Error{File: f.Name, Offset: f.Offset + wal.FrameHeaderSize + off, What: "event", Err: err}
}

// spilled replays a batch that lies in data frames. Its values stay there: only keys and references come into memory.
func (r *run) spilled(f *wal.Frame) error {
	s, err := wal.ParseSpill(f.Body, f.Count)
	if err != nil {
		return inFrame(f, 0, err)
	}
	last := f.BaseLSN + event.LSN(f.Count) - 1
	if last <= r.Flushed { // it holds events of keys only, and the files of its pieces may be gone
		r.state.Report.Events += int64(f.Count)
		r.last = last
		return r.seal(false)
	}
	if r.Refers != nil {
		r.Refers(oldestFile(s.Pieces), last, true)
	}
	files := wal.OpenFiles(r.FS, r.Dir)
	defer files.Close()
	lsn, stale := f.BaseLSN, s.NotApplied
	for _, p := range s.Pieces {
		pos := wal.Position{File: p.File, Offset: int64(p.Offset)}
		b, err := files.ReadSpilled(p)
		if err != nil {
			return err
		}
		for rest := b; len(rest) > 0; lsn++ {
			e, payload, n, err := event.ParseWire(rest)
			if err != nil {
				return inFrame(f, 0, err)
			}
			at := wal.Position{File: pos.File, Offset: pos.Offset + wal.FrameHeaderSize + int64(len(b)-len(rest)+n-len(payload))}
			e.LSN, e.Time = lsn, f.BaseTime
			if len(stale) > 0 && stale[0] == uint64(lsn-f.BaseLSN) {
				e.Flags |= event.FlagNotApplied
				stale = stale[1:]
			}
			if err := r.event(&e, payload, at, true); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	if uint64(lsn-f.BaseLSN) != uint64(f.Count) {
		return &corruption.Error{File: f.Name, Offset: f.Offset, What: fmt.Sprintf("batch of %d events, header says %d", lsn-f.BaseLSN, f.Count)}
	}
	r.last = lsn - 1
	return r.seal(false)
}

// event applies one event. at is where its payload lies. inLog says that the value is to stay there.
func (r *run) event(e *event.Event, payload []byte, at wal.Position, inLog bool) error {
	r.state.Report.Events++
	switch e.Op {
	case event.OpPut, event.OpDelete, event.OpExpire:
		if e.Flags&event.FlagNotApplied != 0 || e.LSN <= r.Flushed {
			return nil
		}
		return r.keyed(e, payload, at, inLog)
	case event.OpDeleteRange:
		if r.Range != nil && e.LSN > r.Flushed {
			r.Range(e.Dataset, bytes.Clone(e.Key), bytes.Clone(e.Value), e.LSN, e.Time)
		}
	case event.OpDatasetCreated:
		r.datasets[e.Dataset] = event.DatasetInfo{ID: e.Dataset, Created: e.LSN, Name: string(e.Key), Options: append([]byte(nil), e.Value...)}
		r.state.NextDataset = max(r.state.NextDataset, e.Dataset+1)
	case event.OpDatasetDropped:
		delete(r.datasets, e.Dataset)
	case event.OpSessionOpened:
		s, err := event.ParseSession(e.Value)
		if err != nil {
			return fmt.Errorf("session opened at LSN %d: %w", e.LSN, err)
		}
		r.state.Sessions = append(r.state.Sessions, Session{s, e.LSN})
		r.state.NextSession = max(r.state.NextSession, s.ID+1)
	case event.OpMerge:
		return fmt.Errorf("%w: %s event at LSN %d", event.ErrUnsupported, e.Op, e.LSN)
	default: // events about derived files, consumers and the like change no key, nor does what was redacted
	}
	return nil
}

// oldestFile is the oldest log file that a piece lies in, 0 = there is no piece.
func oldestFile(pieces []event.Piece) (file uint64) {
	for i, p := range pieces {
		if i == 0 || p.File < file {
			file = p.File
		}
	}
	return file
}

// keyed copies the event into the tail and notes it for its key's shard.
func (r *run) keyed(e *event.Event, payload []byte, at wal.Position, inLog bool) error {
	due, expires := event.Expiry(e.Parts)
	var mem tail.Mem
	if expires {
		mem = tail.MemExpiry
	}
	if e.Flags&event.FlagValueRef != 0 && r.Refers != nil {
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			return fmt.Errorf("value of LSN %d: %w", e.LSN, err)
		}
		if file := oldestFile(ref.Pieces); file > 0 {
			r.Refers(file, e.LSN, false)
		}
	}
	hash := r.Table.Hash(e.Dataset, e.Key)
	if inLog {
		var err error
		if payload, mem, err = r.stubbed(e, payload, at, mem, hash); err != nil {
			return err
		}
	}
	p := r.hot.Reserve(len(payload))
	rec := r.Arena.Record(p)
	copy(rec.Payload(), payload)
	rec.SetLogPos(wal.JoinLogPos(at))
	rec.Fill(e.LSN, e.Time, e.Dataset, e.Op, e.Flags, mem)
	r.bytes += int64(rec.Size())
	r.Table.AddPending(hash, p)
	if expires && r.Due != nil {
		r.Due(due, e.LSN, e.Dataset, hash)
	}
	return nil
}

// stubbed is the payload of an event of a spilled batch as it is kept in memory.
func (r *run) stubbed(e *event.Event, payload []byte, at wal.Position, mem tail.Mem, hash uint64) ([]byte, tail.Mem, error) {
	parts, value := e.Parts, e.Value
	if e.Op != event.OpPut {
		// A delete in a spilled batch was written before it was decided, so it lacks the record time that it keeps.
		if _, ok := event.RecordTime(parts); !ok {
			t, ok, err := r.recordTime(hash, e)
			if err != nil {
				return nil, mem, err
			}
			if ok {
				parts = append(event.AppendRecordTime(nil, t), parts...)
			}
		}
	} else if len(value) > tail.StubBytes && e.Flags&event.FlagValueRef == 0 {
		stub := make([]byte, tail.StubBytes)
		at.Offset += int64(len(payload) - len(parts) - len(value))
		tail.Stub{LogPos: wal.JoinLogPos(at), Len: uint32(len(value)), CRC: coding.CRC(value)}.Put(stub)
		value, mem = stub, mem|tail.MemStub
	}
	r.payload = event.AppendPayload(r.payload[:0], e.Session, e.Key, value, parts)
	return r.payload, mem, nil
}

// recordTime is the record time of the newest version of the event's key before it.
func (r *run) recordTime(hash uint64, e *event.Event) (int64, bool, error) {
	r.Table.Lock(hash) // what was read before may leave memory
	_, head, found := r.Table.Head(hash, e.Dataset, e.Key)
	t, ok := int64(0), false
	if found {
		t, ok = event.RecordTime(head.Parts())
	}
	r.Table.Unlock(hash)
	if found {
		return t, ok, nil
	}
	if r.RecordTime == nil {
		return 0, false, nil
	}
	return r.RecordTime(e.Dataset, e.Key)
}
