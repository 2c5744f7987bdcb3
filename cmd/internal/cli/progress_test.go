package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// testProgress is a progress whose clock the test moves.
func testProgress(mode string, total int64, unit string) (*Progress, *bytes.Buffer, *time.Time) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	p := &Progress{
		mode: mode, w: &out, label: "load", unit: unit, total: total, width: 80,
		now: func() time.Time { return now },
	}
	p.start, p.shown = now, now
	return p, &out, &now
}

func TestProgressInPipeIsSilent(t *testing.T) {
	var out, errs bytes.Buffer
	cmd := &cobra.Command{Use: "program"}
	SetUpRoot(cmd)
	AddProgress(cmd)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	p := NewProgress(cmd, "load", 10, "rows")
	p.Add(5)
	p.Done()
	if out.Len()+errs.Len() > 0 {
		t.Errorf("printed %q, %q", out.String(), errs.String())
	}
	p.Notef("row %d is bad", 7)
	if errs.String() != "row 7 is bad\n" {
		t.Errorf("note is %q", errs.String())
	}
}

func TestProgressBar(t *testing.T) {
	p, out, now := testProgress("bar", 4<<20, "bytes")
	p.Add(1 << 20)
	if out.Len() > 0 {
		t.Errorf("shown before its time: %q", out)
	}
	*now = now.Add(time.Second)
	p.Add(1 << 20)
	line := strings.TrimSuffix(strings.TrimPrefix(out.String(), "\r"), "\x1b[K")
	want := "load [█████████████··············]  50%  2.0 MiB of 4.0 MiB  2.0 MiB/s  1s left"
	if line != want || TextWidth(line) > 79 {
		t.Errorf("got  %q (%d columns)\nwant %q", line, TextWidth(line), want)
	}
	out.Reset()
	p.Notef("row 3: no key")
	if !strings.HasPrefix(out.String(), "\r\x1b[Krow 3: no key\n\rload [") {
		t.Errorf("note tears the bar: %q", out)
	}
	out.Reset()
	p.Done()
	p.Done()
	p.Add(1)
	if out.String() != "\r\x1b[K" {
		t.Errorf("the bar stays: %q", out)
	}
}

func TestProgressNeverLeavesItsLine(t *testing.T) {
	for _, width := range []int{10, 20, 40, 60, 80, 200} {
		for _, total := range []int64{0, 1, 1 << 50} {
			for _, done := range []int64{0, 1, 1 << 49, 1 << 51} {
				p, _, now := testProgress("bar", total, "rows")
				p.width = width
				p.done = done
				*now = now.Add(100 * time.Hour)
				if n := TextWidth(p.line()); n >= width {
					t.Errorf("width %d, %d of %d: %d columns: %q", width, done, total, n, p.line())
				}
			}
		}
	}
}

func TestProgressJSON(t *testing.T) {
	p, out, now := testProgress("json", 100, "rows")
	*now = now.Add(2 * time.Second)
	p.Set(50)
	p.Set(60) // too early to tell again
	p.Done()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %q", out)
	}
	var e struct {
		Event, Label, Unit string
		Done, Total        int64
		PerSecond          float64 `json:"per_s"`
		Remaining          float64 `json:"eta_s"`
	}
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil {
		t.Fatal(err)
	}
	if e.Event != "progress" || e.Done != 50 || e.Total != 100 || e.PerSecond != 25 || e.Remaining != 2 {
		t.Errorf("got %s", lines[0])
	}
	if err := json.Unmarshal([]byte(lines[1]), &e); err != nil {
		t.Fatal(err)
	}
	if e.Event != "done" || e.Done != 60 {
		t.Errorf("got %s", lines[1])
	}
}

func TestNilProgress(t *testing.T) {
	var p *Progress
	p.Add(1)
	p.Set(1)
	p.SetTotal(1)
	p.Notef("x")
	p.Done()
}

func TestFormatETA(t *testing.T) {
	for seconds, want := range map[float64]string{4.2: "5s", 65: "1m05s", 7200: "2h00m", 0: "0s"} {
		if got := formatETA(seconds); got != want {
			t.Errorf("%v seconds are %s, want %s", seconds, got, want)
		}
	}
}
