package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ExitCodes is what the help of a root command says about them.
const ExitCodes = `Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 locked or
unavailable, 6 corruption or failed verification, 7 conflict, 130 interrupted.`

// SetUpRoot gives a root command what all programs have in common: the persistent flags, their checks, and how errors are
// told. Subcommands come after it.
func SetUpRoot(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Args, root.RunE = NoArgs, NeedSubcommand
	addGlobals(root.PersistentFlags())
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
	root.PersistentPreRunE = checkGlobals
	root.SetFlagErrorFunc(badFlag)
	MustCompleteFlag(root, "output", formats...)
}

// Main runs a program on the process's own arguments and streams, and returns its exit code.
func Main(newRoot func() *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the first ^C ends the work in order, the second one at once
	return Run(ctx, newRoot(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// Run executes one command line of a program and returns the exit code.
func Run(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	tameBuiltins(root, args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil {
		err = context.Canceled // whatever failed because of ^C
	}
	return report(stderr, root.Name(), asUsage(cmd, err), GlobalsOf(cmd).Dir)
}

// tameBuiltins has cobra's own commands refuse what they don't know, as all others do: they would print help, as data, and succeed.
func tameBuiltins(root *cobra.Command, args []string) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	// Found by name: a list of the commands would sort them, for suggestions too.
	if c, _, err := root.Find([]string{"completion"}); err == nil && c != root {
		c.Args, c.RunE = NoArgs, NeedSubcommand
	}
	if c, _, err := root.Find([]string{"help"}); err == nil && c != root {
		c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err == nil {
				err = NoArgs(about, rest)
			}
			if err != nil {
				return err
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		}
	}
}

func InGroup(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// started marks, in the context of a command line, that its arguments were good and the command
// itself runs: errors before that are usage errors, whatever package they come from.
type started struct{}

// badFlag says what is wrong with a flag: unknown, without a value, or with one that is none for it.
func badFlag(cmd *cobra.Command, err error) error {
	try := cmd.CommandPath() + " --help"
	if strings.HasPrefix(err.Error(), "unknown shorthand flag") {
		try = "-- before arguments that begin with -, or " + try
	}
	what := err.Error()
	if head, tail, ok := strings.Cut(what, " strconv."); ok { // ParseInt: parsing "x": invalid syntax
		what = head + tail[strings.LastIndex(tail, ": ")+1:]
	}
	return Usage(try, "%s", what)
}

// mayBeEmpty are flags whose empty value says something: every key, an open end, no words, or what the program does without them.
var mayBeEmpty = []string{"prefix", "from", "to", "reason", "ticket", "correlation", "dir", "keys", "output"}

// checkEmpty refuses flags with an empty value. They come from variables of a shell that are not set, and what they were to limit
// would not be limited: a value would be stored unencrypted, the present would be taken for the past.
func checkEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && !slices.Contains(mayBeEmpty, f.Name) && err == nil {
			err = Usage("a value, or the command without --"+f.Name, "--%s is empty", f.Name)
		}
	})
	return err
}

// checkGlobals refuses bad values of persistent flags, and empty ones of any, before a command does anything.
func checkGlobals(cmd *cobra.Command, _ []string) error {
	g := GlobalsOf(cmd)
	if g.Output != "" && !slices.Contains(formats, g.Output) {
		return Usage("one of: "+strings.Join(formats, ", "), "--output: unknown format %q", g.Output)
	}
	if !slices.Contains(progressModes, g.Progress) {
		return Usage("one of: "+strings.Join(progressModes, ", "), "--progress: unknown mode %q", g.Progress)
	}
	if g.Dir == "" {
		return Usage("--dir DIRECTORY", "--dir is empty")
	}
	if err := checkEmpty(cmd); err != nil {
		return err
	}
	cmd.SetContext(context.WithValue(cmd.Context(), started{}, true))
	return nil
}

// asUsage gives an error of the command line itself (unknown command, wrong arguments) its code.
func asUsage(cmd *cobra.Command, err error) error {
	var ce *cliError
	inGroup := strings.HasPrefix(err.Error(), "if any flags in the group") // cobra looks at that late
	if errors.As(err, &ce) || !inGroup && cmd.Context() != nil && cmd.Context().Value(started{}) != nil {
		return err
	}
	what, _, _ := strings.Cut(err.Error(), "\n") // cobra lists its suggestions on more lines
	return Usage(cmd.CommandPath()+" --help", "%s", what)
}

// NoArgs refuses arguments; an unknown subcommand gets suggestions.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return Usage(cmd.CommandPath()+" --help", "%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	try := cmd.CommandPath() + " --help"
	cmd.SuggestionsMinimumDistance = 2 // typing errors that are suggested for
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		try = cmd.CommandPath() + " " + strings.Join(near, ", or "+cmd.CommandPath()+" ")
	}
	return Usage(try, "unknown command %q for %s", args[0], cmd.CommandPath())
}

// NeedSubcommand is the action of a command that only groups others: help on the bare root, an
// error below it, so that a script never takes help for data.
func NeedSubcommand(cmd *cobra.Command, _ []string) error {
	if cmd.HasParent() {
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		return Usage(cmd.CommandPath()+" --help", "%s needs one of: %s", cmd.CommandPath(),
			strings.Join(names, ", "))
	}
	return cmd.Help()
}

// ExactArgs wants one argument for each name.
func ExactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return Usage(cmd.CommandPath()+" --help", "%s: %s is missing", cmd.CommandPath(), names[len(args)])
		case len(args) > len(names):
			return Usage("quote arguments that contain spaces", "%s: unexpected argument %q",
				cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// MaybeArg wants one argument or none.
func MaybeArg(name string) cobra.PositionalArgs {
	exact := ExactArgs(name)
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return exact(cmd, args)
	}
}

// MustCompleteFlag offers values for a flag in the shell.
func MustCompleteFlag(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag,
		cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(fmt.Sprintf("dyngo: bug: completion of --%s: %v", flag, err))
	}
}
