package main

import (
	"bytes"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
)

func newScanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan DATASET",
		Short: "List keys and values in key order",
		Long: `List keys and values in the byte order of the keys, all as of one moment.

--from is included, --to is not. With -o raw a row is the key, a tab and the
value, as they are.

` + atHelp,
		Example: `  dyngo-cli scan scores
  dyngo-cli scan scores --prefix al --limit 10 --reverse
  dyngo-cli scan quakes --from 2024 --to 2025 -o csv
  dyngo-cli scan scores --at 2026-11-20T14:31:59Z`,
		Args: exactArgs("DATASET"),
	}
	f := cmd.Flags()
	prefix := f.String("prefix", "", "only keys that begin with this")
	from := f.String("from", "", "first key")
	to := f.String("to", "", "key to stop before")
	limit := f.Int("limit", 0, "at most so many rows, 0 = all")
	reverse := f.Bool("reverse", false, "from the highest key down")
	keysOnly := f.Bool("keys-only", false, "leave the values out")
	long := f.BoolP("long", "l", false, "LSN, time and expiry in tables too")
	at := addAt(cmd)
	escaped := addEscaped(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		var bounds [3][]byte
		for i, arg := range []struct{ flag, value string }{{"prefix", *prefix}, {"from", *from}, {"to", *to}} {
			if !cmd.Flags().Changed(arg.flag) || arg.value == "" {
				continue
			}
			b, err := parseBytes("--"+arg.flag, arg.value, *escaped)
			if err != nil {
				return err
			}
			bounds[i] = b
		}
		r := keyRange(bounds[0], bounds[1], bounds[2])
		r.Limit, r.Reverse, r.KeysOnly = *limit, *reverse, *keysOnly
		return runScan(cmd, args[0], r, *long, *at)
	}
	return cmd
}

// keyRange is the keys that begin with prefix and lie in [from, to); empty means no such bound.
func keyRange(prefix, from, to []byte) dyngo.Range {
	r := dyngo.Range{}
	if len(prefix) > 0 {
		r = dyngo.Prefix(prefix)
	}
	if len(from) > 0 && bytes.Compare(from, r.From) > 0 {
		r.From = from
	}
	if len(to) > 0 && (r.To == nil || bytes.Compare(to, r.To) < 0) {
		r.To = to
	}
	return r
}

func runScan(cmd *cobra.Command, dataset string, rng dyngo.Range, long bool, at string) (err error) {
	db, err := openRead(cmd)
	if err != nil {
		return err
	}
	defer closeStore(db, &err)
	view, err := openView(cmd, db, at)
	if err != nil {
		return err
	}
	defer view.Close()
	ds, err := viewDataset(cmd, db, view, at, dataset)
	if err != nil {
		return err
	}
	r := newRenderer(cmd, manyRows, kvColumns(rng.KeysOnly)...)
	r.detail = long
	if !empty(rng) {
		n := 0
		for kv, err := range view.Scan(ds, rng) {
			if err != nil {
				return flushed(r, err)
			}
			if err := rowKV(r, kv, rng.KeysOnly); err != nil {
				return err
			}
			if n++; n&1023 == 0 && cmd.Context().Err() != nil {
				return flushed(r, cmd.Context().Err())
			}
		}
	}
	return r.Close()
}

// empty reports whether no key can lie in the range.
func empty(r dyngo.Range) bool {
	return r.To != nil && bytes.Compare(r.From, r.To) >= 0
}

// flushed shows the rows that were good before err.
func flushed(r *renderer, err error) error {
	if ferr := r.Flush(); ferr != nil {
		return ferr
	}
	return err
}
