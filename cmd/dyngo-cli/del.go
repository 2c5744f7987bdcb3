package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newDelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "del DATASET KEY | DATASET --prefix PREFIX",
		Short: "Delete a key, or all keys with a prefix",
		Long: `Delete a key, or all keys with a prefix.

Deleting what is absent is no error. --prefix asks before it deletes on a
terminal and needs --yes elsewhere; --dry-run only lists what would go.`,
		Example: `  dyngo-cli del scores alice --reason "left the team"
  dyngo-cli del sessions --prefix 2024- --dry-run
  dyngo-cli del sessions --prefix 2024- --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("prefix") {
				if len(args) == 2 {
					return cli.Usage("", "del: a KEY and --prefix exclude each other")
				}
				return cli.ExactArgs("DATASET")(cmd, args)
			}
			if len(args) == 1 {
				return cli.Usage("dyngo-cli del "+cli.ShellQuote(args[0])+" KEY", "del: KEY or --prefix is missing")
			}
			return cli.ExactArgs("DATASET", "KEY")(cmd, args)
		},
	}
	prefix := cmd.Flags().String("prefix", "", "delete all keys that begin with this; '' is every key")
	yes := cmd.Flags().Bool("yes", false, "don't ask")
	dryRun := cmd.Flags().Bool("dry-run", false, "only list the keys that would be deleted")
	escaped := cli.AddEscaped(cmd)
	why := cli.AddWhy(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d := delRequest{dataset: args[0], options: why(), yes: *yes}
		var err error
		if len(args) == 2 {
			d.key, err = cli.ParseKey("KEY", args[1], *escaped)
		} else {
			d.prefix, err = cli.ParseBytes("--prefix", *prefix, *escaped)
		}
		if err != nil {
			return err
		}
		if *dryRun {
			return d.list(cmd)
		}
		return d.run(cmd)
	}
	return cmd
}

// delRequest is one del as the command line gave it.
type delRequest struct {
	dataset string
	key     []byte // nil: all keys with prefix
	prefix  []byte
	options dyngo.WriteOptions
	yes     bool
}

// keys is the range of keys that the request is about.
func (d *delRequest) keys() dyngo.Range {
	r := dyngo.Prefix(d.prefix)
	if d.key != nil {
		r = dyngo.Range{From: d.key, To: append(append([]byte(nil), d.key...), 0)}
	}
	r.KeysOnly = true
	return r
}

// list prints the keys that would go, from a read-only open.
func (d *delRequest) list(cmd *cobra.Command) (err error) {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.KVColumns(true)...)
	n := 0
	if cli.StoreExists(cli.GlobalsOf(cmd).Dir) {
		if n, err = d.listStore(cmd, r); err != nil {
			return cli.Flushed(r, err)
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s would be deleted from %q, nothing was changed\n", countKeys(n), d.dataset)
	return nil
}

// listStore prints the keys of the store and returns their number.
func (d *delRequest) listStore(cmd *cobra.Command, r *cli.Renderer) (n int, err error) {
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return 0, err
	}
	defer cli.CloseStore(db, &err)
	ds, err := db.Dataset(d.dataset)
	if errors.Is(err, dyngo.ErrNoDataset) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for kv, err := range ds.Scan(d.keys()) {
		if err == nil && n&1023 == 0 {
			err = cmd.Context().Err()
		}
		if err != nil {
			return n, err
		}
		if err := cli.RowKV(r, kv, true); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (d *delRequest) run(cmd *cobra.Command) (err error) {
	r := cli.NewRenderer(cmd, cli.OneRow, d.columns()...)
	nothing := func(what string) error {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: nothing to delete\n", what)
		return nil
	}
	dir := cli.GlobalsOf(cmd).Dir
	if !cli.StoreExists(dir) {
		return nothing("no store in " + dir) // a typo must not leave an empty store behind
	}
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	ds, err := db.Dataset(d.dataset)
	if errors.Is(err, dyngo.ErrNoDataset) {
		return nothing(fmt.Sprintf("no dataset %q in %s", d.dataset, dir))
	}
	if err != nil {
		return err
	}
	d.options.Ack = dyngo.AckDurable
	if d.key != nil {
		existed, err := ds.Has(d.key)
		if err != nil {
			return err
		}
		lsn, err := ds.DeleteWith(d.key, d.options)
		if err != nil {
			return err
		}
		if err := r.Row(d.dataset, cli.KeyCell(d.key), existed, lsn); err != nil {
			return err
		}
		return r.Close()
	}
	return d.deletePrefix(cmd, db, ds, r)
}

func (d *delRequest) columns() []cli.Column {
	if d.key != nil {
		return []cli.Column{{Name: "dataset"}, {Name: "key"}, {Name: "existed"}, {Name: "lsn"}}
	}
	return []cli.Column{{Name: "dataset"}, {Name: "prefix"}, {Name: "deleted"}, {Name: "lsn"}}
}

func (d *delRequest) deletePrefix(cmd *cobra.Command, db *dyngo.DB, ds *dyngo.Dataset, r *cli.Renderer) error {
	n, err := countRange(cmd, ds, d.keys())
	if err != nil {
		return err
	}
	if n == 0 {
		if err := r.Row(d.dataset, cli.KeyCell(d.prefix), cli.CountCell(0), nil); err != nil {
			return err
		}
		return r.Close()
	}
	question := fmt.Sprintf("Delete %s from %q", countKeys(n), d.dataset)
	if err := cli.Confirm(cmd, d.yes, question); err != nil {
		return err
	}
	rng := d.keys()
	lsn, err := ds.DeleteRangeWith(rng.From, rng.To, d.options)
	if err != nil {
		return err
	}
	if err := r.Row(d.dataset, cli.KeyCell(d.prefix), cli.CountCell(n), lsn); err != nil {
		return err
	}
	return r.Close()
}

func countKeys(n int) string {
	if n == 1 {
		return "1 key"
	}
	return cli.FormatCount(int64(n)) + " keys"
}
