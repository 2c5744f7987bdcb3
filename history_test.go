package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// happened is an event of a history's model.
type happened struct {
	ds, key, to string // to: of range deletes, "" = open end
	dyngo.Version
}

func (h *happened) of(ds, key string) bool {
	switch {
	case h.ds != ds:
		return false
	case h.Op == event.OpDeleteRange:
		return h.key <= key && (h.to == "" || key < h.to)
	}
	return h.Op == event.OpDatasetCreated || h.Op == event.OpDatasetDropped || h.key == key
}

func describe(v *dyngo.Version) string {
	return fmt.Sprintf("%d %s %d:%x expires %t stale %t by %q at %q with %q because %q, %q, %q [%q %q)", v.LSN, v.Op, len(v.Value),
		v.Value[:min(len(v.Value), 12)], !v.Expires.IsZero(), v.NotApplied, v.Actor, v.Address, v.Client, v.Reason, v.Ticket, v.Correlation,
		v.From, v.To)
}

// historyScript writes at random and remembers what happened.
type historyScript struct {
	t      *testing.T
	fs     vfs.FS
	rnd    *rand.Rand
	db     *dyngo.DB
	log    []happened
	opened int
}

func (s *historyScript) actor() string { return fmt.Sprintf("actor %d", s.opened) }

func (s *historyScript) open() {
	s.opened++
	s.db = mustOpen(s.t, storeDir, &dyngo.Options{FS: s.fs, LogFileBytes: 1 << 20, MemoryBudget: 16 << 20,
		Session: dyngo.Session{Actor: s.actor(), Address: "host", Client: "test"}})
}

func (s *historyScript) note(ds, key, to string, v dyngo.Version) {
	v.Actor, v.Address, v.Client = s.actor(), "host", "test"
	s.log = append(s.log, happened{ds, key, to, v})
}

func (s *historyScript) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *historyScript) key() string { return fmt.Sprintf("key-%d", s.rnd.IntN(12)) }

func (s *historyScript) value(max int) []byte {
	b := make([]byte, 1+s.rnd.IntN(max))
	for i := range b {
		b[i] = byte(s.rnd.Uint32())
	}
	return b
}

// datasets of the script: plain, and one whose values are compressed and large early.
func (s *historyScript) dataset(name string) *dyngo.Dataset {
	ds, err := s.db.Dataset(name)
	if errors.Is(err, dyngo.ErrNoDataset) {
		ds, err = s.db.CreateDataset(name, &dyngo.DatasetOptions{LargeValue: 16 << 10, Compression: dyngo.S2})
		s.check(err)
		for _, info := range s.db.Datasets() {
			if info.Name == name {
				s.note(name, "", "", dyngo.Version{LSN: info.Created, Op: event.OpDatasetCreated})
			}
		}
	}
	s.check(err)
	return ds
}

func (s *historyScript) step() {
	name := []string{"a", "b"}[s.rnd.IntN(2)]
	ds, key := s.dataset(name), s.key()
	switch n := s.rnd.IntN(100); {
	case n < 50:
		v := s.value(12 << 10)
		if n < 5 {
			v = bytes.Repeat(v[:1], 40<<10) // in pieces
		}
		wo := dyngo.WriteOptions{Reason: []string{"", "why"}[n%2], Ticket: []string{"", "T-1"}[n/2%2], Correlation: []string{"", "req"}[n/4%2]}
		if n%5 == 0 {
			wo.TTL = time.Hour
		}
		lsn, err := ds.PutWith([]byte(key), v, wo)
		s.check(err)
		ver := dyngo.Version{LSN: lsn, Op: event.OpPut, Value: v, Reason: wo.Reason, Ticket: wo.Ticket, Correlation: wo.Correlation}
		if wo.TTL > 0 {
			ver.Expires = time.Unix(1, 0)
		}
		s.note(name, key, "", ver)
	case n < 65:
		lsn, err := ds.Delete([]byte(key))
		s.check(err)
		s.note(name, key, "", dyngo.Version{LSN: lsn, Op: event.OpDelete})
	case n < 80:
		v := s.value(1000)
		applied, lsn, err := ds.PutNewest([]byte(key), v, time.Unix(int64(s.rnd.IntN(20)), 0))
		s.check(err)
		s.note(name, key, "", dyngo.Version{LSN: lsn, Op: event.OpPut, Value: v, NotApplied: !applied})
	case n < 85:
		from, to := s.key(), s.key()
		if from >= to {
			to = ""
		}
		var end []byte
		if to != "" {
			end = []byte(to)
		}
		lsn, err := ds.DeleteRangeWith([]byte(from), end, dyngo.WriteOptions{Reason: "all"})
		s.check(err)
		s.note(name, from, to, dyngo.Version{LSN: lsn, Op: event.OpDeleteRange, From: []byte(from), To: end, Reason: "all"})
	case n < 97:
		s.batch(name, ds, 1+s.rnd.IntN(6), 3000)
	case n < 99:
		lsn, err := s.db.DropDataset(name)
		s.check(err)
		s.note(name, "", "", dyngo.Version{LSN: lsn, Op: event.OpDatasetDropped})
	default:
		s.check(s.db.Close())
		s.open()
	}
}

func (s *historyScript) batch(name string, ds *dyngo.Dataset, n, size int) {
	b := s.db.NewBatch()
	at := len(s.log)
	for i := range n {
		key, v := s.key(), s.value(size)
		if i%3 == 2 {
			b.DeleteWith(ds, []byte(key), dyngo.WriteOptions{Ticket: "T-2"})
			s.note(name, key, "", dyngo.Version{Op: event.OpDelete, Ticket: "T-2"})
			continue
		}
		b.Put(ds, []byte(key), v)
		s.note(name, key, "", dyngo.Version{Op: event.OpPut, Value: v})
	}
	last, err := b.Commit()
	s.check(err)
	for i := range s.log[at:] {
		s.log[at+i].LSN = last - dyngo.LSN(n-1-i)
	}
}

// compare holds the history of every key against the model.
func (s *historyScript) compare(db *dyngo.DB) {
	s.t.Helper()
	for _, name := range []string{"a", "b"} {
		ds, err := db.Dataset(name)
		if errors.Is(err, dyngo.ErrNoDataset) {
			continue
		}
		s.check(err)
		for i := range 13 { // of the last nothing was written
			key := fmt.Sprintf("key-%d", i)
			var got, want []string
			for v, err := range ds.History(context.Background(), []byte(key)) {
				s.check(err)
				got = append(got, describe(&v))
			}
			for _, h := range slices.Backward(s.log) {
				if h.of(name, key) {
					want = append(want, describe(&h.Version))
				}
			}
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || got[i] != want[i] {
					s.t.Fatalf("%s %s: version %d of %d is %q, want %q of %d", name, key, i, len(got),
						slices.Concat(got, []string{"none"})[min(i, len(got))], slices.Concat(want, []string{"none"})[min(i, len(want))], len(want))
				}
			}
		}
	}
}

// TestHistoryModel writes at random over many small log files and compares every key's history with a model.
func TestHistoryModel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if *randomSeed != 0 {
		seed = *randomSeed
	}
	t.Logf("repeat with -random.seed=%d", seed)
	s := &historyScript{t: t, fs: vfs.NewMem(), rnd: rand.New(rand.NewPCG(seed, 0))}
	s.open()
	for range 3 {
		for range 700 {
			s.step()
		}
		s.compare(s.db) // with what the background has built
		s.check(s.db.BuildSideFiles(context.Background()))
		s.compare(s.db)
	}
	s.batch("a", s.dataset("a"), 3000, 12<<10) // larger than a frame
	for range 100 {
		s.step()
	}
	s.compare(s.db)
	reader := mustOpen(t, storeDir, &dyngo.Options{FS: s.fs, ReadOnly: true}) // beside the owner
	s.compare(reader)
	s.check(reader.Close())
	s.check(s.db.BuildSideFiles(context.Background()))
	s.compare(s.db)
	s.spoil()
	s.check(s.db.Close())
}

// spoil damages, removes and exchanges side files: histories stay the same, and the files are built anew.
func (s *historyScript) spoil() {
	dir := storeDir + "/side"
	names, err := s.fs.List(dir)
	s.check(err)
	if len(names) < 5 {
		s.t.Fatalf("side files %q: too few for a test", names)
	}
	s.check(s.db.Close())
	contents := make([][]byte, len(names))
	for i, name := range names {
		contents[i], err = s.fs.ReadFile(dir+"/"+name, 1<<30)
		s.check(err)
	}
	for i, name := range names {
		name, data := dir+"/"+name, contents[i]
		switch i % 4 {
		case 0:
			s.check(s.fs.Remove(name))
		case 1: // of another log file
			s.rewrite(name, contents[(i+1)%len(names)])
		case 2:
			s.rewrite(name, data[:s.rnd.IntN(len(data))])
		case 3:
			for range 3 {
				data[s.rnd.IntN(len(data))] ^= 1 << s.rnd.IntN(8)
			}
			s.rewrite(name, data)
		}
	}
	s.rewrite(dir+"/0000000099.side.tmp", []byte("left by a crash"))
	reader := mustOpen(s.t, storeDir, &dyngo.Options{FS: s.fs, ReadOnly: true})
	s.compare(reader)
	s.check(reader.Close())
	s.open()
	s.compare(s.db)
	s.check(s.db.BuildSideFiles(context.Background()))
	s.compare(s.db)
	after, err := s.fs.List(dir)
	s.check(err)
	if len(after) < len(names) || slices.Contains(after, "0000000099.side.tmp") || !strings.HasSuffix(after[len(after)-1], ".side") {
		s.t.Errorf("side files %q became %q", names, after)
	}
	if m := s.db.Metrics(); m.SideFiles != len(after) || m.SideBytes == 0 {
		s.t.Errorf("metrics tell of %d side files with %d bytes, %d are there", m.SideFiles, m.SideBytes, len(after))
	}
}

func (s *historyScript) rewrite(name string, data []byte) {
	s.t.Helper()
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	f, err := s.fs.Create(name)
	s.check(err)
	_, err = f.WriteAt(data, 0)
	s.check(errors.Join(err, f.Close()))
}

func TestHistoryEnds(t *testing.T) {
	db := mustOpen(t, storeDir, &dyngo.Options{FS: vfs.NewMem()})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	end := func(ctx context.Context, key string, each func()) (n int, last error) {
		for _, err := range ds.History(ctx, []byte(key)) {
			if last = err; err == nil {
				n++
				each()
			}
		}
		return n, last
	}
	ctx, cancel := context.WithCancel(context.Background())
	if n, err := end(ctx, "k", cancel); n != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after the first: %d versions, %v", n, err)
	}
	if n, err := end(context.Background(), "", func() {}); n != 0 || !errors.Is(err, dyngo.ErrLimit) {
		t.Errorf("empty key: %d versions, %v", n, err)
	}
	for range ds.History(context.Background(), []byte("k")) {
		break
	}
	n, err := end(context.Background(), "k", func() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 1 || !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("closed after the first: %d versions, %v", n, err)
	}
	if n, err := end(context.Background(), "k", func() {}); n != 0 || !errors.Is(err, dyngo.ErrClosed) {
		t.Errorf("after Close: %d versions, %v", n, err)
	}
}
