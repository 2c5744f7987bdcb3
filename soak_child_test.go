package dyngo_test

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// soakChild is the process that has the store open. Its calls may be made from several goroutines.
type soakChild struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when all answers were read that it has given

	sending sync.Mutex // held while a call is sent
	out     *gob.Encoder

	mu      sync.Mutex // guards the fields below
	calls   int
	waiting map[int]chan soakReply
}

// errSoakGone is what calls end with that a killed process has not answered.
var errSoakGone = errors.New("the process has gone")

func (s *soak) startChild() *soakChild {
	c := &soakChild{cmd: exec.Command(os.Args[0]), gone: make(chan struct{}), waiting: map[int]chan soakReply{}}
	c.cmd.Env = append(os.Environ(), soakEnv+"=1")
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	in, err := c.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c.out = gob.NewEncoder(out)
	go func() {
		defer close(c.gone)
		replies := gob.NewDecoder(in)
		for {
			var r soakReply
			if replies.Decode(&r) != nil {
				return // the last one may be cut off
			}
			c.mu.Lock()
			c.waiting[r.ID] <- r
			delete(c.waiting, r.ID)
			c.mu.Unlock()
		}
	}()
	return c
}

// call returns the answer to a call, or errSoakGone.
func (c *soakChild) call(call *soakCall) (soakReply, error) {
	answer := make(chan soakReply, 1)
	c.mu.Lock()
	c.calls++
	call.ID = c.calls
	c.waiting[call.ID] = answer
	c.mu.Unlock()
	c.sending.Lock()
	_ = c.out.Encode(call) // an error says that the process has gone
	c.sending.Unlock()
	select {
	case r := <-answer:
		return r.result(call)
	case <-c.gone:
	}
	select {
	case r := <-answer: // it was the last
		return r.result(call)
	default:
		return soakReply{}, errSoakGone
	}
}

func (r soakReply) result(call *soakCall) (soakReply, error) {
	if r.Err != "" {
		return r, fmt.Errorf("%s: %s", call.Do, r.Err)
	}
	return r, nil
}

// soakPatience is how long the test's own calls may take.
const soakPatience = 2 * time.Minute

// must makes a call that must not fail.
func (s *soak) must(call soakCall) soakReply {
	s.t.Helper()
	hangs := time.AfterFunc(soakPatience, func() { s.child.cmd.Process.Signal(syscall.SIGQUIT) }) // it tells where
	defer hangs.Stop()
	r, err := s.child.call(&call)
	if err != nil {
		s.fatal("%s, after %d kills: %v", call.Do, s.kills, err)
	}
	return r
}

// fatal ends the test. The process is ended first, so that the store stays as it was.
func (s *soak) fatal(format string, args ...any) {
	s.t.Helper()
	s.child.stop()
	s.t.Fatalf(format, args...)
}

// errorf says what is wrong, and has it said again at the end, where a log that was cut still has it.
func (s *soak) errorf(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf(format, args...)
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// look asks for the figures.
func (s *soak) look() soakStats {
	s.last = s.must(soakCall{Do: "stats"}).Stats
	for _, l := range s.lanes {
		l.floor.Store(uint64(s.last.FloorLSN))
	}
	s.used, s.resident = max(s.used, s.last.Used), max(s.resident, s.last.Resident)
	return s.last
}

// kill ends the process in the middle of what it does.
func (s *soak) kill() {
	s.kills++
	s.killed = time.Now().UnixNano()
	s.ended(s.look())
	s.child.stop()
}

// close ends the process in order.
func (s *soak) close() {
	s.closes++
	s.killed = time.Now().UnixNano()
	st := s.look()
	s.must(soakCall{Do: "close"})
	<-s.child.gone
	if err := s.child.cmd.Wait(); err != nil {
		s.t.Fatalf("the process ended with %v", err)
	}
	s.ended(st)
}

// ended adds up what a process has counted.
func (s *soak) ended(st soakStats) {
	s.sum.merged += st.CompactWrittenBytes
	s.sum.flushed += st.FlushedBytes
	s.sum.flushErrors += st.FlushErrors
	s.sum.mergeErrors += st.CompactionErrors
	s.waited += st.Waited
	for _, e := range st.Errors {
		s.errorf("after %d kills the engine logged: %s", s.kills, e)
	}
}

// stop kills the process, if it is there, and waits until all that it has answered was read.
func (c *soakChild) stop() {
	if c.cmd.ProcessState != nil {
		return
	}
	c.cmd.Process.Kill()
	<-c.gone
	c.cmd.Wait()
}
