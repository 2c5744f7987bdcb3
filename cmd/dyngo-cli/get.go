package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
)

func newGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get DATASET KEY",
		Short: "Print the value of a key",
		Long: `Print the value of a key: its bytes, nothing else, unless -o asks for more.

On a terminal a value that is not text is shown with \xNN; -o raw sends its
bytes even there. A key that is absent gives exit code 3.

` + atHelp,
		Example: `  dyngo-cli get scores alice
  dyngo-cli get pictures logo > logo.png
  dyngo-cli get scores alice -o json
  dyngo-cli get scores alice --at -10m`,
		Args: exactArgs("DATASET", "KEY"),
	}
	at := addAt(cmd)
	escaped := addEscaped(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := parseKey("KEY", args[1], *escaped)
		if err != nil {
			return err
		}
		return runGet(cmd, args[0], key, *at)
	}
	return cmd
}

func runGet(cmd *cobra.Command, dataset string, key []byte, at string) (err error) {
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
	if out := globalsOf(cmd).output; out == "" || out == "raw" {
		if at == "" {
			return absentKey(getRaw(cmd, ds, key), dataset, key)
		}
		value, err := view.Get(ds, key)
		if err != nil {
			return absentKey(err, dataset, key)
		}
		return printRaw(cmd, bytes.NewReader(value))
	}
	lookup := ds.Lookup
	if at != "" {
		lookup = func(key []byte) (dyngo.KV, error) { return view.Lookup(ds, key) }
	}
	kv, err := lookup(key)
	if err != nil {
		return absentKey(err, dataset, key)
	}
	r := newRenderer(cmd, oneRow, kvColumns(false)...)
	r.detail = true
	if err := rowKV(r, kv, false); err != nil {
		return err
	}
	return r.Close()
}

// absentKey says which key an ErrNotFound is about.
func absentKey(err error, dataset string, key []byte) error {
	if !errors.Is(err, dyngo.ErrNotFound) {
		return err
	}
	return fail(exitNotFound, "dyngo-cli scan "+shellQuote(dataset)+" --keys-only --limit 20",
		"no key %s in dataset %q", quoteKey(key), dataset)
}

// quoteKey writes a key for a message.
func quoteKey(key []byte) string { return `"` + escapeBytes(key) + `"` }

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
	if !isTerminal(out) || globalsOf(cmd).output == "raw" {
		return copyRaw(out, value)
	}
	data, err := io.ReadAll(value)
	if err != nil {
		return err
	}
	if isText(data) {
		_, err = fmt.Fprintln(out, strings.TrimSuffix(string(data), "\n"))
		return err
	}
	_, err = fmt.Fprintln(out, escapeBytes(data))
	fmt.Fprintln(cmd.ErrOrStderr(), "(not text, so shown escaped; -o raw sends the bytes)")
	return err
}

// kvColumns are the columns of keys, with values or without.
func kvColumns(keysOnly bool) []column {
	cols := []column{{name: "key"}}
	if !keysOnly {
		cols = append(cols, column{name: "value"})
	}
	return append(cols, column{name: "lsn", detail: true},
		column{name: "time", detail: true}, column{name: "expires", detail: true})
}

// rowKV prints a row of kvColumns.
func rowKV(r *renderer, kv dyngo.KV, keysOnly bool) error {
	if keysOnly {
		return r.Row(keyCell(kv.Key), kv.LSN, kv.Time, kv.Expires)
	}
	return r.Row(keyCell(kv.Key), valueCell(kv.Value), kv.LSN, kv.Time, kv.Expires)
}
