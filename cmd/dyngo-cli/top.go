package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newTopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a running process at work, full screen",
		Long: `Watch the process that has the store open: what limits it now, in a sentence;
how much it reads and writes and how long that takes, over time; log, memory,
segments, disk and jobs; the hottest ranges and keys. q or ^C ends it. That
process has to serve live.sock (option Live). Operations and latencies are
estimates from a sample; those of reads end where the key is found, those of
writes when they are acknowledged.

With --once one picture is printed, from two looks an --interval apart. Formats
other than tables have one row for each look.`,
		Example: `  dyngo-cli top
  dyngo-cli top --once
  dyngo-cli top -o json | jq .limited_by`,
		Args: cli.NoArgs,
	}
	every := cmd.Flags().Duration("interval", time.Second, "`time` between two looks")
	once := cmd.Flags().Bool("once", false, "print one picture and end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkInterval(*every); err != nil {
			return err
		}
		t := &top{cmd: cmd, every: *every, dir: cli.GlobalsOf(cmd).Dir}
		out := cmd.OutOrStdout()
		switch {
		case cli.GlobalsOf(cmd).Format(out) != "table":
			return t.rows(*once)
		case *once:
			return t.once()
		case cli.IsTerminal(out) && cli.IsTerminal(cmd.InOrStdin()):
			return t.screen()
		}
		return t.frames()
	}
	return cmd
}

// top looks at a running process again and again.
type top struct {
	cmd   *cobra.Command
	every time.Duration
	dir   string
	seen  topPicture
}

// look asks the owner once, and adds what it says to the picture.
func (t *top) look() error {
	m, err := askLive[dyngo.Metrics](t.cmd, "stats")
	if err != nil {
		return err
	}
	hot, err := askLive[dyngo.Hot](t.cmd, "hot")
	if err != nil {
		return err
	}
	levels, err := askLive[dyngo.Levels](t.cmd, "levels")
	if err != nil {
		return err
	}
	t.seen.add(time.Now(), m, hot, levels.Running)
	return nil
}

// wait waits for the next look.
func (t *top) wait() error {
	timer := time.NewTimer(t.every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-t.cmd.Context().Done():
		return t.cmd.Context().Err()
	}
}

// first is the first two looks: rates need two.
func (t *top) first() error {
	if err := t.look(); err != nil {
		return err
	}
	if err := t.wait(); err != nil {
		return err
	}
	return t.look()
}

func (t *top) draw() []string {
	out := t.cmd.OutOrStdout()
	width, height := cli.TerminalSize(out)
	f := topFrame{p: &t.seen, dir: t.dir, width: width, height: height, color: cli.IsTerminal(out) && cli.GlobalsOf(t.cmd).Color}
	return f.lines()
}

// once prints one picture.
func (t *top) once() error {
	if err := t.first(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(t.cmd.OutOrStdout(), strings.Join(t.draw(), "\n"))
	return err
}

// frames prints picture after picture, where there is no terminal to draw on.
func (t *top) frames() error {
	if err := t.once(); err != nil {
		return err
	}
	for {
		if err := t.wait(); err != nil {
			return err
		}
		if err := t.look(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(t.cmd.OutOrStdout(), "\n"+strings.Join(t.draw(), "\n")); err != nil {
			return err
		}
	}
}

// rows prints a row for each look but the first.
func (t *top) rows(once bool) error {
	if err := t.first(); err != nil {
		return err
	}
	r := newTopRows(t.cmd)
	for {
		if err := r.add(&t.seen); err != nil {
			return err
		}
		if once {
			return r.Close()
		}
		if err := r.Flush(); err != nil {
			return err
		}
		if err := t.wait(); err != nil {
			return err
		}
		if err := t.look(); err != nil {
			return err
		}
	}
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	// resizeEvery is how often the size of the terminal is looked at.
	resizeEvery = 200 * time.Millisecond
)

// screen draws on the whole terminal, and gives it back as it was.
func (t *top) screen() (err error) {
	if err := t.look(); err != nil { // while there is a usual screen to say why not
		return err
	}
	in, out := t.cmd.InOrStdin().(*os.File), t.cmd.OutOrStdout()
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("prepare the terminal: %w", err)
	}
	defer func() {
		io.WriteString(out, leaveScreen) // what failed before is told
		if rerr := term.Restore(int(in.Fd()), was); err == nil {
			err = rerr
		}
	}()
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	keys := make(chan byte)
	ctx, cancel := context.WithCancel(t.cmd.Context())
	defer cancel()
	go readKeys(ctx, in, keys) // ends with the process: a read from a terminal can't be called off
	looks, sizes := time.NewTicker(t.every), time.NewTicker(resizeEvery)
	defer looks.Stop()
	defer sizes.Stop()
	var shown [2]int
	for {
		width, height := cli.TerminalSize(out)
		shown = [2]int{width, height}
		if _, err := io.WriteString(out, screenful(t.draw())); err != nil {
			return err
		}
		for drawn := true; drawn; {
			select {
			case key, ok := <-keys:
				switch {
				case !ok || key == 'q' || key == 'Q':
					return nil
				case key == 3: // ^C is a key like any other now
					return context.Canceled
				}
			case <-sizes.C:
				width, height := cli.TerminalSize(out)
				drawn = shown == [2]int{width, height}
			case <-looks.C:
				if err := t.look(); err != nil {
					return err
				}
				drawn = false
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// screenful draws lines over what was there. A line is erased before it is written, with the last one all that lies below:
// behind a full line the terminal would erase its last column.
func screenful(lines []string) string {
	last := len(lines) - 1
	above := "\x1b[H"
	for _, l := range lines[:last] {
		above += "\x1b[K" + l + "\r\n"
	}
	return above + "\x1b[J" + lines[last]
}

func readKeys(ctx context.Context, in io.Reader, keys chan<- byte) {
	defer close(keys)
	var b [1]byte
	for {
		if n, err := in.Read(b[:]); err != nil || n == 0 {
			return
		}
		select {
		case keys <- b[0]:
		case <-ctx.Done():
			return
		}
	}
}
