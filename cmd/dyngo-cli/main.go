// Command dyngo-cli puts, gets, loads, inspects, checks and measures DynGO stores.
//
// Every command works on the store in --dir (or DYNGO_DIR, or ./dyngo-data). Commands that only
// read take no lock and work beside a process that has the store open; the others need it alone.
// Data goes to stdout, everything else to stderr. See exit.go for the exit codes and render.go for
// the formats.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

// realMain runs the program on the process's own arguments and streams.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the first ^C ends the work in order, the second one at once
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		err = context.Canceled // whatever failed because of ^C
	}
	return report(stderr, asUsage(cmd, err), globalsOf(cmd).dir)
}
