package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newStateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state [DATASET]",
		Short: "List what the store held at a moment",
		Long: `List keys and values as they were at a target of the past, of one dataset or of
all that there were, datasets that were dropped since included.

` + targetHelp,
		Example: `  dyngo-replay state --at -24h
  dyngo-replay state scores --at before-tx:1234 --prefix al
  dyngo-replay state scores --at 1234 -o csv`,
		Args: cli.MaybeArg("DATASET"),
	}
	at := cmd.Flags().String("at", "", "`target`")
	limit := cmd.Flags().Int("limit", 0, "at most so many rows, 0 = all")
	long := cmd.Flags().BoolP("long", "l", false, "all columns in tables too")
	keys := addKeys(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		if *at == "" {
			return cli.Usage("--at -24h, or another target", "--at is missing")
		}
		r, err := keys()
		if err != nil {
			return err
		}
		return runState(cmd, args, *at, r, *limit, *long)
	}
	return cmd
}

func runState(cmd *cobra.Command, args []string, at string, rng dyngo.Range, limit int, long bool) (err error) {
	target, err := cli.ParseTarget("--at", at, time.Now())
	if err != nil {
		return err
	}
	db, end, err := cli.OpenAny(cmd, target)
	if err != nil {
		return err
	}
	defer end(&err)
	view, err := db.ViewAt(cmd.Context(), target)
	if err != nil {
		return err
	}
	defer view.Close()
	names := args
	if len(args) == 0 {
		if names, err = view.Datasets(); err != nil {
			return err
		}
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "dataset"}, cli.Column{Name: "key"}, cli.Column{Name: "value"},
		cli.Column{Name: "lsn", Detail: true}, cli.Column{Name: "time", Detail: true}, cli.Column{Name: "expires", Detail: true})
	r.Detail = long
	n := 0
	for _, name := range names {
		ds, err := view.Dataset(name)
		if errors.Is(err, dyngo.ErrNoDataset) {
			return cli.Fail(cli.ExitNotFound, "a later --at", "no dataset %q in %s at LSN %d", name, cli.GlobalsOf(cmd).Dir, view.LSN())
		}
		if err != nil {
			return err
		}
		if cli.Empty(rng) {
			continue
		}
		for kv, err := range view.Scan(ds, rng) {
			if err == nil && n&1023 == 0 {
				err = cmd.Context().Err()
			}
			if err != nil {
				return cli.Flushed(r, err)
			}
			if err := r.Row(name, cli.KeyCell(kv.Key), cli.ValueCell(kv.Value), kv.LSN, kv.Time, kv.Expires); err != nil {
				return err
			}
			if n++; n == limit {
				return r.Close()
			}
		}
	}
	return r.Close()
}
