package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// rig drives a store and the model together, one call after the other. Its first error ends the script.
type rig struct {
	fs    vfs.FS
	m     *model
	clock *clock.Manual
	tune  func(*dyngo.Options) // what is special about this store, nil = nothing
	swept func() error         // called after each pass of retention that was asked for; may be nil
	db    *dyngo.DB            // nil when it could not be opened
	ds    map[string]*dyngo.Dataset
	begun bool  // the session of this process is logged
	err   error // the first

	ended  chan ending                   // the store tells of each expire event
	failed chan error                    // it can log none
	held   atomic.Pointer[chan struct{}] // closed, it lets go of the expirer; nil = nobody holds it
}

// ending is an expire event.
type ending struct {
	key string // dataset/key
	lsn dyngo.LSN
}

func options(fs vfs.FS, c *clock.Manual) *dyngo.Options {
	return &dyngo.Options{FS: fs, Clock: c, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20}
}

// spillFrom and spillPiece make the script's larger batches spill.
const (
	spillFrom  = 6 << 10
	spillPiece = 2 << 10
)

func newRig(fs vfs.FS) (*rig, error) {
	r := &rig{fs: fs, m: &model{}, clock: manualClock(), ds: map[string]*dyngo.Dataset{}}
	return r, r.open()
}

// open opens the store, again after it was closed. What became due meanwhile expires before anything else is written.
func (r *rig) open() error {
	ended, failed := make(chan ending, 1024), make(chan error, 1)
	r.ended, r.failed, r.begun = ended, failed, false
	fail := func(err error) {
		select {
		case failed <- err:
		default: // the first is enough
		}
	}
	o := options(r.fs, r.clock)
	o.SpillFrom(spillFrom, spillPiece)
	o.Listener = &dyngo.Listener{LogFailed: fail, Expired: func(ds string, key []byte, lsn dyngo.LSN, _ time.Time, _ time.Duration) {
		ended <- ending{ds + "/" + string(key), lsn}
		if gate := r.held.Load(); gate != nil {
			<-*gate
		}
	}}
	o.Logger = slog.New(slog.NewTextHandler(expiryErrors(fail), nil))
	if r.tune != nil {
		r.tune(o)
	}
	open := func() error {
		db, err := dyngo.Open(storeDir, o)
		r.db = db
		for name := range r.ds {
			if err == nil {
				r.ds[name], err = db.Dataset(name)
			}
		}
		return err
	}
	return r.expect(open, r.m.due(r.clock.Now())...)
}

// expiryErrors is a log in which only one line matters: that an expire event could not be written.
type expiryErrors func(error)

func (f expiryErrors) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "an expired key could not be logged") {
		f(errors.New(string(line)))
	}
	return len(line), nil
}

// reopen closes the store, lets d pass and opens it again.
func (r *rig) reopen(d time.Duration) error {
	if r.err == nil {
		r.err = r.db.Close()
	}
	if r.err == nil {
		r.clock.Advance(d) // never 0: then the store's time follows the clock, see Open
		r.err = r.open()
	}
	return r.err
}

// session notes the event that comes before the first write of a process.
func (r *rig) session() {
	if !r.begun {
		r.begun = true
		r.m.begin(change{kind: "session"})
	}
}

// do runs one call beside the model. After the first error nothing more is tried: the model could not tell what an
// unknown outcome did.
func (r *rig) do(durable bool, call func() (dyngo.LSN, error), cs ...change) error {
	if r.err != nil {
		return r.err
	}
	r.session()
	for i := range cs {
		r.setExpiry(&cs[i])
	}
	i := r.m.begin(cs...)
	lsn, err := call()
	if err == nil {
		err = r.m.done(i, lsn, durable)
	}
	r.err = err
	return err
}

func (r *rig) setExpiry(c *change) {
	if c.kind != "put" && c.kind != "newest" {
		return
	}
	ttl := c.ttl
	if ttl == 0 {
		ttl = r.ds[c.ds].Options().TTL
	}
	if ttl != 0 {
		c.expires = r.clock.Now() + int64(ttl)
	}
}

// expect does what makes versions expire and waits until the store tells that these have, in about this order.
func (r *rig) expect(cause func() error, keys ...string) error {
	if r.err != nil {
		return r.err
	}
	var attempts []int
	for _, k := range keys {
		r.session()
		ds, key, _ := strings.Cut(k, "/")
		attempts = append(attempts, r.m.begin(change{kind: "expire", ds: ds, key: key}))
	}
	r.err = cause()
	for n := 0; n < len(keys) && r.err == nil; n++ {
		select {
		case e := <-r.ended:
			if i := slices.Index(keys[n:], e.key); i < 0 {
				r.err = fmt.Errorf("%s expired at LSN %d, want %q", e.key, e.lsn, keys[n:])
			} else if i > 0 { // what is in memory expires before what is in segments
				keys[n], keys[n+i] = keys[n+i], keys[n]
				r.m.swap(attempts[n], attempts[n+i])
			}
			if r.err == nil {
				r.err = r.m.done(attempts[n], e.lsn, false)
			}
		case r.err = <-r.failed:
		}
	}
	return r.err
}

// advance lets time pass and waits until what is due has expired.
func (r *rig) advance(d time.Duration) error {
	return r.expect(r.tick(d), r.m.due(r.clock.Now()+int64(d))...)
}

func (r *rig) tick(d time.Duration) func() error {
	return func() error {
		r.clock.Advance(d)
		return nil
	}
}

// hold makes the store wait after each expire event that it logs, until the result is called.
func (r *rig) hold() (release func()) {
	gate := make(chan struct{})
	r.held.Store(&gate)
	return func() {
		if r.held.CompareAndSwap(&gate, nil) {
			close(gate)
		}
	}
}

// flush makes everything durable.
func (r *rig) flush() error {
	if r.err == nil {
		lsn := r.db.LSN()
		if r.err = r.db.WaitDurable(context.Background(), lsn); r.err == nil {
			r.m.durable(lsn)
		}
	}
	return r.err
}

// flushSegments writes everything as segments.
func (r *rig) flushSegments() error {
	if r.flush() == nil {
		r.err = r.db.Flush(context.Background())
	}
	return r.err
}

// merge makes one run of all segments.
func (r *rig) merge() error {
	if r.err == nil {
		r.err = r.db.Compact(context.Background())
	}
	return r.err
}

func (r *rig) create(name string, o *dyngo.DatasetOptions) error {
	return r.do(true, func() (dyngo.LSN, error) {
		ds, err := r.db.CreateDataset(name, o)
		if err != nil {
			return 0, err
		}
		r.ds[name] = ds
		i := slices.IndexFunc(r.db.Datasets(), func(d dyngo.DatasetInfo) bool { return d.Name == name })
		return r.db.Datasets()[i].Created, nil
	}, change{kind: "create", ds: name})
}

func (r *rig) drop(name string) error {
	return r.do(true, func() (dyngo.LSN, error) { return r.db.DropDataset(name) }, change{kind: "drop", ds: name})
}

// durable says that writes to the dataset are acknowledged when they are durable.
func (r *rig) durable(ds string) bool {
	return r.err == nil && r.ds[ds].Options().Consistency == dyngo.Strong
}

func (r *rig) put(ds, key, value string) error { return r.putTTL(ds, key, value, 0) }

func (r *rig) putTTL(ds, key, value string, ttl time.Duration) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) {
		return r.ds[ds].PutWith([]byte(key), []byte(value), dyngo.WriteOptions{TTL: ttl})
	}, change{kind: "put", ds: ds, key: key, value: value, ttl: ttl})
}

// putAbsent puts a key that is absent.
func (r *rig) putAbsent(ds, key, value string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) { return r.ds[ds].PutIf([]byte(key), []byte(value), 0) },
		change{kind: "put", ds: ds, key: key, value: value})
}

func (r *rig) putReader(ds, key, value string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) {
		return r.ds[ds].PutReader([]byte(key), int64(len(value)), strings.NewReader(value))
	}, change{kind: "put", ds: ds, key: key, value: value})
}

// errReader is what a reader fails with.
var errReader = errors.New("the reader fails")

// failingReader gives value and then fails.
func failingReader(value string) io.Reader {
	return io.MultiReader(strings.NewReader(value), readerFunc(func([]byte) (int, error) { return 0, errReader }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// putFails puts a value of size bytes from a reader that fails after some.
func (r *rig) putFails(ds, key string, size int64, after string) error {
	if r.err != nil {
		return r.err
	}
	r.session()
	if _, err := r.ds[ds].PutReader([]byte(key), size, failingReader(after)); !errors.Is(err, errReader) {
		r.err = fmt.Errorf("PutReader whose reader fails: %w", err)
	}
	return r.err
}

func (r *rig) newest(ds, key, value string, t int64) error { return r.newestTTL(ds, key, value, t, 0) }

func (r *rig) newestTTL(ds, key, value string, t int64, ttl time.Duration) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) {
		_, lsn, err := r.ds[ds].PutNewestWith([]byte(key), []byte(value), time.Unix(0, t), dyngo.WriteOptions{TTL: ttl})
		return lsn, err
	}, change{kind: "newest", ds: ds, key: key, value: value, time: t, ttl: ttl})
}

func (r *rig) del(ds, key string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) { return r.ds[ds].Delete([]byte(key)) }, change{kind: "del", ds: ds, key: key})
}

func (r *rig) delRange(ds, from, to string) error {
	return r.do(r.durable(ds), func() (dyngo.LSN, error) { return r.ds[ds].DeleteRange(orNil(from), orNil(to)) },
		change{kind: "range", ds: ds, key: from, to: to})
}

func orNil(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func (r *rig) batch(cs ...change) error {
	strong := slices.ContainsFunc(cs, func(c change) bool { return r.durable(c.ds) })
	return r.do(strong, func() (dyngo.LSN, error) {
		b, err := r.fill(cs)
		if err != nil {
			return 0, err
		}
		return b.Commit()
	}, cs...)
}

// abandon fills a batch and does not commit it.
func (r *rig) abandon(cs ...change) error {
	if r.err == nil {
		r.session()
		var b *dyngo.Batch
		if b, r.err = r.fill(cs); r.err == nil {
			b.Reset()
		}
	}
	return r.err
}

func (r *rig) fill(cs []change) (*dyngo.Batch, error) {
	b := r.db.NewBatch()
	for _, c := range cs {
		switch ds := r.ds[c.ds]; c.kind {
		case "put":
			b.PutWith(ds, []byte(c.key), []byte(c.value), dyngo.WriteOptions{TTL: c.ttl})
		case "newest":
			b.PutNewest(ds, []byte(c.key), []byte(c.value), time.Unix(0, c.time))
		case "del":
			b.Delete(ds, []byte(c.key))
		case "range":
			b.DeleteRange(ds, orNil(c.key), orNil(c.to))
		default:
			return nil, errors.New("no such change in a batch: " + c.kind)
		}
	}
	return b, nil
}

func mustOpen(t testing.TB, dir string, o *dyngo.Options) *dyngo.DB {
	t.Helper()
	db, err := dyngo.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
