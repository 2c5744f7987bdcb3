package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/cmd/internal/clitest"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dyngo-replay": main,
		"shop":         func() { exit(shop(os.Args[1])) },
		"redacted":     func() { exit(redacted(os.Args[1])) },
		"ticker":       func() { exit(ticker(os.Args[1], os.Args[2])) },
		"rolled":       func() { exit(rolled(os.Args[1])) },
		"flushed":      func() { exit(flushed(os.Args[1])) },
		"archived":     func() { exit(archived(os.Args[1], os.Args[2])) },
		"subjects":     func() { exit(subjects(os.Args[1], os.Args[2])) },
		"erased":       func() { exit(erased(os.Args[1], os.Args[2])) },
		"depends":      func() { exit(depends(os.Args[1])) },
		"backup":       func() { exit(backUp(os.Args[1], os.Args[2])) },
		"drop":         func() { exit(drop(os.Args[1], os.Args[2])) },
		"delete":       func() { exit(deleteKey(os.Args[1], os.Args[2], os.Args[3])) },
	})
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// shop makes a store that two people have worked on:
//
//	anna  LSN 3 apple = 1, 4 fig = 2, 5 pear = {"n": 3}; 6 to 8 one batch: apple = 10, fig gone, lime = 4
//	bert  LSN 10 apple = 99, 11 stock: created, 12 bolt = many, 13 range delete of l to m
func shop(dir string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "anna", Address: "10.0.0.1", Client: "till"}})
	if err != nil {
		return err
	}
	fruit, err := db.CreateDataset("fruit", nil)
	if err != nil {
		return err
	}
	put := func(ds *dyngo.Dataset, key, value string, wo dyngo.WriteOptions) {
		_, perr := ds.PutWith([]byte(key), []byte(value), wo)
		err = errors.Join(err, perr)
	}
	put(fruit, "apple", "1", dyngo.WriteOptions{Reason: "first", Ticket: "T-1", Correlation: "req-1"})
	put(fruit, "fig", "2", dyngo.WriteOptions{})
	put(fruit, "pear", `{"n": 3}`, dyngo.WriteOptions{})
	b := db.NewBatch()
	b.PutWith(fruit, []byte("apple"), []byte("10"), dyngo.WriteOptions{Reason: "prices"})
	b.Delete(fruit, []byte("fig"))
	b.Put(fruit, []byte("lime"), []byte("4"))
	_, cerr := b.Commit()
	if err = errors.Join(err, cerr, db.Close()); err != nil {
		return err
	}
	if db, err = dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "bert"}}); err != nil {
		return err
	}
	if fruit, err = db.Dataset("fruit"); err != nil {
		return err
	}
	put(fruit, "apple", "99", dyngo.WriteOptions{})
	stock, err := db.CreateDataset("stock", nil)
	if err != nil {
		return err
	}
	put(stock, "bolt", "many", dyngo.WriteOptions{})
	_, derr := fruit.DeleteRange([]byte("l"), []byte("m"))
	return errors.Join(err, derr, db.Close())
}

// redacted makes a store with two values that are redacted, LSN 3 of k1 and LSN 4 of k2, a large one.
func redacted(dir string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "anna"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		return err
	}
	for _, kv := range [][2]string{{"k1", "the secret of k1"}, {"k2", strings.Repeat("the secret of k2", 1000)}, {"k1", "new"}, {"k2", "new"}} {
		_, perr := ds.Put([]byte(kv[0]), []byte(kv[1]))
		err = errors.Join(err, perr)
	}
	for lsn := range dyngo.LSN(2) {
		_, rerr := db.Redact(context.Background(), 3+lsn, dyngo.RedactOptions{Reason: "oops"})
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, db.Close())
}

// ticker has a store open and puts a key again and again, until the file READY is gone: ticker DIR READY.
func ticker(dir, ready string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "ticker"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("ticks", nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(ready, []byte("yes"), 0o600); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		<-tick.C
		if _, err := os.Stat(ready); errors.Is(err, os.ErrNotExist) {
			return db.Close()
		}
		if _, err := ds.Put([]byte("tick"), fmt.Append(nil, n)); err != nil {
			return err
		}
	}
}

// rolled makes a store of several log files.
func rolled(dir string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{LogFileBytes: 1 << 20, Session: dyngo.Session{Actor: "roller"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 256 << 10})
	for i := 0; i < 30 && err == nil; i++ {
		_, err = ds.Put(fmt.Appendf(nil, "key-%02d", i), bytes.Repeat([]byte("x"), 100_000))
	}
	return errors.Join(err, db.Close())
}

// flushed has the segments of a store hold all of its events.
func flushed(dir string) error {
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Flush(context.Background()), db.Close())
}

// archived makes a store that has dropped its first log files to an archive: archived DIR ARCHIVE.
//
//	anna  LSN 3 first = 1, 4 first = 2; fill-0 to fill-9 thrice, gone = 1, deleted, big = 3 MiB, whose event lies
//	      in a log file that is there and whose bytes are in ones that were dropped, last = 3
func archived(dir, archive string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 1 << 20}, Archive: archive,
		Integrity: true, Session: dyngo.Session{Actor: "anna"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 128 << 10})
	if err != nil {
		return err
	}
	put := func(key, value string) {
		_, perr := ds.PutWith([]byte(key), []byte(value), dyngo.WriteOptions{Reason: "as it is"})
		err = errors.Join(err, perr)
	}
	put("first", "1")
	put("first", "2")
	for i := range 30 {
		put(fmt.Sprintf("fill-%d", i%10), fmt.Sprintf("%d %s", i, strings.Repeat("x", 100_000)))
	}
	put("gone", "1")
	_, derr := ds.Delete([]byte("gone"))
	put("big", strings.Repeat("large value ", 256<<10))
	put("last", "3")
	if err = errors.Join(err, derr, db.Flush(context.Background())); err == nil {
		_, err = db.GC(context.Background())
	}
	if floor := db.Metrics().FloorLSN; err == nil && floor < 30 {
		err = fmt.Errorf("the floor is at LSN %d: too little was dropped", floor)
	}
	return errors.Join(err, db.Close())
}

// subjects makes a store with encrypted values, small and large: subjects DIR KEYS.
func subjects(dir, keys string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Keys: keys})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		return err
	}
	for i, value := range []string{"the secret", strings.Repeat("the large secret ", 2000), "another secret"} {
		_, perr := ds.PutWith(fmt.Appendf(nil, "k%d", i%2), []byte(value), dyngo.WriteOptions{Subject: "anna"})
		err = errors.Join(err, perr)
	}
	return errors.Join(err, db.Close())
}

// erased erases the subject of what subjects made.
func erased(dir, keys string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Keys: keys})
	if err != nil {
		return err
	}
	_, err = db.Erase(context.Background(), "anna", dyngo.EraseOptions{Reason: "asked for it"})
	return errors.Join(err, db.Close())
}

// depends makes a store in which bert's writes depend on anna's:
//
//	anna  LSN 3 stock = 10, 4 price = 5 of second 100
//	bert  LSN 6 stock = 9 if it is that of LSN 3, 7 price = 4 of second 50, which is stale
func depends(dir string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "anna"}})
	if err != nil {
		return err
	}
	ds, err := db.CreateDataset("shop", nil)
	if err != nil {
		return err
	}
	lsn, err := ds.Put([]byte("stock"), []byte("10"))
	_, _, nerr := ds.PutNewest([]byte("price"), []byte("5"), time.Unix(100, 0))
	if err = errors.Join(err, nerr, db.Close()); err != nil {
		return err
	}
	if db, err = dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "bert"}}); err != nil {
		return err
	}
	if ds, err = db.Dataset("shop"); err != nil {
		return err
	}
	_, err = ds.PutIf([]byte("stock"), []byte("9"), lsn)
	_, _, nerr = ds.PutNewest([]byte("price"), []byte("4"), time.Unix(50, 0))
	return errors.Join(err, nerr, db.Close())
}

// backUp backs a store up twice: backup DIR FOLDER.
func backUp(dir, folder string) error {
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		return err
	}
	for i := range 2 {
		info, serr := db.Snapshot(context.Background(), fmt.Sprintf("s%d", i))
		if err = errors.Join(err, serr); err != nil {
			break
		}
		_, berr := backup.Create(context.Background(), backup.NewDir(vfs.OS, folder), vfs.OS, info.Dir,
			time.Unix(1_700_000_000+int64(i), 0), nil)
		ds, derr := db.CreateDataset("later", nil)
		if err = errors.Join(err, berr, derr); err == nil {
			_, err = ds.Put([]byte("k"), []byte("v"))
		}
	}
	return errors.Join(err, db.Close())
}

func drop(dir, dataset string) error {
	db, err := dyngo.Open(dir, nil)
	if err != nil {
		return err
	}
	_, err = db.DropDataset(dataset)
	return errors.Join(err, db.Close())
}

func deleteKey(dir, dataset, key string) error {
	db, err := dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: "carl"}})
	if err != nil {
		return err
	}
	ds, err := db.Dataset(dataset)
	if err == nil {
		_, err = ds.Delete([]byte(key))
	}
	return errors.Join(err, db.Close())
}

func TestTree(t *testing.T) { clitest.Tree(t, newRootCommand()) }

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               clitest.Setup,
		Cmds:                clitest.Commands(),
	})
}

var update = flag.Bool("replay.update", false, "write the golden files anew")

// The log file has every operation and every part of the format; its last events have parts that nothing writes yet.
const everyFile = "../../testdata/format1/every/wal/0000000001-00000000000000000001.log"

// What is printed of a log file is the same for ever, but for what is added.
func TestGolden(t *testing.T) {
	for name, args := range map[string]string{
		"dump.jsonl":       "dump --to-lsn 34 -o jsonl",
		"dump.table":       "dump --to-lsn 34 -o table -l",
		"dump.csv":         "dump --to-lsn 34 -o csv --dataset scores",
		"dump.cloudevents": "dump --to-lsn 34 --as cloudevents",
		"dump.debezium":    "dump --to-lsn 34 --as debezium",
		"dump.hex":         "dump --to-lsn 34 --as hex --dataset scores --key key",
		"reverse.jsonl":    "dump --to-lsn 34 -o jsonl --reverse --limit 5 --actor alice",
		"stat.csv":         "stat -o csv --by op,actor",
		"stat.table":       "stat -o table --by dataset,day,file,client,ticket",
	} {
		t.Run(name, func(t *testing.T) {
			command, flags, _ := strings.Cut(args, " ")
			out, code, errs := run(t, append([]string{command, everyFile}, strings.Fields(flags)...)...)
			if code != cli.ExitOK || errs != "" {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			file := filepath.Join("testdata", "golden", name)
			if *update {
				if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if out != string(want) {
				t.Errorf("it prints\n%s\nwant\n%s", out, want)
			}
		})
	}
}

func run(t *testing.T, args ...string) (stdout string, code int, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(context.Background(), newRootCommand(), args, strings.NewReader(""), &out, &errs)
	return out.String(), code, errs.String()
}

// Whatever the bytes of a log file are, nothing panics, and damage is told with its place.
func TestDamagedFile(t *testing.T) {
	whole, err := os.ReadFile(everyFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range 300 {
		at := i * len(whole) / 300
		b := bytes.Clone(whole)
		b[at] ^= 0x55
		if i%3 == 0 {
			b = whole[:at]
		}
		name := filepath.Join(dir, filepath.Base(everyFile))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"dump", name, "--to-lsn", "34"}, {"dump", name, "--as", "hex", "--reverse", "--to-lsn", "34"}, {"stat", name}} {
			_, code, errs := run(t, args...)
			if code != cli.ExitOK && (code != cli.ExitCorrupt && code != cli.ExitFailure || errs == "") {
				t.Errorf("byte %d, %v: exit code %d, %q", at, args, code, errs)
			}
		}
	}
}

func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	if err := shop(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range []string{"dump --follow", "dump --follow --as cloudevents", "diff --from 0", "state --at 5"} {
		var out, errs bytes.Buffer
		if code := cli.Run(ctx, newRootCommand(), append(strings.Fields(args), "-d", dir), nil, &out, &errs); code != cli.ExitInterrupted ||
			!strings.HasSuffix(errs.String(), "dyngo-replay: interrupted\n") {
			t.Errorf("%s: exit code %d, stderr %q", args, code, errs.String())
		}
	}
}
