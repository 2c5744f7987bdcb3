package cli

import (
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// globals are the values of the persistent flags.
type globals struct {
	Dir      string // the store
	Keys     string // folder of the keys of subjects, empty = none
	Output   string // "" or one of formats
	Progress string // auto, json, none
	Color    bool   // may be used on a terminal
}

var formats = []string{"table", "json", "jsonl", "csv", "raw"}

// addGlobals declares the persistent flags.
func addGlobals(flags *pflag.FlagSet) {
	flags.StringP("dir", "d", defaultDir(), "`directory` of the store (or DYNGO_DIR)")
	flags.String("keys", os.Getenv("DYNGO_KEYS"), "`folder` of the keys of subjects (or DYNGO_KEYS)")
	flags.StringP("output", "o", "", "`format`: "+strings.Join(formats, ", ")+
		" (default table on a terminal, jsonl elsewhere)")
	flags.Bool("no-color", false, "no colour on a terminal (or NO_COLOR)")
}

// AddProgress declares the persistent flag of programs that show progress.
func AddProgress(root *cobra.Command) {
	root.PersistentFlags().String("progress", "auto", "progress `mode` on stderr: auto, json, none")
	MustCompleteFlag(root, "progress", progressModes...)
}

var progressModes = []string{"auto", "json", "none"}

// GlobalsOf reads the persistent flags of the command line that cmd runs in.
func GlobalsOf(cmd *cobra.Command) globals {
	flags := cmd.Root().PersistentFlags()
	str := func(name string) string {
		if flags.Lookup(name) == nil { // a program without progress
			return "none"
		}
		v, err := flags.GetString(name)
		if err != nil {
			panic("dyngo: bug: " + err.Error())
		}
		return v
	}
	noColor, err := flags.GetBool("no-color")
	if err != nil {
		panic("dyngo: bug: " + err.Error())
	}
	return globals{
		Dir: str("dir"), Keys: str("keys"), Output: str("output"), Progress: str("progress"),
		Color: !noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

// Format is the chosen output format, or the one that suits out: a table for a person, JSON lines
// for a program.
func (g globals) Format(out io.Writer) string {
	switch {
	case g.Output != "":
		return g.Output
	case IsTerminal(out):
		return "table"
	}
	return "jsonl"
}

func defaultDir() string {
	if dir := os.Getenv("DYNGO_DIR"); dir != "" {
		return dir
	}
	return "./dyngo-data"
}
