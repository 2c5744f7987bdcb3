package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// Random histories: a store that was replayed holds what the source does, as far as it was wanted, and its log says what the
// source's says.
func TestReplayedIsTheSource(t *testing.T) {
	rounds := 3
	if !testing.Short() {
		rounds = 30
	}
	for range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 2))
			dir := filepath.Join(t.TempDir(), "source")
			if err := do(dir, randomOps(rnd, 100)); err != nil {
				t.Fatal(err)
			}
			want := stateOf(t, dir)
			for flags, wanted := range map[string]func(name string) bool{
				"":                       func(string) bool { return true },
				"--dataset a":            func(name string) bool { return strings.HasPrefix(name, "a/") },
				"--prefix k0":            func(name string) bool { return strings.HasPrefix(name[2:], "k0") },
				"--dataset b --prefix k": func(name string) bool { return strings.HasPrefix(name, "b/k") },
			} {
				into := filepath.Join(t.TempDir(), "into")
				out, code, errs := run(t, append([]string{"replay", "-d", dir, "--into", into, "-o", "csv"}, strings.Fields(flags)...)...)
				if code != cli.ExitOK {
					t.Fatalf("%s: exit code %d, %s", flags, code, errs)
				}
				part := maps.Clone(want)
				maps.DeleteFunc(part, func(name, _ string) bool { return !wanted(name) })
				if got := stateOf(t, into); !maps.Equal(got, part) {
					t.Errorf("%s: %d keys, want %d; %s", flags, len(got), len(part), out)
				}
				if out, code, errs := run(t, "verify", "-d", into, "--level", "state"); code != cli.ExitOK {
					t.Errorf("%s: verify: %s%s", flags, out, errs)
				}
				if flags != "" {
					continue
				}
				was, _, _ := run(t, "dump", "-d", dir, "--large", "-o", "jsonl")
				is, _, _ := run(t, "dump", "-d", into, "--large", "-o", "jsonl")
				if !strings.HasPrefix(is, was) { // behind it is who replayed it
					t.Errorf("the log differs")
				}
			}
		})
	}
}

// Batches that are too large for a frame stay whole, stale events in them too.
func TestReplayLargeBatches(t *testing.T) {
	dir, into := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "into")
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 200 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var ends []dyngo.LSN
	for round := range 2 {
		b := db.NewBatch()
		for i := range 100 {
			value := bytes.Repeat([]byte{byte('a' + i%20)}, 100_000)
			b.PutNewest(ds, fmt.Appendf(nil, "k%d", i), value, time.Unix(int64(1000-round*i), 0)) // in the second all but one are stale
		}
		b.Put(ds, []byte("large"), make([]byte, 300<<10))
		lsn, err := b.Commit()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, lsn)
		if _, err := ds.Put([]byte("small"), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--prefix", "k"}} {
		into := into + fmt.Sprint(len(flags))
		if _, code, errs := run(t, append([]string{"replay", "-d", dir, "--into", into}, flags...)...); code != cli.ExitOK {
			t.Fatal(errs)
		}
		was, is := stateOf(t, dir), stateOf(t, into)
		if flags != nil {
			delete(was, "d/large")
			delete(was, "d/small")
		}
		if !maps.Equal(was, is) {
			t.Errorf("%v: %d keys, want %d", flags, len(is), len(was))
		}
		if out, code, errs := run(t, "verify", "-d", into, "--level", "state"); code != cli.ExitOK {
			t.Errorf("%v: verify: %s%s", flags, out, errs)
		}
		out, _, _ := run(t, "stat", "-d", into, "--op", "put", "-o", "csv", "--tx", "3")
		if n := map[bool]string{true: ",101,", false: ",100,"}[flags == nil]; !strings.Contains(out, n) {
			t.Errorf("%v: the first batch has %s", flags, out)
		}
	}
	if _, code, errs := run(t, "replay", "-d", dir, "--into", into, "--to-lsn", fmt.Sprint(ends[0]-1)); code != cli.ExitUsage {
		t.Errorf("in the middle of a batch: exit code %d, %s", code, errs)
	}
}

// What a batch holds that began in a dropped log file, so that its events can't be read, is there as puts.
func TestReplayBatchesWithoutBeginning(t *testing.T) {
	dir, into := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "into")
	db, err := dyngo.Open(dir, &dyngo.Options{LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 200 << 10})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ds.Put([]byte("before"), []byte("value"))
	b := db.NewBatch()
	for i := range 100 {
		b.Put(ds, fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte{byte('a' + i%20)}, 100_000))
	}
	lsn, berr := b.Commit()
	_, perr := ds.Put([]byte("k7"), []byte("after"))
	if err = errors.Join(err, berr, perr, db.Flush(t.Context())); err == nil {
		_, err = db.GC(t.Context())
	}
	if floor := db.Metrics().FloorLSN; err != nil || floor < 3 || floor >= lsn {
		t.Fatalf("the floor is at LSN %d, the batch ends with %d; %v", floor, lsn, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out, code, errs := run(t, "replay", "-d", dir, "--into", into)
	if code != cli.ExitOK || !strings.Contains(out, `"base_keys":100,"lost":1`) { // before, and all of the batch but k7
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	if was, is := stateOf(t, dir), stateOf(t, into); !maps.Equal(was, is) {
		t.Errorf("%d keys, want %d", len(is), len(was))
	}
}
