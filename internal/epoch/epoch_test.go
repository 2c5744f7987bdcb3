package epoch

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestRetireWaitsForGuards(t *testing.T) {
	d := New()
	g1 := d.Enter()
	ran := make(chan int, 2)
	d.Retire(func() { ran <- 1 })
	g2 := d.Enter() // may belong to either epoch
	select {
	case <-ran:
		t.Fatal("ran while a guard from before was held")
	default:
	}
	if d.Waiting() != 1 {
		t.Fatalf("Waiting %d, want 1", d.Waiting())
	}
	g1.Exit()
	g2.Exit()
	if got := <-ran; got != 1 {
		t.Fatal(got)
	}
	d.Close()
	d.Close()
}

func TestLaterGuardsAreNotWaitedFor(t *testing.T) {
	d := New()
	d.Synchronize()
	for range 100 {
		// A reader is always inside, but none stays over two epochs: the wait must end.
		g := d.Enter()
		c := make(chan struct{})
		d.Retire(func() { close(c) })
		for uint32(d.epoch.Load()) == uint32(g.stay) {
			runtime.Gosched()
		}
		h := d.Enter()
		g.Exit()
		<-c
		h.Exit()
	}
	d.Close()
}

// TestInterruptedEnterIsWaitedFor stops an Enter between reading the epoch and raising the counter until the epoch has
// its parity again: the counter is raised when that epoch is drained, and lowered by a guard of another one.
func TestInterruptedEnterIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		defer d.Close()
		e := d.epoch.Load()
		for range 2 {
			d.Synchronize()
		}
		s := &d.stripes[stripeIndex()]
		g := Guard{d: d, held: &s.held[e&1], stay: e}
		g.held.Add(taken)
		ran := false
		d.Retire(func() { ran = true })
		synctest.Wait()
		if ran || d.draining.Load() != e+2 {
			t.Fatalf("ran %v while epoch %d drains, want epoch %d", ran, d.draining.Load(), e+2)
		}
		g.Exit() // as Enter does when it sees that the epoch has moved
		synctest.Wait()
		if !ran {
			g.held.Add(taken) // so that the test ends
			Guard{d: d, held: g.held, stay: e + 2}.Exit()
			t.Fatal("the goroutine was not woken: nothing would be freed any more")
		}
	})
}

func TestCloseRunsWhatWaits(t *testing.T) {
	d := New()
	var n atomic.Int64
	for range 100 {
		d.Retire(func() {
			n.Add(1)
			d.Retire(func() { n.Add(1) })
		})
	}
	d.Close()
	if n.Load() != 200 {
		t.Fatalf("%d functions ran, want 200", n.Load())
	}
	d.Retire(func() { n.Add(1) })
	if n.Load() != 201 {
		t.Fatal("Retire after Close did not run its function")
	}
}

func TestOrder(t *testing.T) {
	d := New()
	var got []int
	for i := range 1000 {
		d.Retire(func() { got = append(got, i) })
	}
	d.Synchronize()
	for i, x := range got {
		if x != i {
			t.Fatalf("function %d ran at place %d", x, i)
		}
	}
	if len(got) != 1000 {
		t.Fatal(len(got))
	}
	d.Close()
}

// TestNoReaderSeesFreedMemory has readers follow a pointer that a writer replaces all the time; the retired function
// spoils the old value, which a reader inside a stay must never notice. The race detector checks the same.
func TestNoReaderSeesFreedMemory(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	type node struct{ a, b uint64 }
	d := New()
	var cur atomic.Pointer[node]
	cur.Store(&node{1, 1})
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				g := d.Enter()
				n := cur.Load()
				a := n.a
				if a%16 == 0 {
					runtime.Gosched()
				}
				if n.b != a || a == 0 {
					t.Errorf("read %d, %d", a, n.b)
				}
				g.Exit()
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 5000 {
		old := cur.Swap(&node{uint64(i + 1), uint64(i + 1)})
		d.Retire(func() { old.a, old.b = 0, 0 })
		if rng.IntN(100) == 0 {
			d.Synchronize()
		}
	}
	stop.Store(true)
	readers.Wait()
	d.Close()
}

func TestDoubleExitPanics(t *testing.T) {
	d := New()
	defer d.Close()
	g := d.Enter()
	g.Exit()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
		g.held.Add(taken)
	}()
	g.Exit()
}

// TestTicks: the guards that are taken at a stripe are numbered one after the other, whoever holds them meanwhile.
func TestTicks(t *testing.T) {
	d := New()
	defer d.Close()
	first := d.Enter()
	first.held.Add(-3 << 32) // the count overflows below
	for i := range uint32(4) {
		g := d.Enter()
		if g.Stripe() != first.Stripe() || g.Stripe() < 0 || g.Stripe() >= Stripes {
			t.Fatalf("stripe %d, then %d", first.Stripe(), g.Stripe())
		}
		if want := first.Tick() - 3 + 1 + i; g.Tick() != want {
			t.Errorf("guard %d has tick %d, want %d", i, g.Tick(), want)
		}
		g.Cancel()
		again := d.Enter()
		if again.Tick() != g.Tick() {
			t.Errorf("tick %d, taken anew %d", g.Tick(), again.Tick())
		}
		again.Exit()
	}
	first.Exit()
	d.Synchronize() // nothing is counted as held
}

func BenchmarkPin(b *testing.B) {
	d := New()
	defer d.Close()
	b.Run("goroutines=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Enter().Exit()
		}
	})
	b.Run("goroutines=P", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				d.Enter().Exit()
			}
		})
	})
}
