package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// A narrator writes the text of the quickstart: plain in a pipe, with colour and a line that changes on a terminal.
type narrator struct {
	out    io.Writer
	quiet  bool // nothing at all
	color  bool
	live   bool // a status line may be drawn over
	width  int
	shown  time.Time // of the status line
	status bool      // one is on the cursor's line
	err    error     // the first one in writing
}

func newNarrator(cmd *cobra.Command) *narrator {
	out := cmd.OutOrStdout()
	width := cli.TerminalWidth(out)
	n := &narrator{out: out, width: 80, color: width > 0 && cli.GlobalsOf(cmd).Color}
	if width > 0 {
		n.width = max(40, min(width, 100))
		n.live = n.color && cli.GlobalsOf(cmd).Progress == "auto"
	}
	return n
}

func (n *narrator) write(s string) {
	if n.quiet || n.err != nil {
		return
	}
	n.endStatus()
	_, n.err = io.WriteString(n.out, s)
}

func (n *narrator) paint(code, s string) string {
	if !n.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (n *narrator) title(s string) {
	n.write("\n" + n.paint("1", s) + "\n")
}

// chapter begins a part; number 0 has none.
func (n *narrator) chapter(number int, title string) {
	if number > 0 {
		title = fmt.Sprintf("%d  %s", number, title)
	}
	rule := strings.Repeat("─", max(0, n.width-2-cli.TextWidth(title)-1))
	n.write("\n" + n.paint("1;36", title) + " " + n.paint("2", rule) + "\n\n")
}

// say writes a line of text; one that is too long goes on on the next.
func (n *narrator) say(format string, args ...any) {
	for _, line := range wrap(fmt.Sprintf(format, args...), n.width-4) {
		n.write(strings.TrimRight("   "+line, " ") + "\n")
	}
}

// good writes what was checked and found true.
func (n *narrator) good(format string, args ...any) {
	mark := n.paint("1;32", "✓")
	for i, line := range wrap(fmt.Sprintf(format, args...), n.width-6) {
		if i > 0 {
			mark = " "
		}
		n.write("   " + mark + " " + line + "\n")
	}
}

// line writes a line as it is.
func (n *narrator) line(s string) {
	if s == "# " {
		return
	}
	if strings.HasPrefix(s, "#") {
		s = n.paint("2", s)
	}
	n.write("   " + s + "\n")
}

// now replaces the status line, at most every 30 ms.
func (n *narrator) now(format string, args ...any) {
	if !n.live || n.quiet || n.err != nil || time.Since(n.shown) < 30*time.Millisecond {
		return
	}
	n.shown, n.status = time.Now(), true
	_, n.err = fmt.Fprintf(n.out, "\r   %s\x1b[K", n.paint("2", cli.TruncateText(fmt.Sprintf(format, args...), n.width-4)))
}

func (n *narrator) endStatus() {
	if n.status {
		n.status = false
		_, n.err = io.WriteString(n.out, "\r\x1b[K")
	}
}

// wrap breaks text between words into lines of at most width columns.
func wrap(text string, width int) []string {
	var lines []string
	for _, para := range strings.Split(text, "\n") {
		line := ""
		for _, word := range strings.Split(para, " ") {
			switch {
			case line == "":
				line = word
			case cli.TextWidth(line)+1+cli.TextWidth(word) > width:
				lines = append(lines, line)
				line = word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// padRight fills s up to width columns, or shortens it to them.
func padRight(s string, width int) string {
	s = cli.TruncateText(s, width)
	return s + strings.Repeat(" ", max(0, width-cli.TextWidth(s)))
}

func took(start time.Time) string {
	d := time.Since(start)
	if d < time.Second {
		return fmt.Sprintf("%d ms", max(1, d.Milliseconds()))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
