//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/cmd/internal/clitest"
)

// A halfLoad is a load that has stored some rows and waits for more: it reads from a named pipe.
type halfLoad struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	dir    string // of the store
	file   string // the pipe
	w      *os.File
}

const halfRows = 35 // stored in batches of 10 when the load is stopped: the last 5 are not

func startHalfLoad(t *testing.T) *halfLoad {
	t.Helper()
	tmp := t.TempDir()
	h := &halfLoad{dir: filepath.Join(tmp, "store"), file: filepath.Join(tmp, "rows.jsonl"), stderr: &bytes.Buffer{}}
	if err := syscall.Mkfifo(h.file, 0o600); err != nil {
		t.Fatal(err)
	}
	h.cmd = process(h.args()...)
	h.cmd.Stderr = h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.w, err = os.OpenFile(h.file, os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.w.Close() })
	if err := writeRows(h.w, halfRows); err != nil {
		t.Fatal(err)
	}
	deadline, tick := time.After(clitest.Patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for h.exported(t) != 30 {
		select {
		case <-tick.C:
		case <-deadline:
			h.cmd.Process.Kill()
			h.cmd.Wait()
			t.Fatalf("%d rows are stored after %v, want 30\n%s", h.exported(t), clitest.Patience, h.stderr)
		}
	}
	return h
}

func (h *halfLoad) args(more ...string) []string {
	return append([]string{"load", "events", h.file, "-d", h.dir, "--key", "#", "--batch", "10"}, more...)
}

func writeRows(w io.Writer, n int) error {
	for i := range n {
		if _, err := fmt.Fprintf(w, "{\"n\":%d}\n", i+1); err != nil {
			return err
		}
	}
	return nil
}

// exported counts the rows that are stored, and checks that they are the first ones of the file.
func (h *halfLoad) exported(t *testing.T) int {
	t.Helper()
	code, out, stderr := runLine(t, "export", "events", "-d", h.dir)
	if code == cli.ExitNotFound {
		return 0
	}
	if code != cli.ExitOK {
		t.Fatalf("export: exit code %d\n%s", code, stderr)
	}
	n := 0
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if n++; lines.Text() != fmt.Sprintf("{\"n\":%d}", n) {
			t.Fatalf("row %d is %s", n, lines.Text())
		}
	}
	return n
}

// resume goes on with the load from the beginning of the pipe and checks that nothing is missing or repeated.
func (h *halfLoad) resume(t *testing.T) {
	t.Helper()
	h.w.Close() // else the pipe has no end
	again := process(h.args("--resume", "-o", "json")...)
	var stderr bytes.Buffer
	again.Stderr = &stderr
	stdout, err := again.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(h.file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeRows(w, 100); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out, _ := io.ReadAll(stdout)
	if err := again.Wait(); err != nil {
		t.Fatalf("resume: %v\n%s", err, &stderr)
	}
	var result struct{ Rows, New, Duplicate int }
	if err := json.Unmarshal(out, &result); err != nil || result.Rows != 100 || result.New != 100 || result.Duplicate != 0 {
		t.Errorf("resumed: %+v, %v; want 100 new rows", result, err)
	}
	if n := h.exported(t); n != 100 {
		t.Errorf("%d rows after resuming, want 100", n)
	}
}

// ^C ends a load in order: exit 130, whole batches are kept, and the command that goes on is told.
func TestLoadInterrupted(t *testing.T) {
	h := startHalfLoad(t)
	if err := h.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	h.cmd.Wait()
	if code := h.cmd.ProcessState.ExitCode(); code != cli.ExitInterrupted {
		t.Errorf("exit code %d, want %d\n%s", code, cli.ExitInterrupted, h.stderr)
	}
	want := "stored: 30 rows, from what " + h.file + " holds up to row 30\nGo on with: dyngo-cli load events " + h.file +
		" --key '#' -d " + h.dir + " --resume\n"
	if !strings.Contains(h.stderr.String(), want) {
		t.Errorf("stderr is\n%swant in it\n%s", h.stderr, want)
	}
	if n := h.exported(t); n != 30 {
		t.Errorf("%d rows are stored, want 30", n)
	}
	h.resume(t)
}

// After kill -9 the rows and the position agree.
func TestLoadKilled(t *testing.T) {
	h := startHalfLoad(t)
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	h.cmd.Wait()
	if n := h.exported(t); n != 30 {
		t.Errorf("%d rows are stored, want 30", n)
	}
	h.resume(t)
}
