package offheap

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"unsafe"
)

func TestSizesAlignmentAndZero(t *testing.T) {
	start := InUse()
	for _, n := range []int{1, 255, 256, 257, 4096, 5000, 1 << 20, 1<<20 + 1, ChunkBytes - 1, ChunkBytes, ChunkBytes + 1, 5 << 20} {
		b := Alloc(n)
		if len(b) != n || cap(b) != Size(n) {
			t.Fatalf("Alloc(%d): len %d cap %d, want cap %d", n, len(b), cap(b), Size(n))
		}
		align := uintptr(min(Size(n), ChunkBytes))
		if n > 1<<20 {
			align = ChunkBytes
		}
		if p := uintptr(unsafe.Pointer(&b[0])); p%align != 0 {
			t.Fatalf("Alloc(%d) at %#x is not aligned to %d", n, p, align)
		}
		for round := range 2 {
			for i, c := range b {
				if c != 0 {
					t.Fatalf("Alloc(%d), round %d: byte %d is %#x", n, round, i, c)
				}
			}
			for i := range b {
				b[i] = 0xff
			}
			Free(b)
			b = Alloc(n)
		}
		Free(b)
	}
	Free(nil)
	if Alloc(0) != nil {
		t.Fatal("Alloc(0) is not nil")
	}
	if got := InUse(); got != start {
		t.Fatalf("InUse %d after all was freed, want %d", got, start)
	}
}

func TestBlocksDoNotOverlap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	start, mapped := InUse(), Mapped()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			type held struct {
				b    []byte
				mark byte
			}
			var live []held
			check := func(h held) {
				for _, c := range h.b {
					if c != h.mark {
						t.Errorf("block of %d bytes holds %#x, want %#x", len(h.b), c, h.mark)
						return
					}
				}
				Free(h.b)
			}
			for range 3000 {
				if len(live) > 0 && (len(live) > 40 || rng.IntN(2) == 0) {
					i := rng.IntN(len(live))
					check(live[i])
					live[i] = live[len(live)-1]
					live = live[:len(live)-1]
					continue
				}
				h := held{Alloc(1 + rng.IntN(1<<(4+rng.IntN(12)))), byte(rng.Uint32())}
				for i := range h.b {
					h.b[i] = h.mark
				}
				live = append(live, h)
			}
			for _, h := range live {
				check(h)
			}
		})
	}
	wg.Wait()
	if got := InUse(); got != start {
		t.Fatalf("InUse %d after all was freed, want %d", got, start)
	}
	if got, most := Mapped(), mapped+maxSpare*ChunkBytes+classCount*keptBytes; got > most {
		t.Fatalf("Mapped %d after all was freed, want at most %d", got, most)
	}
}

// One block of each class takes its pages and no more: not 2 MiB for each class. In a process of its own: others have left memory that is
// used again.
func TestOneBlockTakesItsPages(t *testing.T) {
	if os.Getenv("OFFHEAP_ALONE") == "" {
		c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), "OFFHEAP_ALONE=1")
		if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	mapped := Mapped()
	sum := int64(0)
	var blocks [][]byte
	for n := minBlockBytes; n <= 256<<10; n *= 2 {
		b := Alloc(n)
		for i := 0; i < n; i += pageBytes {
			b[i] = 1
		}
		blocks = append(blocks, b)
		sum += int64(n)
	}
	if got := Mapped() - mapped; got > sum {
		t.Errorf("%d bytes more are mapped for %d", got, sum)
	}
	if got := residentAround(blocks); got > 4*ChunkBytes { // what else lies in the same 2 MiB included
		t.Errorf("%d bytes are resident for %d", got, sum)
	}
	for _, b := range blocks {
		Free(b)
	}
}

func TestFreeOfForeignMemoryPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	Free(make([]byte, 512))
}
