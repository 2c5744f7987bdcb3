package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

const targetHelp = `A target is an LSN (1234), a time (2026-11-20T14:31:59Z, or -10m for ten
minutes ago), after or before a batch that is named by its first LSN (tx:1234,
before-tx:1234), or a snapshot (snapshot:NAME).`

func newDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff [DATASET]",
		Short: "List what changed between two states",
		Long: `List the keys whose value differs between two states, with the value before and
after, ordered by dataset and key. What was changed and put back is not listed.

` + targetHelp,
		Example: `  dyngo-replay diff --from -24h
  dyngo-replay diff scores --from before-tx:1234 --to tx:1234
  dyngo-replay diff scores --prefix al --from 100 --to 200 -o csv`,
		Args: cli.MaybeArg("DATASET"),
	}
	from := cmd.Flags().String("from", "", "`target` to compare from")
	to := cmd.Flags().String("to", "", "`target` to compare to (default the newest event)")
	limit := cmd.Flags().Int("limit", 0, "at most so many rows, 0 = all")
	long := cmd.Flags().BoolP("long", "l", false, "all columns in tables too")
	keys := addKeys(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		if *from == "" {
			return cli.Usage("--from -24h, or another target", "--from is missing")
		}
		r, err := keys()
		if err != nil {
			return err
		}
		o := dyngo.DiffOptions{From: r.From, To: r.To}
		if len(args) == 1 {
			o.Dataset = args[0]
		}
		return runDiff(cmd, *from, *to, o, *limit, *long)
	}
	return cmd
}

func runDiff(cmd *cobra.Command, from, to string, o dyngo.DiffOptions, limit int, long bool) (err error) {
	now := time.Now()
	a, err := cli.ParseTarget("--from", from, now)
	if err != nil {
		return err
	}
	b := dyngo.Target{}
	if to != "" {
		if b, err = cli.ParseTarget("--to", to, now); err != nil {
			return err
		}
	}
	targets := []dyngo.Target{a}
	if to != "" {
		targets = append(targets, b)
	}
	db, end, err := cli.OpenAny(cmd, targets...)
	if err != nil {
		return err
	}
	defer end(&err)
	if to == "" {
		b = dyngo.AtLSN(db.DurableLSN())
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "dataset"}, cli.Column{Name: "key"}, cli.Column{Name: "change"},
		cli.Column{Name: "before"}, cli.Column{Name: "after"}, cli.Column{Name: "before_lsn", Detail: true},
		cli.Column{Name: "after_lsn", Detail: true}, cli.Column{Name: "after_time", Detail: true})
	r.Detail = long
	n := 0
	for c, err := range db.Diff(cmd.Context(), a, b, &o) {
		if err != nil {
			return cli.Flushed(r, err)
		}
		if err := rowChange(r, &c); err != nil {
			return err
		}
		if n++; n == limit {
			break
		}
	}
	return r.Close()
}

func rowChange(r *cli.Renderer, c *dyngo.Change) error {
	what := "changed"
	var before, after, beforeLSN, afterLSN, afterTime any
	if c.Before != nil {
		before, beforeLSN = cli.ValueCell(c.Before.Value), c.Before.LSN
	} else {
		what = "created"
	}
	if c.After != nil {
		after, afterLSN, afterTime = cli.ValueCell(c.After.Value), c.After.LSN, c.After.Time
	} else {
		what = "deleted"
	}
	return r.Row(c.Dataset, cli.KeyCell(c.Key), what, before, after, beforeLSN, afterLSN, afterTime)
}
