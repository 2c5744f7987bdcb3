package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
)

// NewHistoryCommand is the command history of a program.
func NewHistoryCommand(program string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history DATASET KEY",
		Short: "List what happened to a key, newest first",
		Long: `List what happened to a key, newest first: every value, deletes and expiries,
range deletes that cover it, creation and drop of datasets of this name. Where
retention has dropped log files, it ends with the value that was current there,
which has the flag at-floor. The flag lost says that the value is gone: it was
written while the log went on to a file that is still there, from one that is
not. A value that was redacted has the flag redacted; the row of the redaction
names its LSN.

--limit counts rows; with --reverse it takes the oldest, and the rows that are
shown are held in memory. A key that nothing was ever written to gives exit
code 3.`,
		Example: `  dyngo-cli history scores alice
  dyngo-cli history scores alice --limit 10 -o json
  dyngo-cli history scores alice --reverse -l`,
		Args: ExactArgs("DATASET", "KEY"),
	}
	cmd.Example = strings.ReplaceAll(cmd.Example, "dyngo-cli", program)
	f := cmd.Flags()
	limit := f.Int("limit", 0, "at most so many rows, 0 = all")
	reverse := f.Bool("reverse", false, "oldest first")
	long := f.BoolP("long", "l", false, "all columns in tables too")
	escaped := AddEscaped(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		key, err := ParseKey("KEY", args[1], *escaped)
		if err != nil {
			return err
		}
		return runHistory(cmd, args[0], key, *limit, *reverse, *long)
	}
	return cmd
}

func runHistory(cmd *cobra.Command, dataset string, key []byte, limit int, reverse, long bool) (err error) {
	db, end, err := OpenAny(cmd)
	if err != nil {
		return err
	}
	defer end(&err)
	ds, err := ReadDataset(cmd, db, dataset)
	if err != nil {
		return err
	}
	r := NewRenderer(cmd, ManyRows, historyColumns()...)
	r.Detail = long
	row := func(v dyngo.Version) error { return rowVersion(r, key, &v) }
	seen, err := eachVersion(cmd.Context(), ds, key, limit, reverse, row)
	if err != nil {
		return Flushed(r, err)
	}
	if !seen {
		return AbsentKey(dyngo.ErrNotFound, dataset, key)
	}
	return r.Close()
}

// eachVersion calls row with the versions of a key, at most limit if that is not 0. It reports whether something was
// ever written to the key itself; if not, it calls nothing.
func eachVersion(ctx context.Context, ds *dyngo.Dataset, key []byte, limit int, reverse bool, row func(dyngo.Version) error) (seen bool, err error) {
	var held []dyngo.Version // all rows with reverse, else those before the first that is the key's own
	n := 0
	for v, err := range ds.History(ctx, key) {
		if err != nil {
			return seen, err
		}
		own := v.Op != event.OpDeleteRange && !v.Op.System()
		if !seen && own && !reverse {
			for _, h := range held {
				if err := row(h); err != nil {
					return true, err
				}
			}
			held = nil
		}
		seen = seen || own
		switch full := limit > 0 && n >= limit; {
		case reverse:
			if held = append(held, v); limit > 0 && len(held) > limit {
				held = slices.Delete(held, 0, 1)
			}
			continue
		case full && seen:
			return true, nil
		case full:
			continue
		case !seen:
			held = append(held, v)
		default:
			if err := row(v); err != nil {
				return true, err
			}
		}
		if n++; seen && n == limit {
			return true, nil
		}
	}
	if seen && reverse {
		for _, h := range slices.Backward(held) {
			if err := row(h); err != nil {
				return true, err
			}
		}
	}
	return seen, nil
}

func historyColumns() []Column {
	return []Column{
		{Name: "key", Detail: true}, {Name: "lsn"}, {Name: "time"}, {Name: "op"}, {Name: "value"}, {Name: "actor"}, {Name: "reason"},
		{Name: "address", Detail: true}, {Name: "client", Detail: true}, {Name: "ticket", Detail: true},
		{Name: "correlation", Detail: true}, {Name: "expires", Detail: true}, {Name: "from", Detail: true}, {Name: "to", Detail: true},
		{Name: "flags"}, {Name: "subject", Detail: true},
	}
}

// rowVersion prints a row of historyColumns.
func rowVersion(r *Renderer, key []byte, v *dyngo.Version) error {
	var val, from, to, flags any
	if v.Value != nil {
		val = ValueCell(v.Value)
	}
	if v.From != nil {
		from = KeyCell(v.From)
	}
	if v.To != nil {
		to = KeyCell(v.To)
	}
	switch {
	case v.NotApplied:
		flags = event.FlagNotApplied.String()
	case v.Of > 0:
		flags = fmt.Sprintf("of LSN %d", v.Of)
	case v.Redacted:
		flags = event.FlagRedacted.String()
	case v.Erased:
		flags = "erased"
	case v.Lost:
		flags = "lost"
	case v.AtFloor:
		flags = "at-floor"
	}
	return r.Row(KeyCell(key), v.LSN, v.Time, v.Op.String(), val, orAbsent(v.Actor), orAbsent(v.Reason),
		orAbsent(v.Address), orAbsent(v.Client), orAbsent(v.Ticket), orAbsent(v.Correlation), v.Expires, from, to, flags, orAbsent(v.Subject))
}
