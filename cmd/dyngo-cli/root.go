package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// newRootCommand builds the whole command tree. Help, completion and man pages come from it.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dyngo-cli",
		Short: "Work with DynGO stores",
		Long: `dyngo-cli puts, gets, loads, inspects, checks and measures DynGO stores.

Commands that only read take no lock and work beside a process that has the
store open. Data goes to stdout, everything else to stderr.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 locked or
unavailable, 6 corruption or failed verification, 7 conflict, 130 interrupted.`,
		Example: `  dyngo-cli quickstart
  dyngo-cli put scores alice 42
  dyngo-cli scan scores --prefix al -o json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          needSubcommand,
	}
	addGlobals(root.PersistentFlags())
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
	root.PersistentPreRunE = checkGlobals
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(cmd.CommandPath()+" --help", "%v", err)
	})
	mustCompleteFlag(root, "output", formats...)
	mustCompleteFlag(root, "progress", "auto", "json", "none")

	root.AddGroup(
		&cobra.Group{ID: groupData, Title: "Data:"},
		&cobra.Group{ID: groupStore, Title: "Store:"},
	)
	inGroup(root, groupData, newPutCommand(), newGetCommand(), newDelCommand(), newScanCommand(), newHistoryCommand(),
		newLoadCommand(), newExportCommand(), newDatasetsCommand())
	inGroup(root, groupStore, newQuickstartCommand(), newStatsCommand(), newLevelsCommand(), newLogCommand(),
		newVerifyCommand(), newRepairCommand(), newCompactCommand(), newGCCommand(), newDoctorCommand(), newBenchCommand())
	root.AddCommand(newManCommand())
	return root
}

const (
	groupData  = "data"
	groupStore = "store"
)

func inGroup(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// started marks, in the context of a command line, that its arguments were good and the command
// itself runs: errors before that are usage errors, whatever package they come from.
type started struct{}

// checkGlobals refuses bad values of persistent flags before a command does anything.
func checkGlobals(cmd *cobra.Command, _ []string) error {
	g := globalsOf(cmd)
	if g.output != "" && !slices.Contains(formats, g.output) {
		return usage("one of: "+strings.Join(formats, ", "), "--output: unknown format %q", g.output)
	}
	if !slices.Contains([]string{"auto", "json", "none"}, g.progress) {
		return usage("one of: auto, json, none", "--progress: unknown mode %q", g.progress)
	}
	if g.dir == "" {
		return usage("--dir DIRECTORY", "--dir is empty")
	}
	cmd.SetContext(context.WithValue(cmd.Context(), started{}, true))
	return nil
}

// asUsage gives an error of the command line itself (unknown command, wrong arguments) its code.
func asUsage(cmd *cobra.Command, err error) error {
	var ce *cliError
	if errors.As(err, &ce) || cmd.Context() != nil && cmd.Context().Value(started{}) != nil {
		return err
	}
	what, _, _ := strings.Cut(err.Error(), "\n") // cobra lists its suggestions on more lines
	return usage(cmd.CommandPath()+" --help", "%s", what)
}

// noArgs refuses arguments; an unknown subcommand gets suggestions.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usage(cmd.CommandPath()+" --help", "%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	try := cmd.CommandPath() + " --help"
	cmd.SuggestionsMinimumDistance = 2 // typing errors that are suggested for
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		try = cmd.CommandPath() + " " + strings.Join(near, ", or "+cmd.CommandPath()+" ")
	}
	return usage(try, "unknown command %q for %s", args[0], cmd.CommandPath())
}

// needSubcommand is the action of a command that only groups others: help on the bare root, an
// error below it, so that a script never takes help for data.
func needSubcommand(cmd *cobra.Command, _ []string) error {
	if cmd.HasParent() {
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		return usage(cmd.CommandPath()+" --help", "%s needs one of: %s", cmd.CommandPath(),
			strings.Join(names, ", "))
	}
	return cmd.Help()
}

// exactArgs wants one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd.CommandPath()+" --help", "%s: %s is missing", cmd.CommandPath(), names[len(args)])
		case len(args) > len(names):
			return usage("quote arguments that contain spaces", "%s: unexpected argument %q",
				cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// mustCompleteFlag offers values for a flag in the shell.
func mustCompleteFlag(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag,
		cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(fmt.Sprintf("dyngo: bug: completion of --%s: %v", flag, err))
	}
}
