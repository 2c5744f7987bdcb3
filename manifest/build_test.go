package manifest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// testDir is where the manifest of a test lies, in a database directory "db".
const testDir = "db/manifest"

var testLog = [16]byte{1, 2, 3}

const testTime = 1700000000000000000

// countingReader gives bytes in order: what is random is the same in every run of a test.
type countingReader struct{ next byte }

func (r *countingReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.next
		r.next++
	}
	return len(b), nil
}

func testOptions() Options {
	return Options{random: &countingReader{}, Now: func() int64 { return testTime }}
}

// seg is a segment of dataset 1 with the keys from and to, and the LSNs from low to high; no keys make one of range
// deletes only.
func seg(num FileNum, run RunID, from, to string, low, high event.LSN) *Segment {
	s := &Segment{Num: num, Run: run, SizeBytes: 1000 + int64(num), RawBytes: 3000, MinLSN: low, MaxLSN: high,
		MinTime: testTime, MaxTime: testTime + int64(high), CreatedAt: testTime + 1, RangeDeletes: 1,
		SHA256: [32]byte{byte(num)}}
	if from != "" {
		s.Smallest, s.Largest = Key{1, []byte(from)}, Key{1, []byte(to)}
		s.Entries, s.Keys, s.RangeDeletes = int64(high-low)+1, int64(high-low)+1, 0
	}
	return s
}

func lsn(n event.LSN) *event.LSN { return &n }

// flushed is an edit that adds segments and raises the flushed LSN to what they hold.
func flushed(segments ...*Segment) *Edit {
	e := &Edit{Add: segments}
	for _, s := range segments {
		e.NextFile, e.NextRun = max(e.NextFile, s.Num+1), max(e.NextRun, s.Run+1)
		if e.FlushedLSN == nil || *e.FlushedLSN < s.MaxLSN {
			e.FlushedLSN = lsn(s.MaxLSN)
		}
	}
	return e
}

func mustApply(t testing.TB, v *Version, edits ...*Edit) *Version {
	t.Helper()
	for _, e := range edits {
		next, err := v.Apply(e)
		if err != nil {
			t.Fatal(err)
		}
		v = next
	}
	return v
}

// newFS is a file system with an empty database directory, durable.
func newFS(t testing.TB, fsys vfs.FS) vfs.FS {
	t.Helper()
	if err := errors.Join(fsys.MkdirAll("db"), fsys.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return fsys
}

func mustOpen(t testing.TB, fsys vfs.FS, o Options) *Set {
	t.Helper()
	s, err := Open(fsys, testDir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustStart(t testing.TB, fsys vfs.FS, o Options) *Set {
	t.Helper()
	s := mustOpen(t, fsys, o)
	if err := s.Start(testLog); err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	if err := fsys.Remove(name); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(name)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, fsys vfs.FS, num uint64) []byte {
	t.Helper()
	b, err := fsys.ReadFile(path.Join(testDir, fileName(num)), maxFileBytes)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// describe is what two equal versions have in common: everything.
func describe(v *Version) string {
	return fmt.Sprintf("%d %x", v.Edits, appendEdit(nil, v.Whole()))
}

// history is a set under random edits, with what was applied so far.
type history struct {
	set  *Set
	rnd  *rand.Rand
	want []string // versions by edits, as described; want[0] is that before the first edit
	last event.LSN
	long int // some edits are longer, by up to so many words
}

func newHistory(s *Set, seed uint64) *history {
	v := s.Current()
	return &history{set: s, rnd: rand.New(rand.NewPCG(seed, 1)), want: []string{describe(v)}, last: v.FlushedLSN}
}

// next makes an edit that keeps the rules: mostly a flush, sometimes a move or a merge into the oldest run,
// something set aside or removed, value files that come and go, or a floor.
func (h *history) next() *Edit {
	v := h.set.Current()
	e := &Edit{}
	switch n := h.rnd.IntN(10); {
	case n < 5 || len(v.Runs) < 2:
		h.flush(e)
	case n < 7:
		if !h.move(e, v) {
			h.merge(e, v)
		}
	case n < 8:
		e.FloorLSN = lsn(v.FloorLSN + event.LSN(h.rnd.Uint64N(uint64(v.FlushedLSN-v.FloorLSN)+1)))
		e.OldestLog = max(v.OldestLog, 1) + h.rnd.Uint64N(3)
		e.AddValues = []*ValueFile{{Num: h.set.NewFileNum(), From: 1, To: e.OldestLog, SizeBytes: 5000, SHA256: [32]byte{7}}}
		if *e.FloorLSN > 1 {
			e.AddHistory = []*Segment{seg(h.set.NewFileNum(), h.set.NewRunID(), "a", "b", 1, *e.FloorLSN)}
		}
		if len(v.History) > 0 {
			e.RemoveHistory = []FileNum{v.History[h.rnd.IntN(len(v.History))].Num}
		}
	case n < 9 && len(v.Values) > 0:
		e.RemoveValues = []FileNum{v.Values[h.rnd.IntN(len(v.Values))].Num}
		e.Reason = "nothing refers to it"
	case len(v.Damaged) > 0:
		e.Remove = []FileNum{v.Damaged[0].Segment.Num}
	default:
		e.Reason = strings.Repeat("because ", h.rnd.IntN(h.long+1))
		r := v.Runs[h.rnd.IntN(len(v.Runs))]
		e.SetAside = []SetAside{{r.Segments[h.rnd.IntN(len(r.Segments))].Num, "block at 4096: crc"}}
	}
	return e
}

func (h *history) flush(e *Edit) {
	run := h.set.NewRunID()
	low := h.last + 1
	for i := range 1 + h.rnd.IntN(4) {
		high := low + event.LSN(h.rnd.IntN(10))
		from := fmt.Sprintf("k%d-%02d", i, h.rnd.IntN(50))
		e.Add = append(e.Add, seg(h.set.NewFileNum(), run, from, from+"~", low, high))
		h.last = max(h.last, high)
	}
	if h.rnd.IntN(4) == 0 {
		e.Add = append(e.Add, seg(h.set.NewFileNum(), run, "", "", low, h.last))
	}
	e.FlushedLSN = lsn(h.last)
	e.Reason = strings.Repeat("because ", h.rnd.IntN(h.long+1))
}

// move takes a segment into the oldest run if its keys are free there.
func (h *history) move(e *Edit, v *Version) bool {
	oldest := &v.Runs[len(v.Runs)-1]
	from := v.Runs[h.rnd.IntN(len(v.Runs)-1)]
	s := *from.Segments[h.rnd.IntN(len(from.Segments))]
	if s.Entries > 0 && len(oldest.Overlapping(s.Smallest, s.Largest)) > 0 {
		return false
	}
	s.Run = oldest.ID
	e.Remove, e.Add = []FileNum{s.Num}, []*Segment{&s}
	return true
}

func (h *history) merge(e *Edit, v *Version) {
	newer, older := v.Runs[len(v.Runs)-2], v.Runs[len(v.Runs)-1]
	out := seg(h.set.NewFileNum(), older.ID, "k", "k~", v.FlushedLSN, 0)
	for _, s := range slices.Concat(newer.Segments, older.Segments) {
		e.Remove = append(e.Remove, s.Num)
		out.MinLSN, out.MaxLSN = min(out.MinLSN, s.MinLSN), max(out.MaxLSN, s.MaxLSN)
	}
	out.Entries, out.Keys, out.MaxTime = 100, 50, testTime+100
	e.Add = []*Segment{out}
}

// apply applies an edit and notes the version that it is to lead to.
func (h *history) apply(e *Edit) error {
	full := *e
	full.NextFile, full.NextRun = FileNum(h.set.nextFile.Load()), RunID(h.set.nextRun.Load())
	next, err := h.set.Current().Apply(&full)
	if err != nil {
		return err
	}
	h.want = append(h.want, describe(next))
	return h.set.Apply(e)
}
