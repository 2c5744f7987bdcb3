package main

import (
	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// newRootCommand builds the whole command tree. Help, completion and man pages come from it.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dyngo-cli",
		Short: "Work with DynGO stores",
		Long: `dyngo-cli puts, gets, loads, inspects, checks and measures DynGO stores.

Commands that only read take no lock and work beside a process that has the
store open. Data goes to stdout, everything else to stderr. The log says who
wrote each event: the user, or whom DYNGO_ACTOR names.

` + cli.ExitCodes,
		Example: `  dyngo-cli quickstart
  dyngo-cli put scores alice 42
  dyngo-cli scan scores --prefix al -o json`,
	}
	cli.SetUpRoot(root)
	cli.AddProgress(root)

	root.AddGroup(
		&cobra.Group{ID: groupData, Title: "Data:"},
		&cobra.Group{ID: groupStore, Title: "Store:"},
	)
	cli.InGroup(root, groupData, newPutCommand(), newGetCommand(), newDelCommand(), newScanCommand(), cli.NewHistoryCommand("dyngo-cli"),
		newWatchCommand(), newLoadCommand(), newExportCommand(), newDatasetsCommand())
	cli.InGroup(root, groupStore, newQuickstartCommand(), newStatsCommand(), newTopCommand(), newHotCommand(), newLevelsCommand(), newLogCommand(),
		newVerifyCommand(), newRepairCommand(), newEraseCommand(), newRedactCommand(), newCompactCommand(), newGCCommand(), newSnapshotCommand(), newRestoreCommand(), newBackupCommand(),
		newDoctorCommand(), newBenchCommand())
	root.AddCommand(cli.NewManCommand())
	return root
}

const (
	groupData  = "data"
	groupStore = "store"
)
