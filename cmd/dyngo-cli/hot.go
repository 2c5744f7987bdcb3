package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newHotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hot [DATASET]",
		Short: "Draw which keys are read and written most",
		Long: `Draw what is hot in the process that has the store open: a row for each key
range and a column for each step of the last five minutes, the darker the more
there was; the figures beside are operations a second, averages over about the
last 15 seconds. Below are the hottest keys. Misses are reads of keys that were
not there; a scan counts in each range that it has visited.

What is scanned much more than written is kept in key order in memory: hot
ranges. --decisions lists which were promoted, demoted or refused, and why; what
a range saves and costs is in hundredths of a processor.

Ranges are as small as their load is worth; neighbours are drawn together where
there are too many. All figures are estimates from a sample, since that process
opened the store; it has to serve live.sock (option Live). Formats other than
tables have a row for each range and each key, with all steps.`,
		Example: `  dyngo-cli hot
  dyngo-cli hot scores --watch --kind writes
  dyngo-cli hot --decisions
  dyngo-cli hot scores -o json | jq '.[] | select(.what == "key")'`,
		Args: cli.MaybeArg("DATASET"),
	}
	kind := cmd.Flags().String("kind", "all", "what is drawn: `KIND` is all, reads, misses, scans or writes")
	watch := cmd.Flags().BoolP("watch", "w", false, "draw again and again until ^C")
	every := cmd.Flags().Duration("interval", time.Second, "`time` between two drawings")
	decisions := cmd.Flags().Bool("decisions", false, "which hot ranges came and went, and why")
	cmd.MarkFlagsMutuallyExclusive("decisions", "kind")
	cli.MustCompleteFlag(cmd, "kind", hotKinds...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(hotKinds, *kind) {
			return cli.Usage("one of: "+strings.Join(hotKinds, ", "), "--kind: unknown kind %q", *kind)
		}
		if err := checkInterval(*every); err != nil {
			return err
		}
		show := func() error { return showHot(cmd, strings.Join(args, ""), *kind) }
		if *decisions {
			show = func() error { return showDecisions(cmd, strings.Join(args, "")) }
		}
		if !*watch {
			return show()
		}
		return drawEvery(cmd, *every, show)
	}
	return cmd
}

func showHot(cmd *cobra.Command, dataset, kind string) error {
	h, err := askLive[dyngo.Hot](cmd, "hot")
	if err != nil {
		return err
	}
	if dataset != "" {
		i := slices.IndexFunc(h.Datasets, func(d dyngo.HotDataset) bool { return d.Name == dataset })
		if i < 0 {
			return cli.Fail(cli.ExitNotFound, "dyngo-cli datasets", "there is no dataset %q", dataset)
		}
		h.Datasets = h.Datasets[i : i+1]
	}
	if out := cmd.OutOrStdout(); cli.GlobalsOf(cmd).Format(out) == "table" {
		width := cli.TerminalWidth(out)
		d := hotDrawing{hot: &h, kind: kind, width: width, color: width > 0 && cli.GlobalsOf(cmd).Color}
		_, err := fmt.Fprintln(out, strings.Join(d.lines(), "\n"))
		return err
	}
	return listHot(cmd, &h)
}

// showDecisions lists which key ranges came to be kept in key order, and went, oldest first.
func showDecisions(cmd *cobra.Command, dataset string) error {
	all, err := askLive[[]dyngo.HotDecision](cmd, "hotdecisions")
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "time"}, cli.Column{Name: "dataset"}, cli.Column{Name: "action"},
		cli.Column{Name: "from"}, cli.Column{Name: "to"}, cli.Column{Name: "keys"}, cli.Column{Name: "bytes"},
		cli.Column{Name: "saves_percent", Title: "SAVES %"}, cli.Column{Name: "costs_percent", Title: "COSTS %"}, cli.Column{Name: "reason"})
	for _, d := range all {
		if dataset != "" && d.Dataset != dataset {
			continue
		}
		var to any
		if d.To != nil {
			to = cli.KeyCell(d.To)
		}
		if err := r.Row(d.Time, d.Dataset, d.Action, cli.KeyCell(d.From), to, cli.CountCell(d.Keys), cli.ByteCell(d.Bytes),
			cli.Round3(100*d.Benefit), cli.Round3(100*d.Cost), d.Reason); err != nil {
			return err
		}
	}
	return r.Close()
}

// askLive asks the owner of the store what only a running process knows.
func askLive[T any](cmd *cobra.Command, request string) (T, error) {
	dir := cli.GlobalsOf(cmd).Dir
	var none T
	if err := cli.CheckStore(dir); err != nil {
		return none, err
	}
	t, err := ownerAnswer[T](cmd.Context(), dir, request, nil)
	if errors.Is(err, errNotLive) {
		return none, cli.Fail(cli.ExitUnavailable, "it again while a process has the store open with the option Live",
			"no process that has %s open serves live.sock: this is only known of a running process", dir)
	}
	return t, err
}

// listHot prints a row for each range and each key.
func listHot(cmd *cobra.Command, h *dyngo.Hot) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "dataset"}, cli.Column{Name: "what"},
		cli.Column{Name: "from"}, cli.Column{Name: "to"}, cli.Column{Name: "key"}, cli.Column{Name: "cut"},
		cli.Column{Name: "reads_per_second"}, cli.Column{Name: "misses_per_second"}, cli.Column{Name: "scans_per_second"},
		cli.Column{Name: "writes_per_second"}, cli.Column{Name: "past_reads"}, cli.Column{Name: "past_misses"},
		cli.Column{Name: "past_scans"}, cli.Column{Name: "past_writes"}, cli.Column{Name: "step_seconds"},
		cli.Column{Name: "since"}, cli.Column{Name: "at"}, cli.Column{Name: "sampled_one_in"})
	past := func(rates []float64) any {
		if rates == nil {
			return nil
		}
		return cli.JsonCell(rates)
	}
	for _, d := range h.Datasets {
		for _, x := range d.Ranges {
			var to any
			if x.To != nil {
				to = cli.KeyCell(x.To)
			}
			if err := r.Row(d.Name, "range", cli.KeyCell(x.From), to, nil, nil, x.Rates.Reads, x.Rates.Misses, x.Rates.Scans, x.Rates.Writes,
				past(x.Past.Reads), past(x.Past.Misses), past(x.Past.Scans), past(x.Past.Writes), h.Step.Seconds(),
				h.Since, h.At, h.SampledOneIn); err != nil {
				return err
			}
		}
		for _, x := range d.Keys {
			if err := r.Row(d.Name, "key", nil, nil, cli.KeyCell(x.Key), x.Cut, x.Rates.Reads, x.Rates.Misses, nil, x.Rates.Writes,
				nil, nil, nil, nil, nil, h.Since, h.At, h.SampledOneIn); err != nil {
				return err
			}
		}
	}
	return r.Close()
}

// formatRate is operations a second in at most five columns.
func formatRate(x float64) string {
	switch {
	case x == 0:
		return "·"
	case x < 9.95:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case x < 999.5:
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	unit := ""
	for _, unit = range []string{"k", "M", "G"} {
		if x /= 1000; x < 999.5 {
			break
		}
	}
	if x < 9.95 {
		return strconv.FormatFloat(x, 'f', 1, 64) + unit
	}
	return strconv.FormatFloat(x, 'f', 0, 64) + unit
}
