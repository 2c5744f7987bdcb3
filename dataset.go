package dyngo

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/wal"
)

// dictEntry is what the dictionary of a log file says of a dataset or session, from the LSN of its event on.
type dictEntry struct {
	lsn     LSN
	dropped LSN // of a dataset, 0 = lives
	dataset *event.DatasetInfo
	session *event.Session
}

// maxDictionaryBytes bounds what each log file repeats, below the limit of a frame.
const maxDictionaryBytes = 12 << 20

// CreateDataset creates a dataset, or opens it when it exists with the same options; with other options it fails with
// ErrDatasetOptions. Names are UTF-8 of 1 to 255 bytes without control characters. Creation is durable on return.
func (db *DB) CreateDataset(name string, o *DatasetOptions) (*Dataset, error) {
	opts := o.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if ds, err := db.existing(name, opts); ds != nil || err != nil {
		return ds, err
	}
	g, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	defer g.Exit()
	db.catalog.mu.Lock()
	defer db.catalog.mu.Unlock()
	if ds, err := db.existing(name, opts); ds != nil || err != nil {
		return ds, err
	}
	if n := len(db.catalog.dictionary(^LSN(0))); n > maxDictionaryBytes {
		return nil, limitError("the names and options of all datasets take %d bytes, at most %d are possible", n, maxDictionaryBytes)
	}
	ds := &Dataset{db: db, id: db.catalog.nextID, name: name, opts: opts, ranges: &memtable.RangeDeletes{}}
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{ds: ds, kind: event.OpDatasetCreated, key: []byte(name), value: opts.encode()})
	if err := db.commit(c, wal.Ack{Durable: true}, false, db.now()); err != nil {
		return nil, openError(db.dir, err)
	}
	db.catalog.nextID++
	db.catalog.publish(func(m map[string]*Dataset) { m[name] = ds })
	return ds, nil
}

func (db *DB) existing(name string, opts DatasetOptions) (*Dataset, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	ds := (*db.catalog.byName.Load())[name]
	if ds == nil {
		return nil, nil
	}
	if ds.opts != opts {
		return nil, fmt.Errorf("%w: dataset %q has %+v, asked for %+v", ErrDatasetOptions, name, ds.opts, opts)
	}
	return ds, nil
}

// Dataset returns an existing dataset, or an error that matches ErrNoDataset.
func (db *DB) Dataset(name string) (*Dataset, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	if ds := (*db.catalog.byName.Load())[name]; ds != nil {
		return ds, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrNoDataset, name)
}

// DropDataset removes a dataset with all its keys, by one event, and returns the event's LSN. Handles of it return
// ErrNoDataset from then on; a dataset created later under the same name is another one. The drop is durable on return.
func (db *DB) DropDataset(name string) (LSN, error) {
	g, err := db.enterCall()
	if err != nil {
		return 0, err
	}
	defer g.Exit()
	db.catalog.mu.Lock()
	defer db.catalog.mu.Unlock()
	ds, err := db.Dataset(name)
	if err != nil {
		return 0, err
	}
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{ds: ds, kind: event.OpDatasetDropped, key: []byte(name)})
	if err := db.commit(c, wal.Ack{Durable: true}, true, db.now()); err != nil {
		return 0, openError(db.dir, err)
	}
	db.catalog.publish(func(m map[string]*Dataset) { delete(m, name) })
	return c.log.First, nil
}

func checkName(name string) error {
	if len(name) == 0 || len(name) > MaxNameBytes {
		return limitError("dataset name of %d bytes, allowed are 1 to %d", len(name), MaxNameBytes)
	}
	if !utf8.ValidString(name) {
		return limitError("dataset name %q is not UTF-8", name)
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f {
			return limitError("dataset name %q has a control character", name)
		}
	}
	return nil
}

// encode gives the options the form in which they are logged; see package event.
func (o DatasetOptions) encode() []byte {
	return event.AppendDatasetOptions(nil, event.DatasetOptions{
		Consistency: event.Consistency(o.Consistency) + event.Strong, TTL: int64(o.TTL), LargeValue: int64(o.LargeValue),
		Compression: event.Codec(o.Compression),
	})
}

func decodeOptions(o event.DatasetOptions) DatasetOptions {
	return DatasetOptions{
		Consistency: Consistency(o.Consistency - event.Strong), TTL: time.Duration(o.TTL), LargeValue: int(o.LargeValue),
		Compression: Compression(o.Compression),
	}
}

// byID finds a dataset that lives.
func (c *catalog) byID(id event.DatasetID) *Dataset {
	for _, ds := range *c.byName.Load() {
		if ds.id == id {
			return ds
		}
	}
	return nil
}

// droppedAt returns the LSN at which a dataset was dropped, 0 if it was not. One that was dropped before the store was opened
// counts from the first LSN: nobody reads at an LSN from before.
func (c *catalog) droppedAt(id event.DatasetID) LSN {
	c.dictMu.Lock()
	defer c.dictMu.Unlock()
	for i := range c.all {
		if d := c.all[i].dataset; d != nil && d.ID == id {
			return c.all[i].dropped
		}
	}
	return 1
}

// publish installs a changed copy of the map. mu is held, or the catalog is not yet shared.
func (c *catalog) publish(change func(map[string]*Dataset)) {
	m := make(map[string]*Dataset)
	if old := c.byName.Load(); old != nil {
		for k, v := range *old {
			m[k] = v
		}
	}
	change(m)
	c.byName.Store(&m)
}

// note remembers a system event for the dictionaries of later files, and marks a dataset as dropped.
func (c *catalog) note(o *op, lsn LSN) {
	switch o.kind {
	case event.OpDatasetCreated:
		o.ds.created = lsn // the handle is not shared yet
		c.addDataset(o.ds)
	case event.OpDatasetDropped:
		o.ds.dropped.Store(uint64(lsn))
		o.ds.hot.cut(nil, nil)
		c.dictMu.Lock()
		defer c.dictMu.Unlock()
		for i := range c.all {
			if d := c.all[i].dataset; d != nil && d.ID == o.ds.id {
				c.all[i].dropped = lsn
			}
		}
	case event.OpSessionOpened:
		if s, err := event.ParseSession(o.value); err == nil { // this process has encoded it
			c.addSession(s, lsn)
		}
	}
}

func (c *catalog) addDataset(ds *Dataset) {
	c.dictMu.Lock()
	defer c.dictMu.Unlock()
	c.all = append(c.all, dictEntry{lsn: ds.created, dataset: &event.DatasetInfo{ID: ds.id, Created: ds.created, Name: ds.name, Options: ds.opts.encode()}})
}

func (c *catalog) addSession(s event.Session, lsn LSN) {
	c.dictMu.Lock()
	defer c.dictMu.Unlock()
	c.all = append(c.all, dictEntry{lsn: lsn, session: &s})
}

func (ds *Dataset) errDropped() error { return fmt.Errorf("%w: %q was dropped", ErrNoDataset, ds.name) }

// dictionary is the body of the dictionary frame of a file whose first LSN is next: what was there before it.
func (c *catalog) dictionary(next LSN) []byte {
	c.dictMu.Lock()
	defer c.dictMu.Unlock()
	d := event.Dictionary{NextSession: c.nextSession, NextDataset: c.firstID}
	for _, e := range c.all {
		if e.lsn >= next {
			continue
		}
		if e.dataset != nil {
			if e.dropped == 0 || e.dropped >= next {
				d.Datasets = append(d.Datasets, *e.dataset)
			}
			d.NextDataset = max(d.NextDataset, e.dataset.ID+1)
		} else {
			d.Sessions = append(d.Sessions, *e.session)
			d.NextSession = max(d.NextSession, e.session.ID+1)
		}
	}
	slices.SortFunc(d.Datasets, func(a, b event.DatasetInfo) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Sessions, func(a, b event.Session) int { return cmp.Compare(a.ID, b.ID) })
	return event.AppendDictionary(nil, &d)
}
