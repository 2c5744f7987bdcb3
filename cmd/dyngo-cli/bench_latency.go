package main

import (
	"math/bits"
	"time"
)

// A latencies counts durations in buckets that are at most 1/32 (3 %) wide, so that a percentile
// costs no memory per operation. The zero value is empty. For one goroutine; merge when it is done.
type latencies struct {
	counts [64 * 32]uint32
	n      uint64
}

func latencyBucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 64 {
		return int(v) // exact
	}
	shift := bits.Len64(v) - 6
	return shift<<5 + int(v>>shift)
}

// bucketValue is the middle of a bucket.
func bucketValue(i int) time.Duration {
	if i < 64 {
		return time.Duration(i)
	}
	shift := i>>5 - 1
	low := uint64(i-shift<<5) << shift
	return time.Duration(low + 1<<shift>>1)
}

func (l *latencies) add(d time.Duration) {
	l.counts[latencyBucket(d)]++
	l.n++
}

func (l *latencies) merge(other *latencies) {
	for i, c := range other.counts {
		l.counts[i] += c
	}
	l.n += other.n
}

// quantile returns the duration that a share q (0 to 1) of all stays at or below.
func (l *latencies) quantile(q float64) time.Duration {
	if l.n == 0 {
		return 0
	}
	rank := uint64(q * float64(l.n))
	if rank >= l.n {
		rank = l.n - 1
	}
	var seen uint64
	for i, c := range l.counts {
		if seen += uint64(c); seen > rank {
			return bucketValue(i)
		}
	}
	return 0
}
