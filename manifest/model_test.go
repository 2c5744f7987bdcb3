package manifest

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

var modelSeed = flag.Uint64("model.seed", 0, "run the model test with this seed only")

// TestModel applies random edits to a set and to a model of maps, with versions held and released, jobs that give up,
// closes and power cuts. After each step the set must hold what the model holds, and the directory of segments must
// hold the files of all versions that are held, and no others once the owner has cleaned up.
func TestModel(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4}
	if *modelSeed != 0 {
		seeds = []uint64{*modelSeed}
	}
	for _, seed := range seeds {
		m := &model{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 9)), disk: map[string]bool{}, live: map[string]string{}}
		m.crash = vfs.NewCrash(seed)
		newFS(t, m.crash)
		m.open()
		for m.step = range 400 {
			m.random()
			m.check()
		}
		if m.reopened < 5 || m.obsolete < 20 {
			t.Fatalf("seed %d: reopened %d times, told of %d files", seed, m.reopened, m.obsolete)
		}
	}
}

type model struct {
	t     *testing.T
	seed  uint64
	step  int
	rnd   *rand.Rand
	crash *vfs.Crash
	h     *history

	disk map[string]bool   // names in the directory of segments
	live map[string]string // files of the current version: where they are
	held []heldVersion

	reopened, obsolete int
}

// heldVersion is a version with a reference, and what it must go on to list.
type heldVersion struct {
	*Version
	files map[string]string
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d, step %d: %s\nrepeat with -run TestModel -model.seed %d", m.seed, m.step,
		fmt.Sprintf(format, args...), m.seed)
}

func (m *model) open() {
	o := small()
	o.Obsolete = func(n FileNum) { m.gone(SegmentName(n)) }
	o.ObsoleteValues = func(n FileNum) { m.gone(ValueName(n)) }
	s := mustOpen(m.t, m.crash, o)
	if err := s.Check(slices.Collect(maps.Keys(m.disk))); err != nil {
		m.fail("%v", err)
	}
	must(m.t, s.Start(testLog))
	orphans, err := s.Orphans(slices.Collect(maps.Keys(m.disk)))
	if err != nil {
		m.fail("%v", err)
	}
	for _, name := range orphans {
		if m.live[name] != "" {
			m.fail("%s is an orphan, but %s", name, m.live[name])
		}
		delete(m.disk, name)
	}
	if !maps.Equal(filesOf(s.Current()), m.live) || len(m.disk) != len(m.live) {
		m.fail("opened with %d files, want %d; %d on disk\n%s", len(filesOf(s.Current())), len(m.live), len(m.disk),
			s.Current())
	}
	if m.h == nil {
		m.h = newHistory(s, m.seed)
	}
	m.h.set = s
}

// gone is told that a file may be removed.
func (m *model) gone(name string) {
	if !m.disk[name] {
		m.fail("%s is told twice", name)
	}
	if m.live[name] != "" {
		m.fail("%s is told, but %s", name, m.live[name])
	}
	for _, v := range m.held {
		if v.files[name] != "" {
			m.fail("%s is told, but version %d is held", name, v.Edits)
		}
	}
	delete(m.disk, name)
	m.obsolete++
}

// filesOf lists the files of a version and where they are.
func filesOf(v *Version) map[string]string {
	files := map[string]string{}
	for i := range v.Runs {
		for _, s := range v.Runs[i].Segments {
			files[SegmentName(s.Num)] = fmt.Sprintf("run %d", v.Runs[i].ID)
		}
	}
	for _, s := range v.History {
		files[SegmentName(s.Num)] = "history"
	}
	for _, f := range v.Values {
		files[ValueName(f.Num)] = "values"
	}
	for _, d := range v.Damaged {
		files[SegmentName(d.Segment.Num)] = "set aside"
	}
	return files
}

func (m *model) random() {
	switch n := m.rnd.IntN(100); {
	case n < 70:
		m.edit()
	case n < 80:
		v := m.h.set.Acquire()
		m.held = append(m.held, heldVersion{v, maps.Clone(m.live)})
	case n < 92 && len(m.held) > 0:
		i := m.rnd.IntN(len(m.held))
		v := m.held[i]
		m.held = slices.Delete(m.held, i, i+1)
		v.Release()
	case n < 96: // a job that gives up leaves its file
		m.disk[SegmentName(m.h.set.NewFileNum())] = true
	case n < 98:
		must(m.t, m.h.set.Close())
		m.again()
	default:
		m.crash.Freeze()
		m.crash = m.crash.PowerLoss(vfs.CrashOptions{Seed: m.rnd.Uint64()})
		m.again()
	}
}

// again opens the set after the end of an owner, who held nothing any more.
func (m *model) again() {
	m.held = nil
	m.reopened++
	m.open()
}

// edit applies an edit to the set and to the model.
func (m *model) edit() {
	e := m.h.next()
	files := maps.Clone(m.live)
	for _, n := range e.Remove {
		delete(files, SegmentName(n))
	}
	for _, s := range e.Add {
		files[SegmentName(s.Num)] = fmt.Sprintf("run %d", s.Run)
		m.disk[SegmentName(s.Num)] = true
	}
	for _, f := range e.AddValues {
		files[ValueName(f.Num)] = "values"
		m.disk[ValueName(f.Num)] = true
	}
	for _, s := range e.AddHistory {
		files[SegmentName(s.Num)] = "history"
		m.disk[SegmentName(s.Num)] = true
	}
	for _, n := range e.RemoveHistory {
		delete(files, SegmentName(n))
	}
	for _, a := range e.SetAside {
		files[SegmentName(a.Num)] = "set aside"
	}
	for _, n := range e.RemoveValues {
		delete(files, ValueName(n))
	}
	m.live = files
	if err := m.h.apply(e); err != nil {
		m.fail("%v", err)
	}
}

func (m *model) check() {
	v := m.h.set.Current()
	if got := filesOf(v); !maps.Equal(got, m.live) {
		m.fail("the version has %v, want %v", got, m.live)
	}
	if got := describe(v); got != m.h.want[len(m.h.want)-1] {
		m.fail("version %s", v)
	}
	for _, h := range m.held {
		if !maps.Equal(filesOf(h.Version), h.files) {
			m.fail("version %d, which is held, has changed", h.Edits)
		}
	}
	for name := range m.live {
		if !m.disk[name] {
			m.fail("%s is gone, but %s", name, m.live[name])
		}
	}
	for i := range v.Runs {
		if i > 0 && v.Runs[i].ID >= v.Runs[i-1].ID || len(v.Runs[i].Segments) == 0 {
			m.fail("runs\n%s", v)
		}
	}
	if v.FloorLSN > v.FlushedLSN || strings.Contains(v.String(), "LSN 0 to") {
		m.fail("LSNs\n%s", v)
	}
}
