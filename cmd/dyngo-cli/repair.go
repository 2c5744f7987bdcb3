package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newRepairCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Build damaged or missing derived files anew from the log",
		Long: `Verify the store, and if manifest or segments are damaged or missing, build them
anew from the log. Nothing that the log holds is lost: it is read whole, and the
old files are put aside until the new ones are verified. If a repair is
interrupted, the next one ends it.

When the log itself is damaged, or does not hold all that segments hold, nothing
is changed and the exit code is 6. Of a store whose old log files were dropped,
the manifest alone can be built anew, if it was closed and all else is sound.

The store must not be open elsewhere, but for --dry-run. On a terminal the
command asks first; elsewhere it needs --yes.`,
		Example: `  dyngo-cli repair --dry-run
  dyngo-cli repair --yes`,
		Args: cli.NoArgs,
	}
	yes := cmd.Flags().Bool("yes", false, "don't ask")
	dryRun := cmd.Flags().Bool("dry-run", false, "only say what is wrong and what would be done")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runRepair(cmd, *yes, *dryRun) }
	return cmd
}

func runRepair(cmd *cobra.Command, yes, dryRun bool) error {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	phases := phaseProgress{cmd: cmd}
	var refused error
	report, err := dyngo.Repair(cmd.Context(), dir, &dyngo.Options{Session: cli.Session(cmd)}, dyngo.RepairOptions{
		DryRun: dryRun, Progress: phases.set,
		Confirm: func(r dyngo.RepairReport) bool {
			phases.end()
			refused = cli.Confirm(cmd, yes, repairQuestion(&r))
			return refused == nil
		},
	})
	phases.end()
	if serr := showRepair(cmd, &report); serr != nil {
		return serr
	}
	switch {
	case errors.Is(err, dyngo.ErrCorrupt):
		return cli.Fail(cli.ExitCorrupt, "restore the store from a backup; "+cli.WhileLogDamaged, "%w", err)
	case err != nil:
		return err
	case refused != nil:
		return refused
	case len(report.Steps) == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "every byte is sound: there is nothing to repair")
	case dryRun:
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing was changed; dyngo-cli repair --yes does it")
	default:
		fmt.Fprintf(cmd.ErrOrStderr(), "repaired: the log goes to LSN %d, %d segments hold %s\n",
			report.LastLSN, report.Segments, cli.FormatBytes(report.SegmentBytes))
	}
	return nil
}

func repairQuestion(r *dyngo.RepairReport) string {
	files := make([]string, len(r.Steps))
	for i := range r.Steps {
		files[i] = r.Steps[i].File
	}
	return "Replace " + strings.Join(files, ", ")
}

// showRepair prints what was found and what was or would be done.
func showRepair(cmd *cobra.Command, report *dyngo.RepairReport) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "step"}, cli.Column{Name: "file"}, cli.Column{Name: "offset"},
		cli.Column{Name: "what"})
	for _, defect := range report.Found {
		file, offset, what := cli.PlaceOfDefect(defect)
		if err := r.Row("found", file, offset, what); err != nil {
			return err
		}
	}
	step := "would do"
	if report.Done {
		step = "done"
	}
	for _, s := range report.Steps {
		if err := r.Row(step, s.File, nil, s.What); err != nil {
			return err
		}
	}
	return r.Close()
}

// phaseProgress shows a bar for each part of a long command in turn.
type phaseProgress struct {
	cmd  *cobra.Command
	what string
	p    *cli.Progress
}

func (ph *phaseProgress) set(what string, done, total int64) {
	if ph.what != what {
		ph.end()
		ph.what, ph.p = what, cli.NewProgress(ph.cmd, what, total, "bytes")
	}
	ph.p.SetTotal(total)
	ph.p.Set(done)
}

func (ph *phaseProgress) end() {
	ph.p.Done()
	ph.p, ph.what = nil, ""
}
