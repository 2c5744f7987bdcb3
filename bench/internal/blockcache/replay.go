package blockcache

import (
	"fmt"
	"hash/crc32"
	"math/bits"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/dyngodb/dyngo/bench/internal/work"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/offheap"
)

// Spec is one measurement.
type Spec struct {
	Cache         string `json:"cache"`
	Trace         string `json:"trace"` // file
	CapacityBytes int64  `json:"capacity_bytes"`
	Goroutines    int    `json:"goroutines"`

	// Again replays the whole trace before it is measured, ten times over; else the first quarter is replayed and the
	// rest measured.
	Again bool `json:"again,omitempty"`
}

// Result is what was measured.
type Result struct {
	Accesses  int64         `json:"accesses"`
	Hits      int64         `json:"hits"`
	Wall      time.Duration `json:"wall"`
	CPU       time.Duration `json:"cpu"` // of the process, all threads
	Allocs    uint64        `json:"allocs"`
	AllocB    uint64        `json:"alloc_bytes"`
	PeakBytes int64         `json:"peak_bytes"` // of buffers, readers' included
	Blocks    int64         `json:"blocks"`     // at the end
	HeapBytes int64         `json:"heap_bytes"` // of the cache at the end, beside the buffers
	Metrics   cache.Metrics `json:"metrics"`
	Err       string        `json:"error,omitempty"`
}

// access is one Get, and an Add if it misses and size is not 0.
type access struct {
	key  cache.Key
	size uint32
}

// readTrace reads a recorded trace.
func readTrace(name string) ([]access, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var all []access
	err = cache.ReadTrace(b, func(c cache.Call, k cache.Key, size int64) error {
		switch {
		case c != cache.CallAdd:
			all = append(all, access{k, uint32(size)})
		case len(all) > 0 && all[len(all)-1].key == k:
			all[len(all)-1].size = uint32(size)
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("the trace is empty")
	}
	return all, err
}

// Replay measures. On a miss it does what a reader does but for reading the file: the check, the decompression, Add.
func Replay(s Spec) (Result, error) {
	trace, err := readTrace(s.Trace)
	if err != nil {
		return Result{}, err
	}
	before := heap()
	inUse := offheap.InUse()
	c, err := New(s.Cache, s.CapacityBytes)
	if err != nil {
		return Result{}, err
	}
	warm := trace[:len(trace)/4]
	if s.Again {
		warm = trace
	}
	replay(c, warm, s.Goroutines, inUse)
	passes := 10
	if !s.Again {
		trace, passes = trace[len(warm):], 1
	}
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	cpu, began := work.CPUTime(), time.Now()
	var r Result
	for range passes {
		r.add(replay(c, trace, s.Goroutines, inUse))
	}
	r.Wall, r.CPU = time.Since(began), work.CPUTime()-cpu
	runtime.ReadMemStats(&m1)
	r.Allocs, r.AllocB = m1.Mallocs-m0.Mallocs, m1.TotalAlloc-m0.TotalAlloc
	r.Metrics = c.Metrics()
	r.Blocks, r.HeapBytes = r.Metrics.Blocks, heap()-before
	runtime.KeepAlive(trace)
	c.Close()
	if n := offheap.InUse() - inUse; n != 0 {
		return r, fmt.Errorf("%s leaked %d bytes", s.Cache, n)
	}
	return r, nil
}

// heap returns the bytes that live on Go's heap.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools kept through the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (r *Result) add(o Result) {
	r.Accesses += o.Accesses
	r.Hits += o.Hits
	r.PeakBytes = max(r.PeakBytes, o.PeakBytes)
}

// stored holds, for each power of two, a block of that size as it could be in a file: half of it can be compressed.
var stored = func() (all [33][]byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 21 {
		b := make([]byte, 1<<i)
		for j := range b {
			if j%64 < 32 {
				b[j] = byte(rng.Uint32())
			}
		}
		all[i] = s2.Encode(nil, b)
	}
	return all
}()

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decode makes a block of n bytes, a power of two, as package segment does of what it has read.
func decode(n int) *cache.Block {
	body := stored[bits.Len(uint(n))-1]
	sum := crc32.Checksum(body, castagnoli)
	b := cache.NewBlock(n)
	if _, err := s2.Decode(b.Bytes(), body); err != nil || sum == 0 {
		panic(fmt.Sprintf("block of %d bytes: %v", n, err))
	}
	return b
}

// replay has goroutines take turns in the trace, 32 accesses at a time.
func replay(c cache.Cache, trace []access, goroutines int, inUse int64) (total Result) {
	const turn = 32
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			var r Result
			for {
				from := int(next.Add(turn)) - turn
				if from >= len(trace) {
					break
				}
				for _, a := range trace[from:min(from+turn, len(trace))] {
					b := c.Get(a.key)
					r.Accesses++
					switch {
					case b != nil:
						r.Hits++
					case a.size == 0:
						continue
					default:
						b = decode(int(a.size))
						c.Add(a.key, b)
					}
					b.Release()
				}
				r.PeakBytes = max(r.PeakBytes, offheap.InUse()-inUse)
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(r)
		})
	}
	wg.Wait()
	return total
}
