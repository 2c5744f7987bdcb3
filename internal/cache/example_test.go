package cache_test

import (
	"fmt"

	"github.com/dyngodb/dyngo/internal/cache"
)

func Example() {
	c := cache.NewS3FIFO(64 << 20)
	defer c.Close()

	read := func(k cache.Key) *cache.Block {
		if b := c.Get(k); b != nil {
			return b
		}
		b := cache.NewBlock(5)
		copy(b.Bytes(), "hello") // from the file
		c.Add(k, b)
		return b
	}
	for range 2 {
		b := read(cache.Key{File: 1, Offset: 4096})
		fmt.Printf("%s, ", b.Bytes())
		b.Release()
	}
	m := c.Metrics()
	fmt.Printf("%d hit, %d miss\n", m.Hits, m.Misses)
	// Output: hello, hello, 1 hit, 1 miss
}
