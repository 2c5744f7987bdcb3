package blockcache

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/cache/cachetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The largest block in the tests of package cachetest that fits into a cache.
const largest = 16 << 10

func TestRistretto(t *testing.T) {
	cachetest.Run(t, cachetest.Kind{
		New: func(n int64) cache.Cache {
			r, err := NewRistretto(n, 256, min(n/8, 4<<20))
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		Settle:    func(c cache.Cache) { c.(*Ristretto).c.Wait() },
		OverBytes: 2 * largest,
		Lossy:     true,
	})
}

func TestOtter(t *testing.T) {
	cachetest.Run(t, cachetest.Kind{
		New: func(n int64) cache.Cache {
			o, err := NewOtter(n)
			if err != nil {
				t.Fatal(err)
			}
			return o
		},
		Settle:    func(c cache.Cache) { c.(*Otter).c.CleanUp() },
		OverBytes: 512 * largest,
		Lossy:     true,
	})
}
