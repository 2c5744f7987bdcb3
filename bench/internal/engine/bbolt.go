package engine

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"time"

	bolt "go.etcd.io/bbolt"
)

// boltStore is bbolt with its hash-map freelist. Concurrent puts go through Batch, as its README
// advises, with MaxBatchSize at the number of writers, so that a full batch never waits for its
// timer; a single writer uses Update. Buffered puts use NoSync.
type boltStore struct {
	db    *bolt.DB
	batch bool
}

var boltBucket = []byte("bench")

const boltMaxBatch = 1000 // bbolt's default

func boltOptionList(c Config) []string {
	put := "put: one Update each"
	if c.Writers > 1 {
		put = fmt.Sprintf("put: Batch, MaxBatchSize %d, MaxBatchDelay 1ms", min(c.Writers, boltMaxBatch))
	}
	return []string{
		fmt.Sprintf("FreelistType hashmap, NoSync %v, all else default; memory: the page cache", c.Mode == Buffered),
		put + "; get: one View each",
	}
}

func openBolt(c Config) (Engine, error) {
	db, err := bolt.Open(filepath.Join(c.Dir, "bench.db"), 0o600, &bolt.Options{
		FreelistType: bolt.FreelistMapType,
		NoSync:       c.Mode == Buffered,
	})
	if err != nil {
		return nil, err
	}
	db.MaxBatchSize = min(c.Writers, boltMaxBatch)
	db.MaxBatchDelay = time.Millisecond
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(boltBucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &boltStore{db: db, batch: c.Writers > 1}, nil
}

func (s *boltStore) Put(key, value []byte) error {
	put := func(tx *bolt.Tx) error { return tx.Bucket(boltBucket).Put(key, value) }
	if s.batch {
		return s.db.Batch(put)
	}
	return s.db.Update(put)
}

const (
	boltLoadBytes  = 16 << 20 // of a transaction of Load
	boltInOrder    = 3 << 19  // pairs from which Load goes by key
	boltAppendFill = 0.9      // of pages that are only appended to
)

// Load makes batches larger than asked for and sorts them: a transaction rewrites every page that it
// touches. With many pairs that would be the whole tree in each, so that all are sorted beforehand and
// appended, with FillPercent as bbolt's documentation advises for that.
func (s *boltStore) Load(n, batch int, pair func(int) ([]byte, []byte)) error {
	if n >= boltInOrder {
		return s.loadInOrder(n, batch, pair)
	}
	type kv struct{ k, v []byte }
	var kvs []kv
	for i := 0; i < n; {
		kvs = kvs[:0]
		for size := 0; i < n && (size < boltLoadBytes || len(kvs) < batch); i++ {
			k, v := pair(i)
			kvs = append(kvs, kv{bytes.Clone(k), bytes.Clone(v)})
			size += len(k) + len(v)
		}
		sort.Slice(kvs, func(a, b int) bool { return bytes.Compare(kvs[a].k, kvs[b].k) < 0 })
		err := s.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(boltBucket)
			for _, p := range kvs {
				if err := b.Put(p.k, p.v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *boltStore) loadInOrder(n, batch int, pair func(int) ([]byte, []byte)) error {
	type place struct {
		at     uint64 // of the key in keys
		size   uint32
		number uint32
	}
	places, keys := make([]place, n), []byte(nil)
	for i := range n {
		k, _ := pair(i)
		places[i] = place{uint64(len(keys)), uint32(len(k)), uint32(i)}
		keys = append(keys, k...)
	}
	key := func(p place) []byte { return keys[p.at:][:p.size] }
	slices.SortFunc(places, func(a, b place) int { return bytes.Compare(key(a), key(b)) })
	for i := 0; i < n; {
		err := s.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(boltBucket)
			b.FillPercent = boltAppendFill
			for first, size := i, 0; i < n && (size < boltLoadBytes || i-first < batch); i++ {
				_, v := pair(int(places[i].number))
				if err := b.Put(key(places[i]), bytes.Clone(v)); err != nil {
					return err
				}
				size += int(places[i].size) + len(v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *boltStore) Get(dst, key []byte) (value []byte, found bool, err error) {
	value = dst
	err = s.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(boltBucket).Get(key); v != nil {
			value, found = append(dst, v...), true
		}
		return nil
	})
	return value, found, err
}

func (s *boltStore) Scan(from []byte, limit int, visit func(key, value []byte)) (n int, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(boltBucket).Cursor()
		for k, v := c.Seek(from); k != nil && n < limit; k, v = c.Next() {
			visit(k, v)
			n++
		}
		return nil
	})
	return n, err
}

func (s *boltStore) Drain() error           { return s.db.Sync() }
func (s *boltStore) Flush() error           { return nil }
func (s *boltStore) Settle() error          { return nil }
func (s *boltStore) Ready() error           { return nil }
func (s *boltStore) Memory() (Memory, bool) { return Memory{}, false }
func (s *boltStore) Close() error           { return s.db.Close() }
