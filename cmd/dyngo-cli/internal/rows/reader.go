package rows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// DefaultMaxRowBytes is the longest row unless Options say otherwise.
const DefaultMaxRowBytes = 16 << 20

// A Row is one row of a file.
type Row struct {
	Number int64  // place among the file's rows, from 1, bad ones counted
	Line   int64  // line on which it starts, from 1
	JSON   []byte // valid JSON; of the reader, until the next call of Next
}

// A BadRow says why a row could not be used. Reading goes on behind it.
type BadRow struct {
	Line int64
	Row  int64 // its Number; 0 if what is wrong lies between rows
	Msg  string
}

func (e *BadRow) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Broken says why no further rows can be found in the file. Rows returned before are sound.
type Broken struct {
	Line int64
	Row  int64 // the Number of the row that is damaged; 0 if what is wrong lies between rows
	Msg  string
}

func (e *Broken) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
}

// ErrChanged is returned by NewReader when the file differs from the one that Options.From was taken in.
var ErrChanged = errors.New("the part that was read before has changed")

// Options choose how a file is read. The zero value works.
type Options struct {
	// Name is the file's name: its ending helps to tell the format.
	Name string
	// Format is the file's format; Auto looks at the name and the first 64 KiB.
	Format Format
	// MaxRowBytes bounds a row, in the file and as JSON, and so the reader's memory (about three times as much).
	// 0 means DefaultMaxRowBytes.
	MaxRowBytes int
	// From lets reading go on behind a position of an earlier reader of the same file. The bytes before it are read
	// and compared by checksum: ErrChanged.
	From *Position
}

// A Position is a place between two rows, from which reading can go on.
type Position struct {
	Format Format   `json:"format"`
	Offset int64    `json:"offset"` // bytes before it
	Line   int64    `json:"line"`
	Row    int64    `json:"row"`   // rows before it, bad ones counted
	State  string   `json:"state"` // what may follow here
	CRC    uint32   `json:"crc32c"`
	Header []string `json:"header,omitempty"` // CSV column names
}

// A Reader returns the rows of one file in order.
type Reader struct {
	in     *input
	format Format
	max    int
	row    int64
	next   func() (Row, error)
	state  state // of the JSON formats
	scan   scanner
	indent indent
	csv    csvState
	final  error // returned for ever
}

// NewReader reads the beginning of the file and finds its format; a CSV file's header is read. The error is *Broken,
// ErrChanged or what src returned.
func NewReader(src io.Reader, o Options) (*Reader, error) {
	r := &Reader{format: o.Format, max: o.MaxRowBytes}
	if r.max == 0 {
		r.max = DefaultMaxRowBytes
	}
	r.in = newInput(src, r.max)
	if o.From != nil {
		if err := r.resume(o.From); err != nil {
			return nil, err
		}
		return r, nil
	}
	n := detectBytes
	if r.format == Auto {
		r.format = formatOfName(o.Name)
	}
	if r.format != Auto {
		n = 3 // a pipe may deliver more only later
	}
	head := r.in.head(n)
	if err := r.in.readErr(); err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		r.in.pos += 3
		head = head[3:]
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return nil, &Broken{Line: 1, Msg: "the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"}
	}
	if r.format == Auto {
		r.format = detect(o.Name, head)
	}
	if len(bytes.TrimSpace(head)) == 0 && r.in.err != nil && r.format != JSONLines {
		return nil, &Broken{Msg: "the file is empty"}
	}
	r.state = stateBegin
	r.indent = indent{ok: true}
	r.start()
	if r.format == CSV {
		if err := r.readHeader(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Reader) start() {
	switch r.format {
	case JSONLines:
		r.next = r.nextLine
	case CSV:
		r.next = r.nextCSV
	default:
		r.next = r.nextJSON
	}
}

func (r *Reader) resume(p *Position) error {
	st, ok := parseState(p.State)
	if !ok || p.Format == Auto || p.Format > CSV || p.Format == CSV && len(p.Header) == 0 {
		return fmt.Errorf("position %+v is not one of this program's", *p)
	}
	crc, ok := r.in.skipPrefix(p.Offset)
	if err := r.in.readErr(); err != nil {
		return err
	}
	if !ok || crc != p.CRC {
		return ErrChanged
	}
	r.format, r.in.line, r.row, r.state = p.Format, p.Line, p.Row, st
	r.start()
	if r.format == CSV {
		r.setHeader(p.Header)
	}
	return nil
}

// Format is the format found or given.
func (r *Reader) Format() Format { return r.format }

// Header returns the column names of a CSV file, nil for the other formats.
func (r *Reader) Header() []string { return r.csv.header }

// Offset is the number of bytes read so far.
func (r *Reader) Offset() int64 { return r.in.offset() }

// Position returns the place behind the row or bad row returned last.
func (r *Reader) Position() Position {
	r.in.sum(r.in.pos)
	return Position{
		Format: r.format, Offset: r.in.offset(), Line: r.in.line, Row: r.row,
		State: r.state.String(), CRC: r.in.crc, Header: r.csv.header,
	}
}

// Next returns the next row. The error is *BadRow if this row cannot be used (call again for the next one); all other
// errors are final: io.EOF at the end of the file, *Broken, or what the source returned.
func (r *Reader) Next() (Row, error) {
	if r.final != nil {
		return Row{}, r.final
	}
	row, err := r.next()
	r.in.drop()
	if err != nil {
		var bad *BadRow
		if errors.As(err, &bad) {
			return Row{}, err
		}
		if rerr := r.in.readErr(); rerr != nil {
			err = rerr // the end that the parser saw was none of the file's
		}
		r.final = err
		return Row{}, err
	}
	return row, nil
}

// nextLine returns the next line of JSON lines that is not blank.
func (r *Reader) nextLine() (Row, error) {
	for {
		line := r.in.line
		b, over, ok := r.readLine()
		if !ok {
			return Row{}, io.EOF
		}
		if over {
			r.row++
			return Row{}, r.tooLarge(line)
		}
		if b = bytes.TrimSpace(b); len(b) == 0 {
			continue
		}
		r.row++
		return r.checked(b, line)
	}
}

// readLine returns the next line with its end; over says that it was too long and is left out.
func (r *Reader) readLine() (b []byte, over, ok bool) {
	if !r.in.fill() {
		return nil, false, false
	}
	r.in.startHold()
	for r.in.fill() {
		w := r.in.window()
		i := bytes.IndexByte(w, '\n')
		n := i + 1
		if i < 0 {
			n = len(w)
		}
		r.in.advance(n)
		over = over || len(r.in.held()) > r.max+2 // 2: the line end
		if over {
			r.in.startHold() // forget what was read
		}
		if i >= 0 {
			return r.in.held(), over, true
		}
	}
	return r.in.held(), over, r.in.readErr() == nil
}

func (r *Reader) tooLarge(line int64) *BadRow {
	return &BadRow{Line: line, Row: r.row, Msg: fmt.Sprintf("row is larger than the limit of %s", size(r.max))}
}

func size(n int) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// checked returns b, which starts on line, as the current row if it is valid JSON in UTF-8.
func (r *Reader) checked(b []byte, line int64) (Row, error) {
	if !utf8.Valid(b) {
		at := invalidUTF8(b)
		return Row{}, &BadRow{Line: lineAt(b, line, at), Row: r.row,
			Msg: fmt.Sprintf(`not UTF-8: byte \x%02x`, b[at])}
	}
	if json.Valid(b) {
		return Row{Number: r.row, Line: line, JSON: b}, nil
	}
	bad := &BadRow{Line: line, Row: r.row, Msg: "not valid JSON"}
	var raw json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(b, &raw); errors.As(err, &syntax) {
		bad.Line = lineAt(b, line, int(min(syntax.Offset, int64(len(b)))))
		bad.Msg += ": " + strings.TrimPrefix(syntax.Error(), "json: ")
	}
	return Row{}, bad
}

func lineAt(b []byte, line int64, at int) int64 {
	return line + int64(bytes.Count(b[:at], newline))
}

// invalidUTF8 returns the place of the first byte that is not UTF-8.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		c, n := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(b) - 1
}
