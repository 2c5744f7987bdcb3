// Command dyngo-replay audits DynGO stores: it shows what happened, who did it and what it changed.
//
// It reads the log beside a process that has the store open, of a copy, a backup, an archive, or one log file. Only undo --apply and
// replay --into write.
// See package cmd/internal/cli for the exit codes and the formats.
package main

import (
	"os"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func main() { os.Exit(cli.Main(newRootCommand)) }
