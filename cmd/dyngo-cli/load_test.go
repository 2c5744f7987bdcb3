package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/sample"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// runLine runs a command line in this process.
func runLine(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(context.Background(), newRootCommand(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func mustCLI(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	code, stdout, stderr := runLine(t, args...)
	if code != cli.ExitOK {
		t.Fatalf("%q: exit code %d\n%s", args, code, stderr)
	}
	return stdout
}

// process is dyngo-cli in a process of its own: this test program under that name.
func process(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Args[0] = "dyngo-cli"
	return cmd
}

// An original is a data file with the rows that it holds, found without the code that is tested.
type original struct {
	file    string
	dataset string
	flags   []string
	rows    [][]byte // as JSON, in the order in which they must come out
}

// jsonOriginal reads a file that holds an array, or an object with the array in member. key gives a row's key; "" is
// its place in the file.
func jsonOriginal(t *testing.T, file, member string, key func(row map[string]any) string) original {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if member != "" {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			t.Fatal(err)
		}
		data = object[member]
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	byKey := map[string][]byte{}
	var keys []string
	for i, row := range rows {
		var fields map[string]any
		if err := json.Unmarshal(row, &fields); err != nil {
			t.Fatal(err)
		}
		k := key(fields)
		if k == "" {
			k = fmt.Sprintf("%010d", i+1)
		}
		if byKey[k] != nil {
			t.Fatalf("%s: two rows have the key %q", file, k)
		}
		byKey[k] = row
		keys = append(keys, k)
	}
	slices.Sort(keys)
	o := original{file: file}
	for _, k := range keys {
		o.rows = append(o.rows, byKey[k])
	}
	return o
}

// csvOriginal reads a file whose rows are in key order already.
func csvOriginal(t *testing.T, file string) original {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	o := original{file: file}
	for _, r := range records[1:] {
		row := "{"
		for i, cell := range r {
			if i > 0 {
				row += ","
			}
			row += string(cli.AppendJSONString(nil, records[0][i])) + ":" + string(cli.AppendJSONString(nil, cell))
		}
		o.rows = append(o.rows, []byte(row+"}"))
	}
	return o
}

func originals(t *testing.T, quakes, football, weather, strikes, flights string) []original {
	t.Helper()
	byNumber := func(map[string]any) string { return "" }
	all := []original{
		jsonOriginal(t, quakes, "features", func(row map[string]any) string { return row["id"].(string) }),
		jsonOriginal(t, football, "", func(row map[string]any) string {
			var parts []string
			for _, f := range []string{"date", "division", "home_team", "away_team"} {
				parts = append(parts, row[f].(string))
			}
			return strings.Join(parts, "|")
		}),
		csvOriginal(t, weather),
		csvOriginal(t, strikes),
		jsonOriginal(t, flights, "", byNumber),
	}
	for i, flags := range []string{
		"quakes --key id --version-field properties.updated", "matches --key date,division,home_team,away_team",
		"weather --key date", "strikes --key #", "flights --key #",
	} {
		words := strings.Fields(flags)
		all[i].dataset, all[i].flags = words[0], words[1:]
	}
	return all
}

// roundTrip loads the files into one store and compares what export gives with the files, row for row.
func roundTrip(t *testing.T, all []original) {
	dir := filepath.Join(t.TempDir(), "store")
	for _, o := range all {
		args := append([]string{"load", o.dataset, o.file, "-d", dir, "-o", "json"}, o.flags...)
		var result struct{ Rows, Stored, New, Bad int }
		if err := json.Unmarshal([]byte(mustCLI(t, args...)), &result); err != nil {
			t.Fatal(err)
		}
		if n := len(o.rows); result.Rows != n || result.Stored != n || result.New != n || result.Bad != 0 {
			t.Errorf("%s: %+v, want %d rows", o.file, result, n)
		}
	}
	for _, o := range all {
		t.Run(o.dataset, func(t *testing.T) { compareExports(t, dir, o) })
	}
}

func compareExports(t *testing.T, dir string, o original) {
	lines := strings.SplitAfter(mustCLI(t, "export", o.dataset, "-d", dir), "\n")
	if lines = lines[:len(lines)-1]; len(lines) != len(o.rows) {
		t.Fatalf("%d lines, want %d", len(lines), len(o.rows))
	}
	for i, want := range o.rows {
		if bytes.ContainsAny(want, "\r\n") {
			var b bytes.Buffer
			if err := json.Compact(&b, want); err != nil {
				t.Fatal(err)
			}
			want = b.Bytes()
		}
		if lines[i] != string(want)+"\n" {
			t.Fatalf("line %d is %swant %s", i+1, lines[i], want)
		}
	}
	var array []json.RawMessage
	if err := json.Unmarshal([]byte(mustCLI(t, "export", o.dataset, "-d", dir, "-o", "json")), &array); err != nil {
		t.Fatal(err)
	}
	if len(array) != len(o.rows) {
		t.Fatalf("an array of %d rows, want %d", len(array), len(o.rows))
	}
	for i, want := range o.rows {
		if !bytes.Equal(array[i], want) {
			t.Fatalf("element %d is %s, want the bytes of the file: %s", i, array[i], want)
		}
	}
	if strings.HasSuffix(o.file, ".csv") {
		want, err := os.ReadFile(o.file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.ReplaceAll(strings.TrimRight(string(want), "\r\n"), "\r\n", "\n") + "\n"
		if got := mustCLI(t, "export", o.dataset, "-d", dir, "-o", "csv"); got != lines {
			t.Errorf("the CSV export differs from the file")
		}
	}
}

func TestLoadExport(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{sample.Earthquakes, sample.Football, sample.Weather} {
		data, err := sample.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roundTrip(t, originals(t, filepath.Join(dir, sample.Earthquakes), filepath.Join(dir, sample.Football),
		filepath.Join(dir, sample.Weather), "testdata/data/birdstrikes.csv", "testdata/data/flights-400.json"))
}

var dataFolder = flag.String("data", "", "folder of the five whole data files, for TestLoadExportWhole")

// The whole files, where they are at hand.
func TestLoadExportWhole(t *testing.T) {
	dir := *dataFolder
	if dir == "" {
		t.Skip("needs the five whole data files: run with -data FOLDER")
	}
	roundTrip(t, originals(t, filepath.Join(dir, sample.Earthquakes), filepath.Join(dir, sample.Football),
		filepath.Join(dir, sample.Weather), filepath.Join(dir, "birdstrikes.csv"), filepath.Join(dir, "flights-20k.json")))
}
