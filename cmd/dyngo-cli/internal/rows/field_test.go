package rows

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestKey(t *testing.T) {
	const row = `{"id":"ci1","n":1.50,"a":{"b":"x|y\\z","c.d":true,"e":[10,{"f":"deep"}]},"u":"\u00e9","null":null,"two":1,"two":2,"":0,"e":""}`
	tests := []struct{ spec, want string }{
		{"id", "ci1"},
		{"n", "1.50"},
		{"u", "é"},
		{"a.b", `x|y\z`},
		{"id,a.b", `ci1|x\|y\\z`},
		{`a.c\.d`, "true"},
		{"a.e.0", "10"},
		{"a.e.1.f", "deep"},
		{"#", "0000000042"},
		{"id,#", "ci1|0000000042"},
		{"e,id", "|ci1"},
		{"a", `error: field "a" is an object; a string or number is wanted`},
		{"a.e", `error: field "a.e" is an array; a string or number is wanted`},
		{"null", `error: field "null" is null`},
		{"two", `error: field "two" is there twice`},
		{"x", `error: field "x" is missing; there are "id", "n", "a", "u", "null", "two", "two", "", "e"`},
		{"a.x", `error: field "a.x" is missing; there are "b", "c.d", "e"`},
		{"id.x", `error: field "id.x" is missing: "id" is a string`},
		{"a.e.2", `error: field "a.e.2" is missing: "a.e" is an array`},
		{"a.e.-1", `error: field "a.e.-1" is missing: "a.e" is an array`},
		{"", `error: "" has an empty field name`},
		{"a..b", `error: "a..b" has an empty field name`},
		{"a,", `error: "a," has an empty field name`},
		{`a\`, `error: "a\\" ends with a backslash`},
	}
	for _, tt := range tests {
		k, err := ParseKey(tt.spec)
		var got []byte
		if err == nil {
			got, err = k.Append(nil, Row{Number: 42, JSON: []byte(row)})
		}
		if err != nil {
			got = []byte("error: " + err.Error())
		}
		if string(got) != tt.want {
			t.Errorf("%s: %s, want %s", tt.spec, got, tt.want)
		}
	}
	k, _ := ParseKey("id")
	if _, err := k.Append(nil, Row{JSON: []byte("[1]")}); err == nil || !strings.Contains(err.Error(), "the row is an array") {
		t.Errorf("key of an array: %v", err)
	}
	k, _ = ParseKey("#")
	if _, err := k.Append(nil, Row{Number: 10_000_000_000}); err == nil {
		t.Error("a row number of 11 digits was accepted")
	}
}

func TestBind(t *testing.T) {
	header := []string{"a.b", "c", "x,y", "twice", "twice"}
	for spec, want := range map[string]string{
		"a.b": "", `x\,y,c`: "", "#": "", "c,#": "",
		"b":     `the header has no column "b"; it has "a.b", "c", "x,y", "twice", "twice"`,
		"twice": `the header has 2 columns "twice"; a key must name one`,
	} {
		k, err := ParseKey(spec)
		if err == nil {
			err = k.Bind(header)
		}
		if got := ""; err != nil {
			if got = err.Error(); got != want {
				t.Errorf("%s: %s, want %q", spec, got, want)
			}
		} else if want != "" {
			t.Errorf("%s: no error, want %q", spec, want)
		}
	}
	k, _ := ParseKey("a.b")
	_ = k.Bind(header)
	got, err := k.Append(nil, Row{JSON: []byte(`{"a.b":"v","c":""}`)})
	if err != nil || string(got) != "v" {
		t.Errorf("bound key: %s, %v", got, err)
	}
}

func TestParseTime(t *testing.T) {
	for in, want := range map[string]string{
		"1517968154":                     "2018-02-07T01:49:14Z",
		"1517968154000":                  "2018-02-07T01:49:14Z",
		"1517968154000000":               "2018-02-07T01:49:14Z",
		"1517968154000000000":            "2018-02-07T01:49:14Z",
		"1517968154.25":                  "2018-02-07T01:49:14.25Z",
		"1.517968154e9":                  "2018-02-07T01:49:14Z",
		"0":                              "1970-01-01T00:00:00Z",
		"-1":                             "1969-12-31T23:59:59Z",
		" 2018-02-07T01:49:14Z ":         "2018-02-07T01:49:14Z",
		"2018-02-07T03:49:14.123+02:00":  "2018-02-07T01:49:14.123Z",
		"2010-01-01T01:00:00":            "2010-01-01T01:00:00Z",
		"2001/01/01 00:47":               "2001-01-01T00:47:00Z",
		"1990-01-08":                     "1990-01-08T00:00:00Z",
		"9223372036854775807":            "2262-04-11T23:47:16.854775807Z",
		"9223372036854775808":            "",
		"1e99":                           "",
		"1e999999999":                    "",
		"0x10":                           "",
		"1/2":                            "",
		"":                               "",
		"Inf":                            "",
		"yesterday":                      "",
		"0001-01-01T00:00:00Z":           "",
		"2018-13-07T01:49:14Z":           "",
		strings.Repeat("9", 1000):        "",
		"2018-02-07T01:49:14.123456789Z": "2018-02-07T01:49:14.123456789Z",
	} {
		got, err := ParseTime(in)
		switch {
		case want == "" && !errors.Is(err, ErrTime):
			t.Errorf("%.40q: %v, %v; want ErrTime", in, got, err)
		case want != "" && (err != nil || got.Format(time.RFC3339Nano) != want):
			t.Errorf("%.40q: %v, %v; want %s", in, got.Format(time.RFC3339Nano), err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	p, err := ParsePath("properties.updated")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Version([]byte(`{"properties":{"updated":1517966996303}}`), p)
	if err != nil || got.UnixMilli() != 1517966996303 {
		t.Errorf("%v, %v", got, err)
	}
	for _, row := range []string{`{}`, `{"properties":{"updated":true}}`, `{"properties":{"updated":null}}`} {
		if _, err := Version([]byte(row), p); err == nil {
			t.Errorf("%s has a version", row)
		}
	}
	if _, err := ParsePath("a,b"); err == nil {
		t.Error("two fields were accepted as one")
	}
}

func FuzzField(f *testing.F) {
	f.Add(`{"a":{"b":1}}`, "a.b")
	f.Add(`[1,2]`, "1")
	f.Fuzz(func(t *testing.T, row, spec string) {
		r, err := NewReader(strings.NewReader(row), Options{Format: JSONLines})
		if err != nil {
			return
		}
		k, err := ParseKey(spec)
		if err != nil {
			return
		}
		for range 3 {
			got, err := r.Next()
			if err != nil {
				return
			}
			_, _ = k.Append(nil, got)
			_, _ = ParseTime(string(got.JSON))
		}
	})
}
