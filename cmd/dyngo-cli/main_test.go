package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/clitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dyngo-cli": main,
		"owner":     owner,
		"busy":      busy,
		"segments":  segments,
		"rolled":    rolled,
	})
}

// owner is a process that has the store open for writing and serves live.sock:
//
//	owner DIR READY [silent]
//
// It puts a key, creates the file READY, and closes the store when it is interrupted, or when the
// file READY is gone. A silent one serves nothing.
func owner() {
	if err := own(os.Args[1], os.Args[2], len(os.Args) < 4); err != nil {
		fmt.Fprintln(os.Stderr, "owner:", err)
		os.Exit(1)
	}
}

func own(dir, ready string, live bool) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Live: live, Session: dyngo.Session{Actor: "owner"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("owned", nil)
	if err != nil {
		return err
	}
	if _, err := ds.Put([]byte("here"), []byte("yes")); err != nil {
		return err
	}
	if err := os.WriteFile(ready, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		<-tick.C
		if _, err := os.Stat(ready); errors.Is(err, os.ErrNotExist) {
			return db.Close()
		}
		if _, err := ds.Put([]byte("tick"), []byte(strconv.Itoa(n))); err != nil {
			return err
		}
	}
}

// busy is an owner at work, until the file READY is gone:
//
//	busy DIR READY
//
// In the dataset busy it reads keys that are there, k00 to k99 and k42 above all, and others that are not, scans from k50 on, and
// writes. The dataset quiet is made and left alone.
func busy() {
	if err := work(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "busy:", err)
		os.Exit(1)
	}
}

func work(dir, ready string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Live: true})
	if err != nil {
		return err
	}
	if _, err := db.CreateDataset("quiet", nil); err != nil {
		return err
	}
	ds, err := db.CreateDataset("busy", &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
	if err != nil {
		return err
	}
	key := func(i int) []byte { return fmt.Appendf(nil, "k%02d", i%100) }
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		<-tick.C
		for range 20 {
			i := rand.IntN(100)
			if _, err := ds.Put(key(i), []byte(strconv.Itoa(n))); err != nil {
				return err
			}
			for _, k := range [][]byte{key(i), key(42), key(42), fmt.Appendf(nil, "none%d", i)} {
				if _, err := ds.Get(k); err != nil && !errors.Is(err, dyngo.ErrNotFound) {
					return err
				}
			}
			for _, err := range ds.Scan(dyngo.Range{From: key(50), Limit: 10}) {
				if err != nil {
					return err
				}
			}
		}
		if n == 20 {
			if err := os.WriteFile(ready, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
				return err
			}
		}
		if _, err := os.Stat(ready); n > 20 && errors.Is(err, os.ErrNotExist) {
			return db.Close()
		}
	}
}

// segments makes a store whose keys are in segments:
//
//	segments DIR RUNS
//
// The oldest run holds the keys k000 to k999, each of the others 300 of them and a delete. With few
// runs nothing is merged in the background.
func segments() {
	if err := flushRuns(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "segments:", err)
		os.Exit(1)
	}
}

func flushRuns(dir, count string) error {
	runs, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("sorted", nil)
	if err != nil {
		return err
	}
	for run := range runs {
		from, to := 0, 1000
		if run > 0 {
			from, to = run*200%700, run*200%700+300
		}
		b := db.NewBatch()
		for k := from; k < to; k++ {
			b.Put(ds, fmt.Appendf(nil, "k%03d", k), fmt.Appendf(nil, "value %d of run %d", k, run))
		}
		if run > 0 {
			b.Delete(ds, fmt.Appendf(nil, "k%03d", from))
		}
		if _, err := b.Commit(); err != nil {
			return err
		}
		if err := db.Flush(context.Background()); err != nil {
			return err
		}
	}
	return db.Close()
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               clitest.Setup,
		Cmds:                clitest.Commands(),
	})
}
