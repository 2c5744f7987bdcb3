package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func newRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore SRC DST",
		Short: "Make a store as another was at a point of its past",
		Long: `Make a store in DST that is as the one in SRC was: at its end, or at an LSN, a
time, a snapshot, before or after a batch. Its history up to then comes along,
and goes on in a timeline of its own.

SRC is a store, which may be in use, the folder of a snapshot, or a folder of
backups, of which --backup picks one, else the newest; it is not changed. DST is
empty, or not there yet. Until all is done DST is no store; when the command was
interrupted, or the disk was full, the same command goes on.

--plan only says what would be used, the last event that comes along and the
first that does not. --verify checks every byte of the new store. Times are as
2026-11-20T14:31:59Z, or as -10m for ten minutes ago.`,
		Example: `  dyngo-cli restore dyngo-data restored --to-time -10m --plan
  dyngo-cli restore dyngo-data restored --before-tx 8812
  dyngo-cli restore dyngo-data/snapshots/before-import restored --verify
  dyngo-cli restore /backup/store restored --to-time 2026-11-20T14:31:59Z`,
		Args: cli.ExactArgs("SRC", "DST"),
	}
	f := cmd.Flags()
	toLSN := f.Uint64("to-lsn", 0, "right after the event with this LSN")
	toTime := f.String("to-time", "", "after the last event up to this `time`")
	toSnapshot := f.String("to-snapshot", "", "as the snapshot of this `name`")
	beforeTx := f.Uint64("before-tx", 0, "before the batch that begins with this LSN")
	afterTx := f.Uint64("after-tx", 0, "after the batch that begins with this LSN")
	id := f.String("backup", "", "of a folder of backups, the one with this `id`")
	plan := f.Bool("plan", false, "only say what would be done")
	verify := f.Bool("verify", false, "check every byte of the new store")
	cmd.MarkFlagsMutuallyExclusive("to-lsn", "to-time", "to-snapshot", "before-tx", "after-tx")
	cmd.MarkFlagsMutuallyExclusive("plan", "verify")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		target := dyngo.AtEnd()
		switch set := cmd.Flags().Changed; {
		case set("to-lsn"):
			target = dyngo.AtLSN(dyngo.LSN(*toLSN))
		case set("before-tx"):
			target = dyngo.BeforeTx(dyngo.LSN(*beforeTx))
		case set("after-tx"):
			target = dyngo.AfterTx(dyngo.LSN(*afterTx))
		case set("to-snapshot"):
			target = dyngo.AtSnapshot(*toSnapshot)
		case set("to-time"):
			var err error
			if target, err = cli.ParseTime("--to-time", *toTime, time.Now()); err != nil {
				return err
			}
		}
		return runRestore(cmd, args[0], args[1], *id, target, *plan, *verify)
	}
	return cmd
}

func runRestore(cmd *cobra.Command, src, dst, id string, t dyngo.Target, plan, verify bool) error {
	o := &dyngo.RestoreOptions{Session: cli.Session(cmd)}
	from, to := filepath.ToSlash(src), filepath.ToSlash(dst)
	if cli.HasBackups(src) {
		objects := backup.NewDir(vfs.OS, from)
		b, err := backup.Find(cmd.Context(), objects, id)
		if err != nil {
			return err
		}
		from, o.From = ".", backup.FS(cmd.Context(), objects, &b)
	} else if err := cli.CheckStore(src); err != nil {
		return err
	} else if id != "" {
		return cli.Usage("dyngo-cli restore without --backup", "%s is a store, not a folder of backups", src)
	}
	if plan {
		done, err := dyngo.PlanRestore(cmd.Context(), from, t, o)
		if err != nil {
			return err
		}
		return showRestore(cmd, src, dst, &done)
	}
	p := cli.NewProgress(cmd, "restore", 0, "bytes")
	o.Progress = func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	}
	done, err := dyngo.RestoreWith(cmd.Context(), from, to, t, o)
	p.Done()
	var locked *dyngo.LockedError
	if errors.As(err, &locked) {
		return cli.Fail(cli.ExitUnavailable, "wait for "+cli.PidName(locked.PID), "another restore into %s goes on: %w", dst, err)
	}
	if err != nil {
		return err
	}
	if verify {
		if err := verifyRestored(cmd, dst); err != nil {
			return err
		}
	}
	return showRestore(cmd, src, dst, &done)
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

// showRestore prints what was restored, or would be.
func showRestore(cmd *cobra.Command, src, dst string, p *dyngo.RestorePlan) error {
	r := cli.NewRenderer(cmd, cli.OneSheet, cli.Column{Name: "src"}, cli.Column{Name: "dst"}, cli.Column{Name: "lsn"}, cli.Column{Name: "time"},
		cli.Column{Name: "next_lsn"}, cli.Column{Name: "next_time"}, cli.Column{Name: "last_lsn"}, cli.Column{Name: "timeline"},
		cli.Column{Name: "files"}, cli.Column{Name: "bytes"}, cli.Column{Name: "replay_bytes"}, cli.Column{Name: "used", Detail: true})
	var at, next, nextTime any
	if !p.Time.IsZero() {
		at = p.Time.UTC()
	}
	if p.Next > 0 {
		next, nextTime = p.Next, p.NextTime.UTC()
	}
	err := r.Row(src, dst, p.LSN, at, next, nextTime, p.Last, p.Timeline, cli.CountCell(len(p.Files)), cli.ByteCell(p.Bytes),
		cli.ByteCell(p.ReplayBytes), cli.JsonCell(p.Files))
	if err != nil {
		return err
	}
	return r.Close()
}
