package heat

import (
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
)

// A ring is a bounded queue with many writers and one reader (D. Vyukov's, with one consumer): head counts the places that
// writers have claimed, tail those that the reader has taken, and each slot says whose turn it is.
//
//  1. A slot is free for place p when its seq is p. A writer that sees that and moves head from p to p+1 has it for itself:
//     nobody else can move head from p.
//  2. It fills the slot and stores p+1 as seq: the reader, who reads the slot only then, sees all of it.
//  3. The reader stores p+len as seq, which frees the slot for the writer that comes one round later.
//
// A writer that is interrupted between 1 and 2 holds the reader up there, not the other writers, until the ring is full.
type ring struct {
	head atomic.Uint64
	lost atomic.Uint64 // samples that found no free slot since the last drain
	_    [112]byte     // writers and reader have lines of their own

	tail  uint64  // the reader's
	owed  float64 // lost samples that none has stood for yet
	slots []slot
	_     [88]byte
}

// slot is a sample, two cache lines long.
type slot struct {
	seq     atomic.Uint64
	hash    uint64
	dataset event.DatasetID
	ns      uint32
	kind    Kind
	shift   uint8 // the sample stands for 1<<shift operations
	n       uint8 // bytes in key
	last    uint8 // of a scan: bytes in key from maxScanKey on
	cut     bool  // the key was longer
	lastCut bool
	reach   Reach
	_       byte
	key     [MaxKeyBytes]byte
}

// maxScanKey is how much of the first and of the last key of a scan is kept.
const maxScanKey = MaxKeyBytes / 2

const (
	ringSlots = 1024 // of all rings together: twice what comes between two looks, and room for a burst
	maxRings  = 16
)

// makeRings makes as many rings as there are processors, or a few more: a power of two.
func makeRings(processors int) []ring {
	n := 1
	for n < min(processors, maxRings) {
		n *= 2
	}
	rings := make([]ring, n)
	for i := range rings {
		r := &rings[i]
		r.slots = make([]slot, ringSlots/n)
		for j := range r.slots {
			r.slots[j].seq.Store(uint64(j))
		}
	}
	return rings
}

// claim returns a slot and its place, or nil when the ring is full. The caller fills it and stores the place plus one as seq.
func (r *ring) claim() (*slot, uint64) {
	for {
		at := r.head.Load()
		sl := &r.slots[at&uint64(len(r.slots)-1)]
		switch turn := sl.seq.Load(); {
		case turn == at:
			if r.head.CompareAndSwap(at, at+1) {
				return sl, at
			}
		case turn < at: // the sample of a round ago is still there
			r.lost.Add(1)
			return nil, 0
		}
	}
}

// next returns the reader's next slot, nil if it is not filled yet.
func (r *ring) next() *slot {
	if sl := &r.slots[r.tail&uint64(len(r.slots)-1)]; sl.seq.Load() == r.tail+1 {
		return sl
	}
	return nil
}

// free gives the slot back that next returned.
func (r *ring) free(sl *slot) {
	sl.seq.Store(r.tail + uint64(len(r.slots)))
	r.tail++
}
