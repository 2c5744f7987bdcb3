package dyngo_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func TestLive(t *testing.T) {
	dir, err := os.MkdirTemp("", "dyngo") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db := mustOpen(t, dir, &dyngo.Options{Live: true})
	name := filepath.Join(dir, "live.sock")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket: %v, %v", info, err)
	}
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	ask := func(line string) (reply struct {
		OK     bool
		Error  string
		Result dyngo.Metrics
	}) {
		t.Helper()
		fmt.Fprintln(c, line)
		answer, err := in.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(answer, &reply)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return reply
	}
	if r := ask(`{"cmd":"stats"}`); !r.OK || r.Result.DurableLSN != 3 || r.Result.Datasets != 1 {
		t.Errorf("stats: %+v", r)
	}
	for line, want := range map[string]string{`{"cmd":"nonsense"}`: "unknown command", `[]`: "not a JSON object", `}`: "not a JSON object"} {
		if r := ask(line); r.OK || !strings.Contains(r.Error, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	// A client that sends without end is cut off; one that says nothing doesn't keep Close.
	greedy, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer greedy.Close()
	long := []byte(strings.Repeat("x", 1<<20))
	for err == nil {
		_, err = greedy.Write(long)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("the socket outlives the store: %v", err)
	}
}

// liveClient asks over live.sock and reads line by line.
type liveClient struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func dialLive(t *testing.T, dir string) *liveClient {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(dir, "live.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &liveClient{t, c, bufio.NewReader(c)}
}

type liveLine struct {
	OK       bool
	Error    string
	Result   json.RawMessage
	Progress *dyngo.Metrics
}

func (l *liveClient) send(cmd string) { fmt.Fprintf(l.c, "{\"cmd\":%q}\n", cmd) }

func (l *liveClient) line() (line liveLine) {
	l.t.Helper()
	b, err := l.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(b, &line)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return line
}

// result sends a request and passes over progress.
func (l *liveClient) result(cmd string, into any) {
	l.t.Helper()
	l.send(cmd)
	line := l.line()
	for line.Progress != nil {
		line = l.line()
	}
	if !line.OK {
		l.t.Fatalf("%s: %s", cmd, line.Error)
	}
	if err := json.Unmarshal(line.Result, into); err != nil {
		l.t.Fatal(err)
	}
}

// shortDir is a directory whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dyngo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestLiveSegments flushes twice, looks at the runs, plans and merges, all over the socket.
func TestLiveSegments(t *testing.T) {
	dir := shortDir(t)
	db := mustOpen(t, dir, &dyngo.Options{Live: true})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	l := dialLive(t, dir)
	for run := range 2 {
		for k := range 200 {
			if _, err := ds.Put(fmt.Append(nil, "key", k), fmt.Append(nil, "value ", run)); err != nil {
				t.Fatal(err)
			}
		}
		var m dyngo.Metrics
		if l.result("flush", &m); m.FlushedLSN != db.DurableLSN() || m.Segments != run+1 {
			t.Errorf("after flush %d: flushed LSN %d of %d, %d segments", run+1, m.FlushedLSN, db.DurableLSN(), m.Segments)
		}
	}
	var levels dyngo.Levels
	if l.result("levels", &levels); len(levels.Runs) != 2 || string(levels.Runs[0].Segments[0].First) != "key0" ||
		levels.Runs[1].Segments[0].LastDataset != "d" || levels.Runs[0].Segments[0].Entries != 200 {
		t.Errorf("levels: %+v", levels)
	}
	var steps []dyngo.CompactStep
	l.result("plan", &steps)
	if len(steps) == 0 || steps[0].Kind != "merge" || len(steps[0].Segments) != 2 || steps[0].Why == "" ||
		!strings.Contains(steps[0].Explain, "reclaims") || steps[0].ReadBytes == 0 {
		t.Errorf("plan: %+v", steps)
	}
	var m dyngo.Metrics
	if l.result("compact", &m); m.Runs != 1 || m.Segments != 1 || m.CompactReadBytes == 0 {
		t.Errorf("after compact: %+v", m)
	}
	if l.result("plan", &steps); len(steps) != 0 {
		t.Errorf("plan after compact: %+v", steps)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLiveProgress holds a flush up until progress was told twice.
func TestLiveProgress(t *testing.T) {
	dir := shortDir(t)
	clk := manualClock()
	fsys := vfs.NewFault(vfs.OS)
	held, release := make(chan struct{}), make(chan struct{})
	fsys.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpCreate && strings.HasSuffix(c.Name, ".seg") {
			close(held)
			<-release
		}
		return nil
	})
	db := mustOpen(t, dir, &dyngo.Options{Live: true, Clock: clk, FS: fsys})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	l := dialLive(t, dir)
	l.send("flush")
	<-held
	lines := make(chan liveLine)
	go func() {
		for {
			line := l.line()
			if lines <- line; line.Progress == nil {
				return
			}
		}
	}()
	for told := 0; told < 2; {
		select {
		case line := <-lines:
			if told++; line.Progress == nil || line.Progress.Segments != 0 || line.OK {
				t.Errorf("line %d is no progress: %+v", told, line)
			}
		default:
			clk.Advance(100 * time.Millisecond)
			runtime.Gosched()
		}
	}
	close(release)
	line := <-lines
	for line.Progress != nil {
		line = <-lines
	}
	if !line.OK {
		t.Errorf("the last line is no answer: %+v", line)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
