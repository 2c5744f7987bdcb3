package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newDatasetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "datasets",
		Short: "List, create and drop datasets",
		Example: `  dyngo-cli datasets
  dyngo-cli datasets create telemetry --consistency causal --compression s2
  dyngo-cli datasets drop telemetry --yes`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listDatasets(cmd) },
	}
	cmd.AddCommand(newDatasetsCreateCommand(), newDatasetsDropCommand())
	return cmd
}

func datasetColumns() []cli.Column {
	return []cli.Column{
		{Name: "name"}, {Name: "keys"}, {Name: "consistency"}, {Name: "compression"}, {Name: "ttl"},
		{Name: "large_value", Title: "LARGE FROM"}, {Name: "created_lsn", Detail: true}, {Name: "id", Detail: true},
	}
}

func rowDataset(r *cli.Renderer, info dyngo.DatasetInfo, keys int) error {
	var ttl any
	if info.Options.TTL > 0 {
		ttl = info.Options.TTL
	}
	return r.Row(info.Name, cli.CountCell(keys), info.Options.Consistency.String(), info.Options.Compression.String(),
		ttl, cli.ByteCell(info.Options.LargeValue), info.Created, info.ID)
}

func listDatasets(cmd *cobra.Command) (err error) {
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	r := cli.NewRenderer(cmd, cli.ManyRows, datasetColumns()...)
	for _, info := range db.Datasets() {
		ds, err := db.Dataset(info.Name)
		if err != nil {
			return err
		}
		n, err := countRange(cmd, ds, dyngo.Range{})
		if err != nil {
			return cli.Flushed(r, err)
		}
		if err := rowDataset(r, info, n); err != nil {
			return err
		}
	}
	return r.Close()
}

// countRange counts the keys of a range by going through them: that may take a while, so it tells how far it is and ends
// with the command.
func countRange(cmd *cobra.Command, ds *dyngo.Dataset, rng dyngo.Range) (int, error) {
	p := cli.NewProgress(cmd, "count "+cli.EscapeBytes([]byte(ds.Name())), 0, "keys")
	defer p.Done()
	rng.KeysOnly = true
	n := 0
	for _, err := range ds.Scan(rng) {
		if err == nil && n&1023 == 0 {
			p.Set(int64(n))
			err = cmd.Context().Err()
		}
		if err != nil {
			return 0, err
		}
		n++
	}
	p.Set(int64(n))
	return n, nil
}

func newDatasetsCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a dataset with options",
		Long: `Create a dataset. Its options can't be changed later. One that exists with the
same options is left alone, with others the exit code is 7.`,
		Example: `  dyngo-cli datasets create scores
  dyngo-cli datasets create telemetry --consistency causal --ttl 720h`,
		Args: cli.ExactArgs("NAME"),
	}
	f := cmd.Flags()
	consistency := f.String("consistency", "strong", "strong, causal or eventual")
	compression := f.String("compression", "off", "of values: off, s2 or zstd")
	ttl := f.Duration("ttl", 0, "time to live of values, such as 24h; 0 = for ever")
	large := f.Int("large-value", 0, "bytes from which a value leaves memory (0 = 8192)")
	cli.MustCompleteFlag(cmd, "consistency", "strong", "causal", "eventual")
	cli.MustCompleteFlag(cmd, "compression", "off", "s2", "zstd")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o := dyngo.DatasetOptions{TTL: *ttl, LargeValue: *large}
		if o.Consistency, err = oneOf("consistency", *consistency, dyngo.Strong, dyngo.Causal, dyngo.Eventual); err != nil {
			return err
		}
		if o.Compression, err = oneOf("compression", *compression, dyngo.NoCompression, dyngo.S2, dyngo.Zstd); err != nil {
			return err
		}
		return createAndShow(cmd, args[0], &o)
	}
	return cmd
}

// oneOf finds the value whose name the flag has.
func oneOf[T fmt.Stringer](flag, name string, values ...T) (T, error) {
	var names []string
	for _, v := range values {
		if v.String() == name {
			return v, nil
		}
		names = append(names, v.String())
	}
	var none T
	return none, cli.Usage("one of: "+strings.Join(names, ", "), "--%s: unknown %q", flag, name)
}

func createAndShow(cmd *cobra.Command, name string, o *dyngo.DatasetOptions) (err error) {
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	if _, err := db.CreateDataset(name, o); err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.OneRow, cli.Column{Name: "name"}, cli.Column{Name: "consistency"},
		cli.Column{Name: "compression"}, cli.Column{Name: "ttl"}, cli.Column{Name: "lsn"})
	for _, info := range db.Datasets() {
		if info.Name == name {
			var ttl any
			if info.Options.TTL > time.Duration(0) {
				ttl = info.Options.TTL
			}
			err := r.Row(name, info.Options.Consistency.String(), info.Options.Compression.String(), ttl, info.Created)
			if err != nil {
				return err
			}
		}
	}
	return r.Close()
}

func newDatasetsDropCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop NAME",
		Short: "Drop a dataset with all its keys",
		Long: `Drop a dataset with all its keys. Its events stay in the log.
On a terminal the command asks first; elsewhere it needs --yes.`,
		Example: `  dyngo-cli datasets drop telemetry --dry-run
  dyngo-cli datasets drop telemetry --yes`,
		Args: cli.ExactArgs("NAME"),
	}
	yes := cmd.Flags().Bool("yes", false, "don't ask")
	dryRun := cmd.Flags().Bool("dry-run", false, "only say what would go")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := cli.CheckStore(cli.GlobalsOf(cmd).Dir); err != nil {
			return err
		}
		open := func() (*dyngo.DB, error) { return cli.OpenWrite(cmd) }
		if *dryRun {
			open = func() (*dyngo.DB, error) { return cli.OpenRead(cmd) }
		}
		db, err := open()
		if err != nil {
			return err
		}
		defer cli.CloseStore(db, &err)
		ds, err := cli.ReadDataset(cmd, db, args[0])
		if err != nil {
			return err
		}
		return dropDataset(cmd, db, ds, *yes, *dryRun)
	}
	return cmd
}

func dropDataset(cmd *cobra.Command, db *dyngo.DB, ds *dyngo.Dataset, yes, dryRun bool) error {
	n, err := countRange(cmd, ds, dyngo.Range{})
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.OneRow, cli.Column{Name: "name"}, cli.Column{Name: "keys"}, cli.Column{Name: "lsn"})
	if dryRun {
		fmt.Fprintf(cmd.ErrOrStderr(), "dataset %q with %s would be dropped, nothing was changed\n", ds.Name(), countKeys(n))
		if err := r.Row(ds.Name(), cli.CountCell(n), nil); err != nil {
			return err
		}
		return r.Close()
	}
	if err := cli.Confirm(cmd, yes, fmt.Sprintf("Drop dataset %q with %s", ds.Name(), countKeys(n))); err != nil {
		return err
	}
	lsn, err := db.DropDataset(ds.Name())
	if err != nil {
		return err
	}
	if err := r.Row(ds.Name(), cli.CountCell(n), lsn); err != nil {
		return err
	}
	return r.Close()
}
