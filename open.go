package dyngo

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/epoch"
	"github.com/dyngodb/dyngo/internal/heat"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/recovery"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// Open opens the store in dir, creating it when there is none; nil options are the defaults. It returns when the log has
// been read; shards of the memtable may still be filling, a read waits only for its own.
//
// Errors: ErrLocked (*LockedError) at once when another process has the store open for writing, ErrCorrupt
// (*CorruptionError) on damage, ErrUnsupported when the files need a newer DynGO, ErrNoStore when a read-only Open finds
// none, ErrLimit for options out of range. Opening an existing store without writing changes nothing in its log; if more has to
// be replayed than fits into memory, segments are written.
func Open(dir string, o *Options) (*DB, error) {
	opts := o.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.InMemory {
		dir = "memory"
	}
	for try := 0; ; try++ {
		db := &DB{opts: opts, dir: dir}
		ctx := context.Background()
		if opts.fork != nil {
			ctx = opts.fork.ctx
		}
		db.ctx, db.cancel = context.WithCancel(ctx)
		db.views.held, db.holds = map[LSN]int{}, newHoldSet()
		db.notices = make(chan func(), noticeCapacity)
		db.told.Go(db.passNotices)
		db.commits = sync.Pool{New: func() any { return new(commit) }}
		err := db.open()
		overtaken := opts.ReadOnly && try < maxOpenTries && (err != nil || db.report.Damage != nil || db.report.Missing != nil) && db.overtaken()
		if err == nil && !overtaken {
			return db, nil
		}
		db.cancel()
		if err = errors.Join(openError(dir, err), db.abandon()); !overtaken {
			return nil, err
		}
	}
}

// overtaken says that a writer has dropped log files since the manifest was read.
func (db *DB) overtaken() bool {
	if db.sorted == nil || db.sorted.set == nil {
		return false
	}
	set, err := manifest.Open(db.opts.FS, path.Join(db.dir, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return false
	}
	defer set.Close() // only read from: nothing can be lost
	return set.Current().OldestLog > db.sorted.set.Current().OldestLog
}

// open is the linear story of Open: directory, lock, log, catalog, goroutines.
func (db *DB) open() error {
	fsys, dir := db.opts.FS, db.dir
	if db.opts.fork != nil {
		db.lock = db.opts.fork.lock
	}
	// 1. The directory. A store exists once its wal folder does, and neither a restore nor a recovery goes on.
	check := unrestored // a recovery is finished below
	if db.opts.ReadOnly {
		check = unfinished
	}
	if db.opts.fork == nil { // else it is the restore that opens it
		if err := check(fsys, dir); err != nil {
			return err
		}
	}
	exists, err := vfs.Exists(fsys, db.walDir())
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if db.opts.ReadOnly {
		if !exists {
			return fmt.Errorf("%w: %s", ErrNoStore, dir)
		}
	} else {
		// 2. The lock comes before any look at the files, but for the one that says that nothing may be written.
		if _, is, err := snapshot.Read(fsys, dir, ""); is || err != nil {
			return errors.Join(err, fmt.Errorf("%w: %s", ErrSnapshot, dir))
		}
		if err := fsys.MkdirAll(dir); err != nil {
			return fmt.Errorf("create %s: %w", dir, err)
		}
		if db.lock != nil { // handed over
		} else if db.lock, err = fsys.Lock(path.Join(dir, "LOCK")); err != nil {
			return fmt.Errorf("lock %s: %w", dir, err)
		}
		if db.opts.fork == nil {
			if err := recoverTo(dir, &db.opts); err != nil {
				return err
			}
		}
		if err := fsys.MkdirAll(db.walDir()); err != nil {
			return fmt.Errorf("create %s: %w", db.walDir(), err)
		}
	}
	if err := db.openKeys(); err != nil {
		return err
	}
	// 3. Memory.
	db.arena = tail.NewArena()
	db.reads, db.calls, db.valueReads = epoch.New(), epoch.New(), epoch.New()
	db.mem = memtable.New(db.arena, db.reads)
	db.files = wal.OpenFiles(fsys, db.walDir())
	db.throttle = throttle{db: db, told: causeCount}
	db.ttl, db.flusher, db.compact, db.retention = newExpirer(db), newFlusher(db), newCompactor(db), newRetention(db)
	db.side = newSideFiles(db)
	db.heat = heat.New(db.opts.Clock)
	db.keeper = newHotKeeper(db)
	db.openRecords()
	db.pacer = pacer.New(db.opts.Clock, pacer.Options{Cores: runtime.GOMAXPROCS(0)})
	// 4. The segments, then what the log holds above them.
	if err := db.openSorted(); err != nil {
		return err
	}
	state, err := db.recover()
	if err != nil {
		return err
	}
	// What is served from now on must not go with a power loss. A medium that can't be written has nothing to lose.
	if !db.opts.ReadOnly {
		if err := db.sorted.set.SyncFound(); err != nil {
			return err
		}
	}
	if err := wal.SyncTail(fsys, db.walDir(), state.Tail, db.opts.ReadOnly); err != nil && !db.opts.ReadOnly {
		return err
	}
	db.report = state.Report
	if !db.opts.ReadOnly {
		if err := db.finishRedaction(); err != nil {
			return fmt.Errorf("carry out a redaction that was begun: %w", err)
		}
	}
	db.fresh = state.Tail.File == 0
	if t := state.Report.TornTail; t != nil {
		db.opts.Logger.Warn("dyngo: the log was not closed", "tail", t.String())
	}
	if d := state.Report.Damage; d != nil {
		db.opts.Logger.Error("dyngo: damage; only what lies before it is served", "damage", d.Error())
	}
	if m := state.Report.Missing; m != nil {
		db.opts.Logger.Error("dyngo: a log file is missing; what is current is served from segments, what needs the file is not", "damage", m.Error())
	}
	// 5. Log time goes on where it ended, even when the wall clock was set back meanwhile.
	last := state.Tail.LastTime
	if db.opts.fork != nil {
		last = max(last, db.opts.fork.after)
	}
	if now := db.opts.Clock.Now(); now <= last {
		db.timeShift = last + 1 - now
		db.opts.Logger.Warn("dyngo: the clock is behind the log's last event; log time goes on from there", "by", time.Duration(db.timeShift))
	}
	if err := db.loadCatalog(state); err != nil {
		return err
	}
	if err := db.retention.open(); err != nil {
		return err
	}
	if !db.opts.ReadOnly {
		if err := db.openLog(state); err != nil {
			return err
		}
		if db.tree, err = newTreeKeeper(db); err != nil {
			return err
		}
	}
	// 6. What runs beside.
	db.start(func() { db.mem.DrainPending(db.ctx, 2) })
	db.start(func() { db.heat.Run(db.ctx) })
	if db.log != nil {
		db.start(db.flusher.run)
		db.start(db.flusher.runLeave)
		db.arena.OnChunk(db.flusher.grown)
		db.flusher.wakeUp() // recovery may have left more in memory than there is room for
		db.compact.start()
		db.start(db.ttl.run)
		if !db.opts.InMemory {
			db.start(db.side.run)
		}
		if db.tree != nil {
			db.start(db.tree.run)
		}
		db.start(db.retention.run)
		db.start(db.watchViews)
		if db.keeper.budget() > 0 && !db.opts.noHotLook {
			db.start(db.keeper.run)
		}
		if db.records != nil {
			db.start(db.flusher.runRecords)
		}
	}
	if db.keys != nil && !db.keys.ReadOnly() && db.log != nil {
		if err := db.finishErasure(db.ctx); err != nil {
			return fmt.Errorf("carry out an erasure that was begun: %w", err)
		}
	}
	if db.opts.Live && !db.opts.InMemory && !db.opts.ReadOnly {
		if db.live, err = serveLive(db); err != nil {
			return err
		}
	}
	return nil
}

// recover reads the log from where the segments end.
func (db *DB) recover() (*recovery.State, error) {
	set := db.sorted.set
	flushed := set.Current().FlushedLSN
	in := &intake{f: db.flusher}
	state, err := recovery.Run(recovery.Options{
		FS: db.opts.FS, Dir: db.walDir(), Arena: db.arena, Table: db.mem, Mono: db.opts.Clock.Mono, ReadOnly: db.opts.ReadOnly,
		Flushed: flushed, GenerationBytes: generationBytes(db.opts.MemoryBudget), Seal: in.take, Due: db.ttl.recovered,
		RecordTime: db.sorted.recordTime, Oldest: set.Current().OldestLog, Refers: db.holds.refer,
		Range: func(ds event.DatasetID, from, to []byte, lsn LSN, time int64) {
			db.flusher.addRange(segment.RangeDelete{Dataset: ds, From: from, To: to, LSN: lsn, Time: time})
		},
	})
	if err = errors.Join(err, in.end()); err != nil {
		return nil, err
	}
	if set.Found() && set.LogID() != state.LogID {
		return nil, &corruption.Error{File: "manifest", What: fmt.Sprintf("it belongs to log %x, not to %x: files of two stores are mixed", set.LogID(), state.LogID)}
	}
	if last := state.Report.LastLSN; last < flushed && state.Report.Damage == nil {
		return nil, &corruption.Error{File: "manifest", What: fmt.Sprintf("segments hold events up to LSN %d, the log ends with %d", flushed, last)}
	}
	return state, nil
}

// start runs f until Close waits for it.
func (db *DB) start(f func()) {
	db.wg.Add(1)
	go func() {
		defer db.wg.Done()
		f()
	}()
}

// abandon gives back what a failed Open took.
func (db *DB) abandon() error {
	if db.mem == nil {
		close(db.notices)
		db.told.Wait()
		if db.lock != nil {
			return db.lock.Close()
		}
		return nil
	}
	return db.Close()
}

func (db *DB) loadCatalog(state *recovery.State) error {
	c := &db.catalog
	c.nextID, c.firstID = state.NextDataset, state.NextDataset
	c.nextSession = state.NextSession
	db.session = state.NextSession
	var failed error
	c.publish(func(m map[string]*Dataset) {
		for _, info := range state.Datasets {
			stored, err := event.ParseDatasetOptions(info.Options)
			if err != nil {
				failed = fmt.Errorf("dataset %q, created at LSN %d: %w", info.Name, info.Created, err)
				return
			}
			ds := &Dataset{db: db, id: info.ID, name: info.Name, created: info.Created, opts: decodeOptions(stored), ranges: &memtable.RangeDeletes{}}
			m[info.Name] = ds
			c.addDataset(ds)
		}
	})
	db.loadRanges()
	return failed
}

// loadRanges tells each dataset of its range deletes, of segments and of the log above them.
func (db *DB) loadRanges() {
	all := db.sorted.current.Load().rangeDeletes()
	for _, r := range db.flusher.ranges {
		all = append(all, segment.RangeDelete(r))
	}
	slices.SortFunc(all, func(a, b segment.RangeDelete) int { return cmp.Compare(a.LSN, b.LSN) })
	for _, r := range all {
		if ds := db.catalog.byID(r.Dataset); ds != nil {
			ds.ranges.Add(r.From, r.To, r.LSN, r.LSN-1) // nobody reads yet
		}
	}
}

func (db *DB) openLog(state *recovery.State) error {
	logID, timelineID := state.LogID, state.TimelineID
	if db.opts.fork != nil && state.Tail.File != 0 {
		if _, err := rand.Read(timelineID[:]); err != nil {
			return fmt.Errorf("read random bytes for the timeline's id: %w", err)
		}
	}
	if state.Tail.File == 0 {
		for _, id := range []*[16]byte{&logID, &timelineID} {
			if _, err := rand.Read(id[:]); err != nil {
				return fmt.Errorf("read random bytes for the log's id: %w", err)
			}
		}
	}
	db.id, db.timeline = logID, timelineID
	l := db.opts.Listener
	db.log = wal.NewLog(wal.LogOptions{
		FS: db.opts.FS, Dir: db.walDir(), Clock: db.opts.Clock, Now: db.now, Arena: db.arena, LogID: logID, TimelineID: timelineID,
		Tail: state.Tail, FileBytes: db.opts.LogFileBytes, MaxPending: db.opts.MemoryBudget / 4, Dictionary: db.catalog.dictionary,
		Reserve: !db.opts.InMemory, OnDurable: func(LSN) { db.flusher.nudge() },
		OnRotate: func(file uint64) {
			if !db.closed.Load() { // else there is nobody left to do something about it
				db.side.nudge()
				db.retention.sealed()
				db.tree.nudge()
			}
			if l.FileSealed != nil {
				db.tell(func() { l.FileSealed(file - 1) })
			}
		},
		OnFull: func(full bool) {
			if full {
				db.retention.nudge() // it makes room, also for the log to start
			}
			db.tell(func() {
				if full {
					db.opts.Logger.Error("dyngo: the disk is full; writes wait until there is space, deletes and reads go on")
				} else {
					db.opts.Logger.Warn("dyngo: there is disk space again")
				}
				if l.DiskFull != nil {
					l.DiskFull(full)
				}
			})
		},
		OnFailure: func(err error) {
			db.tell(func() {
				db.opts.Logger.Error("dyngo: the log failed; nothing more is acknowledged, reads go on; reopen the store", "err", err)
				if l.LogFailed != nil {
					l.LogFailed(err)
				}
			})
		},
		OnClockJump: func(d time.Duration) { db.tell(func() { db.clockJumped(d) }) },
	})
	return nil
}

// ensureStarted makes the log writable before the first write, and logs who writes.
func (db *DB) ensureStarted() error {
	db.starting.Lock()
	defer db.starting.Unlock()
	if db.started.Load() {
		return nil
	}
	db.wanted.Store(true)
	if db.fresh {
		if err := syncAncestors(db.opts.FS, db.dir); err != nil {
			return err
		}
		db.fresh = false
	}
	if err := db.log.Start(); err != nil {
		switch {
		case db.closed.Load(): // it waited for space that never came
			return fmt.Errorf("%w: %w", ErrClosed, err)
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("dyngo: %s can't be written: %w", db.dir, err)
		}
		return err
	}
	if err := db.logFork(); err != nil {
		return err
	}
	if err := db.logSession(); err != nil {
		return err
	}
	db.retention.removeDropped()
	if err := db.removeLeftSnapshots(); err != nil {
		db.opts.Logger.Warn("dyngo: what a crash has left of a snapshot can't be removed", "err", err)
	}
	db.started.Store(true)
	return nil
}

// syncAncestors makes a new store's directory durable, with those above it that Open or an Open before it may have made. A
// directory that we may not read is none of ours.
func syncAncestors(fsys vfs.FS, dir string) error {
	for {
		if err := fsys.SyncDir(dir); errors.Is(err, fs.ErrPermission) {
			return nil
		} else if err != nil {
			return fmt.Errorf("make %s durable: %w", dir, err)
		}
		parent := path.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

// tell has f called by the goroutine for listeners and logs, without locks and in order. When more than noticeCapacity wait,
// because a listener hangs, f is dropped: the store does not hang with it.
func (db *DB) tell(f func()) {
	select {
	case db.notices <- f:
	default:
	}
}

const noticeCapacity = 1024

// passNotices ends with the channel's close, when all have been told.
func (db *DB) passNotices() {
	for f := range db.notices {
		f()
	}
}

// clockJumped logs that wall clock and monotonic clock moved apart.
func (db *DB) clockJumped(d time.Duration) {
	db.opts.Logger.Warn("dyngo: the wall clock jumped; log time does not follow", "by", d)
	if f := db.opts.Listener.ClockJumped; f != nil {
		f(d)
	}
	g, err := db.enterCall()
	if err != nil {
		return
	}
	defer g.Exit()
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{kind: event.OpClockAnomaly, value: binary.LittleEndian.AppendUint64(nil, uint64(d))})
	if err := db.commit(c, wal.Ack{Window: Eventual.window()}, true, db.now()); err != nil {
		db.opts.Logger.Warn("dyngo: the jump of the clock was not logged", "err", err)
	}
}
