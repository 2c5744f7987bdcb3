package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

func newWatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [DATASET]",
		Short: "Show changes as they happen",
		Long: `Show each event as soon as it is durable, whichever process writes it, until ^C
or --limit: from now on, or from --from-lsn on, so that who remembers the last
LSN goes on where it was. Filters can be combined. Events that retention has
dropped before they could be shown are told on stderr, and the feed goes on.`,
		Example: `  dyngo-cli watch scores
  dyngo-cli watch scores --prefix al --op put,delete -o jsonl
  dyngo-cli watch --from-lsn 1234 --limit 100 -o csv`,
		Args: cli.MaybeArg("DATASET"),
	}
	from := cmd.Flags().Uint64("from-lsn", 0, "begin with this `LSN`, 0 = with the next event")
	limit := cmd.Flags().Int("limit", 0, "end after so many events, 0 = never")
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
		if len(args) == 1 {
			if fl.Dataset != "" && fl.Dataset != args[0] {
				return cli.Usage("only one of them", "the argument is dataset %q, --dataset is %q", args[0], fl.Dataset)
			}
			fl.Dataset = args[0]
		}
		fl.From = event.LSN(*from)
		return watch(cmd, fl, *limit, *long)
	}
	return cmd
}

func watch(cmd *cobra.Command, filter cli.LogFilter, limit int, long bool) error {
	log, err := cli.StoreLog(cmd)
	if err != nil {
		return err
	}
	if filter.From == 0 {
		end, err := log.End(cmd.Context())
		if err != nil {
			return err
		}
		filter.From = end + 1
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: from LSN %d on; ^C ends it\n", cmd.Root().Name(), filter.From)
	} else {
		log.TellWait(cmd, filter.From)
	}
	tellNoDataset(cmd, filter.Dataset)
	files, err := log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	v := cli.NewLogView(files, filter)
	v.Lost = cli.TellLost(cmd)
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.LogColumns()...)
	r.Detail = long
	n := 0
	err = log.Follow(cmd.Context(), v, func(f *wal.Frame) error {
		err := v.Frame(f, func(cells []any) error {
			if err := r.Row(cells...); err != nil {
				return err
			}
			if n++; n == limit {
				return cli.ErrEnough
			}
			return nil
		})
		if err != nil {
			return err
		}
		return r.Flush()
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return cli.Flushed(r, err)
	}
	if cerr := r.Close(); cerr != nil { // what was shown is whole, also after ^C
		return cerr
	}
	return err
}

// tellNoDataset says that a dataset to be watched is not there; its events may still come, or be of the past.
func tellNoDataset(cmd *cobra.Command, name string) {
	if name == "" {
		return
	}
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return // what of the log can be read is shown all the same
	}
	defer db.Close() // only read from
	if _, err := db.Dataset(name); errors.Is(err, dyngo.ErrNoDataset) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: there is no dataset %q yet; it is watched all the same\n", cmd.Root().Name(), name)
	}
}
