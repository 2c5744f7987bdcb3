package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func NewManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write a man page for each command",
		Long:   "Write a man page for each command into a directory, which is created if need be.",
		Hidden: true,
		Args:   ExactArgs("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			r := NewRenderer(cmd, ManyRows, Column{Name: "page"})
			if err := writeManTree(cmd.Root(), args[0], r); err != nil {
				return err
			}
			return r.Close()
		},
	}
}

// writeManTree writes the pages of cmd and of everything below it.
func writeManTree(cmd *cobra.Command, dir string, r *Renderer) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	name := filepath.Join(dir, manName(cmd)+".1")
	if err := os.WriteFile(name, manPage(cmd), 0o644); err != nil {
		return err
	}
	if err := r.Row(name); err != nil {
		return err
	}
	for _, child := range cmd.Commands() {
		if err := writeManTree(child, dir, r); err != nil {
			return err
		}
	}
	return nil
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the page of one command, in the man macros of troff.
func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"DynGO\" \"DynGO manual\"\n", troff(strings.ToUpper(manName(cmd))))
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", troff(manName(cmd)), troff(cmd.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n%s\n", troff(cmd.CommandPath()), troff(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()+" ")))
	section("DESCRIPTION")
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			b.WriteString(".PP\n")
		} else {
			b.WriteString(troffLine(line))
		}
	}
	manFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&b, "GLOBAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		section("EXAMPLES")
		b.WriteString(".nf\n")
		for _, line := range strings.Split(cmd.Example, "\n") {
			b.WriteString(troffLine(strings.TrimPrefix(line, "  ")))
		}
		b.WriteString(".fi\n")
	}
	section("EXIT STATUS")
	b.WriteString("0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 locked or unavailable,\n" +
		"6 corruption or failed verification, 7 conflict, 130 interrupted.\n")
	manSeeAlso(&b, cmd)
	return b.Bytes()
}

func manFlags(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		arg, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fP", troff(name))
		if arg != "" {
			fmt.Fprintf(b, " \\fI%s\\fP", troff(arg))
		}
		b.WriteString("\n" + troffLine(text))
	})
}

func manSeeAlso(b *bytes.Buffer, cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, manName(cmd.Parent()))
	}
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" {
			pages = append(pages, manName(child))
		}
	}
	if len(pages) == 0 {
		return
	}
	b.WriteString(".SH SEE ALSO\n")
	for i, page := range pages {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(b, "\\fB%s\\fP(1)", troff(page))
	}
	b.WriteString("\n")
}

var troffReplacer = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`)

func troff(s string) string { return troffReplacer.Replace(s) }

// troffLine is a line of text that troff can't take for a request.
func troffLine(s string) string {
	s = troff(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s + "\n"
}
