package main

import (
	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// newRootCommand builds the whole command tree. Help, completion and man pages come from it.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dyngo-replay",
		Short: "Audit DynGO stores",
		Long: `dyngo-replay shows what happened in a DynGO store, who did it and what changed.

It takes no lock and works beside a process that has the store open, on a copy
of a store, and dump and stat on one log file alone. Data goes to stdout,
everything else to stderr.

` + cli.ExitCodes,
		Example: `  dyngo-replay dump --dataset scores --since -1h
  dyngo-replay blame scores --prefix al
  dyngo-replay diff --from before-tx:1234 --to tx:1234`,
	}
	cli.SetUpRoot(root)
	root.AddCommand(newDumpCommand(), newStatCommand(), cli.NewHistoryCommand("dyngo-replay"), newBlameCommand(), newDiffCommand(),
		newStateCommand(), newUndoCommand(), newBisectCommand(), cli.NewManCommand())
	return root
}
