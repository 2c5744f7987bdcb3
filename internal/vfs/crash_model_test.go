package vfs

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

var (
	seedFlag   = flag.Uint64("vfs.seed", 0, "run the model tests with this seed only")
	roundsFlag = flag.Int("vfs.rounds", 20, "rounds of the model tests, each with a seed of its own")
)

// eachSeed runs a test with many seeds and says how to repeat one that fails.
func eachSeed(t *testing.T, test func(t *testing.T, rng *rand.Rand, seed uint64)) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for range *roundsFlag {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		test(t, rand.New(rand.NewPCG(seed, 0)), seed)
		if t.Failed() {
			t.Fatalf("repeat with: go test ./internal/vfs -run '^%s$' -vfs.seed %d", t.Name(), seed)
		}
	}
}

// fileModel is what a file may hold after a crash: in each sector one of the contents it has had since the last sync,
// and one of the sizes, or one between.
type fileModel struct {
	now   []byte
	since [][]byte // contents since the last sync, the synced one first
	vague bool     // a SyncData after shrinking has left the durable content undetermined
}

func (m *fileModel) change(now []byte) {
	m.now = now
	m.since = append(m.since, now)
}

func (m *fileModel) sync() {
	m.since = [][]byte{m.now}
	m.vague = false
}

// check says what is wrong with b as the content after a crash.
func (m *fileModel) check(b []byte) string {
	small, large := len(m.now), len(m.now)
	for _, v := range m.since {
		small, large = min(small, len(v)), max(large, len(v))
	}
	if len(b) < small || len(b) > large {
		return fmt.Sprintf("size %d, not from %d to %d", len(b), small, large)
	}
	for off := 0; off < len(b); off += sectorSize {
		got := b[off:min(off+sectorSize, len(b))]
		if !slices.ContainsFunc(m.since, func(v []byte) bool { return bytes.Equal(got, part(v, off, len(got))) }) {
			return fmt.Sprintf("sector at %d has a content that it never had", off)
		}
	}
	return ""
}

// part returns n bytes of v from off on, with zeros behind its end.
func part(v []byte, off, n int) []byte {
	p := make([]byte, n)
	if off < len(v) {
		copy(p, v[off:])
	}
	return p
}

func TestCrashModelOfFiles(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand, seed uint64) {
		c := NewCrash(seed)
		f := put(t, c, "f", "")
		must(t, c.SyncDir("/"))
		m := &fileModel{}
		m.sync()
		for step := range 60 {
			switch op := rng.IntN(10); {
			case op < 6:
				off, p := rng.IntN(6*blockSize), make([]byte, rng.IntN(3*blockSize))
				for i := range p {
					p[i] = byte(step + 1)
				}
				write(t, f, int64(off), string(p))
				if len(p) == 0 {
					break
				}
				now := part(m.now, 0, max(len(m.now), off+len(p)))
				copy(now[off:], p)
				m.change(now)
			case op < 7:
				size := rng.IntN(7 * blockSize)
				must(t, f.Truncate(int64(size)))
				m.change(part(m.now, 0, size))
			case op < 8:
				must(t, f.Sync())
				m.sync()
			default:
				// SyncData is as good as Sync unless the file has shrunk since.
				must(t, f.SyncData())
				if len(m.since[0]) <= len(m.now) {
					m.sync()
				} else {
					m.vague = true
				}
			}
			mustRead(t, c, "f", string(m.now))
			if got := content("f")(c.PowerLoss(CrashOptions{Keep: KeepAll})); got != string(m.now) {
				t.Errorf("seed %d step %d: all kept, but not what the file holds", seed, step)
			}
			if got := content("f")(c.PowerLoss(CrashOptions{Keep: KeepNone})); !m.vague && got != string(m.since[0]) {
				t.Errorf("seed %d step %d: nothing kept, but not what was synced", seed, step)
			}
			for s := range uint64(4) {
				after := c.PowerLoss(CrashOptions{Seed: s})
				b, err := after.ReadFile("f", 1<<20)
				must(t, err)
				if wrong := m.check(b); wrong != "" {
					t.Errorf("seed %d step %d crash %d: %s", seed, step, s, wrong)
				}
				g, err := after.OpenRW("f")
				must(t, err)
				must(t, g.Truncate(int64(len(b))+blockSize))
				mustRead(t, after, "f", string(part(b, 0, len(b)+blockSize)))
			}
			if rng.IntN(20) == 0 { // go on with what a crash leaves
				if rng.IntN(2) == 0 {
					c = c.KillProcess()
				} else {
					c = c.PowerLoss(CrashOptions{Seed: rng.Uint64()})
					b, err := c.ReadFile("f", 1<<20)
					must(t, err)
					m.now = b
					m.sync()
				}
				g, err := c.OpenRW("f")
				must(t, err)
				f = g
			}
			if t.Failed() {
				return
			}
		}
	})
}

// TestCrashModelOfNames holds what a crash leaves in a directory against the changes since its last sync: each name
// goes to a file it has had since then (or to none), and after a sync everything is there.
func TestCrashModelOfNames(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand, seed uint64) {
		c := NewCrash(seed)
		now := map[string]string{}            // name → content of its file
		since := map[string]map[string]bool{} // name → contents since the last sync, "" for none
		note := func(name string) {
			if since[name] == nil {
				since[name] = map[string]bool{}
			}
			since[name][now[name]] = true
		}
		var files int
		any := func() string { return string(rune('a' + rng.IntN(6))) }
		for step := range 60 {
			x, y := any(), any()
			note(x)
			note(y)
			switch rng.IntN(6) {
			case 0, 1:
				if now[x] == "" {
					files++
					now[x] = fmt.Sprint("file ", files)
					must(t, put(t, c, x, now[x]).Sync())
				}
			case 2:
				if now[x] != "" {
					must(t, c.Remove(x))
					delete(now, x)
				}
			case 3:
				if now[x] != "" && now[x] != now[y] {
					must(t, c.Rename(x, y))
					now[y] = now[x]
					delete(now, x)
				}
			case 4:
				if now[x] != "" && now[y] == "" {
					must(t, c.Link(x, y))
					now[y] = now[x]
				}
			case 5:
				must(t, c.SyncDir("/"))
				clear(since)
			}
			if since[x] != nil {
				note(x)
				note(y)
			}
			for s := range uint64(4) {
				checkNames(t, c.PowerLoss(CrashOptions{Seed: s}), now, since)
			}
			checkNames(t, c.KillProcess(), now, nil)
			checkNames(t, c.PowerLoss(CrashOptions{Keep: KeepAll}), now, nil)
			if t.Failed() {
				t.Errorf("seed %d step %d", seed, step)
				return
			}
		}
	})
}

func checkNames(t *testing.T, c *Crash, now map[string]string, since map[string]map[string]bool) {
	t.Helper()
	for r := 'a'; r < 'a'+6; r++ {
		name, got := string(r), ""
		if ok, _ := Exists(c, name); ok {
			got = content(name)(c)
		}
		if got != now[name] && !since[name][got] {
			t.Errorf("%s is %q; it is %q now and has been %v", name, got, now[name], since[name])
		}
	}
}
