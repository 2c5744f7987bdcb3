package dyngo

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/internal/clock"
)

// TestLiveGivesUpWhenNobodyListens has a client go while its work is done: the work's context must end.
func TestLiveGivesUpWhenNobodyListens(t *testing.T) {
	clk := clock.NewManual(time.Unix(0, 1_700_000_000_000_000_000))
	db, err := Open("", &Options{InMemory: true, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &liveServer{db: db}
	gone, ended := errors.New("gone"), make(chan error, 1)
	go func() {
		_, err := s.watch(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, func(Metrics) error { return gone })
		ended <- err
	}()
	for {
		select {
		case err := <-ended:
			if !errors.Is(err, gone) || !errors.Is(err, context.Canceled) {
				t.Errorf("the work ended with %v", err)
			}
			return
		default:
			clk.Advance(100 * time.Millisecond)
			runtime.Gosched()
		}
	}
}
