package dyngo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// liveName is the socket that Options.Live serves.
const liveName = "live.sock"

const (
	maxLiveClients = 16
	maxLiveRequest = 64 << 10
	liveProgress   = 500 * time.Millisecond
)

// liveServer answers requests of tools: one JSON object a line, answered one after the other by one line each,
// {"ok":true,"result":…} or {"ok":false,"error":"…"}:
//
//	{"cmd":"stats"}     Metrics
//	{"cmd":"levels"}    Levels
//	{"cmd":"hot"}       Hot
//	{"cmd":"hotdecisions"}  DB.HotDecisions
//	{"cmd":"plan"}      []CompactStep: what compact would do
//	{"cmd":"flush"}     DB.Flush, then Metrics
//	{"cmd":"compact"}   DB.Compact, then Metrics
//	{"cmd":"gcplan"}    DB.GCPlan
//	{"cmd":"gc"}        DB.GC
//	{"cmd":"snapshot","name":N}      DB.Snapshot
//	{"cmd":"dropsnapshot","name":N}  DB.DropSnapshot
//
// While flush, compact, gc and snapshot go on, a line {"progress":Metrics} is sent every liveProgress. They end early when the
// client is gone, which that line finds out, and with Close. At most maxLiveClients are served at a time; more wait. A
// client that asks and doesn't read keeps its place and holds up nobody else.
type liveServer struct {
	db       *DB
	listener net.Listener
	slots    chan struct{}

	mu    sync.Mutex // guards conns and done
	conns map[net.Conn]bool
	done  bool
	wg    sync.WaitGroup
}

// serveLive listens on live.sock, which only the owner of the process may use. The directory's lock is held, so a
// socket that is there is a dead process's.
func serveLive(db *DB) (*liveServer, error) {
	name := filepath.Join(filepath.FromSlash(db.dir), liveName)
	l, err := vfs.ListenUnix(name)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", name, err)
	}
	s := &liveServer{db: db, listener: l, slots: make(chan struct{}, maxLiveClients), conns: map[net.Conn]bool{}}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

func (s *liveServer) accept() {
	defer s.wg.Done()
	for {
		s.slots <- struct{}{}
		c, err := s.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.db.opts.Logger.Error("dyngo: live.sock stopped", "err", err)
			}
			return
		}
		s.mu.Lock()
		if s.done {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = true
		s.wg.Add(1)
		s.mu.Unlock()
		go s.serve(c)
	}
}

func (s *liveServer) serve(c net.Conn) {
	defer s.wg.Done()
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		<-s.slots
	}()
	in := bufio.NewReader(c)
	out := json.NewEncoder(c)
	for {
		line, err := readLine(in, maxLiveRequest)
		if err != nil {
			return // the client left, or sent too much
		}
		result, err := s.answer(line, func(m Metrics) error { return out.Encode(liveProgressLine{m}) })
		reply := liveReply{OK: err == nil, Result: result}
		if err != nil {
			reply = liveReply{Error: err.Error()}
		}
		if err := out.Encode(reply); err != nil {
			return
		}
	}
}

type liveReply struct {
	OK     bool   `json:"ok"`
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

type liveProgressLine struct {
	Progress Metrics `json:"progress"`
}

// answer does what a request asks for.
func (s *liveServer) answer(line []byte, progress func(Metrics) error) (any, error) {
	var req struct {
		Cmd  string `json:"cmd"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return nil, fmt.Errorf("request is not a JSON object: %w", err)
	}
	switch req.Cmd {
	case "stats":
		return s.db.Metrics(), nil
	case "levels":
		return s.db.Levels()
	case "hot":
		return s.db.Hot()
	case "hotdecisions":
		return s.db.HotDecisions(), nil
	case "plan":
		return s.db.CompactPlan(s.db.ctx)
	case "flush":
		return s.watch(s.db.Flush, progress)
	case "compact":
		return s.watch(s.db.Compact, progress)
	case "gcplan":
		return s.db.GCPlan(s.db.ctx)
	case "gc":
		var plan GCPlan
		_, err := s.watch(func(ctx context.Context) (err error) {
			plan, err = s.db.GC(ctx)
			return err
		}, progress)
		return plan, err
	case "snapshot":
		var info SnapshotInfo
		_, err := s.watch(func(ctx context.Context) (err error) {
			info, err = s.db.Snapshot(ctx, req.Name)
			return err
		}, progress)
		return info, err
	case "dropsnapshot":
		return nil, s.db.DropSnapshot(req.Name)
	}
	return nil, fmt.Errorf("unknown command %q; there are: stats, levels, hot, plan, flush, compact, gcplan, gc, snapshot, dropsnapshot", req.Cmd)
}

// watch runs work and tells of its progress until it ends. When nobody can be told any more, the work is given up.
func (s *liveServer) watch(work func(context.Context) error, progress func(Metrics) error) (any, error) {
	ctx, cancel := context.WithCancel(s.db.ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }() // ends before watch returns
	tick := s.db.opts.Clock.NewTimer(liveProgress)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return s.db.Metrics(), err
		case <-tick.C():
			if err := progress(s.db.Metrics()); err != nil {
				cancel()
				return nil, errors.Join(err, <-done)
			}
			tick.Reset(liveProgress)
		}
	}
}

// readLine returns the next line of at most limit bytes.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > limit {
			return nil, fmt.Errorf("request of more than %d bytes", limit)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// close ends the clients and removes the socket.
func (s *liveServer) close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.done = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}
