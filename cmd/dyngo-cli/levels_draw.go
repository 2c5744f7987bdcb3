package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// drawLevels prints a row for each run, with a bar that shows where in the keys its segments lie.
func drawLevels(cmd *cobra.Command, l *dyngo.Levels) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "run"}, cli.Column{Name: "segments", Title: "SEGS"}, cli.Column{Name: "size"},
		cli.Column{Name: "age"}, cli.Column{Name: "entries"}, cli.Column{Name: "deletes"}, cli.Column{Name: "reads/s"}, cli.Column{Name: "keys"})
	now := time.Now()
	var rows [][]any
	for i := range l.Runs {
		run := &l.Runs[i]
		var entries, deletes int64
		var reads float64
		oldest := now
		for j := range run.Segments {
			s := &run.Segments[j]
			entries += s.Entries
			deletes += s.Tombstones + s.RangeDeletes
			reads += s.ReadsPerSecond + s.ScansPerSecond
			if s.Created.Before(oldest) {
				oldest = s.Created
			}
		}
		rows = append(rows, []any{run.ID, cli.CountCell(len(run.Segments)), cli.ByteCell(run.SizeBytes), formatAge(now.Sub(oldest)),
			cli.CountCell(entries), cli.CountCell(deletes), reads, ""})
	}
	ruler := newKeyRuler(l, r.Room(rows))
	for i, row := range rows {
		row[len(row)-1] = ruler.bar(l.Runs[i].Segments)
		if err := r.Row(row...); err != nil {
			return err
		}
	}
	for _, line := range levelNotes(l) {
		if err := r.Line(line); err != nil {
			return err
		}
	}
	return r.Close()
}

// levelNotes are what to say below the runs.
func levelNotes(l *dyngo.Levels) (notes []string) {
	if len(l.Runs) == 0 {
		notes = append(notes, "no segments: all events are in the log, and in memory once the store is open")
	}
	if l.Running != "" {
		notes = append(notes, "now: "+l.Running)
	}
	for i := range l.Runs {
		for j := range l.Runs[i].Segments {
			if s := &l.Runs[i].Segments[j]; s.Damage != "" {
				notes = append(notes, fmt.Sprintf("damaged: %s: %s", s.File, s.Damage))
			}
		}
	}
	return notes
}

// formatAge is short: the largest unit alone.
func formatAge(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", max(d, 0)/time.Second)
}

// keyRuler lays the keys of all segments out in a row of cells, in proportion to the bytes there.
type keyRuler struct {
	points []keyPoint // ends of segments, ascending and distinct
	from   []float64  // where the places begin, in cells: that of points[i] at 2i, the gap behind it at 2i+1
	cells  int
}

type keyPoint struct {
	dataset uint32
	key     []byte
}

func (p keyPoint) compare(q keyPoint) int {
	return cmp.Or(cmp.Compare(p.dataset, q.dataset), bytes.Compare(p.key, q.key))
}

func firstPoint(s *dyngo.LevelSegment) keyPoint { return keyPoint{s.FirstDatasetID, s.First} }
func lastPoint(s *dyngo.LevelSegment) keyPoint  { return keyPoint{s.LastDatasetID, s.Last} }

func newKeyRuler(l *dyngo.Levels, cells int) *keyRuler {
	k := &keyRuler{cells: cells}
	for i := range l.Runs {
		for j := range l.Runs[i].Segments {
			if s := &l.Runs[i].Segments[j]; s.Entries > 0 {
				k.points = append(k.points, firstPoint(s), lastPoint(s))
			}
		}
	}
	slices.SortFunc(k.points, keyPoint.compare)
	k.points = slices.CompactFunc(k.points, func(a, b keyPoint) bool { return a.compare(b) == 0 })
	// A segment's bytes are spread evenly over its gaps; that of one key has only a point.
	weights := make([]float64, 2*len(k.points))
	total := 0.0
	for i := range l.Runs {
		for j := range l.Runs[i].Segments {
			s := &l.Runs[i].Segments[j]
			if s.Entries == 0 {
				continue
			}
			from, to := k.places(s)
			gaps := (to - from) / 2
			total += float64(s.SizeBytes)
			if gaps == 0 {
				weights[from] += float64(s.SizeBytes)
			}
			for p := from + 1; p < to; p += 2 {
				weights[p] += float64(s.SizeBytes) / float64(gaps)
			}
		}
	}
	at := 0.0
	for _, w := range weights {
		k.from = append(k.from, at)
		at += w / max(total, 1) * float64(cells)
	}
	k.from = append(k.from, float64(cells))
	return k
}

// places are those of a segment's first and last key.
func (k *keyRuler) places(s *dyngo.LevelSegment) (first, last int) {
	first, _ = slices.BinarySearchFunc(k.points, firstPoint(s), keyPoint.compare)
	last, _ = slices.BinarySearchFunc(k.points, lastPoint(s), keyPoint.compare)
	return 2 * first, 2 * last
}

// bar draws the segments of a run. Each has a cell at least, if there are enough.
func (k *keyRuler) bar(segments []dyngo.LevelSegment) string {
	row := []rune(strings.Repeat("·", k.cells))
	next := 0 // cell
	for i := range segments {
		s := &segments[i]
		if s.Entries == 0 || next == k.cells {
			continue
		}
		mark := [2]rune{'█', '▒'}[i%2]
		if s.Damage != "" {
			mark = 'x'
		}
		first, last := k.places(s)
		from := max(next, min(int(k.from[first]+0.5), k.cells-1))
		next = min(max(from+1, int(k.from[last+1]+0.5)), k.cells)
		for c := from; c < next; c++ {
			row[c] = mark
		}
	}
	return string(row)
}
