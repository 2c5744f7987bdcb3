package cli

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A Column names one value of a command's rows.
type Column struct {
	Name   string // in JSON and CSV; tables show it in capitals
	Title  string // header in tables, name in capitals if empty
	Detail bool   // left out of tables and raw rows unless the command asks for all
	In     string // the column in which tables that leave this one out show its cells, where that has none; may be empty
}

// The types of a cell, beside string, bool, integers, float64, time.Time, time.Duration and
// json.RawMessage. nil is an absent value: no field in JSON, an empty cell elsewhere.
type (
	KeyCell   []byte // bytes that name something: JSON string or {"$b64"}
	ValueCell []byte // a stored value: the JSON itself, a string or {"$b64"}
	ByteCell  int64  // a number of bytes: 1.5 MiB in tables
	CountCell int64  // a number of things: 1,234,567 in tables
	NsCell    int64  // nanoseconds: 1.5ms in tables
)

// shape is how many rows a command gives.
type shape int

const (
	ManyRows shape = iota // JSON: an array
	OneRow                // JSON: an object; a table shows it as usual
	OneSheet              // JSON: an object; a table shows one line for each column
)

// A Renderer prints rows in the format that -o chose: the only way by which commands write data.
// A command calls Row for each row, Flush when the user should see what is there, Close at the end.
// Rows are not kept, so any number may pass.
type Renderer struct {
	out    *bufio.Writer
	Format string
	shape  shape
	cols   []Column
	width  int  // of the terminal, 0: don't shorten
	bold   bool // headers
	Detail bool // tables and raw rows have the detail columns too

	rows    int64
	csv     *csv.Writer
	line    []byte
	pending [][]string // rows of a table whose column widths are not fixed yet
	right   []bool     // per column of a table: align right
	give    []int      // per column: shortened to fit the terminal, 2 before 1, 0 never
	widths  []int      // nil until fixed
	blocks  bool       // rows don't fit the terminal: one line for each cell, a blank one between rows
	written bool       // a block
}

// tableSample is the number of rows that decide about the column widths of a table.
const tableSample = 256

// NewRenderer prepares for rows of these columns in the format of cmd's flags. Nothing is printed
// before the first row, so errors found early leave stdout empty.
func NewRenderer(cmd *cobra.Command, s shape, cols ...Column) *Renderer {
	g := GlobalsOf(cmd)
	out := cmd.OutOrStdout()
	r := &Renderer{
		out: bufio.NewWriterSize(out, 64<<10), Format: g.Format(out), shape: s, cols: cols,
		width: TerminalWidth(out), right: make([]bool, len(cols)),
		give: make([]int, len(cols)),
	}
	r.bold = r.width > 0 && g.Color
	if r.Format == "csv" {
		r.csv = csv.NewWriter(r.out)
	}
	return r
}

// Row prints one row: one cell for each column.
func (r *Renderer) Row(cells ...any) error {
	if len(cells) != len(r.cols) {
		panic(fmt.Sprintf("dyngo: bug: row of %d cells for %d columns", len(cells), len(r.cols)))
	}
	r.rows++
	switch r.Format {
	case "json", "jsonl":
		return r.rowJSON(cells)
	case "csv":
		return r.rowCSV(cells)
	case "raw":
		return r.rowRaw(cells)
	}
	return r.rowTable(cells)
}

// Flush shows all rows so far; the column widths of a table are fixed then.
func (r *Renderer) Flush() error {
	if err := r.flushTable(); err != nil {
		return err
	}
	if r.csv != nil {
		r.csv.Flush()
		if err := r.csv.Error(); err != nil {
			return err
		}
	}
	return r.out.Flush()
}

// Close ends the output. Without any row JSON is an empty array and CSV and tables their header.
func (r *Renderer) Close() error {
	switch {
	case r.Format == "json" && r.shape == ManyRows && r.rows == 0:
		r.out.WriteString("[]\n")
	case r.Format == "json" && r.shape == ManyRows:
		r.out.WriteString("\n]\n")
	case r.Format == "csv" && r.rows == 0:
		if err := r.headerCSV(); err != nil {
			return err
		}
	case r.Format == "table" && r.rows == 0 && r.shape == ManyRows:
		r.fixWidths()
	}
	return r.Flush()
}

// Line prints a line of text behind the rows so far, in tables only.
func (r *Renderer) Line(text string) error {
	if r.Format != "table" {
		return nil
	}
	if err := r.flushTable(); err != nil {
		return err
	}
	r.fixWidths()
	_, err := fmt.Fprintln(r.out, text)
	return err
}

// Room is the width that such rows of a table leave to their last cell, within a terminal or 80 columns.
func (r *Renderer) Room(rows [][]any) int {
	const least, most = 10, 120
	left := r.width
	if left == 0 {
		left = 80
	}
	for i := range r.cols[:len(r.cols)-1] {
		width := TextWidth(r.header(i))
		for _, row := range rows {
			width = max(width, TextWidth(humanCell(row[i])))
		}
		left -= width + 2
	}
	return min(max(left, least), most)
}

func (r *Renderer) rowJSON(cells []any) error {
	b := r.line[:0]
	if r.Format == "json" && r.shape == ManyRows {
		if r.rows == 1 {
			b = append(b, "[\n "...)
		} else {
			b = append(b, ",\n "...)
		}
	}
	b = append(b, '{')
	first := true
	for i, cell := range cells {
		if isAbsent(cell) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = AppendJSONString(b, r.cols[i].Name)
		b = append(b, ':')
		b = appendJSONCell(b, cell)
	}
	b = append(b, '}')
	if r.Format == "jsonl" || r.shape != ManyRows {
		b = append(b, '\n')
	}
	r.line = b
	_, err := r.out.Write(b)
	return err
}

func (r *Renderer) headerCSV() error {
	names := make([]string, len(r.cols))
	for i, c := range r.cols {
		names[i] = c.Name
	}
	return r.csv.Write(names)
}

func (r *Renderer) rowCSV(cells []any) error {
	if r.rows == 1 {
		if err := r.headerCSV(); err != nil {
			return err
		}
	}
	record := make([]string, len(cells))
	for i, cell := range cells {
		record[i] = plainCell(cell)
	}
	return r.csv.Write(record)
}

// rowRaw prints the cells as they are, a tab between and a newline after them.
func (r *Renderer) rowRaw(cells []any) error {
	for i, cell := range cells {
		if r.hidden(i) {
			continue
		}
		if i > 0 {
			r.out.WriteByte('\t')
		}
		switch c := cell.(type) {
		case KeyCell:
			r.out.Write(c)
		case ValueCell:
			r.out.Write(c)
		case string:
			r.out.WriteString(c)
		default:
			r.out.WriteString(plainCell(cell))
		}
	}
	return r.out.WriteByte('\n')
}

func (r *Renderer) rowTable(cells []any) error {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = humanCell(cell)
		r.right[i] = r.right[i] || isNumber(cell)
		r.give[i] = max(r.give[i], givesWay(cell))
	}
	for i, cell := range row {
		if in := r.cols[i].In; in != "" && cell != "" && r.hidden(i) {
			j := slices.IndexFunc(r.cols, func(c Column) bool { return c.Name == in })
			if row[j] == "" {
				row[j] = r.cols[i].Name + " " + cell
				r.give[j] = max(r.give[j], r.give[i])
			}
		}
	}
	if r.shape == OneSheet {
		return r.sheet(row)
	}
	if r.widths != nil {
		return r.writeRow(row, false)
	}
	r.pending = append(r.pending, row)
	if len(r.pending) >= tableSample {
		return r.flushTable()
	}
	return nil
}

// sheet prints one line for each column that has a value.
func (r *Renderer) sheet(row []string) error {
	width := 0
	for i := range r.cols {
		if !r.hidden(i) {
			width = max(width, TextWidth(r.header(i)))
		}
	}
	for i, cell := range row {
		if cell == "" || r.hidden(i) {
			continue
		}
		name := r.header(i)
		pad := strings.Repeat(" ", width-TextWidth(name))
		if r.bold {
			name = "\x1b[1m" + name + "\x1b[0m"
		}
		if r.width > 0 {
			cell = TruncateText(cell, max(r.width-width-2, 8))
		}
		if _, err := fmt.Fprintf(r.out, "%s%s  %s\n", name, pad, cell); err != nil {
			return err
		}
	}
	return nil
}

func (r *Renderer) flushTable() error {
	if r.Format != "table" || r.shape == OneSheet || len(r.pending) == 0 {
		return nil
	}
	r.fixWidths()
	for _, row := range r.pending {
		if err := r.writeRow(row, false); err != nil {
			return err
		}
	}
	r.pending = nil
	return nil
}

// fixWidths decides about the columns from the rows so far, shortens the widest ones until the
// terminal holds a row, and prints the header.
func (r *Renderer) fixWidths() {
	if r.widths != nil {
		return
	}
	r.widths = make([]int, len(r.cols))
	header := make([]string, len(r.cols))
	for i := range r.cols {
		header[i] = r.header(i)
		r.widths[i] = TextWidth(header[i])
		for _, row := range r.pending {
			r.widths[i] = max(r.widths[i], TextWidth(row[i]))
		}
	}
	for give := 2; give > 0 && r.width > 0; give-- {
		for r.totalWidth() > r.width && r.shorten(give) {
		}
	}
	if r.blocks = r.width > 0 && r.totalWidth() > r.width; !r.blocks {
		r.writeRow(header, true)
	}
}

// shorten takes a column off the widest cells of those that give way so soon, and reports whether
// there was one.
func (r *Renderer) shorten(give int) bool {
	const least = 8
	widest := -1
	for i := range r.cols {
		if r.give[i] == give && !r.hidden(i) && (widest < 0 || r.widths[i] > r.widths[widest]) {
			widest = i
		}
	}
	if widest < 0 || r.widths[widest] <= least {
		return false
	}
	r.widths[widest]--
	return true
}

func (r *Renderer) totalWidth() int {
	total := -2
	for i, w := range r.widths {
		if !r.hidden(i) {
			total += w + 2
		}
	}
	return total
}

func (r *Renderer) writeRow(row []string, header bool) error {
	if r.blocks {
		if r.written {
			r.out.WriteByte('\n')
		}
		r.written = true
		return r.sheet(row)
	}
	b := r.line[:0]
	if header && r.bold {
		b = append(b, "\x1b[1m"...)
	}
	gap := 0 // spaces owed: none are written at the end of a line
	for i, cell := range row {
		if r.hidden(i) {
			continue
		}
		if r.width > 0 {
			cell = TruncateText(cell, r.widths[i])
		}
		pad := max(r.widths[i]-TextWidth(cell), 0)
		if r.right[i] {
			gap += pad
			pad = 0
		}
		if cell != "" {
			b = append(b, strings.Repeat(" ", gap)...)
			b = append(b, cell...)
			gap = 0
		} else if !r.right[i] {
			pad = r.widths[i]
		}
		gap += pad + 2
	}
	if header && r.bold {
		b = append(b, "\x1b[0m"...)
	}
	r.line = append(b, '\n')
	_, err := r.out.Write(r.line)
	return err
}

func (r *Renderer) hidden(i int) bool {
	return r.cols[i].Detail && !r.Detail
}

func (r *Renderer) header(i int) string {
	if t := r.cols[i].Title; t != "" {
		return t
	}
	return strings.ToUpper(strings.ReplaceAll(r.cols[i].Name, "_", " "))
}

// JsonCell is a cell that holds any value as JSON.
func JsonCell(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("dyngo: bug: cell: " + err.Error())
	}
	return b
}

// isAbsent reports whether a cell has no value.
func isAbsent(cell any) bool {
	if cell == nil {
		return true
	}
	t, ok := cell.(time.Time)
	return ok && t.IsZero()
}

// givesWay says how soon a cell of this type is shortened: values and keys before text, numbers and
// times never.
func givesWay(cell any) int {
	switch cell.(type) {
	case KeyCell, ValueCell, json.RawMessage:
		return 2
	case string:
		return 1
	}
	return 0
}

func isNumber(cell any) bool {
	switch reflect.ValueOf(cell).Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float64:
		return true
	}
	return false
}

func appendJSONCell(b []byte, cell any) []byte {
	switch c := cell.(type) {
	case KeyCell:
		return AppendJSONKey(b, c)
	case ValueCell:
		return AppendJSONValue(b, c)
	case json.RawMessage:
		return AppendJSONValue(b, c)
	case string:
		return AppendJSONString(b, c)
	case time.Time:
		return AppendJSONString(b, formatTime(c))
	case time.Duration:
		return AppendJSONString(b, c.String())
	case bool:
		return strconv.AppendBool(b, c)
	case float64:
		if math.IsNaN(c) || math.IsInf(c, 0) {
			return append(b, "null"...)
		}
		return strconv.AppendFloat(b, c, 'f', -1, 64)
	}
	return append(b, plainCell(cell)...)
}

// plainCell is a cell in CSV: numbers raw, binary bytes as \xNN.
func plainCell(cell any) string {
	if isAbsent(cell) {
		return ""
	}
	switch c := cell.(type) {
	case KeyCell:
		return EscapeBytes(c)
	case ValueCell:
		return EscapeBytes(c)
	case json.RawMessage:
		return EscapeBytes(c)
	case string:
		return EscapeBytes([]byte(c))
	case time.Time:
		return formatTime(c)
	case time.Duration:
		return c.String()
	case bool:
		return strconv.FormatBool(c)
	case float64:
		return strconv.FormatFloat(c, 'f', -1, 64)
	}
	v := reflect.ValueOf(cell)
	switch {
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	}
	panic(fmt.Sprintf("dyngo: bug: cell of type %T", cell))
}

// humanCell is a cell in a table.
func humanCell(cell any) string {
	switch c := cell.(type) {
	case ByteCell:
		return FormatBytes(int64(c))
	case CountCell:
		return FormatCount(int64(c))
	case NsCell:
		return time.Duration(c).Round(roundTo(int64(c))).String()
	case float64:
		switch {
		case math.Abs(c) >= 1000:
			return FormatCount(int64(math.Round(c)))
		case math.Abs(c) >= 100:
			return strconv.FormatFloat(c, 'f', 0, 64)
		case math.Abs(c) >= 10:
			return strconv.FormatFloat(c, 'f', 1, 64)
		}
		return strconv.FormatFloat(c, 'f', 2, 64)
	case time.Time:
		if c.IsZero() {
			return ""
		}
		return c.UTC().Format("2006-01-02 15:04:05Z")
	}
	return plainCell(cell)
}

// roundTo is a unit that leaves ns three or four digits.
func roundTo(ns int64) time.Duration {
	unit := int64(1)
	for ns/unit >= 10_000 {
		unit *= 10
	}
	return time.Duration(unit)
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// FormatBytes gives three digits and a binary unit.
func FormatBytes(n int64) string {
	if n > -1024 && n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if f /= 1024; math.Abs(f) < 999.5 {
			break
		}
	}
	decimals := 1
	if math.Abs(f) >= 99.95 {
		decimals = 0
	}
	return strconv.FormatFloat(f, 'f', decimals, 64) + " " + unit
}

// FormatCount puts a comma between thousands.
func FormatCount(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// CopyRaw copies a value to w as it is.
func CopyRaw(w io.Writer, r io.Reader) error {
	if f, ok := w.(*os.File); ok {
		w = struct{ io.Writer }{f} // splice would hide which side failed
	}
	_, err := io.CopyBuffer(w, r, make([]byte, 256<<10))
	return err
}
