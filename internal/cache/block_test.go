package cache

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo/internal/offheap"
)

func TestBlockLivesUntilItsLastRelease(t *testing.T) {
	start := offheap.InUse()
	b := NewBlock(5000)
	if len(b.Bytes()) != 5000 || b.SizeBytes() != 8192 || offheap.InUse() != start+8192 {
		t.Fatalf("block of 5000 bytes: len %d, size %d, %d in use", len(b.Bytes()), b.SizeBytes(), offheap.InUse()-start)
	}
	if !b.Acquire() {
		t.Fatal("Acquire failed on a live block")
	}
	b.Release()
	if offheap.InUse() != start+8192 {
		t.Fatal("freed with a reference left")
	}
	b.Release()
	if offheap.InUse() != start {
		t.Fatal("not freed by the last Release")
	}
	if b.Acquire() || b.Bytes() != nil {
		t.Fatal("a freed block can be acquired")
	}
}

func TestReleaseOnceTooOftenPanics(t *testing.T) {
	b := NewBlock(1)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	b.Release()
}

// TestBlockRace has goroutines pass references of a few blocks around, so that Acquire meets the last Release again and
// again. A buffer is filled with its number until it is freed.
func TestBlockRace(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	start := offheap.InUse()
	var slots [4]struct {
		sync.Mutex
		b *Block
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			for i := range 5000 {
				slot := &slots[rng.IntN(len(slots))]
				slot.Lock()
				b := slot.b
				slot.Unlock()
				if b != nil && b.Acquire() {
					for _, c := range b.Bytes() {
						if c != b.Bytes()[0] || c == 0 {
							t.Errorf("a held block was overwritten")
							break
						}
					}
					b.Release()
				}
				if rng.IntN(4) > 0 {
					continue
				}
				n := NewBlock(256)
				for j := range n.Bytes() {
					n.Bytes()[j] = byte(1 + i%255)
				}
				slot.Lock()
				slot.b, n = n, slot.b
				slot.Unlock()
				if n != nil {
					n.Release()
				}
			}
		})
	}
	wg.Wait()
	for i := range slots {
		if slots[i].b != nil {
			slots[i].b.Release()
		}
	}
	if got := offheap.InUse(); got != start {
		t.Fatalf("%d bytes leaked", got-start)
	}
}
