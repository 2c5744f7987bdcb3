package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/snapshot"
)

func newRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore SRC DST",
		Short: "Make a store as another was at a point of its past",
		Long: `Make a store in DST that is as the one in SRC was: at its end, or at an LSN, a
time, a snapshot, before or after a batch. Its history up to then comes along,
and goes on in a timeline of its own.

SRC is a store, which may be in use, the folder of a snapshot, or a folder of
backups: of these the one is taken that has the state and is restored soonest,
or the one that --backup names. It is not changed. DST is empty, or not there
yet. Until all is done DST is no store; when the command was interrupted, or the
disk was full, the same command goes on.

--delta replaces a store in DST that is of the same log, as an earlier restore:
files that it has already, with the right SHA-256, are not copied again.

--datasets and --prefix restore a part: its keys and values with what is left of
their time to live, in datasets with the same options. History, LSNs, times, who
and why don't come along; the session in the new store's log says what it is a
part of. All of the store is restored for that to DST.whole first, and removed.
A dataset that is not there, or a prefix that no key has, is an error.

--plan only says what would be used, the last event that comes along, the first
that does not, the room, and about the time, at stated rates. --verify checks
every byte of the new store. Times are as 2026-11-20T14:31:59Z, or as -10m for
ten minutes ago.`,
		Example: `  dyngo-cli restore dyngo-data restored --to-time -10m --plan
  dyngo-cli restore dyngo-data restored --before-tx 8812
  dyngo-cli restore dyngo-data/snapshots/before-import restored --verify
  dyngo-cli restore /backup/store restored --to-time 2026-11-20T14:31:59Z
  dyngo-cli restore /backup/store restored --delta --to-lsn 88231004
  dyngo-cli restore /backup/store scores --datasets scores,players`,
		Args: cli.ExactArgs("SRC", "DST"),
	}
	f := cmd.Flags()
	toLSN := f.Uint64("to-lsn", 0, "right after the event with this LSN")
	toTime := f.String("to-time", "", "after the last event up to this `time`")
	toSnapshot := f.String("to-snapshot", "", "as the snapshot of this `name`")
	beforeTx := f.Uint64("before-tx", 0, "before the batch that begins with this LSN")
	afterTx := f.Uint64("after-tx", 0, "after the batch that begins with this LSN")
	id := f.String("backup", "", "of a folder of backups, the one with this `id`")
	r := restore{}
	f.BoolVar(&r.plan, "plan", false, "only say what would be done")
	f.BoolVar(&r.verify, "verify", false, "check every byte of the new store")
	f.BoolVar(&r.delta, "delta", false, "replace a store in DST, keep its files that are right")
	f.StringSliceVar(&r.part.datasets, "datasets", nil, "only these datasets: `a,b`")
	f.StringVar(&r.part.prefix, "prefix", "", "only keys that begin with this")
	cmd.MarkFlagsMutuallyExclusive("to-lsn", "to-time", "to-snapshot", "before-tx", "after-tx")
	cmd.MarkFlagsMutuallyExclusive("plan", "verify")
	cmd.MarkFlagsMutuallyExclusive("delta", "datasets")
	cmd.MarkFlagsMutuallyExclusive("delta", "prefix")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := r.part.checkFlags(cmd); err != nil {
			return err
		}
		w := wanted{target: dyngo.AtEnd()}
		switch set := cmd.Flags().Changed; {
		case set("to-lsn"):
			w = wanted{target: dyngo.AtLSN(dyngo.LSN(*toLSN)), from: dyngo.LSN(*toLSN), to: dyngo.LSN(*toLSN)}
		case set("before-tx"):
			w = wanted{target: dyngo.BeforeTx(dyngo.LSN(*beforeTx)), from: dyngo.LSN(*beforeTx - min(*beforeTx, 1)), to: dyngo.LSN(*beforeTx)}
		case set("after-tx"):
			w = wanted{target: dyngo.AfterTx(dyngo.LSN(*afterTx)), from: dyngo.LSN(*afterTx), to: dyngo.LSN(*afterTx)}
		case set("to-snapshot"):
			w = wanted{target: dyngo.AtSnapshot(*toSnapshot), named: true}
		case set("to-time"):
			var err error
			if w.time, err = cli.ParseTime("--to-time", *toTime, time.Now()); err != nil {
				return err
			}
			w.target = dyngo.AtTime(w.time)
		}
		r.cmd, r.src, r.dst, r.want = cmd, args[0], args[1], w
		return cli.In(r.src, r.run(*id))
	}
	return cmd
}

// restore is one call of the command.
type restore struct {
	cmd                 *cobra.Command
	src, dst            string
	want                wanted
	plan, verify, delta bool
	part                part

	backup string // id of the one that is used
}

func (r *restore) run(id string) error {
	o := &dyngo.RestoreOptions{Session: cli.Session(r.cmd), Delta: r.delta}
	from, to := filepath.ToSlash(r.src), r.dst
	if cli.HasBackups(r.src) {
		c := chooser{cmd: r.cmd, folder: r.src, want: r.want}
		b, err := c.choose(id)
		if err != nil {
			return err
		}
		r.backup = b.ID
		from, o.From = ".", backup.FS(r.cmd.Context(), c.objects, b)
	} else if err := cli.CheckStore(r.src); errors.Is(err, os.ErrPermission) {
		return err
	} else if err != nil {
		return cli.Fail(cli.ExitNotFound, "as SRC a store, the folder of a snapshot or a folder of backups", "no store in %s, and no backups", r.src)
	} else if id != "" {
		return cli.Usage("dyngo-cli restore without --backup", "%s is a store, not a folder of backups", r.src)
	}
	if err := cli.CheckFolder("DST", r.dst, r.src); err != nil {
		return err
	}
	if r.plan {
		r.tellOccupied()
		done, err := dyngo.PlanRestore(r.cmd.Context(), from, r.want.target, o)
		if err == nil {
			err = r.part.check(r.cmd, from, o.From, done.LSN)
		}
		if err != nil {
			return err
		}
		return r.show(&done)
	}
	if !r.part.all() {
		if err := r.findPart(from, o); err != nil {
			return err
		}
		if err := r.part.prepare(r.dst); err != nil {
			return err
		}
		to, o.Delta = wholeOf(r.dst), true // what an interrupted call has left is of use
	}
	done, err := r.make(from, to, o)
	if err != nil {
		if _, serr := os.Stat(to); errors.Is(serr, os.ErrNotExist) && !r.part.all() { // nothing was begun
			_ = os.Remove(unfinishedOf(r.dst))
		}
		return err
	}
	if done.TreeErr != nil {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s: the hash tree of %s did not come along, it is damaged: %v\n", r.cmd.Root().Name(), r.src, done.TreeErr)
	}
	if !r.part.all() {
		err := r.part.take(r.cmd, to, r.dst, &done)
		if err != nil && !isNothing(err) {
			fmt.Fprintf(r.cmd.ErrOrStderr(), "%s stays: the same command goes on with it\n", to)
			return err
		}
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinishedOf(r.dst)))
		}
		if err := errors.Join(err, os.RemoveAll(to)); err != nil {
			return err
		}
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s has a part, %v, without its history\n", r.dst, &r.part)
	}
	if r.verify {
		if err := verifyRestored(r.cmd, r.dst); err != nil {
			return err
		}
	}
	return r.show(&done)
}

// findPart returns an error if a dataset of the part, or any key of it, is not in the state that is to be restored: nothing is written
// then. What else keeps it from looking keeps a restore from going on too, or, like damage that a snapshot does not have, does not.
func (r *restore) findPart(from string, o *dyngo.RestoreOptions) error {
	done, err := dyngo.PlanRestore(r.cmd.Context(), from, r.want.target, o)
	if err == nil {
		err = r.part.check(r.cmd, from, o.From, done.LSN)
	}
	if isNothing(err) {
		return err
	}
	return nil
}

// tellOccupied says of a plan that the restore itself would be refused.
func (r *restore) tellOccupied() {
	names, _ := os.ReadDir(r.dst) // an error is that of the restore
	begun := slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == snapshot.PendingName })
	names = slices.DeleteFunc(names, func(e os.DirEntry) bool { return e.Name() == "LOCK" })
	if len(names) > 0 && !begun && !r.delta {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s: %s is not empty: this would be refused without --delta, which replaces an earlier restore\n",
			r.cmd.Root().Name(), r.dst)
	}
}

// make restores all of the store.
func (r *restore) make(from, to string, o *dyngo.RestoreOptions) (dyngo.RestorePlan, error) {
	p := cli.NewProgress(r.cmd, "restore", 0, "bytes")
	o.Progress = func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	}
	done, err := dyngo.RestoreWith(r.cmd.Context(), from, filepath.ToSlash(to), r.want.target, o)
	p.Done()
	var locked *dyngo.LockedError
	if errors.As(err, &locked) {
		return done, cli.Fail(cli.ExitUnavailable, "wait for "+cli.PidName(locked.PID), "another restore into %s goes on, or it is open: %w", to, err)
	}
	return done, err
}

func verifyRestored(cmd *cobra.Command, dst string) error {
	p := cli.NewProgress(cmd, "verify", 0, "bytes")
	report, err := dyngo.Verify(cmd.Context(), filepath.ToSlash(dst), nil, func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	})
	p.Done()
	if err == nil && report.Count() > 0 {
		err = cli.Fail(cli.ExitCorrupt, "dyngo-cli verify -d "+cli.ShellQuote(dst), "the restored store has %d defects: %w", report.Count(), report.All()[0])
	}
	if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is sound: %s checked\n", dst, cli.FormatBytes(report.Log.Bytes+report.Bytes))
	}
	return err
}

// show prints what was restored, or would be.
func (r *restore) show(p *dyngo.RestorePlan) error {
	cols := []cli.Column{{Name: "src"}, {Name: "dst"}, {Name: "backup"}, {Name: "lsn"}, {Name: "time"}, {Name: "next_lsn"}, {Name: "next_time"},
		{Name: "last_lsn"}, {Name: "timeline"}, {Name: "files"}, {Name: "bytes"}, {Name: "replay_bytes"}}
	var at, next, nextTime, id any
	if !p.Time.IsZero() {
		at = p.Time.UTC()
	}
	if p.Next > 0 {
		next = p.Next
	}
	if !p.NextTime.IsZero() {
		nextTime = p.NextTime.UTC()
	}
	if r.backup != "" {
		id = r.backup
	}
	cells := []any{r.src, r.dst, id, p.LSN, at, next, nextTime, p.Last, p.Timeline, cli.CountCell(len(p.Files)), cli.ByteCell(p.Bytes),
		cli.ByteCell(p.ReplayBytes)}
	if r.plan {
		need, free := room(p, r.dst)
		cols = append(cols, cli.Column{Name: "need_bytes"}, cli.Column{Name: "free_bytes"}, cli.Column{Name: "estimate_s"}, cli.Column{Name: "rates"})
		cells = append(cells, cli.ByteCell(need), cli.ByteCell(free), restoreTime(p).Seconds(), rates())
	} else if r.delta {
		cols, cells = append(cols, cli.Column{Name: "reused_bytes"}), append(cells, cli.ByteCell(p.Reused))
	}
	cols, cells = append(cols, cli.Column{Name: "used", Detail: true}), append(cells, cli.JsonCell(p.Files))
	out := cli.NewRenderer(r.cmd, cli.OneSheet, cols...)
	if err := out.Row(cells...); err != nil {
		return err
	}
	return out.Close()
}
