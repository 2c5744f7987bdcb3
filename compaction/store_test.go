package compaction

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
)

const segmentsDir = "db/segments"

// store is a store of segments alone: every event is flushed. It keeps the whole history beside, to say what reads have
// to find.
type store struct {
	tb   testing.TB
	fs   vfs.FS
	v    *manifest.Version
	opts Options
	lsn  event.LSN
	pins []event.LSN // ascending

	history []segment.Entry // of all keys, in the order of LSNs
	ranges  []segment.RangeDelete
	dropped map[event.DatasetID]event.LSN
	flushed int // of history
	ranged  int // of ranges

	mu       sync.Mutex // guards the next two
	nextFile manifest.FileNum
	open     map[manifest.FileNum]int // readers that are open

	parallel int
	pace     func(context.Context, int64) error
}

func newStore(tb testing.TB, fsys vfs.FS) *store {
	s := &store{tb: tb, fs: fsys, v: &manifest.Version{}, dropped: map[event.DatasetID]event.LSN{}, nextFile: 1,
		open: map[manifest.FileNum]int{}}
	if err := fsys.MkdirAll(segmentsDir); err != nil {
		tb.Fatal(err)
	}
	return s
}

func (s *store) write(ds event.DatasetID, key string, op event.Op, value string) {
	s.lsn++
	e := segment.Entry{Dataset: ds, Key: []byte(key), LSN: s.lsn, Time: int64(s.lsn), Op: op}
	if op == event.OpPut || op == event.OpMerge {
		e.Value = []byte(value)
	}
	s.history = append(s.history, e)
}

func (s *store) put(key, value string) { s.write(1, key, event.OpPut, value) }

func (s *store) deleteRange(ds event.DatasetID, from, to string) {
	s.lsn++
	r := segment.RangeDelete{Dataset: ds, From: []byte(from), LSN: s.lsn, Time: int64(s.lsn)}
	if to != "" {
		r.To = []byte(to)
	}
	s.ranges = append(s.ranges, r)
}

func (s *store) drop(ds event.DatasetID) {
	s.lsn++
	s.dropped[ds] = s.lsn
}

// flush writes what is new as the newest run, every version of it.
func (s *store) flush() {
	es := slices.Clone(s.history[s.flushed:])
	rs := s.ranges[s.ranged:]
	s.flushed, s.ranged = len(s.history), len(s.ranges)
	if len(es)+len(rs) == 0 {
		return
	}
	slices.SortFunc(es, func(a, b segment.Entry) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(string(a.Key), string(b.Key)), cmp.Compare(b.LSN, a.LSN))
	})
	num := s.newFile()
	run := max(s.v.NextRun, 1)
	w, err := segment.Create(s.fs, path.Join(segmentsDir, manifest.SegmentName(num)),
		segment.WriterOptions{Num: uint64(num), Run: uint64(run), BlockBytes: 1 << 10})
	if err != nil {
		s.tb.Fatal(err)
	}
	for i := range es {
		if err := w.Add(&es[i]); err != nil {
			s.tb.Fatal(err)
		}
	}
	for _, r := range rs {
		w.AddRangeDelete(r)
	}
	p, err := w.Finish()
	if err == nil {
		err = s.fs.SyncDir(segmentsDir)
	}
	if err != nil {
		s.tb.Fatal(err)
	}
	s.apply(&manifest.Edit{Add: []*manifest.Segment{SegmentOf(p)}, FlushedLSN: &s.lsn, NextRun: run + 1})
}

func (s *store) newFile() manifest.FileNum {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextFile++
	return s.nextFile - 1
}

func (s *store) apply(e *manifest.Edit) {
	s.tb.Helper()
	e.NextFile, e.NextRun = s.nextFile, max(e.NextRun, s.v.NextRun)
	v, err := s.v.Apply(e)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.v = v
}

// reader opens a segment and counts that it is closed again.
func (s *store) reader(seg *manifest.Segment) (*segment.Reader, func(), error) {
	name := manifest.SegmentName(seg.Num)
	r, err := segment.Open(s.fs, path.Join(segmentsDir, name),
		segment.ReaderOptions{Num: uint64(seg.Num), DisplayName: "segments/" + name})
	if err != nil {
		return nil, nil, err
	}
	count := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open[seg.Num] += n
	}
	count(1)
	return r, func() {
		count(-1)
		_ = r.Close()
	}, nil
}

// known returns the range deletes that an engine would know after a restart: those in segments.
func (s *store) known() map[event.DatasetID]*memtable.RangeDeletes {
	var all []segment.RangeDelete
	for seg := range s.v.All() {
		r, done, err := s.reader(seg)
		if err != nil {
			s.tb.Fatal(err)
		}
		all = append(all, r.RangeDeletes()...)
		done()
	}
	slices.SortFunc(all, func(a, b segment.RangeDelete) int { return cmp.Compare(a.LSN, b.LSN) })
	known := map[event.DatasetID]*memtable.RangeDeletes{}
	for _, r := range all {
		if known[r.Dataset] == nil {
			known[r.Dataset] = &memtable.RangeDeletes{}
		}
		known[r.Dataset].Add(r.From, r.To, r.LSN, s.oldestRead())
	}
	return known
}

func (s *store) oldestRead() event.LSN {
	if len(s.pins) > 0 {
		return s.pins[0]
	}
	return s.lsn
}

func (s *store) droppedAt(ds event.DatasetID) event.LSN { return s.dropped[ds] }

func (s *store) input() Input {
	return Input{Options: s.opts, Durable: s.lsn, Pins: slices.Clone(s.pins), Dropped: s.droppedAt, RangeDeletes: s.ranges}
}

func (s *store) runOptions() RunOptions {
	known := s.known()
	ranges := func(ds event.DatasetID) Covering {
		if r := known[ds]; r != nil {
			return r
		}
		return nil
	}
	return RunOptions{
		Options: s.opts, Version: s.v, FS: s.fs, Dir: segmentsDir, Open: s.reader, NewFile: s.newFile, CreatedAt: 1,
		FlushedLSN: s.v.FlushedLSN, Parallel: s.parallel, Pace: s.pace,
		Live: Liveness{Durable: s.lsn, Pins: slices.Clone(s.pins), Dropped: s.droppedAt, Ranges: ranges},
	}
}

// run does a job, and removes its inputs.
func (s *store) run(j *Job) (*Result, error) {
	res, err := Run(context.Background(), j, s.runOptions())
	for num, n := range s.open {
		if n != 0 {
			s.tb.Fatalf("segment %d has %d open readers", num, n)
		}
	}
	if err != nil {
		return nil, err
	}
	if n := res.Written + res.Overridden + res.Hidden + res.Tombstones; n != res.Read {
		s.tb.Fatalf("%d versions read, what became of %d is told: %+v", res.Read, n, res)
	}
	s.install(j, res)
	return res, nil
}

func (s *store) install(j *Job, res *Result) {
	s.tb.Helper()
	s.apply(res.Edit(j.Why))
	for _, num := range res.Remove {
		if s.v.Segment(num) == nil {
			if err := s.fs.Remove(path.Join(segmentsDir, manifest.SegmentName(num))); err != nil {
				s.tb.Fatal(err)
			}
		}
	}
}

// compact does what is picked until nothing is.
func (s *store) compact(in func() Input) (jobs int) {
	s.tb.Helper()
	for {
		j, ok := Pick(s.v, in())
		if !ok {
			return jobs
		}
		if jobs++; jobs > 1000 {
			s.tb.Fatalf("no end of jobs; the last:\n%s", j.Explain())
		}
		if _, err := s.run(&j); err != nil {
			s.tb.Fatalf("%s: %v", j.Explain(), err)
		}
	}
}

type keyID struct {
	ds  event.DatasetID
	key string
}

// stored returns the versions of all keys that are in segments, in the order in which a read looks at them.
func (s *store) stored() map[keyID][]segment.Entry {
	found := map[keyID][]segment.Entry{}
	for i := range s.v.Runs {
		for _, seg := range s.v.Runs[i].Segments {
			r, done, err := s.reader(seg)
			if err != nil {
				s.tb.Fatal(err)
			}
			it := r.NewIter(segment.IterOptions{})
			for ok := it.First(); ok; ok = it.Next() {
				e := clone(it.Entry())
				k := keyID{e.Dataset, string(e.Key)}
				found[k] = append(found[k], e)
			}
			if it.Err() != nil {
				s.tb.Fatal(it.Err())
			}
			it.Close()
			done()
		}
	}
	return found
}

// read is what a read at an LSN finds among versions that it looks at in this order: the first at or below the LSN, or
// the operands down to it. covers tells of range deletes.
func (s *store) read(vs []segment.Entry, at event.LSN, covers func(e *segment.Entry, at event.LSN) bool) string {
	value := ""
	for i := range vs {
		e := &vs[i]
		if e.LSN > at {
			continue
		}
		drop := s.dropped[e.Dataset]
		if isTombstone(e) || covers(e, at) || e.LSN < drop && drop <= at {
			break
		}
		value = string(e.Value) + "+" + value
		if e.Op == event.OpPut {
			break
		}
	}
	return value
}

// check compares reads of every key at every pin and at present with what the history says. Of range deletes only those
// count that are in segments.
func (s *store) check() {
	s.tb.Helper()
	all := map[keyID][]segment.Entry{}
	for i := range slices.Backward(s.history[:s.flushed]) {
		e := s.history[i]
		k := keyID{e.Dataset, string(e.Key)}
		all[k] = append(all[k], e)
	}
	stored, known := s.stored(), s.known()
	inHistory := func(e *segment.Entry, at event.LSN) bool {
		return slices.ContainsFunc(s.ranges[:s.ranged], func(r segment.RangeDelete) bool {
			return r.Dataset == e.Dataset && e.LSN < r.LSN && r.LSN <= at && string(r.From) <= string(e.Key) &&
				(r.To == nil || string(e.Key) < string(r.To))
		})
	}
	inSegments := func(e *segment.Entry, at event.LSN) bool {
		r := known[e.Dataset]
		return r != nil && r.Covers(e.Key, e.LSN, at)
	}
	for _, k := range slices.SortedFunc(maps.Keys(all), func(a, b keyID) int {
		return cmp.Or(cmp.Compare(a.ds, b.ds), cmp.Compare(a.key, b.key))
	}) {
		for _, at := range append(slices.Clone(s.pins), s.lsn) {
			if got, want := s.read(stored[k], at, inSegments), s.read(all[k], at, inHistory); got != want {
				s.tb.Fatalf("key %d/%q at %d: %q, want %q\n%s", k.ds, k.key, at, got, want, s.v)
			}
		}
	}
}

// checkNothingUnneeded checks a store with one run: that without any one of its versions some read would change, or
// that nothing but the last range deletes is there.
func (s *store) checkNothingUnneeded() {
	s.tb.Helper()
	known := s.known()
	covers := func(e *segment.Entry, at event.LSN) bool {
		r := known[e.Dataset]
		return r != nil && r.Covers(e.Key, e.LSN, at)
	}
	for k, vs := range s.stored() {
		for i := range vs {
			without := slices.Delete(slices.Clone(vs), i, i+1)
			same := func(at event.LSN) bool { return s.read(vs, at, covers) == s.read(without, at, covers) }
			if !slices.ContainsFunc(append(slices.Clone(s.pins), s.lsn), func(at event.LSN) bool { return !same(at) }) {
				s.tb.Fatalf("key %d/%q: nobody needs the version of LSN %d (pins %v)\n%v", k.ds, k.key, vs[i].LSN, s.pins, vs)
			}
		}
	}
}

// files returns the names in the directory of segments.
func (s *store) files() []string {
	names, err := s.fs.List(segmentsDir)
	if err != nil {
		s.tb.Fatal(err)
	}
	return names
}

// inVersion returns the names of the version's segments.
func (s *store) inVersion() (names []string) {
	for seg := range s.v.All() {
		names = append(names, manifest.SegmentName(seg.Num))
	}
	slices.Sort(names)
	return names
}

func (s *store) checkFiles() {
	s.tb.Helper()
	if got, want := s.files(), s.inVersion(); !slices.Equal(got, want) {
		s.tb.Fatalf("files %v, the version has %v", got, want)
	}
}

// randomWrites writes n events.
func (s *store) randomWrites(rng *rand.Rand, n int, key func() string) {
	for range n {
		ds := event.DatasetID(1 + rng.IntN(3))
		if s.dropped[ds] != 0 {
			ds = 1
		}
		switch k := rng.IntN(100); {
		case k < 60:
			s.write(ds, key(), event.OpPut, fmt.Sprint(s.lsn, string(make([]byte, rng.IntN(40)))))
		case k < 80:
			s.write(ds, key(), event.OpDelete, "")
		case k < 84:
			s.write(ds, key(), event.OpExpire, "")
		case k < 94:
			s.write(ds, key(), event.OpMerge, fmt.Sprint("m", s.lsn))
		case k < 98:
			from, to := key(), key()
			if rng.IntN(8) == 0 {
				to = ""
			}
			if to == "" || from < to {
				s.deleteRange(ds, from, to)
			}
		case ds > 1 && rng.IntN(20) == 0:
			s.drop(ds)
		}
	}
}

var errStop = errors.New("stop")
