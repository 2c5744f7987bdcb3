package compaction

import (
	"fmt"
	"strings"

	"github.com/dyngodb/dyngo/manifest"
)

// Kind says what a job does with its inputs.
type Kind uint8

// The kinds.
const (
	Merge Kind = iota + 1 // read them, write what is still needed
	Move                  // put them into an older run as they are
	Drop                  // remove them unread, since nothing in them can be seen; their range deletes are carried on
)

// String returns the kind's name.
func (k Kind) String() string { return [...]string{"none", "merge", "move", "drop"}[k] }

// Reason says why there is a job.
type Reason uint8

// The reasons.
const (
	Dead       Reason = iota + 1 // nothing in the segments can be seen any more
	Sources                      // reads look into too many runs
	Space                        // the runs above the oldest have grown beyond their share
	Tombstones                   // deletes and what they hide take much of the segments
	Reads                        // the range is read so often that fewer runs pay
	SmallFiles                   // many small files can be one
	Width                        // a file reaches over too much of the oldest run to be merged with it in small steps
)

// String returns the reason's name.
func (r Reason) String() string {
	return [...]string{"none", "dead", "sources", "space", "tombstones", "reads", "small files", "width"}[r]
}

// Job is work that Pick found and Run does. It is a value: nothing in it changes.
type Job struct {
	Kind   Kind
	Reason Reason

	Inputs []*manifest.Segment // newest run first, in key order within a run; never empty
	Output manifest.RunID      // the run that takes the outputs

	// Newest and the run Output bound the runs that the job concerns, Lo and Hi the keys, both inclusive. They are zero
	// keys when the inputs have no entries.
	Newest manifest.RunID
	Lo, Hi manifest.Key

	// What is expected.
	ReadBytes      int64 // of the inputs; 0 for a move or drop
	WriteBytes     int64
	ReclaimBytes   int64 // that the store is smaller afterwards
	SourcesRemoved int   // by how many runs a read within Lo and Hi is spared

	Score float64 // bytes reclaimed and sources removed for each byte rewritten, times the need
	Why   string  // one sentence for people: the need in numbers

	wide bool // cut the output at each file of the oldest run
}

// moved returns the inputs as they are in the run Output.
func (j *Job) moved() []*manifest.Segment {
	segs := make([]*manifest.Segment, len(j.Inputs))
	for i, s := range j.Inputs {
		c := *s
		c.Run = j.Output
		segs[i] = &c
	}
	return segs
}

// Explain tells of the job to people, in a few lines.
func (j *Job) Explain() string {
	var b strings.Builder
	n := len(j.Inputs)
	fmt.Fprintf(&b, "%s %d %s into run %d: %s\n", j.Kind, n, plural(n, "segment"), j.Output, j.Reason)
	fmt.Fprintf(&b, "  why      %s\n", j.Why)
	if j.Hi.Compare(manifest.Key{}) != 0 {
		fmt.Fprintf(&b, "  keys     %s to %s\n", j.Lo, j.Hi)
	}
	fmt.Fprintf(&b, "  score    %.4g\n", j.Score)
	fmt.Fprintf(&b, "  reads    %s\n", formatBytes(j.ReadBytes))
	fmt.Fprintf(&b, "  writes   %s, expected\n", formatBytes(j.WriteBytes))
	fmt.Fprintf(&b, "  reclaims %s, expected\n", formatBytes(j.ReclaimBytes))
	fmt.Fprintf(&b, "  sources  %d fewer to read in its key range\n", j.SourcesRemoved)
	for i, s := range j.Inputs {
		if i == 0 || s.Run != j.Inputs[i-1].Run {
			fmt.Fprintf(&b, "  run %d:", s.Run)
		}
		fmt.Fprintf(&b, " %d", s.Num)
		if i == len(j.Inputs)-1 || s.Run != j.Inputs[i+1].Run {
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// formatBytes is short and for people: three digits and a unit.
func formatBytes(n int64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.3g %s", f, unit)
}
