package main

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

func newLevelsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "levels",
		Short: "Draw the segments: runs, key ranges, ages, reads",
		Long: `Draw the segments, the sorted files that old events are in. Each row is a run,
the newest first; a read of one key looks into at most one segment of each run.
The bars lie side by side over all keys, wide where there is much data: where
they overlap, runs hold versions of the same keys. Segments of a run take turns
in light and dark; x marks a damaged one.

Formats other than tables have a row for each segment; so has a table with
--segments. Reads a second and what is being merged come from the process that
has the store open, if it serves them; the rest from the files.`,
		Example: `  dyngo-cli levels
  dyngo-cli levels --watch
  dyngo-cli levels -o json | jq '.[].size_bytes'`,
		Args: cli.NoArgs,
	}
	segments := cmd.Flags().Bool("segments", false, "a row for each segment in tables too")
	watch := cmd.Flags().BoolP("watch", "w", false, "draw again and again until ^C")
	every := cmd.Flags().Duration("interval", time.Second, "`time` between two drawings")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkInterval(*every); err != nil {
			return err
		}
		if !*watch {
			return showLevels(cmd, *segments)
		}
		return drawEvery(cmd, *every, func() error { return showLevels(cmd, *segments) })
	}
	return cmd
}

func checkInterval(every time.Duration) error {
	if every < 100*time.Millisecond {
		return cli.Usage("--interval 1s", "--interval is %s: at least 100ms are needed", every)
	}
	return nil
}

// drawEvery draws until the context ends. On a terminal each drawing takes the place of the last one.
func drawEvery(cmd *cobra.Command, every time.Duration, draw func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	out := cmd.OutOrStdout()
	for n := 0; ; n++ {
		if cli.TerminalWidth(out) > 0 {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		} else if n > 0 && cli.GlobalsOf(cmd).Format(out) == "table" {
			fmt.Fprintln(out)
		}
		if err := draw(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
	}
}

func showLevels(cmd *cobra.Command, segments bool) error {
	l, err := readLevels(cmd)
	if err != nil {
		return err
	}
	if cli.GlobalsOf(cmd).Format(cmd.OutOrStdout()) == "table" && !segments {
		return drawLevels(cmd, &l)
	}
	return listSegments(cmd, &l)
}

// readLevels asks the owner of the store, else looks at the files.
func readLevels(cmd *cobra.Command) (l dyngo.Levels, err error) {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return l, err
	}
	l, err = ownerAnswer[dyngo.Levels](cmd.Context(), dir, "levels", nil)
	if !errors.Is(err, errNotLive) {
		return l, err
	}
	db, err := cli.OpenRead(cmd)
	if errors.Is(err, dyngo.ErrCorrupt) {
		return levelsOfManifest(dir, err)
	}
	if err != nil {
		return l, err
	}
	defer cli.CloseStore(db, &err)
	return db.Levels()
}

// levelsOfManifest draws a store that can't be opened because a file is damaged, if the manifest at
// least is sound. The names of datasets are not known then. damage is why the store can't be opened.
func levelsOfManifest(dir string, damage error) (l dyngo.Levels, _ error) {
	set, err := manifest.Open(vfs.OS, filepath.ToSlash(filepath.Join(dir, "manifest")), manifest.Options{ReadOnly: true})
	if err != nil {
		return l, damage
	}
	defer set.Close() // only read from
	v := set.Current()
	l.FlushedLSN = v.FlushedLSN
	for _, run := range v.Runs {
		r := dyngo.LevelRun{ID: uint64(run.ID), SizeBytes: run.SizeBytes()}
		for _, s := range run.Segments {
			row := dyngo.LevelSegment{
				File: path.Join(manifest.Dir, manifest.SegmentName(s.Num)), SizeBytes: s.SizeBytes, RawBytes: s.RawBytes,
				RefBytes: s.RefBytes, First: s.Smallest.Key, Last: s.Largest.Key,
				FirstDatasetID: uint32(s.Smallest.Dataset), LastDatasetID: uint32(s.Largest.Dataset),
				MinLSN: s.MinLSN, MaxLSN: s.MaxLSN, Entries: s.Entries, Keys: s.Keys,
				Tombstones: s.Tombstones, RangeDeletes: s.RangeDeletes, Created: time.Unix(0, s.CreatedAt),
			}
			reader, err := openSegment(dir, s)
			if err != nil {
				row.Damage = err.Error()
			} else {
				reader.Close() // only read from
			}
			r.Segments = append(r.Segments, row)
		}
		l.Runs = append(l.Runs, r)
	}
	return l, nil
}

// openSegment opens a segment's file and holds it against what the manifest says of it.
func openSegment(dir string, s *manifest.Segment) (*segment.Reader, error) {
	name := path.Join(manifest.Dir, manifest.SegmentName(s.Num))
	r, err := segment.Open(vfs.OS, filepath.ToSlash(filepath.Join(dir, name)), segment.ReaderOptions{DisplayName: name})
	if err != nil {
		return nil, err
	}
	if p := r.Properties(); p.SHA256 != s.SHA256 || p.SizeBytes != s.SizeBytes {
		r.Close() // only read from
		return nil, &dyngo.CorruptionError{File: name, What: "another file than the manifest names: size or hash differ"}
	}
	return r, nil
}

// listSegments prints a row for each segment with all that is known.
func listSegments(cmd *cobra.Command, l *dyngo.Levels) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "run"}, cli.Column{Name: "file"}, cli.Column{Name: "size_bytes", Title: "SIZE"},
		cli.Column{Name: "entries"}, cli.Column{Name: "keys", Detail: true}, cli.Column{Name: "tombstones", Title: "DELETES"},
		cli.Column{Name: "range_deletes", Detail: true},
		cli.Column{Name: "first_dataset", Detail: true}, cli.Column{Name: "first_dataset_id", Detail: true}, cli.Column{Name: "first"},
		cli.Column{Name: "last_dataset", Detail: true}, cli.Column{Name: "last_dataset_id", Detail: true}, cli.Column{Name: "last"},
		cli.Column{Name: "min_lsn", Detail: true}, cli.Column{Name: "max_lsn", Detail: true},
		cli.Column{Name: "raw_bytes", Detail: true}, cli.Column{Name: "ref_bytes", Detail: true},
		cli.Column{Name: "created", Detail: true},
		cli.Column{Name: "reads_per_second", Title: "READS/S"}, cli.Column{Name: "scans_per_second", Detail: true},
		cli.Column{Name: "damage"}, cli.Column{Name: "flushed_lsn", Detail: true}, cli.Column{Name: "merging", Detail: true})
	for i := range l.Runs {
		for j := range l.Runs[i].Segments {
			s := &l.Runs[i].Segments[j]
			var first, last any
			if s.Entries > 0 {
				first, last = cli.KeyCell(s.First), cli.KeyCell(s.Last)
			}
			err := r.Row(l.Runs[i].ID, s.File, cli.ByteCell(s.SizeBytes), cli.CountCell(s.Entries), cli.CountCell(s.Keys),
				cli.CountCell(s.Tombstones), cli.CountCell(s.RangeDeletes), textCell(s.FirstDataset), s.FirstDatasetID, first,
				textCell(s.LastDataset), s.LastDatasetID, last, s.MinLSN, s.MaxLSN,
				cli.ByteCell(s.RawBytes), cli.ByteCell(s.RefBytes), s.Created, s.ReadsPerSecond, s.ScansPerSecond,
				textCell(s.Damage), l.FlushedLSN, textCell(l.Running))
			if err != nil {
				return err
			}
		}
	}
	return r.Close()
}

// textCell is a text, absent if empty.
func textCell(s string) any {
	if s == "" {
		return nil
	}
	return s
}
