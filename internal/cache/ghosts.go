package cache

// ghosts remembers keys that left the small queue: a table of buckets in which a new one takes the place of the oldest.
// Memory is fixed. It may forget early, and take one key for another once in some million: both only cost a worse
// place in the queues.
type ghosts struct {
	slots []ghost
	now   uint32 // additions so far
}

// ghost is half a hash and the number of its addition; the zero ghost is an empty slot.
type ghost struct{ tag, at uint32 }

const ghostBucket = 4 // slots, together half a cache line

func newGhosts(slots int) ghosts { return ghosts{slots: make([]ghost, slots)} }

func (g *ghosts) bucket(hash uint64) []ghost {
	i := hash & uint64(len(g.slots)-1) &^ (ghostBucket - 1)
	return g.slots[i : i+ghostBucket]
}

// add remembers the key with that hash.
func (g *ghosts) add(hash uint64) {
	g.now++
	b := g.bucket(hash)
	oldest := 0
	for i := range b {
		if g.now-b[i].at > g.now-b[oldest].at {
			oldest = i
		}
	}
	b[oldest] = ghost{uint32(hash >> 32), g.now}
}

// take reports whether the key with that hash is among the last n that were added, and forgets it.
func (g *ghosts) take(hash uint64, n int) bool {
	b := g.bucket(hash)
	for i := range b {
		if b[i].tag == uint32(hash>>32) && b[i].at != 0 && int64(g.now-b[i].at) < int64(n) {
			b[i] = ghost{}
			return true
		}
	}
	return false
}
