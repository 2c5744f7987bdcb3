package dyngo

import (
	"context"
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/manifest"
)

// CompactStep is a merge, move or removal of segments, planned and not done.
type CompactStep struct {
	Kind, Reason string   // as in "merge", "sources"
	Why          string   // one sentence
	Explain      string   // some lines with all figures
	Segments     []string // files that go in, newest first
	Run          uint64   // that takes the result; larger = newer
	// What is expected.
	ReadBytes, WriteBytes, ReclaimBytes int64
	SourcesRemoved                      int // by how many runs a read in the key range is spared
	Score                               float64
}

// maxPlannedSteps bounds a plan. A store of a terabyte takes some thousand.
const maxPlannedSteps = 100_000

// CompactPlan tells what Compact would do, step by step. It reads no segment: what a step leaves, and so the steps
// after it, are estimates from counts and sizes. Merges that are under way are part of the plan; what Compact flushes
// first is not.
func (db *DB) CompactPlan(ctx context.Context) ([]CompactStep, error) {
	s, err := db.acquireSources()
	if err != nil {
		return nil, err
	}
	defer s.release()
	in := db.compact.input(s, true)
	var steps []CompactStep
	v := s.version
	for len(steps) < maxPlannedSteps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		job, ok := compaction.Pick(v, in)
		if !ok {
			break
		}
		steps = append(steps, planned(&job))
		if v, err = v.Apply(expected(v, &job)); err != nil {
			return nil, fmt.Errorf("plan a compaction, step %d: %w", len(steps), err)
		}
	}
	if job, ok := compaction.Rewrite(v, in); ok {
		steps = append(steps, planned(&job))
	}
	return steps, nil
}

// acquireSources returns the current sources with a reference that the caller gives back by release.
func (db *DB) acquireSources() (*sources, error) {
	g := db.reads.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return nil, ErrClosed
	}
	s := db.sorted.current.Load()
	s.refs.Add(1)
	return s, nil
}

func planned(j *compaction.Job) CompactStep {
	step := CompactStep{
		Kind: j.Kind.String(), Reason: j.Reason.String(), Why: j.Why, Explain: j.Explain(), Run: uint64(j.Output),
		ReadBytes: j.ReadBytes, WriteBytes: j.WriteBytes, ReclaimBytes: j.ReclaimBytes,
		SourcesRemoved: j.SourcesRemoved, Score: j.Score,
	}
	for _, seg := range j.Inputs {
		step.Segments = append(step.Segments, segmentDisplayName(seg.Num))
	}
	return step
}

// expected is the edit that a job is expected to end with.
func expected(v *manifest.Version, j *compaction.Job) *manifest.Edit {
	e := &manifest.Edit{NextFile: max(v.NextFile, 1), NextRun: v.NextRun}
	if j.Kind == compaction.Move {
		for _, seg := range j.Inputs {
			moved := *seg
			moved.Run = j.Output
			e.Remove, e.Add = append(e.Remove, seg.Num), append(e.Add, &moved)
		}
		return e
	}
	var sum manifest.Segment // of the inputs
	for i, seg := range j.Inputs {
		e.Remove = append(e.Remove, seg.Num)
		if i == 0 {
			sum.MinLSN, sum.MaxLSN, sum.MinTime, sum.MaxTime = seg.MinLSN, seg.MaxLSN, seg.MinTime, seg.MaxTime
		}
		sum.MinLSN, sum.MaxLSN = min(sum.MinLSN, seg.MinLSN), max(sum.MaxLSN, seg.MaxLSN)
		sum.MinTime, sum.MaxTime = min(sum.MinTime, seg.MinTime), max(sum.MaxTime, seg.MaxTime)
		sum.Entries += seg.Entries
		sum.Tombstones += seg.Tombstones
		sum.RangeDeletes += seg.RangeDeletes
	}
	if j.Kind == compaction.Drop {
		sum.Entries, sum.Tombstones = 0, 0
	}
	if oldest(v, j) {
		sum.Entries, sum.Tombstones, sum.RangeDeletes = sum.Entries-sum.Tombstones, 0, 0
	}
	for _, out := range outputs(j) {
		s := sum
		s.Num, s.Run, s.Smallest, s.Largest, s.SizeBytes = e.NextFile, j.Output, out.Smallest, out.Largest, out.SizeBytes
		share := float64(out.SizeBytes) / float64(max(j.WriteBytes, 1))
		s.Entries, s.Tombstones = int64(share*float64(s.Entries)), int64(share*float64(s.Tombstones))
		s.Keys = s.Entries
		sum.RangeDeletes = 0 // with the first
		if s.Entries == 0 {
			s.Smallest, s.Largest = manifest.Key{}, manifest.Key{}
		}
		if s.Entries > 0 || s.RangeDeletes > 0 {
			e.Add = append(e.Add, &s)
			e.NextFile++
		}
	}
	return e
}

// oldest reports whether nothing older overlaps a job, so that its tombstones go.
func oldest(v *manifest.Version, j *compaction.Job) bool {
	for i := range v.Runs {
		if v.Runs[i].ID < j.Output && len(v.Runs[i].Overlapping(j.Lo, j.Hi)) > 0 {
			return false
		}
	}
	return true
}

// outputs are the key ranges and sizes of the segments that a job is expected to write: as those of the oldest run
// that go in, which are most of it.
func outputs(j *compaction.Job) []manifest.Segment {
	var outs []manifest.Segment
	total := int64(0)
	for _, seg := range j.Inputs {
		if seg.Run == j.Output && seg.Entries > 0 {
			outs = append(outs, manifest.Segment{Smallest: seg.Smallest, Largest: seg.Largest, SizeBytes: seg.SizeBytes})
			total += seg.SizeBytes
		}
	}
	if len(outs) == 0 {
		return []manifest.Segment{{Smallest: j.Lo, Largest: j.Hi, SizeBytes: j.WriteBytes}}
	}
	slices.SortFunc(outs, func(a, b manifest.Segment) int { return a.Smallest.Compare(b.Smallest) })
	outs[0].Smallest = j.Lo
	outs[len(outs)-1].Largest = j.Hi
	for i := range outs {
		outs[i].SizeBytes = int64(float64(outs[i].SizeBytes) / float64(max(total, 1)) * float64(j.WriteBytes))
	}
	return outs
}
