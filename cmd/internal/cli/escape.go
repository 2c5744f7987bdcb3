package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// EscapeBytes writes b for tables and CSV: text as it is, every other byte as \xNN. A backslash
// before an x becomes \x5c, so unescapeBytes always gives back exactly b.
func EscapeBytes(b []byte) string {
	if plainText(b) && !bytes.Contains(b, []byte(`\x`)) {
		return string(b)
	}
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if printable(r, n) && !bytes.HasPrefix(b, []byte(`\x`)) {
			s.Write(b[:n])
		} else {
			for _, c := range b[:n] {
				s.Write([]byte{'\\', 'x', hexDigits[c>>4], hexDigits[c&15]})
			}
		}
		b = b[n:]
	}
	return s.String()
}

// unescapeBytes is the inverse of escapeBytes. It accepts any text; only \x that two hex digits
// don't follow is an error.
func unescapeBytes(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 >= len(s) || s[i+1] != 'x' {
			out = append(out, s[i])
			continue
		}
		if i+3 >= len(s) || !isHex(s[i+2]) || !isHex(s[i+3]) {
			return nil, fmt.Errorf(`%q at byte %d: \x needs two hex digits`, s, i)
		}
		out = append(out, unhex(s[i+2])<<4|unhex(s[i+3]))
		i += 3
	}
	return out, nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// printable reports whether the rune of n bytes may go to a terminal as it is: not a control
// character (C0, DEL, C1), not one that reorders the text around it, and valid UTF-8.
func printable(r rune, n int) bool {
	if r == utf8.RuneError && n <= 1 || unicode.IsControl(r) {
		return false
	}
	return r != '\u2028' && r != '\u2029' && !unicode.Is(unicode.Bidi_Control, r)
}

// plainText reports whether b can stand in a table cell as it is.
func plainText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if !printable(r, n) {
			return false
		}
		b = b[n:]
	}
	return true
}

// IsText reports whether b is a JSON string without loss and without surprise: valid UTF-8 with no
// control characters but tab and line ends.
func IsText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' {
			return false
		}
	}
	return true
}

// AppendJSONKey appends a key as JSON: a string if it is text, else {"$b64": …}.
func AppendJSONKey(dst, key []byte) []byte {
	if IsText(key) {
		return AppendJSONString(dst, string(key))
	}
	dst = append(dst, `{"$b64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, key)
	return append(dst, `"}`...)
}

// AppendJSONValue appends a value as JSON: the JSON itself, on one line, if the bytes are JSON; a
// string if they are text; else {"$b64": …}.
func AppendJSONValue(dst, value []byte) []byte {
	if utf8.Valid(value) && json.Valid(value) {
		buf := bytes.NewBuffer(dst)
		if err := json.Compact(buf, value); err == nil {
			return buf.Bytes()
		}
	}
	return AppendJSONKey(dst, value)
}

// AppendJSONString appends s as a JSON string, leaving <, > and & readable.
func AppendJSONString(dst []byte, s string) []byte {
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes, and a bytes.Buffer takes everything
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
