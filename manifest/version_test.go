package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
)

// base is a version with two runs: 2 holds segments 3 and 4, 1 holds segments 1 and 2, of range deletes only.
func base(t testing.TB) *Version {
	return mustApply(t, &Version{},
		flushed(seg(1, 1, "a", "m", 1, 10), seg(2, 1, "", "", 2, 9)),
		flushed(seg(3, 2, "b", "c", 11, 15), seg(4, 2, "d", "f", 12, 20)))
}

func TestApplyMakesTheNextVersion(t *testing.T) {
	v := base(t)
	if v.Edits != 2 || v.FlushedLSN != 20 || v.NextFile != 5 || v.NextRun != 3 || v.SegmentCount() != 4 ||
		v.SizeBytes() != 4010 {
		t.Fatal(v)
	}
	if got := nums(slices.Collect(v.All())); got != "3 4 1 2" {
		t.Fatalf("segments in the order %s, want newest run first and range deletes last", got)
	}
	before := describe(v)

	merged := mustApply(t, v, &Edit{Remove: []FileNum{3, 1}, Add: []*Segment{seg(5, 1, "a", "m", 1, 15)}, NextFile: 6})
	if got := nums(slices.Collect(merged.All())); got != "4 5 2" {
		t.Fatalf("after a merge: %s", got)
	}
	gone := mustApply(t, merged, &Edit{Remove: []FileNum{4}})
	if len(gone.Runs) != 1 || gone.Runs[0].ID != 1 {
		t.Fatalf("an empty run stays: %s", gone)
	}
	aside := mustApply(t, v, &Edit{SetAside: []SetAside{{4, "crc"}}})
	if got := nums(slices.Collect(aside.All())); got != "3 1 2" || len(aside.Damaged) != 1 ||
		aside.Damaged[0].Reason != "crc" ||
		aside.Damaged[0].Segment.Num != 4 || aside.SizeBytes() != 4010 {
		t.Fatalf("set aside: %s, %v", got, aside.Damaged)
	}
	if back := mustApply(t, aside, &Edit{Remove: []FileNum{4}}); len(back.Damaged) != 0 {
		t.Fatalf("removed, but still set aside: %v", back.Damaged)
	}
	values := mustApply(t, v, &Edit{AddValues: []*ValueFile{{Num: 6, From: 3, To: 4}, {Num: 5, From: 1, To: 3}},
		NextFile: 7, FloorLSN: lsn(7), OldestLog: 5})
	if got := values.ValuesOf(3); len(got) != 2 || got[0].Num != 5 || len(values.ValuesOf(5)) != 0 ||
		values.FloorLSN != 7 || values.OldestLog != 5 {
		t.Fatalf("value files: %s", values)
	}
	if describe(v) != before {
		t.Fatal("an edit changed the version that it was applied to")
	}
}

// TestApplyMoves: a segment may go to an older run, also to one that is empty by now, and else stays what it is.
func TestApplyMoves(t *testing.T) {
	v := mustApply(t, &Version{}, flushed(seg(1, 1, "a", "c", 1, 10)), flushed(seg(2, 2, "b", "c", 11, 15)),
		flushed(seg(3, 3, "e", "f", 16, 20)))
	in := func(v *Version, n FileNum, run RunID) *Segment {
		s := *v.Segment(n)
		s.Run = run
		return &s
	}
	for _, run := range []RunID{1, 2} {
		next := mustApply(t, v, &Edit{Remove: []FileNum{3}, Add: []*Segment{in(v, 3, run)}})
		if s := next.Segment(3); s == nil || s.Run != run || len(next.Runs) != 2 || next.SizeBytes() != v.SizeBytes() {
			t.Fatalf("moved to run %d: %s", run, next)
		}
	}
	emptied := mustApply(t, v, &Edit{Remove: []FileNum{2}})
	if next := mustApply(t, emptied, &Edit{Remove: []FileNum{3}, Add: []*Segment{in(v, 3, 2)}}); next.Runs[0].ID != 2 {
		t.Fatalf("moved to a run that was emptied: %s", next)
	}
	other := in(v, 3, 1)
	other.SizeBytes++
	for name, e := range map[string]*Edit{
		"to a newer run":      {Remove: []FileNum{2}, Add: []*Segment{in(v, 2, 3)}},
		"to its own run":      {Remove: []FileNum{3}, Add: []*Segment{in(v, 3, 3)}},
		"as something else":   {Remove: []FileNum{3}, Add: []*Segment{other}},
		"without leaving":     {Add: []*Segment{in(v, 3, 1)}},
		"over another's keys": {Remove: []FileNum{2}, Add: []*Segment{in(v, 2, 1)}},
	} {
		if next, err := v.Apply(e); err == nil {
			t.Errorf("moved %s: %s", name, next)
		}
	}
}

func TestApplyHoldsTheRules(t *testing.T) {
	long := strings.Repeat("k", event.MaxKeyBytes+1)
	odd := func(change func(*Segment)) *Edit {
		s := seg(5, 3, "x", "z", 1, 20)
		change(s)
		return &Edit{Add: []*Segment{s}, NextFile: 6, NextRun: 4}
	}
	for _, c := range []struct {
		name, want string
		edit       *Edit
	}{
		{"number of a segment", "used twice", flushed(seg(4, 3, "x", "z", 1, 20))},
		{"number twice in an edit", "used twice", flushed(seg(5, 3, "x", "z", 1, 20), seg(5, 3, "p", "q", 1, 20))},
		{"number of a removed segment", "used twice",
			&Edit{Remove: []FileNum{4}, Add: []*Segment{seg(4, 2, "x", "z", 1, 20)}}},
		{"number of a segment for values", "used twice", &Edit{AddValues: []*ValueFile{{Num: 4, From: 1, To: 1}}}},
		{"number that is not reserved", "is next", &Edit{Add: []*Segment{seg(5, 2, "x", "z", 1, 20)}}},
		{"run that is not reserved", "is next", &Edit{Add: []*Segment{seg(5, 3, "x", "z", 1, 20)}, NextFile: 6}},
		{"removed, but not there", "not there", &Edit{Remove: []FileNum{5}}},
		{"removed twice", "not there", &Edit{Remove: []FileNum{4, 4}}},
		{"values removed, but not there", "not there", &Edit{RemoveValues: []FileNum{4}}},
		{"history removed, but not there", "not there", &Edit{RemoveHistory: []FileNum{4}}},
		{"history above the floor", "the floor is 9", &Edit{AddHistory: []*Segment{seg(5, 3, "a", "b", 1, 10)}, FloorLSN: lsn(9), NextFile: 6, NextRun: 4}},
		{"number of a segment for history", "used twice", &Edit{AddHistory: []*Segment{seg(4, 2, "a", "b", 1, 9)}, FloorLSN: lsn(9)}},
		{"set aside, but not there", "in no run", &Edit{SetAside: []SetAside{{9, ""}}}},
		{"removed and set aside", "in no run", &Edit{Remove: []FileNum{4}, SetAside: []SetAside{{4, ""}}}},
		{"overlaps in a run", "overlaps", flushed(seg(5, 2, "f", "g", 1, 20))},
		{"overlaps in an edit", "overlaps", flushed(seg(5, 3, "x", "z", 1, 20), seg(6, 3, "a", "x", 1, 20))},
		{"above the flushed LSN", "is flushed", &Edit{Add: []*Segment{seg(5, 2, "x", "z", 1, 21)}, NextFile: 6}},
		{"flushed LSN falls", "flushed LSN 19", &Edit{FlushedLSN: lsn(19)}},
		{"flushed LSN too large", "flushed LSN", &Edit{FlushedLSN: lsn(event.MaxLSN + 1)}},
		{"floor above flushed", "floor LSN 21", &Edit{FloorLSN: lsn(21)}},
		{"next file falls", "next file 4", &Edit{NextFile: 4}},
		{"next run falls", "next run 2", &Edit{NextRun: 2}},
		{"no keys, but entries", "0 keys", odd(func(s *Segment) { s.Keys = 0 })},
		{"more keys than entries", "100 keys", odd(func(s *Segment) { s.Keys = 100 })},
		{"negative size", "is -1", odd(func(s *Segment) { s.SizeBytes = -1 })},
		{"holds nothing", "nothing", odd(func(s *Segment) { *s = Segment{Num: 5, Run: 3, MinLSN: 1, MaxLSN: 1} })},
		{"keys without entries", "no entries", odd(func(s *Segment) { s.Entries, s.Keys, s.RangeDeletes = 0, 0, 1 })},
		{"keys in the wrong order", "key", odd(func(s *Segment) { s.Smallest = Key{2, nil} })},
		{"long key", "bytes", odd(func(s *Segment) { s.Largest.Key = []byte(long) })},
		{"LSNs in the wrong order", "LSN 20 to 1", odd(func(s *Segment) { s.MinLSN, s.MaxLSN = 20, 1 })},
		{"LSN 0", "LSN 0", odd(func(s *Segment) { s.MinLSN = 0 })},
		{"times in the wrong order", "time", odd(func(s *Segment) { s.MaxTime = 0 })},
		{"expiries of nothing", "expiries", odd(func(s *Segment) { s.MaxDue = 1 })},
		{"file number 0", "file number", odd(func(s *Segment) { s.Num = 0 })},
		{"run 0", "run", odd(func(s *Segment) { s.Run = 0 })},
		{"log files in the wrong order", "log files", &Edit{AddValues: []*ValueFile{{Num: 5, From: 2, To: 1}}, NextFile: 6}},
	} {
		v := base(t)
		if _, err := v.Apply(c.edit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	raised := mustApply(t, base(t), &Edit{FloorLSN: lsn(9), OldestLog: 3})
	for name, e := range map[string]*Edit{"floor": {FloorLSN: lsn(8)}, "oldest log file": {OldestLog: 2}} {
		if _, err := raised.Apply(e); err == nil {
			t.Errorf("%s falls: no error", name)
		}
	}
}

func nums(segments []*Segment) string {
	var words []string
	for _, s := range segments {
		words = append(words, fmt.Sprint(uint64(s.Num)))
	}
	return strings.Join(words, " ")
}

// searched is a run with gaps, three datasets and range deletes at the end.
func searched(t testing.TB) *Run {
	in := func(ds event.DatasetID, s *Segment) *Segment {
		s.Smallest.Dataset, s.Largest.Dataset = ds, ds
		return s
	}
	across := seg(4, 1, "p", "c", 1, 2) // from dataset 1 into dataset 2
	across.Largest.Dataset = 2
	v := mustApply(t, &Version{}, flushed(seg(1, 1, "b", "d", 1, 2), seg(2, 1, "f", "f", 1, 2), seg(3, 1, "g", "k", 1, 2),
		across, in(2, seg(5, 1, "e", "g", 1, 2)), in(5, seg(6, 1, "a", "b", 1, 2)), seg(7, 1, "", "", 1, 2)))
	return &v.Runs[0]
}

func TestFindIsASearchInTheRun(t *testing.T) {
	r := searched(t)
	for ds := range event.DatasetID(7) {
		for _, key := range []string{"", "a", "b", "bb", "d", "da", "e", "f", "fa", "g", "h", "k", "ka", "p", "q", "z",
			"\xff"} {
			k := Key{ds, []byte(key)}
			var want *Segment
			for _, s := range r.Segments {
				if s.contains(k) {
					want = s
				}
			}
			if got := r.Find(ds, []byte(key)); got != want {
				t.Errorf("%s: found %v, want %v", k, got, want)
			}
		}
	}
	if got := (&Run{}).Find(1, []byte("a")); got != nil {
		t.Errorf("found %v in an empty run", got)
	}
	key := []byte("h")
	if n := testing.AllocsPerRun(100, func() { r.Find(1, key) }); n != 0 {
		t.Errorf("Find allocates %v times", n)
	}
}

func TestOverlapping(t *testing.T) {
	r := searched(t)
	for _, c := range []struct {
		from, to string
		ds       event.DatasetID
		want     string // both ends included
		half     string // [from, to)
	}{
		{"a", "a", 1, "", ""},
		{"a", "b", 1, "1", ""},
		{"d", "f", 1, "1 2", "1"},
		{"da", "e", 1, "", ""},
		{"a", "z", 1, "1 2 3 4", "1 2 3 4"},
		{"l", "p", 1, "4", ""},
		{"a", "f", 2, "4 5", "4 5"},
		{"d", "e", 2, "5", ""},
		{"a", "z", 3, "", ""},
		{"b", "z", 5, "6", "6"},
	} {
		if got := nums(r.Overlapping(Key{c.ds, []byte(c.from)}, Key{c.ds, []byte(c.to)})); got != c.want {
			t.Errorf("%d [%s, %s]: %s, want %s", c.ds, c.from, c.to, got, c.want)
		}
		if got := nums(r.InRange(c.ds, []byte(c.from), []byte(c.to))); got != c.half {
			t.Errorf("%d [%s, %s): %s, want %s", c.ds, c.from, c.to, got, c.half)
		}
	}
	if got := nums(r.InRange(1, []byte("g"), nil)); got != "3 4" {
		t.Errorf("to the end of the dataset: %s", got)
	}
	if got := nums(r.InRange(2, nil, nil)); got != "4 5" {
		t.Errorf("the whole dataset: %s", got)
	}
	if got := nums(r.Overlapping(Key{}, Key{^event.DatasetID(0), []byte("z")})); got != "1 2 3 4 5 6" {
		t.Errorf("everything with keys: %s", got)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name      string
		num       FileNum
		value, ok bool
	}{
		{"0000000001.seg", 1, false, true}, {"0000000012.val", 12, true, true}, {"12345678901.seg", 12345678901, false, true},
		{"000000001.seg", 0, false, false}, {"00000000001.seg", 0, false, false}, {"0000000000.seg", 0, false, false},
		{"0000000001.man", 0, false, false}, {"+000000001.seg", 0, false, false}, {"0000000001.seg.tmp", 0, false, false},
		{"99999999999999999999.seg", 0, false, false}, {"", 0, false, false},
	} {
		num, value, ok := ParseName(c.name)
		if ok != c.ok || ok && (num != c.num || value != c.value) {
			t.Errorf("%q: %d, %t, %t", c.name, num, value, ok)
		}
		if back := (map[bool]func(FileNum) string{false: SegmentName, true: ValueName})[value](num); ok && back != c.name {
			t.Errorf("%q comes back as %q", c.name, back)
		}
	}
}

func TestVersionString(t *testing.T) {
	v := mustApply(t, base(t), &Edit{SetAside: []SetAside{{4, "crc"}}, NextFile: 7, NextRun: 4, FloorLSN: lsn(2),
		AddHistory: []*Segment{seg(6, 3, "a", "a", 1, 2)},
		AddValues:  []*ValueFile{{Num: 5, From: 1, To: 2, SizeBytes: 9}}})
	want := `3 edits, flushed LSN 20, floor LSN 2, oldest log file 0, next file 7, next run 4
run 2: 1 segments, 1003 bytes
  0000000003 run 2, 1003 bytes, 1/"b" to 1/"c", LSN 11 to 15, 5 entries, 5 keys, 0 tombstones, 0 range deletes
run 1: 2 segments, 2003 bytes
  0000000001 run 1, 1001 bytes, 1/"a" to 1/"m", LSN 1 to 10, 10 entries, 10 keys, 0 tombstones, 0 range deletes
  0000000002 run 1, 1002 bytes, no keys, LSN 2 to 9, 0 entries, 0 keys, 0 tombstones, 1 range deletes
history 0000000006 run 3, 1006 bytes, 1/"a" to 1/"a", LSN 1 to 2, 2 entries, 2 keys, 0 tombstones, 0 range deletes
values 0000000005: log files 1 to 2, 9 bytes
damaged 0000000004 run 2, 1004 bytes, 1/"d" to 1/"f", LSN 12 to 20, 9 entries, 9 keys, 0 tombstones, 0 range deletes: crc
`
	if got := v.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("segments=%d", n), func(b *testing.B) {
			e := &Edit{}
			for i := range n {
				key := fmt.Sprintf("user:%08d", i*10)
				e.Add = append(e.Add, seg(FileNum(i+1), 1, key, key+"~", 1, 2))
			}
			e.NextFile, e.NextRun, e.FlushedLSN = FileNum(n+1), 2, lsn(2)
			v := mustApply(b, &Version{}, e)
			keys := make([][]byte, 1024)
			for i := range keys {
				keys[i] = fmt.Appendf(nil, "user:%08d", i*7919%n*10)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if v.Runs[0].Find(1, keys[i%len(keys)]) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
