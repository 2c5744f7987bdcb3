package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dyngodb/dyngo"
)

// dyngoStore is DynGO with default options and one dataset. Durable puts go to a Strong dataset;
// buffered ones to an Eventual one, which may lose a second of the newest writes in a crash, or to a
// Causal one, which may lose 10 ms.
type dyngoStore struct {
	db *dyngo.DB
	ds *dyngo.Dataset
}

const (
	eventual = dyngo.Eventual
	causal   = dyngo.Causal
)

func dyngoConsistency(c Config, buffered dyngo.Consistency) dyngo.Consistency {
	if c.Mode == Durable {
		return dyngo.Strong
	}
	return buffered
}

func dyngoOptions(buffered dyngo.Consistency) func(Config) []string {
	return func(c Config) []string {
		loses := map[dyngo.Consistency]string{
			dyngo.Strong:   "Strong: a put returns when it is durable",
			dyngo.Causal:   "Causal: a crash may lose the newest 10 ms",
			dyngo.Eventual: "Eventual: a crash may lose the newest second",
		}
		budget := "256 MiB (default)"
		if c.MemoryBudget != 0 {
			budget = fmt.Sprintf("%d MiB", c.MemoryBudget>>20)
		}
		return []string{
			"one dataset, Consistency " + loses[dyngoConsistency(c, buffered)],
			"MemoryBudget " + budget + ", all else default: log files of 64 MiB, no compression, large values from 8 KiB",
		}
	}
}

func openDyngo(buffered dyngo.Consistency) func(Config) (Engine, error) {
	return func(c Config) (Engine, error) {
		db, err := dyngo.Open(c.Dir, &dyngo.Options{MemoryBudget: c.MemoryBudget})
		if err != nil {
			return nil, err
		}
		ds, err := db.CreateDataset("bench", &dyngo.DatasetOptions{Consistency: dyngoConsistency(c, buffered)})
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return &dyngoStore{db: db, ds: ds}, nil
	}
}

func (s *dyngoStore) Put(key, value []byte) error {
	_, err := s.ds.Put(key, value)
	return err
}

func (s *dyngoStore) Load(n, batch int, pair func(int) ([]byte, []byte)) error {
	b := s.db.NewBatch()
	for i := range n {
		k, v := pair(i)
		b.Put(s.ds, k, v)
		if b.Len() < batch && i < n-1 {
			continue
		}
		if _, err := b.CommitWith(dyngo.WriteOptions{Ack: dyngo.AckApplied}); err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}

func (s *dyngoStore) Get(dst, key []byte) ([]byte, bool, error) {
	v, err := s.ds.AppendGet(dst, key)
	if err == nil {
		return v, true, nil
	}
	if errors.Is(err, dyngo.ErrNotFound) {
		return dst, false, nil
	}
	return dst, false, err
}

func (s *dyngoStore) Scan(from []byte, limit int, visit func(key, value []byte)) (n int, err error) {
	for kv, err := range s.ds.Scan(dyngo.Range{From: from, Limit: limit}) {
		if err != nil {
			return n, err
		}
		visit(kv.Key, kv.Value)
		n++
	}
	return n, nil
}

// Drain waits until the newest applied event is durable.
func (s *dyngoStore) Drain() error { return s.db.WaitDurable(context.Background(), s.db.LSN()) }

func (s *dyngoStore) Flush() error { return s.db.Flush(context.Background()) }

// Settle merges all into one run, where a get and a scan cost least.
func (s *dyngoStore) Settle() error { return s.db.Compact(context.Background()) }

// readyPoll is how often Ready looks. It bounds the precision of that number, no other.
const readyPoll = 500 * time.Microsecond

// Ready waits until no record of the log is left to be put into the index.
func (s *dyngoStore) Ready() error {
	t := time.NewTicker(readyPoll)
	defer t.Stop()
	for s.db.Metrics().Memtable.Pending > 0 {
		<-t.C
	}
	return nil
}

func (s *dyngoStore) Memory() (Memory, bool) {
	m := s.db.Metrics()
	return Memory{Tail: m.TailBytes, Mapped: m.OffHeapBytes}, true
}

func (s *dyngoStore) Tables() TableFigures {
	m := s.db.Metrics().Memtable
	return TableFigures{Moves: m.Moves, LongestNs: m.LongestNs, IndexBytes: m.IndexBytes}
}

func (s *dyngoStore) Close() error { return s.db.Close() }
