package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

func newLogTailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest events, and follow the log",
		Long: `Print the newest events of the log. With --follow go on with each event as soon
as it is durable, whichever process writes it, until ^C.`,
		Example: `  dyngo-cli log tail -n 20
  dyngo-cli log tail --follow --dataset scores`,
		Args: cli.NoArgs,
	}
	n := cmd.Flags().IntP("lines", "n", 10, "how many events to begin with")
	follow := cmd.Flags().BoolP("follow", "f", false, "wait for more events")
	long := cmd.Flags().BoolP("long", "l", false, "all columns in tables too")
	filter := cli.AddLogFilter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *n < 0 || *n > maxTailLines {
			return cli.Usage("dyngo-cli log cat for all events", "--lines is %d: allowed are 0 to %d", *n, maxTailLines)
		}
		fl, err := filter()
		if err != nil {
			return err
		}
		log, err := cli.StoreLog(cmd)
		if err != nil {
			return err
		}
		t := logTail{cmd: cmd, log: log, filter: fl, follow: *follow, r: cli.NewRenderer(cmd, cli.ManyRows, cli.LogColumns()...)}
		t.r.Detail = *long
		return t.run(*n)
	}
	return cmd
}

// maxTailLines bounds the events that tail keeps in memory.
const maxTailLines = 100_000

// logTail prints the end of a log.
type logTail struct {
	cmd    *cobra.Command
	log    *cli.LogSource
	filter cli.LogFilter
	follow bool
	r      *cli.Renderer

	shown event.LSN // the scan for the first rows saw the log up to here
}

func (t *logTail) run(n int) error {
	files, err := t.log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	rows, err := t.last(files, n)
	for _, cells := range rows {
		if err := t.r.Row(cells...); err != nil {
			return err
		}
	}
	if err != nil {
		return cli.Flushed(t.r, err)
	}
	if !t.follow {
		return t.r.Close()
	}
	if err := t.r.Flush(); err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintf(t.cmd.ErrOrStderr(), "waiting for events after LSN %d, ^C ends it\n", t.shown)
	}
	return t.more(files)
}

// last returns the rows of the newest n events. It reads files from the newest back until there are
// enough: each can be read alone.
func (t *logTail) last(files *wal.Files, n int) ([][]any, error) {
	infos, err := t.log.Files()
	if err != nil {
		return nil, err
	}
	var rows [][]any
	for i := len(infos) - 1; i >= 0; i-- {
		newest := i == len(infos)-1
		if !newest && len(rows) >= n {
			return rows, nil
		}
		if !newest {
			if err := t.log.Gap(infos[i], infos[i+1]); err != nil {
				return rows, err
			}
		}
		more, tail, err := t.lastOf(files, infos[i].Seq, newest, n-len(rows))
		rows = append(more, rows...)
		if newest {
			t.shown = tail.NextLSN - min(tail.NextLSN, 1)
			if t.follow {
				t.shown = tail.DurableLSN // the rest is shown once it is durable
			}
		}
		if err != nil {
			return rows, err
		}
	}
	if len(rows) >= n {
		return rows, nil
	}
	return rows, t.log.Gaps(infos)
}

// lastOf returns the rows of the newest n events of one file. The newest file is read on into
// files that were begun meanwhile.
func (t *logTail) lastOf(files *wal.Files, seq uint64, newest bool, n int) ([][]any, wal.Tail, error) {
	sc, err := wal.NewScanner(t.log.FS, t.log.Dir, wal.ScanOptions{ReadOnly: true, FromFile: seq, Only: !newest})
	if err != nil {
		return nil, wal.Tail{}, err
	}
	defer sc.Close()
	v := cli.NewLogView(files, t.filter)
	var ring [][]any
	next := 0 // in ring
	keep := func(cells []any) error {
		cells = cli.OwnCells(cells)
		switch {
		case n <= 0:
		case len(ring) < n:
			ring = append(ring, cells)
		default:
			ring[next] = cells
			next = (next + 1) % n
		}
		return nil
	}
	for frames := 1; ; frames++ {
		f, err := sc.Next()
		if err == nil {
			err = v.Frame(f, keep)
		}
		if err == nil && frames&63 == 0 {
			err = t.cmd.Context().Err()
		}
		if err == nil {
			continue
		}
		rows := append(slices.Clone(ring[next:]), ring[:next]...)
		tail := sc.Tail()
		if err == io.EOF {
			err = nil
		}
		if t.follow {
			rows = slices.DeleteFunc(rows, func(cells []any) bool { return cells[0].(event.LSN) > tail.DurableLSN })
		}
		return rows, tail, err
	}
}

// more follows the log from behind what was shown.
func (t *logTail) more(files *wal.Files) error {
	v := cli.NewLogView(files, t.filter)
	v.Filter.From = max(v.Filter.From, t.shown+1)
	v.Lost = cli.TellLost(t.cmd)
	return t.log.Follow(t.cmd.Context(), v, func(f *wal.Frame) error {
		if err := v.Frame(f, func(cells []any) error { return t.r.Row(cells...) }); err != nil {
			return err
		}
		return t.r.Flush()
	})
}
