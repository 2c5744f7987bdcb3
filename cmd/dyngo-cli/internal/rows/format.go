package rows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// A Format is the form of a data file.
type Format uint8

// The formats. Their names are what users type and what positions hold.
const (
	Auto      Format = iota
	JSON             // one array, or values one after the other
	JSONLines        // one value a line
	GeoJSON          // the features of a FeatureCollection
	CSV              // RFC 4180 with a header line
)

var formatNames = [...]string{"auto", "json", "jsonl", "geojson", "csv"}

func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

// ParseFormat is the inverse of String.
func ParseFormat(s string) (Format, error) {
	for i, name := range formatNames {
		if s == name {
			return Format(i), nil
		}
	}
	return Auto, fmt.Errorf("format %q is none of %s", s, strings.Join(formatNames[:], ", "))
}

// MarshalText and UnmarshalText let a Position be kept as JSON.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (f *Format) UnmarshalText(b []byte) (err error) {
	*f, err = ParseFormat(string(b))
	return err
}

// detectBytes is how much of a file detect looks at.
const detectBytes = 64 << 10

// formatOfName returns the format that a name's ending stands for, Auto if the content must tell.
func formatOfName(name string) Format {
	switch strings.ToLower(path.Ext(name)) {
	case ".csv":
		return CSV
	case ".jsonl", ".ndjson":
		return JSONLines
	}
	return Auto
}

// detect finds the format from the first bytes, and the name's ending where they don't tell.
func detect(name string, head []byte) Format {
	ext := strings.ToLower(path.Ext(name))
	t := bytes.TrimLeft(head, " \t\r\n")
	switch {
	case len(t) == 0:
		return JSON
	case t[0] == '{' && isCollection(t):
		return GeoJSON
	case t[0] == '{':
		line, _, more := bytes.Cut(t, newline)
		if more && json.Valid(line) {
			return JSONLines
		}
		return JSON
	case t[0] == '[', ext == ".json", ext == ".geojson":
		return JSON
	}
	return CSV
}

// isCollection says whether the object that b begins with is a GeoJSON FeatureCollection, as far as b shows.
func isCollection(b []byte) bool {
	i := 1
	for {
		i = skipSpace(b, i)
		if i < len(b) && b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		key, n, ok := cutValue(b, i)
		if !ok || key[0] != '"' {
			return false
		}
		if i = skipSpace(b, n); i >= len(b) || b[i] != ':' {
			return false
		}
		i = skipSpace(b, i+1)
		if string(key) == `"features"` && i < len(b) && b[i] == '[' {
			return true
		}
		val, n, ok := cutValue(b, i)
		if !ok {
			return false
		}
		if string(key) == `"type"` {
			return string(val) == `"FeatureCollection"`
		}
		i = n
	}
}

// cutValue returns the JSON value that starts at b[i] and the index behind it.
func cutValue(b []byte, i int) (val []byte, end int, ok bool) {
	var room [32]byte // deeper values take memory
	s := scanner{stack: room[:0]}
	n, done, err := s.scan(b[min(i, len(b)):])
	if !done || err != nil || n == 0 {
		return nil, 0, false
	}
	return b[i : i+n], i + n, true
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
