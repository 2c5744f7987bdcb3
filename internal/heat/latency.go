package heat

import (
	"math/bits"
	"time"
)

// latencies is a decayed histogram of durations up to four seconds. Buckets are a quarter of a power of two wide.
type latencies [4 * 32]float32

func latencyBucket(ns uint32) int {
	if ns < 4 {
		return int(ns)
	}
	e := bits.Len32(ns) - 3 // ns>>e is 4 to 7
	return 4*e + int(ns>>e)
}

// latencyOf is the middle of a bucket.
func latencyOf(bucket int) time.Duration {
	if bucket < 8 {
		return time.Duration(bucket)
	}
	e := bucket/4 - 1
	return time.Duration(uint64(2*(bucket-4*e)+1) << e / 2)
}

func (l *latencies) add(ns uint32, weight float64) { l[latencyBucket(ns)] += float32(weight) }

func (l *latencies) decay(keep float64) {
	for i := range l {
		if l[i] *= float32(keep); l[i] < 1e-6 {
			l[i] = 0
		}
	}
}

// quantile is the duration that a share q of all don't exceed, 0 if nothing is known.
func (l *latencies) quantile(q float64) time.Duration {
	sum := float64(0)
	for _, n := range l {
		sum += float64(n)
	}
	if sum == 0 {
		return 0
	}
	seen, last := 0.0, 0
	for i, n := range l {
		if n == 0 {
			continue
		}
		last = i
		if seen += float64(n); seen >= q*sum {
			break
		}
	}
	return latencyOf(last)
}
