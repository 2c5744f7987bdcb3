package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
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

func listLog(cmd *cobra.Command) error {
	dir, err := cli.WalDir(cmd)
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
			if infos[i+1].Seq != info.Seq+1 {
				last = nil // of the one that is missing
			} else if heads[i+1].PrevEnding == wal.EndingCut {
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
	log, err := cli.StoreLog(cmd)
	if err == nil {
		infos, err = log.Files() // without what is left of those that retention has dropped
	}
	if err == nil {
		err = log.Gaps(infos)
	}
	if err != nil {
		return cli.Flushed(r, err)
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

func newLogCatCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cat [FILE]",
		Short: "Print the events of the log",
		Long: `Print the events of the log in order, or those of one FILE of it: its number in
log list, its name, or the path of a file that lies anywhere.`,
		Example: `  dyngo-cli log cat --from 100 --to 200
  dyngo-cli log cat --dataset scores --key alice -l
  dyngo-cli log cat 3 -o json`,
		Args: cli.MaybeArg("FILE"),
	}
	from := cmd.Flags().Uint64("from", 0, "first LSN")
	to := cmd.Flags().Uint64("to", 0, "last LSN, 0 = the log's")
	limit := cmd.Flags().Int("limit", 0, "at most so many events, 0 = all")
	long := cmd.Flags().BoolP("long", "l", false, "all columns in tables too")
	filter := cli.AddLogFilter(cmd)
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
		return catLog(cmd, args, fl, r, *limit)
	}
	return cmd
}

// catLog prints events of the log, or of the file that args name; limit 0 = all.
func catLog(cmd *cobra.Command, args []string, filter cli.LogFilter, r *cli.Renderer, limit int) error {
	var log *cli.LogSource
	var err error
	if len(args) == 1 {
		log, err = cli.LogFile(cmd, args[0])
	} else {
		log, err = cli.StoreLog(cmd)
	}
	if err != nil {
		return err
	}
	files, err := log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	v := cli.NewLogView(files, filter)
	v.Lost = cli.TellLost(cmd)
	n := 0
	_, err = log.Each(cmd.Context(), v, func(f *wal.Frame) error {
		return v.Frame(f, func(cells []any) error {
			if err := r.Row(cells...); err != nil {
				return err
			}
			if n++; n == limit {
				return cli.ErrEnough
			}
			return nil
		})
	})
	if err != nil {
		return cli.Flushed(r, err)
	}
	return r.Close()
}
