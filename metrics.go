package dyngo

import (
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/internal/heat"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/wal"
)

// counters are what the engine counts outside of its parts.
type counters struct {
	expired, evictions, ranges                                                 atomic.Int64
	flushes, flushedBytes, flushErrors                                         atomic.Int64
	filesDropped, filesArchived, retentionErrors                               atomic.Int64
	compactions, compactReadBytes, compactedBytes, compactionErrors, setsAside atomic.Int64
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
	// TTLPending is the number of versions in memory that wait for their expiry, Expired those whose end was logged.
	TTLPending, Expired int64
	// FlushedLSN is the LSN up to which segments hold every event; the next Open replays what lies above it. A growing
	// distance to DurableLSN means that flushing does not keep up, or that all fits into memory.
	FlushedLSN LSN
	// Flushes counts segments written of recent events, FlushedBytes their size; FlushErrors those that failed.
	Flushes, FlushedBytes, FlushErrors int64
	// Evictions counts generations that left memory.
	Evictions int64
	// Segments are the sorted files, in Runs: a read of one key looks into one segment of each run at most. SegmentBytes is
	// their size. More than some ten runs for long means that compaction does not keep up.
	Segments, Runs int
	SegmentBytes   int64
	// Compactions counts merges of segments, CompactReadBytes and CompactWrittenBytes what they read and wrote. Errors
	// counts those that failed, DamagedSegments those that they left alone since.
	Compactions, CompactReadBytes, CompactWrittenBytes, CompactionErrors int64
	DamagedSegments                                                      int64
	// WriteDelay is by how much each commit is held back at present, WriteDelayReason why: what is behind the log, memory,
	// merging or retention, does not follow. 0 and "" are the rule. Log.StalledNs sums up what writers have waited, for the disk included.
	WriteDelay       time.Duration
	WriteDelayReason string
	// SideFiles say for sealed log files where the events of each key lie, in SideBytes. Fewer than sealed log files for long
	// means that building does not keep up, and histories read more.
	SideFiles int
	SideBytes int64
	// CacheHits and CacheMisses count looks for blocks of segments in memory.
	CacheHits, CacheMisses int64
	// MemoryBudgetBytes is what was asked for. Of it, TailBytes are taken by recent events, IndexBytes by the hash index and
	// runs, CacheBytes by blocks of segments, ReaderBytes by what open segments keep. OffHeapBytes is all memory outside of
	// Go's heap of all stores in this process.
	MemoryBudgetBytes, TailBytes, IndexBytes, CacheBytes, ReaderBytes, OffHeapBytes int64
	// RecordBytes of the budget are taken by single records of segments, which RecordHits of RecordHits + RecordMisses gets that memory
	// could not answer found there.
	RecordBytes, RecordHits, RecordMisses int64
	// HotRangeBytes of the budget are taken by HotRanges, which are kept in key order; see DB.HotDecisions.
	HotRangeBytes int64
	HotRanges     int
	// HeatBytes is what DB.Hot has its figures in, beside the budget.
	HeatBytes int64
	// Operations is about how many there were, and how long they took lately, by the sample that DB.Hot goes by.
	Operations heat.Totals
	// FlushJobs and MergeJobs run at present, and OtherJobs: retention, side files, the hash tree.
	FlushJobs, MergeJobs, OtherJobs int64
	// LogFiles are there, LogBytes is their size. FloorLSN is the LSN up to which retention has dropped events: the present
	// loses nothing by that. FilesDropped counts log files that retention has dropped, RetentionErrors when it could not.
	LogFiles                      int
	LogBytes                      int64
	FloorLSN                      LSN
	FilesDropped, RetentionErrors int64
	// FilesArchived counts log files that were copied to Options.Archive before they were dropped.
	FilesArchived int64
	// ValueFiles hold what is left of large values in dropped log files, in ValueBytes. More than half of each is current.
	ValueFiles int
	ValueBytes int64
	// HistorySegments hold, in HistoryBytes, what was current at the floor and was overwritten since.
	HistorySegments int
	HistoryBytes    int64
	// BytesPerLiveByte is what log, value files, segments and history take on disk for each byte of keys and values that segments hold, those not
	// yet merged away included; 0 without segments. It grows with history that is kept.
	BytesPerLiveByte float64
	// DiskFreeBytes is what the file system still takes, of DiskBytes in all; both 0 if unknown. DaysToFull is how long that lasts if it goes on as since
	// yesterday or since Open, whatever writes to it; 0 = it can't be told: the store is open for less than an hour, or the
	// disk does not fill.
	DiskFreeBytes, DiskBytes int64
	DaysToFull               float64
	Log                      wal.LogMetrics
	Memtable                 memtable.Metrics
}

// Metrics returns the present figures. It costs microseconds, not less.
func (db *DB) Metrics() Metrics {
	m := Metrics{
		LSN: db.LSN(), DurableLSN: db.DurableLSN(), Datasets: len(*db.catalog.byName.Load()),
		Expired: db.count.expired.Load(), Evictions: db.count.evictions.Load(),
		Flushes: db.count.flushes.Load(), FlushedBytes: db.count.flushedBytes.Load(), FlushErrors: db.count.flushErrors.Load(),
		Compactions: db.count.compactions.Load(), CompactReadBytes: db.count.compactReadBytes.Load(),
		CompactWrittenBytes: db.count.compactedBytes.Load(), CompactionErrors: db.count.compactionErrors.Load(),
		DamagedSegments: db.count.setsAside.Load(), TTLPending: int64(db.ttl.pending()),
		MemoryBudgetBytes: db.opts.MemoryBudget, OffHeapBytes: offheap.InUse(),
	}
	m.HotRanges, m.HotRangeBytes = db.keeper.measure()
	m.HeatBytes, m.Operations = int64(db.heat.Bytes()), db.heat.Totals()
	jobs := db.pacer.Metrics().Classes
	m.FlushJobs, m.MergeJobs = jobs[pacer.Flush].Running, jobs[pacer.Compaction].Running
	m.OtherJobs = jobs[pacer.Index].Running + jobs[pacer.Verify].Running
	if held := db.views.hold(); len(held) > 0 {
		m.OpenViews, m.OldestView = len(held), held[0]
	}
	g := db.reads.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return m
	}
	db.sorted.measure(&m)
	m.SideFiles, m.SideBytes = db.side.measure()
	m.WriteDelay, m.WriteDelayReason = db.throttle.now()
	m.Memtable = db.mem.Metrics()
	m.TailBytes, m.IndexBytes = db.arena.Bytes(), m.Memtable.IndexBytes+m.Memtable.RunBytes
	if free, total, err := db.opts.FS.Free(db.dir); err == nil {
		m.DiskFreeBytes, m.DiskBytes, m.DaysToFull = free, total, db.retention.disk.daysToFull(db.opts.Clock.Mono(), free)
	}
	if db.records != nil {
		r := db.records.Metrics()
		m.RecordBytes, m.RecordHits, m.RecordMisses = r.Bytes, r.Hits, r.Misses
	}
	if db.log != nil {
		m.Log = db.log.Metrics()
	}
	db.retention.measure(&m)
	return m
}
