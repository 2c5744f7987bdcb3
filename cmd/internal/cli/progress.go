package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// A Progress tells on stderr how far a long command is: a bar with rate and remaining time on a
// terminal, JSON lines with --progress json, nothing in a pipe. All methods may be called from any
// goroutine, and on nil.
type Progress struct {
	mode  string // "bar", "json", "none"
	w     io.Writer
	label string
	unit  string // "bytes" is shown in KiB, MiB, …; anything else is counted
	total int64  // 0: not known
	now   func() time.Time
	width int

	mu      sync.Mutex // guards the fields below and the writing
	done    int64
	start   time.Time
	shown   time.Time
	visible bool // a bar is on the line of the cursor
	ended   bool
}

// NewProgress starts to tell about label: total (0 if not known) units of work.
func NewProgress(cmd *cobra.Command, label string, total int64, unit string) *Progress {
	g, w := GlobalsOf(cmd), cmd.ErrOrStderr()
	p := &Progress{
		mode: g.Progress, w: w, label: label, unit: unit, total: max(total, 0),
		now: time.Now, width: TerminalWidth(w),
	}
	if p.mode == "auto" {
		p.mode = "none"
		if p.width > 0 && os.Getenv("TERM") != "dumb" {
			p.mode = "bar"
		}
	}
	p.start = p.now()
	p.shown = p.start
	return p
}

// Add counts n more units as done.
func (p *Progress) Add(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.maybeShow()
}

// Set says that done units in all are done.
func (p *Progress) Set(done int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
	p.maybeShow()
}

// SetTotal corrects the total once it is known.
func (p *Progress) SetTotal(total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = max(total, 0)
}

// Notef prints a line on stderr without tearing the bar.
func (p *Progress) Notef(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, format+"\n", args...)
	if p.mode == "bar" && !p.ended {
		p.bar()
	}
}

// SetLabel changes what it is about.
func (p *Progress) SetLabel(label string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.label = label
}

// Hide takes the bar away, until there is more to show, so that a row can be printed on the same terminal.
func (p *Progress) Hide() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Done ends it: the bar disappears, JSON gets its last line. Further calls do nothing.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	p.clear()
	if p.mode == "json" {
		p.event("done")
	}
}

// maybeShow shows the state at most ten times a second on a terminal and twice in JSON.
func (p *Progress) maybeShow() {
	if p.ended || p.mode == "none" {
		return
	}
	now, every := p.now(), 100*time.Millisecond
	if p.mode == "json" {
		every = 500 * time.Millisecond
	}
	if now.Sub(p.shown) < every {
		return
	}
	p.shown = now
	if p.mode == "json" {
		p.event("progress")
	} else {
		p.bar()
	}
}

func (p *Progress) clear() {
	if p.visible {
		io.WriteString(p.w, "\r\x1b[K")
		p.visible = false
	}
}

// rate returns units per second and the seconds that remain, -1 if not known.
func (p *Progress) rate() (perSecond, remaining float64) {
	elapsed := p.now().Sub(p.start).Seconds()
	if elapsed <= 0 || p.done <= 0 {
		return 0, -1
	}
	perSecond = float64(p.done) / elapsed
	if p.total < p.done || p.total == 0 {
		return perSecond, -1
	}
	return perSecond, float64(p.total-p.done) / perSecond
}

func (p *Progress) event(kind string) {
	perSecond, remaining := p.rate()
	e := struct {
		Event     string   `json:"event"`
		Label     string   `json:"label"`
		Done      int64    `json:"done"`
		Total     int64    `json:"total,omitempty"`
		Unit      string   `json:"unit"`
		Elapsed   float64  `json:"elapsed_s"`
		PerSecond float64  `json:"per_s"`
		Remaining *float64 `json:"eta_s,omitempty"`
	}{kind, p.label, p.done, p.total, p.unit, Round3(p.now().Sub(p.start).Seconds()), Round3(perSecond), nil}
	if remaining >= 0 && kind != "done" {
		remaining = Round3(remaining)
		e.Remaining = &remaining
	}
	line, err := json.Marshal(e)
	if err != nil {
		return // only a float that is not a number could do that, and there is none
	}
	p.w.Write(append(line, '\n'))
}

// Round3 rounds to thousandths.
func Round3(f float64) float64 { return float64(int64(f*1000+0.5)) / 1000 }

func (p *Progress) bar() {
	p.visible = true
	fmt.Fprintf(p.w, "\r%s\x1b[K", p.line())
}

// line draws the bar in the width of the terminal: label, bar, percent, done of total, rate, time.
func (p *Progress) line() string {
	perSecond, remaining := p.rate()
	amount := func(n int64) string {
		if p.unit == "bytes" {
			return FormatBytes(n)
		}
		return FormatCount(n)
	}
	speed := amount(int64(perSecond)) + "/s"
	if p.unit != "bytes" {
		speed = amount(int64(perSecond)) + " " + p.unit + "/s"
	}
	if p.total == 0 {
		return TruncateText(fmt.Sprintf("%s  %s  %s", p.label, amount(p.done), speed), p.width-1)
	}
	done := float64(min(p.done, p.total)) / float64(p.total)
	tail := fmt.Sprintf(" %3.0f%%  %s of %s  %s", 100*done, amount(p.done), amount(p.total), speed)
	if remaining >= 0 {
		tail += "  " + formatETA(remaining) + " left"
	}
	room := p.width - 1 - TextWidth(p.label) - TextWidth(tail) - 3
	if room < 6 {
		return TruncateText(p.label+" "+tail, p.width-1)
	}
	room = min(room, 30)
	filled := int(done * float64(room))
	return p.label + " [" + strings.Repeat("█", filled) + strings.Repeat("·", room-filled) + "]" + tail
}

func formatETA(seconds float64) string {
	s := int64(seconds + 0.999)
	switch {
	case s >= 3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	case s >= 60:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%ds", s)
}
