package dyngo_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
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
