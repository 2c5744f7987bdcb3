package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newSnapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep the state as it is now under a name",
		Long: `Keep the state as it is now under a name, list such snapshots, or drop one.

A snapshot is a folder in the store's directory snapshots that is itself a store
and opens for reading. It shares its files with the store, so it takes no room
until the store gives them up; a file system without hard links copies them. It
is no backup: damage to a shared file is damage to both.

The process that has the store open is asked if it serves live.sock (the option
Live); else the store must not be open elsewhere. list only reads.`,
		Example: `  dyngo-cli snapshot create before-import
  dyngo-cli get scores alice --at snapshot:before-import
  dyngo-cli scan scores -d dyngo-data/snapshots/before-import
  dyngo-cli snapshot drop before-import`,
		Args: cli.NoArgs,
		RunE: cli.NeedSubcommand,
	}
	create := &cobra.Command{
		Use:   "create NAME",
		Short: "Keep the state as it is now",
		Long: `Keep the state as it is now, all datasets at one LSN, durably. A name has 1 to
128 letters, digits, dots, dashes and underscores and begins with a letter or
digit. One that is taken is refused.`,
		Example: `  dyngo-cli snapshot create before-import`,
		Args:    cli.ExactArgs("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return createSnapshot(cmd, args[0]) },
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the snapshots",
		Long:    `List the snapshots by name, with the LSN and time of their state.`,
		Example: `  dyngo-cli snapshot list -o json`,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return listSnapshots(cmd) },
	}
	drop := &cobra.Command{
		Use:     "drop NAME",
		Short:   "Drop a snapshot",
		Long:    `Drop a snapshot: what nothing else needs gives its room back.`,
		Example: `  dyngo-cli snapshot drop before-import`,
		Args:    cli.ExactArgs("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return dropSnapshot(cmd, args[0]) },
	}
	cmd.AddCommand(create, list, drop)
	return cmd
}

// findSnapshot looks for a snapshot of the store of cmd.
func findSnapshot(cmd *cobra.Command, name string) (found bool, err error) {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return false, err
	}
	list, err := dyngo.ListSnapshots(dir, nil)
	if slices.ContainsFunc(list, func(s dyngo.SnapshotInfo) bool { return s.Name == name }) {
		return true, nil
	}
	return false, err
}

func createSnapshot(cmd *cobra.Command, name string) error {
	found, err := findSnapshot(cmd, name)
	if err != nil {
		return err
	}
	if found { // the owner's error would have no code
		return fmt.Errorf("%w: %q", dyngo.ErrSnapshotExists, name)
	}
	dir := cli.GlobalsOf(cmd).Dir
	info, err := ownerAnswer[dyngo.SnapshotInfo](cmd.Context(), dir, "snapshot", func(dyngo.Metrics) {}, name)
	if errors.Is(err, errNotLive) {
		info, err = createSnapshotAlone(cmd, name)
	}
	if err != nil {
		return err
	}
	return showSnapshots(cli.NewRenderer(cmd, cli.OneSheet, snapshotColumns...), info)
}

// createSnapshotAlone opens the store itself.
func createSnapshotAlone(cmd *cobra.Command, name string) (info dyngo.SnapshotInfo, err error) {
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return info, explainLocked(err)
	}
	defer cli.CloseStore(db, &err)
	return db.Snapshot(cmd.Context(), name)
}

func listSnapshots(cmd *cobra.Command) error {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	list, err := dyngo.ListSnapshots(dir, nil)
	return errors.Join(showSnapshots(cli.NewRenderer(cmd, cli.ManyRows, snapshotColumns...), list...), err)
}

var snapshotColumns = []cli.Column{{Name: "name"}, {Name: "lsn"}, {Name: "time"}, {Name: "created", Detail: true},
	{Name: "files"}, {Name: "bytes"}, {Name: "dir"}, {Name: "timeline", Detail: true}}

func showSnapshots(r *cli.Renderer, list ...dyngo.SnapshotInfo) error {
	for _, i := range list {
		err := r.Row(i.Name, i.LSN, i.Time.UTC(), i.Created.UTC().Truncate(time.Second), cli.CountCell(i.Files), cli.ByteCell(i.Bytes), i.Dir, i.Timeline)
		if err != nil {
			return err
		}
	}
	return r.Close()
}

func dropSnapshot(cmd *cobra.Command, name string) error {
	found, err := findSnapshot(cmd, name)
	if err == nil && !found {
		err = fmt.Errorf("%w: %q", dyngo.ErrNoSnapshot, name)
	}
	if err != nil && !errors.Is(err, dyngo.ErrCorrupt) { // a damaged one can be dropped too
		return err
	}
	_, err = askOwner(cmd.Context(), cli.GlobalsOf(cmd).Dir, "dropsnapshot", nil, name)
	if errors.Is(err, errNotLive) {
		err = dropSnapshotAlone(cmd, name)
	}
	if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "dropped snapshot %s\n", name)
	}
	return err
}

// dropSnapshotAlone opens the store itself.
func dropSnapshotAlone(cmd *cobra.Command, name string) (err error) {
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return explainLocked(err)
	}
	defer cli.CloseStore(db, &err)
	return db.DropSnapshot(name)
}
