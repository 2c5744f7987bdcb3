package dyngo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/wal"
)

// StateReport is what a verification found out by replaying the log.
type StateReport struct {
	LSN    LSN   // up to which the log was replayed
	Events int64 // each of a dataset and a session that there are, in each pass
	Passes int   // over the log, so that the keys fit into memory
	Keys   int64 // whose current version the store and the log agree on; at LevelState
	Below  int64 // whose current version is from below the floor of retention, where the log has nothing to say
}

const (
	// stateKeys bounds the keys that one pass over the log keeps: some 100 MiB.
	stateKeys = 1 << 19
	// maxStateDefects bounds what is told of a store that has another state than its log.
	maxStateDefects = 100
)

// replay replays the log from the floor of retention on: that every event is of a dataset and a session that exist, and at
// LevelState, that the store has for each key the version and the value that the log says, and no other.
func (v *verification) replay() error {
	if len(v.report.Log.Defects) > 0 {
		return nil // a damaged log says nothing of the state
	}
	for try := 0; ; try++ { // again if an owner has dropped log files meanwhile
		m, err := v.version()
		if err != nil {
			return err
		}
		told := len(v.report.Defects)
		err = v.replayOnce()
		if err != nil && !isMissing(err) || err == nil && len(v.report.Defects) == told || try == maxVerifyTries {
			return err
		}
		now, verr := v.version()
		if verr != nil || now.OldestLog == m.OldestLog {
			return errors.Join(err, verr)
		}
		v.report.Defects = v.report.Defects[:told]
	}
}

func (v *verification) replayOnce() error {
	db, err := Open(v.dir, &Options{FS: v.fs, ReadOnly: true, sealed: true})
	if err != nil {
		if errors.Is(err, ErrNoStore) {
			return nil
		}
		return v.report.note(err)
	}
	r := &stateReplay{verification: v, db: db, r: &StateReport{Passes: 1}}
	v.report.State = r.r
	view, err := db.View()
	if err != nil {
		return errors.Join(err, db.Close())
	}
	r.r.LSN = view.lsn
	if v.level >= LevelState {
		r.r.Passes = int(v.report.Log.Events/stateKeys) + 1
	}
	for r.pass = 0; r.pass < r.r.Passes && err == nil; r.pass++ {
		if err = r.read(); err == nil && v.level >= LevelState {
			err = r.compare(view)
		}
	}
	return errors.Join(err, view.Close(), db.Close())
}

// stateReplay is one replay, in passes.
type stateReplay struct {
	*verification
	db   *DB
	r    *StateReport
	pass int
	told int

	datasets map[event.DatasetID]*replayed
	sessions map[event.SessionID]bool
	unknown  [][2]LSN // batches that began in a dropped log file: what was in them is not known
}

// known says whether the log still tells of an LSN.
func (r *stateReplay) known(lsn LSN) bool {
	return !slices.ContainsFunc(r.unknown, func(u [2]LSN) bool { return u[0] <= lsn && lsn <= u[1] })
}

// replayed is a dataset with the newest versions of those keys that belong to a pass.
type replayed struct {
	keys   map[string]replayedKey
	ranges memtable.RangeDeletes
}

// replayedKey is the newest version of a key.
type replayedKey struct {
	lsn     LSN
	expires int64 // 0 = never
	gone    bool  // it is no value
	hash    [32]byte
}

// mine says whether a key belongs to the pass.
func (r *stateReplay) mine(ds event.DatasetID, key []byte) bool {
	if r.r.Passes == 1 {
		return true
	}
	h := uint64(ds)*0x9e3779b97f4a7c15 + 14695981039346656037
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return (h^h>>32)%uint64(r.r.Passes) == uint64(r.pass)
}

// read replays the log up to the view.
func (r *stateReplay) read() error {
	r.datasets, r.sessions, r.r.Events = map[event.DatasetID]*replayed{}, map[event.SessionID]bool{0: true}, 0
	r.unknown = nil
	oldest := r.db.sorted.set.Current().OldestLog
	s, err := wal.NewScanner(r.fs, path.Join(r.dir, "wal"), wal.ScanOptions{ReadOnly: true, FromFile: oldest})
	if err != nil {
		return r.report.note(err)
	}
	defer s.Close() // only read from
	for s.Tail().NextLSN <= r.r.LSN || s.Tail().File == 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		f, err := s.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			switch f.Kind {
			case wal.KindDictionary:
				err = r.dictionary(f)
			case wal.KindCommit:
				err = f.Places(r.db.readPiece, func(e *event.Event, _ wal.Position, _ []byte) error { return r.event(f, e) })
				if err != nil && unlessDropped(f, err) == nil {
					r.unknown = append(r.unknown, [2]LSN{f.BaseLSN, f.BaseLSN + LSN(f.Count) - 1})
					err = nil
				}
			}
		}
		if err != nil {
			return r.report.note(err)
		}
		r.tell(partReplay, s.Bytes(), r.report.Log.Bytes)
	}
	return nil
}

// dictionary learns what was there before the file.
func (r *stateReplay) dictionary(f *wal.Frame) error {
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return corruption.Locate(err, f.Name, f.Offset)
	}
	for _, s := range d.Sessions {
		r.sessions[s.ID] = true
	}
	for _, ds := range d.Datasets {
		if r.datasets[ds.ID] == nil {
			r.datasets[ds.ID] = &replayed{keys: map[string]replayedKey{}}
		}
	}
	return nil
}

// wrong tells of an event that cannot be.
func (r *stateReplay) wrong(f *wal.Frame, e *event.Event, what string) {
	if r.told++; r.told <= maxStateDefects && r.pass == 0 {
		r.report.Defects = append(r.report.Defects, corruption.At(f.Name, f.Offset, "%s event of LSN %d: %s", e.Op, e.LSN, what))
	}
}

// event applies one event.
func (r *stateReplay) event(f *wal.Frame, e *event.Event) error {
	r.r.Events++
	ds := r.datasets[e.Dataset]
	if e.Op == event.OpSessionOpened {
		s, err := event.ParseSession(e.Value)
		if err != nil {
			return corruption.Locate(err, f.Name, f.Offset)
		}
		r.sessions[s.ID] = true
	}
	if !r.sessions[e.Session] {
		r.wrong(f, e, fmt.Sprintf("session %d was not opened before", e.Session))
	}
	switch {
	case e.Op == event.OpDatasetCreated:
		if ds != nil {
			r.wrong(f, e, fmt.Sprintf("dataset %d is there already", e.Dataset))
		}
		r.datasets[e.Dataset] = &replayed{keys: map[string]replayedKey{}}
		return nil
	case e.Op.System() && e.Op != event.OpDatasetDropped, e.Op == event.OpRedact: // its dataset may be gone
		return nil
	case ds == nil:
		r.wrong(f, e, fmt.Sprintf("there is no dataset %d", e.Dataset))
		return nil
	case e.Op == event.OpDatasetDropped:
		delete(r.datasets, e.Dataset)
		return nil
	case r.level < LevelState || e.Flags&event.FlagNotApplied != 0:
		return nil
	case e.Op == event.OpDeleteRange:
		ds.ranges.Add(e.Key, e.Value, e.LSN, e.LSN) // only the newest is asked for
		return nil
	case !r.mine(e.Dataset, e.Key):
		return nil
	}
	k := replayedKey{lsn: e.LSN, gone: e.Op != event.OpPut || e.Flags&event.FlagRedacted != 0}
	switch {
	case k.gone && e.Op == event.OpPut:
	case e.Op == event.OpPut:
		k.expires, _ = event.Expiry(e.Parts)
		var err error
		k.hash, err = r.value(e)
		switch {
		case errors.Is(err, wal.ErrDropped):
			delete(ds.keys, string(e.Key)) // it was overwritten, or reading it fails
			return nil
		case errors.Is(err, ErrRedacted): // a crash kept the event from saying so
			k.gone = true
		case err != nil:
			return err
		}
	case e.Op == event.OpExpire:
		old, ok := ds.keys[string(e.Key)]
		if prev, has := event.PrevLSN(e.Parts); has && ok && old.lsn != prev {
			return nil // a newer version goes on
		}
	}
	ds.keys[string(e.Key)] = k
	return nil
}

// value is the hash of a value as the reader of it gets it.
func (r *stateReplay) value(e *event.Event) ([32]byte, error) {
	if e.Flags&event.FlagValueRef != 0 {
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			return [32]byte{}, err
		}
		h := sha256.New()
		var b []byte
		for _, p := range ref.Pieces {
			if b, err = r.db.appendPiece(b[:0], p); err != nil {
				return [32]byte{}, err
			}
			h.Write(b)
		}
		return [32]byte(h.Sum(nil)), nil
	}
	value := e.Value
	if codec, raw, packed := event.CodecOf(e.Parts); packed {
		var err error
		if value, err = decompress(nil, codec, e.Value, raw); err != nil {
			return [32]byte{}, err
		}
	}
	return sha256.Sum256(value), nil
}

// compare reads the store at the view and holds each pair against the log.
func (r *stateReplay) compare(view *View) error {
	floor := r.db.sorted.set.Current().FloorLSN
	for _, info := range r.db.Datasets() {
		ds, err := r.db.Dataset(info.Name)
		if err != nil {
			return err
		}
		have := r.datasets[ds.id]
		if have == nil {
			r.differs(ds, nil, "the store has the dataset, the log does not")
			continue
		}
		for kv, err := range view.Scan(ds, Range{}) {
			if err == nil {
				err = r.ctx.Err()
			}
			if err != nil {
				if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
					return err
				}
				return r.report.note(err)
			}
			if !r.mine(ds.id, kv.Key) {
				continue
			}
			k, ok := have.keys[string(kv.Key)]
			delete(have.keys, string(kv.Key))
			switch {
			case have.ranges.Covers(kv.Key, kv.LSN, math.MaxInt64):
				r.differs(ds, kv.Key, fmt.Sprintf("the store has the version of LSN %d, which the log has deleted", kv.LSN))
			case !ok && kv.LSN <= floor, !r.known(kv.LSN):
				r.r.Below++
			case !ok:
				r.differs(ds, kv.Key, fmt.Sprintf("the store has a version of LSN %d, the log has none", kv.LSN))
			case k.lsn != kv.LSN || k.gone:
				r.differs(ds, kv.Key, fmt.Sprintf("the store has the version of LSN %d, the log's newest is of LSN %d", kv.LSN, k.lsn))
			case k.hash != sha256.Sum256(kv.Value):
				r.differs(ds, kv.Key, fmt.Sprintf("the store has another value than the log for LSN %d", kv.LSN))
			default:
				r.r.Keys++
			}
		}
		for key, k := range have.keys { // what the scan did not yield
			if n := len(r.unknown); n > 0 && k.lsn < r.unknown[n-1][1] {
				continue // a batch that is not known may have deleted it
			}
			if k.gone || k.expires != 0 && k.expires <= view.at || have.ranges.Covers([]byte(key), k.lsn, math.MaxInt64) {
				continue
			}
			r.differs(ds, []byte(key), fmt.Sprintf("the log has the version of LSN %d, the store has none", k.lsn))
		}
	}
	return nil
}

// differs tells of a key.
func (r *stateReplay) differs(ds *Dataset, key []byte, what string) {
	if r.told++; r.told > maxStateDefects {
		return
	}
	r.report.Defects = append(r.report.Defects, corruption.At("segments", 0, "dataset %q, key %q: %s", ds.name, key, what))
}
