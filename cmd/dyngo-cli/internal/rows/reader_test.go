package rows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// show reads all of a file and writes one line for each thing found: rows as "number@line json".
func show(t *testing.T, src string, o Options) string {
	t.Helper()
	var out strings.Builder
	r, err := NewReader(strings.NewReader(src), o)
	if err != nil {
		return "new: " + err.Error() + "\n"
	}
	fmt.Fprintf(&out, "%s\n", r.Format())
	for {
		row, err := r.Next()
		var bad *BadRow
		switch {
		case errors.As(err, &bad):
			fmt.Fprintf(&out, "bad %d: %v\n", bad.Row, err)
		case err == io.EOF:
			return out.String()
		case err != nil:
			fmt.Fprintf(&out, "end: %v\n", err)
			return out.String()
		default:
			fmt.Fprintf(&out, "%d@%d %s\n", row.Number, row.Line, row.JSON)
		}
	}
}

func TestReader(t *testing.T) {
	tests := []struct{ name, file, src, want string }{
		{"array", "a.json", `[{"a":1},{"a":2}]`, "json\n1@1 {\"a\":1}\n2@1 {\"a\":2}\n"},
		{"spelling kept", "a.json", `[ {"b" : 1.50e+01, "a":"\u00e9"} , 1e2]`,
			"json\n1@1 {\"b\" : 1.50e+01, \"a\":\"\\u00e9\"}\n2@1 1e2\n"},
		{"pretty rows keep their line breaks", "a.json", "[\n  {\n    \"a\":1\n  },\n  {\n    \"a\":2\n  }\n]\n",
			"json\n1@2 {\n    \"a\":1\n  }\n2@5 {\n    \"a\":2\n  }\n"},
		{"brackets in strings", "a.json", `[{"a":"]}\"["},{"a":"\\"}]`,
			"json\n1@1 {\"a\":\"]}\\\"[\"}\n2@1 {\"a\":\"\\\\\"}\n"},
		{"empty array", "a.json", " [ ]\n", "json\n"},
		{"scalars", "a.json", `[1,"x",null,true,[2]]`, "json\n1@1 1\n2@1 \"x\"\n3@1 null\n4@1 true\n5@1 [2]\n"},
		{"byte order mark, CRLF", "a.json", "\xef\xbb\xbf[\r\n{\"a\":1},\r\n{\"a\":2}]\r\n",
			"json\n1@2 {\"a\":1}\n2@3 {\"a\":2}\n"},
		{"one object", "a.json", "{\n\"a\":1\n}", "json\n1@1 {\n\"a\":1\n}\n"},
		{"sequence of pretty values", "a.json", "{\n\"a\":1\n}\n{\n\"a\":2\n} 17", "json\n1@1 {\n\"a\":1\n}\n2@4 {\n\"a\":2\n}\n3@6 17\n"},
		{"json name, lines inside", "a.json", "{\"a\":1}\n{\"a\":2}\n", "jsonl\n1@1 {\"a\":1}\n2@2 {\"a\":2}\n"},
		{"syntax error inside a row", "a.json", "[{\"a\":1},\n{\"a\":,},\n{\"a\":3}]",
			"json\n1@1 {\"a\":1}\nbad 2: line 2: not valid JSON: invalid character ',' looking for beginning of value\n3@3 {\"a\":3}\n"},
		{"the line of an error inside a pretty row", "a.json", "[\n{\n\"a\":1,\n\"b\":x\n}\n]",
			"json\nbad 1: line 4: not valid JSON: invalid character 'x' looking for beginning of value\n"},
		{"wrong closing bracket", "a.json", `[{"a":[1,2},{"a":3}]`,
			"json\nbad 1: line 1: not valid JSON: invalid character '}' after array element\n2@1 {\"a\":3}\n"},
		{"missing closing brace, a row a line", "a.json", "[{\"a\":1},\n{\"a\":2,\n{\"a\":3},\n{\"a\":4}]",
			"json\n1@1 {\"a\":1}\nbad 2: line 2: this row's brackets do not match: a closing bracket without its opening one\n3@3 {\"a\":3}\n4@4 {\"a\":4}\n"},
		{"missing quote, a row a line", "a.json", "[\n  {\"a\":\"x},\n  {\"a\":\"y\"},\n  {\"a\":\"z\"}\n]",
			"json\nbad 1: line 2: the file ends inside this row: it was cut off, or a quote or bracket is missing\n2@3 {\"a\":\"y\"}\n3@4 {\"a\":\"z\"}\n"},
		{"missing closing brace on a shared line", "a.json", `[{"a":1},{"a":2,{"a":3}]`,
			"json\n1@1 {\"a\":1}\nend: line 1: this row's brackets do not match: a closing bracket without its opening one\n"},
		{"cut off inside a row", "a.json", "[{\"a\":1},\n{\"a\":2},\n{\"a\"",
			"json\n1@1 {\"a\":1}\n2@2 {\"a\":2}\nend: line 3: the file ends inside this row: it was cut off, or a quote or bracket is missing\n"},
		{"cut off between rows", "a.json", "[{\"a\":1},\n",
			"json\n1@1 {\"a\":1}\nend: line 2: the file ends inside the array of rows: it was cut off\n"},
		{"commas", "a.json", `[1,,2 3,]`, "json\n1@1 1\nbad 0: line 1: no row between a comma and ','\n2@1 2\n" +
			"bad 0: line 1: no comma between two rows, before '3'\n3@1 3\nbad 0: line 1: no row between a comma and ']'\n"},
		{"text behind the array", "a.json", "[1]\nx", "json\n1@1 1\nend: line 2: text behind the end of the data: 'x'\n"},
		{"not UTF-8", "a.json", "[{\"a\":\"\n\xff\"},2]", "json\nbad 1: line 2: not UTF-8: byte \\xff\n2@2 2\n"},
		{"UTF-16", "a.json", "\xff\xfe[\x00", "new: line 1: the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)\n"},
		{"empty", "a.json", " \n", "new: the file is empty\n"},
		{"too large, rows after it are found", "a.json", `["` + strings.Repeat("x", 60) + `",2]`,
			"json\nbad 1: line 1: row is larger than the limit of 40 bytes\n2@1 2\n"},
		{"too large at the end", "a.json", `[1,"` + strings.Repeat("x", 60),
			"json\n1@1 1\nend: line 1: the file ends inside this row: it was cut off, or a quote or bracket is missing\n"},
		{"number at the end of the file", "x", "{} 12", "json\n1@1 {}\n2@1 12\n"},
		{"colon for a row", "a.json", "[:]", "json\nend: line 1: ':' where a row should start\n"},
		{"brace for a row", "a.json", "[}]", "json\nend: line 1: this row's brackets do not match: a closing bracket without its opening one\n"},

		{"lines", "a.jsonl", "{\"a\":1}\n\n [2] \r\nx\n3", "jsonl\n1@1 {\"a\":1}\n2@3 [2]\n" +
			"bad 3: line 4: not valid JSON: invalid character 'x' looking for beginning of value\n4@5 3\n"},
		{"lines cut off", "a.ndjson", "{\"a\":1}\n{\"a\"", "jsonl\n1@1 {\"a\":1}\nbad 2: line 2: not valid JSON: unexpected end of JSON input\n"},
		{"no lines", "a.jsonl", "", "jsonl\n"},
		{"line too large", "a.jsonl", `"` + strings.Repeat("x", 60) + "\"\n2", "jsonl\nbad 1: line 1: row is larger than the limit of 40 bytes\n2@2 2\n"},
		{"line just fits", "a.jsonl", `"` + strings.Repeat("x", 38) + "\"\r\n2", "jsonl\n1@1 \"" + strings.Repeat("x", 38) + "\"\n2@2 2\n"},

		{"features", "a.json", `{"type":"FeatureCollection","bbox":[1,{"a":"]"}],"features":[{"id":1},` + "\n" + `{"id":2}],"x":{"features":[3]}}`,
			"geojson\n1@1 {\"id\":1}\n2@2 {\"id\":2}\n"},
		{"features before the type", "x", `{"features":[{"id":1}],"type":"FeatureCollection"}`, "geojson\n1@1 {\"id\":1}\n"},
		{"features cut off", "a.geojson", `{"type":"FeatureCollection","features":[{"id":1},{"id"`,
			"geojson\n1@1 {\"id\":1}\nend: line 1: the file ends inside this row: it was cut off, or a quote or bracket is missing\n"},
		{"features, collection cut off", "a.geojson", `{"type":"FeatureCollection","features":[{"id":1}],"x":`,
			"geojson\n1@1 {\"id\":1}\nend: line 1: the file ends inside the collection: it was cut off\n"},
		{"features are no array", "a.geojson", `{"type":"FeatureCollection","features":{}}`, "geojson\nend: line 1: \"features\" is no array\n"},
		{"no features", "a.geojson", `{"type":"FeatureCollection"}`, "geojson\nend: line 1: the object has no array \"features\": no GeoJSON collection\n"},
		{"one feature is a row", "a.geojson", `{"type":"Feature","id":1}`, "json\n1@1 {\"type\":\"Feature\",\"id\":1}\n"},

		{"csv", "a.csv", "a,b\n1,x\n2,\n", "csv\n1@2 {\"a\":\"1\",\"b\":\"x\"}\n2@3 {\"a\":\"2\",\"b\":\"\"}\n"},
		{"csv, CRLF, no end", "a.csv", "a,b\r\n1,x\r\n2,y\r", "csv\n1@2 {\"a\":\"1\",\"b\":\"x\"}\n2@3 {\"a\":\"2\",\"b\":\"y\"}\n"},
		{"csv, order, mark, found by content", "x", "\xef\xbb\xbfz,a\n1,x", "csv\n1@2 {\"z\":\"1\",\"a\":\"x\"}\n"},
		{"csv, quotes", "a.csv", "\"a\",b\n\"x,\"\"y\"\"\r\nz\",\"\"\n\"\",2\n", "csv\n1@2 {\"a\":\"x,\\\"y\\\"\\r\\nz\",\"b\":\"\"}\n2@4 {\"a\":\"\",\"b\":\"2\"}\n"},
		{"csv, columns", "a.csv", "a,b\n1\n1,2,3\n1,2\n", "csv\nbad 1: line 2: row has 1 column, the header has 2\n" +
			"bad 2: line 3: row has 3 columns, the header has 2\n3@4 {\"a\":\"1\",\"b\":\"2\"}\n"},
		{"csv, blank lines", "a.csv", "\na\n\n1\n\r\n\"\"\n", "csv\n1@4 {\"a\":\"1\"}\n2@6 {\"a\":\"\"}\n"},
		{"csv, bare quote", "a.csv", "a,b\n1,x\"y\n2,z\n", "csv\nbad 1: line 2: a quote inside a cell that does not begin with one; quote the cell and double the quote\n2@3 {\"a\":\"2\",\"b\":\"z\"}\n"},
		{"csv, text behind a quote", "a.csv", "a,b\n\"1\n2\"x,y\n3,4\n", "csv\nbad 1: line 2: 'x' behind the closing quote of a cell; double a quote inside quotes\n" +
			"bad 2: line 3: a quote inside a cell that does not begin with one; quote the cell and double the quote\n3@4 {\"a\":\"3\",\"b\":\"4\"}\n"},
		{"csv, open quote", "a.csv", "a,b\n1,\"x\n2,y\n3,z\n", "csv\nbad 1: line 2: a quote is opened and never closed\n2@3 {\"a\":\"2\",\"b\":\"y\"}\n3@4 {\"a\":\"3\",\"b\":\"z\"}\n"},
		{"csv, not UTF-8", "a.csv", "a,b\n1,\xe9\n2,y\n", "csv\nbad 1: line 2: not UTF-8: byte \\xe9 in column \"b\"\n2@3 {\"a\":\"2\",\"b\":\"y\"}\n"},
		{"csv, control characters", "a.csv", "a\n\x00\t<&>\u2028\n", "csv\n1@2 {\"a\":\"\\u0000\\t<&>\u2028\"}\n"},
		{"csv, too large", "a.csv", "a\n" + strings.Repeat("x", 60) + "\n2\n\"" + strings.Repeat("y\n", 30) + "\"\n3", "csv\nbad 1: line 2: row is larger than the limit of 40 bytes\n" +
			"2@3 {\"a\":\"2\"}\nbad 3: line 4: row is larger than the limit of 40 bytes\n4@35 {\"a\":\"3\"}\n"},
		{"csv, header alone", "a.csv", "a,b", "csv\n"},
		{"csv, empty", "a.csv", "", "new: the file is empty\n"},
		{"csv, bare carriage returns", "a.csv", "a,b\r1,2\r", "new: line 1: lines end with a bare carriage return; convert them (tr '\\r' '\\n')\n"},
		{"csv, header not UTF-8", "a.csv", "\xe9\n1", "new: line 1: the header is not UTF-8\n"},
		{"csv, header quote", "a.csv", "a,\"b\n1,2", "new: line 1: the header a quote is opened and never closed\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(t, tt.src, Options{Name: tt.file, MaxRowBytes: 40}); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// An I/O error is never taken for the end of the file: what was read of the last row is not returned.
func TestReadError(t *testing.T) {
	boom := errors.New("boom")
	for _, src := range []string{"[{\"a\":1},\n12", "[{\"a\":1},\n", "{\"a\":1}\n{\"a\":2}", "a,b\n1,2\n3,4", "a,b\n1,2\n3,\"4", "{} 12"} {
		r, err := NewReader(io.MultiReader(strings.NewReader(src), iotest.ErrReader(boom)), Options{MaxRowBytes: 1 << 10})
		n := 0
		for ; err == nil; n++ {
			_, err = r.Next()
		}
		if !errors.Is(err, boom) || n > 2 {
			t.Errorf("%q: %d rows, then %v", src, n, err)
		}
	}
}

// One byte at a time and across window borders, everything is as in one piece.
func TestPieces(t *testing.T) {
	srcs := map[string]string{
		"a.json":    "[\n {\"a\":\"x\\\"\",\"b\":[1,{}]},\n {\"a\":2,\n {\"a\":3} 4,]\n",
		"a.csv":     "a,b\r\n\"x\"\"\r\ny\",1\r\n2\r\n3,\"4\r\n5,6\r\n",
		"a.jsonl":   "{\"a\":1}\n\n{\n3\n",
		"a.geojson": "{\"type\":\"FeatureCollection\",\"features\":[{\"a\":1},{\"a\":2}],\"b\":1}",
	}
	for name, src := range srcs {
		want := show(t, src, Options{Name: name})
		r, err := NewReader(iotest.OneByteReader(strings.NewReader(src)), Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		got := r.Format().String() + "\n"
		for {
			row, err := r.Next()
			var bad *BadRow
			if errors.As(err, &bad) {
				got += fmt.Sprintf("bad %d: %v\n", bad.Row, err)
				continue
			}
			if err != nil {
				break
			}
			got += fmt.Sprintf("%d@%d %s\n", row.Number, row.Line, row.JSON)
		}
		if got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

// bigFile has rows of random length, some larger than a window, some bad.
func bigFile(format Format, rows int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	switch format {
	case JSON:
		b.WriteString("[\n")
	case GeoJSON:
		b.WriteString(`{"type":"FeatureCollection","features":[` + "\n")
	case CSV:
		b.WriteString("a,b\n")
	}
	for i := range rows {
		n := rnd.IntN(300)
		if rnd.IntN(50) == 0 {
			n = rnd.IntN(3 * windowBytes)
		}
		text := strings.Repeat("ab,", n/3)
		bad := rnd.IntN(20) == 0
		switch {
		case format == CSV && bad:
			fmt.Fprintf(&b, "%d,\"x\"y\n", i)
		case format == CSV:
			fmt.Fprintf(&b, "%d,\"%s\"\n", i, text)
		case bad:
			fmt.Fprintf(&b, "{\"a\":%d,\"b\":!}", i)
		default:
			fmt.Fprintf(&b, "{\"a\":%d,\"b\":%q}", i, text)
		}
		if (format == JSON || format == GeoJSON) && i < rows-1 {
			b.WriteByte(',')
		}
		if format != CSV {
			b.WriteByte('\n')
		}
	}
	switch format {
	case JSON:
		b.WriteString("]\n")
	case GeoJSON:
		b.WriteString("]}\n")
	}
	return b.Bytes()
}

type found struct {
	row  int64
	line int64
	text string
}

func readAll(t *testing.T, r *Reader, at func(Position, int)) (all []found, final error) {
	t.Helper()
	for {
		row, err := r.Next()
		var bad *BadRow
		switch {
		case errors.As(err, &bad):
			all = append(all, found{bad.Row, bad.Line, bad.Msg})
		case err != nil:
			return all, err
		default:
			all = append(all, found{row.Number, row.Line, string(row.JSON)})
		}
		if at != nil {
			at(r.Position(), len(all))
		}
	}
}

// From every position the rest of the file is read as without the break.
func TestResume(t *testing.T) {
	const seed = 7
	for _, format := range []Format{JSON, JSONLines, GeoJSON, CSV} {
		t.Run(format.String(), func(t *testing.T) {
			src := bigFile(format, 300, seed)
			r, err := NewReader(bytes.NewReader(src), Options{Format: format})
			if err != nil {
				t.Fatal(err)
			}
			type place struct {
				pos Position
				n   int
			}
			var places []place
			all, final := readAll(t, r, func(p Position, n int) { places = append(places, place{p, n}) })
			if final != io.EOF || len(all) != 300 {
				t.Fatalf("seed %d: %d rows, then %v", seed, len(all), final)
			}
			for i, p := range places {
				if i%37 != 0 && i < len(places)-2 {
					continue
				}
				r, err := NewReader(bytes.NewReader(src), Options{From: &p.pos})
				if err != nil {
					t.Fatalf("seed %d, behind row %d: %v", seed, p.n, err)
				}
				rest, final := readAll(t, r, nil)
				if final != io.EOF || fmt.Sprint(rest) != fmt.Sprint(all[p.n:]) {
					t.Fatalf("seed %d, behind row %d: %d rows, want %d; %v", seed, p.n, len(rest), 300-p.n, final)
				}
				changed := bytes.Clone(src)
				changed[p.pos.Offset/2] ^= 1
				if _, err := NewReader(bytes.NewReader(changed), Options{From: &p.pos}); !errors.Is(err, ErrChanged) {
					t.Fatalf("a byte flipped before the position: %v, want ErrChanged", err)
				}
				if _, err := NewReader(bytes.NewReader(src[:p.pos.Offset-1]), Options{From: &p.pos}); !errors.Is(err, ErrChanged) {
					t.Fatalf("file ends before the position: %v, want ErrChanged", err)
				}
			}
		})
	}
}

// Memory is bounded by the longest row allowed, not by the file or by what is in it.
func TestBoundedMemory(t *testing.T) {
	const limit, fileBytes = 512 << 10, 6 << 20
	heads := []struct{ name, head, fill string }{
		{"a.json", `["`, "x"}, {"a.json", "[", "[0,"}, {"a.jsonl", "", "x"}, {"a.csv", "a\n\"", "\n"},
		{"a.csv", "a\n", ",,,,"}, {"a.csv", "a\n\"", "\"\""}, {"a.json", "[{", "\n{\"a\":"}, {"a.json", "[\n", "\n{"},
	}
	for _, tt := range heads {
		src := io.MultiReader(strings.NewReader(tt.head), io.LimitReader(&repeat{s: tt.fill}, fileBytes))
		r, err := NewReader(src, Options{Name: tt.name, MaxRowBytes: limit})
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; err == nil || errors.As(err, new(*BadRow)); n++ {
			if _, err = r.Next(); n > 1<<20 {
				break
			}
		}
		if got := cap(r.in.buf) + cap(r.csv.cells) + 8*cap(r.csv.ends) + cap(r.csv.out) + cap(r.scan.stack); got > 16*limit {
			t.Errorf("%s %q: %d bytes of memory", tt.name, tt.head+tt.fill, got)
		}
	}
}

type repeat struct {
	s string
	i int
}

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.s[r.i]
		r.i = (r.i + 1) % len(r.s)
	}
	return len(p), nil
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("[{\"a\":1},{\"a\":2}]"), uint8(0))
	f.Add([]byte("a,b\n\"x\"\"\",y\n1\n"), uint8(4))
	f.Add([]byte("{\"type\":\"FeatureCollection\",\"features\":[{\"a\":1}]}"), uint8(3))
	f.Add([]byte("{\"a\":1}\nx\n"), uint8(2))
	f.Add([]byte("[\n{\"a\":1\n{\"a\":2}\n"), uint8(1))
	f.Fuzz(func(t *testing.T, src []byte, format uint8) {
		o := Options{Format: Format(format % 5), MaxRowBytes: 64}
		r, err := NewReader(bytes.NewReader(src), o)
		if err != nil {
			return
		}
		var mid *Position
		at := 0
		last := int64(-1)
		all, final := readAll(t, r, func(p Position, n int) {
			if n > 2*len(src)+2 { // a row and a missing comma for each byte
				t.Fatalf("more rows than bytes")
			}
			if p.Offset < last || p.Offset > int64(len(src)) {
				t.Fatalf("position %d behind %d of %d", p.Offset, last, len(src))
			}
			last = p.Offset
			if n == 2 {
				mid, at = &p, n
			}
		})
		if final == nil {
			t.Fatal("no end")
		}
		if mid == nil {
			return
		}
		o.From = mid
		r, err = NewReader(bytes.NewReader(src), o)
		if err != nil {
			t.Fatalf("resume: %v", err)
		}
		rest, _ := readAll(t, r, nil)
		for i := range min(len(rest), len(all)-at) {
			if rest[i].text != all[at+i].text && r.format != JSON && r.format != GeoJSON {
				t.Fatalf("row %d after resuming: %q, want %q", i, rest[i].text, all[at+i].text)
			}
		}
	})
}
