package dyngo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/segment"
)

// Change is what became of one key between two states.
type Change struct {
	Dataset       string
	Key           []byte
	Before, After *KV // nil = absent; never both
}

// DiffOptions selects what DB.Diff compares. The zero value is everything.
type DiffOptions struct {
	Dataset  string // empty = all
	From, To []byte // keys in [From, To) in byte order; nil = open end
}

// Diff yields the net changes between two targets: each key whose value differs, with the value before and after, ordered by
// the name of the dataset and then by key. Keys that were written and have the same value again don't appear, whatever their
// expiry is. A dataset that was dropped and created anew is compared with what it was before. from may be later than to: then
// the changes are those back to it. Nil options compare everything.
//
// It reads of the log between the two states, not of the store as a whole: what it costs follows from how many events there
// were, how many keys range deletes and drops have ended, and how many values have expired. Log files without side file are
// read from front to back. The changes are the caller's. Both states are held back from retention until the sequence ends. A
// target that can't be read is a *WindowError, a dataset that neither state has matches ErrNoDataset; an error ends the
// sequence, that of ctx too.
func (db *DB) Diff(ctx context.Context, from, to Target, o *DiffOptions) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if o == nil {
			o = &DiffOptions{}
		}
		if err := db.diff(ctx, from, to, *o, yield); err != nil {
			yield(Change{}, err)
		}
	}
}

func (db *DB) diff(ctx context.Context, from, to Target, o DiffOptions, yield func(Change, error) bool) error {
	r := Range{From: o.From, To: o.To}
	if err := r.check(); err != nil {
		return err
	}
	before, err := db.ViewAt(ctx, from)
	if err != nil {
		return err
	}
	defer before.Close()
	after, err := db.ViewAt(ctx, to)
	if err != nil {
		return err
	}
	defer after.Close()
	d := &differ{ctx: ctx, db: db, older: before, newer: after, keys: r}
	if c := cmp.Or(cmp.Compare(before.lsn, after.lsn), cmp.Compare(before.at, after.at)); c > 0 {
		d.older, d.newer, d.back = after, before, true
	}
	if older, newer := d.older.past, d.newer.past; len(older.files) > 0 && older.files[0].Seq == newer.files[0].Seq {
		older.of = newer
	}
	if err := d.begin(o.Dataset); err != nil {
		return d.newer.past.explain(err)
	}
	for i := range d.datasets {
		more, err := d.dataset(i, yield)
		if err != nil || !more {
			return d.newer.past.explain(err)
		}
	}
	return nil
}

// differ finds the keys that may have changed between two views of the past, and compares what these show of them. A key that
// differs between the two is, if its dataset is the same in both,
//
//  1. one that an event between them names: side files and overlays of the log files between have it; or
//  2. one that a range delete between them covers, which is alive in the older view; or
//  3. one whose version in the older view has expired in the newer one. The due indexes of side files and overlays have all
//     versions above the floor, those of segments and history segments have what was current at the floor.
//
// If the dataset is not the same, all keys of both views are compared.
type differ struct {
	ctx          context.Context
	db           *DB
	older, newer *View
	back         bool // older is what the caller goes to
	keys         Range
	datasets     []diffDataset // ordered by name
	ranges       map[event.DatasetID][]Range
	index        map[event.DatasetID]int // of datasets that are the same in both

	dues    []diffKey // keys whose version has expired between, ordered; some of them:
	dueFrom diffKey   // those after this one
	dueMore bool      // there may be more after the last
	dueRead bool
}

// diffDataset is one dataset by name; nil = the view does not have it.
type diffDataset struct {
	name         string
	older, newer *Dataset
}

// diffKey is a key of d.datasets.
type diffKey struct {
	dataset int
	key     []byte
}

func compareDiffKeys(a, b diffKey) int {
	return cmp.Or(cmp.Compare(a.dataset, b.dataset), bytes.Compare(a.key, b.key))
}

// begin finds the datasets and range deletes.
func (d *differ) begin(only string) error {
	call := d.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if d.db.closed.Load() {
		return ErrClosed
	}
	found := map[string]*diffDataset{}
	for _, v := range []*View{d.older, d.newer} {
		all, err := v.past.datasets(d.ctx)
		if err != nil {
			return err
		}
		for _, info := range all {
			if only != "" && info.Name != only {
				continue
			}
			ds, err := v.past.handle(info)
			if err != nil {
				return err
			}
			if found[info.Name] == nil {
				found[info.Name] = &diffDataset{name: info.Name}
			}
			if v == d.older {
				found[info.Name].older = ds
			} else {
				found[info.Name].newer = ds
			}
		}
	}
	if only != "" && len(found) == 0 {
		return fmt.Errorf("%w: %q, neither at LSN %d nor at LSN %d", ErrNoDataset, only, d.older.lsn, d.newer.lsn)
	}
	for _, ds := range found {
		d.datasets = append(d.datasets, *ds)
	}
	slices.SortFunc(d.datasets, func(a, b diffDataset) int { return strings.Compare(a.name, b.name) })
	d.index = map[event.DatasetID]int{}
	for i, ds := range d.datasets {
		if ds.same() {
			d.index[ds.newer.id] = i
		}
	}
	return d.findRanges()
}

// same says that both views have the same dataset, not only one of the same name.
func (ds *diffDataset) same() bool {
	return ds.older != nil && ds.newer != nil && ds.older.id == ds.newer.id
}

// between is the log files, by index in the newer view, that have events between the two.
func (d *differ) between() (from, to int) {
	p := d.newer.past
	if d.older.lsn == d.newer.lsn {
		return 0, 0
	}
	return p.fileOf(d.older.lsn + 1), len(p.files)
}

// findRanges collects the range deletes between the two views, and sees that no event between them is unknown.
func (d *differ) findRanges() error {
	p := d.newer.past
	d.ranges = map[event.DatasetID][]Range{}
	for i, to := d.between(); i < to; i++ {
		err := p.withLayer(d.ctx, i, func(f *sideFile) error {
			for _, l := range f.lost {
				if l.first <= p.lsn && l.first+LSN(l.count) > d.older.lsn+1 {
					return p.errLost(l.first)
				}
			}
			for j := range f.wide {
				w := &f.wide[j]
				if w.op != event.OpDeleteRange || w.lsn <= d.older.lsn || w.lsn > p.lsn {
					continue
				}
				r := Range{From: bytes.Clone(w.key)}
				if len(w.to) > 0 {
					r.To = bytes.Clone(w.to)
				}
				d.ranges[w.dataset] = append(d.ranges[w.dataset], r)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for id, ranges := range d.ranges {
		d.ranges[id] = d.joinRanges(ranges)
	}
	return nil
}

// joinRanges sorts ranges, joins what overlaps, and leaves of them what is compared.
func (d *differ) joinRanges(ranges []Range) (joined []Range) {
	slices.SortFunc(ranges, func(a, b Range) int { return bytes.Compare(a.From, b.From) })
	for _, r := range ranges {
		if bytes.Compare(r.From, d.keys.From) < 0 {
			r.From = d.keys.From
		}
		if d.keys.To != nil && (r.To == nil || bytes.Compare(r.To, d.keys.To) > 0) {
			r.To = d.keys.To
		}
		if r.To != nil && bytes.Compare(r.From, r.To) >= 0 {
			continue
		}
		if n := len(joined); n > 0 && (joined[n-1].To == nil || bytes.Compare(r.From, joined[n-1].To) <= 0) {
			if last := &joined[n-1]; last.To != nil && (r.To == nil || bytes.Compare(r.To, last.To) > 0) {
				last.To = r.To
			}
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// diffSource gives keys in order. What it knows of them spares a look.
type diffSource struct {
	next          func() (key []byte, known *KV, err error) // nil = no more
	older, newer  bool                                      // known is what that view shows
	key           []byte
	known         *KV
	begun, atLast bool
}

// dataset yields the changes of one dataset. It reports whether the caller wants more.
func (d *differ) dataset(i int, yield func(Change, error) bool) (bool, error) {
	ds := &d.datasets[i]
	var sources []*diffSource
	if ds.same() {
		events := &diffEvents{d: d, ds: ds.newer}
		defer events.close()
		deleted, stop := d.scan(d.older, ds.older, d.ranges[ds.older.id])
		defer stop()
		sources = []*diffSource{{next: events.next}, {next: deleted, older: true}, {next: func() ([]byte, *KV, error) { return d.nextDue(i) }}}
	} else {
		older, stop := d.scan(d.older, ds.older, []Range{d.keys})
		defer stop()
		newer, stop := d.scan(d.newer, ds.newer, []Range{d.keys})
		defer stop()
		sources = []*diffSource{{next: older, older: true}, {next: newer, newer: true}}
	}
	for {
		key, older, newer, err := d.step(ds, sources)
		if err != nil || key == nil {
			return true, err
		}
		if older == nil && newer == nil || older != nil && newer != nil && bytes.Equal(older.Value, newer.Value) {
			continue
		}
		c := Change{Dataset: ds.name, Key: key, Before: older, After: newer}
		if d.back {
			c.Before, c.After = newer, older
		}
		if !yield(c, nil) {
			return false, nil
		}
	}
}

// step takes the next key of all sources and looks what both views show of it; nil = there is none.
func (d *differ) step(ds *diffDataset, sources []*diffSource) (key []byte, older, newer *KV, err error) {
	if err := d.ctx.Err(); err != nil {
		return nil, nil, nil, err
	}
	for _, s := range sources {
		if !s.begun || s.atLast {
			s.begun, s.atLast = true, false
			if s.key, s.known, err = s.next(); err != nil {
				return nil, nil, nil, err
			}
		}
		if s.key != nil && (key == nil || bytes.Compare(s.key, key) < 0) {
			key = s.key
		}
	}
	if key == nil {
		return nil, nil, nil, nil
	}
	// A scan that passed over the key says that the view does not have it, if the scan is of all keys.
	hasOlder, hasNewer := !ds.same(), !ds.same()
	for _, s := range sources {
		if s.key == nil || !bytes.Equal(s.key, key) {
			continue
		}
		s.atLast = true
		if s.older {
			older, hasOlder = s.known, true
		}
		if s.newer {
			newer, hasNewer = s.known, true
		}
	}
	key = bytes.Clone(key)
	if !hasOlder {
		if older, err = d.older.past.lookup(ds.older, key); err != nil {
			return nil, nil, nil, err
		}
	}
	if !hasNewer {
		newer, err = d.newer.past.lookup(ds.newer, key)
	}
	return key, older, newer, err
}

// scan gives the pairs of a view in some ranges, which are in order. stop ends it.
func (d *differ) scan(v *View, ds *Dataset, ranges []Range) (next func() ([]byte, *KV, error), stop func()) {
	all := func(yield func(KV, error) bool) {
		for _, r := range ranges {
			for kv, err := range v.Scan(ds, r) {
				if !yield(kv, err) || err != nil {
					return
				}
			}
		}
	}
	if ds == nil {
		all = func(func(KV, error) bool) {}
	}
	pull, stop := iter.Pull2(all)
	return func() ([]byte, *KV, error) {
		kv, err, ok := pull()
		if !ok || err != nil {
			return nil, nil, err
		}
		kv.Key, kv.Value = bytes.Clone(kv.Key), append([]byte{}, kv.Value...)
		return kv.Key, &kv, nil
	}, stop
}

// lookup returns what the view shows of a key, a copy, nil if that is nothing.
func (p *past) lookup(ds *Dataset, key []byte) (*KV, error) {
	call := p.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	read := p.db.valueReads.Enter() // so does retention
	defer read.Exit()
	var f found
	old, err := p.find(&f, ds, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kv := &KV{Key: key}
	var v value
	var due int64
	if old != nil {
		v = old.stored(key)
		due, _ = event.Expiry(old.parts)
		kv.LSN, kv.Time = old.lsn, unixTime(old.time)
	} else {
		v = f.value(nil)
		due, _ = event.Expiry(f.parts())
		kv.LSN, kv.Time = f.lsn(), unixTime(f.time())
		f.release()
	}
	kv.Expires = unixTime(due)
	if kv.Subject, err = p.db.subject(v.sealed); err != nil {
		return nil, err
	}
	kv.Value, err = v.resolve(p.db, []byte{})
	if errors.Is(err, ErrErased) || errors.Is(err, ErrRedacted) {
		return nil, nil
	}
	return kv, err
}

// diffEvents gives the keys of a dataset that an event between the views names.
type diffEvents struct {
	d    *differ
	ds   *Dataset
	last []byte // the key given last, nil = none
	live []*diffCursor
	open bool
}

// diffCursor visits such keys in one log file.
type diffCursor struct {
	layer int
	file  *sideFile
	it    *segment.Iter
	key   []byte // nil = no more
}

func (s *diffEvents) close() {
	for _, c := range s.live {
		c.it.Close()
		s.d.db.side.put(c.file)
	}
	s.live, s.open = nil, false
}

// next returns the next key.
func (s *diffEvents) next() ([]byte, *KV, error) {
	call := s.d.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	for {
		if s.d.db.closed.Load() {
			return nil, nil, ErrClosed
		}
		damaged, err := s.step()
		if err == nil {
			return s.last, nil, nil
		}
		if err == errEnd {
			return nil, nil, nil
		}
		if damaged == nil || !errors.Is(err, ErrCorrupt) || !s.d.newer.past.discard(damaged.layer, damaged.file) {
			return nil, nil, err
		}
		s.close() // another layer takes its place
	}
}

// step goes to the next key, which is in last then. It returns errEnd behind the last one, and the cursor that an error comes
// from.
func (s *diffEvents) step() (*diffCursor, error) {
	if !s.open {
		if c, err := s.begin(); err != nil {
			return c, err
		}
	}
	var first *diffCursor
	for _, c := range s.live {
		if s.last != nil && c.key != nil && bytes.Compare(c.key, s.last) <= 0 {
			if err := c.settle(s); err != nil {
				return c, err
			}
		}
		if c.key != nil && (first == nil || bytes.Compare(c.key, first.key) < 0) {
			first = c
		}
	}
	if first == nil {
		return nil, errEnd
	}
	s.last = bytes.Clone(first.key)
	return nil, nil
}

// begin places cursors behind the last key.
func (s *diffEvents) begin() (*diffCursor, error) {
	d := s.d
	s.open = true
	from := d.keys.From
	if s.last != nil {
		from = append(bytes.Clone(s.last), 0) // the smallest key after it
	}
	for i, to := d.between(); i < to; i++ {
		f, err := d.newer.past.layer(d.ctx, i)
		if err != nil {
			return nil, err
		}
		c := &diffCursor{layer: i, file: f, it: f.NewIter(segment.IterOptions{})}
		s.live = append(s.live, c)
		c.it.SeekGE(s.ds.id, from)
		if err := c.settle(s); err != nil {
			return c, err
		}
	}
	return nil, nil
}

// settle goes to the next key, from where the iterator stands, that has an event between the views which counts and that was
// not given yet.
func (c *diffCursor) settle(s *diffEvents) error {
	d := s.d
	for n := 1; c.it.Valid(); n++ {
		e := c.it.Entry()
		if e.Dataset != s.ds.id || d.keys.To != nil && bytes.Compare(e.Key, d.keys.To) >= 0 {
			c.key = nil
			return nil
		}
		if e.LSN > d.older.lsn && e.LSN <= d.newer.lsn && e.Flags&event.FlagNotApplied == 0 &&
			(s.last == nil || bytes.Compare(e.Key, s.last) > 0) {
			c.key = append(c.key[:0], e.Key...)
			return nil
		}
		if c.it.Next(); n&1023 == 0 && d.ctx.Err() != nil {
			return d.ctx.Err()
		}
	}
	c.key = nil
	return c.it.Err()
}

// maxDues bounds the memory for keys whose version has expired: so many are found at a time.
const maxDues = 16 << 10

// nextDue returns the next key of a dataset whose version may have expired between the views.
func (d *differ) nextDue(dataset int) ([]byte, *KV, error) {
	if d.older.at == d.newer.at {
		return nil, nil, nil
	}
	for {
		for len(d.dues) > 0 && d.dues[0].dataset <= dataset {
			first := d.dues[0]
			d.dues = d.dues[1:]
			if d.dueFrom = first; first.dataset == dataset {
				return first.key, nil, nil
			}
		}
		if d.dueRead && (len(d.dues) > 0 || !d.dueMore) {
			return nil, nil, nil
		}
		if err := d.findDues(); err != nil {
			return nil, nil, err
		}
	}
}

// findDues collects the next maxDues keys behind the last one.
func (d *differ) findDues() error {
	call := d.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	if d.db.closed.Load() {
		return ErrClosed
	}
	begun := d.dueRead
	d.dueRead, d.dueMore, d.dues = true, false, nil
	add := func(due *segment.Due) {
		i, ok := d.index[due.Dataset]
		k := diffKey{i, due.Key}
		if !ok || bytes.Compare(due.Key, d.keys.From) < 0 || d.keys.To != nil && bytes.Compare(due.Key, d.keys.To) >= 0 ||
			begun && compareDiffKeys(k, d.dueFrom) <= 0 {
			return
		}
		k.key = bytes.Clone(due.Key)
		if d.dues = append(d.dues, k); len(d.dues) == 2*maxDues {
			d.sortDues()
		}
	}
	p := d.older.past
	for i := range p.files {
		err := p.withLayer(d.ctx, i, func(f *sideFile) error { return d.eachDue(f.Reader, p.lsn, add) })
		if err != nil {
			return err
		}
	}
	s := d.db.sorted.acquire()
	defer s.release()
	if s.version.FloorLSN > 0 {
		readers := slices.Clone(s.history)
		for i := range s.runs {
			readers = append(readers, s.runs[i].readers...)
		}
		for _, r := range readers {
			if err := d.eachDue(r, p.lsn, add); err != nil {
				return err
			}
		}
	}
	d.sortDues()
	return nil
}

// sortDues orders the keys and leaves the first maxDues.
func (d *differ) sortDues() {
	slices.SortFunc(d.dues, compareDiffKeys)
	d.dues = slices.CompactFunc(d.dues, func(a, b diffKey) bool { return compareDiffKeys(a, b) == 0 })
	if len(d.dues) > maxDues {
		clear(d.dues[maxDues:])
		d.dues, d.dueMore = d.dues[:maxDues], true
	}
}

// eachDue visits the versions up to an LSN that are due between the times of the views.
func (d *differ) eachDue(r *segment.Reader, upTo LSN, visit func(*segment.Due)) error {
	it := r.Due(d.older.at + 1)
	defer it.Close()
	for n := 1; it.Next(); n++ {
		due := it.Due()
		if due.Due > d.newer.at {
			break
		}
		if due.LSN <= upTo {
			visit(&due)
		}
		if n&1023 == 0 && d.ctx.Err() != nil {
			return d.ctx.Err()
		}
	}
	return it.Err()
}
