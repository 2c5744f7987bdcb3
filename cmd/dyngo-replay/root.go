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

It takes no lock. --dir is a store, which a process may have open, a copy or a
snapshot of one, a folder of backups, of which --backup picks one, an archive of
log files, or one log file. With --archive, events whose log files a store has
dropped are read from its archive.

Where dump and stat read the log, other commands ask for states. For those of an
archive, of a log file, and for what only --archive has, the log is replayed
into a temporary store first (in TMPDIR). If it does not begin with the first
log file, what was written before looks as if it had never been there, which is
told.

Data goes to stdout, everything else to stderr.

` + cli.ExitCodes,
		Example: `  dyngo-replay dump --dataset scores --since -1h
  dyngo-replay blame scores --prefix al
  dyngo-replay diff --from before-tx:1234 --to tx:1234`,
	}
	cli.SetUpRoot(root)
	cli.AddProgress(root)
	cli.AddSource(root)
	root.AddCommand(newDumpCommand(), newStatCommand(), cli.NewHistoryCommand("dyngo-replay"), newBlameCommand(), newDiffCommand(),
		newStateCommand(), newVerifyCommand(), newProveCommand(), newUndoCommand(), newWhatifCommand(),
		newBisectCommand(), newReplayCommand(), cli.NewManCommand())
	return root
}
