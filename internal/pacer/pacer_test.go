package pacer

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dyngodb/dyngo/internal/clock"
)

const mb = 1_000_000

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a pacer on a clock that stands still, with eager jobs: they do nothing but ask for the next step.
type scene struct {
	*Pacer
	t     *testing.T
	clock *clock.Manual
	ctx   context.Context
	jobs  int
}

func newScene(t *testing.T, o Options) *scene {
	s := &scene{t: t, clock: clock.NewManual(time.Unix(1_700_000_000, 0)), ctx: t.Context()}
	s.Pacer = New(s.clock, o)
	t.Cleanup(func() { // after those of eager
		if n := s.clock.Pending(); n > 0 {
			t.Errorf("%d timers are set while nobody waits", n)
		}
	})
	return s
}

// eager starts eager jobs, one of each given class, which end with the test.
func (s *scene) eager(classes ...Class) {
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	s.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	for _, c := range classes {
		s.jobs++
		j := s.Begin(c)
		wg.Go(func() {
			defer j.End()
			for j.Wait(ctx, StepBytes) == nil {
			}
		})
	}
	s.settle()
}

// settle waits until all eager jobs wait.
func (s *scene) settle() {
	for waiting := int64(-1); waiting != int64(s.jobs); runtime.Gosched() {
		waiting = 0
		for _, c := range s.Metrics().Classes {
			waiting += c.Waiting
		}
	}
}

// run lets d pass while the foreground does so many bytes a second, and returns what each class was given, in bytes a
// second.
func (s *scene) run(d time.Duration, foreground int) (rates [ClassCount]float64) {
	const step = time.Millisecond
	before := s.Metrics()
	for range d / step {
		s.Foreground(0, foreground/int(time.Second/step))
		s.clock.Advance(step)
		s.settle()
	}
	for i, c := range s.Metrics().Classes {
		rates[i] = float64(c.Bytes-before.Classes[i].Bytes) / d.Seconds()
	}
	return rates
}

func (s *scene) near(what string, got, want float64) {
	s.t.Helper()
	if math.Abs(got-want) > 0.05*want {
		s.t.Errorf("%s: %.1f MB/s, want %.1f", what, got/mb, want/mb)
	}
}

func TestBackgroundGetsWhatTheForegroundLeaves(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 200 * mb})
	s.eager(Compaction)
	s.near("with an idle foreground", s.run(time.Second, 0)[Compaction], 200*mb)
	s.run(200*time.Millisecond, 120*mb)
	s.near("with 120 MB/s", s.run(time.Second, 120*mb)[Compaction], 80*mb)
	if m := s.Metrics(); math.Abs(float64(m.ForegroundBytesPerSec)-120*mb) > 5*mb {
		t.Errorf("a foreground of 120 MB/s is taken for %d", m.ForegroundBytesPerSec)
	}
}

func TestBackgroundYieldsWithin100ms(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 200 * mb})
	s.eager(Compaction)
	s.run(time.Second, 80*mb)
	s.run(100*time.Millisecond, 160*mb)
	s.near("100 ms after the foreground has doubled", s.run(500*time.Millisecond, 160*mb)[Compaction], 40*mb)
	s.run(100*time.Millisecond, 80*mb)
	s.near("100 ms after it has halved", s.run(500*time.Millisecond, 80*mb)[Compaction], 120*mb)
}

func TestOperationsCountBesideTheirBytes(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 200 * mb})
	s.eager(Compaction)
	for range 2000 {
		s.Foreground(100, 0) // 100,000 a second
		s.run(time.Millisecond, 0)
	}
	s.near("beside 100,000 operations a second", float64(s.Metrics().BackgroundBytesPerSec), 200*mb-100_000*OpBytes)
}

func TestFloor(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 200 * mb, FloorBytesPerSec: 5 * mb})
	s.eager(Verify)
	s.run(200*time.Millisecond, 900*mb)
	s.near("with a foreground that takes more than there is", s.run(4*time.Second, 900*mb)[Verify], 5*mb)

	s = newScene(t, Options{BytesPerSec: 160 * mb})
	s.eager(Verify)
	s.run(200*time.Millisecond, 900*mb)
	s.near("by default", s.run(4*time.Second, 900*mb)[Verify], 10*mb)
}

func TestUrgencyRaisesTheRate(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 200 * mb})
	s.SetUrgency(Flush, 0.5)
	s.eager(Compaction)
	s.run(200*time.Millisecond, 160*mb)
	s.near("while the urgent class has nothing to do", s.run(time.Second, 160*mb)[Compaction], 40*mb)
	s.SetUrgency(Compaction, 0.5)
	s.near("at urgency 0.5", s.run(time.Second, 160*mb)[Compaction], 120*mb)
	s.SetUrgency(Compaction, 0)
	s.near("at urgency 0 again", s.run(time.Second, 160*mb)[Compaction], 40*mb)
}

func TestFullUrgencyIsNotHeldBack(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 10 * mb})
	s.eager(Compaction, Verify)
	s.run(time.Second, 100*mb)
	s.SetUrgency(Flush, 1)
	j := s.Begin(Flush)
	defer j.End()
	for range 1000 { // the clock stands still
		if err := j.Wait(t.Context(), StepBytes); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Metrics().Classes[Compaction].Bytes
	s.run(2*time.Second, 0)
	if s.Metrics().Classes[Compaction].Bytes < before+5*mb {
		t.Fatal("others pay for what an urgent class took, long after")
	}
}

func TestUrgencyWakesWhoWaits(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 1 * mb})
	j := s.Begin(Flush)
	defer j.End()
	if err := j.Wait(t.Context(), StepBytes); err != nil {
		t.Fatal(err)
	}
	passed := make(chan error)
	go func() { passed <- j.Wait(t.Context(), 100*StepBytes) }()
	if err := s.clock.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s.SetUrgency(Flush, 1)
	if err := <-passed; err != nil { // without the clock
		t.Fatal(err)
	}
}

func TestClassesShareByWeight(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 85 * mb})
	s.eager(Verify, Index, Compaction, Flush)
	rates := s.run(20*time.Second, 0)
	for c, want := range []float64{64, 16, 4, 1} {
		s.near(Class(c).String(), rates[c], want*mb)
	}
}

func TestJobsOfAClassTakeTurns(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 10 * mb})
	j := s.Begin(Index)
	defer j.End()
	if err := j.Wait(t.Context(), StepBytes); err != nil {
		t.Fatal(err)
	}
	passed := make(chan int)
	for i := range 5 {
		go func() {
			j := s.Begin(Index)
			defer j.End()
			if err := s.wait(t.Context(), j, StepBytes); err != nil {
				t.Error(err)
			}
			passed <- i
		}()
		s.jobs++
		s.settle()
	}
	var order []int
	for len(order) < 5 {
		s.clock.Advance(time.Millisecond)
		if s.Metrics().Classes[Index].Waiting < int64(5-len(order)) {
			order = append(order, <-passed)
		}
	}
	if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
		t.Fatalf("passed in order %v", order)
	}
}

// While the foreground is busy, one processor is free of jobs: of two, one works on a step at a time.
func TestABusyForegroundKeepsAProcessor(t *testing.T) {
	for _, c := range []struct {
		name  string
		busy  bool
		waits bool // the second one, at first
		then  func(s *scene, first *Job)
	}{
		{"idle", false, false, nil},
		{"the first one ends", true, true, func(_ *scene, first *Job) { first.End() }},
		{"the first one takes long", true, true, func(s *scene, _ *Job) { s.clock.Advance(turnAtMost) }},
		{"the second one becomes urgent", true, true, func(s *scene, _ *Job) { s.SetUrgency(Verify, 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, Options{BytesPerSec: 1000 * mb, Cores: 2})
			if c.busy {
				s.Foreground(0, mb)
			}
			s.clock.Advance(10 * time.Millisecond)
			first, second := s.Begin(Compaction), s.Begin(Verify)
			if err := first.Wait(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			passed := make(chan error, 1)
			go func() {
				defer second.End()
				passed <- second.Wait(t.Context(), 1)
			}()
			if c.waits {
				for s.Metrics().Classes[Verify].Waiting == 0 && len(passed) == 0 {
					runtime.Gosched()
				}
				s.clock.Advance(turnAtMost - 1)
				if len(passed) > 0 {
					t.Fatal("both work beside a busy foreground")
				}
				c.then(s, first)
			}
			select {
			case err := <-passed:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the second one does not go on")
			}
		})
	}
}

func TestNothingIsSavedUpWhileAway(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 100 * mb})
	s.eager(Verify)
	s.run(2*time.Second, 0)
	s.eager(Compaction)
	rates := s.run(time.Second, 0)
	s.near("compaction beside verification that was alone for long", rates[Compaction], 100*mb*16/17)

	s = newScene(t, Options{BytesPerSec: 100 * mb})
	s.clock.Advance(time.Hour)
	s.eager(Compaction) // which takes at once what there is
	if n := s.Metrics().Classes[Compaction].Bytes; n > 100*mb/50+StepBytes {
		t.Errorf("after an hour in which nobody worked, %d bytes may pass at once", n)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 1 * mb})
	j := s.Begin(Compaction)
	defer j.End()
	if err := j.Wait(t.Context(), StepBytes); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- j.Wait(ctx, StepBytes) }()
	if err := s.clock.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Fatalf("error %v", err)
	}
	if err := j.Wait(ctx, 0); err != context.Canceled {
		t.Fatalf("with a context that has ended: error %v", err)
	}
	if m := s.Metrics().Classes[Compaction]; m.Waiting != 0 || m.Bytes != StepBytes || s.clock.Pending() != 0 {
		t.Fatalf("%d timers, %+v", s.clock.Pending(), m)
	}
}

func TestLargeWaitsPassInSteps(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 100 * StepBytes})
	j := s.Begin(Compaction)
	defer j.End()
	passed := make(chan error)
	go func() { passed <- j.Wait(t.Context(), 9*StepBytes+1) }()
	// The first step overdraws the account, which is 0; each further one passes when that is paid, 9 times after 10 ms.
	s.jobs = 1
	for s.Metrics().Classes[Compaction].Bytes <= 9*StepBytes {
		s.settle()
		s.clock.Advance(time.Millisecond)
	}
	if err := <-passed; err != nil {
		t.Fatal(err)
	}
	m := s.Metrics().Classes[Compaction]
	if m.Bytes != 9*StepBytes+1 || m.Waited.Round(time.Millisecond) != 90*time.Millisecond {
		t.Fatalf("%+v", m)
	}
	if m.Begun != 1 || m.Running != 1 || m.Waiting != 0 {
		t.Fatalf("%+v", m)
	}
}

func TestCapacityIsLearned(t *testing.T) {
	s := newScene(t, Options{Cores: 2})
	s.SetUrgency(Compaction, 1)
	j := s.Begin(Compaction)
	defer j.End()
	work := func(j *Job, step time.Duration) {
		for range 40 {
			if err := j.Wait(t.Context(), StepBytes); err != nil {
				t.Fatal(err)
			}
			s.clock.Advance(step)
		}
	}
	want := func(what string, bytesPerSec float64) {
		t.Helper()
		s.near(what, float64(s.Metrics().CapacityBytesPerSec), bytesPerSec)
	}
	want("at first", 2*firstSpeed)
	work(j, time.Millisecond)
	want("after steps of 1 ms", 2*1000*StepBytes)
	work(j, 100*time.Millisecond)
	want("after 4 s of steps of 100 ms", 2*1000*StepBytes*math.Exp2(-4./60))
	s.clock.Advance(10 * time.Minute)
	next := s.Begin(Compaction)
	defer next.End()
	work(next, 100*time.Millisecond)
	want("ten minutes later", 2*10*StepBytes)
}

func TestCloseLetsAllPass(t *testing.T) {
	s := newScene(t, Options{BytesPerSec: 1})
	var wg sync.WaitGroup
	for c := range ClassCount {
		j := s.Begin(c)
		wg.Go(func() {
			defer j.End()
			if err := j.Wait(t.Context(), 10*StepBytes); err != nil {
				t.Error(err)
			}
		})
	}
	if err := s.clock.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	wg.Wait()
	j := s.Begin(Flush)
	if err := j.Wait(t.Context(), StepBytes); err != nil {
		t.Fatal(err)
	}
	j.End()
	for _, m := range s.Metrics().Classes {
		if m.Running != 0 || m.Waiting != 0 {
			t.Fatalf("%+v", m)
		}
	}
	if s.clock.Pending() != 0 {
		t.Fatal("a timer is set after Close")
	}
}

// TestOnTheSystemClock has jobs and a foreground work at the same time, for the race detector.
func TestOnTheSystemClock(t *testing.T) {
	p := New(clock.NewSystem(), Options{BytesPerSec: 4000 * mb})
	ctx, cancel := context.WithCancel(t.Context())
	var jobs, foreground sync.WaitGroup
	for c := range ClassCount {
		j := p.Begin(c)
		jobs.Go(func() {
			defer j.End()
			for range 100 {
				if err := j.Wait(ctx, StepBytes); err != nil {
					t.Error(err)
				}
			}
		})
		foreground.Go(func() {
			for ctx.Err() == nil {
				p.Foreground(1, 100)
				runtime.Gosched()
			}
		})
	}
	jobs.Wait()
	cancel()
	foreground.Wait()
	p.Close()
	for _, m := range p.Metrics().Classes {
		if m.Bytes != 100*StepBytes || m.Running != 0 {
			t.Errorf("%+v", m)
		}
	}
}

func BenchmarkForeground(b *testing.B) {
	p := New(clock.NewSystem(), Options{})
	b.Run("goroutines=1", func(b *testing.B) {
		for b.Loop() {
			p.Foreground(1, 100)
		}
	})
	b.Run("goroutines=all", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.Foreground(1, 100)
			}
		})
	})
}

func BenchmarkWait(b *testing.B) {
	p := New(clock.NewSystem(), Options{BytesPerSec: 1 << 60})
	j := p.Begin(Flush)
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Wait(b.Context(), StepBytes); err != nil {
			b.Fatal(err)
		}
	}
}
