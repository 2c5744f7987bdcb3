package wal

import (
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/internal/coding"
)

func TestRunningCRCOfEveryPart(t *testing.T) {
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, 70)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	r := newRunningCRC(b)
	for from := range len(b) + 1 {
		for to := from; to <= len(b); to++ {
			if got, want := r.of(from, to), coding.CRC(b[from:to]); got != want {
				t.Fatalf("[%d, %d): %08x, want %08x", from, to, got, want)
			}
		}
	}
	long := make([]byte, 5<<20)
	for i := range long {
		long[i] = byte(rnd.Uint32())
	}
	r = newRunningCRC(long)
	for range 100 {
		from := rnd.IntN(len(long))
		to := from + rnd.IntN(len(long)-from)
		if got, want := r.of(from, to), coding.CRC(long[from:to]); got != want {
			t.Fatalf("[%d, %d) with seed %d: %08x, want %08x", from, to, seed, got, want)
		}
	}
}
