package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// A whatOp is one write of a random history: a batch of its own, or a part of the one that the op before began.
type whatOp struct {
	actor      int
	more       bool // it belongs to the batch of the op before
	kind       string
	ds         string
	key, to    string
	value      string
	age        int64
	ttl        time.Duration
	lsn, first dyngo.LSN // of it and its batch, once it was done
}

func randomOps(rnd *rand.Rand, n int) []*whatOp {
	var ops []*whatOp
	for i := range n {
		o := &whatOp{actor: i / 15 % 3, ds: string("ab"[rnd.IntN(2)]), key: fmt.Sprintf("k%02d", rnd.IntN(12)), value: fmt.Sprintf("%d", i)}
		o.more = i%15 > 0 && rnd.IntN(3) == 0
		switch rnd.IntN(10) {
		case 0:
			o.kind = "delete"
		case 1:
			o.kind, o.to = "range", o.key+"z"
			if rnd.IntN(2) == 0 {
				o.to = "k99"
			}
		case 2, 3, 4:
			o.kind, o.age = "newest", int64(rnd.IntN(20))
		case 5:
			o.kind, o.ttl = "put", []time.Duration{time.Nanosecond, time.Hour}[rnd.IntN(2)]
		case 6:
			o.kind, o.value = "put", strings.Repeat(o.value+" ", 3000) // a large value
		default:
			o.kind = "put"
		}
		ops = append(ops, o)
	}
	return ops
}

// do makes a store of a history, and notes the LSNs.
func do(dir string, ops []*whatOp) (err error) {
	var db *dyngo.DB
	var b *dyngo.Batch
	var in []*whatOp // of b
	commit := func() error {
		if b == nil || b.Len() == 0 {
			return nil
		}
		lsn, err := b.Commit()
		for i, o := range in {
			o.first, o.lsn = lsn-dyngo.LSN(len(in))+1, lsn-dyngo.LSN(len(in))+1+dyngo.LSN(i)
		}
		b, in = nil, nil
		return err
	}
	actor := -1
	for _, o := range ops {
		if !o.more || o.actor != actor {
			if err := commit(); err != nil {
				return err
			}
		}
		if o.actor != actor {
			if db != nil {
				if err := db.Close(); err != nil {
					return err
				}
			}
			actor = o.actor
			if db, err = dyngo.Open(dir, &dyngo.Options{Session: dyngo.Session{Actor: fmt.Sprint("actor-", actor)}}); err != nil {
				return err
			}
		}
		ds, err := db.CreateDataset(o.ds, &dyngo.DatasetOptions{LargeValue: 8 << 10})
		if err != nil {
			return err
		}
		if b == nil {
			b = db.NewBatch()
		}
		in = append(in, o)
		switch o.kind {
		case "delete":
			b.Delete(ds, []byte(o.key))
		case "range":
			b.DeleteRange(ds, []byte(o.key), []byte(o.to))
		case "newest":
			b.PutNewest(ds, []byte(o.key), []byte(o.value), time.Unix(o.age, 0))
		default:
			b.PutWith(ds, []byte(o.key), []byte(o.value), dyngo.WriteOptions{TTL: o.ttl})
		}
	}
	return errors.Join(commit(), db.Close())
}

// stateOf is what a store holds, by dataset and key.
func stateOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	db, err := dyngo.Open(dir, &dyngo.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	state := map[string]string{}
	for _, info := range db.Datasets() {
		ds, err := db.Dataset(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		for kv, err := range ds.Scan(dyngo.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			state[info.Name+"/"+string(kv.Key)] = string(kv.Value)
		}
	}
	return state
}

// Random histories: what is, with what whatif lists, is what a store holds to which the rest alone was written.
func TestWhatifIsTheRest(t *testing.T) {
	rounds := 4
	if !testing.Short() {
		rounds = 40
	}
	for range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			dir, rest := filepath.Join(t.TempDir(), "all"), filepath.Join(t.TempDir(), "rest")
			ops := randomOps(rnd, 120)
			if err := do(dir, ops); err != nil {
				t.Fatal(err)
			}
			args := []string{"whatif", "-d", dir}
			omit := func(o *whatOp) bool { return o.actor == 1 }
			if rnd.IntN(2) == 0 {
				args = append(args, "--without-actor", "actor-1")
			} else {
				tx := map[dyngo.LSN]bool{}
				for range 6 {
					first := ops[rnd.IntN(len(ops))].first
					tx[first] = true
					args = append(args, "--without-tx", fmt.Sprint(first))
				}
				omit = func(o *whatOp) bool { return tx[o.first] }
			}
			var kept []*whatOp
			for _, o := range ops {
				if !omit(o) {
					c := *o
					c.more = c.more && len(kept) > 0 && kept[len(kept)-1].first == o.first
					kept = append(kept, &c)
				}
			}
			want := stateOf(t, dir)
			if err := do(rest, kept); err != nil {
				t.Fatal(err)
			}
			out, code, errs := run(t, append(args, "-o", "jsonl")...)
			if code != cli.ExitOK && code != cli.ExitNotFound {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			got := maps.Clone(want)
			for line := range strings.Lines(out) {
				var row struct {
					Dataset, Key, Change string
					Is                   any
					WouldBe              any `json:"would_be"`
				}
				if err := json.Unmarshal([]byte(line), &row); err != nil {
					t.Fatal(err)
				}
				name := row.Dataset + "/" + row.Key
				if is, ok := want[name]; ok != (row.Is != nil) || ok && fmt.Sprint(row.Is) != is {
					t.Errorf("%s is %.20q, %s says %.20v", name, is, args, row.Is)
				}
				if got[name] = fmt.Sprint(row.WouldBe); row.WouldBe == nil {
					delete(got, name)
				}
			}
			if rested := stateOf(t, rest); !maps.Equal(got, rested) {
				for _, name := range slices.Sorted(maps.Keys(rested)) {
					if got[name] != rested[name] {
						t.Errorf("%s would be %.20q, want %.20q", name, got[name], rested[name])
					}
				}
				t.Errorf("%v: %d keys would be there, want %d\n%s", args, len(got), len(rested), errs)
			}
		})
	}
}
