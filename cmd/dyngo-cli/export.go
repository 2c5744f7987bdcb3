package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export DATASET",
		Short: "Write a dataset's values in key order, as they came in",
		Long: `Write all values of a dataset in key order, as of one moment, as they came in:
what load has stored comes out as the same rows.

  jsonl  one value a line (the default). JSON values are written as they are
         stored; one with line breaks inside is put on one line.
  json   an array of the values, byte for byte as they are stored.
  csv    a header line and a row for each value. Columns are the fields of the
         values in order of first appearance: those of a CSV file that was
         loaded, in its order. Values that are no JSON object stand in a column
         "value".
  raw    the stored bytes, each value followed by a line end.

In JSON, a value that is no JSON is a string, or {"$b64": …} if it is no text.
--with-keys adds the key: as {"key": …, "value": …} in JSON, as first column in
CSV, before a tab in raw.

` + cli.AtHelp,
		Example: `  dyngo-cli export quakes > quakes.jsonl
  dyngo-cli export strikes -o csv > birdstrikes.csv
  dyngo-cli export scores --with-keys -o json
  dyngo-cli export scores --at before-tx:1234 > before.jsonl`,
		Args: cli.ExactArgs("DATASET"),
	}
	keys := cmd.Flags().Bool("with-keys", false, "write the keys too")
	at := cli.AddAt(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runExport(cmd, args[0], *keys, *at)
	}
	return cmd
}

func runExport(cmd *cobra.Command, dataset string, keys bool, at string) (err error) {
	format := cli.GlobalsOf(cmd).Output
	if format == "" {
		format = "jsonl"
	}
	if format == "table" {
		return cli.Usage("dyngo-cli scan "+cli.ShellQuote(dataset)+" -o table, or -o jsonl, json, csv, raw",
			"export writes data for programs, not tables")
	}
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	view, err := cli.OpenView(cmd, db, at) // CSV reads twice and must see the same
	if err != nil {
		return err
	}
	defer view.Close()
	ds, err := cli.ViewDataset(cmd, db, view, at, dataset)
	if err != nil {
		return err
	}
	e := &exporter{cmd: cmd, view: view, ds: ds, keys: keys, out: bufio.NewWriterSize(cmd.OutOrStdout(), 256<<10)}
	switch format {
	case "csv":
		err = e.csv()
	case "json":
		err = e.json()
	case "raw":
		err = e.each(e.raw)
	default:
		err = e.each(e.line)
	}
	if ferr := e.out.Flush(); err == nil {
		err = ferr
	}
	return err
}

// An exporter writes the values of a dataset.
type exporter struct {
	cmd  *cobra.Command
	view *dyngo.View
	ds   *dyngo.Dataset
	keys bool
	out  *bufio.Writer
	buf  []byte
}

// each calls f for every pair in key order.
func (e *exporter) each(f func(kv dyngo.KV) error) error {
	n := 0
	for kv, err := range e.view.Scan(e.ds, dyngo.Range{}) {
		if err == nil {
			err = f(kv)
		}
		if err == nil && n&1023 == 0 {
			err = e.cmd.Context().Err()
		}
		if err != nil {
			return err
		}
		n++
	}
	return nil
}

// appendValue appends a value as JSON: as it is stored if it is JSON.
func appendValue(dst, value []byte) []byte {
	if utf8.Valid(value) && json.Valid(value) {
		return append(dst, value...)
	}
	return cli.AppendJSONValue(dst, value)
}

func (e *exporter) appendRow(dst []byte, kv dyngo.KV) []byte {
	if !e.keys {
		return appendValue(dst, kv.Value)
	}
	dst = append(dst, `{"key":`...)
	dst = cli.AppendJSONKey(dst, kv.Key)
	dst = append(dst, `,"value":`...)
	return append(appendValue(dst, kv.Value), '}')
}

func (e *exporter) line(kv dyngo.KV) error {
	e.buf = e.appendRow(e.buf[:0], kv)
	if bytes.ContainsAny(e.buf, "\n\r") { // between the parts of a JSON value: inside strings they are escaped
		line := bytes.NewBuffer(make([]byte, 0, len(e.buf)))
		if err := json.Compact(line, e.buf); err != nil {
			return fmt.Errorf("value of key %s: %w", cli.EscapeBytes(kv.Key), err)
		}
		e.buf = line.Bytes()
	}
	e.buf = append(e.buf, '\n')
	_, err := e.out.Write(e.buf)
	return err
}

func (e *exporter) json() error {
	lead := "[\n"
	err := e.each(func(kv dyngo.KV) error {
		e.buf = append(e.buf[:0], lead...)
		lead = ",\n"
		e.buf = e.appendRow(e.buf, kv)
		_, err := e.out.Write(e.buf)
		return err
	})
	if err != nil {
		return err // without its end, the array can't be taken for a whole one
	}
	if lead == "[\n" {
		_, err = e.out.WriteString("[]\n")
	} else {
		_, err = e.out.WriteString("\n]\n")
	}
	return err
}

func (e *exporter) raw(kv dyngo.KV) error {
	if e.keys {
		e.out.Write(kv.Key)
		e.out.WriteByte('\t')
	}
	e.out.Write(kv.Value)
	return e.out.WriteByte('\n') // a bufio.Writer keeps its first error
}

// maxExportColumns bounds the memory that a CSV header takes.
const maxExportColumns = 10_000

// A csvColumn is a field of the values: its name, and how many fields of that name stand before it in a value, as a CSV
// file may have several columns of one name.
type csvColumn struct {
	name string
	nth  int
}

// csvTable finds the columns of values and writes these as rows.
type csvTable struct {
	index   map[csvColumn]int
	columns []csvColumn
	plain   bool // there are values that are no objects
	seen    map[string]int
	cells   [][]byte
	buf     []byte
}

func (e *exporter) csv() error {
	t := &csvTable{index: map[csvColumn]int{}, seen: map[string]int{}}
	if err := e.each(t.learn); err != nil {
		return err
	}
	var header [][]byte
	if e.keys {
		header = append(header, []byte("key"))
	}
	for _, c := range t.columns {
		header = append(header, []byte(c.name))
	}
	if t.plain {
		header = append(header, []byte("value"))
	}
	if len(header) == 0 {
		return nil // no values, or nothing but empty objects
	}
	t.buf = appendCSV(t.buf[:0], header)
	if _, err := e.out.Write(t.buf); err != nil {
		return err
	}
	t.cells = make([][]byte, len(header))
	return e.each(func(kv dyngo.KV) error {
		t.row(kv, e.keys)
		t.buf = appendCSV(t.buf[:0], t.cells)
		_, err := e.out.Write(t.buf)
		return err
	})
}

// fields calls f for each field of an object; false if value is none.
func (t *csvTable) fields(value []byte, f func(c csvColumn, value []byte)) bool {
	trimmed := bytes.TrimSpace(value)
	if len(trimmed) == 0 || trimmed[0] != '{' || !utf8.Valid(value) || !json.Valid(value) {
		return false
	}
	clear(t.seen)
	for name, v := range rows.Members(trimmed) {
		n := string(rows.Unquote(name))
		f(csvColumn{n, t.seen[n]}, v)
		t.seen[n]++
	}
	return true
}

func (t *csvTable) learn(kv dyngo.KV) error {
	ok := t.fields(kv.Value, func(c csvColumn, _ []byte) {
		if _, known := t.index[c]; !known && len(t.columns) <= maxExportColumns {
			t.index[c] = len(t.columns)
			t.columns = append(t.columns, c)
		}
	})
	t.plain = t.plain || !ok
	if len(t.columns) > maxExportColumns {
		return cli.Fail(cli.ExitFailure, "-o jsonl", "the values have more than %d different fields: too many for CSV",
			maxExportColumns)
	}
	return nil
}

// row fills cells.
func (t *csvTable) row(kv dyngo.KV, keys bool) {
	clear(t.cells)
	first := 0
	if keys {
		t.cells[0] = []byte(cli.EscapeBytes(kv.Key))
		first = 1
	}
	ok := t.fields(kv.Value, func(c csvColumn, v []byte) {
		t.cells[first+t.index[c]] = csvCell(v)
	})
	if !ok {
		t.cells[len(t.cells)-1] = []byte(escapeUnlessText(kv.Value))
	}
}

// csvCell is a JSON value as a cell: the text of a string, nothing for null, else its JSON.
func csvCell(v []byte) []byte {
	switch v[0] {
	case '"':
		return rows.Unquote(v)
	case 'n':
		return nil
	}
	return v
}

// escapeUnlessText leaves text as it is, line ends included, since a quoted cell holds them; other bytes become \xNN.
func escapeUnlessText(b []byte) string {
	if cli.IsText(b) {
		return string(b)
	}
	return cli.EscapeBytes(b)
}

// appendCSV appends a record of RFC 4180. Cells are quoted only where they must be; a record that would be a blank line
// gets a quoted empty cell.
func appendCSV(dst []byte, cells [][]byte) []byte {
	for i, c := range cells {
		if i > 0 {
			dst = append(dst, ',')
		}
		if len(cells) == 1 && len(c) == 0 {
			dst = append(dst, `""`...)
			continue
		}
		if !bytes.ContainsAny(c, ",\"\r\n") {
			dst = append(dst, c...)
			continue
		}
		dst = append(dst, '"')
		dst = append(dst, bytes.ReplaceAll(c, []byte(`"`), []byte(`""`))...)
		dst = append(dst, '"')
	}
	return append(dst, '\n')
}
