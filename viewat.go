package dyngo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// ViewAt opens a view of the past: everything as it was at a target, which it waits for until it is durable. Expiry is as of
// the log time of the target's LSN, or of the time itself with AtTime. The view holds back retention until it is closed.
//
// A target outside of what the log and what stands in for it have is a *WindowError. Datasets that are gone since are found
// with View.Dataset. Opening reads one log file up to the target.
func (db *DB) ViewAt(ctx context.Context, t Target) (*View, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	t, err := db.named(t)
	if err != nil {
		return nil, err
	}
	if err := db.waitFor(ctx, t); err != nil {
		return nil, err
	}
	call := db.calls.Enter() // Close waits
	defer call.Exit()
	if db.closed.Load() {
		return nil, ErrClosed
	}
	w, h, err := db.holdWindow(t.lsn)
	if err != nil {
		return nil, err
	}
	lsn, at, err := w.resolve(ctx, t)
	if err != nil {
		h.release()
		return nil, w.explain(err)
	}
	h.setLSN(lsn)
	db.views.keep(lsn)
	p := &past{window: w, lsn: lsn, at: at, hold: h}
	for i, f := range w.files {
		if f.FirstLSN > lsn {
			p.files, p.next = w.files[:i], f
			break
		}
	}
	p.overlays, p.damaged = make([]*sideFile, len(p.files)), make([]bool, len(p.files))
	v := &View{db: db, lsn: lsn, at: at, past: p}
	db.views.add(v)
	return v, nil
}

// past is what a view of the past reads. The state as of n is, for each key, the newest of its versions up to n, which has a
// value unless it is a delete, or expired, or a range delete or drop up to n hides it. Where that version is:
//
//  1. Memory has all versions above the LSN up to which events have left it, so what it finds at n is the newest up to n
//     (package memtable, 20). If it finds none, the version is not above that LSN, which is at most the flushed one.
//  2. Segments have the newest version of a key and few others: those that some view, or the floor, needs. So the newest one
//     up to n that they have need not be the one that was newest at n. It is if it is a value, they and memory have no newer
//     one at all, no range delete covers it and the dataset was not dropped: what is between would have been left out by a
//     merge or flush only for something newer that hides it, which is then still there. (Of a tombstone that does not hold:
//     a range delete that hid the value above it may be forgotten, since nothing is under it that it has to hide.)
//  3. The log has all versions above the floor. A sealed file's side file leads to the newest one up to n, an overlay does
//     for a file that has none. So files are asked from the one that n lies in downward, as long as they may have a version
//     above the one that the segments have.
//  4. If the log has none, the version is not above the floor, and there the segments and history segments have what was
//     current: merges keep what is read at the floor, retention writes history before it raises it, and the view's hold does
//     not let it be raised.
//
// Range deletes and drops up to n come from the log above the floor, and from the segments and history below it. Segments may
// have forgotten one, but not as long as anything is under it.
type past struct {
	window              // of when the view was opened; files are only those that begin at or below lsn:
	next   wal.FileInfo // the one after them, zero if there was none
	lsn    LSN
	at     int64
	hold   *hold
	// of is a view of a later moment that has the same files, nil = there is none: its layers serve, since a layer is asked for
	// what it has up to an LSN. It is set before the view is read.
	of *past

	mu       sync.Mutex  // guards the fields below; held while they are made
	overlays []*sideFile // by file: instead of a side file, nil = not made
	damaged  []bool      // by file: its side file is of no use
	closed   bool
	ranges   map[event.DatasetID]*memtable.RangeDeletes // nil = not yet known
	catalog  map[event.DatasetID]event.DatasetInfo      // nil = not yet known
}

// close gives back what the view holds. Reads that go on have what they read from a moment longer.
func (p *past) close() {
	p.mu.Lock()
	p.closed = true
	overlays := p.overlays
	p.overlays = nil
	p.mu.Unlock()
	for _, f := range overlays {
		p.db.side.dropOverlay(f)
	}
	p.db.views.drop(p.lsn)
	p.hold.release()
}

// layer returns what finds the events of keys in file i: its side file, or an overlay. put gives it back. An overlay is made
// in memory, of what the file has up to the view's LSN.
func (p *past) layer(ctx context.Context, i int) (*sideFile, error) {
	if p.of != nil {
		return p.of.layer(ctx, i)
	}
	side := p.db.side
	next := p.next
	if i+1 < len(p.files) {
		next = p.files[i+1]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("%w: the view", ErrClosed)
	}
	if f := p.overlays[i]; f != nil {
		return side.again(f), nil
	}
	if next.Seq != 0 && !p.damaged[i] {
		if f := side.get(p.files[i], next); f != nil {
			return f, nil
		}
	}
	f, err := p.db.buildOverlay(ctx, p.files[i], p.lsn)
	if err != nil {
		return nil, err
	}
	p.overlays[i] = f
	return side.again(f), nil
}

// discard has a side file that is damaged made anew, and an overlay take its place. It reports whether that can help.
func (p *past) discard(i int, f *sideFile) bool {
	if p.of != nil {
		return p.of.discard(i, f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.damaged[i] || p.overlays[i] == f {
		return false
	}
	p.damaged[i] = true
	p.db.side.discard(p.files[i].Seq)
	return true
}

// withLayer calls read with the layer of file i, once more with another one if its bytes are damaged.
func (p *past) withLayer(ctx context.Context, i int, read func(f *sideFile) error) error {
	for {
		f, err := p.layer(ctx, i)
		if err != nil {
			return err
		}
		err = read(f)
		again := errors.Is(err, ErrCorrupt) && p.discard(i, f)
		p.db.side.put(f)
		if !again {
			return err
		}
	}
}

// newest finds the newest event of a key above an LSN, of those that the log has up to the view's. upTo is an LSN above which
// there is none.
func (p *past) newest(ctx context.Context, ds event.DatasetID, key []byte, above, upTo LSN) (at place, ok bool, err error) {
	hash := segment.Hash(p.db.sorted.seed(), ds, key)
	for i := len(p.files) - 1; i >= 0 && !ok && err == nil; i-- {
		if p.files[i].FirstLSN > upTo {
			continue
		}
		if i+1 < len(p.files) && p.files[i+1].FirstLSN-1 <= above {
			break
		}
		err = p.withLayer(ctx, i, func(f *sideFile) (err error) {
			at, ok, err = f.newest(ds, key, hash, p.lsn)
			return err
		})
	}
	return at, ok && at.lsn > above, err
}

// newest finds the newest event of a key up to an LSN that had an effect.
func (f *sideFile) newest(ds event.DatasetID, key []byte, hash uint64, upTo LSN) (place, bool, error) {
	var e segment.Entry
	for upTo > 0 {
		b, ok, err := f.Get(ds, key, hash, upTo, &e)
		if !ok || err != nil {
			return place{}, false, err
		}
		p, err := f.placeOf(&e)
		b.Release()
		if err != nil || e.Flags&event.FlagNotApplied == 0 && e.Op != event.OpRedact {
			return p, err == nil, err
		}
		upTo = e.LSN - 1
	}
	return place{}, false, nil
}

// rangesOf returns the range deletes of a dataset up to the view's LSN: of those that cover a key, the newest.
func (p *past) rangesOf(ctx context.Context, ds event.DatasetID) (*memtable.RangeDeletes, error) {
	p.mu.Lock()
	all := p.ranges
	p.mu.Unlock()
	if all == nil {
		var err error
		if all, err = p.readRanges(ctx); err != nil {
			return nil, err
		}
		p.mu.Lock()
		p.ranges = all
		p.mu.Unlock()
	}
	if r := all[ds]; r != nil {
		return r, nil
	}
	return &noRanges, nil
}

var noRanges memtable.RangeDeletes

// readRanges collects range deletes. What is still to be written to segments is looked at first: what gets there meanwhile is
// in the log up to the flushed LSN as it is then.
func (p *past) readRanges(ctx context.Context) (map[event.DatasetID]*memtable.RangeDeletes, error) {
	var list []segment.RangeDelete
	for _, r := range p.db.flusher.rangesUpTo(p.lsn) {
		list = append(list, segment.RangeDelete(r))
	}
	s := p.db.sorted.acquire()
	list = append(append(list, s.rangeDeletes()...), s.historyRanges()...)
	flushed := s.version.FlushedLSN
	s.release()
	err := p.eachWide(ctx, flushed, func(_ *sideFile, w *wideEvent) error {
		if w.op == event.OpDeleteRange {
			list = append(list, segment.RangeDelete{Dataset: w.dataset, From: bytes.Clone(w.key), To: bytes.Clone(w.to), LSN: w.lsn})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b segment.RangeDelete) int { return cmp.Compare(a.LSN, b.LSN) })
	all := map[event.DatasetID]*memtable.RangeDeletes{}
	last, of := LSN(0), event.DatasetID(0)
	for _, r := range list {
		if r.LSN > p.lsn || r.LSN == last && r.Dataset == of {
			continue
		}
		last, of = r.LSN, r.Dataset
		if all[r.Dataset] == nil {
			all[r.Dataset] = &memtable.RangeDeletes{}
		}
		all[r.Dataset].Add(r.From, r.To, r.LSN, p.lsn)
	}
	return all, nil
}

// eachWide visits the events that concern more than one key, oldest first: those of the view's log files that begin at or
// below upTo.
func (p *past) eachWide(ctx context.Context, upTo LSN, visit func(f *sideFile, w *wideEvent) error) error {
	for i := range p.files {
		if p.files[i].FirstLSN > upTo {
			break
		}
		f, err := p.layer(ctx, i)
		if err != nil {
			return err
		}
		for j := range f.wide {
			if w := &f.wide[j]; w.lsn <= p.lsn && err == nil {
				err = visit(f, w)
			}
		}
		p.db.side.put(f)
		if err != nil {
			return err
		}
	}
	return nil
}

// datasets returns the datasets that were there, by id: those of the dictionary of the file that the LSN lies in, with what
// the file says up to it.
func (p *past) datasets(ctx context.Context) (map[event.DatasetID]event.DatasetInfo, error) {
	p.mu.Lock()
	all := p.catalog
	p.mu.Unlock()
	if all != nil {
		return all, nil
	}
	all = map[event.DatasetID]event.DatasetInfo{}
	file := p.next // at the floor
	if n := len(p.files); n > 0 {
		file = p.files[n-1]
	}
	if file.Seq != 0 {
		if err := p.readCatalog(ctx, all, file.Seq); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	p.catalog = all
	p.mu.Unlock()
	return all, nil
}

func (p *past) readCatalog(ctx context.Context, all map[event.DatasetID]event.DatasetInfo, file uint64) error {
	s, err := wal.NewScanner(p.db.opts.FS, p.db.walDir(), wal.ScanOptions{ReadOnly: true, FromFile: file, Only: true})
	if err != nil {
		return err
	}
	defer s.Close() // only read from
	for begun := false; !begun || s.Tail().NextLSN <= p.lsn; begun = true {
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = catalogFrame(all, f, p.lsn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// catalogFrame applies to the datasets what a frame says up to an LSN.
func catalogFrame(all map[event.DatasetID]event.DatasetInfo, f *wal.Frame, upTo LSN) error {
	if f.Kind == wal.KindDictionary {
		d, err := event.ParseDictionary(f.Body)
		if err != nil {
			return corruption.Locate(err, f.Name, f.Offset)
		}
		for _, info := range d.Datasets {
			all[info.ID] = info
		}
		return nil
	}
	if f.Kind != wal.KindCommit || f.Flags&wal.FrameSpilled != 0 { // what is spilled is of keys
		return nil
	}
	for e, err := range f.Events() {
		if err != nil {
			return err
		}
		switch {
		case e.LSN > upTo:
			return nil
		case e.Op == event.OpDatasetCreated:
			all[e.Dataset] = event.DatasetInfo{ID: e.Dataset, Created: e.LSN, Name: string(e.Key), Options: bytes.Clone(e.Value)}
		case e.Op == event.OpDatasetDropped:
			delete(all, e.Dataset)
		}
	}
	return nil
}

// buildOverlay makes, in memory, what a side file would be of a log file, up to an LSN.
func (db *DB) buildOverlay(ctx context.Context, file wal.FileInfo, upTo LSN) (*sideFile, error) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll(overlayDir); err != nil {
		return nil, err
	}
	b := &sideBuild{fs: mem, dir: overlayDir, piece: db.readPiece, seq: file.Seq, limit: db.side.memory, upTo: upTo,
		opts: segment.WriterOptions{Num: file.Seq, HashSeed: db.sorted.seed()}}
	from, err := b.scan(db.opts.FS, db.walDir(), func(int64) error { return ctx.Err() }) // a reader waits
	name := path.Join(overlayDir, "overlay")
	if err != nil {
		b.end()
	} else {
		_, err = b.finish(name, &from, func(add addEntry) addEntry { return add })
	}
	if err != nil {
		return nil, fmt.Errorf("index of log file %s in memory: %w", file.Name, err)
	}
	return db.side.openOverlay(mem, name)
}

const overlayDir = "overlay"
