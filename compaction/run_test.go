package compaction

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// TestRunAgainstHistory writes, flushes, opens and closes views and compacts at random. Reads at every view and at
// present must be what the history says, and when all is merged into one run, it holds nothing that no read needs.
func TestRunAgainstHistory(t *testing.T) {
	seed := newSeed(t)
	for n := range *storesFlag {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		s := newStore(t, vfs.NewMem())
		s.parallel = 1 + rng.IntN(3)
		s.opts = Options{FileBytes: 1 << (9 + rng.IntN(5)), MaxSources: 1 + rng.IntN(5), FreeBytes: 1, ZstdBytes: 1 << 13}
		s.opts.MaxJobBytes = s.opts.FileBytes * (2 + rng.Int64N(30))
		keys := 1 + rng.IntN(200)
		for range 1 + rng.IntN(8) {
			s.randomWrites(rng, rng.IntN(300), func() string { return fmt.Sprintf("key%03d", rng.IntN(keys)) })
			s.flush()
			switch rng.IntN(3) {
			case 0:
				s.pins = append(s.pins, s.lsn)
			case 1:
				if len(s.pins) > 0 {
					i := rng.IntN(len(s.pins))
					s.pins = slices.Delete(s.pins, i, i+1)
				}
			}
			if rng.IntN(3) > 0 {
				s.compact(s.input)
			}
			s.check()
			s.checkFiles()
		}
		full := s.input()
		full.Full = true
		s.compact(func() Input { return full })
		s.check()
		if len(s.v.Runs) > 1 {
			continue // range deletes may have a run to themselves
		}
		s.rewrite()
		s.check()
		s.checkNothingUnneeded()
	}
}

// rewrite merges all that there is.
func (s *store) rewrite() {
	s.tb.Helper()
	if len(s.v.Runs) == 0 {
		return
	}
	j := everything(s.v)
	if _, err := s.run(&j); err != nil {
		s.tb.Fatal(err)
	}
}

// everything is a job of all segments.
func everything(v *manifest.Version) Job {
	j := Job{Kind: Merge, Newest: v.Runs[0].ID, Output: v.Runs[len(v.Runs)-1].ID}
	for s := range v.All() {
		j.Inputs = append(j.Inputs, s)
		j.WriteBytes += s.SizeBytes
		if s.Entries > 0 {
			if j.Hi.Compare(manifest.Key{}) == 0 || s.Smallest.Compare(j.Lo) < 0 {
				j.Lo = s.Smallest
			}
			if s.Largest.Compare(j.Hi) > 0 {
				j.Hi = s.Largest
			}
		}
	}
	return j
}

// drawn is a store with a version of key "k" at each LSN of a drawing: P put, D delete, M merge operand, R delete of
// a range, X drop of the dataset, - something elsewhere, and what is left of it when all is merged. A letter for each
// that stays, - for others.
func drawn(t *testing.T, drawing string, older bool, pins ...event.LSN) string {
	s := newStore(t, vfs.NewMem())
	if older {
		s.put("k", "the oldest")
		s.flush()
	}
	first := s.lsn
	for _, c := range drawing {
		switch c {
		case 'P', 'M', 'D':
			s.write(1, "k", map[rune]event.Op{'P': event.OpPut, 'M': event.OpMerge, 'D': event.OpDelete}[c], string(c))
		case '-':
			s.write(2, "k", event.OpPut, "elsewhere")
		case 'R':
			s.deleteRange(1, "a", "z")
		case 'X':
			s.drop(1)
		}
		s.flush()
	}
	for _, p := range pins {
		s.pins = append(s.pins, first+p)
	}
	j := everything(s.v)
	if older { // all but the oldest run
		runs := s.v.Runs[:len(s.v.Runs)-1]
		j = everything(&manifest.Version{Runs: runs})
	}
	if _, err := s.run(&j); err != nil {
		t.Fatal(err)
	}
	s.check()
	left := []byte(strings.Repeat("-", len(drawing)))
	for seg := range s.v.All() {
		r, done, err := s.reader(seg)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.RangeDeletes() {
			left[d.LSN-first-1] = 'R'
		}
		it := r.NewIter(segment.IterOptions{})
		for ok := it.First(); ok; ok = it.Next() {
			if lsn := it.Entry().LSN; lsn > first {
				left[lsn-first-1] = drawing[lsn-first-1]
			}
		}
		it.Close()
		done()
	}
	return string(left)
}

func TestWhatStays(t *testing.T) {
	for _, c := range []struct {
		name          string
		drawing, want string
		older         bool
		pins          []event.LSN
	}{
		{"only the newest", "PPP", "--P", false, nil},
		{"the newest at or below each pin", "PPPPP", "-P-PP", false, []event.LSN{2, 4}},
		{"one version for several pins", "P--P", "P--P", false, []event.LSN{1, 2, 3}},
		{"a pin before the first version", "PP", "-P", true, []event.LSN{0}},
		{"a tombstone goes with what it hides", "PD", "--", false, nil},
		{"a tombstone stays above an older run", "PD", "-D", true, nil},
		{"a tombstone stays above a version for a pin", "PD", "PD", false, []event.LSN{1}},
		{"a tombstone that only a pin sees goes at the bottom", "DP", "-P", false, []event.LSN{1}},
		{"but not above an older run", "DP", "DP", true, []event.LSN{1}},
		{"tombstones between versions for pins", "PDPD", "PDPD", false, []event.LSN{1, 2, 3}},
		{"trailing tombstones go together", "DDP", "--P", false, []event.LSN{1, 2}},
		{"one tombstone does for two", "PDD", "PD-", false, []event.LSN{1, 2}},
		{"a range delete takes what it covers, and goes", "PPR", "---", false, nil},
		{"a range delete stays above an older run", "PR", "-R", true, nil},
		{"a range delete stays above a version for a pin", "PR", "PR", false, []event.LSN{1}},
		{"a later version is not covered", "PRP", "--P", false, nil},
		{"one range delete does for two", "PRR", "P-R", false, []event.LSN{1}},
		{"not for a pin between them", "PRR", "PRR", true, []event.LSN{1, 2}},
		{"for pins before and after", "PRR", "P-R", true, []event.LSN{1, 3}},
		{"a dropped dataset", "PPX", "---", false, nil},
		{"a dropped dataset with a view of before", "PPX", "-P-", false, []event.LSN{2}},
		{"operands keep what is below them", "PMM", "PMM", false, nil},
		{"operands end at a delete", "PDM", "--M", false, nil},
		{"operands end at a range delete", "PRM", "--M", false, nil},
		{"operands above an older run keep their delete", "DM", "DM", true, nil},
		{"operands for a pin", "PMP", "PMP", false, []event.LSN{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := drawn(t, c.drawing, c.older, c.pins...); got != c.want {
				t.Errorf("of %s with pins %v stays %s, want %s", c.drawing, c.pins, got, c.want)
			}
		})
	}
}

// TestOutputs holds what is written against what was asked for.
func TestOutputs(t *testing.T) {
	s := newStore(t, vfs.NewMem())
	s.opts.FileBytes, s.opts.ZstdBytes = 8<<10, 1
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3 {
		for range 2000 {
			s.put(fmt.Sprintf("key%05d", rng.IntN(5000)), "some value that repeats itself and itself")
		}
		s.flush()
	}
	j := everything(s.v)
	var names []uint64
	for _, in := range j.Inputs {
		names = append(names, uint64(in.Num))
	}
	slices.Sort(names)
	res, err := s.run(&j)
	if err != nil {
		t.Fatal(err)
	}
	s.check()
	if len(res.Add) < 4 || res.Read != 6000 || res.Written+res.Overridden != 6000 || res.Overridden == 0 {
		t.Errorf("result %+v", res)
	}
	written := int64(0)
	for _, seg := range res.Add {
		r, done, err := s.reader(seg)
		if err != nil {
			t.Fatal(err)
		}
		p := r.Properties()
		if !slices.Equal(p.Replaces, names) || p.CreatedAt != 1 || p.FlushedLSN != s.lsn || p.Run != 1 {
			t.Errorf("properties %+v", p)
		}
		if got := SegmentOf(p).String(); got != seg.String() {
			t.Errorf("the manifest is told %s, the file says %s", seg, got)
		}
		if seg.SizeBytes > 2*s.opts.FileBytes {
			t.Errorf("a file of %d bytes, want %d", seg.SizeBytes, s.opts.FileBytes)
		}
		if err := r.Verify(context.Background(), nil); err != nil {
			t.Error(err)
		}
		written += seg.SizeBytes
		done()
	}
	if written != res.WriteBytes {
		t.Errorf("%d bytes written, the result says %d", written, res.WriteBytes)
	}
}

// TestLargeKeysAndManyVersions: keys of 64 KiB, and a key whose versions for many pins take many blocks and more than a
// file should have, which is never cut between them.
func TestLargeKeysAndManyVersions(t *testing.T) {
	s := newStore(t, vfs.NewMem())
	s.opts.FileBytes = 16 << 10
	long := strings.Repeat("k", event.MaxKeyBytes-1)
	for round := range 3 {
		for c := range 5 {
			s.put(long+string(rune('a'+c)), fmt.Sprint(round))
		}
		for i := range 300 {
			s.put("many", fmt.Sprint(i, strings.Repeat("v", 200)))
			if i%3 == 0 {
				s.pins = append(s.pins, s.lsn)
			}
		}
		s.flush()
	}
	j := everything(s.v)
	if _, err := s.run(&j); err != nil {
		t.Fatal(err)
	}
	s.check()
	s.checkNothingUnneeded()
	if vs := s.stored()[keyID{1, "many"}]; len(vs) != 301 {
		t.Errorf("%d versions for %d pins and the present", len(vs), len(s.pins))
	}
}

// TestDatasetsGetFilesOfTheirOwn so that one can be dropped unread.
func TestDatasetsGetFilesOfTheirOwn(t *testing.T) {
	s := newStore(t, vfs.NewMem())
	s.opts.FileBytes = 16 << 10
	for ds := range event.DatasetID(3) {
		for i := range 2000 {
			s.write(ds+1, fmt.Sprintf("key%05d", i), event.OpPut, "value")
		}
	}
	s.flush()
	s.rewrite()
	for seg := range s.v.All() {
		if seg.Smallest.Dataset != seg.Largest.Dataset {
			t.Errorf("datasets share %s", seg)
		}
	}
	s.drop(2)
	j, ok := Pick(s.v, s.input())
	if !ok || j.Kind != Drop {
		t.Fatalf("picked %s", j.Explain())
	}
	if _, err := s.run(&j); err != nil {
		t.Fatal(err)
	}
	s.check()
	s.checkFiles()
}

// TestDropCarriesRangeDeletesOn: a segment that is dropped unread may hold range deletes that are still needed.
func TestDropCarriesRangeDeletesOn(t *testing.T) {
	s := newStore(t, vfs.NewMem())
	s.write(1, "k", event.OpPut, "old")
	s.flush()
	s.write(2, "x", event.OpPut, "in a dataset that is dropped")
	s.deleteRange(1, "a", "z")
	s.flush()
	s.drop(2)
	s.flush()
	j := Job{Kind: Drop, Reason: Dead, Inputs: s.v.Runs[0].Segments, Newest: 2, Output: 2}
	if _, err := s.run(&j); err != nil {
		t.Fatal(err)
	}
	s.check()
	if got := s.v.Runs[0].Segments; len(got) != 1 || got[0].Entries != 0 || got[0].RangeDeletes != 1 {
		t.Fatalf("left: %s", s.v)
	}
}

// TestPaceAndCancel: Pace is asked before every step of at most StepBytes and can end the job, as the context can; then
// nothing is left.
func TestPaceAndCancel(t *testing.T) {
	s := newStore(t, vfs.NewMem())
	for range 2 {
		for i := range 100 {
			s.put(fmt.Sprintf("key%03d", i), strings.Repeat("v", 20_000))
		}
		s.flush()
	}
	j := everything(s.v)
	var sum int64
	calls := 0
	s.pace = func(_ context.Context, n int64) error {
		if n > StepBytes {
			t.Errorf("a step of %d bytes", n)
		}
		sum += n
		calls++
		return nil
	}
	before := s.v
	o := s.runOptions()
	if _, err := Run(context.Background(), &j, o); err != nil {
		t.Fatal(err)
	}
	if sum < 2*100*20_000-StepBytes || calls < 15 {
		t.Errorf("asked %d times for %d bytes", calls, sum)
	}
	for k := range calls {
		s = newStore(t, s.fs)
		s.v, s.nextFile = before, 100
		for _, stop := range []func(context.CancelFunc) error{
			func(context.CancelFunc) error { return errStop },
			func(cancel context.CancelFunc) error { cancel(); return nil },
		} {
			ctx, cancel := context.WithCancel(context.Background())
			n := 0
			o := s.runOptions()
			o.Pace = func(context.Context, int64) error {
				if n++; n == k+1 {
					return stop(cancel)
				}
				return nil
			}
			res, err := Run(ctx, &j, o)
			cancel()
			if err == nil && n == calls && k == calls-1 { // cancelled when all was done
				for _, seg := range res.Add {
					_ = s.fs.Remove(path.Join(segmentsDir, manifest.SegmentName(seg.Num)))
				}
				continue
			}
			if !errors.Is(err, errStop) && !errors.Is(err, context.Canceled) {
				t.Fatalf("stopped at step %d: %v", k, err)
			}
			for _, name := range s.files() {
				if n, _, _ := manifest.ParseName(name); n >= 100 {
					t.Fatalf("stopped at step %d: %s is left", k, name)
				}
			}
		}
	}
}

// TestDamagedInput: the error names segment, file and offset, and nothing is left.
func TestDamagedInput(t *testing.T) {
	s := newStore(t, vfs.NewMem())
	for range 2 {
		for i := range 500 {
			s.put(fmt.Sprintf("key%03d", i), strings.Repeat("v", 100))
		}
		s.flush()
	}
	name := path.Join(segmentsDir, manifest.SegmentName(1))
	f, err := s.fs.OpenRW(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 3000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	j := everything(s.v)
	_, err = s.run(&j)
	var in *InputError
	var damage *corruption.Error
	if !errors.As(err, &in) || in.Num != 1 || !errors.As(err, &damage) || damage.File != "segments/0000000001.seg" ||
		damage.Offset == 0 {
		t.Fatalf("error %v", err)
	}
	s.checkFiles()
}

// faultStore is a store with something of everything, and a job on it.
func faultStore(t *testing.T, fsys vfs.FS) (*store, Job) {
	rng := rand.New(rand.NewPCG(7, 7))
	s := newStore(t, fsys)
	s.opts = Options{FileBytes: 2 << 10, FreeBytes: 1}
	for range 3 {
		s.randomWrites(rng, 200, func() string { return fmt.Sprintf("key%03d", rng.IntN(60)) })
		s.flush()
	}
	s.pins = []event.LSN{s.lsn / 2}
	return s, everything(s.v)
}

// TestEveryFailedCall lets each call of the file system fail, in every way. The job ends with an error and takes
// nothing back but what it wrote; done again it succeeds.
func TestEveryFailedCall(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
		for k := int64(1); ; k++ {
			fsys := vfs.NewFault(vfs.NewMem())
			s, j := faultStore(t, fsys)
			o := s.runOptions()
			fsys.Inject(vfs.Plan{K: k, Kind: kind})
			res, err := Run(context.Background(), &j, o)
			if fsys.Fired() == 0 {
				if err != nil || k == 1 {
					t.Fatalf("kind %d, call %d: %v", kind, k, err)
				}
				break
			}
			fsys.Heal()
			if err == nil { // closing what was only read from, and removing: they may fail
				s.install(&j, res)
			} else {
				if kind == vfs.FailNoSpace && !vfs.IsNoSpace(err) {
					t.Errorf("call %d: a full disk is told as %v", k, err)
				}
				s.checkFiles()
				if _, err := s.run(&j); err != nil {
					t.Fatalf("kind %d, call %d: done again: %v", kind, k, err)
				}
			}
			s.check()
		}
	}
}

// TestCrash stops the machine at each call that changes files. The inputs are whole afterwards, what else is there is
// in no version; and once Run has returned, so are the outputs.
func TestCrash(t *testing.T) {
	for k := int64(1); ; k++ {
		crash := vfs.NewCrash(uint64(k))
		s, j := faultStore(t, crash)
		if err := crash.SyncDir("db"); err != nil {
			t.Fatal(err)
		}
		if err := crash.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		o := s.runOptions()
		crash.CrashAt(k)
		res, err := Run(context.Background(), &j, o)
		crash.CrashAt(0)
		done := err == nil
		keep := vfs.KeepSome
		if done {
			keep = vfs.KeepNone
		}
		s.fs = crash.PowerLoss(vfs.CrashOptions{Seed: uint64(k), Keep: keep})
		s.check()
		for _, name := range s.files() {
			num, _, _ := manifest.ParseName(strings.TrimSuffix(name, ".due"))
			if s.v.Segment(num) == nil && num < o.Version.NextFile {
				t.Fatalf("call %d: %s is no orphan", k, name)
			}
		}
		if !done {
			continue
		}
		s.install(&j, res)
		s.check()
		if k == 1 {
			t.Fatal("nothing was stopped")
		}
		return
	}
}
