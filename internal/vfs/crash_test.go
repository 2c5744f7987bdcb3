package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// outcomes is how many power cuts a test tries at one moment.
const outcomes = 300

// cuts calls check with what many power cuts leave, and fails unless each of the wanted descriptions that check returns
// came up.
func cuts(t *testing.T, c *Crash, check func(after *Crash) string, want ...string) {
	t.Helper()
	seen := map[string]int{}
	for seed := range uint64(outcomes) {
		seen[check(c.PowerLoss(CrashOptions{Seed: seed}))]++
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never %q in %d power cuts, but %v", w, outcomes, seen)
		}
		delete(seen, w)
	}
	if len(seen) > 0 {
		t.Errorf("unexpected after a power cut: %v", seen)
	}
}

// names describes a directory as "a b".
func names(dir string) func(*Crash) string {
	return func(c *Crash) string {
		got, err := c.List(dir)
		if err != nil {
			return err.Error()
		}
		return strings.Join(got, " ")
	}
}

// content describes a file.
func content(name string) func(*Crash) string {
	return func(c *Crash) string {
		b, err := c.ReadFile(name, 1<<24)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "f", "synced")
	must(t, f.Sync())
	must(t, c.SyncDir("/"))
	cuts(t, c, content("f"), "synced")

	write(t, f, 6, " data")
	must(t, f.SyncData()) // growth included
	cuts(t, c, content("f"), "synced data")
	if u := c.Unsynced(); len(u) != 0 {
		t.Fatalf("unsynced: %q", u)
	}

	must(t, f.Truncate(6))
	must(t, f.Sync())
	cuts(t, c, content("f"), "synced")
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "f", "old")
	must(t, f.Sync())
	must(t, c.SyncDir("/"))
	write(t, f, 0, "new")
	cuts(t, c, content("f"), "old", "new")
	write(t, f, 3, "er")
	cuts(t, c, content("f"), "old", "new", "old\x00\x00", "new\x00\x00", "newer")
	if u := c.Unsynced(); !slices.Equal(u, []string{"f"}) {
		t.Fatalf("unsynced: %q", u)
	}

	if got := content("f")(c.PowerLoss(CrashOptions{Keep: KeepNone})); got != "old" {
		t.Fatalf("with nothing kept: %q", got)
	}
	if got := content("f")(c.PowerLoss(CrashOptions{Keep: KeepAll})); got != "newer" {
		t.Fatalf("with all kept: %q", got)
	}
}

func TestCrashSyncDataLeavesTheOldSizeOfAShrunkFile(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "f", strings.Repeat("x", 2*blockSize))
	must(t, f.Sync())
	must(t, c.SyncDir("/"))
	must(t, f.Truncate(1))
	must(t, f.SyncData())
	cuts(t, c, func(after *Crash) string {
		b, err := after.ReadFile("f", 1<<20)
		if err != nil {
			return err.Error()
		}
		if b[0] != 'x' {
			return "lost what was kept and synced"
		}
		behind := "zeros"
		if bytes.HasSuffix(b, []byte("xx")) {
			behind = "old"
		}
		return fmt.Sprint(len(b), " ", behind)
	}, "1 zeros", "8192 zeros", "8192 old", "4096 zeros")
	must(t, f.Sync())
	cuts(t, c, content("f"), "x")
}

func TestCrashLosesDirectoryEntries(t *testing.T) {
	c := NewCrash(1)
	must(t, c.MkdirAll("d"))
	must(t, put(t, c, "d/a", "").Close())
	cuts(t, c, names("/"), "", "d")

	must(t, c.SyncDir("/"))
	must(t, c.SyncDir("d"))
	cuts(t, c, names("d"), "a")

	must(t, put(t, c, "d/b", "").Sync()) // syncing a file does not sync its entry
	cuts(t, c, names("d"), "a", "a b")
	must(t, c.SyncDir("/")) // nor does syncing another directory
	cuts(t, c, names("d"), "a", "a b")
	must(t, c.SyncDir("d"))
	cuts(t, c, names("d"), "a b")

	must(t, c.Remove("d/a"))
	must(t, c.Link("d/b", "d/c"))
	cuts(t, c, names("d"), "a b", "b", "a b c", "b c") // each on its own
	if u := c.Unsynced(); !slices.Equal(u, []string{"d/a (entry)", "d/c (entry)"}) {
		t.Fatalf("unsynced: %q", u)
	}
	must(t, c.SyncDir("d"))
	cuts(t, c, names("d"), "b c")
}

func TestCrashNeverSplitsARename(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "CURRENT", "old")
	must(t, f.Sync())
	g := put(t, c, "tmp", "new")
	must(t, g.Sync())
	must(t, c.SyncDir("/"))
	must(t, c.Rename("tmp", "CURRENT"))
	both := func(after *Crash) string { return names("/")(after) + ": " + content("CURRENT")(after) }
	cuts(t, c, both, "CURRENT tmp: old", "CURRENT: new")

	// A change of a name brings the earlier changes of it along.
	must(t, c.Rename("CURRENT", "SAVED"))
	cuts(t, c, names("/"), "CURRENT tmp", "CURRENT", "SAVED")
	must(t, c.SyncDir("/"))
	cuts(t, c, names("/"), "SAVED")
}

func TestCrashRenameBetweenDirectories(t *testing.T) {
	c := NewCrash(1)
	must(t, c.MkdirAll("a"))
	must(t, c.MkdirAll("b"))
	must(t, c.SyncDir("/"))
	must(t, put(t, c, "a/f", "").Close())
	must(t, c.SyncDir("a"))
	where := func(after *Crash) string { return names("a")(after) + "|" + names("b")(after) }
	must(t, c.Rename("a/f", "b/f"))
	must(t, c.SyncDir("a"))
	cuts(t, c, where, "f|", "|f")
	must(t, c.SyncDir("b"))
	cuts(t, c, where, "|f")
}

func TestCrashHardLinksStayOneFile(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "a", "1")
	must(t, c.Link("a", "b"))
	must(t, f.Sync())
	must(t, c.SyncDir("/"))
	for _, after := range []*Crash{c.PowerLoss(CrashOptions{}), c.KillProcess()} {
		g, err := after.OpenRW("b")
		must(t, err)
		write(t, g, 0, "2")
		mustRead(t, after, "a", "2")
		mustRead(t, c, "a", "1")
	}
}

func TestCrashReordersAndTears(t *testing.T) {
	const blocks = 8
	c := NewCrash(1)
	f := put(t, c, "f", strings.Repeat("-", blocks*blockSize))
	must(t, f.Sync())
	must(t, c.SyncDir("/"))
	for i := range int64(blocks) {
		write(t, f, i*blockSize, strings.Repeat("n", blockSize))
	}
	var reordered, torn, middle, none, all int
	for seed := range uint64(1000) {
		b, err := c.PowerLoss(CrashOptions{Seed: seed}).ReadFile("f", 1<<20)
		must(t, err)
		for i := 0; i < len(b); i += sectorSize {
			if s := b[i : i+sectorSize]; bytes.Count(s, s[:1]) != sectorSize {
				t.Fatalf("seed %d: sector at %d is split", seed, i)
			}
		}
		if bytes.Contains(b, []byte("-n")) {
			reordered++
		}
		for i := 0; i < len(b); i += blockSize {
			if n := bytes.Count(b[i:i+blockSize], []byte("n")); n != 0 && n != blockSize {
				torn++
				if b[i] == '-' && b[i+blockSize-1] == '-' {
					middle++
				}
			}
		}
		switch bytes.Count(b, []byte("n")) {
		case 0:
			none++
		case len(b):
			all++
		}
	}
	if reordered == 0 || torn == 0 || middle == 0 || none == 0 || all == 0 {
		t.Fatalf("in 1000 power cuts: %d reordered, %d torn (%d in the middle), %d with nothing, %d with all",
			reordered, torn, middle, none, all)
	}
}

func TestCrashLeavesWhatWasWrittenInBetween(t *testing.T) {
	left := map[string]int{}
	for seed := range uint64(outcomes) {
		c := NewCrash(seed)
		f := put(t, c, "f", "old")
		must(t, f.Sync())
		must(t, c.SyncDir("/"))
		write(t, f, 0, "mid")
		write(t, f, 0, "new")
		left[content("f")(c.PowerLoss(CrashOptions{}))]++
	}
	if left["old"] == 0 || left["mid"] == 0 || left["new"] == 0 || len(left) != 3 {
		t.Fatalf("left: %v", left)
	}
}

func TestCrashSizeAndContentGoApart(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "f", "")
	must(t, c.SyncDir("/"))
	write(t, f, 0, strings.Repeat("n", 4*blockSize))
	var zeros, short, garbage int
	for seed := range uint64(outcomes) {
		for _, g := range []bool{false, true} {
			b, err := c.PowerLoss(CrashOptions{Seed: seed, Garbage: g}).ReadFile("f", 1<<20)
			must(t, err)
			other := len(b) - bytes.Count(b, []byte("n")) - bytes.Count(b, []byte{0})
			switch {
			case other > 0 && !g:
				t.Fatalf("seed %d: %d bytes that nobody wrote", seed, other)
			case other > 0:
				garbage++
			case len(b) > 0 && b[0] == 0:
				zeros++
			}
			if len(b) > 0 && len(b) < 4*blockSize {
				short++
			}
		}
	}
	if zeros == 0 || short == 0 || garbage == 0 {
		t.Fatalf("%d with zeros, %d of another size, %d with garbage", zeros, short, garbage)
	}
}

func TestCrashKillKeepsWhatWasWritten(t *testing.T) {
	c := NewCrash(1)
	must(t, c.MkdirAll("d"))
	f := put(t, c, "d/f", "written")
	_, err := c.Lock("d/LOCK")
	must(t, err)
	killed := c.KillProcess()
	mustRead(t, killed, "d/f", "written")
	write(t, f, 0, "changed")
	mustRead(t, killed, "d/f", "written")
	lock, err := killed.Lock("d/LOCK") // given back by the kill
	must(t, err)
	must(t, lock.Close())

	// It is still not durable, and can be made so by the next process.
	cuts(t, killed, names("/"), "", "d")
	g, err := killed.OpenRW("d/f")
	must(t, err)
	must(t, g.SyncData())
	must(t, killed.SyncDir("d"))
	must(t, killed.SyncDir("/"))
	cuts(t, killed, content("d/f"), "written")
}

func TestCrashOutcomesAreIndependent(t *testing.T) {
	c := NewCrash(1)
	f := put(t, c, "f", "one")
	must(t, f.Sync())
	must(t, c.SyncDir("/"))
	after := c.PowerLoss(CrashOptions{})
	g, err := after.OpenRW("f")
	must(t, err)
	write(t, g, 0, "two")
	must(t, g.Sync())
	must(t, put(t, after, "g", "").Close())
	write(t, f, 0, "six")
	mustRead(t, after, "f", "two")
	mustRead(t, c, "f", "six")
	mustList(t, c, "/", "f")
	cuts(t, after, content("f"), "two")
	cuts(t, c, content("f"), "one", "six")
}

// TestCrashSharesNothing changes blocks that a crash has left as they were, on either side, synced and not.
func TestCrashSharesNothing(t *testing.T) {
	for name, crash := range map[string]func(*Crash) *Crash{
		"power": func(c *Crash) *Crash { return c.PowerLoss(CrashOptions{Keep: KeepAll}) },
		"kill":  (*Crash).KillProcess,
	} {
		for _, synced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,synced=%v", name, synced), func(t *testing.T) {
				c := NewCrash(1)
				rest := strings.Repeat("-", blockSize-6) // a part of a block is copied anyway
				f := put(t, c, "f", "------"+rest)
				must(t, c.SyncDir("/"))
				if synced {
					must(t, f.Sync())
				}
				var left []*Crash
				for i := range 6 {
					left = append(left, crash(c))
					write(t, f, int64(i), "f")
					g, err := left[i].OpenRW("f")
					must(t, err)
					write(t, g, 5, "g")
					for j, after := range left {
						mustRead(t, after, "f", strings.Repeat("f", j)+"-----"[j:]+"g"+rest)
					}
					mustRead(t, c, "f", strings.Repeat("f", i+1)+"-----"[i:]+rest)
				}
			})
		}
	}
}

func TestCrashFailedSync(t *testing.T) {
	c := NewCrash(1)
	faulty := NewFault(c)
	f := put(t, faulty, "f", "old")
	must(t, f.Sync())
	must(t, faulty.SyncDir("/"))
	write(t, f, 0, "new")
	faulty.Inject(Plan{Kind: FailSync})
	if err := f.Sync(); err == nil {
		t.Fatal("sync did not fail")
	}
	must(t, f.Sync()) // has nothing to do, as it believes
	mustRead(t, c, "f", "new")
	cuts(t, c, content("f"), "old", "new")
	write(t, f, 0, "n")
	must(t, f.Sync())
	cuts(t, c, content("f"), "new")
}

func TestCrashAt(t *testing.T) {
	script := func(c *Crash) error {
		if err := c.MkdirAll("d"); err != nil {
			return err
		}
		f, err := c.Create("d/f")
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("hello"), 0)
		return errors.Join(err, f.SyncData(), c.SyncDir("d"), c.SyncDir("/"))
	}
	whole := NewCrash(1)
	must(t, script(whole))
	n := whole.Mutations()
	if n != 6 {
		t.Fatalf("%d mutating calls, want 6", n)
	}
	left := map[string]bool{}
	for k := range n {
		for seed := range uint64(20) {
			c := NewCrash(seed)
			frozen := c.CrashAt(k + 1)
			if err := script(c); !errors.Is(err, ErrCrashed) {
				t.Fatalf("crash at call %d of %d: %v", k+1, n, err)
			}
			<-frozen
			_, err := c.List("/")
			mustErr(t, err, ErrCrashed)
			left[content("d/f")(c.KillProcess())] = true
		}
	}
	partly := left["h"] || left["he"] || left["hel"] || left["hell"]
	if !partly || !left[""] || !left["hello"] || !left["open d/f: file does not exist"] {
		t.Errorf("kills left only %v", left)
	}
	c := NewCrash(1)
	c.CrashAt(n + 1)
	must(t, script(c))
}

func TestCrashWhileOthersWork(t *testing.T) {
	c := NewCrash(1)
	frozen := c.CrashAt(400)
	acked := make([]int, 4) // records that each goroutine knows to be durable
	var wg sync.WaitGroup
	for g := range acked {
		wg.Go(func() {
			name := fmt.Sprint("f", g)
			f, err := c.Create(name)
			if err == nil {
				err = c.SyncDir("/")
			}
			for err == nil {
				if _, err = f.WriteAt([]byte{'x'}, int64(acked[g])); err == nil {
					if err = f.SyncData(); err == nil {
						acked[g]++
					}
				}
			}
			if !errors.Is(err, ErrCrashed) {
				t.Error(err)
			}
		})
	}
	for i := range 20 { // crashes meanwhile must see something sound
		c.PowerLoss(CrashOptions{Seed: uint64(i)})
		c.KillProcess()
	}
	<-frozen
	wg.Wait()
	for seed := range uint64(50) {
		after := c.PowerLoss(CrashOptions{Seed: seed})
		for g, n := range acked {
			b, err := after.ReadFile(fmt.Sprint("f", g), 1<<20)
			if n > 0 && (err != nil || !bytes.HasPrefix(b, bytes.Repeat([]byte{'x'}, n))) {
				t.Fatalf("seed %d: file %d holds %q, %v; %d were durable", seed, g, b, err, n)
			}
		}
	}
}
