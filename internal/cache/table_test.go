package cache

import (
	"math/rand/v2"
	"testing"
)

// TestTableAgainstMap puts in and takes out entries whose hashes collide often, up to half of the slots.
func TestTableAgainstMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	table, model := newTable(minTable), map[Key]*entry{}
	for range 100_000 {
		k := Key{Offset: rng.Uint64N(100)}
		h := k.Hash() & 7 * 9 // eight homes, one of them at the end
		e := model[k]
		if got := table.find(k, h); got != e {
			t.Fatalf("%v: found %v, want %v", k, got, e)
		}
		switch {
		case e != nil:
			table.remove(e)
			delete(model, k)
		case len(model) < minTable/2:
			e = &entry{key: k, hash: h}
			table.insert(e)
			model[k] = e
		}
	}
}

func TestGhostsRememberTheLastOnes(t *testing.T) {
	const slots, last = 256, 64
	g := newGhosts(slots)
	hash := func(i int) uint64 { return Key{Offset: uint64(i)}.Hash() }
	for i := range 1000 {
		g.add(hash(i))
	}
	for i := range 1000 - last {
		if g.take(hash(i), last) {
			t.Fatalf("number %d is remembered after %d others", i, 999-i)
		}
	}
	kept := 0
	for i := 1000 - last; i < 1000; i++ {
		if g.take(hash(i), last) {
			kept++
		}
		if g.take(hash(i), last) {
			t.Fatalf("number %d was taken and is still there", i)
		}
	}
	if kept < last*9/10 {
		t.Fatalf("%d of the last %d are remembered", kept, last)
	}
}
