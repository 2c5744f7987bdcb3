package blockcache

import (
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/dyngodb/dyngo/bench/internal/work"
	"github.com/dyngodb/dyngo/internal/cache"
)

// Workload is what readers do while a trace is recorded.
type Workload struct {
	Name, What string
	step       func(*reader) error
}

// Workloads lists what can be recorded.
func Workloads() []Workload {
	return []Workload{
		{"zipf", "point reads, zipf with theta 0.99, popular keys anywhere", func(r *reader) error {
			return r.s.point(r.popular())
		}},
		{"uniform", "point reads, all keys alike", func(r *reader) error {
			return r.s.point(r.rng.Uint64N(r.s.keys))
		}},
		{"scans", "four zipf point reads, then a scan of 100 keys from a popular one", func(r *reader) error {
			if r.n%5 == 4 {
				return r.s.scan(r.popular(), 100)
			}
			return r.s.point(r.popular())
		}},
		{"full scan", "zipf point reads, between any two 200 keys of a scan through everything that goes round",
			func(r *reader) error {
				if r.n%2 == 1 {
					return r.sweep.next(200)
				}
				return r.s.point(r.popular())
			}},
		{"compaction", "zipf point reads; after 10,000 of them one of 16 segments is replaced by a copy",
			func(r *reader) error {
				if r.n%10_000 == 9_999 {
					return r.s.rewrite(int(r.n/10_000) % 16)
				}
				return r.s.point(r.popular())
			}},
		{"hot spot", "point reads, 9 of 10 in 1/64 of the keys, which moves by an eighth of its size after 1,000 reads",
			func(r *reader) error {
				if r.rng.Uint64N(10) == 0 {
					return r.s.point(r.rng.Uint64N(r.s.keys))
				}
				size := r.s.keys / 64
				return r.s.point((r.n/1000*size/8 + r.rng.Uint64N(size)) % r.s.keys)
			}},
	}
}

// reader carries a workload on.
type reader struct {
	s     *store
	rng   *rand.Rand
	zipf  *work.Ranks
	sweep sweep
	n     uint64 // steps done
}

// popular draws a key by popularity; which keys are popular has nothing to do with their order.
func (r *reader) popular() uint64 { return spread(r.zipf.Draw(r.rng)) % r.s.keys }

// Recording is a trace in the making, without a cache: so each access is there, and the next line tells whether its
// block is to be added.
type Recording struct {
	Accesses  int64
	FileBytes int64 // of all segments at the beginning
}

// Record writes the trace of a workload with that many block accesses, or some more, to w. keys is a power of two; 0
// means as many as results are made with.
func Record(w io.Writer, load Workload, accesses int64, keys, seed uint64) (Recording, error) {
	if keys == 0 {
		keys = storeKeys
	}
	c := &missing{}
	rec := cache.NewRecorder(c, w)
	s, err := newStore(rec, keys)
	if err != nil {
		return Recording{}, fmt.Errorf("make the segments: %w", err)
	}
	defer s.close()
	r := &reader{s: s, rng: rand.New(rand.NewPCG(seed, 7)), zipf: work.NewRanks(int(keys), 0.99), sweep: sweep{s: s}}
	out := Recording{FileBytes: s.fileBytes()}
	for ; c.gets < accesses; r.n++ {
		if err := load.step(r); err != nil {
			return out, err
		}
	}
	for i := range r.sweep.its {
		r.sweep.close(i)
	}
	out.Accesses = c.gets
	return out, rec.Flush()
}

// missing has no block, ever, and counts how often it was asked. One goroutine at a time.
type missing struct {
	nothing
	gets int64
}

func (m *missing) Get(cache.Key) *cache.Block {
	m.gets++
	return nil
}
