package rows

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxColumns is the most cells whose places are kept of a record.
const maxColumns = 1 << 16

// A csvState is what reading CSV needs beside the input.
type csvState struct {
	header []string
	names  [][]byte // the header's names as JSON strings with colon
	cells  []byte   // the record's cells, one behind the other
	ends   []int    // where each ends, for the first maxColumns
	extra  int      // cells beyond maxColumns
	quoted bool     // the record has a quoted cell
	out    []byte   // the row as JSON
}

// readHeader reads the first record as column names.
func (r *Reader) readHeader() error {
	for {
		line := r.in.line
		bad, ok := r.record()
		r.in.drop()
		switch {
		case bad != "":
			return &Broken{Line: line, Msg: "the header " + bad}
		case !ok && r.in.readErr() != nil:
			return r.in.readErr()
		case !ok:
			return &Broken{Msg: "the file is empty"}
		}
		if r.blank() {
			continue
		}
		if !utf8.Valid(r.csv.cells) {
			return &Broken{Line: line, Msg: "the header is not UTF-8"}
		}
		if bytes.IndexByte(r.csv.cells, '\r') >= 0 && !r.csv.quoted {
			return &Broken{Line: line, Msg: `lines end with a bare carriage return; convert them (tr '\r' '\n')`}
		}
		if r.csv.extra > 0 {
			return &Broken{Line: line, Msg: fmt.Sprintf("the header has more than the limit of %d columns", maxColumns)}
		}
		header := make([]string, len(r.csv.ends))
		start := 0
		for i, end := range r.csv.ends {
			header[i] = string(r.csv.cells[start:end])
			start = end
		}
		r.setHeader(header)
		return nil
	}
}

func (r *Reader) setHeader(header []string) {
	r.csv.header = header
	r.csv.names = make([][]byte, len(header))
	for i, name := range header {
		r.csv.names[i] = append(AppendString(nil, []byte(name)), ':')
	}
}

// blank says whether the record is an empty line.
func (r *Reader) blank() bool {
	return len(r.csv.ends) == 1 && len(r.csv.cells) == 0 && !r.csv.quoted
}

// nextCSV returns the next record as an object of strings in header order.
func (r *Reader) nextCSV() (Row, error) {
	for {
		line := r.in.line
		bad, ok := r.record()
		if bad == "" && (!ok || r.blank()) {
			if !ok {
				return Row{}, io.EOF
			}
			continue
		}
		r.row++
		if bad == "" {
			bad = r.object()
		}
		if bad != "" {
			return Row{}, &BadRow{Line: line, Row: r.row, Msg: bad}
		}
		return Row{Number: r.row, Line: line, JSON: r.csv.out}, nil
	}
}

// object writes the record into out; a text says what is wrong with it.
func (r *Reader) object() (bad string) {
	c := &r.csv
	if n := len(c.ends) + c.extra; n != len(c.header) {
		return fmt.Sprintf("row has %s, the header has %d", plural(n, "column"), len(c.header))
	}
	c.out = append(c.out[:0], '{')
	start := 0
	for i, end := range c.ends {
		cell := c.cells[start:end]
		if !utf8.Valid(cell) {
			return fmt.Sprintf(`not UTF-8: byte \x%02x in column %q`, cell[invalidUTF8(cell)], c.header[i])
		}
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, c.names[i]...)
		c.out = AppendString(c.out, cell)
		start = end
	}
	c.out = append(c.out, '}')
	if len(c.out) > r.max {
		return fmt.Sprintf("row is larger than the limit of %s", size(r.max))
	}
	return ""
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// The places inside a record.
const (
	cellStart = iota
	cellPlain
	cellQuoted
	cellQuote   // behind a quote inside a quoted cell: its end or half of an escaped quote
	cellQuoteCR // behind a quote and a carriage return
)

// record reads one record into cells and ends; ok is false at the end of the file. A text says what is wrong with the
// record: then reading stands behind the line on which it began.
func (r *Reader) record() (bad string, ok bool) {
	in, c := r.in, &r.csv
	c.cells, c.ends, c.extra, c.quoted = c.cells[:0], c.ends[:0], 0, false
	if !in.fill() {
		return "", false
	}
	in.startHold()
	place, over := cellStart, false
	for in.fill() {
		n, end, msg := c.feed(in.window(), &place)
		in.advance(n)
		if msg != "" {
			return r.skipLine(msg, over), true
		}
		if over = over || len(in.held()) > r.max; over {
			in.startHold() // forget what was read
			c.cells, c.ends = c.cells[:0], c.ends[:0]
		}
		if end {
			return r.tooLargeRecord(over), true
		}
	}
	if in.readErr() != nil {
		return "", false // what was read of the record may not be all of it
	}
	if place == cellQuoted {
		return r.skipLine("a quote is opened and never closed", over), true
	}
	if place == cellPlain {
		c.cells = bytes.TrimSuffix(c.cells, []byte{'\r'})
	}
	c.endCell()
	return r.tooLargeRecord(over), true
}

func (r *Reader) tooLargeRecord(over bool) string {
	if over {
		return fmt.Sprintf("row is larger than the limit of %s", size(r.max))
	}
	return ""
}

// feed reads on in b. It returns the bytes read, whether the record ends there, and what is wrong if something is.
func (c *csvState) feed(b []byte, place *int) (n int, end bool, bad string) {
	for i, ch := range b {
		switch *place {
		case cellStart, cellPlain:
			switch {
			case ch == ',':
				c.endCell()
				*place = cellStart
			case ch == '\n':
				if *place == cellPlain {
					c.cells = bytes.TrimSuffix(c.cells, []byte{'\r'})
				}
				c.endCell()
				return i + 1, true, ""
			case ch == '"' && *place == cellStart:
				*place, c.quoted = cellQuoted, true
			case ch == '"':
				return i, false, "a quote inside a cell that does not begin with one; quote the cell and double the quote"
			default:
				c.cells = append(c.cells, ch)
				*place = cellPlain
			}
		case cellQuoted:
			if ch == '"' {
				*place = cellQuote
			} else {
				c.cells = append(c.cells, ch)
			}
		case cellQuote:
			switch ch {
			case '"':
				c.cells = append(c.cells, ch)
				*place = cellQuoted
			case ',':
				c.endCell()
				*place = cellStart
			case '\n':
				c.endCell()
				return i + 1, true, ""
			case '\r':
				*place = cellQuoteCR
			default:
				return i, false, fmt.Sprintf("%q behind the closing quote of a cell; double a quote inside quotes", rune(ch))
			}
		case cellQuoteCR:
			if ch != '\n' {
				return i, false, "a carriage return behind the closing quote of a cell"
			}
			c.endCell()
			return i + 1, true, ""
		}
	}
	return len(b), false, ""
}

func (c *csvState) endCell() {
	if len(c.ends) == maxColumns {
		c.extra++
		return
	}
	c.ends = append(c.ends, len(c.cells))
}

// skipLine goes behind the line on which the bad record began, and returns msg, perhaps with more to say.
func (r *Reader) skipLine(msg string, over bool) string {
	in := r.in
	if i := bytes.IndexByte(in.held(), '\n'); i >= 0 && !over {
		if err := in.back(in.hold + i + 1); err == nil {
			return msg
		}
		msg += "; too many rows are damaged to look for sound ones inside it"
	}
	for in.fill() { // still on its first line, or its beginning is out of the window: the line that ends next
		w := in.window()
		if i := bytes.IndexByte(w, '\n'); i >= 0 {
			in.advance(i + 1)
			break
		}
		in.advance(len(w))
		in.startHold()
	}
	return msg
}

// AppendString appends s as a JSON string. Nothing but quotes, backslashes and control characters is escaped.
func AppendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		if j := strings.IndexByte("\"\\\b\f\n\r\t", c); j >= 0 {
			dst = append(dst, '\\', `"\bfnrt`[j])
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}

const hex = "0123456789abcdef"
