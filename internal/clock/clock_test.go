package clock

import (
	"context"
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

func TestSystemFollowsTheMonotonicClock(t *testing.T) {
	s := NewSystem()
	before := s.Wall()
	last := s.Mono()
	for range 1000 {
		m := s.Mono()
		if m < last {
			t.Fatalf("mono went back from %d to %d", last, m)
		}
		last = m
	}
	if d := time.Duration(s.Now() - before); d < -time.Second || d > time.Minute {
		t.Fatalf("now is %v off the wall clock", d)
	}
	if Elapsed(s, last) < 0 {
		t.Fatal("negative time elapsed")
	}
	if s.Now()-s.wall < last {
		t.Fatal("now lags behind mono")
	}
}

func TestSystemTimers(t *testing.T) {
	s := NewSystem()
	<-s.NewTimer(time.Millisecond).C()
	called := make(chan bool)
	s.AfterFunc(0, func() { close(called) })
	<-called

	timer := s.NewTimer(time.Hour)
	if !timer.Reset(0) {
		t.Fatal("reset of a pending timer says it was not")
	}
	<-timer.C()
	if timer.Stop() {
		t.Fatal("stop of a fired timer says it was pending")
	}
}

func TestManualStandsStill(t *testing.T) {
	m := NewManual(start)
	m.Advance(3 * time.Second)
	m.Jump(-time.Hour)
	if got, want := m.Mono(), int64(3*time.Second); got != want {
		t.Fatalf("mono %d, want %d", got, want)
	}
	if got, want := m.Now(), start.Add(3*time.Second).UnixNano(); got != want {
		t.Fatalf("now %d, want %d", got, want)
	}
	if got, want := m.Wall(), start.Add(3*time.Second-time.Hour).UnixNano(); got != want {
		t.Fatalf("wall %d, want %d", got, want)
	}
}

func TestManualFiresInOrderOfTime(t *testing.T) {
	m := NewManual(start)
	var got []string
	note := func(s string) func() {
		return func() { got = append(got, s+" at "+time.Duration(m.Mono()).String()) }
	}
	m.AfterFunc(2*time.Second, note("b"))
	m.AfterFunc(time.Second, func() {
		note("a")()
		m.AfterFunc(time.Second, note("c, set by a"))
	})
	m.AfterFunc(2*time.Second, note("b again"))
	m.AfterFunc(time.Minute, note("late"))
	stopped := m.AfterFunc(time.Second, note("stopped"))
	if !stopped.Stop() || stopped.Stop() {
		t.Fatal("stop does not say whether the timer was pending")
	}
	m.Advance(10 * time.Second)
	want := []string{"a at 1s", "b at 2s", "b again at 2s", "c, set by a at 2s"}
	if !slices.Equal(got, want) {
		t.Fatalf("fired %q, want %q", got, want)
	}
	if m.Pending() != 1 || m.Mono() != int64(10*time.Second) {
		t.Fatalf("%d pending at %d", m.Pending(), m.Mono())
	}
}

func TestManualChannelTimer(t *testing.T) {
	m := NewManual(start)
	timer := m.NewTimer(time.Second)
	select {
	case <-timer.C():
		t.Fatal("fired early")
	default:
	}
	m.Advance(time.Second)
	if at := <-timer.C(); !at.Equal(start.Add(time.Second)) {
		t.Fatalf("fired at %v", at)
	}

	timer.Reset(time.Second)
	m.Advance(time.Second)
	if timer.Stop() {
		t.Fatal("stop of a fired timer says it was pending")
	}
	select {
	case <-timer.C():
		t.Fatal("something stale arrived after Stop")
	default:
	}

	timer.Reset(0)
	<-timer.C()
	called := make(chan bool)
	m.AfterFunc(-1, func() { close(called) })
	<-called
}

func TestManualAwaitPending(t *testing.T) {
	m := NewManual(start)
	fired := make(chan bool)
	go func() {
		<-m.NewTimer(time.Hour).C()
		close(fired)
	}()
	if err := m.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	m.Advance(time.Hour)
	<-fired

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.AwaitPending(ctx, 1); err != context.Canceled {
		t.Fatalf("await after cancel: %v", err)
	}
}

func BenchmarkMono(b *testing.B) {
	s := NewSystem()
	b.ReportAllocs()
	for b.Loop() {
		s.Mono()
	}
}

func BenchmarkNow(b *testing.B) {
	s := NewSystem()
	b.ReportAllocs()
	for b.Loop() {
		s.Now()
	}
}
