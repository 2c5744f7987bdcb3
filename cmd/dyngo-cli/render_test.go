package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// testCommand is a command with the persistent flags only, whose stdout is the buffer.
func testCommand(t *testing.T, args ...string) (*cobra.Command, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := &cobra.Command{Use: "test"}
	addGlobals(cmd.PersistentFlags())
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cmd, &out, &errs
}

var everyCell = []column{
	{name: "key"}, {name: "value"}, {name: "n"}, {name: "f"}, {name: "ok"}, {name: "size"},
	{name: "count"}, {name: "time"}, {name: "ttl"}, {name: "none"}, {name: "raw"}, {name: "text"},
}

func everyRow() []any {
	return []any{
		keyCell("k\x00"), valueCell(`{"a": 1}`), uint64(math.MaxUint64), 1234.25, true, byteCell(1536),
		countCell(1234567), time.Date(2026, 11, 21, 1, 2, 3, 4000, time.FixedZone("", 3600)),
		90 * time.Minute, nil, json.RawMessage(`[1, 2]`), "tab\tquote\"",
	}
}

func render(t *testing.T, format string, s shape, cols []column, rows ...[]any) string {
	t.Helper()
	cmd, out, _ := testCommand(t, "-o", format)
	r := newRenderer(cmd, s, cols...)
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
		got := render(t, format, manyRows, everyCell, everyRow())
		if format == "table" {
			got, want = strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " ")
		}
		if got != want {
			t.Errorf("%s:\n got %q\nwant %q", format, got, want)
		}
	}
}

func TestJSONShapes(t *testing.T) {
	cols := []column{{name: "a"}}
	for _, c := range []struct {
		name  string
		shape shape
		rows  [][]any
		want  string
	}{
		{"no rows", manyRows, nil, "[]\n"},
		{"one of many", manyRows, [][]any{{1}}, "[\n {\"a\":1}\n]\n"},
		{"two", manyRows, [][]any{{1}, {2}}, "[\n {\"a\":1},\n {\"a\":2}\n]\n"},
		{"single", oneRow, [][]any{{1}}, "{\"a\":1}\n"},
		{"sheet", oneSheet, [][]any{{nil}}, "{}\n"},
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
	cols := []column{{name: "a"}, {name: "b"}}
	for format, want := range map[string]string{"jsonl": "", "csv": "a,b\n", "raw": "", "table": "A  B\n"} {
		if got := render(t, format, manyRows, cols); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

func TestCSVReadsBack(t *testing.T) {
	rows := [][]any{
		{keyCell("a,b"), valueCell("line\nend")},
		{keyCell(`quote"`), valueCell("")},
		{keyCell("\xff"), valueCell(`\x00`)},
	}
	out := render(t, "csv", manyRows, []column{{name: "key"}, {name: "value"}}, rows...)
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		key, kerr := unescapeBytes(records[i+1][0])
		value, verr := unescapeBytes(records[i+1][1])
		if kerr != nil || verr != nil || string(key) != string(row[0].(keyCell)) || string(value) != string(row[1].(valueCell)) {
			t.Errorf("row %d came back as %q, %q (%v, %v)", i, key, value, kerr, verr)
		}
	}
}

func TestTableAligns(t *testing.T) {
	cols := []column{{name: "name"}, {name: "keys"}, {name: "note"}, {name: "id", detail: true}}
	got := render(t, "table", manyRows, cols,
		[]any{"a", countCell(5), "first", 1}, []any{"日本", countCell(12345), nil, 2}, []any{"ccc", nil, "x", 3})
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
	r := newRenderer(cmd, manyRows, column{name: "key"}, column{name: "lsn"}, column{name: "value"})
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
		if w := textWidth(strings.TrimSuffix(line, "\n")); w > 40 {
			t.Errorf("%d columns: %q", w, line)
		}
	}
	if !strings.Contains(out.String(), "…") {
		t.Errorf("nothing was shortened:\n%s", out)
	}
}

func TestWideTableBecomesBlocks(t *testing.T) {
	cmd, out, _ := testCommand(t, "-o", "table")
	r := newRenderer(cmd, manyRows, column{name: "lsn"}, column{name: "time"}, column{name: "value"}, column{name: "note"})
	r.width = 30
	for i := range 2 {
		if err := r.Row(i, time.Unix(0, 0), valueCell(strings.Repeat("v", 50)), nil); err != nil {
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
	r := newRenderer(cmd, manyRows, column{name: "n"})
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
	cols := []column{{name: "last_lsn"}, {name: "none"}, {name: "disk"}}
	if got, want := render(t, "table", oneSheet, cols, []any{7, nil, byteCell(0)}), "LAST LSN  7\nDISK      0 B\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHumanNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"0 B": formatBytes(0), "1023 B": formatBytes(1023), "1.0 KiB": formatBytes(1024), "99.9 KiB": formatBytes(102300),
		"1.0 MiB": formatBytes(1<<20 - 1), "8.0 EiB": formatBytes(math.MaxInt64), "-1.0 KiB": formatBytes(-1024),
		"100 MiB": formatBytes(100 << 20),
		"1":       formatCount(1), "999": formatCount(999), "1,000": formatCount(1000), "-1,234,567": formatCount(-1234567),
		"-999": formatCount(-999),
		"5s":   formatETA(4.2), "1m05s": formatETA(65), "2h00m": formatETA(7200), "0s": formatETA(0),
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
		if got := truncateText(c.in, c.width); got != c.want {
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
	_ = newRenderer(cmd, manyRows, column{name: "a"}, column{name: "b"}).Row(1)
}
