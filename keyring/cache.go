package keyring

import "maps"

// cacheKeys bounds each half of a cache.
const cacheKeys = 4096

// cache keeps what was used lately: when the young half is full it becomes the old one, which goes.
type cache[K comparable] struct{ young, old map[K]cached }

type cached struct {
	key  *Key  // nil = destroyed
	read int64 // when
}

// get finds what was read at a time or later.
func (c *cache[K]) get(k K, since int64) (*Key, bool) {
	e, ok := c.young[k]
	if !ok {
		if e, ok = c.old[k]; ok && e.read >= since {
			c.put(k, e.key, e.read)
		}
	}
	return e.key, ok && e.read >= since
}

func (c *cache[K]) put(k K, key *Key, read int64) {
	if len(c.young) >= cacheKeys {
		c.young, c.old = nil, c.young
	}
	if c.young == nil {
		c.young = make(map[K]cached)
	}
	c.young[k] = cached{key, read}
}

func (c *cache[K]) remove(gone func(K, cached) bool) {
	maps.DeleteFunc(c.young, gone)
	maps.DeleteFunc(c.old, gone)
}
