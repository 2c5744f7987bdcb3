package main

import (
	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newScanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan DATASET",
		Short: "List keys and values in key order",
		Long: `List keys and values in the byte order of the keys, all as of one moment.

--from is included, --to is not. With -o raw a row is the key, a tab and the
value, as they are.

` + cli.AtHelp,
		Example: `  dyngo-cli scan scores
  dyngo-cli scan scores --prefix al --limit 10 --reverse
  dyngo-cli scan quakes --from 2024 --to 2025 -o csv
  dyngo-cli scan scores --at 2026-11-20T14:31:59Z`,
		Args: cli.ExactArgs("DATASET"),
	}
	f := cmd.Flags()
	prefix := f.String("prefix", "", "only keys that begin with this")
	from := f.String("from", "", "first key")
	to := f.String("to", "", "key to stop before")
	limit := f.Int("limit", 0, "at most so many rows, 0 = all")
	reverse := f.Bool("reverse", false, "from the highest key down")
	keysOnly := f.Bool("keys-only", false, "leave the values out")
	long := f.BoolP("long", "l", false, "LSN, time and expiry in tables too")
	at := cli.AddAt(cmd)
	escaped := cli.AddEscaped(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		var bounds [3][]byte
		for i, arg := range []struct{ flag, value string }{{"prefix", *prefix}, {"from", *from}, {"to", *to}} {
			if !cmd.Flags().Changed(arg.flag) || arg.value == "" {
				continue
			}
			b, err := cli.ParseBytes("--"+arg.flag, arg.value, *escaped)
			if err != nil {
				return err
			}
			bounds[i] = b
		}
		r := cli.KeyRange(bounds[0], bounds[1], bounds[2])
		r.Limit, r.Reverse, r.KeysOnly = *limit, *reverse, *keysOnly
		return runScan(cmd, args[0], r, *long, *at)
	}
	return cmd
}

func runScan(cmd *cobra.Command, dataset string, rng dyngo.Range, long bool, at string) (err error) {
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	view, err := cli.OpenView(cmd, db, at)
	if err != nil {
		return err
	}
	defer view.Close()
	ds, err := cli.ViewDataset(cmd, db, view, at, dataset)
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.KVColumns(rng.KeysOnly)...)
	r.Detail = long
	if !cli.Empty(rng) {
		n := 0
		for kv, err := range view.Scan(ds, rng) {
			if err != nil {
				return cli.Flushed(r, err)
			}
			if err := cli.RowKV(r, kv, rng.KeysOnly); err != nil {
				return err
			}
			if n++; n&1023 == 0 && cmd.Context().Err() != nil {
				return cli.Flushed(r, cmd.Context().Err())
			}
		}
	}
	return r.Close()
}
