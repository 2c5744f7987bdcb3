package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/keyring"
	"github.com/dyngodb/dyngo/wal"
)

// A LogView turns frames of the log into events that people can read: with names for the ids of
// datasets and sessions, and with values in their original form wherever these lie. Frames must
// come in order from the start of a file, whose dictionary names what lives there.
type LogView struct {
	Filter LogFilter
	// Lost, if not nil, is told of batches that can't be read, since they were written ahead into a log file that is gone.
	Lost func(first, last event.LSN)

	files    *wal.Files
	sessions map[event.SessionID]event.Session
	datasets map[event.DatasetID]string
	zstd     *zstd.Decoder // made when needed
}

// A LogEvent is an event of the log, valid during the call that gives it.
type LogEvent struct {
	*event.Event
	DatasetName string        // "#7" if it is not known, empty for events of the log itself
	Who         event.Session // zero if it is not known, or the engine
	Tx          event.LSN     // first LSN of the batch
	Last        bool          // of the batch
	At          wal.Position  // of Wire
	Wire        []byte        // as it stands in the log
	Frame       *wal.Frame
}

// NewLogView makes a view; files are for values and batches that lie apart.
func NewLogView(files *wal.Files, f LogFilter) *LogView {
	if f.To == 0 {
		f.To = event.MaxLSN
	}
	f.From = max(f.From, f.Tx)
	return &LogView{
		files: files, Filter: f,
		sessions: map[event.SessionID]event.Session{}, datasets: map[event.DatasetID]string{},
	}
}

// maxShownValue bounds a value that lies apart: a larger one is told by its size only.
const maxShownValue = 64 << 20

// LogColumns are the columns of events.
func LogColumns() []Column {
	return []Column{
		{Name: "lsn"}, {Name: "time"}, {Name: "op"}, {Name: "dataset"}, {Name: "key"},
		{Name: "to", Detail: true, In: "value"}, {Name: "value"}, {Name: "bytes", Detail: true},
		{Name: "actor", Detail: true}, {Name: "address", Detail: true}, {Name: "client", Detail: true},
		{Name: "reason", Detail: true}, {Name: "ticket", Detail: true}, {Name: "correlation", Detail: true},
		{Name: "tx", Detail: true}, {Name: "expires", Detail: true}, {Name: "record_time", Detail: true},
		{Name: "prev_lsn", Detail: true}, {Name: "flags", Detail: true}, {Name: "source", Detail: true},
	}
}

// Frame calls row with the cells of each event of the frame that the filter lets through. The
// cells are valid during the call.
func (v *LogView) Frame(f *wal.Frame, row func(cells []any) error) error {
	return v.Events(f, func(e *LogEvent) error {
		cells, err := v.Cells(e)
		if err != nil {
			return LocateIn(err, f.Name, f.Offset)
		}
		return row(cells)
	})
}

// Events calls visit with each event of the frame that the filter lets through.
func (v *LogView) Events(f *wal.Frame, visit func(e *LogEvent) error) error {
	if f.Kind == wal.KindDictionary {
		return v.dictionary(f)
	}
	if f.Kind != wal.KindCommit {
		return nil
	}
	last := f.BaseLSN + event.LSN(f.Count) - 1
	spilled := f.Flags&wal.FrameSpilled != 0
	if spilled && (f.BaseLSN > v.Filter.To || last < v.Filter.From) {
		return nil // a batch of changes to data gives no names
	}
	le := LogEvent{Frame: f, Tx: f.BaseLSN}
	var own error // of visit, which is not about bytes
	err := f.Places(v.piece, func(e *event.Event, at wal.Position, wire []byte) error {
		if le.Last {
			le.Tx = e.LSN
		}
		le.Event, le.At, le.Wire = e, at, wire
		if le.Last = e.Flags&event.FlagMore == 0; spilled {
			le.Last = e.LSN == last
		}
		if err := v.learn(e); err != nil {
			return err
		}
		if le.DatasetName = ""; e.Dataset != 0 {
			name, ok := v.datasets[e.Dataset]
			if le.DatasetName = name; !ok {
				le.DatasetName = fmt.Sprintf("#%d", e.Dataset)
			}
		}
		le.Who = v.sessions[e.Session]
		if !v.Filter.wants(&le) {
			return nil
		}
		if len(v.Filter.Where) > 0 {
			holds, err := v.holds(&le)
			if err != nil || !holds {
				return err
			}
		}
		own = visit(&le)
		return own
	})
	switch {
	case own != nil || err == nil:
		return own
	case spilled && IsGone(err):
		if v.Lost != nil {
			v.Lost(f.BaseLSN, last)
		}
		return nil
	}
	return LocateIn(err, f.Name, f.Offset)
}

// holds says whether an event is a put of a value that meets the filter's conditions.
func (v *LogView) holds(e *LogEvent) (bool, error) {
	if e.Op != event.OpPut {
		return false, nil
	}
	if err := v.CheckKey(e); err != nil {
		return false, err
	}
	b, _, err := v.value(e, true)
	return b != nil && v.Filter.Where.Holds(b), err
}

// IsGone says that bytes lie in a log file that is not there, or were redacted.
func IsGone(err error) bool {
	return errors.Is(err, wal.ErrDropped) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, wal.ErrRedacted)
}

// piece reads one piece of a spilled batch.
func (v *LogView) piece(p event.Piece) ([]byte, error) { return v.files.ReadSpilled(p) }

// valuePiece reads one piece of a large value.
func (v *LogView) valuePiece(p event.Piece) ([]byte, error) {
	b := make([]byte, p.StoredLen) // at most 1 MiB
	return b, v.files.ReadPiece(b, wal.Position{File: p.File, Offset: int64(p.Offset)}, p.CRC)
}

func (v *LogView) dictionary(f *wal.Frame) error {
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return LocateIn(err, f.Name, f.Offset)
	}
	for _, s := range d.Sessions {
		v.sessions[s.ID] = s
	}
	for _, ds := range d.Datasets {
		v.datasets[ds.ID] = ds.Name
	}
	return nil
}

// LocateIn adds the place to an error about decoded bytes.
func LocateIn(err error, file string, offset int64) error {
	if errors.Is(err, event.ErrUnsupported) {
		return fmt.Errorf("%s at %d: %w", file, offset, err)
	}
	return corruption.Locate(err, file, offset)
}

// learn keeps the names that an event gives to ids.
func (v *LogView) learn(e *event.Event) error {
	switch e.Op {
	case event.OpDatasetCreated, event.OpDatasetChanged:
		v.datasets[e.Dataset] = string(e.Key)
	case event.OpSessionOpened:
		s, err := event.ParseSession(e.Value)
		if err != nil {
			return err
		}
		v.sessions[s.ID] = s
	}
	return nil
}

// Cells are the row of an event, valid as long as the event is.
func (v *LogView) Cells(e *LogEvent) ([]any, error) {
	var key, to, value, size, expires, record, prev, flags, source any
	var err error
	if len(e.Key) > 0 || e.Op == event.OpDeleteRange {
		key = KeyCell(e.Key)
	}
	switch e.Op {
	case event.OpDeleteRange:
		if len(e.Value) > 0 {
			to = KeyCell(e.Value)
		}
	case event.OpDatasetCreated, event.OpDatasetChanged, event.OpSessionOpened, event.OpClockAnomaly, event.OpKeyDestroyed:
		value = systemValue(e.Event)
	default:
		b, n, err := v.Value(e)
		if err != nil {
			return nil, err
		}
		if n >= 0 {
			size = ByteCell(n)
		}
		if b != nil {
			value = ValueCell(b)
		}
	}
	if t, ok := event.Expiry(e.Parts); ok {
		expires = time.Unix(0, t)
	}
	if t, ok := event.RecordTime(e.Parts); ok {
		record = time.Unix(0, t)
	}
	if lsn, ok := event.PrevLSN(e.Parts); ok {
		prev = lsn
	}
	switch {
	case e.Flags&event.FlagRedacted != 0:
		flags = (e.Flags & (event.FlagRedacted | event.FlagNotApplied)).String()
	case e.Flags&event.FlagNotApplied != 0:
		flags = event.FlagNotApplied.String()
	case e.Flags&event.FlagSealed != 0:
		if _, flags, err = v.keyOf(e); err != nil {
			return nil, err
		}
	}
	if b, ok := event.Source(e.Parts); ok {
		source = EscapeBytes(b)
	}
	return []any{
		e.LSN, time.Unix(0, e.Time), e.Op.String(), orAbsent(e.DatasetName), key, to, value, size,
		orAbsent(e.Who.Actor), orAbsent(e.Who.Address), orAbsent(e.Who.Client), orAbsent(e.Annotation("reason")),
		orAbsent(e.Annotation("ticket")), orAbsent(e.Annotation("correlation")), e.Tx, expires, record, prev, flags, source,
	}, nil
}

// OwnCells copies what aliases a frame.
func OwnCells(cells []any) []any {
	cells = slices.Clone(cells)
	for i, cell := range cells {
		switch c := cell.(type) {
		case KeyCell:
			cells[i] = KeyCell(append([]byte{}, c...))
		case ValueCell:
			cells[i] = ValueCell(append([]byte{}, c...))
		}
	}
	return cells
}

// Annotation is a word about the event, empty if there is none.
func (e *LogEvent) Annotation(key string) string {
	b, _ := event.FindAnnotation(e.Parts, key)
	return string(b)
}

// systemValue shows what an event of the store itself says.
func systemValue(e *event.Event) any {
	var show any
	switch e.Op {
	case event.OpSessionOpened:
		s, err := event.ParseSession(e.Value)
		if err != nil {
			return ValueCell(e.Value)
		}
		show = map[string]any{"actor": s.Actor, "address": s.Address, "client": s.Client, "session": s.ID}
	case event.OpKeyDestroyed:
		id, _ := event.SubjectKey(e.Parts)
		show = map[string]any{"subject_key": fmt.Sprintf("%016x", id)}
	case event.OpClockAnomaly:
		if len(e.Value) != 8 {
			return ValueCell(e.Value)
		}
		ns := int64(0)
		for i, c := range e.Value {
			ns |= int64(c) << (8 * i)
		}
		show = map[string]any{"jump": time.Duration(ns).String()}
	default:
		o, err := event.ParseDatasetOptions(e.Value)
		if err != nil {
			return ValueCell(e.Value)
		}
		show = map[string]any{
			"consistency": o.Consistency.String(), "compression": dyngo.Compression(o.Compression).String(),
			"large_value": o.LargeValue, "ttl": time.Duration(o.TTL).String(),
		}
	}
	b, err := json.Marshal(show)
	if err != nil {
		return ValueCell(e.Value)
	}
	return json.RawMessage(b)
}

// Value returns the value of an event as it was put and its size, -1 if the event has none. A value
// that lies apart is nil unless the filter asks for it, or if it lies in a log file that is gone.
func (v *LogView) Value(e *LogEvent) ([]byte, int64, error) {
	b, n, err := v.value(e, v.Filter.Values)
	if err != nil {
		err = LocateIn(err, v.files.Name(e.At.File), e.At.Offset)
	}
	return b, n, err
}

func (v *LogView) value(e *LogEvent, apart bool) ([]byte, int64, error) {
	switch {
	case e.Flags&event.FlagRedacted != 0: // its length stays
		if e.Flags&event.FlagValueRef != 0 {
			ref, err := event.ParseValueRef(e.Value)
			return nil, ref.RawSize, err
		}
		if _, raw, ok := event.CodecOf(e.Parts); ok {
			return nil, int64(raw), nil
		}
		return nil, int64(len(e.Value)), nil
	case e.Flags&event.FlagSealed != 0:
		return v.open(e, apart)
	case e.Flags&event.FlagValueRef != 0:
		ref, err := event.ParseValueRef(e.Value)
		if err != nil || !apart || ref.RawSize > maxShownValue {
			return nil, ref.RawSize, err
		}
		b := make([]byte, 0, ref.RawSize)
		for _, p := range ref.Pieces {
			if b, err = v.appendPiece(b, p); IsGone(err) {
				return nil, ref.RawSize, nil
			} else if err != nil {
				return nil, 0, err
			}
		}
		return b, ref.RawSize, nil
	case e.Op != event.OpPut && len(e.Value) == 0:
		return nil, -1, nil
	}
	if codec, raw, ok := event.CodecOf(e.Parts); ok {
		b, err := v.decompress(make([]byte, 0, min(raw, event.MaxInlineRaw)), codec, e.Value, raw)
		return b, int64(raw), err
	}
	if e.Value == nil {
		return []byte{}, 0, nil
	}
	return e.Value, int64(len(e.Value)), nil
}

// keyOf returns the key that an event's value is encrypted under, and a word for flags: nil and "erased" if it was destroyed,
// "encrypted" if there are no keys to look in.
func (v *LogView) keyOf(e *LogEvent) (*keyring.Key, string, error) {
	if v.Filter.Keys == nil {
		return nil, "encrypted", nil
	}
	id, _ := event.SubjectKey(e.Parts)
	k, err := v.Filter.Keys.Key(id)
	switch {
	case errors.Is(err, keyring.ErrDestroyed):
		return nil, "erased", nil
	case errors.Is(err, keyring.ErrNoKey):
		return nil, "encrypted", nil
	case err != nil:
		return nil, "", err
	}
	return k, "subject", nil
}

// CheckKey returns an error that matches ErrNoKeys if an event's value is encrypted and its key is not at hand: nobody can say what it
// is, or that it was erased.
func (v *LogView) CheckKey(e *LogEvent) error {
	if e.Flags&(event.FlagSealed|event.FlagRedacted) != event.FlagSealed {
		return nil
	}
	k, word, err := v.keyOf(e)
	if err == nil && k == nil && word != "erased" {
		id, _ := event.SubjectKey(e.Parts)
		err = fmt.Errorf("%w: the value of LSN %d is encrypted under the key %016x", dyngo.ErrNoKeys, e.LSN, id)
	}
	return err
}

// open is value for an encrypted value.
func (v *LogView) open(e *LogEvent, apart bool) ([]byte, int64, error) {
	k, _, err := v.keyOf(e)
	size := int64(len(e.Value))
	open := func(dst []byte, p keyring.Piece, sealed []byte) ([]byte, error) {
		p.Key = e.Key
		codec, raw, stored, err := k.Open(p, sealed)
		if err != nil {
			return dst, &corruption.Error{File: v.Filter.Keys.FileName(k.ID), What: "the key does not open a value that names it", Err: err}
		}
		return v.decompress(dst, codec, stored, raw)
	}
	if e.Flags&event.FlagValueRef == 0 {
		if k == nil || err != nil {
			return nil, size, err
		}
		b, err := open([]byte{}, keyring.Piece{Last: true}, e.Value)
		return b, int64(len(b)), err
	}
	ref, rerr := event.ParseValueRef(e.Value)
	if err = errors.Join(err, rerr); k == nil || err != nil || !apart || ref.RawSize > maxShownValue {
		return nil, ref.RawSize, err
	}
	var b []byte
	for i, p := range ref.Pieces {
		stored, err := v.valuePiece(p)
		if err == nil {
			b, err = open(b, keyring.Piece{Index: uint32(i), Last: i == len(ref.Pieces)-1}, stored)
		}
		if IsGone(err) {
			return nil, ref.RawSize, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return b, int64(len(b)), nil
}

func (v *LogView) appendPiece(dst []byte, p event.Piece) ([]byte, error) {
	stored, err := v.valuePiece(p)
	if err != nil {
		return nil, err
	}
	b, err := v.decompress(dst, p.Codec, stored, int(p.RawLen))
	return b, LocateIn(err, v.files.Name(p.File), int64(p.Offset))
}

// decompress appends raw bytes that are stored as src.
func (v *LogView) decompress(dst []byte, codec event.Codec, src []byte, raw int) ([]byte, error) {
	bad := func(err error) error {
		return &corruption.Error{What: fmt.Sprintf("%s value of %d bytes", codec, raw), Err: err}
	}
	start := len(dst)
	var err error
	switch codec {
	case event.CodecNone:
		dst = append(dst, src...)
	case event.CodecS2:
		if n, err := s2.DecodedLen(src); err != nil || n != raw {
			return nil, bad(err)
		}
		var b []byte
		b, err = s2.Decode(nil, src)
		dst = append(dst, b...)
	case event.CodecZstd:
		if v.zstd == nil {
			v.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(event.MaxInlineRaw))
			if err != nil {
				return nil, err
			}
		}
		dst, err = v.zstd.DecodeAll(src, dst)
	default:
		return nil, event.Unsupported("value codec %d", uint8(codec))
	}
	if err != nil || len(dst)-start != raw {
		return nil, bad(err)
	}
	return dst, nil
}
