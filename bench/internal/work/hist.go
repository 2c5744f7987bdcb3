package work

import (
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/dyngodb/dyngo/bench/internal/stats"
)

type histogram = *hdr.Histogram

// recorder collects latencies of many goroutines. Each has its shard, shared with few others, so
// that a thousand writers don't need a thousand histograms.
type recorder struct {
	shards []recorderShard
}

type recorderShard struct {
	mu sync.Mutex // guards h
	h  *hdr.Histogram
	_  [64]byte
}

const (
	maxShards  = 16
	maxLatency = int64(1000 * time.Second)
	precision  = 3 // significant decimal digits
)

func newRecorder(goroutines int) *recorder {
	r := &recorder{shards: make([]recorderShard, min(max(goroutines, 1), maxShards))}
	for i := range r.shards {
		r.shards[i].h = hdr.New(1, maxLatency, precision)
	}
	return r
}

// record adds one latency measured by the given goroutine.
func (r *recorder) record(goroutine int, d time.Duration) {
	s := &r.shards[goroutine%len(r.shards)]
	s.mu.Lock()
	// Out of range is the only error, and the value is clamped.
	_ = s.h.RecordValue(min(max(int64(d), 1), maxLatency))
	s.mu.Unlock()
}

func (r *recorder) merged() *hdr.Histogram {
	all := hdr.New(1, maxLatency, precision)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		all.Merge(s.h)
		s.mu.Unlock()
	}
	return all
}

func (r *recorder) latency() stats.Latency { return summarize(r.merged()) }

func summarize(h *hdr.Histogram) stats.Latency {
	if h.TotalCount() == 0 {
		return stats.Latency{}
	}
	return stats.Latency{
		Samples: h.TotalCount(),
		P50:     h.ValueAtQuantile(50),
		P99:     h.ValueAtQuantile(99),
		P999:    h.ValueAtQuantile(99.9),
		Max:     h.Max(),
	}
}

// buckets groups what was recorded for a chart: twelve bars to a decade, from the first to the last
// that is not empty.
func (r *recorder) buckets() []stats.Bucket {
	h := r.merged()
	if h.TotalCount() == 0 {
		return nil
	}
	bounds := stats.LogBuckets(100*time.Nanosecond, time.Duration(maxLatency), 12)
	out := make([]stats.Bucket, len(bounds)-1)
	for i := range out {
		out[i] = stats.Bucket{From: bounds[i], To: bounds[i+1]}
	}
	i := 0
	for _, bar := range h.Distribution() {
		for i < len(out)-1 && bar.From >= out[i].To {
			i++
		}
		out[i].Count += bar.Count
	}
	for len(out) > 0 && out[0].Count == 0 {
		out = out[1:]
	}
	for len(out) > 0 && out[len(out)-1].Count == 0 {
		out = out[:len(out)-1]
	}
	return out
}
