package rows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// NumberDigits is the width of a row number in a key. It is fixed, so that key order is row order whatever the size of
// the file: 9,999,999,999 rows are the most.
const NumberDigits = 10

const maxNumber = 9_999_999_999

// A Path leads from a row to one of its fields: names of members, or indexes of array elements, one inside the other.
type Path []string

func (p Path) String() string {
	parts := make([]string, len(p))
	for i, s := range p {
		parts[i] = strings.NewReplacer(`\`, `\\`, `.`, `\.`, `,`, `\,`).Replace(s)
	}
	return strings.Join(parts, ".")
}

// ParsePath reads a dotted path. A backslash takes the next character as it is, so \. and \, stand for a dot and a
// comma in a name.
func ParsePath(s string) (Path, error) {
	p, err := parsePaths(s)
	if err == nil && len(p) > 1 {
		return nil, fmt.Errorf("%q names several fields where one is wanted", s)
	}
	if err != nil {
		return nil, err
	}
	return p[0], nil
}

func parsePaths(s string) ([]Path, error) {
	paths := []Path{nil}
	var name strings.Builder
	flush := func() error {
		if name.Len() == 0 {
			return fmt.Errorf("%q has an empty field name", s)
		}
		last := len(paths) - 1
		paths[last] = append(paths[last], name.String())
		name.Reset()
		return nil
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			if i++; i == len(s) {
				return nil, fmt.Errorf("%q ends with a backslash", s)
			}
			name.WriteByte(s[i])
		case '.', ',':
			if err := flush(); err != nil {
				return nil, err
			}
			if c == ',' {
				paths = append(paths, nil)
			}
		default:
			name.WriteByte(c)
		}
	}
	return paths, flush()
}

// A Key says how a row's key is made: from fields, from the row's number ("#"), or from several of these.
type Key struct {
	paths []Path // nil: the row number
}

// ParseKey reads FIELD[,FIELD] or '#'.
func ParseKey(s string) (Key, error) {
	paths, err := parsePaths(s)
	for i, p := range paths {
		if len(p) == 1 && p[0] == "#" {
			paths[i] = nil
		}
	}
	return Key{paths}, err
}

// Bind fits the key to a CSV header: each of its names is the name of one column, dots and all.
func (k Key) Bind(header []string) error {
	for i, p := range k.paths {
		if p == nil {
			continue
		}
		bound, err := p.Bind(header)
		if err != nil {
			return err
		}
		k.paths[i] = bound
	}
	return nil
}

// Bind fits a path to a CSV header.
func (p Path) Bind(header []string) (Path, error) {
	name, n := strings.Join(p, "."), 0
	for _, h := range header {
		if h == name {
			n++
		}
	}
	switch n {
	case 1:
		return Path{name}, nil
	case 0:
		return nil, fmt.Errorf("the header has no column %q; it has %s", name, nameList(header))
	}
	return nil, fmt.Errorf("the header has %d columns %q; a key must name one", n, name)
}

// nameList lists the first few names.
func nameList(names []string) string {
	const most = 20
	q := make([]string, 0, most+1)
	for i, n := range names {
		if i == most {
			q = append(q, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		q = append(q, strconv.Quote(n))
	}
	return strings.Join(q, ", ")
}

// Append appends the row's key. One field is taken as it is: the text of a string, the spelling of a number. Several
// are joined with |, a | or \ inside them escaped by \, so that different rows cannot get the same key.
func (k Key) Append(dst []byte, r Row) ([]byte, error) {
	for i, p := range k.paths {
		if i > 0 {
			dst = append(dst, '|')
		}
		if p == nil {
			if r.Number > maxNumber {
				return dst, fmt.Errorf("row number %d has more than %d digits", r.Number, NumberDigits)
			}
			dst = fmt.Appendf(dst, "%0*d", NumberDigits, r.Number)
			continue
		}
		text, err := Text(r.JSON, p)
		if err != nil {
			return dst, err
		}
		if len(k.paths) == 1 {
			return append(dst, text...), nil
		}
		for _, c := range text {
			if c == '|' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
	}
	return dst, nil
}

// Text returns what a field holds as text: a string's text, otherwise the spelling of a number, true or false.
func Text(row []byte, p Path) ([]byte, error) {
	raw, err := Find(row, p)
	if err != nil {
		return nil, err
	}
	switch raw[0] {
	case '"':
		return unquote(raw), nil
	case '{', '[':
		return nil, fmt.Errorf("field %q is %s; a string or number is wanted", p, kind(raw))
	case 'n':
		return nil, fmt.Errorf("field %q is null", p)
	}
	return raw, nil
}

// unquote returns the text of a JSON string.
func unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return raw // raw is valid, so this does not happen
	}
	return []byte(s)
}

func kind(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	}
	return "a number"
}

// Find returns the bytes of the field of a valid JSON row. A member that is there twice is an error, as it has no one
// value.
func Find(row []byte, p Path) ([]byte, error) {
	v := row
	for i, name := range p {
		var next []byte
		var err error
		switch v[0] {
		case '{':
			next, err = findMember(v, name)
		case '[':
			next = findElement(v, name)
		}
		if err != nil {
			return nil, fmt.Errorf("field %q %w", p[:i+1], err)
		}
		if next == nil {
			return nil, missing(row, v, p, i)
		}
		v = next
	}
	return v, nil
}

// missing says which part of the path is not there, and what is.
func missing(row, v []byte, p Path, i int) error {
	if v[0] == '{' {
		var names []string
		for k := range Members(v) {
			names = append(names, string(unquote(k)))
		}
		if len(names) == 0 {
			return fmt.Errorf("field %q is missing; the object is empty", p[:i+1])
		}
		return fmt.Errorf("field %q is missing; there are %s", p[:i+1], nameList(names))
	}
	if i == 0 {
		return fmt.Errorf("field %q is missing: the row is %s, not an object", p, kind(row))
	}
	return fmt.Errorf("field %q is missing: %q is %s", p[:i+1], p[:i], kind(v))
}

var errTwice = errors.New("is there twice")

func findMember(obj []byte, name string) (found []byte, err error) {
	for k, v := range Members(obj) {
		if string(unquote(k)) != name {
			continue
		}
		if found != nil {
			return nil, errTwice
		}
		found = v
	}
	return found, nil
}

func findElement(arr []byte, name string) []byte {
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 {
		return nil
	}
	i := 1
	for {
		v, end, ok := cutValue(arr, skipSpace(arr, i))
		if !ok || len(v) == 0 {
			return nil
		}
		if n == 0 {
			return v
		}
		n--
		if i = skipSpace(arr, end); i >= len(arr) || arr[i] != ',' {
			return nil
		}
		i++
	}
}

// Members yields the members of a valid JSON object in their order: the name as a JSON string and the value's bytes.
// Both alias obj.
func Members(obj []byte) func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		i := 1
		for {
			name, end, ok := cutValue(obj, skipSpace(obj, i))
			if !ok || len(name) == 0 {
				return
			}
			i = skipSpace(obj, end) // the colon
			value, end, ok := cutValue(obj, skipSpace(obj, i+1))
			if !ok || !yield(name, value) {
				return
			}
			if i = skipSpace(obj, end); i >= len(obj) || obj[i] != ',' {
				return
			}
			i++
		}
	}
}

// Unquote returns the text of a valid JSON string.
func Unquote(raw []byte) []byte { return unquote(raw) }
