package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/work"
)

// child is a worker process.
type child struct {
	cmd    *exec.Cmd
	out    *json.Decoder
	log    tailBuffer
	cancel context.CancelFunc
}

// startChild begins s in a process of its own, in a cgroup if group is not empty. It is killed, by its
// own id, when ctx ends or the time is over.
func startChild(ctx context.Context, s work.Spec, bound time.Duration, group string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("not finished after %v", bound))
	c := &child{cmd: exec.CommandContext(ctx, self, "worker"), cancel: cancel}
	c.cmd.Stderr = &c.log
	c.cmd.SysProcAttr = dieWithParent()
	if s.MemoryBudget > 0 {
		// An engine that takes memory through cgo gets it from one arena of the C library: with several it takes up
		// to twice as much as it asks for.
		c.cmd.Env = append(os.Environ(), "MALLOC_ARENA_MAX=1")
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	c.out = json.NewDecoder(out)
	if group != "" {
		err = join(group, c.cmd.Process.Pid)
	}
	if err == nil {
		// The worker waits for this, so that it does nothing outside of its group.
		_, err = in.Write(spec)
	}
	if end := in.Close(); err == nil {
		err = end
	}
	if err != nil {
		_ = c.cmd.Process.Kill() // if it still runs
		return nil, c.wait(ctx, err)
	}
	return c, nil
}

// answer reads the worker's next line.
func (c *child) answer() (work.Output, error) {
	var o work.Output
	if err := c.out.Decode(&o); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the worker ended without an answer")
		}
		return o, err
	}
	if o.Error != "" {
		return o, errors.New(o.Error)
	}
	return o, nil
}

// wait awaits the end of the process and adds to err why it ended, if that says more.
func (c *child) wait(ctx context.Context, err error) error {
	end := c.cmd.Wait()
	c.cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = end
	}
	if err == nil {
		return nil
	}
	if cause := end; cause != nil && !strings.Contains(err.Error(), cause.Error()) {
		err = fmt.Errorf("%w (%v)", err, cause)
	}
	if tail := c.log.String(); tail != "" {
		err = fmt.Errorf("%w\n%s", err, tail)
	}
	return err
}

// runChild does s from start to end.
func runChild(ctx context.Context, s work.Spec, bound time.Duration, group string) (work.Output, error) {
	c, err := startChild(ctx, s, bound, group)
	if err != nil {
		return work.Output{}, err
	}
	o, err := c.answer()
	return o, c.wait(ctx, err)
}

// killAfter runs s until the worker says that its data is durable, then kills it.
func killAfter(ctx context.Context, s work.Spec, bound time.Duration) error {
	c, err := startChild(ctx, s, bound, "")
	if err != nil {
		return err
	}
	o, err := c.answer()
	if err == nil && !o.Waiting {
		err = errors.New("the worker ended before it was killed")
	}
	if killed := c.cmd.Process.Kill(); err == nil && killed != nil {
		err = killed
	}
	if err != nil {
		return c.wait(ctx, err)
	}
	// Being killed is how this process has to end.
	_ = c.cmd.Wait()
	c.cancel()
	return ctx.Err()
}

// tailBuffer keeps the end of what a worker prints.
type tailBuffer struct{ b []byte }

const tailBytes = 4 << 10

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string { return strings.TrimSpace(string(t.b)) }
