package dyngo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/index"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// RedactOptions are the options of DB.Redact. The zero value redacts.
type RedactOptions struct {
	// Reason, Ticket and Correlation are kept in the event, for audits. Don't repeat in them what is to go.
	Reason, Ticket, Correlation string
	// DryRun changes nothing: it tells what would be redacted, and what is in the way of it as far as that is known beforehand. A
	// read-only store can do that too.
	DryRun bool
}

// Redaction tells of a value that was destroyed.
type Redaction struct {
	LSN     LSN    // of the put whose value it was
	Dataset string // its name; empty if it was dropped
	Key     []byte
	Bytes   int64     // of the value as it was stored
	Written time.Time // log time of the put
	// By is the LSN of the event that says so, and Time its log time; zero after DryRun, or if the log has no such event. Already
	// says that it was done before.
	By      LSN
	Time    time.Time
	Already bool
	// Actor, Reason and Ticket are of the event.
	Actor, Reason, Ticket string
	// Files are the log files that were written anew, or would be.
	Files []string
}

// Redact destroys the value that the event with an LSN has put, for good: in the log and in segments zeros take its place, or nothing.
// An event says so, durably; it and the change on disk are there on return. Key, time and reason of the put stay, and so do the
// hash tree and proofs of all other events. Reads of the past that would see the value get ErrRedacted.
//
// The event must be a put, and not what its key has now: overwrite or delete the key first. Neither may a snapshot have it, or a part
// of it: drop those that are named. Of a batch that was committed twice, values that lie apart from their events can't be redacted.
// ErrRedact is matched by the error that says what is in the way, and ErrUnredactable too if that never goes away; ErrNotFound if there is
// no such event, ErrOutsideWindow if retention has dropped it. Redacting twice is no error: the result says when it was done.
//
// What it can't reach: backups, archives and other copies of files; what was read before, also by processes that have the store open
// for reading, which have it in memory and in segments; blocks of the disk that file systems have freed. Who follows the log beside
// goes on without the value, but for what was read ahead, up to 2 MiB. The log keeps a SHA-256 that stands for the value in the hash
// tree, its length, and CRCs of what it stood in: a value that can be guessed can be confirmed with them, and one of up to 4 bytes follows from
// the CRC without a guess. So change a password that was logged.
//
// It takes as long as copying the log files that hold the value, and merging the segments that do. Meanwhile Snapshot and DropSnapshot
// wait, on a full disk until there is space. After an error, and after a crash, the value may be there or not: the next Redact or
// Snapshot, and the next Open, carries out what was logged. With ErrOutcomeUnknown only Open can tell whether it was.
func (db *DB) Redact(ctx context.Context, lsn LSN, o RedactOptions) (*Redaction, error) {
	wo := WriteOptions{Reason: o.Reason, Ticket: o.Ticket, Correlation: o.Correlation}
	if err := wo.validate(); err != nil {
		return nil, err
	}
	if o.DryRun {
		call := db.calls.Enter()
		defer call.Exit()
		if db.closed.Load() {
			return nil, ErrClosed
		}
	} else {
		call, err := db.enterCall()
		if err != nil {
			return nil, err
		}
		defer call.Exit()
	}
	db.snapshots.Lock()
	defer db.snapshots.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(db.ctx, cancel)()
	r, err := db.redact(ctx, lsn, wo, o.DryRun)
	if err != nil && db.closed.Load() {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return r, openError(db.dir, err)
}

// redact is Redact in steps; a crash before 6 leaves the store as it was, but for files that the next owner removes, a later one what
// that owner carries out. db.snapshots is held.
//
//  1. What an earlier call has begun is carried out.
//  2. The event is found, and what is in the way.
//  3. The file that it lies in is sealed. From here on retention drops none of its files, and nobody makes a snapshot.
//  4. What hides the value is written as segments; the value leaves memory; segments that hold it are merged without it.
//  5. The log files that hold it are written anew beside them, durably.
//  6. The redaction is logged, durably.
//  7. The new files take the names of the old ones, durably.
func (db *DB) redact(ctx context.Context, lsn LSN, wo WriteOptions, dryRun bool) (*Redaction, error) {
	if !dryRun {
		if err := db.finishRedaction(); err != nil {
			return nil, fmt.Errorf("carry out a redaction that was begun: %w", err)
		}
		if err := db.log.WaitDurable(ctx, db.log.AppliedLSN()); err != nil { // also what hides it
			return nil, err
		}
	}
	t, err := db.findRedacted(ctx, lsn)
	if err != nil || t.r.Already {
		return t.r, err
	}
	if err := db.mayRedact(ctx, t); err != nil || dryRun {
		return t.r, err
	}
	if t.frame.File == db.log.File() {
		end, err := db.log.Rotate()
		if err == nil {
			err = db.log.WaitDurable(ctx, end.NextLSN-1)
		}
		if err != nil {
			return nil, err
		}
	}
	hold := &hold{set: &db.holds, name: "redaction", reason: fmt.Sprintf("of LSN %d", lsn), since: db.opts.Clock.Wall()}
	if !hold.begin(t.files[0].Seq) {
		return nil, t.errDropped()
	}
	defer func() {
		if db.unfinished == nil {
			hold.release()
		}
	}()
	if err := db.removeLeftSnapshots(); err != nil {
		return nil, fmt.Errorf("what a crash has left of a snapshot can't be removed, and may have the value: %w", err)
	}
	if err := db.forgetValue(ctx, t); err != nil {
		return nil, err
	}
	for _, dir := range []string{snapshot.Dir, manifest.Dir} { // what was removed there does not come back with a power loss
		if err := db.opts.FS.SyncDir(path.Join(db.dir, dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := db.writeRedacted(ctx, t, db.DurableLSN()); err != nil {
		_ = db.finishRedaction() // it removes them, else the next one does
		return nil, err
	}
	db.unfinished = hold
	err = db.logRedacted(t, wo)
	ferr := db.finishRedaction()
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		return nil, fmt.Errorf("dyngo: whether LSN %d is redacted is up to the next Open, which carries it out if the log has the event: %w",
			lsn, err)
	case err != nil:
		return nil, err
	case ferr != nil:
		return nil, fmt.Errorf("dyngo: the redaction was logged as LSN %d, and is to be carried out by the next one, or the next Open: %w",
			t.r.By, ferr)
	}
	t.r.Actor, t.r.Reason, t.r.Ticket = db.opts.Session.Actor, wo.Reason, wo.Ticket
	return t.r, nil
}

// redacted is an event whose value is to go.
type redacted struct {
	r       *Redaction
	ds      event.DatasetID
	applied bool
	hash    integrity.Hash // what stands for the value in the hash tree

	frame  wal.Position // of the frame that holds the event: of a spilled batch a data frame
	spill  bool         // it is of one
	at     wal.Position // of the event
	pieces []event.Piece
	files  []wal.FileInfo // that hold something of it, the oldest first
}

func (t *redacted) errDropped() error {
	return fmt.Errorf("%w: LSN %d, or a part of its value, lies in log files that retention has dropped or is about to drop", ErrOutsideWindow, t.r.LSN)
}

// errCantRedact says what is in the way, and what to do about it.
func errCantRedact(lsn LSN, format string, args ...any) error {
	return fmt.Errorf("%w: LSN %d: %w", ErrRedact, lsn, fmt.Errorf(format, args...))
}

// errNeverRedact says why nothing can be done.
func errNeverRedact(lsn LSN, format string, args ...any) error {
	return fmt.Errorf("%w: LSN %d: %w", ErrUnredactable, lsn, fmt.Errorf(format, args...))
}

// findRedacted finds an event by its LSN.
func (db *DB) findRedacted(ctx context.Context, lsn LSN) (*redacted, error) {
	t := &redacted{r: &Redaction{LSN: lsn}}
	v := db.sorted.set.Current()
	switch {
	case lsn == 0 || lsn > db.DurableLSN():
		return t, fmt.Errorf("%w: there is no LSN %d, the log has durable events from %d to %d", ErrNotFound, lsn, v.FloorLSN+1, db.DurableLSN())
	case lsn <= v.FloorLSN:
		return t, fmt.Errorf("%w: retention has dropped the events up to LSN %d from the log, that of LSN %d with them", ErrOutsideWindow, v.FloorLSN, lsn)
	}
	read := db.valueReads.Enter() // retention waits
	defer read.Exit()
	var failed error
	found := false
	err := db.eachFrame(ctx, lsn, func(f *wal.Frame) bool {
		if f.Kind != wal.KindCommit || f.BaseLSN+LSN(f.Count) <= lsn {
			return true
		}
		failed = corruption.Locate(f.Places(db.readPiece, func(e *event.Event, at wal.Position, wire []byte) error {
			if e.LSN != lsn {
				return nil
			}
			found = true
			return db.takeRedacted(t, f, e, at, wire)
		}), f.Name, f.Offset)
		return false
	})
	switch err := cmp.Or(err, failed); {
	case errors.Is(err, wal.ErrDropped):
		return t, t.errDropped()
	case err != nil:
		return t, err
	case !found:
		return t, fmt.Errorf("%w: the log has no event with LSN %d", ErrNotFound, lsn)
	}
	if t.r.Already {
		return t, db.tellRedacted(ctx, t.r)
	}
	infos, err := wal.ListFiles(db.opts.FS, db.walDir())
	if err != nil {
		return t, err
	}
	holds := map[uint64]bool{t.frame.File: true}
	for _, p := range t.pieces {
		holds[p.File] = true
	}
	for _, f := range infos {
		if holds[f.Seq] && f.Seq >= v.OldestLog {
			t.files = append(t.files, f)
			t.r.Files = append(t.r.Files, "wal/"+f.Name)
		}
	}
	if len(t.files) != len(holds) {
		return t, t.errDropped()
	}
	return t, nil
}

// takeRedacted takes down what is to be known of the event.
func (db *DB) takeRedacted(t *redacted, f *wal.Frame, e *event.Event, at wal.Position, wire []byte) error {
	if e.Op != event.OpPut {
		return errNeverRedact(e.LSN, "the event is a %s, only what a put has written is redacted", e.Op)
	}
	t.ds, t.r.Key, t.r.Written = e.Dataset, bytes.Clone(e.Key), unixTime(e.Time)
	t.applied = e.Flags&event.FlagNotApplied == 0
	if ds := db.catalog.byID(e.Dataset); ds != nil && ds.dropped.Load() == 0 {
		t.r.Dataset = ds.name
	}
	t.r.Bytes = int64(len(e.Value))
	if e.Flags&event.FlagValueRef != 0 {
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			return err
		}
		t.r.Bytes = 0
		for _, p := range ref.Pieces {
			t.r.Bytes += int64(p.StoredLen)
		}
	}
	switch {
	case e.Flags&event.FlagRedacted != 0:
		t.r.Already = true
		return nil
	case len(e.Value) == 0:
		return errNeverRedact(e.LSN, "its value is empty, so there is nothing to destroy")
	}
	leaf, err := leafSource(db.files, nil).LeafOf(e)
	if err != nil {
		return err
	}
	t.hash = leaf.Value
	if t.pieces, err = event.Redact(bytes.Clone(wire)); err != nil {
		return errNeverRedact(e.LSN, "%w", err)
	}
	t.frame, t.at, t.spill = f.Position(), at, f.Flags&wal.FrameSpilled != 0
	if !t.spill {
		return nil
	}
	s, err := wal.ParseSpill(f.Body, f.Count)
	for _, p := range s.Pieces {
		if from := int64(p.Offset) + wal.FrameHeaderSize; p.File == at.File && from <= at.Offset && at.Offset < from+int64(p.StoredLen) {
			t.frame = wal.Position{File: p.File, Offset: int64(p.Offset)}
		}
	}
	return err
}

// mayRedact says what is in the way. db.snapshots is held.
func (db *DB) mayRedact(ctx context.Context, t *redacted) error {
	lsn := t.r.LSN
	if other, err := db.sharing(ctx, t); err != nil {
		return err
	} else if other != 0 {
		return errNeverRedact(lsn, "LSN %d has its value in the same bytes, since a batch was committed twice; they go when retention drops "+
			"their log files, once the key is overwritten or deleted", other)
	}
	if t.applied {
		current, err := db.isCurrent(t)
		if err != nil {
			return err
		}
		if current {
			return errCantRedact(lsn, "its value is what the key has now; overwrite or delete the key first, so that nobody misses it")
		}
	}
	names, err := db.snapshotsWith(t)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return errCantRedact(lsn, "the value is in snapshots too; drop them first: %q", names)
	}
	for _, f := range t.files {
		if db.opts.Archive == "" {
			break
		}
		name := path.Join(db.opts.Archive, wal.ArchivedName(f.Name))
		for _, name := range []string{name, name + archiveTemp} {
			if has, err := vfs.Exists(db.opts.FS, name); err != nil {
				return err
			} else if has {
				return errCantRedact(lsn, "the archive has a copy of the log file already; remove it first: %s", name)
			}
		}
	}
	if has, err := vfs.Exists(db.opts.FS, path.Join(db.dir, repairDir)); err != nil {
		return err
	} else if has {
		return errCantRedact(lsn, "%s has what a repair has put aside that was interrupted; repair the store again, which removes it", repairDir)
	}
	s := db.sorted.acquire()
	defer s.release()
	if num := db.retention.damaged(s); num != "" {
		return errCantRedact(lsn, "segment %s is damaged, and may hold the value; repair the store first", num)
	}
	return nil
}

// sharing returns the LSN of another event that has its value in the same bytes of the log, 0 = there is none: a batch that was committed
// again refers to what it has written ahead. Such an event is of the same key.
func (db *DB) sharing(ctx context.Context, t *redacted) (LSN, error) {
	if !t.spill && len(t.pieces) == 0 {
		return 0, nil
	}
	h, err := db.historyOf(t.ds, nil, t.r.Key)
	if err != nil {
		return 0, err
	}
	for len(h.files) > 0 && h.files[len(h.files)-1].Seq >= t.files[0].Seq {
		p, _, ok, err := h.find(ctx, h.files[len(h.files)-1])
		if err != nil {
			return 0, err
		}
		if !ok {
			h.pop()
			continue
		}
		if h.below = p.lsn; p.op != event.OpPut || p.lsn == t.r.LSN {
			continue
		}
		if t.spill && p.at == t.at {
			return p.lsn, nil
		}
		e, err := db.readEvent(&p)
		if err != nil {
			return 0, err
		}
		if e.Flags&event.FlagValueRef == 0 || e.Flags&event.FlagRedacted != 0 {
			continue
		}
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(ref.Pieces, func(p event.Piece) bool { return slices.Contains(t.pieces, p) }) {
			return e.LSN, nil
		}
	}
	return 0, nil
}

// snapshotsWith names the snapshots that have the value or a part of it, or may have: of a folder that does not say what it is nobody
// knows. db.snapshots is held.
func (db *DB) snapshotsWith(t *redacted) (with []string, err error) {
	dir := path.Join(db.dir, snapshot.Dir)
	names, _, err := snapshot.List(db.opts.FS, dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		info, err := readSnapshot(db.opts.FS, db.dir, name)
		has := errors.Is(err, ErrNoSnapshot) || err == nil && info.LSN >= t.r.LSN
		if err == nil && !has {
			has, err = db.hasPart(&info, t)
		}
		switch {
		case has:
			with = append(with, name)
		case err != nil:
			return nil, err
		}
	}
	return with, nil
}

// hasPart says whether a snapshot of before the event has a part of its value: it was made while that was being written.
func (db *DB) hasPart(s *SnapshotInfo, t *redacted) (bool, error) {
	parts := []wal.Position{t.frame}
	for _, p := range t.pieces {
		parts = append(parts, wal.Position{File: p.File, Offset: int64(p.Offset)})
	}
	for _, f := range t.files {
		info, err := db.opts.FS.Stat(path.Join(s.Dir, "wal", f.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || slices.ContainsFunc(parts, func(p wal.Position) bool { return p.File == f.Seq && p.Offset < info.Size }) {
			return err == nil, err
		}
	}
	return false, nil
}

// isCurrent says whether nothing newer hides the version.
func (db *DB) isCurrent(t *redacted) (bool, error) {
	ds, lsn := db.catalog.byID(t.ds), t.r.LSN
	if ds == nil || ds.dropped.Load() != 0 {
		return false, nil
	}
	g := db.reads.Enter()
	defer g.Exit()
	if r, ok := db.mem.Get(db.mem.Hash(t.ds, t.r.Key), t.ds, t.r.Key, db.LSN()); ok {
		if r.LSN() > lsn {
			return false, nil
		}
		return !ds.ranges.Any() || !ds.ranges.Covers(t.r.Key, lsn, event.MaxLSN), nil
	}
	if ds.ranges.Any() && ds.ranges.Covers(t.r.Key, lsn, event.MaxLSN) {
		return false, nil
	}
	var e segment.Entry
	b, ok, err := db.sorted.current.Load().get(t.ds, t.r.Key, event.MaxLSN, &e) // after memory: see Dataset.find
	if !ok || err != nil {
		return false, err // what has hidden it is forgotten
	}
	defer b.Release()
	return e.LSN == lsn, nil
}

// forgetValue has memory, what is kept of segments in memory, and segments let the version go. It never comes back: nobody reads it any more, and views opened from
// now on don't see it.
func (db *DB) forgetValue(ctx context.Context, t *redacted) error {
	if err := db.flusher.flushAll(); err != nil { // what hides it too
		return err
	}
	if err := db.flusher.flushTo(0, t.r.LSN); err != nil {
		return err
	}
	db.compact.hurry.Add(1)
	defer db.compact.hurry.Add(-1)
	db.pacer.SetUrgency(pacer.Compaction, 1)
	key := manifest.Key{Dataset: t.ds, Key: t.r.Key}
	var ended <-chan struct{} // nil = there are no jobs
	pick := func(v *manifest.Version, in compaction.Input) (compaction.Job, bool) {
		if ended = nil; len(in.Running) > 0 {
			ended = db.compact.ended
		}
		return compaction.Through(v, in, key)
	}
	old := map[string]bool{} // files that had it
	for merged := false; ; {
		names, err := db.holding(t)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			old[name] = true
		}
		if merged {
			return errCantRedact(t.r.LSN, "segments must keep the value while somebody may read it: close views, or the processes that "+
				"have them open; open at LSN %v", db.views.hold())
		}
		did, err := db.compact.once(ctx, pick, false)
		merged = did
		if err == nil && !did {
			if ended == nil {
				return errCantRedact(t.r.LSN, "segments %q hold the value and can't be merged; verify the store, and repair what is damaged", names)
			}
			err = db.compact.wait(ctx, ended)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	if db.records != nil {
		db.records.Clear()
	}
	if ds := db.catalog.byID(t.ds); ds != nil {
		ds.hot.remove(func(r *index.Range) bool { return r.Covers(t.r.Key) })
	}
	return db.waitGone(ctx, t, old)
}

// maxRedactWait is how long is waited for scans, and for merges of other segments, that still have files open which are to go.
const maxRedactWait = 10 * time.Second

// waitGone waits until files of segments that no version has any more are removed.
func (db *DB) waitGone(ctx context.Context, t *redacted, names map[string]bool) error {
	timer := db.opts.Clock.NewTimer(maxRedactWait)
	defer timer.Stop()
	for name := range names {
		for {
			db.reads.Synchronize()
			db.sorted.sweep()
			has, err := vfs.Exists(db.opts.FS, path.Join(db.dir, name))
			if err != nil {
				return err
			}
			if !has {
				break
			}
			select {
			case <-db.sorted.freed:
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C():
				return errCantRedact(t.r.LSN, "a scan still reads from %s, which has the value; end it first", name)
			}
		}
	}
	return nil
}

// holding names the segments that have the version.
func (db *DB) holding(t *redacted) (names []string, err error) {
	s := db.sorted.acquire()
	defer s.release()
	hash := segment.Hash(s.seed, t.ds, t.r.Key)
	for i := range s.runs {
		r := &s.runs[i]
		n := r.firstFrom(t.ds, t.r.Key)
		if n == len(r.Segments) || !r.holds(n, t.ds, t.r.Key) {
			continue
		}
		var e segment.Entry
		b, ok, err := r.readers[n].Get(t.ds, t.r.Key, hash, t.r.LSN, &e)
		if err != nil {
			return nil, err
		}
		if ok {
			if e.LSN == t.r.LSN {
				names = append(names, segmentDisplayName(r.Segments[n].Num))
			}
			b.Release()
		}
	}
	return names, nil
}

// writeRedacted writes the log files anew beside the old ones, durably.
func (db *DB) writeRedacted(ctx context.Context, t *redacted, after LSN) error {
	db.retention.hurry(1) // somebody waits
	defer db.retention.hurry(-1)
	work := db.pacer.Begin(pacer.Verify)
	defer work.End()
	step := func(b []byte) error { return work.Wait(ctx, 2*int64(len(b))) }
	for _, f := range t.files {
		what := wal.Redaction{}
		if t.frame.File == f.Seq {
			what.Event, what.Frame = t.at.Offset, t.frame.Offset
		}
		for _, p := range t.pieces {
			if p.File == f.Seq {
				what.Pieces = append(what.Pieces, int64(p.Offset))
			}
		}
		name := wal.Redacted{Seq: f.Seq, LSN: t.r.LSN, After: after}.Name()
		if now, err := db.opts.FS.Stat(path.Join(db.walDir(), f.Name)); err != nil {
			return err
		} else {
			f.Size = now.Size // it was sealed since
		}
		if err := wal.Redact(db.opts.FS, db.walDir(), f, name, &what, step); err != nil {
			return fmt.Errorf("dyngo: write %s anew: %w", f.Name, err)
		}
	}
	return db.opts.FS.SyncDir(db.walDir())
}

// logRedacted logs the redaction, durably.
func (db *DB) logRedacted(t *redacted, wo WriteOptions) error {
	parts := event.AppendRedaction(nil, t.r.LSN, annotations(wo), t.hash)
	c := db.newCommit()
	defer db.release(c)
	of := &Dataset{db: db, id: t.ds} // also of a dataset that was dropped
	c.ops = append(c.ops, op{ds: of, kind: event.OpRedact, key: t.r.Key, base: parts, parts: parts})
	if err := db.commit(c, wal.Ack{Durable: true}, true, db.now()); err != nil {
		return err
	}
	t.r.By, t.r.Time = c.log.First, unixTime(c.log.Time)
	return nil
}

// finishRedaction is the last step of a redaction that was logged; of one that was not it removes what there is. After an error it can be
// called again. db.snapshots is held, or nobody else has the store yet.
func (db *DB) finishRedaction() error {
	fsys, dir := db.opts.FS, db.walDir()
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	var left []wal.Redacted
	for _, name := range names {
		if r, ok := wal.ParseRedacted(name); ok {
			left = append(left, r)
		}
	}
	if len(left) == 0 && db.unfinished == nil {
		return nil
	}
	if db.log != nil && db.log.Err() != nil {
		return db.log.Err() // an event that was in flight may come into the log still: what it has in the end, the next owner finds
	}
	files, err := wal.ListFiles(fsys, dir)
	if err != nil {
		return err
	}
	logged := map[wal.Redacted]bool{}
	for _, r := range left { // pieces before the event that refers to them: then who reads sees what the log allows
		name, of := path.Join(dir, r.Name()), wal.Redacted{LSN: r.LSN, After: r.After}
		if _, known := logged[of]; !known {
			if logged[of], err = db.isRedactionLogged(of); err != nil {
				return err
			}
		}
		i := slices.IndexFunc(files, func(f wal.FileInfo) bool { return f.Seq == r.Seq })
		if !logged[of] || i < 0 {
			if err := fsys.Remove(name); err != nil {
				return err
			}
			continue
		}
		err := fsys.Rename(name, path.Join(dir, files[i].Name))
		db.files.Forget(r.Seq) // also after an error, which does not say that nothing has changed
		if err != nil {
			return err
		}
	}
	// What was removed must not come back either: another file may get the name.
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	db.valueReads.Synchronize() // the last reads of the old files end
	db.unfinished.release()
	db.unfinished = nil
	return nil
}

// isRedactionLogged looks for the event that says that a value is gone.
func (db *DB) isRedactionLogged(of wal.Redacted) (logged bool, err error) {
	err = db.eachEvent(db.ctx, of.After+1, func(e *event.Event) bool {
		was, _ := event.PrevLSN(e.Parts)
		logged = e.Op == event.OpRedact && was == of.LSN
		return !logged
	})
	return logged, err
}

// tellRedacted completes what is known of a redaction by what its event says.
func (db *DB) tellRedacted(ctx context.Context, r *Redaction) error {
	known, err := db.redactions(ctx, r.LSN)
	if err != nil {
		return err
	}
	if v := known.Of(r.LSN); v != nil && v.By > 0 {
		r.By, r.Time, r.Actor, r.Reason, r.Ticket = v.By, unixTime(v.Time), v.Actor, v.Reason, v.Ticket
	}
	return nil
}
