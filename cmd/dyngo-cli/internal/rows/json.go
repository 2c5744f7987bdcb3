package rows

import (
	"fmt"
	"io"
)

// A state says what may follow at a place of a JSON file.
type state uint8

const (
	stateBegin   state = iota // the file's first value
	stateSeq                  // a further value of a sequence, or the end
	stateFirst                // inside the array of rows: a row or the closing bracket
	stateValue                // behind a comma: a row
	stateComma                // behind a row: a comma or the closing bracket
	stateMembers              // inside a collection, before its features: a member or the closing brace
	stateTail                 // the same behind its features
	stateEnd                  // nothing but white space
)

var stateNames = [...]string{"begin", "sequence", "first", "value", "comma", "members", "tail", "end"}

func (s state) String() string { return stateNames[s] }

func parseState(name string) (state, bool) {
	for i, n := range stateNames {
		if n == name {
			return state(i), true
		}
	}
	return 0, false
}

// An indent is the white space between the start of a line and the next byte; ok if there is nothing else.
type indent struct {
	ok    bool
	bytes int
}

// skip passes over white space and returns the next byte without reading it; false at the end of the file.
func (r *Reader) skip() (byte, bool) {
	for r.in.fill() {
		w := r.in.window()
		i := 0
		for i < len(w) && isSpace(w[i]) {
			if w[i] == '\n' {
				r.indent = indent{ok: true}
			} else {
				r.indent.bytes++
			}
			i++
		}
		r.in.advance(i)
		if i < len(w) {
			return w[i], true
		}
	}
	return 0, false
}

// take reads the byte that skip has shown.
func (r *Reader) take() {
	r.in.advance(1)
	r.indent.ok = false
}

func (r *Reader) broken(format string, args ...any) *Broken {
	return &Broken{Line: r.in.line, Msg: fmt.Sprintf(format, args...)}
}

// nextJSON returns the next row of a JSON or GeoJSON file.
func (r *Reader) nextJSON() (Row, error) {
	for {
		c, ok := r.skip()
		if !ok {
			return Row{}, r.atEnd()
		}
		switch r.state {
		case stateBegin:
			if err := r.begin(c); err != nil {
				return Row{}, err
			}
		case stateSeq:
			return r.value()
		case stateFirst, stateValue:
			if c == ']' || c == ',' {
				if err := r.noRow(c); err != nil {
					return Row{}, err
				}
				continue
			}
			return r.value()
		case stateComma:
			if err := r.separator(c); err != nil {
				return Row{}, err
			}
		case stateMembers, stateTail:
			if err := r.member(c); err != nil {
				return Row{}, err
			}
		case stateEnd:
			return Row{}, r.broken("text behind the end of the data: %q", c)
		}
	}
}

// atEnd judges the end of the file.
func (r *Reader) atEnd() error {
	switch {
	case r.state == stateSeq, r.state == stateEnd:
		return io.EOF
	case r.state == stateBegin:
		return &Broken{Msg: "the file is empty"}
	case r.state == stateMembers, r.state == stateTail:
		return r.broken("the file ends inside the collection: it was cut off")
	}
	return r.broken("the file ends inside the array of rows: it was cut off")
}

// begin sees the first byte of the file.
func (r *Reader) begin(c byte) error {
	switch {
	case r.format == GeoJSON && c == '{':
		r.take()
		r.state = stateMembers
	case r.format == GeoJSON:
		return r.broken("a GeoJSON file begins with {, this one with %q", c)
	case c == '[':
		r.take()
		r.state = stateFirst
	default:
		r.state = stateSeq
	}
	return nil
}

// noRow sees a closing bracket or a comma where a row could be.
func (r *Reader) noRow(c byte) error {
	var err error
	if r.state == stateValue || c == ',' {
		err = &BadRow{Line: r.in.line, Msg: fmt.Sprintf("no row between a comma and %q", c)}
	}
	if c == ',' {
		r.take()
		r.state = stateValue
	} else {
		r.endArray()
	}
	return err
}

// separator sees the byte behind a row of an array.
func (r *Reader) separator(c byte) error {
	switch c {
	case ',':
		r.take()
		r.state = stateValue
	case ']':
		r.endArray()
	default:
		r.state = stateValue
		return &BadRow{Line: r.in.line, Msg: fmt.Sprintf("no comma between two rows, before %q", c)}
	}
	return nil
}

func (r *Reader) endArray() {
	r.take()
	r.state = stateEnd
	if r.format == GeoJSON {
		r.state = stateTail
	}
}

// member reads one member of a collection, or finds the features.
func (r *Reader) member(c byte) error {
	switch c {
	case ',':
		r.take()
		return nil
	case '}':
		if r.state == stateMembers {
			return r.broken(`the object has no array "features": no GeoJSON collection`)
		}
		r.take()
		r.state = stateEnd
		return nil
	case '"':
	default:
		return r.broken("%q where a member of the collection should be", c)
	}
	r.in.startHold()
	if err := r.pass(true); err != nil {
		return err
	}
	features := string(r.in.held()) == `"features"`
	r.in.drop()
	if c, ok := r.skip(); !ok || c != ':' {
		return r.broken("no colon behind the name of a member")
	}
	r.take()
	c, ok := r.skip()
	switch {
	case !ok:
		return r.atEnd()
	case !features:
		return r.pass(false)
	case c != '[':
		return r.broken(`"features" is no array`)
	}
	r.take()
	r.state = stateFirst
	return nil
}

// pass reads over one value that is no row; keep bounds it like a name.
func (r *Reader) pass(keep bool) error {
	r.scan.reset()
	for r.in.fill() {
		n, done, err := r.scan.scan(r.in.window())
		r.in.advance(n)
		r.indent.ok = false
		switch {
		case err != nil:
			return r.broken("%v", err)
		case done:
			return nil
		case keep && len(r.in.held()) > r.max:
			return r.broken("a name longer than the limit of %s", size(r.max))
		}
	}
	return r.atEnd()
}

// value reads the row that starts here.
func (r *Reader) value() (Row, error) {
	in, at, after := r.in, r.indent, stateComma
	if r.state == stateSeq {
		after = stateSeq
	}
	first := in.window()[0]
	line, over, whole := in.line, false, false
	r.row++
	r.scan.reset()
	in.startHold()
	var cause error
	for cause == nil && !whole && in.fill() {
		n, done, err := r.scan.scan(in.window())
		in.advance(n)
		cause, whole = err, done
		if over = over || len(in.held()) > r.max; over {
			in.startHold() // forget what was read
		}
	}
	r.indent.ok = false
	if !whole && cause == nil && r.scan.literal && in.readErr() == nil {
		whole = true // a number at the end of the file
	}
	switch {
	case whole && len(in.held()) == 0 && !over:
		return Row{}, r.broken("%q where a row should start", first)
	case whole && over:
		r.state = after
		return Row{}, r.tooLarge(line)
	case whole:
		r.state = after
		return r.checked(in.held(), line)
	}
	return Row{}, r.lost(line, at, over, after, cause)
}

// lost looks for the next row behind one whose end cannot be found: at the next line that starts like this one did.
func (r *Reader) lost(line int64, at indent, over bool, after state, cause error) error {
	what := "the file ends inside this row: it was cut off, or a quote or bracket is missing"
	if cause != nil {
		what = "this row's brackets do not match: " + cause.Error()
	}
	in := r.in
	if over || !at.ok || in.readErr() != nil {
		return &Broken{Line: line, Row: r.row, Msg: what}
	}
	for i := in.hold; i-in.hold <= r.max; i++ {
		for i+1+at.bytes >= in.end && in.err == nil {
			i -= in.hold // more may move the window
			in.more()
			i += in.hold
		}
		if i+1+at.bytes >= in.end {
			break
		}
		if in.startsLike(i, at.bytes) {
			if err := in.back(i + 1 + at.bytes); err != nil {
				return &Broken{Line: line, Row: r.row, Msg: what + "; " + err.Error()}
			}
			r.indent = at
			if after == stateComma {
				after = stateValue
			}
			r.state = after
			return &BadRow{Line: line, Row: r.row, Msg: what}
		}
	}
	return &Broken{Line: line, Row: r.row, Msg: what}
}

// startsLike says whether a line with n bytes of white space and then an opening brace follows the line end at buf[i].
func (in *input) startsLike(i, n int) bool {
	b := in.buf[i:in.end]
	if len(b) < n+2 || b[0] != '\n' || b[n+1] != '{' {
		return false
	}
	for _, c := range b[1 : n+1] {
		if !isSpace(c) {
			return false
		}
	}
	return true
}
