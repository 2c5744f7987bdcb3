package dyngo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// What was current at the floor can be read for as long as it is the floor, though it was overwritten since. A version that
// was current there is in one of two places:
//
//   - in the segments, as any other. Merges keep it, since the floor is an LSN that is read at, like that of a view.
//   - in a history segment, if it was overwritten when the floor was raised to where it is current: merges may have dropped it.
//
// A history segment holds of the log files that one pass has dropped, of each key whose last event in them was overwritten,
// that event. Where it was not, but older history has the key, it holds a tombstone with the event's LSN: what is older is not
// current at the floor. If the segments have a version of the same LSN, that counts. Range deletes, and drops of datasets as
// range deletes, hide what is older too. It is a segment (see package segment for the bytes) with an extra property, so that
// it is never taken for one of a run:
//
//	68 history   floor LSN varint: where what it holds is current
const historyProperty = segment.ExtraTag + 4

// historyOutput begins a history segment of a floor.
func (f *sortedFiles) historyOutput(floor LSN, bytes int64) (*output, error) {
	out, err := f.newOutput(floor, bytes)
	if err == nil {
		out.extra = []segment.Property{{Tag: historyProperty, Body: coding.AppendUvarint(nil, uint64(floor))}}
	}
	return out, err
}

// pins are LSNs that are read at beside the present: those of views, the floor, and where the floor is about to be.
func (db *DB) pins() []LSN {
	list := db.views.hold()
	if floor := db.sorted.set.Current().FloorLSN; floor > 0 {
		list = append(list, floor)
	}
	if next := LSN(db.retention.next.Load()); next > 0 {
		list = append(list, next)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// catalogAtFloor is what the dictionary of the oldest log file tells. Immutable.
type catalogAtFloor struct {
	floor    LSN
	datasets map[event.DatasetID]bool // nil = not known
	sessions map[event.SessionID]event.Session
}

// readCatalog reads the dictionary of the log file above a floor. One that can't be read says nothing.
func (r *retention) readCatalog(floor LSN, oldest uint64) *catalogAtFloor {
	c := &catalogAtFloor{floor: floor}
	s, err := wal.NewScanner(r.db.opts.FS, r.db.walDir(), wal.ScanOptions{ReadOnly: true, FromFile: oldest, Only: true})
	if err != nil {
		return c
	}
	defer s.Close() // only read from
	f, err := s.Next()
	if err != nil || f.Kind != wal.KindDictionary {
		return c
	}
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return c
	}
	c.datasets, c.sessions = map[event.DatasetID]bool{}, map[event.SessionID]event.Session{}
	for _, ds := range d.Datasets {
		c.datasets[ds.ID] = true
	}
	for _, s := range d.Sessions {
		c.sessions[s.ID] = s
	}
	return c
}

// with adds the datasets of another floor.
func (c *catalogAtFloor) with(o *catalogAtFloor) *catalogAtFloor {
	if o == nil {
		return c
	}
	both := *c
	if both.datasets = maps.Clone(c.datasets); o.datasets == nil {
		both.datasets = nil
	}
	if both.datasets != nil {
		maps.Copy(both.datasets, o.datasets)
	}
	return &both
}

// droppedAt is when a dataset was dropped, 0 if it was not. Of one that was dropped before the store was opened, and was there
// at the floor, it is known only that it was dropped above that.
func (db *DB) droppedAt(id event.DatasetID) LSN {
	lsn := db.catalog.droppedAt(id)
	if c := db.retention.catalog.Load(); lsn == 1 && c != nil && (c.datasets == nil || c.datasets[id]) {
		return c.floor + 1
	}
	return lsn
}

// floorVersion finds the version of a key that is current at the floor: the newest at or below it, whatever that is. e aliases
// b, which the caller releases.
func (s *sources) floorVersion(ds event.DatasetID, key []byte, e *segment.Entry) (b *cache.Block, ok bool, err error) {
	floor := s.version.FloorLSN
	if b, ok, err = s.get(ds, key, floor, e); err != nil {
		return nil, false, err
	}
	hash := segment.Hash(s.seed, ds, key)
	for i, seg := range s.version.History {
		if seg.Entries == 0 || compareKey(&seg.Smallest, ds, key) > 0 || compareKey(&seg.Largest, ds, key) < 0 {
			continue
		}
		var other segment.Entry
		ob, has, err := s.history[i].Get(ds, key, hash, floor, &other)
		if err != nil {
			if b != nil {
				b.Release()
			}
			return nil, false, err
		}
		if has && (!ok || other.LSN > e.LSN) {
			ob, b = b, ob
			*e, ok = other, true
		}
		if ob != nil {
			ob.Release()
		}
	}
	return b, ok, nil
}

// hiddenAt says whether a range delete hides a version from reads at an LSN.
func hiddenAt(ranges []segment.RangeDelete, e *segment.Entry, at LSN) bool {
	return slices.ContainsFunc(ranges, func(r segment.RangeDelete) bool {
		return r.Dataset == e.Dataset && e.LSN < r.LSN && r.LSN <= at && bytes.Compare(r.From, e.Key) <= 0 &&
			(r.To == nil || bytes.Compare(e.Key, r.To) < 0)
	})
}

// historyRanges are the range deletes of history segments.
func (s *sources) historyRanges() (all []segment.RangeDelete) {
	for i, seg := range s.version.History {
		if seg.RangeDeletes > 0 {
			all = append(all, s.history[i].RangeDeletes()...)
		}
	}
	return all
}

// floorBuild writes the history segments of a pass.
type floorBuild struct {
	db     *DB
	ctx    context.Context
	work   *pacer.Job
	src    *sources // of the present floor
	floor  LSN      // the next one
	oldest uint64   // log file that is there
	sides  []*sideFile
	out    *output
	torn   []*sideFile // of sides: damaged

	ranges  []segment.RangeDelete                        // of the log files that go
	covers  func(ds event.DatasetID) compaction.Covering // the same
	dropped map[event.DatasetID]bool                     // datasets that were, in them
	dataset *Dataset                                     // of the last event
}

// history writes what is current at the LSN that d raises the floor to and was overwritten since. r.one is held, and r.next
// is that LSN, so that merges that begin from here on keep what is current there.
//
// Why nothing is missed: a merge that had begun before knows nothing that came after that; so what it drops, a newer version,
// range delete or drop of the dataset is there to be seen now.
//
// A side file that turns out to be damaged, as a crash may leave it, is built anew.
func (r *retention) history(ctx context.Context, d *dropping) (added []*manifest.Segment, err error) {
	for try := 0; ; try++ {
		added, torn, err := r.historyOf(ctx, d)
		if len(torn) == 0 || try == maxTorn {
			return added, err
		}
		for _, f := range torn {
			r.db.side.discard(f.seq)
		}
	}
}

// maxTorn is how often side files are built anew: a disk that damages them again and again is left alone.
const maxTorn = 3

func (r *retention) historyOf(ctx context.Context, d *dropping) (added []*manifest.Segment, torn []*sideFile, err error) {
	db := r.db
	b := &floorBuild{db: db, ctx: ctx, work: db.pacer.Begin(pacer.Verify), src: d.sources, floor: d.files[d.n].FirstLSN - 1, oldest: d.files[0].Seq,
		dropped: map[event.DatasetID]bool{}}
	defer b.work.End()
	defer func() {
		for _, f := range b.sides {
			db.side.put(f)
		}
	}()
	bytes := int64(0)
	for i, file := range d.files[:d.n] {
		bytes += file.Size
		f, err := db.side.must(ctx, file, d.files[i+1])
		if errors.Is(err, errTooWide) {
			db.opts.Logger.Warn("dyngo: history lacks what a log file held that goes", "file", file.Name, "err", err)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("history of log file %d: %w", file.Seq, err)
		}
		b.sides = append(b.sides, f)
		b.addWide(f)
	}
	// Batches that began in these files and were committed in the next ones: their keys are noted while they can be.
	for i := d.n; i < min(d.n+batchSpan, len(d.files)-1); i++ {
		f, err := db.side.must(ctx, d.files[i], d.files[i+1])
		if err == nil {
			db.side.put(f)
		} else if !errors.Is(err, errTooWide) {
			return nil, nil, fmt.Errorf("history of log file %d: %w", d.files[i].Seq, err)
		}
	}
	b.covers = covering(slices.Clone(b.ranges))
	if b.out, err = db.sorted.historyOutput(b.floor, bytes); err != nil {
		return nil, nil, err
	}
	if err := b.run(); err != nil {
		b.out.abort()
		return nil, b.torn, err
	}
	added, err = b.out.finish()
	return added, nil, err
}

// keepHistory writes the history segments of a pass, merges older ones when there are many, and learns what the new ones refer
// to. r.one is held.
func (r *retention) keepHistory(ctx context.Context, d *dropping) (added []*manifest.Segment, err error) {
	if added, d.merged, err = r.mergeHistory(ctx, d.sources); err != nil {
		return added, err
	}
	news, err := r.history(ctx, d)
	if added = append(added, news...); err != nil {
		return added, err
	}
	for _, seg := range d.merged {
		delete(r.refs, seg.Num)
	}
	for _, seg := range added {
		if seg.RefBytes == 0 {
			continue
		}
		reader, err := segment.Open(r.db.opts.FS, path.Join(r.db.sorted.dir, manifest.SegmentName(seg.Num)),
			segment.ReaderOptions{Num: uint64(seg.Num), HashSeed: r.db.sorted.seed(), DisplayName: segmentDisplayName(seg.Num)})
		if err != nil {
			return added, err
		}
		d.added, d.readers = append(d.added, seg), append(d.readers, reader)
		if r.refs[seg.Num], err = r.references(ctx, reader); err != nil {
			return added, err
		}
	}
	return added, nil
}

// batchSpan is how many log files on a batch is looked for that began in one.
const batchSpan = 4

// must returns the side file of a sealed log file, which is built if need be.
func (s *sideFiles) must(ctx context.Context, file, next wal.FileInfo) (*sideFile, error) {
	if f := s.get(file, next); f != nil {
		return f, nil
	}
	s.one.Lock() // the background may be at it
	defer s.one.Unlock()
	err := s.list()
	if err == nil && !s.has(file.Seq) {
		err = s.build(ctx, file)
	}
	if err != nil {
		return nil, err
	}
	if f := s.get(file, next); f != nil {
		return f, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.without[file.Seq] {
		return nil, errTooWide
	}
	return nil, fmt.Errorf("%s does not belong to %s", s.name(file.Seq), file.Name)
}

// addWide takes what hides many keys at once.
func (b *floorBuild) addWide(f *sideFile) {
	for i := range f.wide {
		w := &f.wide[i]
		r := segment.RangeDelete{Dataset: w.dataset, LSN: w.lsn, Time: w.time}
		switch w.op {
		case event.OpDeleteRange:
			r.From = w.key
			if len(w.to) > 0 {
				r.To = w.to
			}
		case event.OpDatasetDropped:
			b.dropped[w.dataset] = true
		default:
			continue
		}
		b.ranges = append(b.ranges, r)
	}
}

// run goes through the events of all files, of each key the newest first.
func (b *floorBuild) run() error {
	if len(b.src.version.History) > 0 {
		for _, r := range b.ranges {
			if err := b.out.addRange(r); err != nil {
				return err
			}
		}
	}
	var its []*segment.Iter
	for _, f := range b.sides {
		it := f.NewIter(segment.IterOptions{NoFill: true})
		defer it.Close()
		its = append(its, it)
	}
	var last segment.Key
	done, step := false, steps(b.ctx, b.work) // done with the key
	err := mergeEntries(its, func(i int, e *segment.Entry) error {
		if err := step(len(e.Key) + 32); err != nil {
			return err
		}
		if e.Dataset != last.Dataset || !bytes.Equal(e.Key, last.Key) {
			last.Dataset, last.Key, done = e.Dataset, append(last.Key[:0], e.Key...), false
		}
		if done || e.Flags&event.FlagNotApplied != 0 || e.Op == event.OpRedact {
			return nil
		}
		done = true
		return b.keep(b.sides[i], e)
	})
	for i, it := range its {
		if errors.Is(it.Err(), ErrCorrupt) {
			b.torn = append(b.torn, b.sides[i])
		}
	}
	return err
}

// keep writes the last event of a key, if it was overwritten.
func (b *floorBuild) keep(f *sideFile, e *segment.Entry) error {
	if c := b.covers(e.Dataset); b.dropped[e.Dataset] || c != nil && c.Covers(e.Key, e.LSN, b.floor) {
		return nil
	}
	over, err := b.overwritten(e)
	if err != nil {
		return err
	}
	if !over {
		if has, err := b.hasOlder(e); !has || err != nil {
			return err
		}
	}
	if !over || e.Op == event.OpDelete || e.Op == event.OpExpire {
		return b.out.add(&segment.Entry{Dataset: e.Dataset, Key: e.Key, LSN: e.LSN, Time: e.Time, Op: event.OpDelete, Session: e.Session})
	}
	p := place{op: e.Op, flags: e.Flags, lsn: e.LSN, time: e.Time, session: e.Session}
	r := coding.NewReader(e.Value)
	readPlace(&r, f.seq, &p)
	if err := r.End(); err != nil {
		return &corruption.Error{What: "place of an event", Err: err}
	}
	ev, err := b.db.readEvent(&p)
	if errors.Is(err, wal.ErrDropped) { // of a batch that began in a log file which was dropped before
		ev, err = event.Event{Op: event.OpRedact}, nil
	}
	if err != nil {
		return err
	}
	if lost, err := b.lost(&ev); err != nil {
		return err
	} else if lost {
		ev = event.Event{Op: event.OpRedact}
	}
	if err := b.work.Wait(b.ctx, int64(p.size)); err != nil {
		return err
	}
	return b.out.add(&segment.Entry{Dataset: e.Dataset, Key: e.Key, LSN: e.LSN, Time: e.Time, Op: ev.Op,
		Flags: ev.Flags & event.ValueFlags, Session: e.Session, Value: ev.Value, Parts: ev.Parts})
}

// lost says whether pieces of a large value lay in a log file that was dropped before its commit, and did not move: nothing
// referred to them, as the event was overwritten before it was written to a segment.
func (b *floorBuild) lost(e *event.Event) (bool, error) {
	if e.Flags&event.FlagValueRef == 0 || e.Flags&event.FlagRedacted != 0 {
		return false, nil
	}
	ref, err := event.ParseValueRef(e.Value)
	if err != nil {
		return false, fmt.Errorf("value of LSN %d: %w", e.LSN, err)
	}
	for _, p := range ref.Pieces {
		if p.File >= b.oldest {
			continue
		}
		err := b.db.files.ReadPiece(make([]byte, p.StoredLen), wal.Position{File: p.File, Offset: int64(p.Offset)}, p.CRC)
		if errors.Is(err, wal.ErrDropped) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// overwritten says whether something newer hides an event of a key, so that merges need not keep it.
func (b *floorBuild) overwritten(e *segment.Entry) (bool, error) {
	db := b.db
	if b.dataset == nil || b.dataset.id != e.Dataset {
		b.dataset = db.catalog.byID(e.Dataset)
	}
	ds := b.dataset
	if ds == nil || ds.dropped.Load() != 0 {
		return true, nil
	}
	g := db.reads.Enter()
	defer g.Exit()
	if r, ok := db.mem.Get(db.mem.Hash(e.Dataset, e.Key), e.Dataset, e.Key, db.LSN()); ok && r.LSN() > e.LSN {
		return true, nil
	}
	if ds.ranges.Any() && ds.ranges.Covers(e.Key, e.LSN, event.MaxLSN) {
		return true, nil
	}
	var have segment.Entry
	block, ok, err := db.sorted.current.Load().get(e.Dataset, e.Key, event.MaxLSN, &have) // after memory: see Dataset.find
	if !ok || err != nil {
		return e.Op == event.OpPut || e.Op == event.OpMerge, err // of a put, what has hidden it is forgotten
	}
	defer block.Release()
	return have.LSN != e.LSN, nil
}

// hasOlder says whether history has a version of the key.
func (b *floorBuild) hasOlder(e *segment.Entry) (bool, error) {
	hash := segment.Hash(b.src.seed, e.Dataset, e.Key)
	for i, seg := range b.src.version.History {
		if seg.Entries == 0 || compareKey(&seg.Smallest, e.Dataset, e.Key) > 0 || compareKey(&seg.Largest, e.Dataset, e.Key) < 0 {
			continue
		}
		var have segment.Entry
		block, ok, err := b.src.history[i].Get(e.Dataset, e.Key, hash, e.LSN, &have)
		if err != nil {
			return false, err
		}
		if ok {
			block.Release()
			return true, nil
		}
	}
	return false, nil
}

// maxHistory is how many passes' history segments there are before they are merged. (More of them hold more that is older than the
// floor, and refer to large values that nobody reads: with 8, history that is overwritten everywhere took up to four times its size.)
const maxHistory = 4

// mergeHistory makes one of the newest history segments when there are many. It takes older ones too while they are not much
// larger than all newer ones together, so that an entry is written anew a few times only. Of each key the newest version
// stays; when all are merged, range deletes go, and tombstones under which segments have nothing.
func (r *retention) mergeHistory(ctx context.Context, s *sources) (added []*manifest.Segment, merged []*manifest.Segment, err error) {
	passes := historyPasses(s.version.History)
	if len(passes) < maxHistory {
		return nil, nil, nil
	}
	from, size := len(passes), int64(0)
	for from > 0 && (len(passes)-from < 2 || passes[from-1].SizeBytes() <= 2*size) {
		from--
		size += passes[from].SizeBytes()
	}
	all := from == 0
	work := r.db.pacer.Begin(pacer.Verify)
	defer work.End()
	out, err := r.db.sorted.historyOutput(s.version.FloorLSN, size)
	if err != nil {
		return nil, nil, err
	}
	var its []*segment.Iter
	for i, seg := range s.version.History {
		if !slices.ContainsFunc(passes[from:], func(p manifest.Run) bool { return p.ID == seg.Run }) {
			continue
		}
		merged = append(merged, seg)
		for _, d := range s.history[i].RangeDeletes() {
			if !all {
				if err := out.addRange(d); err != nil {
					out.abort()
					return nil, nil, err
				}
			}
		}
		it := s.history[i].NewIter(segment.IterOptions{NoFill: true})
		defer it.Close()
		its = append(its, it)
	}
	covers := covering(s.historyRanges())
	var last segment.Key
	step := steps(ctx, work)
	err = mergeEntries(its, func(_ int, e *segment.Entry) error {
		if err := step(len(e.Key) + len(e.Value)); err != nil {
			return err
		}
		if e.Dataset == last.Dataset && bytes.Equal(e.Key, last.Key) {
			return nil
		}
		last.Dataset, last.Key = e.Dataset, append(last.Key[:0], e.Key...)
		if c := covers(e.Dataset); c != nil && c.Covers(e.Key, e.LSN, event.MaxLSN) {
			return nil
		}
		if all && e.Op == event.OpDelete {
			var older segment.Entry
			block, ok, err := s.get(e.Dataset, e.Key, e.LSN-1, &older)
			if !ok || err != nil {
				return err
			}
			block.Release()
		}
		return out.add(e)
	})
	if err != nil {
		out.abort()
		return nil, nil, err
	}
	added, err = out.finish()
	return added, merged, err
}

// historyPasses groups history segments by the pass that wrote them, the newest last.
func historyPasses(segments []*manifest.Segment) (passes []manifest.Run) {
	for _, s := range segments {
		if n := len(passes); n == 0 || passes[n-1].ID != s.Run {
			passes = append(passes, manifest.Run{ID: s.Run})
		}
		p := &passes[len(passes)-1]
		p.Segments = append(p.Segments, s)
	}
	slices.SortStableFunc(passes, func(a, b manifest.Run) int { return cmp.Compare(a.ID, b.ID) })
	return passes
}
