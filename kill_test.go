package dyngo_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

var (
	killRounds = flag.Int("kill.rounds", 25, "rounds of TestKill, each ended by SIGKILL")
	killSeed   = flag.Uint64("kill.seed", 0, "seed of TestKill, 0 = random")
)

const (
	killDirEnv     = "DYNGO_TEST_KILL_DIR"
	killArchiveEnv = "DYNGO_TEST_KILL_ARCHIVE" // where log files go; empty = they stay
)

// The same binary is the victim of TestKill when the environment names a directory, and of TestSoak when it says so.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		if err := victim(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(soakEnv) != "" {
		if err := serveSoak(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	killWriters = 12
	killPairs   = 4 // keys that each batch sets to the same number
)

// victim writes until it is killed. What is acknowledged as durable it tells the observer: one line "writer number".
func victim(dir string, out io.Writer) error {
	o := &dyngo.Options{LogFileBytes: 1 << 20, MemoryBudget: 8 << 20, Archive: os.Getenv(killArchiveEnv)}
	if o.Archive != "" {
		o.Retention.Bytes = 1
	}
	db, err := dyngo.Open(dir, o)
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("strong", nil)
	if err != nil {
		return err
	}
	quick, err := db.CreateDataset("causal", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	var mu sync.Mutex
	tell := func(w, n int) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "%d %d\n", w, n)
	}
	failed := make(chan error)
	if o.Archive != "" {
		go func() {
			for {
				if _, err := db.GC(context.Background()); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for w := range killWriters {
		go func() {
			first := 0
			if v, err := ds.Get(pairKey(w, 0)); err == nil {
				if first, err = number(v); err != nil {
					failed <- err
					return
				}
			}
			for n := first + 1; ; n++ {
				b := db.NewBatch()
				value := fmt.Appendf(nil, "%d:%s", n, strings.Repeat("x", n*37%3000))
				for p := range killPairs {
					b.Put(ds, pairKey(w, p), value)
				}
				if n%50 == 0 { // a value in data frames
					b.Put(ds, fmt.Appendf(nil, "large-%02d", w), fmt.Appendf(nil, "%d:%s", n, strings.Repeat("y", 40<<10)))
				}
				if _, err := b.Commit(); err != nil {
					failed <- err
					return
				}
				tell(w, n)
				if _, err := quick.Put(pairKey(w, 0), value); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

func pairKey(w, p int) []byte { return fmt.Appendf(nil, "w%02d-p%d", w, p) }

func number(v []byte) (int, error) {
	s, rest, ok := strings.Cut(string(v), ":")
	n, err := strconv.Atoi(s)
	if err != nil || !ok || strings.Trim(rest, "xy") != "" {
		return 0, fmt.Errorf("value %.30q was never written", v)
	}
	return n, nil
}

// A process that writes is killed again and again; an observer outside of it knows what was acknowledged. Nothing
// acknowledged may be lost, nothing may be there that was not written, no batch may be there in part.
func TestKill(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -run TestKill -kill.seed %d -kill.rounds %d", seed, *killRounds)
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	acked := make([]int, killWriters)
	total := 0
	for round := range *killRounds {
		total += killOnce(t, dir, "", time.Duration(rng.IntN(80))*time.Millisecond, acked)
		if err := observe(dir, acked); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	t.Logf("%d acknowledged batches", total)
	if total == 0 {
		t.Fatal("nothing was acknowledged: the loop tested nothing")
	}
}

// The same while log files go: their events to segments and history, large values to value files, all of it to an archive.
func TestKillWhileFilesGo(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	rounds := max(2, *killRounds/2)
	t.Logf("repeat with -run TestKillWhileFilesGo -kill.seed %d -kill.rounds %d", seed, 2*rounds)
	rng := rand.New(rand.NewPCG(seed, 2))
	dir, archive := t.TempDir(), t.TempDir()
	acked := make([]int, killWriters)
	oldest := uint64(0)
	for round := 0; round < rounds || oldest == 0 && round < 3*rounds; round++ {
		life := time.Duration(rng.IntN(200)) * time.Millisecond
		if round >= rounds { // this machine is slow
			life *= 10
		}
		killOnce(t, dir, archive, life, acked)
		if err := observe(dir, acked); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		report, err := dyngo.Verify(t.Context(), dir, nil, nil)
		if err := errors.Join(append(report.All(), err)...); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := checkArchive(dir, archive); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		oldest = report.OldestLog
	}
	t.Logf("the log begins with file %d", oldest)
	if oldest == 0 && rounds > 5 {
		t.Fatal("no log file went: the loop tested nothing")
	}
}

// checkArchive checks that each log file is in the store or, whole, in the archive.
func checkArchive(dir, archive string) error {
	there, err := wal.ListFiles(vfs.OS, filepath.ToSlash(filepath.Join(dir, "wal")))
	if err != nil || len(there) == 0 {
		return err
	}
	names, err := vfs.OS.List(filepath.ToSlash(archive))
	if err != nil {
		return err
	}
	next := uint64(1)
	for _, name := range names {
		if !strings.HasSuffix(name, ".zst") {
			continue // on its way
		}
		a, err := wal.OpenArchived(vfs.OS, filepath.ToSlash(filepath.Join(archive, name)), name)
		if err != nil {
			return err
		}
		if err := errors.Join(a.Verify(context.Background(), nil), a.Close()); err != nil {
			return err
		}
		if a.Header.Seq != next {
			return fmt.Errorf("%s is log file %d, want %d", name, a.Header.Seq, next)
		}
		next++
	}
	if there[0].Seq > next {
		return fmt.Errorf("the log begins with file %d, the archive ends before %d", there[0].Seq, next)
	}
	return nil
}

// killOnce runs the victim for a while after it is ready, kills it and collects what it had acknowledged.
func killOnce(t *testing.T, dir, archive string, after time.Duration, acked []int) int {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDirEnv+"="+dir, killArchiveEnv+"="+archive)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	n := 0
	for in.Scan() {
		if in.Text() == "ready" {
			time.AfterFunc(after, func() { cmd.Process.Kill() })
			continue
		}
		var w, num int
		if c, err := fmt.Sscanf(in.Text(), "%d %d", &w, &num); c != 2 || err != nil {
			break // the last line may be cut off
		}
		acked[w] = num
		n++
	}
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() == 1 {
		t.Fatalf("the victim ended by itself: %v", err)
	}
	return n
}

func observe(dir string, acked []int) error {
	db, err := dyngo.Open(dir, &dyngo.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	if d := db.Recovery().Damage; d != nil {
		return d
	}
	for _, name := range []string{"strong", "causal"} {
		ds, err := db.Dataset(name)
		if err != nil {
			if acked[0] == 0 {
				continue
			}
			return err
		}
		for w := range killWriters {
			var first int
			for p := range killPairs {
				if name == "causal" && p > 0 {
					break
				}
				v, err := ds.Get(pairKey(w, p))
				n := 0
				if err == nil {
					if n, err = number(v); err != nil {
						return err
					}
				} else if !errors.Is(err, dyngo.ErrNotFound) {
					return err
				}
				if p == 0 {
					first = n
				} else if n != first {
					return fmt.Errorf("writer %d: keys of one batch are at %d and %d", w, first, n)
				}
			}
			if name == "strong" && (first < acked[w] || first > acked[w]+1) {
				return fmt.Errorf("writer %d: store is at %d, acknowledged were %d", w, first, acked[w])
			}
			if name == "strong" {
				acked[w] = first // what was found stays
			}
			if name == "strong" {
				if v, err := ds.Get(fmt.Appendf(nil, "large-%02d", w)); err == nil {
					if n, err := number(v); err != nil || n != first-first%50 {
						return fmt.Errorf("writer %d: large value is at %d, its batch at %d: %v", w, n, first, err)
					}
				} else if first >= 50 {
					return fmt.Errorf("writer %d at %d: large value: %w", w, first, err)
				}
			}
		}
	}
	return nil
}
