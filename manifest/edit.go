package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dyngodb/dyngo/event"
)

// Edit is the difference between two versions. It is applied whole or not at all.
type Edit struct {
	Add      []*Segment // with a run that exists or a new one
	Remove   []FileNum  // segments, in a run or set aside; one that Add has too, in an older run, else as it was, is moved
	SetAside []SetAside // segments that leave their run

	AddValues    []*ValueFile
	RemoveValues []FileNum

	AddHistory    []*Segment // at or below the floor; of runs of their own
	RemoveHistory []FileNum

	FlushedLSN, FloorLSN *event.LSN // nil = as it is
	OldestLog            uint64     // 0 = as it is

	// NextFile and NextRun are filled in by Set.Apply; 0 = as they are.
	NextFile FileNum
	NextRun  RunID

	Reason string // for people, optional; cut at 4 KiB

	damaged []Damaged // of a snapshot: set aside before
}

// SetAside takes a damaged segment out of its run and keeps its file and what the manifest knows of it.
type SetAside struct {
	Num    FileNum
	Reason string // for people; cut at 4 KiB
}

// maxReasonBytes bounds the texts for people.
const maxReasonBytes = 4 << 10

// builder makes a version from another and any number of edits. An edit that fails leaves it unusable.
type builder struct {
	base     *Version
	segments map[FileNum]placed // in runs
	damaged  map[FileNum]Damaged
	history  map[FileNum]*Segment
	values   map[FileNum]*ValueFile
	dirty    map[RunID]bool // runs that differ from the base
	next     Version        // all but its files
	at       int64          // place of the edit that is being applied
}

// placed is a segment with the place of the record that added it, 0 if it was in the base.
type placed struct {
	*Segment
	at int64
}

func newBuilder(v *Version) *builder {
	b := &builder{base: v, segments: make(map[FileNum]placed, v.SegmentCount()), damaged: map[FileNum]Damaged{},
		history: map[FileNum]*Segment{}, values: map[FileNum]*ValueFile{}, dirty: map[RunID]bool{}}
	for s := range v.All() {
		b.segments[s.Num] = placed{s, 0}
	}
	for _, d := range v.Damaged {
		b.damaged[d.Segment.Num] = d
	}
	for _, s := range v.History {
		b.history[s.Num] = s
	}
	for _, f := range v.Values {
		b.values[f.Num] = f
	}
	n := &b.next
	n.FlushedLSN, n.FloorLSN, n.OldestLog, n.Edits = v.FlushedLSN, v.FloorLSN, v.OldestLog, v.Edits
	n.NextFile, n.NextRun = max(v.NextFile, 1), max(v.NextRun, 1)
	return b
}

// removal is a file that an edit takes out of the version.
type removal struct {
	num   FileNum
	value bool
}

// apply applies an edit and returns the files that leave.
func (b *builder) apply(e *Edit) (removed []removal, err error) {
	if err := b.numbers(e); err != nil {
		return nil, err
	}
	moved := b.moves(e)
	for _, num := range e.Remove {
		if err := b.remove(num); err != nil {
			return nil, err
		}
		if !moved[num] {
			removed = append(removed, removal{num: num})
		}
	}
	for _, a := range e.SetAside {
		s, ok := b.segments[a.Num]
		if !ok {
			return nil, fmt.Errorf("segment %s is set aside, but in no run", a.Num)
		}
		b.dirty[s.Run] = true
		delete(b.segments, a.Num)
		b.damaged[a.Num] = Damaged{s.Segment, a.Reason}
	}
	for _, num := range e.RemoveValues {
		if _, ok := b.values[num]; !ok {
			return nil, fmt.Errorf("value file %s is removed, but not there", num)
		}
		delete(b.values, num)
		removed = append(removed, removal{num, true})
	}
	for _, num := range e.RemoveHistory {
		if _, ok := b.history[num]; !ok {
			return nil, fmt.Errorf("history segment %s is removed, but not there", num)
		}
		delete(b.history, num)
		removed = append(removed, removal{num: num})
	}
	if err := b.add(e, removed); err != nil {
		return nil, err
	}
	b.next.Edits++
	return removed, nil
}

// moves returns the segments that an edit takes out of a run and puts into an older one as they are.
func (b *builder) moves(e *Edit) map[FileNum]bool {
	moved := map[FileNum]bool{}
	for _, s := range e.Add {
		if old, ok := b.segments[s.Num]; ok && slices.Contains(e.Remove, s.Num) && s.isMoved(old.Segment) {
			moved[s.Num] = true
		}
	}
	return moved
}

// numbers applies what is not a file.
func (b *builder) numbers(e *Edit) error {
	n := &b.next
	if e.FlushedLSN != nil {
		if *e.FlushedLSN < n.FlushedLSN || *e.FlushedLSN > event.MaxLSN {
			return fmt.Errorf("flushed LSN %d after %d", *e.FlushedLSN, n.FlushedLSN)
		}
		n.FlushedLSN = *e.FlushedLSN
	}
	if e.FloorLSN != nil {
		if *e.FloorLSN < n.FloorLSN {
			return fmt.Errorf("floor LSN %d after %d", *e.FloorLSN, n.FloorLSN)
		}
		n.FloorLSN = *e.FloorLSN
	}
	if n.FloorLSN > n.FlushedLSN {
		return fmt.Errorf("floor LSN %d above flushed LSN %d", n.FloorLSN, n.FlushedLSN)
	}
	if e.OldestLog != 0 {
		if e.OldestLog < n.OldestLog || e.OldestLog > maxNumber {
			return fmt.Errorf("oldest log file %d after %d", e.OldestLog, n.OldestLog)
		}
		n.OldestLog = e.OldestLog
	}
	if e.NextFile != 0 {
		if e.NextFile < n.NextFile || e.NextFile > maxNumber {
			return fmt.Errorf("next file %d after %d", e.NextFile, n.NextFile)
		}
		n.NextFile = e.NextFile
	}
	if e.NextRun != 0 {
		if e.NextRun < n.NextRun || e.NextRun > maxNumber {
			return fmt.Errorf("next run %d after %d", e.NextRun, n.NextRun)
		}
		n.NextRun = e.NextRun
	}
	return nil
}

func (b *builder) remove(num FileNum) error {
	if s, ok := b.segments[num]; ok {
		b.dirty[s.Run] = true
		delete(b.segments, num)
		return nil
	}
	if _, ok := b.damaged[num]; ok {
		delete(b.damaged, num)
		return nil
	}
	return fmt.Errorf("segment %s is removed, but not there", num)
}

// add applies the files that an edit adds; removed are those that it took away before.
func (b *builder) add(e *Edit, removed []removal) error {
	unused := func(num FileNum) error {
		_, segment := b.segments[num]
		_, damaged := b.damaged[num]
		_, history := b.history[num]
		_, value := b.values[num]
		if segment || damaged || history || value || slices.ContainsFunc(removed, func(r removal) bool { return r.num == num }) {
			return fmt.Errorf("file number %s is used twice", num)
		}
		if num >= b.next.NextFile {
			return fmt.Errorf("file number %s, but %s is next", num, b.next.NextFile)
		}
		return nil
	}
	segment := func(s *Segment) error {
		switch {
		case s.MaxLSN > b.next.FlushedLSN:
			return fmt.Errorf("segment %s goes to LSN %d, but only %d is flushed", s.Num, s.MaxLSN, b.next.FlushedLSN)
		case s.Run >= b.next.NextRun:
			return fmt.Errorf("segment %s in run %d, but %d is next", s.Num, s.Run, b.next.NextRun)
		}
		return errors.Join(s.check(), unused(s.Num))
	}
	for _, s := range e.Add {
		if err := segment(s); err != nil {
			return err
		}
		b.segments[s.Num] = placed{s, b.at}
		b.dirty[s.Run] = true
	}
	for _, d := range e.damaged {
		if err := segment(d.Segment); err != nil {
			return err
		}
		b.damaged[d.Segment.Num] = d
	}
	for _, s := range e.AddHistory {
		if err := segment(s); err != nil {
			return err
		}
		if s.MaxLSN > b.next.FloorLSN {
			return fmt.Errorf("history segment %s goes to LSN %d, the floor is %d", s.Num, s.MaxLSN, b.next.FloorLSN)
		}
		b.history[s.Num] = s
	}
	for _, f := range e.AddValues {
		if err := errors.Join(f.check(), unused(f.Num)); err != nil {
			return err
		}
		b.values[f.Num] = f
	}
	return nil
}

// build returns the version, or what is wrong and the place of the record that brought it.
func (b *builder) build() (*Version, int64, error) {
	n := &b.next
	v := &Version{FlushedLSN: n.FlushedLSN, FloorLSN: n.FloorLSN, OldestLog: n.OldestLog, NextFile: n.NextFile,
		NextRun: n.NextRun, Edits: n.Edits}
	changed := map[RunID][]*Segment{}
	for _, s := range b.segments {
		if b.dirty[s.Run] {
			changed[s.Run] = append(changed[s.Run], s.Segment)
		}
	}
	for _, r := range b.base.Runs {
		if !b.dirty[r.ID] {
			v.Runs = append(v.Runs, r)
		}
	}
	for id, segments := range changed {
		r, wrong, err := newRun(id, segments)
		if err != nil {
			return nil, b.segments[wrong.Num].at, err
		}
		v.Runs = append(v.Runs, r)
	}
	slices.SortFunc(v.Runs, func(a, b Run) int { return cmp.Compare(b.ID, a.ID) })
	v.History = slices.SortedFunc(maps.Values(b.history), func(a, b *Segment) int { return cmp.Compare(a.Num, b.Num) })
	v.Values = slices.SortedFunc(maps.Values(b.values), func(a, b *ValueFile) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Num, b.Num))
	})
	v.Damaged = slices.SortedFunc(maps.Values(b.damaged), func(a, b Damaged) int {
		return cmp.Compare(a.Segment.Num, b.Segment.Num)
	})
	return v, 0, nil
}

// Whole is the edit that makes the version from the zero Version: what Create takes for a copy of it.
func (v *Version) Whole() *Edit {
	e := &Edit{FlushedLSN: &v.FlushedLSN, FloorLSN: &v.FloorLSN, OldestLog: v.OldestLog, NextFile: max(v.NextFile, 1),
		NextRun: max(v.NextRun, 1), AddValues: v.Values, AddHistory: v.History, damaged: v.Damaged}
	e.Add = slices.AppendSeq(make([]*Segment, 0, v.SegmentCount()), v.All())
	return e
}
