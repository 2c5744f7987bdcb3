// Command dyngo-cli puts, gets, loads, inspects, checks and measures DynGO stores.
//
// Every command works on the store in --dir (or DYNGO_DIR, or ./dyngo-data). Commands that only
// read take no lock and work beside a process that has the store open; the others need it alone.
// Data goes to stdout, everything else to stderr. See package cmd/internal/cli for the exit codes and
// the formats.
package main

import (
	"os"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func main() { os.Exit(cli.Main(newRootCommand)) }
