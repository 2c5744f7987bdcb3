package dyngo

import (
	"context"
	"errors"
	"io"
	"path"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/internal/heat"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/keyring"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/recovery"
	"github.com/dyngodb/dyngo/wal"
)

// DB is an open store. Safe for concurrent use.
type DB struct {
	opts Options // immutable after Open
	dir  string

	lock       io.Closer // on the directory; nil when read-only or in memory
	log        *wal.Log  // nil when read-only
	files      *wal.Files
	arena      *tail.Arena
	reads      *epoch.Domain // pins memory that a read looks at
	calls      *epoch.Domain // pins the store for writes, which may take long
	valueReads *epoch.Domain // pins log files that a value is being read from
	mem        *memtable.Table

	session event.SessionID // of this process; its event is logged before the first write
	report  RecoveryReport

	closed  atomic.Bool
	closing struct {
		sync.Once
		err error
	}
	ctx       context.Context // ends the goroutines that wg counts
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	starting  sync.Mutex // held while the log is made writable
	started   atomic.Bool
	wanted    atomic.Bool    // somebody wants to write: the log is started, or tries to
	fresh     bool           // there is no log file yet; guarded by starting
	notices   chan func()    // for listeners and logs; see tell
	told      sync.WaitGroup // its reader
	timeShift int64          // added to the clock so that log time goes on where it ended; immutable after Open

	catalog  catalog
	ttl      *expirer
	flusher  *flusher
	compact  *compactor
	throttle throttle
	sorted   *sortedFiles
	side     *sideFiles
	keys     *keyring.Ring // of subjects; nil = none are given
	sealing  sync.RWMutex  // held by commits of sealed values until they have LSNs; by Erase when it takes a key away
	erasing  sync.Mutex    // one at a time erases; taken before all other locks

	redactedHashes redactedHashes

	heat      *heat.Sampler
	keeper    *hotKeeper
	records   *cache.Records // nil = none are kept; see records.go
	pacer     *pacer.Pacer   // of the work of flusher and compactor: the foreground comes first
	id        [16]byte       // of the log, zero until the log is open
	timeline  [16]byte       // that is written to, zero until the log is open
	snapshots sync.Mutex     // held while one is made or dropped, or a value redacted, during I/O; guards unfinished
	// unfinished keeps retention from the log files of a redaction that was, or may have been, logged and is not carried out: else
	// the value could come into other files. nil = there is none.
	unfinished *hold
	live       *liveServer
	views      viewSet
	holds      holdSet
	retention  *retention
	tree       *treeKeeper   // nil = the store keeps none
	floor      atomic.Uint64 // LSN that all reads without a view have reached; see raiseFloor
	commits    sync.Pool     // *commit
	count      counters
}

// catalog is the set of datasets. Lookups go through an atomic pointer; changes hold mu and go through the log.
type catalog struct {
	mu          sync.Mutex // held while a dataset is created or dropped; taken before memtable shards
	byName      atomic.Pointer[map[string]*Dataset]
	nextID      event.DatasetID // guarded by mu
	dictMu      sync.Mutex      // guards the fields below; a leaf, taken by the log while it starts a file
	all         []dictEntry     // every live dataset and session, for the dictionary of a new log file
	nextSession event.SessionID // as recovery found it; immutable
	firstID     event.DatasetID // the same for datasets
}

// Dataset is a named set of keys. It is a handle: cheap to copy by pointer, safe for concurrent use, valid until the store
// is closed. After the dataset is dropped, its calls return ErrNoDataset.
type Dataset struct {
	db      *DB
	id      event.DatasetID
	name    string
	opts    DatasetOptions
	created LSN
	dropped atomic.Uint64 // LSN of the drop, 0 = lives
	ranges  *memtable.RangeDeletes
	hot     hotRanges
}

// Name of the dataset.
func (ds *Dataset) Name() string { return ds.name }

// Options the dataset was created with.
func (ds *Dataset) Options() DatasetOptions { return ds.opts }

// LSN is the applied LSN: the newest event that reads of Causal and Eventual datasets see.
func (db *DB) LSN() LSN {
	if db.log == nil {
		return db.report.LastLSN
	}
	return db.log.AppliedLSN()
}

// DurableLSN is the newest event that survives power loss, and that reads of Strong datasets and views see.
func (db *DB) DurableLSN() LSN {
	if db.log == nil {
		return db.report.LastLSN
	}
	return db.log.DurableLSN()
}

// visible is the LSN that current reads of the dataset see.
func (ds *Dataset) visible() LSN {
	if ds.opts.Consistency == Strong {
		return ds.db.DurableLSN()
	}
	return ds.db.LSN()
}

// WaitDurable waits until lsn survives power loss, and brings that about. It fails when the context ends, and with
// ErrOutcomeUnknown when the log fails first. An LSN that was not yet assigned is an error.
func (db *DB) WaitDurable(ctx context.Context, lsn LSN) error {
	if db.closed.Load() {
		return ErrClosed
	}
	if lsn <= db.DurableLSN() {
		return nil
	}
	if db.log == nil {
		return limitError("LSN %d: the log ended at %d when the store was opened", lsn, db.report.LastLSN)
	}
	return openError(db.dir, db.log.WaitDurable(ctx, lsn))
}

// WaitFor waits until a view sees lsn. Views are at the durable LSN, so this is WaitDurable today; in a cluster it also
// waits for the event to arrive.
func (db *DB) WaitFor(ctx context.Context, lsn LSN) error { return db.WaitDurable(ctx, lsn) }

// Recovery tells what Open found.
func (db *DB) Recovery() RecoveryReport { return db.report }

// RecoveryReport tells what Open found on disk.
type RecoveryReport = recovery.Report

// Dir is the directory of the store.
func (db *DB) Dir() string { return db.dir }

// now is the time of current reads and of new events: Unix nanoseconds that follow the monotonic clock.
func (db *DB) now() int64 { return db.opts.Clock.Now() + db.timeShift }

// Datasets lists the datasets by name.
func (db *DB) Datasets() []DatasetInfo {
	var infos []DatasetInfo
	for _, ds := range *db.catalog.byName.Load() {
		infos = append(infos, DatasetInfo{Name: ds.name, ID: uint32(ds.id), Created: ds.created, Options: ds.opts})
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Name < infos[j].Name })
	return infos
}

// enterCall pins the store for a write; the guard must be given back.
func (db *DB) enterCall() (epoch.Guard, error) {
	g := db.calls.Enter()
	if db.closed.Load() {
		g.Exit()
		return epoch.Guard{}, ErrClosed
	}
	if db.log == nil {
		g.Exit()
		return epoch.Guard{}, ErrReadOnly
	}
	if !db.started.Load() {
		if err := db.ensureStarted(); err != nil {
			g.Exit()
			return epoch.Guard{}, openError(db.dir, err)
		}
	}
	return g, nil
}

// Close waits for calls in progress, makes everything durable and gives the directory back. Open sequences and readers
// of large values end with ErrClosed. A second Close returns the first one's result.
func (db *DB) Close() error {
	db.closing.Do(func() { db.closing.err = db.close() })
	return db.closing.err
}

func (db *DB) close() error {
	db.closed.Store(true)
	if db.log != nil {
		db.log.Interrupt() // calls that wait for disk space give up
	}
	db.cancel() // merges that calls wait for end early
	db.calls.Synchronize()
	if db.pacer != nil {
		db.pacer.Close()
	}
	db.wg.Wait()
	var errs []error
	if db.live != nil {
		errs = append(errs, db.live.close())
	}
	if db.log != nil {
		errs = append(errs, db.log.Close(), db.tree.close())
		db.flusher.close()
	}
	close(db.notices) // nobody sends any more
	db.told.Wait()
	db.reads.Synchronize()
	db.calls.Close()
	db.side.close()
	db.valueReads.Close()
	errs = append(errs, db.sorted.close())
	db.mem.Close()
	if db.records != nil {
		db.records.Clear()
	}
	db.reads.Close()
	db.arena.Close()
	errs = append(errs, db.files.Close())
	if db.keys != nil && db.opts.KeyRing == nil {
		errs = append(errs, db.keys.Close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// logID is the id of the log that all files of the store name.
func (db *DB) logID() ([16]byte, error) {
	if db.id != [16]byte{} {
		return db.id, nil
	}
	return wal.ReadLogID(db.opts.FS, db.walDir())
}

func (db *DB) walDir() string { return path.Join(db.dir, "wal") }

// unixTime turns nanoseconds into a time, 0 into the zero time.
func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// unixNanos is unixTime undone.
func unixNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
