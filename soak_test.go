package dyngo_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var (
	soakTime  = flag.Duration("soak.time", 0, "how long TestSoak loads the store, 0 = skip it; an hour is the size to hold")
	soakQuota = flag.Int64("soak.quota", 0, "quota of TestSoak in bytes, 0 = 2 GiB for an hour and less for less")
	soakFill  = flag.Int64("soak.fill", 60, "percent of the quota of TestSoak that values and history take")
	soakSeed  = flag.Uint64("soak.seed", 0, "seed of TestSoak, 0 = random")
	soakDir   = flag.String("soak.dir", "", "folder for the store of TestSoak, kept if it fails (default: for temporary files)")
)

const (
	soakLanes  = 4
	soakSettle = 12 * time.Second // longer than until the background looks again
	soakStall  = 30 * time.Second
)

// soak is a run of TestSoak. The process that has the store open is killed and started again; what must be in the
// store is known outside of it.
type soak struct {
	t        *testing.T
	rng      *rand.Rand
	began    time.Time
	reported time.Time
	options  soakOptions
	lanes    []*soakLane
	child    *soakChild
	killed   int64 // when, Unix ns

	kills, closes, squeezes, checks, rescues int
	last                                     soakStats                                                 // of the process
	sum                                      struct{ merged, flushed, flushErrors, mergeErrors int64 } // of those before
	waited                                   time.Duration
	used, resident                           int64 // at most
	wrong                                    []string
}

// TestSoak loads a store under a quota with puts, deletes, range deletes, expiries, batches, scans and views, kills it
// again and again, and holds all that it gives against a model. In the end it takes no more of the disk than 1.3 times
// what is in it and what retention keeps, without a Compact.
func TestSoak(t *testing.T) {
	load := *soakTime
	if load <= 0 {
		t.Skip("takes minutes: run with -soak.time=2m, or 1h for the whole")
	}
	s := newSoak(t, load)
	defer func() {
		s.child.stop()
		for _, w := range s.wrong {
			t.Logf("failed: %s", w)
		}
	}()
	end := time.Now().Add(load)
	for {
		s.start()
		if n := s.kills + s.closes; n == 1 || n > 1 && s.rng.IntN(6) == 0 {
			s.compare(false)
		}
		left := time.Until(end)
		span := time.Duration(s.rng.ExpFloat64() * float64(min(load/16, 20*time.Second)))
		if span >= left {
			s.load(left, false)
			break
		}
		kill := s.rng.IntN(4) > 0
		if s.load(span, kill); !kill {
			s.close()
		}
	}
	s.settle()
	s.measure()
	s.compare(true)
	s.close()
	s.verify()
}

func newSoak(t *testing.T, load time.Duration) *soak {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	quota := *soakQuota
	if quota == 0 {
		quota = max(int64(2<<30*load.Hours()), 512<<20)
		quota = min(quota, 2<<30)
	}
	t.Logf("repeat with -run TestSoak -soak.time %v -soak.quota %d -soak.fill %d -soak.seed %d",
		load, quota, *soakFill, seed)
	dir, err := os.MkdirTemp(*soakDir, "soak-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && *soakDir != "" {
			t.Logf("the store is kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	history := quota * *soakFill / 100 / 3
	s := &soak{t: t, rng: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), options: soakOptions{
		Dir: filepath.ToSlash(dir), Quota: quota, Retention: history, LogFileBytes: max(history/16, 1<<20), Memory: 8 << 20,
		SpillBatch: 256 << 10, SpillPiece: 64 << 10,
	}}
	for i := range soakLanes {
		s.lanes = append(s.lanes, newSoakLane(i, seed, 2*history/soakLanes))
	}
	return s
}

// start starts the process and holds what is left in the store against what was written.
func (s *soak) start() {
	s.child = s.startChild()
	for _, l := range s.lanes {
		l.child = s.child
	}
	call := soakCall{Do: "open", Open: s.options}
	r, err := s.child.call(&call)
	if err != nil && strings.Contains(err.Error(), vfs.ErrNoSpace.Error()) {
		s.errorf("with the disk full, after %d kills: %v", s.kills, err)
		s.rescues++
		s.child.stop()
		s.options.Quota += s.options.Quota / 4
		s.start()
		return
	}
	if err != nil {
		s.fatal("after %d kills: %v", s.kills, err)
	}
	if r.Recovery.Damage != "" {
		s.fatal("damage after a kill: %s", r.Recovery.Damage)
	}
	for _, l := range s.lanes {
		if err := l.recovered(r.Recovery.LastLSN, s.killed); err != nil {
			s.fatal("after kill %d: %v", s.kills, err)
		}
	}
}

// load has all lanes work for a while, and ends them, or the process. It watches that they get on; now and then it
// takes the rest of the disk away.
func (s *soak) load(span time.Duration, kill bool) {
	stop, done := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	errs := make([]error, len(s.lanes))
	for i, l := range s.lanes {
		wg.Go(func() { errs[i] = l.run(stop) })
	}
	go func() { wg.Wait(); close(done) }()
	s.watch(span, kill, stop, done)
	for _, err := range errs {
		if err != nil && !(kill && errors.Is(err, errSoakGone)) {
			s.fatal("after %d kills: %v", s.kills, err)
		}
	}
}

// watch returns when all lanes have ended.
func (s *soak) watch(span time.Duration, kill bool, stop chan<- struct{}, done <-chan struct{}) {
	tick, over := time.NewTicker(time.Second), time.NewTimer(span)
	defer tick.Stop()
	defer over.Stop()
	calls, moved, squeezed, ending := s.calls(), time.Now(), false, false
	for {
		select {
		case <-tick.C:
		case <-over.C:
			if ending = true; kill {
				s.kill()
			}
			close(stop)
			continue
		case <-done:
			if squeezed && !kill {
				s.must(soakCall{Do: "quota"})
			}
			return
		}
		if ending && kill {
			continue // nobody is there to be asked
		}
		s.report(s.look())
		switch {
		case squeezed:
			squeezed = false
			s.must(soakCall{Do: "quota"})
		case !ending && s.rng.IntN(15) == 0:
			squeezed = true
			s.squeezes++
			s.must(soakCall{Do: "quota", Quota: -1 - s.rng.Int64N(8<<20)})
		}
		if n := s.calls(); n != calls {
			calls, moved = n, time.Now()
		} else if time.Since(moved) > soakStall {
			s.rescue()
			moved = time.Now()
		}
	}
}

// report logs a line of figures now and then.
func (s *soak) report(m soakStats) {
	if now := time.Now(); now.Sub(s.reported) > 5*time.Second {
		s.reported = now
		values := int64(0)
		for _, l := range s.lanes {
			for _, sp := range l.spaces {
				values += sp.bytes.Load()
			}
		}
		s.t.Logf("%5.0f s  %d calls  %d kills  values %d MB  disk %d MB, at most %d: "+
			"log %d in %d files, segments %d in %d runs  merges %d, wrote %d MB  resident %d MB  waited %v, full %v", now.Sub(s.began).Seconds(), s.calls(), s.kills,
			values/1e6, m.Used/1e6, s.options.Quota/1e6, m.LogBytes/1e6, m.LogFiles, m.SegmentBytes/1e6, m.Runs,
			m.Compactions, m.CompactWrittenBytes/1e6, m.Resident/1e6, m.Waited.Round(time.Millisecond), m.Full)
	}
}

func (s *soak) calls() (n int64) {
	for _, l := range s.lanes {
		n += l.calls.Load()
	}
	return n
}

// rescue gives the store more space: it can't go on by itself, though what is in it and what retention keeps leave it
// enough.
func (s *soak) rescue() {
	s.explain()
	if s.rescues++; s.rescues > 3 {
		s.fatal("no call has ended for %v, with more space than before", soakStall)
	}
	live, _ := s.live()
	s.errorf("no call has ended for %v: the disk has %d bytes in use of %d, "+
		"%d are in the store and %d in retained history", soakStall, s.last.Used, s.options.Quota, live, s.options.Retention)
	s.options.Quota += s.options.Quota / 4 // also of the processes that follow
	s.must(soakCall{Do: "quota", Quota: s.options.Quota})
}

// explain logs what keeps the oldest log file, with the others, and where the engine is at work.
func (s *soak) explain() {
	r := s.must(soakCall{Do: "explain"})
	for _, line := range r.Lines {
		s.t.Log(line)
	}
}

// settle lets the background do what it does by itself, and drops what retention no longer wants. While merges hold the rest of the disk,
// a flush or a pass of retention may find none; in the end they must.
func (s *soak) settle() {
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var full error
	quiet, before := time.Time{}, [4]int64{}
	for time.Since(began) < 10*soakSettle {
		m := s.look().Metrics
		now := [4]int64{int64(m.LSN), m.Compactions, m.SegmentBytes, m.FilesDropped}
		if full != nil || now[0] != before[0] || now[1] != before[1] {
			full = nil
			for _, do := range []string{"flush", "gc"} {
				_, err := s.child.call(&soakCall{Do: do})
				if err != nil && strings.Contains(err.Error(), vfs.ErrNoSpace.Error()) {
					full = err
					s.t.Logf("while it settles, after %v: %v", time.Since(began).Round(time.Second), err)
				} else if err != nil {
					s.errorf("after %d kills: %v", s.kills, err) // what it means for the data is to be seen
				}
			}
		}
		if now != before {
			quiet, before = time.Now(), now
		}
		if time.Since(quiet) > soakSettle {
			break
		}
		<-tick.C
	}
	if full != nil {
		s.errorf("settled, after %d kills: %v", s.kills, full)
	}
	s.t.Logf("settled after %v", time.Since(began).Round(time.Second))
}

// measure holds what the store takes on disk against 1.3 times what it has to keep:
//
//   - disk: the sizes of all files in its directory, reserve and lock included.
//   - live: keys and values of all pairs that a scan gives, as their owner counts them. The values can't be compressed.
//   - log: its files, as far as Options.Retention wants them. It wants files until those after one take Retention.Bytes, so up
//     to one file more than that. Large values that are live and lie in one of these files count once, as live.
//   - overwritten: keys and values of versions that were current at the floor of retention, Metrics.FloorLSN, and are not any
//     more, as their owner counts them: history goes down to them.
func (s *soak) measure() {
	disk, parts := int64(0), map[string]int64{}
	err := filepath.WalkDir(s.options.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			rel, _ := filepath.Rel(s.options.Dir, filepath.Dir(name))
			parts[rel+"/*"+filepath.Ext(name)] += info.Size()
			disk += info.Size()
		}
		return err
	})
	if err != nil {
		s.fatal("%v", err)
	}
	live, pairs := s.live()
	m := s.look()
	log, overwritten := s.retained(parts["wal/*.log"], m)
	ratio := float64(disk) / float64(live+log+overwritten)
	mb := func(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		s.t.Logf("on disk: %10s in %s", mb(parts[name]), name)
	}
	s.t.Logf("%d runs, %d segments, history segments with %s, %d log files; flush errors %d, merge errors %d, retention errors %d",
		m.Runs, m.Segments, mb(m.HistoryBytes), m.LogFiles,
		s.sum.flushErrors+m.FlushErrors, s.sum.mergeErrors+m.CompactionErrors, m.RetentionErrors)
	calls, writes, written := s.calls(), int64(0), int64(0)
	for _, l := range s.lanes {
		writes, written = writes+l.writes, written+l.bytes
	}
	s.t.Logf("%d calls, %d writes with %s, %.1f times the quota; %d kills, %d closes, "+
		"%d times the disk was full by order, writes waited %v; flushed %s, merged %s; at most %s of the disk used, %s resident",
		calls, writes, mb(written), float64(written)/float64(s.options.Quota), s.kills, s.closes, s.squeezes,
		(s.waited + m.Waited).Round(time.Millisecond),
		mb(s.sum.flushed+m.FlushedBytes), mb(s.sum.merged+m.CompactWrittenBytes),
		mb(s.used), mb(s.resident))
	s.t.Logf("disk %s, live %s in %d pairs, log %s, overwritten %s: ratio %.3f",
		mb(disk), mb(live), pairs, mb(log), mb(overwritten), ratio)
	if ratio > soakRatio {
		s.errorf("the disk has %.3f times what is live and retained, want at most %.1f", ratio, soakRatio)
		s.explain()
	}
	for _, e := range m.Errors {
		s.errorf("the engine logged: %s", e)
	}
}

const soakRatio = 1.3

// retained is what retention keeps of the log, and beside it for history.
func (s *soak) retained(files int64, m soakStats) (log, overwritten int64) {
	log = files
	now := time.Now().UnixNano()
	for _, l := range s.lanes {
		l.settled(m.DurableLSN)
		for _, sp := range l.spaces {
			log -= sp.large(m.FloorLSN, now)
		}
		for _, g := range l.gone {
			if g.from <= m.FloorLSN && m.FloorLSN < g.to {
				overwritten += g.bytes
			}
		}
	}
	return min(log, s.options.Retention+s.options.LogFileBytes), overwritten
}

func (s *soak) live() (bytes, pairs int64) {
	now := time.Now().UnixNano()
	for _, l := range s.lanes {
		for _, sp := range l.spaces {
			b, n := sp.live(now)
			bytes, pairs = bytes+b, pairs+n
		}
	}
	return bytes, pairs
}

// compare holds all that scans give against the model, and with gets each key, there or not.
func (s *soak) compare(gets bool) {
	s.checks++
	for i := range soakDatasets {
		least, most, began := int64(0), int64(0), time.Now().UnixNano()
		r := s.must(soakCall{Do: "scan", Dataset: i, Range: dyngo.Range{KeysOnly: true}})
		for _, l := range s.lanes {
			for _, sp := range l.spaces {
				if sp.dataset == i {
					n, m := sp.count(began, time.Now().UnixNano())
					least, most = least+n, most+m
				}
			}
		}
		if r.Count < least || r.Count > most {
			s.fatal("after %d kills: %s has %d keys, want %d to %d", s.kills, soakDatasets[i].name, r.Count, least, most)
		}
	}
	for _, l := range s.lanes {
		for _, sp := range l.spaces {
			if err := l.compare(sp, gets); err != nil {
				s.fatal("after %d kills: %v", s.kills, err)
			}
		}
	}
}

func (s *soak) verify() {
	report, err := dyngo.Verify(context.Background(), s.options.Dir, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range report.All() {
		s.errorf("verify: %v", d)
	}
}
