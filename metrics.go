package dyngo

import (
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/wal"
)

// counters are what the engine counts outside of its parts.
type counters struct {
	expired, evictions, ranges atomic.Int64
}

// Metrics is a picture of the store at one moment. Counters count since Open.
type Metrics struct {
	// LSN is the applied LSN, DurableLSN what survives power loss. A growing distance means that the disk is slower than
	// the writers.
	LSN, DurableLSN LSN
	// Datasets that exist.
	Datasets int
	// OpenViews hold old versions back, from OldestView on (0 = none). An old one makes memory and disk grow.
	OpenViews  int
	OldestView LSN
	// TTLPending is the number of versions that wait for their expiry, Expired those whose end was logged.
	TTLPending, Expired int64
	// Evictions counts generations that left memory.
	Evictions int64
	// MemoryBudgetBytes is what was asked for, TailBytes what recent events take of it, IndexBytes the hash index and
	// runs. OffHeapBytes is all memory outside of Go's heap of all stores in this process.
	MemoryBudgetBytes, TailBytes, IndexBytes, OffHeapBytes int64
	// DiskFreeBytes is what the file system still takes, 0 if unknown.
	DiskFreeBytes int64
	Log           wal.LogMetrics
	Memtable      memtable.Metrics
}

// Metrics returns the present figures. It costs microseconds, not less.
func (db *DB) Metrics() Metrics {
	m := Metrics{
		LSN: db.LSN(), DurableLSN: db.DurableLSN(), Datasets: len(*db.catalog.byName.Load()),
		Expired: db.count.expired.Load(), Evictions: db.count.evictions.Load(), TTLPending: int64(db.ttl.pending()),
		MemoryBudgetBytes: db.opts.MemoryBudget, OffHeapBytes: offheap.InUse(),
	}
	if held := db.views.hold(); len(held) > 0 {
		m.OpenViews, m.OldestView = len(held), held[0]
	}
	g := db.reads.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return m
	}
	m.Memtable = db.mem.Metrics()
	m.TailBytes, m.IndexBytes = db.arena.Bytes(), m.Memtable.IndexBytes+m.Memtable.RunBytes
	if free, _, err := db.opts.FS.Free(db.dir); err == nil {
		m.DiskFreeBytes = free
	}
	if db.log != nil {
		m.Log = db.log.Metrics()
	}
	return m
}
