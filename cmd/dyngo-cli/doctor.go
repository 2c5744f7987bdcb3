package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with the store and what to do",
		Long: `Look at the store, at the process that has it open and at the machine, and say
what is wrong and what to do about it, the most urgent first. Notes are worth
knowing and need nothing to be done. It is quick: dyngo-cli verify reads every
byte.

The exit code is 0 if nothing needs attention, else 1.`,
		Example: `  dyngo-cli doctor
  dyngo-cli doctor -o json | jq '.[] | select(.severity == "urgent")'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd) },
	}
}

// severity of a finding. The more urgent is the smaller.
type severity int

const (
	urgent  severity = iota // data or service is at risk now
	warning                 // needs attention
	note                    // worth knowing
)

func (s severity) String() string { return [...]string{"urgent", "warning", "note"}[s] }

// finding is one thing that the doctor says.
type finding struct {
	severity  severity
	topic     string
	what, try string // sentences
}

func runDoctor(cmd *cobra.Command) error {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	p := newPatient(cmd.Context(), dir)
	if err := p.examine(); err != nil {
		return err
	}
	slices.SortStableFunc(p.findings, func(a, b finding) int { return int(a.severity - b.severity) })
	if err := showFindings(cmd, p.findings); err != nil {
		return err
	}
	bad := 0
	for _, f := range p.findings {
		if f.severity < note {
			bad++
		}
	}
	switch bad {
	case 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing needs attention")
		return nil
	case 1:
		return cli.Fail(cli.ExitFailure, "", "1 thing needs attention")
	}
	return cli.Fail(cli.ExitFailure, "", "%d things need attention", bad)
}

// showFindings prints rows; in tables, sentences that are wrapped rather than cut.
func showFindings(cmd *cobra.Command, findings []finding) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "severity"}, cli.Column{Name: "topic"}, cli.Column{Name: "what"},
		cli.Column{Name: "try"})
	if cli.GlobalsOf(cmd).Format(cmd.OutOrStdout()) == "table" {
		return writeFindings(cmd.OutOrStdout(), findings)
	}
	for _, f := range findings {
		if err := r.Row(f.severity.String(), f.topic, f.what, textCell(f.try)); err != nil {
			return err
		}
	}
	return r.Close()
}

func writeFindings(w io.Writer, findings []finding) error {
	width := cli.TerminalWidth(w)
	if width == 0 {
		width = 80
	}
	for _, f := range findings {
		text := wrapText(f.severity.String()+": "+f.what, width, "  ")
		if f.try != "" {
			text += "\n  " + wrapText("Try: "+f.try, width-2, "    ")
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// wrapText breaks a text between words so that no line is wider than width, if the words allow it.
// Lines from the second on begin with indent.
func wrapText(text string, width int, indent string) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		w := cli.TextWidth(word)
		switch {
		case i == 0:
		case at+1+w > width:
			b.WriteString("\n" + indent)
			at = cli.TextWidth(indent)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += w
	}
	return b.String()
}
