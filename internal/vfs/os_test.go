//go:build linux || darwin

package vfs

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain runs the test binary as a holder of a lock when asked to.
func TestMain(m *testing.M) {
	if name := os.Getenv("VFS_TEST_LOCK"); name != "" {
		if _, err := OS.Lock(name); err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("locked\n")
		io.Copy(io.Discard, os.Stdin) // until the parent goes or kills us
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLockOfAnotherProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "VFS_TEST_LOCK="+name)
	stdin, err := child.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
		t.Fatalf("child says %q", line)
	}

	_, err = OS.Lock(name)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != child.Process.Pid {
		t.Fatalf("child is %d: %v", child.Process.Pid, err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait() // killed, as it should be
	lock, err := OS.Lock(name)
	must(t, err)
	must(t, lock.Close())

	b, err := os.ReadFile(name)
	must(t, err)
	if strings.TrimSpace(string(b)) != "" {
		t.Fatalf("an unlocked file names %q", b)
	}
}

func TestLockNeedsItsDirectory(t *testing.T) {
	_, err := OS.Lock(filepath.Join(t.TempDir(), "none", "LOCK"))
	mustErr(t, err, os.ErrNotExist)
}

func TestSyncAfterClose(t *testing.T) {
	f := put(t, OS, filepath.Join(t.TempDir(), "f"), "x")
	must(t, f.Close())
	if err := f.SyncData(); err == nil {
		t.Fatal("synced a closed file")
	}
}

func TestListenUnix(t *testing.T) {
	dir, err := os.MkdirTemp("", "vfs") // t.TempDir is too long for a socket on some systems
	must(t, err)
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "s")
	l, err := ListenUnix(name)
	must(t, err)
	info, err := os.Stat(name)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", info.Mode())
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed process leaves it
	must(t, l.Close())
	l, err = ListenUnix(name)
	must(t, err)
	c, err := net.Dial("unix", name)
	must(t, err)
	must(t, c.Close())
	must(t, l.Close())
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("after close: %v", err)
	}

	must(t, os.WriteFile(name, []byte("data"), 0o600))
	if _, err := ListenUnix(name); err == nil {
		t.Fatal("replaced a file that is no socket")
	}
	mustRead(t, OS, name, "data")
	if _, err := ListenUnix(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Fatalf("long name: %v", err)
	}
}
