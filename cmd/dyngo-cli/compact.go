package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
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
		Args: noArgs,
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only say what would be merged")
	why := cmd.Flags().Bool("why", false, "with --dry-run: explain each step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *why && !*dryRun {
			return usage("dyngo-cli compact --dry-run --why", "--why explains what --dry-run prints")
		}
		if err := checkStore(globalsOf(cmd).dir); err != nil {
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
	r := newRenderer(cmd, manyRows, column{name: "step"}, column{name: "kind"}, column{name: "reason"},
		column{name: "segments"}, column{name: "run"}, column{name: "read_bytes", title: "READS"},
		column{name: "write_bytes", title: "WRITES"}, column{name: "reclaim_bytes", title: "RECLAIMS"},
		column{name: "sources_removed", detail: true}, column{name: "score", detail: true},
		column{name: "files", detail: true}, column{name: "why", detail: true}, column{name: "explain", detail: true})
	table := globalsOf(cmd).format(cmd.OutOrStdout()) == "table"
	for i := range steps {
		s := &steps[i]
		err := r.Row(i+1, s.Kind, s.Reason, countCell(len(s.Segments)), s.Run, byteCell(s.ReadBytes), byteCell(s.WriteBytes),
			byteCell(s.ReclaimBytes), s.SourcesRemoved, round3(s.Score), jsonCell(s.Segments), s.Why, s.Explain)
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
	steps, err = ownerAnswer[[]dyngo.CompactStep](cmd.Context(), globalsOf(cmd).dir, "plan", nil)
	if !errors.Is(err, errNotLive) {
		return steps, err
	}
	db, err := openRead(cmd)
	if err != nil {
		return nil, err
	}
	defer closeStore(db, &err)
	return db.CompactPlan(cmd.Context())
}

// runCompact compacts, by the owner of the store or alone.
func runCompact(cmd *cobra.Command) error {
	dir := globalsOf(cmd).dir
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
	db, err := openWrite(cmd)
	var locked *dyngo.LockedError
	if errors.As(err, &locked) {
		try := fmt.Sprintf("stop %s, or have it open the store with the option Live", pidName(locked.PID))
		return fail(exitUnavailable, try, "%w", err)
	}
	if err != nil {
		return err
	}
	defer closeStore(db, &err)
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
	p      *progress
}

func newCompactWatch(cmd *cobra.Command, source string, before *dyngo.Metrics) *compactWatch {
	return &compactWatch{cmd, source, before, time.Now(), newProgress(cmd, "compact", before.SegmentBytes, "bytes")}
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
	r := newRenderer(w.cmd, oneSheet, column{name: "source"}, column{name: "dir"}, column{name: "merges"},
		column{name: "read_bytes"}, column{name: "written_bytes"}, column{name: "runs_before"}, column{name: "runs"},
		column{name: "segments_before"}, column{name: "segments"}, column{name: "segment_bytes_before"},
		column{name: "segment_bytes"}, column{name: "seconds"})
	b := w.before
	rerr := r.Row(w.source, globalsOf(w.cmd).dir, countCell(after.Compactions-b.Compactions),
		byteCell(after.CompactReadBytes-b.CompactReadBytes), byteCell(after.CompactWrittenBytes-b.CompactWrittenBytes),
		countCell(b.Runs), countCell(after.Runs),
		countCell(b.Segments), countCell(after.Segments), byteCell(b.SegmentBytes), byteCell(after.SegmentBytes),
		round3(time.Since(w.began).Seconds()))
	if rerr != nil {
		return rerr
	}
	return r.Close()
}
