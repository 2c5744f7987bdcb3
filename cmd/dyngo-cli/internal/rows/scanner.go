package rows

import "errors"

// maxDepth is the deepest nesting of a row, as in encoding/json.
const maxDepth = 10000

var (
	errMismatch = errors.New("a closing bracket without its opening one")
	errDepth    = errors.New("nested deeper than 10000 levels")
)

// A scanner finds the end of one JSON value by its brackets and quotes alone, in pieces of any size. Whether the value
// is valid JSON is checked when it is whole: so a row with a mistake inside still has an end.
type scanner struct {
	stack   []byte // closing brackets to come
	begun   bool
	literal bool // number, true, false, null: ends before a delimiter
	str     bool
	esc     bool
}

func (s *scanner) reset() { *s = scanner{stack: s.stack[:0]} }

// scan reads on in b. It returns how many bytes belong to the value and whether it is whole. After errMismatch, b[n] is
// the bracket that belongs to no opening one of this value.
func (s *scanner) scan(b []byte) (n int, done bool, err error) {
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case s.str:
			switch {
			case s.esc:
				s.esc = false
			case c == '\\':
				s.esc = true
			case c == '"':
				s.str = false
				if len(s.stack) == 0 {
					return i + 1, true, nil
				}
			}
			continue
		case s.literal:
			if isDelimiter(c) {
				return i, true, nil
			}
			continue
		}
		switch c {
		case '"':
			s.str = true
		case '{', '[':
			if len(s.stack) == maxDepth {
				return i, false, errDepth
			}
			s.stack = append(s.stack, c+2) // '}' and ']' follow two behind their openers
		case '}', ']':
			if !s.close(c) {
				return i, false, errMismatch
			}
			if len(s.stack) == 0 {
				return i + 1, true, nil
			}
		default:
			if !s.begun {
				if isDelimiter(c) {
					return i, true, nil // nothing here; the caller sees an empty value
				}
				s.literal = true
			}
		}
		s.begun = true
	}
	return len(b), false, nil
}

// close pops the stack down to the opening bracket of c. Unmatched ones above it are popped too: the row is bad, but its
// end is known.
func (s *scanner) close(c byte) bool {
	for i := len(s.stack) - 1; i >= 0; i-- {
		if s.stack[i] == c {
			s.stack = s.stack[:i]
			return true
		}
	}
	return false
}

func isDelimiter(c byte) bool {
	return isSpace(c) || c == ',' || c == ':' || c == ']' || c == '}' || c == '[' || c == '{' || c == '"'
}
