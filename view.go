package dyngo

import (
	"fmt"
	"iter"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// View is a read position: all datasets at one LSN, with the time of its creation for expiry. It holds back the removal of
// old versions, so it must be closed. Safe for concurrent use.
type View struct {
	db      *DB
	lsn     LSN
	at      int64
	applied bool
	past    *past // of a view that ViewAt opened
	closed  atomic.Bool
}

// viewSet is the LSNs that open views hold.
type viewSet struct {
	mu   sync.Mutex  // guards the fields below
	held map[LSN]int // number of views
	open map[*View]openView
}

// openView is since when a view is open.
type openView struct {
	since int64 // Mono
	told  bool  // that it is old
}

// maxViewAge is how long a view is open before the listener is told.
const maxViewAge = 10 * time.Minute

// add notes that a view was opened.
func (s *viewSet) add(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*View]openView{}
	}
	s.open[v] = openView{since: v.db.opts.Clock.Mono()}
}

func (s *viewSet) remove(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, v)
}

// tellOld tells of views that are open for long.
func (db *DB) tellOld() {
	db.views.mu.Lock()
	defer db.views.mu.Unlock()
	now := db.opts.Clock.Mono()
	for v, o := range db.views.open {
		age := time.Duration(now - o.since)
		if o.told || age < maxViewAge {
			continue
		}
		o.told = true
		db.views.open[v] = o
		db.tell(func() {
			db.opts.Logger.Warn("dyngo: a view is open for long and holds back old state", "lsn", uint64(v.lsn), "age", age)
			if l := db.opts.Listener.ViewOld; l != nil {
				l(v.lsn, age)
			}
		})
	}
}

// watchViews ends with db.ctx.
func (db *DB) watchViews() {
	timer := db.opts.Clock.NewTimer(maxViewAge / 10)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
			db.tellOld()
			timer.Reset(maxViewAge / 10)
		case <-db.ctx.Done():
			return
		}
	}
}

// View opens a view at the durable LSN.
func (db *DB) View() (*View, error) { return db.newView(false) }

// ViewApplied opens a view at the applied LSN. It sees events that a crash may take back, so it refuses Strong datasets.
func (db *DB) ViewApplied() (*View, error) { return db.newView(true) }

func (db *DB) newView(applied bool) (*View, error) {
	lsn, at, err := db.holdLSN(applied)
	if err != nil {
		return nil, err
	}
	v := &View{db: db, lsn: lsn, at: at, applied: applied}
	db.views.add(v)
	return v, nil
}

// holdLSN holds the versions that a view opened now sees, until views.drop(lsn), and tells its time.
func (db *DB) holdLSN(applied bool) (lsn LSN, at int64, err error) {
	g := db.reads.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return 0, 0, ErrClosed
	}
	at = db.now()
	// The LSN is read and held in one step, so that no version it needs is dropped in between.
	db.views.mu.Lock()
	defer db.views.mu.Unlock()
	if lsn = db.DurableLSN(); applied {
		lsn = db.LSN()
	}
	db.views.held[lsn]++
	return lsn, at, nil
}

// oldestRead is an LSN that all reads reach, those in progress included.
func (db *DB) oldestRead() LSN {
	oldest := LSN(db.floor.Load())
	if held := db.views.hold(); len(held) > 0 {
		oldest = min(oldest, held[0])
	}
	return oldest
}

// raiseFloor waits until every read that began at an older LSN has ended, and returns the durable LSN from before. No lock
// may be held.
func (db *DB) raiseFloor() LSN {
	durable := db.DurableLSN()
	db.reads.Synchronize()
	for {
		old := db.floor.Load()
		if old >= uint64(durable) || db.floor.CompareAndSwap(old, uint64(durable)) {
			return durable
		}
	}
}

// hold lists the LSNs that are held, ascending.
func (s *viewSet) hold() []LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	lsns := make([]LSN, 0, len(s.held)+1)
	for l := range s.held {
		lsns = append(lsns, l)
	}
	sort.Slice(lsns, func(i, j int) bool { return lsns[i] < lsns[j] })
	return lsns
}

// Dataset returns a dataset that there was at the view's LSN, be it gone since, or an error that matches ErrNoDataset. A handle
// of one that is gone serves this view and others of the past; its own calls return ErrNoDataset.
func (v *View) Dataset(name string) (*Dataset, error) {
	if v.closed.Load() {
		return nil, fmt.Errorf("%w: the view", ErrClosed)
	}
	if v.past != nil {
		return v.past.dataset(name)
	}
	ds, err := v.db.Dataset(name)
	if err == nil {
		err = v.check(ds)
	}
	return ds, err
}

// Datasets lists the names of the datasets that there were at the view's LSN, sorted.
func (v *View) Datasets() ([]string, error) {
	if v.closed.Load() {
		return nil, fmt.Errorf("%w: the view", ErrClosed)
	}
	var names []string
	if v.past != nil {
		all, err := v.past.catalogNow()
		if err != nil {
			return nil, err
		}
		for _, info := range all {
			names = append(names, info.Name)
		}
	} else {
		for _, info := range v.db.Datasets() {
			if ds, err := v.db.Dataset(info.Name); err == nil && ds.created <= v.lsn {
				names = append(names, info.Name)
			}
		}
	}
	sort.Strings(names)
	return names, nil
}

// LSN of the view.
func (v *View) LSN() LSN { return v.lsn }

// Close gives back what the view holds. A second Close does nothing.
func (v *View) Close() error {
	if v.closed.Swap(true) {
		return nil
	}
	v.db.views.remove(v)
	if v.past != nil {
		v.past.close()
		return nil
	}
	v.db.views.drop(v.lsn)
	return nil
}

// keep holds versions for one view. Some may be gone: a view of the past finds them elsewhere.
func (s *viewSet) keep(lsn LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[lsn]++
}

// drop gives back what one view holds.
func (s *viewSet) drop(lsn LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[lsn]--; s.held[lsn] == 0 {
		delete(s.held, lsn)
	}
}

func (v *View) check(ds *Dataset) error {
	switch {
	case v.closed.Load():
		return fmt.Errorf("%w: the view", ErrClosed)
	case ds.db != v.db:
		return fmt.Errorf("dyngo: dataset %q belongs to another store", ds.name)
	case v.applied && ds.opts.Consistency == Strong:
		return fmt.Errorf("%w: %q", ErrVisibility, ds.name)
	case v.past != nil && ds.dropped.Load() != 0:
		return v.past.check(ds)
	case ds.created > v.lsn:
		return fmt.Errorf("%w: %q was created at LSN %d, the view is at %d", ErrNoDataset, ds.name, ds.created, v.lsn)
	}
	return nil
}

// Get returns a copy of key's value in the view, or ErrNotFound.
func (v *View) Get(ds *Dataset, key []byte) ([]byte, error) { return v.AppendGet(ds, nil, key) }

// AppendGet appends key's value in the view to dst, or returns dst and ErrNotFound.
func (v *View) AppendGet(ds *Dataset, dst, key []byte) ([]byte, error) {
	if err := v.check(ds); err != nil {
		return dst, err
	}
	if v.lsn == 0 {
		return dst, ErrNotFound
	}
	var err error
	if v.past != nil {
		dst, err = v.past.appendTo(ds, dst, key)
	} else {
		dst, err = ds.appendAt(dst, key, v.lsn, v.at)
	}
	if v.closed.Load() { // meanwhile: what the view saw may have gone
		return dst, fmt.Errorf("%w: the view", ErrClosed)
	}
	return dst, err
}

// Has says whether key is present in the view.
func (v *View) Has(ds *Dataset, key []byte) (bool, error) {
	if err := v.check(ds); err != nil {
		return false, err
	}
	if v.lsn == 0 {
		return false, checkKey(key)
	}
	var ok bool
	var err error
	if v.past != nil {
		ok, err = v.past.has(ds, key)
	} else {
		ok, err = ds.hasAt(key, v.lsn, v.at)
	}
	if v.closed.Load() { // meanwhile: what the view saw may have gone
		return false, fmt.Errorf("%w: the view", ErrClosed)
	}
	return ok, err
}

// Scan yields the pairs of a range in the view; see Dataset.Scan.
func (v *View) Scan(ds *Dataset, r Range) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		if err := v.check(ds); err != nil {
			yield(KV{}, err)
			return
		}
		if v.past != nil {
			v.past.scan(ds, r, &v.closed, yield)
			return
		}
		ds.scan(r, v.lsn, v.at, &v.closed, yield)
	}
}
