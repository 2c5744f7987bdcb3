package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// terminal is a pseudo-terminal: what a program writes to its end arrives at ours, and the other way round.
type terminal struct {
	t          *testing.T
	ours, ends *os.File
	seen       bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	n := 0
	control(t, ours, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	ends, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ends.Close() })
	return &terminal{t: t, ours: ours, ends: ends}
}

// control calls f with a file's descriptor, and leaves the file as it is.
func control(t *testing.T, f *os.File, call func(fd int) error) {
	t.Helper()
	c, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = call(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

func (p *terminal) resize(width, height int) {
	p.t.Helper()
	control(p.t, p.ours, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
	})
}

func (p *terminal) modes() (modes unix.Termios) {
	p.t.Helper()
	control(p.t, p.ours, func(fd int) error {
		m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			modes = *m
		}
		return err
	})
	return modes
}

// await reads until what was written since the last call satisfies ok, and returns that.
func (p *terminal) await(what string, ok func(string) bool) string {
	p.t.Helper()
	if err := p.ours.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	p.seen.Reset()
	var b [4096]byte
	for {
		n, err := p.ours.Read(b[:])
		if p.seen.Write(b[:n]); ok(p.seen.String()) {
			return p.seen.String()
		}
		if err != nil {
			p.t.Fatalf("no %s: %v; there was %q", what, err, p.seen.String())
		}
	}
}

// TestTopOnTerminal: top takes the whole screen, follows its size, ends with q or ^C and gives the terminal back as it was.
func TestTopOnTerminal(t *testing.T) {
	dir, err := os.MkdirTemp("", "dyngo") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := dyngo.Open(dir, &dyngo.Options{Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct {
		key  string
		code int
	}{{"q", cli.ExitOK}, {"x\x03", cli.ExitInterrupted}} {
		p := newTerminal(t)
		p.resize(80, 24)
		before := p.modes()
		var errs bytes.Buffer
		code := make(chan int, 1)
		go func() {
			code <- cli.Run(context.Background(), newRootCommand(), []string{"top", "-d", dir, "--interval", "100ms", "--no-color"}, p.ends, p.ends, &errs)
		}()
		first := p.await("frame", func(s string) bool { return strings.Count(s, "NOW/S") >= 2 })
		if !strings.HasPrefix(first, enterScreen+"\x1b[H") || strings.Contains(first, leaveScreen) {
			t.Errorf("it begins with %.80q", first)
		}
		if p.modes().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
			t.Error("keys are not read one by one")
		}
		widest := func(s string) (n int) { // of the last whole frame
			frames := strings.Split(s, "\x1b[H")
			if len(frames) < 3 {
				return 0
			}
			for _, l := range strings.Split(frames[len(frames)-2], "\r\n") {
				l = strings.NewReplacer("\x1b[K", "", "\x1b[J", "").Replace(l)
				n = max(n, cli.TextWidth(l))
			}
			return n
		}
		p.resize(50, 12)
		p.await("smaller frame", func(s string) bool { return widest(s) == 50 })
		p.resize(100, 40)
		p.await("larger frame", func(s string) bool { return widest(s) == 100 })
		if _, err := p.ours.WriteString(c.key); err != nil {
			t.Fatal(err)
		}
		p.await("end", func(s string) bool { return strings.HasSuffix(s, leaveScreen) })
		if got := <-code; got != c.code {
			t.Errorf("%q ends it with %d, want %d; %s", c.key, got, c.code, errs.String())
		}
		if p.modes() != before {
			t.Errorf("the terminal is not as it was: %+v, was %+v", p.modes(), before)
		}
		p.ours.Close() // ends the read for keys
	}
}
