package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

var everyCell = []Column{
	{Name: "key"}, {Name: "value"}, {Name: "n"}, {Name: "f"}, {Name: "ok"}, {Name: "size"},
	{Name: "count"}, {Name: "time"}, {Name: "ttl"}, {Name: "none"}, {Name: "raw"}, {Name: "text"},
}

func everyRow() []any {
	return []any{
		KeyCell("k\x00"), ValueCell(`{"a": 1}`), uint64(math.MaxUint64), 1234.25, true, ByteCell(1536),
		CountCell(1234567), time.Date(2026, 11, 21, 1, 2, 3, 4000, time.FixedZone("", 3600)),
		90 * time.Minute, nil, json.RawMessage(`[1, 2]`), "tab\tquote\"",
	}
}

func render(t *testing.T, format string, s shape, cols []Column, rows ...[]any) string {
	t.Helper()
	cmd, out, _ := testCommand(t, "-o", format)
	r := NewRenderer(cmd, s, cols...)
	for _, row := range rows {
		if err := r.Row(row...); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestEveryCellInEveryFormat(t *testing.T) {
	for format, want := range map[string]string{
		"jsonl": `{"key":{"$b64":"awA="},"value":{"a":1},"n":18446744073709551615,"f":1234.25,"ok":true,"size":1536,` +
			`"count":1234567,"time":"2026-11-21T00:02:03.000004Z","ttl":"1h30m0s","raw":[1,2],"text":"tab\tquote\""}` + "\n",
		"csv": "key,value,n,f,ok,size,count,time,ttl,none,raw,text\n" +
			`k\x00,"{""a"": 1}",18446744073709551615,1234.25,true,1536,1234567,2026-11-21T00:02:03.000004Z,1h30m0s,,"[1, 2]","tab\x09quote"""` + "\n",
		"raw": "k\x00\t{\"a\": 1}\t18446744073709551615\t1234.25\ttrue\t1536\t1234567\t2026-11-21T00:02:03.000004Z\t1h30m0s\t\t[1, 2]\ttab\tquote\"\n",
		"table": "KEY    VALUE                        N      F  OK       SIZE      COUNT  TIME                      TTL      NONE  RAW     TEXT\n" +
			`k\x00  {"a": 1}  18446744073709551615  1,234  true  1.5 KiB  1,234,567  2026-11-21 00:02:03Z  1h30m0s        [1, 2]  tab\x09quote"` + "\n",
	} {
		got := render(t, format, ManyRows, everyCell, everyRow())
		if format == "table" {
			got, want = strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " ")
		}
		if got != want {
			t.Errorf("%s:\n got %q\nwant %q", format, got, want)
		}
	}
}

func TestJSONShapes(t *testing.T) {
	cols := []Column{{Name: "a"}}
	for _, c := range []struct {
		name  string
		shape shape
		rows  [][]any
		want  string
	}{
		{"no rows", ManyRows, nil, "[]\n"},
		{"one of many", ManyRows, [][]any{{1}}, "[\n {\"a\":1}\n]\n"},
		{"two", ManyRows, [][]any{{1}, {2}}, "[\n {\"a\":1},\n {\"a\":2}\n]\n"},
		{"single", OneRow, [][]any{{1}}, "{\"a\":1}\n"},
		{"sheet", OneSheet, [][]any{{nil}}, "{}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := render(t, "json", c.shape, cols, c.rows...)
			if got != c.want || !json.Valid([]byte(got)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestEmptyOutput(t *testing.T) {
	cols := []Column{{Name: "a"}, {Name: "b"}}
	for format, want := range map[string]string{"jsonl": "", "csv": "a,b\n", "raw": "", "table": "A  B\n"} {
		if got := render(t, format, ManyRows, cols); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

func TestCSVReadsBack(t *testing.T) {
	rows := [][]any{
		{KeyCell("a,b"), ValueCell("line\nend")},
		{KeyCell(`quote"`), ValueCell("")},
		{KeyCell("\xff"), ValueCell(`\x00`)},
	}
	out := render(t, "csv", ManyRows, []Column{{Name: "key"}, {Name: "value"}}, rows...)
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		key, kerr := unescapeBytes(records[i+1][0])
		value, verr := unescapeBytes(records[i+1][1])
		if kerr != nil || verr != nil || string(key) != string(row[0].(KeyCell)) || string(value) != string(row[1].(ValueCell)) {
			t.Errorf("row %d came back as %q, %q (%v, %v)", i, key, value, kerr, verr)
		}
	}
}

func TestTableAligns(t *testing.T) {
	cols := []Column{{Name: "name"}, {Name: "keys"}, {Name: "note"}, {Name: "id", Detail: true}}
	got := render(t, "table", ManyRows, cols,
		[]any{"a", CountCell(5), "first", 1}, []any{"日本", CountCell(12345), nil, 2}, []any{"ccc", nil, "x", 3})
	want := "" +
		"NAME    KEYS  NOTE\n" +
		"a          5  first\n" +
		"日本  12,345\n" +
		"ccc           x\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableFitsTerminal(t *testing.T) {
	cmd, out, _ := testCommand(t, "-o", "table")
	r := NewRenderer(cmd, ManyRows, Column{Name: "key"}, Column{Name: "lsn"}, Column{Name: "value"})
	r.width = 40
	for i := range 3 {
		if err := r.Row(strings.Repeat("k", 12), i, strings.Repeat("ü日", 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	// The widths are fixed now: a longer key is shortened too.
	if err := r.Row(strings.Repeat("K", 30), 3, "v"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if w := TextWidth(strings.TrimSuffix(line, "\n")); w > 40 {
			t.Errorf("%d columns: %q", w, line)
		}
	}
	if !strings.Contains(out.String(), "…") {
		t.Errorf("nothing was shortened:\n%s", out)
	}
}

func TestWideTableBecomesBlocks(t *testing.T) {
	cmd, out, _ := testCommand(t, "-o", "table")
	r := NewRenderer(cmd, ManyRows, Column{Name: "lsn"}, Column{Name: "time"}, Column{Name: "value"}, Column{Name: "note"})
	r.width = 30
	for i := range 2 {
		if err := r.Row(i, time.Unix(0, 0), ValueCell(strings.Repeat("v", 50)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	block := "LSN    %d\nTIME   1970-01-01 00:00:00Z\nVALUE  " + strings.Repeat("v", 22) + "…\n"
	if want := fmt.Sprintf(block, 0) + "\n" + fmt.Sprintf(block, 1); out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestTableStreams(t *testing.T) {
	cmd, out, _ := testCommand(t, "-o", "table")
	r := NewRenderer(cmd, ManyRows, Column{Name: "n"})
	for i := range 3 * tableSample {
		if err := r.Row(i); err != nil {
			t.Fatal(err)
		}
		if len(r.pending) > tableSample {
			t.Fatalf("%d rows are kept", len(r.pending))
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 3*tableSample+1 {
		t.Errorf("%d lines", n)
	}
}

func TestSheet(t *testing.T) {
	cols := []Column{{Name: "last_lsn"}, {Name: "none"}, {Name: "disk"}}
	if got, want := render(t, "table", OneSheet, cols, []any{7, nil, ByteCell(0)}), "LAST LSN  7\nDISK      0 B\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHumanNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"0 B": FormatBytes(0), "1023 B": FormatBytes(1023), "1.0 KiB": FormatBytes(1024), "99.9 KiB": FormatBytes(102300),
		"1.0 MiB": FormatBytes(1<<20 - 1), "8.0 EiB": FormatBytes(math.MaxInt64), "-1.0 KiB": FormatBytes(-1024),
		"100 MiB": FormatBytes(100 << 20),
		"1":       FormatCount(1), "999": FormatCount(999), "1,000": FormatCount(1000), "-1,234,567": FormatCount(-1234567),
		"-999": FormatCount(-999),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTruncateText(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 5, "short"}, {"longer", 5, "long…"}, {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"},
		{"日本語", 4, "日…"}, {"é́é́é́", 2, "é́…"}, {"abc", 1, "…"}, {"abc", 0, ""}, {"", 3, ""},
	} {
		if got := TruncateText(c.in, c.width); got != c.want {
			t.Errorf("truncateText(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestRowMustFitColumns(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a row of too few cells passed")
		}
	}()
	cmd, _, _ := testCommand(t)
	_ = NewRenderer(cmd, ManyRows, Column{Name: "a"}, Column{Name: "b"}).Row(1)
}
