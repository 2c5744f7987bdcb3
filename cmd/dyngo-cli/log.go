package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

func newLogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into the log: its files and events",
		Example: `  dyngo-cli log list
  dyngo-cli log cat --dataset scores --key alice
  dyngo-cli log tail --follow`,
		Args: cli.NoArgs,
		RunE: cli.NeedSubcommand,
	}
	cmd.AddCommand(newLogListCommand(), newLogCatCommand(), newLogTailCommand())
	return cmd
}

func newLogListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the files of the log",
		Long: `List the files of the log. Ending says how a file ends: sealed by the next one,
cut (a crash left it), closed, or open (a process writes to it, or a crash left
it and no writer came since).`,
		Example: `  dyngo-cli log list
  dyngo-cli log list -o csv`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listLog(cmd) },
	}
}

// walDir is the directory of the log files.
func walDir(cmd *cobra.Command) (string, error) {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return "", err
	}
	return filepath.ToSlash(filepath.Join(dir, "wal")), nil
}

func listLog(cmd *cobra.Command) error {
	dir, err := walDir(cmd)
	if err != nil {
		return err
	}
	clean, err := wal.ReadClean(vfs.OS, dir)
	if err != nil {
		return err
	}
	infos, err := wal.ListFiles(vfs.OS, dir)
	if err != nil {
		return err
	}
	heads := make([]wal.Header, len(infos))
	for i, info := range infos {
		if heads[i], err = readHeader(filepath.Join(dir, info.Name)); err != nil {
			return cli.LocateIn(err, "wal/"+info.Name, 0)
		}
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "seq"}, cli.Column{Name: "first_lsn"}, cli.Column{Name: "last_lsn"},
		cli.Column{Name: "bytes"}, cli.Column{Name: "created"}, cli.Column{Name: "ending"}, cli.Column{Name: "file", Detail: true},
		cli.Column{Name: "timeline", Detail: true})
	for i, info := range infos {
		ending, last := "open", any(nil)
		switch {
		case i+1 < len(infos):
			ending, last = "sealed", heads[i+1].FirstLSN-1
			if heads[i+1].PrevEnding == wal.EndingCut {
				ending = "cut"
			}
		case clean != nil:
			ending, last = "closed", clean.NextLSN-1
		}
		err := r.Row(info.Seq, info.FirstLSN, last, cli.ByteCell(info.Size), time.Unix(0, heads[i].Created), ending,
			"wal/"+info.Name, fmt.Sprintf("%x", heads[i].TimelineID))
		if err != nil {
			return err
		}
	}
	return r.Close()
}

func readHeader(name string) (wal.Header, error) {
	f, err := os.Open(name)
	if err != nil {
		return wal.Header{}, err
	}
	defer f.Close()
	b := make([]byte, wal.HeaderSize)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return wal.Header{}, err
	}
	return wal.ParseHeader(b[:n])
}

// addLogFilter gives cmd the flags that select events.
func addLogFilter(cmd *cobra.Command) func() (cli.LogFilter, error) {
	f := cmd.Flags()
	dataset := f.String("dataset", "", "only events of this dataset")
	key := f.String("key", "", "only events of this key")
	values := f.Bool("large", false, "show large values too, not only their size")
	escaped := cli.AddEscaped(cmd)
	return func() (cli.LogFilter, error) {
		filter := cli.LogFilter{Dataset: *dataset, Values: *values}
		if *key == "" {
			return filter, nil
		}
		var err error
		filter.Key, err = cli.ParseKey("--key", *key, *escaped)
		return filter, err
	}
}

func newLogCatCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cat [FILE]",
		Short: "Print the events of the log",
		Long: `Print the events of the log in order, or those of one FILE of it: its number in
log list, its name, or the path of a file that lies anywhere.`,
		Example: `  dyngo-cli log cat --from 100 --to 200
  dyngo-cli log cat --dataset scores --key alice -l
  dyngo-cli log cat 3 -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.ExactArgs("FILE")(cmd, args)
			}
			return nil
		},
	}
	from := cmd.Flags().Uint64("from", 0, "first LSN")
	to := cmd.Flags().Uint64("to", 0, "last LSN, 0 = the log's")
	limit := cmd.Flags().Int("limit", 0, "at most so many events, 0 = all")
	long := cmd.Flags().BoolP("long", "l", false, "all columns in tables too")
	filter := addLogFilter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		fl, err := filter()
		if err != nil {
			return err
		}
		fl.From, fl.To = event.LSN(*from), event.LSN(*to)
		r := cli.NewRenderer(cmd, cli.ManyRows, cli.LogColumns()...)
		r.Detail = *long
		c := logCat{cmd: cmd, r: r, filter: fl, left: *limit}
		if len(args) == 1 {
			err = c.one(args[0])
		} else {
			err = c.all()
		}
		if err != nil && !errors.Is(err, errEnough) {
			return cli.Flushed(r, err)
		}
		return r.Close()
	}
	return cmd
}

// errEnough ends a scan when the limit is reached.
var errEnough = errors.New("enough")

// logCat prints events of a log or a file.
type logCat struct {
	cmd    *cobra.Command
	r      *cli.Renderer
	filter cli.LogFilter
	left   int // rows, 0 = no limit
	frames int
}

func (c *logCat) row(cells []any) error {
	if err := c.r.Row(cells...); err != nil {
		return err
	}
	if c.left > 0 {
		if c.left--; c.left == 0 {
			return errEnough
		}
	}
	return nil
}

// all prints the log of the store from the file that holds the first LSN.
func (c *logCat) all() error {
	dir, err := walDir(c.cmd)
	if err != nil {
		return err
	}
	infos, err := wal.ListFiles(vfs.OS, dir)
	if err != nil {
		return err
	}
	oldest, err := oldestLog(cli.GlobalsOf(c.cmd).Dir)
	if err != nil {
		return err
	}
	o := wal.ScanOptions{ReadOnly: true, FromFile: oldest}
	for i, info := range infos {
		if i > 0 && info.FirstLSN <= c.filter.From && info.Seq >= oldest {
			o.FromFile = info.Seq
		}
	}
	return c.scan(dir, o)
}

// oldestLog is the log file that the log begins with since retention dropped those before, 0 = none was dropped.
func oldestLog(dir string) (uint64, error) {
	set, err := manifest.Open(vfs.OS, filepath.ToSlash(filepath.Join(dir, "manifest")), manifest.Options{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	return set.Current().OldestLog, set.Close()
}

// one prints a single file: of the store by number or name, or any by path.
func (c *logCat) one(arg string) error {
	number, numErr := strconv.ParseUint(arg, 10, 64)
	if _, err := os.Stat(arg); err == nil && numErr != nil {
		seq, _, ok := wal.ParseFileName(filepath.Base(arg))
		if !ok {
			return cli.Usage("a file named as dyngo-cli log list shows", "%s is not named like a log file", arg)
		}
		return c.scan(filepath.ToSlash(filepath.Dir(arg)), wal.ScanOptions{ReadOnly: true, FromFile: seq, Only: true})
	}
	dir, err := walDir(c.cmd)
	if err != nil {
		return err
	}
	infos, err := wal.ListFiles(vfs.OS, dir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.Name == filepath.Base(arg) || numErr == nil && info.Seq == number {
			return c.scan(dir, wal.ScanOptions{ReadOnly: true, FromFile: info.Seq, Only: true})
		}
	}
	return cli.Fail(cli.ExitNotFound, "dyngo-cli log list -d "+cli.ShellQuote(cli.GlobalsOf(c.cmd).Dir), "no log file %q", arg)
}

func (c *logCat) scan(dir string, o wal.ScanOptions) error {
	files := wal.OpenFiles(vfs.OS, dir)
	defer files.Close()
	sc, err := wal.NewScanner(vfs.OS, dir, o)
	if err != nil {
		return err
	}
	defer sc.Close()
	v := cli.NewLogView(files, c.filter)
	for {
		f, err := sc.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Kind == wal.KindCommit && f.BaseLSN > v.Filter.To {
			return nil
		}
		if err := v.Frame(f, c.row); err != nil {
			return err
		}
		if c.frames++; c.frames&63 == 0 && c.cmd.Context().Err() != nil {
			return c.cmd.Context().Err()
		}
	}
}
