package engine

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// badgerStore is Badger with its DefaultOptions and SyncWrites as the mode asks. Each put is one
// Update transaction and each get one View, as its README shows; loads use a WriteBatch.
type badgerStore struct{ db *badger.DB }

func badgerOptions(c Config) badger.Options {
	o := badger.DefaultOptions(c.Dir).
		WithSyncWrites(c.Mode == Durable).
		WithLogger(quiet{}).
		WithMetricsEnabled(false)
	switch {
	case c.MemoryBudget > 0:
		// Half for blocks, a quarter for indexes and filters, which would otherwise all stay in memory, the rest for
		// three memtables; smaller ones than 8 MB Badger refuses beside its default ValueThreshold.
		o = o.WithMemTableSize(min(max(c.MemoryBudget/16, 8<<20), 64<<20)).WithNumMemtables(3).
			WithBlockCacheSize(c.MemoryBudget / 2).WithIndexCacheSize(c.MemoryBudget / 4)
	case c.Unflushed:
		o = o.WithMemTableSize(256 << 20)
	}
	return o
}

func badgerIndexCache(o badger.Options) string {
	if o.IndexCacheSize == 0 {
		return "all indexes in memory"
	}
	return fmt.Sprintf("IndexCacheSize %d MB", o.IndexCacheSize>>20)
}

func badgerOptionList(c Config) []string {
	o := badgerOptions(c)
	return []string{
		fmt.Sprintf("DefaultOptions, SyncWrites %v, metrics and log off", o.SyncWrites),
		fmt.Sprintf("MemTableSize %d MB ×%d, BlockCacheSize %d MB, %s, ValueThreshold %d KB, NumCompactors %d, "+
			"compression Snappy", o.MemTableSize>>20, o.NumMemtables, o.BlockCacheSize>>20, badgerIndexCache(o),
			o.ValueThreshold>>10, o.NumCompactors),
		"put: one Update each; get: one View each",
	}
}

func openBadger(c Config) (Engine, error) {
	db, err := badger.Open(badgerOptions(c))
	if err != nil {
		return nil, err
	}
	return &badgerStore{db}, nil
}

// Put makes an entry of its own: Badger keeps key and value until the transaction ends.
func (s *badgerStore) Put(key, value []byte) error {
	return s.db.Update(func(tx *badger.Txn) error { return tx.Set(key, value) })
}

func (s *badgerStore) Load(n, batch int, pair func(int) ([]byte, []byte)) error {
	for i := 0; i < n; {
		b := s.db.NewWriteBatch()
		for end := min(i+batch, n); i < end; i++ {
			k, v := pair(i)
			if err := b.Set(append([]byte(nil), k...), append([]byte(nil), v...)); err != nil {
				b.Cancel()
				return err
			}
		}
		if err := b.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (s *badgerStore) Get(dst, key []byte) (value []byte, found bool, err error) {
	value = dst
	err = s.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(key)
		if err != nil {
			return err
		}
		found = true
		return item.Value(func(v []byte) error {
			value = append(dst, v...)
			return nil
		})
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return dst, false, nil
	}
	return value, found, err
}

func (s *badgerStore) Scan(from []byte, limit int, visit func(key, value []byte)) (n int, err error) {
	err = s.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Seek(from); it.Valid() && n < limit; it.Next() {
			item := it.Item()
			if err := item.Value(func(v []byte) error { visit(item.Key(), v); return nil }); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

func (s *badgerStore) Drain() error { return s.db.Sync() }

// Flush has no counterpart in Badger: memtables are written when they are full and on Close.
func (s *badgerStore) Flush() error { return nil }

// Settle flattens the tree as Badger's documentation advises before a read-mostly phase.
func (s *badgerStore) Settle() error { return s.db.Flatten(2) }

func (s *badgerStore) Ready() error           { return nil }
func (s *badgerStore) Memory() (Memory, bool) { return Memory{}, false }
func (s *badgerStore) Close() error           { return s.db.Close() }
