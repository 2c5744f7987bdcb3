package compaction

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// TestPick runs the scripts in testdata/pick. Commands:
//
//	version                     draws a version: "run ID", then its segments "NUM FROM-TO SIZE [e= k= t= due= ranges= lsn= replacing= refs=]"
//	pick [options]              what is picked, and why; [keep] lets the job run on beside the next picks
//	plan [options]              does what is picked until nothing is, as if nothing was overwritten, and lists it
//
// A key is DATASET/TEXT, or TEXT in dataset 1.
func TestPick(t *testing.T) {
	datadriven.Walk(t, "testdata/pick", func(t *testing.T, name string) {
		var s script
		datadriven.RunTest(t, name, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "version":
				s = script{v: parseVersion(t, d.Input)}
				return ""
			case "pick":
				return s.pick(t, d)
			case "plan":
				return s.plan(t, d)
			}
			t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

type script struct {
	v       *manifest.Version
	running []Job
}

func (s *script) pick(t *testing.T, d *datadriven.TestData) string {
	in := s.input(t, d)
	j, ok := Pick(s.v, in)
	if !ok {
		return "nothing"
	}
	checkJob(t, s.v, in.Options, &j)
	if d.HasArg("keep") {
		s.running = append(s.running, j)
	}
	return j.Explain()
}

func (s *script) plan(t *testing.T, d *datadriven.TestData) string {
	var b strings.Builder
	for {
		in := s.input(t, d)
		j, ok := Pick(s.v, in)
		if !ok {
			break
		}
		checkJob(t, s.v, in.Options, &j)
		fmt.Fprintf(&b, "%s: %s of", j.Reason, j.Kind)
		for _, seg := range j.Inputs {
			fmt.Fprintf(&b, " %d", uint64(seg.Num))
		}
		e := &manifest.Edit{NextFile: s.v.NextFile + 1}
		for _, seg := range j.Inputs {
			e.Remove = append(e.Remove, seg.Num)
		}
		switch j.Kind {
		case Move:
			e.Add = j.moved()
		case Merge:
			e.Add = []*manifest.Segment{union(s.v.NextFile, &j)}
			fmt.Fprintf(&b, " into %d", uint64(s.v.NextFile))
		}
		fmt.Fprintf(&b, " in run %d\n", j.Output)
		next, err := s.v.Apply(e)
		if err != nil {
			t.Fatal(err)
		}
		s.v = next
	}
	return b.String() + s.v.String()
}

// union is the segment that a job would leave if it dropped nothing but, in the oldest run, tombstones.
func union(num manifest.FileNum, j *Job) *manifest.Segment {
	u := &manifest.Segment{Num: num, Run: j.Output, Smallest: j.Lo, Largest: j.Hi, MinLSN: j.Inputs[0].MinLSN}
	for _, s := range j.Inputs {
		u.MinLSN, u.MaxLSN = min(u.MinLSN, s.MinLSN), max(u.MaxLSN, s.MaxLSN)
		u.Entries += s.Entries - s.Tombstones
		u.RangeDeletes += s.RangeDeletes
		u.SizeBytes += s.SizeBytes
	}
	u.Keys = u.Entries
	return u
}

func (s *script) input(t *testing.T, d *datadriven.TestData) Input {
	in := Input{Durable: s.v.FlushedLSN, Running: s.running, Full: d.HasArg("full"), Heat: map[manifest.FileNum]Heat{}}
	dropped := map[event.DatasetID]event.LSN{}
	in.Dropped = func(ds event.DatasetID) event.LSN { return dropped[ds] }
	for _, arg := range d.CmdArgs {
		for _, v := range arg.Vals {
			switch arg.Key {
			case "pins":
				in.Pins = append(in.Pins, event.LSN(number(t, v)))
			case "avoid":
				in.Avoid = func(n manifest.FileNum) bool { return uint64(n) == number(t, v) }
			case "expired":
				in.ExpiredUntil = int64(number(t, v))
			case "dropped": // DATASET@LSN
				ds, lsn, _ := strings.Cut(v, "@")
				dropped[event.DatasetID(number(t, ds))] = event.LSN(number(t, lsn))
			case "ranges": // FROM-TO@LSN
				keys, lsn, _ := strings.Cut(v, "@")
				from, to, _ := strings.Cut(keys, "-")
				r := segment.RangeDelete{Dataset: key(t, from).Dataset, From: key(t, from).Key, LSN: event.LSN(number(t, lsn))}
				if to != "" {
					r.To = key(t, to).Key
				}
				in.RangeDeletes = append(in.RangeDeletes, r)
			case "heat": // NUM:READS:SCANS
				f := strings.Split(v, ":")
				in.Heat[manifest.FileNum(number(t, f[0]))] = Heat{float64(number(t, f[1])), float64(number(t, f[2]))}
			}
		}
	}
	return in
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func key(t *testing.T, s string) manifest.Key {
	t.Helper()
	if ds, text, ok := strings.Cut(s, "/"); ok {
		return manifest.Key{Dataset: event.DatasetID(number(t, ds)), Key: []byte(text)}
	}
	return manifest.Key{Dataset: 1, Key: []byte(s)}
}

var units = map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}

// parseVersion reads a drawn version. A segment of 1 MiB has 1000 entries if nothing else is said, and the LSNs of
// its run.
func parseVersion(t *testing.T, text string) *manifest.Version {
	t.Helper()
	e := &manifest.Edit{NextFile: 1, NextRun: 1}
	var run manifest.RunID
	flushed := event.LSN(0)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if f[0] == "run" {
			run = manifest.RunID(number(t, f[1]))
			e.NextRun = max(e.NextRun, run+1)
			continue
		}
		s := &manifest.Segment{Num: manifest.FileNum(number(t, f[0])), Run: run}
		s.MinLSN, s.MaxLSN = event.LSN(run)*100-99, event.LSN(run)*100
		s.SizeBytes = int64(number(t, f[2][:len(f[2])-1])) * units[f[2][len(f[2])-1]]
		s.Entries = max(1, s.SizeBytes*1000>>20)
		if from, to, ok := strings.Cut(f[1], "-"); ok && from != "" {
			s.Smallest, s.Largest = key(t, from), key(t, to)
		} else {
			s.Entries, s.RangeDeletes = 0, 1
		}
		for _, opt := range f[3:] {
			name, v, _ := strings.Cut(opt, "=")
			switch name {
			case "e":
				s.Entries = int64(number(t, v))
			case "t": // percent
				s.Tombstones = s.Entries * int64(number(t, v)) / 100
			case "due":
				s.Dues, s.MaxDue = s.Entries, int64(number(t, v))
			case "k":
				s.Keys = int64(number(t, v))
			case "refs":
				s.RefBytes = int64(number(t, v[:len(v)-1])) * units[v[len(v)-1]]
			case "replacing":
				from, to, _ := strings.Cut(v, "-")
				s.MinReplacing, s.MaxReplacing = event.LSN(number(t, from)), event.LSN(number(t, to))
			case "ranges":
				s.RangeDeletes = int64(number(t, v))
			case "lsn":
				from, to, _ := strings.Cut(v, "-")
				s.MinLSN, s.MaxLSN = event.LSN(number(t, from)), event.LSN(number(t, to))
			default:
				t.Fatalf("what is %q?", opt)
			}
		}
		if s.Keys == 0 || s.Entries == 0 {
			s.Keys = s.Entries
		}
		e.Add = append(e.Add, s)
		e.NextFile = max(e.NextFile, s.Num+1)
		flushed = max(flushed, s.MaxLSN)
	}
	e.FlushedLSN = &flushed
	v, err := (&manifest.Version{}).Apply(e)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
