package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get DATASET KEY",
		Short: "Print the value of a key",
		Long: `Print the value of a key: its bytes, nothing else, unless -o asks for more.

On a terminal a value that is not text is shown with \xNN; -o raw sends its
bytes even there. A key that is absent gives exit code 3.

` + cli.AtHelp,
		Example: `  dyngo-cli get scores alice
  dyngo-cli get pictures logo > logo.png
  dyngo-cli get scores alice -o json
  dyngo-cli get scores alice --at -10m`,
		Args: cli.ExactArgs("DATASET", "KEY"),
	}
	at := cli.AddAt(cmd)
	escaped := cli.AddEscaped(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := cli.ParseKey("KEY", args[1], *escaped)
		if err != nil {
			return err
		}
		return runGet(cmd, args[0], key, *at)
	}
	return cmd
}

func runGet(cmd *cobra.Command, dataset string, key []byte, at string) (err error) {
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
	if out := cli.GlobalsOf(cmd).Output; out == "" || out == "raw" {
		if at == "" {
			return cli.AbsentKey(getRaw(cmd, ds, key), dataset, key)
		}
		value, err := view.Get(ds, key)
		if err != nil {
			return cli.AbsentKey(err, dataset, key)
		}
		return printRaw(cmd, bytes.NewReader(value))
	}
	lookup := ds.Lookup
	if at != "" {
		lookup = func(key []byte) (dyngo.KV, error) { return view.Lookup(ds, key) }
	}
	kv, err := lookup(key)
	if err != nil {
		return cli.AbsentKey(err, dataset, key)
	}
	r := cli.NewRenderer(cmd, cli.OneRow, cli.KVColumns(false)...)
	r.Detail = true
	if err := cli.RowKV(r, kv, false); err != nil {
		return err
	}
	return r.Close()
}

// getRaw copies the value to stdout; one that would disturb a terminal is escaped there.
func getRaw(cmd *cobra.Command, ds *dyngo.Dataset, key []byte) error {
	value, err := ds.Open(key)
	if err != nil {
		return err
	}
	defer value.Close()
	return printRaw(cmd, value)
}

func printRaw(cmd *cobra.Command, value io.Reader) error {
	out := cmd.OutOrStdout()
	if !cli.IsTerminal(out) || cli.GlobalsOf(cmd).Output == "raw" {
		return cli.CopyRaw(out, value)
	}
	data, err := io.ReadAll(value)
	if err != nil {
		return err
	}
	if cli.IsText(data) {
		_, err = fmt.Fprintln(out, strings.TrimSuffix(string(data), "\n"))
		return err
	}
	_, err = fmt.Fprintln(out, cli.EscapeBytes(data))
	fmt.Fprintln(cmd.ErrOrStderr(), "(not text, so shown escaped; -o raw sends the bytes)")
	return err
}
