package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

func newReplayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay --into FOLDER",
		Short: "Make a new store of the events of a log",
		Long: `Make a new store in FOLDER, which is empty or not there yet, of the events of a
log: all, up to --to-lsn or --to-time, or only those of some datasets, keys or
actors. Events keep their log time, session (actor, address, client), reason,
ticket, expiry and batch, and what was decided when they were written. The new
store has an id of its own; its last event says who made it, and of what.

Without a filter, and if the log is there from its first event on, events keep
their LSNs. Else LSNs are given anew, and "source" in dump is the LSN that an
event had; expiries are logged anew by the store. What was there before the log
begins, since retention has dropped that, comes first, as puts of that time, and
without who wrote it; not so with --actor.

A restore copies files, and is faster; replay is for a part of a log, for a log
that lies in an archive, and for tests with real traffic: --speed 10x replays at
ten times the pace of log time, --rate 5000 so many events a second, and dump
--follow on FOLDER sees them come.

Until all is there FOLDER is no store, and Open says so. An interrupted replay
is discarded: by the command itself when it ends with an error or ^C, after a
kill by the next one into the same folder, which begins anew.`,
		Example: `  dyngo-replay replay --into copy --to-time -24h
  dyngo-replay replay --into orders --dataset orders --prefix 2026-
  dyngo-replay replay -d /archive/store --into rebuilt
  dyngo-replay replay --into load-test --speed 10x`,
		Args: cli.NoArgs,
	}
	f := cmd.Flags()
	r := replay{cmd: cmd}
	into := f.String("into", "", "`folder` of the new store")
	toLSN := f.Uint64("to-lsn", 0, "up to the event with this `LSN`, the last of a batch")
	toTime := f.String("to-time", "", "up to this `time`, 2026-11-20T14:31:59Z or -10m")
	f.StringArrayVar(&r.datasets, "dataset", nil, "only this dataset (repeatable)")
	f.StringArrayVar(&r.actors, "actor", nil, "only what this actor wrote (repeatable)")
	speed := f.String("speed", "", "pace, as a `multiple` of that of log time: 1x, 10x")
	rate := f.String("rate", "", "pace, in `events` a second: 5000/s")
	keys := addKeys(cmd, false)
	cmd.MarkFlagsMutuallyExclusive("to-lsn", "to-time")
	cmd.MarkFlagsMutuallyExclusive("speed", "rate")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *into == "" {
			return cli.Usage("--into FOLDER", "--into is missing")
		}
		r.dir = filepath.ToSlash(filepath.Clean(*into))
		if err := cli.CheckFolder("--into", *into, cli.GlobalsOf(cmd).Dir); err != nil {
			return err
		}
		if r.keys, err = keys(); err != nil {
			return err
		}
		if r.speed, err = pace("--speed", *speed, "x", "10x, or 0.5x"); err != nil {
			return err
		}
		if r.rate, err = pace("--rate", *rate, "/s", "5000/s"); err != nil {
			return err
		}
		r.to = event.LSN(*toLSN)
		if *toTime != "" {
			if r.until, err = cli.ParseNanos("--to-time", *toTime, time.Now()); err != nil {
				return err
			}
		}
		return r.run()
	}
	return cmd
}

// pace reads a positive number, 0 = none.
func pace(flag, s, unit, forms string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, unit), 64)
	if err != nil || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, cli.Usage(forms, "%s: %q is no pace", flag, s)
	}
	return n, nil
}

// replay makes a store of the events of a log. Its files are written as those of a log that goes on from event to event; so at any
// moment what was synced is a log.
//
//  1. Lock the folder, discard what an interrupted replay has left there. RESTORE is there, durably: the folder is no store.
//  2. Write the log.
//  3. RESTORE goes, durably: the folder is a store.
//  4. Open it, which writes segments and side files, so that whoever reads it need not read its log; close it.
type replay struct {
	cmd              *cobra.Command
	dir              string
	datasets, actors []string
	keys             dyngo.Range
	to               event.LSN // 0 = all
	until            int64     // log time, 0 = any
	speed, rate      float64   // 0 = as fast as can be

	src      *cli.Source
	log      *cli.LogSource
	files    *wal.Files
	head     wal.Header // of the oldest log file
	out      *copier
	progress *cli.Progress
	began    time.Time // of the pace
	first    int64     // log time of the first event
	synced   time.Time
	visited  int64
	last     event.LSN       // visited last
	lastMore bool            // its batch goes on
	seen     map[string]bool // datasets and actors that are wanted by name and are there
	lost     [][2]event.LSN  // batches that can't be read any more, since they began in a log file that is gone
	missed   error
}

// noisyEvents is from how many events on the second half of the work is told of.
const noisyEvents = 1_000_000

// replayMark is in RESTORE in place of a timeline while a replay goes on.
var replayMark = [16]byte([]byte("dyngo-replay    "))

func (r *replay) run() (err error) {
	if err := r.open(); err != nil {
		return err
	}
	defer r.files.Close() // only read from
	lock, err := r.claim()
	if err != nil {
		return err
	}
	if err := r.fill(); err != nil {
		return errors.Join(err, r.discard(), lock.Close())
	}
	if err := lock.Close(); err != nil {
		return err
	}
	if r.out.events >= noisyEvents {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s: the log is written; now its segments and side files are\n", r.cmd.Root().Name())
	}
	if err := cli.IndexNew(r.cmd.Context(), r.dir); err != nil {
		return fmt.Errorf("%s is complete, but not yet indexed, which the next process that opens it goes on with: %w", r.dir, err)
	}
	return r.tell()
}

// open opens the source.
func (r *replay) open() (err error) {
	if r.src, err = cli.OpenSource(r.cmd); err != nil {
		return err
	}
	if r.log, err = r.src.Log(r.cmd); err != nil {
		return err
	}
	infos, err := r.log.Files()
	if err != nil {
		return err
	}
	if len(infos) == 0 {
		return cli.Fail(cli.ExitNotFound, "", "the log of %s is empty", cli.GlobalsOf(r.cmd).Dir)
	}
	if r.head, err = wal.ReadHeader(r.log.FS, r.log.Dir, infos[0]); err != nil {
		return err
	}
	end, err := r.log.End(r.cmd.Context())
	if err != nil {
		return err
	}
	if r.to == 0 {
		r.to = end
	}
	if r.to > end || r.to < r.head.FirstLSN {
		return cli.Fail(cli.ExitNotFound, "a target within them", "--to-lsn is %d: the log has LSN %d to %d", r.to, r.head.FirstLSN, end)
	}
	r.files, err = r.log.OpenFiles()
	return err
}

// filtered says whether only some events are wanted.
func (r *replay) filtered() bool {
	return len(r.datasets)+len(r.actors) > 0 || r.keys.From != nil || r.keys.To != nil
}

// claim does step 1.
func (r *replay) claim() (lock interface{ Close() error }, err error) {
	fsys := vfs.OS
	if err := r.vacant(); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(r.dir); err != nil {
		return nil, err
	}
	if lock, err = fsys.Lock(path.Join(r.dir, "LOCK")); err != nil {
		var locked *vfs.LockedError
		if errors.As(err, &locked) {
			err = cli.Fail(cli.ExitUnavailable, "wait for "+cli.PidName(locked.PID), "another process is at work in %s: %w", r.dir, err)
		}
		return nil, err
	}
	err = r.vacant()
	if err == nil {
		err = r.clear()
	}
	if err == nil {
		info := snapshot.Info{Timeline: replayMark, LSN: r.to}
		b := info.Encode()
		err = vfs.WriteFileSync(fsys, path.Join(r.dir, snapshot.PendingName), b[:])
	}
	if err == nil {
		err = fsys.MkdirAll(path.Join(r.dir, "wal"))
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// vacant returns an error if the folder holds anything but what a replay has left.
func (r *replay) vacant() error {
	names, err := vfs.OS.List(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, left, err := snapshot.ReadPending(vfs.OS, r.dir)
	if err != nil || left && info.Timeline == replayMark {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "LOCK" || n == snapshot.PendingName+".tmp" })
	if len(names) > 0 {
		return cli.Fail(cli.ExitConflict, "another folder: replay makes a new store and changes none", "%s is not empty: it holds %s", r.dir,
			names[0])
	}
	return nil
}

// clear removes what a replay has written, but for LOCK and RESTORE.
func (r *replay) clear() error {
	for _, name := range []string{"wal", manifest.Dir, "manifest", "side", "reserve"} {
		if err := removeAll(path.Join(r.dir, name)); err != nil {
			return err
		}
	}
	return vfs.OS.SyncDir(r.dir)
}

// discard removes all that an interrupted replay has written.
func (r *replay) discard() error {
	if err := r.clear(); err != nil {
		return err
	}
	return vfs.OS.Remove(path.Join(r.dir, snapshot.PendingName))
}

// fill does the steps 2 and 3.
func (r *replay) fill() error {
	r.progress = cli.NewProgress(r.cmd, "replay", int64(r.to-r.head.FirstLSN)+1, "events")
	defer r.progress.Done()
	whole := r.head.PrevSeq == 0
	var logID, timeline [16]byte
	for _, id := range []*[16]byte{&logID, &timeline} {
		if _, err := rand.Read(id[:]); err != nil {
			return err
		}
	}
	r.out = newCopier(r.files, whole && !r.filtered(), r.head.FirstTime)
	var err error
	r.out.log, err = wal.NewBuilder(wal.BuilderOptions{FS: vfs.OS, Dir: path.Join(r.dir, "wal"), Clock: clock.NewSystem(), LogID: logID,
		Timeline: timeline, FileBytes: 64 << 20, Time: func() int64 { return r.out.time }, Dictionary: r.out.dictionary})
	if err != nil {
		return err
	}
	if err := r.write(whole); err != nil {
		return errors.Join(err, r.out.log.Close(false))
	}
	if err := r.out.log.Close(true); err != nil {
		return err
	}
	if err := vfs.OS.Remove(path.Join(r.dir, snapshot.PendingName)); err != nil {
		return err
	}
	for dir := r.dir; ; dir = path.Dir(dir) { // folders above it may be new too; one that we may not read is none of ours
		if err := vfs.OS.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if dir == path.Dir(dir) {
			return nil
		}
	}
}

// write does step 2.
func (r *replay) write(whole bool) error {
	if !whole {
		if err := r.base(); err != nil {
			return err
		}
	}
	r.began, r.synced, r.seen = time.Now(), time.Now(), map[string]bool{}
	v := cli.NewLogView(r.files, cli.LogFilter{From: r.head.FirstLSN, To: r.to, Until: r.until})
	v.Lost = func(first, last event.LSN) { r.lost = append(r.lost, [2]event.LSN{first, last}) }
	r.log.Missed = func(first, last event.LSN) {
		r.missed = cli.Fail(cli.ExitFailure, "the same again, or --archive", "retention has dropped LSN %d to %d before they could be read", first, last)
	}
	_, err := r.log.Each(r.cmd.Context(), v, func(f *wal.Frame) error {
		if f.Kind == wal.KindCommit {
			r.progress.Add(int64(f.Count))
			r.out.wall, r.out.hlc = f.WallTime, f.HLC
		}
		return v.Events(f, r.event)
	})
	if err != nil {
		return err
	}
	if r.lastMore && r.until == 0 {
		return cli.Fail(cli.ExitUsage, fmt.Sprintf("the last LSN of a batch, or the one before its first; dyngo-replay dump --from-lsn %d shows which is which",
			r.to), "%w: LSN %d lies in it; --to-lsn before it or at its end", dyngo.ErrMidBatch, r.to)
	}
	if r.missed != nil {
		return r.missed
	}
	if err := r.absent(); err != nil {
		return err
	}
	if err := r.stillThere(); err != nil {
		return err
	}
	if err := r.sign(); err != nil {
		return err
	}
	return r.out.write()
}

// absent returns an error if a dataset or an actor is wanted of which there is nothing: a store without it is not what was meant.
func (r *replay) absent() error {
	for _, e := range r.out.entries { // those of the base too
		if e.dataset != nil {
			r.see("dataset", e.dataset.Name)
		}
	}
	for _, wanted := range []struct {
		what  string
		names []string
	}{{"dataset", r.datasets}, {"actor", r.actors}} {
		for _, name := range wanted.names {
			if !r.seen[wanted.what+name] {
				return cli.Fail(cli.ExitNotFound, "dyngo-replay stat --by dataset,actor -d "+cli.ShellQuote(cli.GlobalsOf(r.cmd).Dir)+" shows what there is",
					"LSN %d to %d have nothing of the %s %q", r.head.FirstLSN, r.last, wanted.what, name)
			}
		}
	}
	return nil
}

func (r *replay) see(what, name string) { r.seen[what+name] = true }

// event takes an event of the source.
func (r *replay) event(e *cli.LogEvent) error {
	r.last, r.lastMore = e.LSN, !e.Last
	if r.visited == 0 {
		r.first = e.Time
	}
	r.visited++
	if len(r.actors) > 0 {
		r.see("actor", e.Who.Actor)
	}
	if len(r.datasets) > 0 {
		r.see("dataset", e.DatasetName) // one that was dropped is in no dictionary any more
	}
	if r.speed > 0 || r.rate > 0 {
		if err := r.wait(e.Time); err != nil {
			return err
		}
	}
	if r.wants(e) {
		if err := r.out.add(e); err != nil {
			return cli.LocateIn(err, e.Frame.Name, e.Frame.Offset)
		}
	}
	if e.Last {
		return r.out.end()
	}
	return nil
}

// wants says whether an event goes to the new store.
func (r *replay) wants(e *cli.LogEvent) bool {
	if r.out.kept {
		return true
	}
	switch {
	case e.Op == event.OpSessionOpened, e.Op == event.OpKeyDestroyed:
		return true
	case e.Op == event.OpDatasetCreated, e.Op == event.OpDatasetChanged, e.Op == event.OpDatasetDropped:
		return r.wantsDataset(e.DatasetName) || e.Op == event.OpDatasetDropped && r.wantsDataset(string(e.Key))
	case e.Op.System(), e.Op == event.OpExpire, e.Op == event.OpRedact, !r.wantsDataset(e.DatasetName), !cli.Touches(e, r.keys):
		return false
	}
	return len(r.actors) == 0 || slices.Contains(r.actors, e.Who.Actor)
}

func (r *replay) wantsDataset(name string) bool {
	return len(r.datasets) == 0 || slices.Contains(r.datasets, name)
}

// syncEvery is how often events become visible to those who follow a paced replay.
const syncEvery = 100 * time.Millisecond

// wait holds an event back until it is due.
func (r *replay) wait(at int64) error {
	due := r.began
	if r.speed > 0 {
		due = due.Add(time.Duration(float64(at-r.first) / r.speed))
	} else {
		due = due.Add(time.Duration(float64(r.visited) / r.rate * 1e9))
	}
	d := time.Until(due)
	if d < time.Millisecond {
		return nil
	}
	if time.Since(r.synced) >= syncEvery || d >= syncEvery {
		if err := r.out.sync(); err != nil {
			return err
		}
		r.synced = time.Now()
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.cmd.Context().Done():
		return r.cmd.Context().Err()
	}
}

// base writes what was there when the oldest log file began: datasets and sessions, as its dictionary says, and keys.
func (r *replay) base() error {
	s, err := wal.NewScanner(r.log.FS, r.log.Dir, wal.ScanOptions{ReadOnly: true, FromFile: r.head.Seq, Only: true})
	if err != nil {
		return err
	}
	defer s.Close() // only read from
	f, err := s.Next()
	if err != nil {
		return err
	}
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return cli.LocateIn(err, f.Name, f.Offset)
	}
	if err := r.out.begin(d, r.wantsDataset); err != nil {
		return err
	}
	floor := r.head.FirstLSN - 1
	if len(r.actors) > 0 || r.src.Kind == cli.SourceLogs || r.src.Archive != "" {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s: what was there at LSN %d, where the log begins, is left out\n", r.cmd.Root().Name(), floor)
		return nil
	}
	return r.puts(floor, func(*dyngo.KV) bool { return true })
}

// puts adds pairs as they were at an LSN.
func (r *replay) puts(at event.LSN, wants func(kv *dyngo.KV) bool) (err error) {
	db, done, err := r.src.Open(r.cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close(), done()) }()
	v, err := db.ViewAt(r.cmd.Context(), dyngo.AtLSN(at))
	if err != nil {
		return err
	}
	defer v.Close()
	names, err := v.Datasets()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !r.wantsDataset(name) {
			continue
		}
		ds, err := v.Dataset(name)
		if err != nil {
			return err
		}
		for kv, err := range v.Scan(ds, r.keys) {
			if err == nil {
				err = r.cmd.Context().Err()
			}
			if err == nil && wants(&kv) {
				err = r.out.put(name, &kv)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// stillThere adds what is still there of batches that can't be read any more: what was overwritten since is lost.
func (r *replay) stillThere() error {
	for _, b := range r.lost {
		r.out.lost += int64(b[1]-b[0]) + 1
	}
	if len(r.lost) == 0 || len(r.actors) > 0 {
		return nil
	}
	return r.puts(r.to, func(kv *dyngo.KV) bool {
		is := slices.ContainsFunc(r.lost, func(b [2]event.LSN) bool { return b[0] <= kv.LSN && kv.LSN <= b[1] })
		if is {
			r.out.lost--
		}
		return is
	})
}

// sign adds the event that says who made the store of what.
func (r *replay) sign() error {
	who := cli.Session(r.cmd)
	what := fmt.Sprintf("%s, of log %x, timeline %x, LSN %d to %d", who.Client, r.head.LogID, r.head.TimelineID, r.head.FirstLSN, r.last)
	return r.out.session(event.Session{Actor: who.Actor, Address: who.Address, Client: what}, time.Now().UnixNano())
}

func (r *replay) tell() error {
	o := r.out
	rows := cli.NewRenderer(r.cmd, cli.OneSheet, cli.Column{Name: "folder"}, cli.Column{Name: "from_lsn"}, cli.Column{Name: "to_lsn"},
		cli.Column{Name: "events"}, cli.Column{Name: "lsns_kept", Title: "LSNS KEPT"}, cli.Column{Name: "last_lsn"}, cli.Column{Name: "base_keys"},
		cli.Column{Name: "lost"})
	err := rows.Row(r.dir, r.head.FirstLSN, r.last, cli.CountCell(o.events), o.kept, o.next-1, cli.CountCell(o.baseKeys), cli.CountCell(o.lost))
	if !o.kept {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s: LSNs were given anew; dump shows as source the LSN that an event had\n", r.cmd.Root().Name())
	}
	return errors.Join(err, rows.Close())
}

// removeAll removes a file, or a folder with what is in it; one that is not there is no error.
func removeAll(name string) error {
	names, err := vfs.OS.List(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		for _, n := range names {
			if err := removeAll(path.Join(name, n)); err != nil {
				return err
			}
		}
	}
	return vfs.OS.Remove(name)
}
