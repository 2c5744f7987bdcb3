package dyngo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// liveName is the socket that Options.Live serves.
const liveName = "live.sock"

const (
	maxLiveClients = 16
	maxLiveRequest = 64 << 10
)

// liveServer answers requests of tools: one JSON object a line, {"cmd":"stats"}, each answered by one line,
// {"ok":true,"result":…} or {"ok":false,"error":"…"}. At most maxLiveClients are served at a time; more wait.
type liveServer struct {
	db       *DB
	listener net.Listener
	slots    chan struct{}

	mu    sync.Mutex // guards conns and done
	conns map[net.Conn]bool
	done  bool
	wg    sync.WaitGroup
}

// serveLive listens on live.sock, which only the owner of the process may use. The directory's lock is held, so a socket
// that is there is a dead process's.
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
		var req struct {
			Cmd string `json:"cmd"`
		}
		type reply struct {
			OK     bool   `json:"ok"`
			Result any    `json:"result,omitempty"`
			Error  string `json:"error,omitempty"`
		}
		r := reply{OK: true}
		switch err := json.Unmarshal(line, &req); {
		case err != nil:
			r = reply{Error: "request is not a JSON object: " + err.Error()}
		case req.Cmd == "stats":
			r.Result = s.db.Metrics()
		default:
			r = reply{Error: fmt.Sprintf("unknown command %q; there is: stats", req.Cmd)}
		}
		if err := out.Encode(r); err != nil {
			return
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
