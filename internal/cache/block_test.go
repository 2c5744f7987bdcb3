package cache

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dyngodb/dyngo/internal/offheap"
)

func TestBlockLivesUntilItsLastRelease(t *testing.T) {
	start := offheap.InUse()
	b := NewBlock(5000)
	if len(b.Bytes()) != 5000 || b.SizeBytes() != 8192 || offheap.InUse() != start+8192 {
		t.Fatalf("len %d, size %d, %d in use", len(b.Bytes()), b.SizeBytes(), offheap.InUse()-start)
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

// TestAcquireMeetsTheLastRelease lets one goroutine acquire a block while another gives back the only reference. The
// buffer is there if Acquire says so, and is freed once in any case.
func TestAcquireMeetsTheLastRelease(t *testing.T) {
	rounds := 200_000
	if testing.Short() {
		rounds = 20_000
	}
	start := offheap.InUse()
	var block atomic.Pointer[Block] // of the round
	var got, lost int
	var wg sync.WaitGroup
	wg.Go(func() {
		var last *Block
		for range rounds {
			b := block.Load()
			for ; b == last; b = block.Load() {
				runtime.Gosched()
			}
			last = b
			b.Release()
		}
	})
	for range rounds {
		b := NewBlock(256)
		b.Bytes()[0] = 7
		block.Store(b)
		for b.Acquire() {
			if got++; b.Bytes()[0] != 7 {
				t.Fatal("acquired a block that was freed")
			}
			b.Release()
			if runtime.GOMAXPROCS(0) == 1 && got%64 == 0 {
				runtime.Gosched() // or the other one is kept waiting for as long as this one may run at a stretch
			}
		}
		lost++
	}
	wg.Wait()
	t.Logf("acquired %d times, too late %d times", got, lost)
	if n := offheap.InUse(); n != start {
		t.Fatalf("%d bytes leaked", n-start)
	}
}
