package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newCompactCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Merge the segments into one run",
		Long: `Write recent events as segments and merge all segments until one run is left and
nothing in it can be given up. It takes as long as reading and writing all of
them; reads and writes of a process that has the store open go on. That process
merges what pays by itself: nobody has to run this.

The process that has the store open is asked if it serves live.sock (the option
Live); else the store must not be open elsewhere. With --dry-run the command
prints the merges that would follow each other, with sizes that are estimates,
and with --why all figures that each was chosen by.`,
		Example: `  dyngo-cli compact
  dyngo-cli compact --dry-run --why`,
		Args: cli.NoArgs,
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only say what would be merged")
	why := cmd.Flags().Bool("why", false, "with --dry-run: explain each step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *why && !*dryRun {
			return cli.Usage("dyngo-cli compact --dry-run --why", "--why explains what --dry-run prints")
		}
		if err := cli.CheckStore(cli.GlobalsOf(cmd).Dir); err != nil {
			return err
		}
		if *dryRun {
			return showPlan(cmd, *why)
		}
		return runCompact(cmd)
	}
	return cmd
}

// showPlan prints what compact would do.
func showPlan(cmd *cobra.Command, why bool) error {
	steps, err := readPlan(cmd)
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "step"}, cli.Column{Name: "kind"}, cli.Column{Name: "reason"},
		cli.Column{Name: "segments"}, cli.Column{Name: "run"}, cli.Column{Name: "read_bytes", Title: "READS"},
		cli.Column{Name: "write_bytes", Title: "WRITES"}, cli.Column{Name: "reclaim_bytes", Title: "RECLAIMS"},
		cli.Column{Name: "sources_removed", Detail: true}, cli.Column{Name: "score", Detail: true},
		cli.Column{Name: "files", Detail: true}, cli.Column{Name: "why", Detail: true}, cli.Column{Name: "explain", Detail: true})
	table := cli.GlobalsOf(cmd).Format(cmd.OutOrStdout()) == "table"
	for i := range steps {
		s := &steps[i]
		err := r.Row(i+1, s.Kind, s.Reason, cli.CountCell(len(s.Segments)), s.Run, cli.ByteCell(s.ReadBytes), cli.ByteCell(s.WriteBytes),
			cli.ByteCell(s.ReclaimBytes), s.SourcesRemoved, cli.Round3(s.Score), cli.JsonCell(s.Segments), s.Why, s.Explain)
		if err != nil {
			return err
		}
	}
	if why && table {
		for i := range steps {
			if err := r.Line(fmt.Sprintf("\n%d. %s", i+1, steps[i].Explain)); err != nil {
				return err
			}
		}
	}
	if len(steps) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "there is nothing to merge")
	}
	return r.Close()
}

// readPlan asks the owner of the store, else looks at the files.
func readPlan(cmd *cobra.Command) (steps []dyngo.CompactStep, err error) {
	steps, err = ownerAnswer[[]dyngo.CompactStep](cmd.Context(), cli.GlobalsOf(cmd).Dir, "plan", nil)
	if !errors.Is(err, errNotLive) {
		return steps, err
	}
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return nil, err
	}
	defer cli.CloseStore(db, &err)
	return db.CompactPlan(cmd.Context())
}

// runCompact compacts, by the owner of the store or alone.
func runCompact(cmd *cobra.Command) error {
	dir := cli.GlobalsOf(cmd).Dir
	before, err := ownerAnswer[dyngo.Metrics](cmd.Context(), dir, "stats", nil)
	if errors.Is(err, errNotLive) {
		return compactAlone(cmd)
	}
	if err != nil {
		return err
	}
	w := newCompactWatch(cmd, "live", &before)
	after, err := ownerAnswer[dyngo.Metrics](cmd.Context(), dir, "compact", w.set)
	return w.end(&after, err)
}

// compactAlone opens the store itself.
func compactAlone(cmd *cobra.Command) (err error) {
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return explainLocked(err)
	}
	defer cli.CloseStore(db, &err)
	before := db.Metrics()
	w := newCompactWatch(cmd, "files", &before)
	done := make(chan error, 1)
	go func() { done <- db.Compact(cmd.Context()) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			m := db.Metrics()
			return w.end(&m, err)
		case <-tick.C:
			w.set(db.Metrics())
		}
	}
}

// compactWatch shows how far a compaction is, and what it did.
type compactWatch struct {
	cmd    *cobra.Command
	source string
	before *dyngo.Metrics
	began  time.Time
	p      *cli.Progress
}

func newCompactWatch(cmd *cobra.Command, source string, before *dyngo.Metrics) *compactWatch {
	return &compactWatch{cmd, source, before, time.Now(), cli.NewProgress(cmd, "compact", before.SegmentBytes, "bytes")}
}

// set is told the figures of the store. Each byte is read once, or more often if merges follow each other.
func (w *compactWatch) set(m dyngo.Metrics) {
	done := m.CompactReadBytes - w.before.CompactReadBytes
	w.p.SetTotal(max(done, w.before.SegmentBytes+m.FlushedBytes-w.before.FlushedBytes))
	w.p.Set(done)
}

func (w *compactWatch) end(after *dyngo.Metrics, err error) error {
	w.p.Done()
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w.cmd.ErrOrStderr(), "the merges that had ended stay")
	}
	if err != nil {
		return err
	}
	r := cli.NewRenderer(w.cmd, cli.OneSheet, cli.Column{Name: "source"}, cli.Column{Name: "dir"}, cli.Column{Name: "merges"},
		cli.Column{Name: "read_bytes"}, cli.Column{Name: "written_bytes"}, cli.Column{Name: "runs_before"}, cli.Column{Name: "runs"},
		cli.Column{Name: "segments_before"}, cli.Column{Name: "segments"}, cli.Column{Name: "segment_bytes_before"},
		cli.Column{Name: "segment_bytes"}, cli.Column{Name: "seconds"})
	b := w.before
	rerr := r.Row(w.source, cli.GlobalsOf(w.cmd).Dir, cli.CountCell(after.Compactions-b.Compactions),
		cli.ByteCell(after.CompactReadBytes-b.CompactReadBytes), cli.ByteCell(after.CompactWrittenBytes-b.CompactWrittenBytes),
		cli.CountCell(b.Runs), cli.CountCell(after.Runs),
		cli.CountCell(b.Segments), cli.CountCell(after.Segments), cli.ByteCell(b.SegmentBytes), cli.ByteCell(after.SegmentBytes),
		cli.Round3(time.Since(w.began).Seconds()))
	if rerr != nil {
		return rerr
	}
	return r.Close()
}
