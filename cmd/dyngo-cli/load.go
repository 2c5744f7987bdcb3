package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newLoadCommand() *cobra.Command {
	q := &loadRequest{}
	cmd := &cobra.Command{
		Use:   "load DATASET FILE|-",
		Short: "Load the rows of a JSON, JSON lines, GeoJSON or CSV file",
		Long: `Load the rows of a file: the elements of a JSON array, JSON lines, the features
of a GeoJSON collection, or CSV with a header line. The dataset is created if
need be; rows whose key exists replace the value. Files may be larger than
memory; one row has at most 16 MiB.

--key says which field is the key. A dot leads into an object or array
(properties.code), several fields are joined with | (date,home_team; a | or \
inside them is escaped by \), and # is the row number, padded to 10 digits, so
that key order is row order. Write \. and \, for a dot or comma in a name.

--version-field makes the newest version win, in whatever order rows come: the
field holds RFC 3339 text or a number of s, ms, µs or ns since 1970. Rows that
are not newer than what is stored are counted as stale, so loading a file twice
changes nothing.

--subject says whom all rows are about, --subject-field in which field each row
says so: their values are encrypted under keys of theirs in the folder --keys,
which dyngo-cli erase destroys. Keys of rows are not encrypted.

JSON rows are stored as the bytes they came in. A CSV row becomes a JSON object
of strings in header order. A bad row is reported with its line and left out;
the exit code is then 1. --strict stops at the first one.

Rows are stored in batches together with the place they came from. After ^C or
a crash, the same command with --resume goes on behind the last stored row.`,
		Example: `  dyngo-cli load quakes week.json --key id --version-field properties.updated
  dyngo-cli load matches football.json --key date,division,home_team,away_team
  dyngo-cli load strikes birdstrikes.csv --key '#'
  dyngo-cli load events big.jsonl --key id --resume`,
		Args: cli.ExactArgs("DATASET", "FILE"),
	}
	f := cmd.Flags()
	f.StringVar(&q.key, "key", "", "field or fields that make the key, or # for the row number (required)")
	f.StringVar(&q.version, "version-field", "", "field with the time of a row's version: the newest wins")
	f.BoolVar(&q.resume, "resume", false, "go on where an interrupted load of the same file stopped")
	f.BoolVar(&q.strict, "strict", false, "stop at the first bad row")
	f.StringVar(&q.format, "format", "auto", "auto, json, jsonl, geojson, csv")
	f.IntVar(&q.batch, "batch", 2000, "rows stored at a time, all or none of them after a crash")
	f.IntVar(&q.showBad, "show-bad", 100, "how many bad rows are reported, 0 = all; the others are counted")
	f.StringVar(&q.subject, "subject", "", "whom all rows are about: encrypt them under a key of theirs")
	f.StringVar(&q.subjectField, "subject-field", "", "field that says whom a row is about")
	cmd.MarkFlagsMutuallyExclusive("subject", "subject-field")
	why := cli.AddWhy(cmd)
	cli.MustCompleteFlag(cmd, "format", "auto", "json", "jsonl", "geojson", "csv")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.dataset, q.file, q.why = args[0], args[1], why()
		q.why.Subject = q.subject
		return q.run(cmd)
	}
	return cmd
}

// A loadRequest is one load as the command line gave it.
type loadRequest struct {
	dataset, file  string
	key, version   string
	subject        string
	subjectField   string
	format         string
	resume, strict bool
	batch, showBad int
	why            dyngo.WriteOptions
}

const maxLoadBatch = 100_000

// spec reads the flags that say what a row is.
func (q *loadRequest) spec() (key rows.Key, version rows.Path, format rows.Format, err error) {
	if q.key == "" {
		return key, nil, 0, cli.Usage("--key FIELD, or --key '#' for the row number", "load: --key is missing")
	}
	if key, err = rows.ParseKey(q.key); err != nil {
		return key, nil, 0, cli.Usage(`--key FIELD[,FIELD] or --key '#'; \. and \, for a dot or comma in a name`, "--key: %w", err)
	}
	if q.version != "" {
		if version, err = rows.ParsePath(q.version); err != nil {
			return key, nil, 0, cli.Usage("--version-field FIELD", "--version-field: %w", err)
		}
	}
	if format, err = rows.ParseFormat(q.format); err != nil {
		return key, nil, 0, cli.Usage("", "--format: %w", err)
	}
	switch {
	case q.batch < 1 || q.batch > maxLoadBatch:
		err = cli.Usage("--batch 2000", "--batch is %d: it must be 1 to %d", q.batch, maxLoadBatch)
	case q.showBad < 0:
		err = cli.Usage("--show-bad 100", "--show-bad is %d: it can't be negative", q.showBad)
	case q.resume && q.file == "-":
		err = cli.Usage("give the file's name", "--resume needs a file: stdin can't be read again")
	}
	return key, version, format, err
}

// A loadFile is the file that is loaded, or stdin.
type loadFile struct {
	io.Reader
	name  string // as in messages
	bytes int64  // 0: not known
	file  *os.File
}

func openLoadFile(cmd *cobra.Command, name string) (*loadFile, error) {
	if name == "-" {
		return &loadFile{Reader: cli.Stdin(cmd), name: "stdin"}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		code := cli.ExitFailure
		switch {
		case errors.Is(err, os.ErrNotExist):
			code = cli.ExitUsage
		case errors.Is(err, os.ErrPermission):
			code = cli.ExitDenied
		}
		return nil, cli.Fail(code, "the file to load, or - for stdin", "load %s: %v", name, errors.Unwrap(err))
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	if info.IsDir() {
		f.Close()
		return nil, cli.Usage("a file inside it", "load %s: it is a directory", name)
	}
	l := &loadFile{Reader: f, name: name, file: f}
	if info.Mode().IsRegular() {
		l.bytes = info.Size()
	}
	return l, nil
}

func (l *loadFile) close() {
	if l.file != nil {
		l.file.Close() // it was only read; a second close does nothing
	}
}

// again is the command line that goes on with the load.
func (q *loadRequest) again(cmd *cobra.Command) string {
	words := []string{"dyngo-cli", "load", q.dataset, q.file, "--key", q.key}
	if q.version != "" {
		words = append(words, "--version-field", q.version)
	}
	if q.strict {
		words = append(words, "--strict")
	}
	if q.subject != "" {
		words = append(words, "--subject", q.subject)
	}
	if q.subjectField != "" {
		words = append(words, "--subject-field", q.subjectField)
	}
	if keys := cmd.Root().PersistentFlags().Lookup("keys"); keys.Changed {
		words = append(words, "--keys", keys.Value.String())
	}
	if dir := cli.GlobalsOf(cmd).Dir; dir != "./dyngo-data" {
		words = append(words, "-d", dir)
	}
	for i, w := range words {
		words[i] = cli.ShellQuote(w)
	}
	return strings.Join(words, " ") + " --resume"
}

// loadColumns are what a load tells when it is over.
func loadColumns() []cli.Column {
	return []cli.Column{
		{Name: "dataset"}, {Name: "file"}, {Name: "format"}, {Name: "rows"}, {Name: "stored"}, {Name: "new"},
		{Name: "replaced"}, {Name: "duplicate"}, {Name: "stale"}, {Name: "bad"}, {Name: "bytes"}, {Name: "lsn"},
		{Name: "seconds"},
	}
}

// loadCounts say what became of the rows of a file.
type loadCounts struct {
	Rows      int64 `json:"rows"`      // all
	New       int64 `json:"new"`       // stored under a key that was absent
	Replaced  int64 `json:"replaced"`  // stored over a value from before the load
	Duplicate int64 `json:"duplicate"` // stored over a row of the same load
	Stale     int64 `json:"stale"`     // left out: not newer than what is stored
	Bad       int64 `json:"bad"`       // left out and reported
	Bytes     int64 `json:"bytes"`     // of the rows stored
}

func (c *loadCounts) stored() int64 { return c.New + c.Replaced + c.Duplicate }

// loadName is how a position names a file: without its folder, so that the command may be repeated elsewhere.
func loadName(file string) string { return filepath.Base(file) }

func countNoun(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return cli.FormatCount(n) + " " + noun + "s"
}

func lineOf(file string, line int64, msg string) string {
	if line == 0 {
		return file + ": " + msg
	}
	return file + ":" + strconv.FormatInt(line, 10) + ": " + msg
}
