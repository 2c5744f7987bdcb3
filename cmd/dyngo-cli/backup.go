package main

import (
	"context"
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

func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Keep copies of the store in another place",
		Long: `Keep copies of the store in a folder: full once, then only what is new. List
them, check them, or drop old ones. dyngo-cli restore makes a store of one
again, as of any LSN that it covers.

Each file is kept under its SHA-256, and a backup is listed when all of it is
durable: one that was interrupted is none, and the next one goes on with what is
there. Several stores may share a folder.`,
		Example: `  dyngo-cli backup create /backup/store
  dyngo-cli backup list /backup/store
  dyngo-cli restore /backup/store restored --to-time -2h --plan`,
		Args: cli.NoArgs,
		RunE: cli.NeedSubcommand,
	}
	create := &cobra.Command{
		Use:   "create FOLDER",
		Short: "Back the store up as it is now, and go on with --follow",
		Long: `Back the store up as it is now, with its history. A snapshot holds the state
meanwhile, so nothing waits for it.

The process that has the store open is asked for the snapshot if it serves
live.sock (the option Live); else the store must not be open elsewhere.
Snapshots that a backup which was killed has left are named, and stay.

A file that never changes, and that an earlier backup has, is known by name and
size and not read again, here or there: backup verify reads it.

--follow goes on with the log behind the newest backup, each event within a
second after it is durable, until ^C: which can be at any time, the next call
goes on. It needs no lock and no live.sock, and survives what becomes of the
process that writes. A first backup is made if there is none, and a new one if
the store was set back, or retention has dropped what was not archived: that gap
is named. What the folder refuses is told, and tried again.`,
		Example: `  dyngo-cli backup create /backup/store
  dyngo-cli backup create /backup/store --follow`,
		Args: cli.ExactArgs("FOLDER"),
	}
	follow := create.Flags().BoolP("follow", "f", false, "archive the log as it grows, until ^C")
	create.RunE = func(cmd *cobra.Command, args []string) error { return createBackup(cmd, args[0], *follow) }
	list := &cobra.Command{
		Use:   "list FOLDER",
		Short: "List the backups",
		Long: `List the backups, oldest first. Each can be restored to the LSNs from floor_lsn
to reach_lsn: that of the backup, or as far as the log behind it was archived.
What is damaged, and gaps between backups, are told on stderr.`,
		Example: `  dyngo-cli backup list /backup/store -o json`,
		Args:    cli.ExactArgs("FOLDER"),
		RunE:    func(cmd *cobra.Command, args []string) error { return listBackups(cmd, args[0]) },
	}
	verify := &cobra.Command{
		Use:   "verify FOLDER",
		Short: "Check every byte of the backups",
		Long: `Read every file of every backup, and of the log behind it, and hold it against
its SHA-256. Files that are missing, cut off or damaged are listed with the
backups that they are of, and the exit code is 6.`,
		Example: `  dyngo-cli backup verify /backup/store`,
		Args:    cli.ExactArgs("FOLDER"),
		RunE:    func(cmd *cobra.Command, args []string) error { return verifyBackups(cmd, args[0]) },
	}
	expire := &cobra.Command{
		Use:   "expire FOLDER",
		Short: "Drop old backups",
		Long: `Drop backups that are not among the newest --keep ones of their store and older
than --age, with the files that no other one has. The newest always stays, and
so does the log behind the oldest that stays. Not to be run while a backup is
made in the same folder; beside --follow it can be, while that makes none.`,
		Example: `  dyngo-cli backup expire /backup/store --keep 7 --age 720h --dry-run`,
		Args:    cli.ExactArgs("FOLDER"),
	}
	keep := expire.Flags().Int("keep", 1, "so many of the newest stay")
	age := expire.Flags().Duration("age", 0, "those that are younger stay")
	dryRun := expire.Flags().Bool("dry-run", false, "only say what would go")
	expire.RunE = func(cmd *cobra.Command, args []string) error {
		if *keep < 1 || *age < 0 {
			return cli.Usage("--keep 7 --age 720h", "--keep is at least 1, --age not negative")
		}
		if !cmd.Flags().Changed("keep") && !cmd.Flags().Changed("age") {
			return cli.Usage("--keep 7, or --age 720h, or both", "backup expire needs to know what stays")
		}
		return expireBackups(cmd, args[0], *keep, *age, *dryRun)
	}
	cmd.AddCommand(create, list, verify, expire)
	return cmd
}

// backupsIn returns the objects of a folder that has backups.
func backupsIn(folder string) (backup.Objects, error) {
	if !cli.HasBackups(folder) {
		return nil, cli.Fail(cli.ExitNotFound, "dyngo-cli backup create "+cli.ShellQuote(folder), "no backups in %s", folder)
	}
	return backup.NewDir(vfs.OS, filepath.ToSlash(folder)), nil
}

// backupSnapshot is the form of the time that is the name of the snapshot which a backup is made of.
const backupSnapshot = "backup-20060102T150405.000000000Z"

// tellLeftBackups names snapshots that a backup which was killed may have left. One beside this may be at work with them, so they
// stay.
func tellLeftBackups(cmd *cobra.Command, dir string) {
	list, _ := dyngo.ListSnapshots(dir, nil) // a damaged one is told by snapshot list
	for _, s := range list {
		if _, err := time.Parse(backupSnapshot, s.Name); err == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "snapshot %s is left of a backup that was killed, or of one that goes on; in the first case: "+
				"dyngo-cli snapshot drop %s -d %s\n", s.Name, s.Name, cli.ShellQuote(dir))
		}
	}
}

func createBackup(cmd *cobra.Command, folder string, follow bool) error {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	if cli.StoreExists(folder) {
		return cli.Usage("another folder", "%s is a store", folder)
	}
	if err := cli.CheckFolder("FOLDER", folder, dir); err != nil {
		return err
	}
	tellLeftBackups(cmd, dir)
	if follow {
		return followBackup(cmd, folder)
	}
	made, err := makeBackup(cmd, folder)
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.OneSheet, cli.Column{Name: "id"}, cli.Column{Name: "floor_lsn"}, cli.Column{Name: "lsn"}, cli.Column{Name: "time"},
		cli.Column{Name: "files"}, cli.Column{Name: "bytes"}, cli.Column{Name: "new_files"}, cli.Column{Name: "new_bytes"},
		cli.Column{Name: "timeline", Detail: true})
	err = r.Row(made.ID, made.Floor, made.LSN, made.Time, cli.CountCell(len(made.Files)), cli.ByteCell(made.Bytes()),
		cli.CountCell(made.NewFiles), cli.ByteCell(made.NewBytes), made.Timeline)
	if err != nil {
		return err
	}
	return r.Close()
}

// makeBackup makes a backup of a snapshot that it makes for that.
func makeBackup(cmd *cobra.Command, folder string) (made backup.Made, err error) {
	dir := cli.GlobalsOf(cmd).Dir
	name := time.Now().UTC().Format(backupSnapshot)
	info, err := ownerAnswer[dyngo.SnapshotInfo](cmd.Context(), dir, "snapshot", func(dyngo.Metrics) {}, name)
	if errors.Is(err, errNotLive) {
		return makeBackupAlone(cmd, folder, name)
	}
	if err != nil {
		return made, err
	}
	made, err = putBackup(cmd, folder, filepath.Join(dir, "snapshots", info.Name))
	// Also when the command was interrupted.
	_, derr := askOwner(context.WithoutCancel(cmd.Context()), dir, "dropsnapshot", nil, name)
	return made, errors.Join(err, derr)
}

// makeBackupAlone opens the store itself.
func makeBackupAlone(cmd *cobra.Command, folder, name string) (made backup.Made, err error) {
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return made, explainLocked(err)
	}
	defer cli.CloseStore(db, &err)
	info, err := db.Snapshot(cmd.Context(), name)
	if err != nil {
		return made, err
	}
	made, err = putBackup(cmd, folder, info.Dir)
	return made, errors.Join(err, db.DropSnapshot(name))
}

// putBackup backs the folder of a snapshot up.
func putBackup(cmd *cobra.Command, folder, snapshot string) (backup.Made, error) {
	p := cli.NewProgress(cmd, "backup", 0, "bytes")
	to := backup.NewDir(vfs.OS, filepath.ToSlash(folder))
	made, err := backup.Create(cmd.Context(), to, vfs.OS, filepath.ToSlash(snapshot), time.Now(), func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	})
	p.Done()
	return made, err
}

func listBackups(cmd *cobra.Command, folder string) error {
	from, err := backupsIn(folder)
	if err != nil {
		return err
	}
	list, damage, err := backup.List(cmd.Context(), from)
	if err != nil {
		return err
	}
	if err := showBackups(cmd, nil, list); err != nil {
		return err
	}
	tellGaps(cmd, backup.Gaps(list))
	if len(damage) > 0 {
		return cli.Fail(cli.ExitCorrupt, "dyngo-cli backup verify "+cli.ShellQuote(folder), "%w", errors.Join(damage...))
	}
	return nil
}

// showBackups prints backups, with what becomes of them if expire is not nil.
func showBackups(cmd *cobra.Command, expire func(i int) string, list []backup.Backup) error {
	cols := []cli.Column{{Name: "id"}, {Name: "floor_lsn"}, {Name: "lsn", Detail: true}, {Name: "time", Detail: true}, {Name: "reach_lsn"}, {Name: "reach_time"},
		{Name: "files", Detail: true}, {Name: "bytes"}, {Name: "log_bytes", Detail: true}, {Name: "timeline", Detail: true}, {Name: "log", Detail: true}}
	if expire != nil {
		cols = append([]cli.Column{{Name: "action"}}, cols...)
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cols...)
	for i := range list {
		b := &list[i]
		reach, at := b.Reach()
		cells := []any{b.ID, b.Floor, b.LSN, b.Time, reach, at, cli.CountCell(len(b.Files)), cli.ByteCell(b.Bytes()), cli.ByteCell(b.ChainBytes()),
			b.Timeline, b.Log}
		if expire != nil {
			cells = append([]any{expire(i)}, cells...)
		}
		if err := r.Row(cells...); err != nil {
			return err
		}
	}
	return r.Close()
}

func tellGaps(cmd *cobra.Command, gaps []backup.Gap) {
	for _, g := range gaps {
		fmt.Fprintf(cmd.ErrOrStderr(), "gap: LSN %d to %d, between the backups %s and %s, can't be restored\n", g.From, g.To, g.Before, g.After)
	}
}

func verifyBackups(cmd *cobra.Command, folder string) error {
	from, err := backupsIn(folder)
	if err != nil {
		return err
	}
	p := cli.NewProgress(cmd, "verify", 0, "bytes")
	report, err := backup.Verify(cmd.Context(), from, func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	})
	p.Done()
	if err != nil {
		return err
	}
	tellGaps(cmd, report.Gaps)
	if len(report.Defects) == 0 {
		r := cli.NewRenderer(cmd, cli.OneSheet, cli.Column{Name: "folder"}, cli.Column{Name: "ok", Title: "OK"}, cli.Column{Name: "backups"},
			cli.Column{Name: "files"}, cli.Column{Name: "bytes"}, cli.Column{Name: "gaps"})
		err := r.Row(folder, true, cli.CountCell(len(report.Backups)), cli.CountCell(report.Files), cli.ByteCell(report.Bytes), cli.CountCell(len(report.Gaps)))
		return errors.Join(err, r.Close())
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "what"})
	for _, d := range report.Defects {
		if err := r.Row(d.Error()); err != nil {
			return err
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	return cli.Fail(cli.ExitCorrupt, "remove the files named, then dyngo-cli backup create "+cli.ShellQuote(folder)+
		" puts those again that the store still has", "%d backups are whole; %w", len(report.Backups), report.Defects[0])
}

func expireBackups(cmd *cobra.Command, folder string, keep int, age time.Duration, dry bool) error {
	from, err := backupsIn(folder)
	if err != nil {
		return err
	}
	e, err := backup.PlanExpire(cmd.Context(), from, keep, age, time.Now())
	if err != nil {
		return err
	}
	action := func(i int) string {
		if i < len(e.Remove) {
			return "remove"
		}
		return "keep"
	}
	if !dry {
		if err := backup.Expire(cmd.Context(), from, &e); err != nil {
			return err
		}
	}
	what := "removed"
	if dry {
		what = "would be removed"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d backups, %d files of %s, %s\n", len(e.Remove), len(e.Files)+len(e.Parts), cli.FormatBytes(e.Bytes), what)
	return showBackups(cmd, action, append(e.Remove, e.Keep...))
}
