package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

func newBisectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bisect DATASET KEY",
		Short: "Find the event after which a condition holds",
		Long: `Find the first event after which a key meets a condition: it has a value, or
with --where a value that meets all conditions, or with --missing none.

The states between --from and --to are searched by halving, which is right for
conditions that stay true once they hold. --linear looks at every version of the
key, for the rest. Exit code 3 says that the condition does not hold at --to, or
holds at --from already. A value that was redacted or erased since is there, and
meets no --where.

` + targetHelp,
		Example: `  dyngo-replay bisect accounts anna --where 'balance < 0'
  dyngo-replay bisect scores alice --missing --from -24h
  dyngo-replay bisect scores alice --where '. > 100' --linear`,
		Args: cli.ExactArgs("DATASET", "KEY"),
	}
	b := bisect{cmd: cmd}
	f := cmd.Flags()
	from := f.String("from", "", "`target` at which it does not hold (default the oldest state)")
	to := f.String("to", "", "`target` at which it holds (default the newest event)")
	f.BoolVar(&b.missing, "missing", false, "the key has no value")
	f.BoolVar(&b.linear, "linear", false, "look at every version")
	long := f.BoolP("long", "l", false, "all columns in tables too")
	where := cli.AddWhere(cmd)
	escaped := cli.AddEscaped(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		b.dataset = args[0]
		if b.key, err = cli.ParseKey("KEY", args[1], *escaped); err != nil {
			return err
		}
		if b.where, err = where(); err != nil {
			return err
		}
		if b.missing && len(b.where) > 0 {
			return cli.Usage("only one of them", "--missing and --where exclude each other")
		}
		return b.run(*from, *to, *long)
	}
	return cmd
}

// bisect looks for the first event after which a condition on a key holds.
type bisect struct {
	cmd             *cobra.Command
	dataset         string
	key             []byte
	where           cli.Where
	missing, linear bool

	db *dyngo.DB
}

func (b *bisect) run(from, to string, long bool) (err error) {
	log, err := cli.StoreLog(b.cmd)
	if err != nil {
		return err
	}
	oldest, err := oldestOf(from)
	if err != nil {
		return err
	}
	db, end, err := cli.OpenAny(b.cmd, oldest...)
	if err != nil {
		return err
	}
	defer end(&err)
	b.db = db
	low, err := lsnOf(b.cmd, b.db, "--from", from, b.db.Metrics().FloorLSN)
	if err != nil {
		return err
	}
	high, err := lsnOf(b.cmd, b.db, "--to", to, b.db.DurableLSN())
	if err != nil {
		return err
	}
	if low >= high {
		return cli.Usage("the earlier target first", "--from is LSN %d, which is not before --to, LSN %d", low, high)
	}
	find := b.halve
	if b.linear {
		find = b.walk
	}
	lsn, err := find(low, high)
	if err != nil {
		return err
	}
	return b.print(log, lsn, long)
}

// oldestOf is the oldest state that is needed if it is known before the store is opened.
func oldestOf(from string) ([]dyngo.Target, error) {
	if from == "" {
		return nil, nil
	}
	target, err := cli.ParseTarget("--from", from, time.Now())
	return []dyngo.Target{target}, err
}

// lsnOf is the LSN of a target, def if there is none; what names it in errors.
func lsnOf(cmd *cobra.Command, db *dyngo.DB, what, s string, def event.LSN) (event.LSN, error) {
	if s == "" {
		return def, nil
	}
	target, err := cli.ParseTarget(what, s, time.Now())
	if err != nil {
		return 0, err
	}
	v, err := db.ViewAt(cmd.Context(), target)
	if err != nil {
		return 0, err
	}
	defer v.Close()
	return v.LSN(), nil
}

// at says whether the condition holds at an LSN.
func (b *bisect) at(lsn event.LSN) (bool, error) {
	v, err := b.db.ViewAt(b.cmd.Context(), dyngo.AtLSN(lsn))
	if err != nil {
		return false, err
	}
	defer v.Close()
	ds, err := v.Dataset(b.dataset)
	var value []byte
	if err == nil {
		value, err = v.Get(ds, b.key)
	}
	unread := errors.Is(err, dyngo.ErrErased) || errors.Is(err, dyngo.ErrRedacted)
	gone := errors.Is(err, dyngo.ErrNotFound) && !unread || errors.Is(err, dyngo.ErrNoDataset)
	if err != nil && !gone && !unread {
		return false, err
	}
	return b.holds(value, gone, unread), nil
}

// holds says whether the condition holds for a value, or that there is none, or one that can't be read any more.
func (b *bisect) holds(value []byte, gone, unread bool) bool {
	switch {
	case gone || b.missing:
		return gone && b.missing
	case unread:
		return len(b.where) == 0
	}
	return b.where.Holds(value)
}

// halve searches between an LSN at which the condition does not hold and one at which it does.
func (b *bisect) halve(low, high event.LSN) (event.LSN, error) {
	if holds, err := b.at(high); err != nil || !holds {
		return 0, errOr(err, b.never(high))
	}
	if holds, err := b.at(low); err != nil || holds {
		return 0, errOr(err, cli.Fail(cli.ExitNotFound, "another --from, at which it does not hold, or --linear", "the condition holds at LSN %d already", low))
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		holds, err := b.at(mid)
		if err != nil {
			return 0, err
		}
		if holds {
			high = mid
		} else {
			low = mid
		}
	}
	return high, nil
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (b *bisect) never(high event.LSN) error {
	return cli.Fail(cli.ExitNotFound, "another --to, or --linear if the condition held in between", "the condition does not hold at LSN %d", high)
}

// walk looks at every version of the key, newest first. A redaction makes none.
func (b *bisect) walk(low, high event.LSN) (event.LSN, error) {
	ds, err := b.db.Dataset(b.dataset)
	if err != nil {
		return 0, err
	}
	found, closed := event.LSN(0), 0
	for v, err := range ds.History(b.cmd.Context(), b.key) {
		if err != nil {
			return 0, err
		}
		if v.LSN <= low {
			break
		}
		if v.LSN > high || v.NotApplied || v.Op == event.OpRedact {
			continue
		}
		unread := v.Redacted || v.Erased || v.Lost
		if unread {
			closed++
		}
		if b.holds(v.Value, v.Op != event.OpPut, unread) {
			found = v.LSN
		}
	}
	if closed > 0 && len(b.where) > 0 {
		fmt.Fprintf(b.cmd.ErrOrStderr(), "%s: values that meet no condition, since they were redacted, erased or lost: %d\n", b.cmd.Root().Name(), closed)
	}
	if found == 0 {
		return 0, cli.Fail(cli.ExitNotFound, "another range", "the condition holds after no event from LSN %d to %d", low+1, high)
	}
	return found, nil
}

// print shows the event.
func (b *bisect) print(log *cli.LogSource, lsn event.LSN, long bool) error {
	files, err := log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	v := cli.NewLogView(files, cli.LogFilter{From: lsn, To: lsn, Values: true, Keys: cli.OpenKeys(b.cmd)})
	r := cli.NewRenderer(b.cmd, cli.OneRow, cli.LogColumns()...)
	r.Detail = long
	_, err = log.Each(b.cmd.Context(), v, func(f *wal.Frame) error {
		return v.Frame(f, func(cells []any) error { return r.Row(cells...) })
	})
	if err != nil {
		return cli.Flushed(r, err)
	}
	return r.Close()
}
