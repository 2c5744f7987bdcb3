package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

func newDumpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump [FILE]",
		Short: "Print the events of the log",
		Long: `Print the events of the log, or of one log FILE alone: its number or name in the
store, or the path of a file that lies anywhere. Filters can be combined.

--as cloudevents prints CloudEvents 1.0 as JSON lines. --as debezium prints
Debezium envelopes: the operation of a put is always u, since the log alone does
not tell whether the key was there; before has only the key; what Debezium has
no operation for is a message (m); puts without effect are left out. --as hex
prints the bytes as they stand in the log. Without --as, -o chooses the format.

--reverse begins with the newest event. --follow goes on with each event as soon
as it is durable, until ^C.`,
		Example: `  dyngo-replay dump --from-lsn 100 --to-lsn 200 -o table
  dyngo-replay dump --dataset scores --key alice --reverse --limit 5
  dyngo-replay dump --actor anna --since -24h --as cloudevents
  dyngo-replay dump wal/0000000003-00000000000000081920.log --as hex`,
		Args: cli.MaybeArg("FILE"),
	}
	f := cmd.Flags()
	from := f.Uint64("from-lsn", 0, "first `LSN`")
	to := f.Uint64("to-lsn", 0, "last `LSN`, 0 = the log's")
	limit := f.Int("limit", 0, "at most so many events, 0 = all")
	as := f.String("as", "", "`form` of an event: "+strings.Join(forms, ", "))
	follow := f.BoolP("follow", "f", false, "wait for more events")
	reverse := f.Bool("reverse", false, "newest first")
	long := f.BoolP("long", "l", false, "all columns in tables too")
	filter := cli.AddLogFilter(cmd)
	cli.MustCompleteFlag(cmd, "as", forms...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fl, err := filter()
		switch {
		case err != nil:
			return err
		case *limit < 0:
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		case *as != "" && !slices.Contains(forms, *as):
			return cli.Usage("one of: "+strings.Join(forms, ", "), "--as: unknown form %q", *as)
		case *as != "" && cli.GlobalsOf(cmd).Output != "":
			return cli.Usage("only one of them", "--as and --output exclude each other")
		case *follow && *reverse:
			return cli.Usage("only one of them", "--follow and --reverse exclude each other")
		case *follow && len(args) > 0:
			return cli.Usage("--follow without FILE", "one log file can't be followed: the log goes on in others")
		}
		fl.From, fl.To = event.LSN(*from), event.LSN(*to)
		d := dump{cmd: cmd, limit: *limit}
		if d.log, err = openLog(cmd, args); err != nil {
			return err
		}
		files, err := d.log.OpenFiles()
		if err != nil {
			return err
		}
		defer files.Close() // only read from
		d.view = func() *cli.LogView {
			v := cli.NewLogView(files, fl)
			v.Lost = cli.TellLost(cmd)
			return v
		}
		d.out = newPrinter(cmd, d.log, *as, *long)
		switch {
		case *follow:
			err = d.follow()
		case *reverse:
			err = d.backward()
		default:
			err = d.forward()
		}
		return d.end(err)
	}
	return cmd
}

// openLog is the log of the store, or the file that args name.
func openLog(cmd *cobra.Command, args []string) (*cli.LogSource, error) {
	if len(args) == 1 {
		return cli.LogFile(cmd, args[0])
	}
	return cli.StoreLog(cmd)
}

// dump prints events.
type dump struct {
	cmd   *cobra.Command
	log   *cli.LogSource
	view  func() *cli.LogView
	out   *printer
	limit int // 0 = none
	n     int
}

// end ends the output. What was printed is whole, also after ^C.
func (d *dump) end(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		if cerr := d.out.close(); cerr != nil {
			return cerr
		}
		return err
	}
	if ferr := d.out.flush(); ferr != nil {
		return ferr
	}
	return err
}

// frame prints the events of a frame.
func (d *dump) frame(v *cli.LogView, f *wal.Frame) error {
	return v.Events(f, func(e *cli.LogEvent) error {
		row, err := d.out.render(v, e)
		if err != nil || row == nil {
			return err
		}
		return d.print(row)
	})
}

func (d *dump) print(row any) error {
	if err := d.out.write(row); err != nil {
		return err
	}
	if d.n++; d.n == d.limit {
		return cli.ErrEnough
	}
	return nil
}

func (d *dump) forward() error {
	v, last := d.view(), event.LSN(0)
	tail, err := d.log.Each(d.cmd.Context(), v, func(f *wal.Frame) error {
		if f.Kind == wal.KindCommit {
			last = f.BaseLSN + event.LSN(f.Count) - 1
		}
		return d.frame(v, f)
	})
	if err == nil && d.log.Only == 0 && !tail.Clean && tail.NextLSN == last+1 && tail.DurableLSN < last {
		fmt.Fprintf(d.cmd.ErrOrStderr(), "%s: LSN %d to %d may not be durable yet: the log ends without saying so\n", d.cmd.Root().Name(),
			tail.DurableLSN+1, last)
	}
	return err
}

func (d *dump) follow() error {
	v := d.view()
	d.log.TellWait(d.cmd, v.Filter.From)
	return d.log.Follow(d.cmd.Context(), v, func(f *wal.Frame) error {
		if err := d.frame(v, f); err != nil {
			return err
		}
		return d.out.flush()
	})
}

// maxBackward bounds the memory for events of a file that is read backward, in bytes of rows.
const maxBackward = 16 << 20

// backward prints files from the newest to the oldest. Of each it keeps the newest events that fit into maxBackward; when they
// are printed it reads the file once more, up to the first of them.
func (d *dump) backward() error {
	infos, err := d.log.Files()
	if err != nil {
		return err
	}
	f := d.view().Filter
	for i := len(infos) - 1; i >= 0; i-- {
		for upTo := event.LSN(event.MaxLSN); upTo > 0; {
			rows, err := d.newest(infos[i].Seq, upTo)
			if err != nil {
				return err
			}
			for _, row := range slices.Backward(rows.list) {
				if err := d.print(row); err == cli.ErrEnough {
					return nil
				} else if err != nil {
					return err
				}
			}
			if upTo = 0; rows.more {
				upTo = rows.first - 1
			}
		}
		if infos[i].FirstLSN <= f.From {
			return nil
		}
		if i == 0 {
			return d.log.Before(infos[0], &f)
		}
		if err := d.log.Gap(infos[i-1], infos[i]); err != nil {
			return err
		}
	}
	return nil
}

// newestRows are the newest events of a file up to an LSN.
type newestRows struct {
	list  []any
	lsns  []event.LSN
	bytes int
	first event.LSN // of list
	more  bool      // there are older ones
}

func (d *dump) newest(file uint64, upTo event.LSN) (rows newestRows, err error) {
	v := d.view()
	v.Filter.To = min(v.Filter.To, upTo)
	err = d.log.EachOf(d.cmd.Context(), v, file, func(f *wal.Frame) error {
		return v.Events(f, func(e *cli.LogEvent) error {
			row, err := d.out.render(v, e)
			if err != nil || row == nil {
				return err
			}
			rows.add(own(row), e.LSN)
			return nil
		})
	})
	if len(rows.lsns) > 0 {
		rows.first = rows.lsns[0]
	}
	return rows, err
}

func (r *newestRows) add(row any, lsn event.LSN) {
	r.list, r.lsns = append(r.list, row), append(r.lsns, lsn)
	r.bytes += rowBytes(row)
	drop := 0
	for r.bytes > maxBackward && drop < len(r.list)-1 {
		r.bytes -= rowBytes(r.list[drop])
		r.list[drop] = nil
		drop++
	}
	if drop > 0 {
		r.list, r.lsns, r.more = r.list[drop:], r.lsns[drop:], true
	}
}

// printer writes events in one format.
type printer struct {
	rows *cli.Renderer // nil with a form
	out  *bufio.Writer
	form func(v *cli.LogView, e *cli.LogEvent) ([]byte, error)
}

func newPrinter(cmd *cobra.Command, log *cli.LogSource, as string, long bool) *printer {
	if as == "" {
		r := cli.NewRenderer(cmd, cli.ManyRows, cli.LogColumns()...)
		r.Detail = long
		return &printer{rows: r}
	}
	h := &headers{log: log}
	form := map[string]func(v *cli.LogView, e *cli.LogEvent) ([]byte, error){
		formCloudEvents: h.cloudEvent, formDebezium: h.debezium, formHex: hexDump,
	}[as]
	return &printer{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), form: form}
}

// render makes the row of an event, nil = it has none. The row is valid as long as the event is.
func (p *printer) render(v *cli.LogView, e *cli.LogEvent) (any, error) {
	if p.rows != nil {
		cells, err := v.Cells(e)
		return cells, err
	}
	b, err := p.form(v, e)
	if b == nil {
		return nil, err
	}
	return b, err
}

// own makes a row last.
func own(row any) any {
	if cells, ok := row.([]any); ok {
		return cli.OwnCells(cells)
	}
	return row // forms are made anew for each event
}

// rowBytes is about what a row takes in memory.
func rowBytes(row any) int {
	cells, ok := row.([]any)
	if !ok {
		return len(row.([]byte))
	}
	n := 32 * len(cells)
	for _, c := range cells {
		switch c := c.(type) {
		case cli.KeyCell:
			n += len(c)
		case cli.ValueCell:
			n += len(c)
		case string:
			n += len(c)
		}
	}
	return n
}

func (p *printer) write(row any) error {
	if p.rows != nil {
		return p.rows.Row(row.([]any)...)
	}
	_, err := p.out.Write(row.([]byte))
	return err
}

func (p *printer) flush() error {
	if p.rows != nil {
		return p.rows.Flush()
	}
	return p.out.Flush()
}

func (p *printer) close() error {
	if p.rows != nil {
		return p.rows.Close()
	}
	return p.out.Flush()
}
