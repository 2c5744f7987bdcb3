package pacer_test

import (
	"context"
	"fmt"

	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/pacer"
)

func Example() {
	p := pacer.New(clock.NewSystem(), pacer.Options{BytesPerSec: 200 << 20})
	defer p.Close()

	p.Foreground(1, 300) // a write of 300 bytes has been done

	job := p.Begin(pacer.Flush)
	defer job.End()
	for range 4 {
		if err := job.Wait(context.Background(), pacer.StepBytes); err != nil {
			fmt.Println(err)
			return
		}
		// Here the job works on the step.
	}
	fmt.Println(p.Metrics().Classes[pacer.Flush].Bytes)
	// Output: 1048576
}
