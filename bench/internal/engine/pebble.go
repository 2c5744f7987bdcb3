package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// pebbleStore follows Pebble's own benchmark command (cmd/pebble): newest format, 32 KB blocks,
// filters, a compaction from two files in L0 on and no stop before a thousand. The filter is on the
// last level too, since one of the cases asks for keys that are absent.
type pebbleStore struct {
	db    *pebble.DB
	cache *pebble.Cache
	write *pebble.WriteOptions
}

const (
	pebbleCache    = 512 << 20
	pebbleMemTable = 64 << 20
)

// pebbleCacheSize is all that a budget allows: Pebble takes its memtables out of its cache.
func pebbleCacheSize(c Config) int64 {
	if c.MemoryBudget > 0 {
		return c.MemoryBudget
	}
	return pebbleCache
}

func pebbleMemTableSize(c Config) uint64 {
	switch {
	case c.MemoryBudget > 0:
		return uint64(min(max(c.MemoryBudget/8, 1<<20), pebbleMemTable))
	case c.Unflushed:
		return 4 * pebbleMemTable
	}
	return pebbleMemTable
}

// pebbleL0Threshold is Pebble's default where opening is measured: with less it would compact what it
// has just recovered while the clock runs.
func pebbleL0Threshold(c Config) int {
	if c.Unflushed {
		return 4
	}
	return 2
}

func pebbleOptionList(c Config) []string {
	sync := "pebble.NoSync"
	if c.Mode == Durable {
		sync = "pebble.Sync"
	}
	return []string{
		"write options " + sync,
		fmt.Sprintf("Cache %d MB with the memtables, MemTableSize %d MB, MemTableStopWritesThreshold 4",
			pebbleCacheSize(c)>>20, pebbleMemTableSize(c)>>20),
		fmt.Sprintf("FormatMajorVersion newest, L0CompactionThreshold %d, L0StopWritesThreshold 1000, LBaseMaxBytes 64 MB",
			pebbleL0Threshold(c)),
		"CompactionConcurrencyRange 1–3, BlockSize 32 KB, IndexBlockSize 256 KB, bloom filter of 10 bits on each level",
		"compression: default (Snappy); WAL on; " + cgo + arenas(c),
	}
}

// arenas names what the driver sets where memory is limited.
func arenas(c Config) string {
	if c.MemoryBudget > 0 {
		return ", MALLOC_ARENA_MAX=1"
	}
	return ""
}

func openPebble(c Config) (Engine, error) {
	cache := pebble.NewCache(pebbleCacheSize(c))
	o := &pebble.Options{
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatNewest,
		L0CompactionThreshold:       pebbleL0Threshold(c),
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                16384,
		MemTableSize:                pebbleMemTableSize(c),
		MemTableStopWritesThreshold: 4,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 3 },
		Logger:                      quiet{},
	}
	for i := range o.Levels {
		l := &o.Levels[i]
		l.BlockSize = 32 << 10
		l.IndexBlockSize = 256 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.FilterType = pebble.TableFilter
	}
	o.EnsureDefaults()
	db, err := pebble.Open(c.Dir, o)
	if err != nil {
		cache.Unref()
		return nil, err
	}
	s := &pebbleStore{db: db, cache: cache, write: pebble.NoSync}
	if c.Mode == Durable {
		s.write = pebble.Sync
	}
	return s, nil
}

func (s *pebbleStore) Put(key, value []byte) error { return s.db.Set(key, value, s.write) }

func (s *pebbleStore) Load(n, batch int, pair func(int) ([]byte, []byte)) error {
	b := s.db.NewBatch()
	defer b.Close()
	for i := range n {
		k, v := pair(i)
		if err := b.Set(k, v, nil); err != nil {
			return err
		}
		if int(b.Count()) == batch || i == n-1 {
			if err := b.Commit(pebble.NoSync); err != nil {
				return err
			}
			b.Reset()
		}
	}
	return nil
}

func (s *pebbleStore) Get(dst, key []byte) ([]byte, bool, error) {
	v, closer, err := s.db.Get(key)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return dst, false, nil
		}
		return dst, false, err
	}
	dst = append(dst, v...)
	return dst, true, closer.Close()
}

func (s *pebbleStore) Scan(from []byte, limit int, visit func(key, value []byte)) (int, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from})
	if err != nil {
		return 0, err
	}
	n := 0
	for ok := it.First(); ok && n < limit; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return n, errors.Join(err, it.Close())
		}
		visit(it.Key(), v)
		n++
	}
	return n, it.Close()
}

// Drain syncs the write-ahead log: a synced empty record makes everything before it durable.
func (s *pebbleStore) Drain() error { return s.db.LogData(nil, pebble.Sync) }

func (s *pebbleStore) Flush() error { return s.db.Flush() }

// Settle flushes and compacts into one sorted level, where a get costs Pebble least.
func (s *pebbleStore) Settle() error {
	if err := s.db.Flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return s.db.Compact(ctx, []byte{0}, []byte{0xff}, true)
}

func (s *pebbleStore) Ready() error           { return nil }
func (s *pebbleStore) Memory() (Memory, bool) { return Memory{}, false }

func (s *pebbleStore) Close() error {
	err := s.db.Close()
	s.cache.Unref()
	return err
}

// quiet drops the engines' progress messages; what fails is returned as an error.
type quiet struct{}

func (quiet) Infof(string, ...any)    {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Errorf(f string, a ...any) {
	println("engine: " + fmt.Sprintf(f, a...))
}

// Fatalf must not return: the engine that calls it can't go on.
func (quiet) Fatalf(f string, a ...any) { panic("engine: " + fmt.Sprintf(f, a...)) }
