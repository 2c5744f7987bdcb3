package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/recovery"
	"github.com/dyngodb/dyngo/wal"
)

// TestDoctorFinds gives the doctor a store with one thing wrong at a time.
func TestDoctorFinds(t *testing.T) {
	segment := dyngo.LevelSegment{File: "segments/0000000001.seg", SizeBytes: 1 << 20, Entries: 2000, Keys: 2000}
	runs := func(n int, s dyngo.LevelSegment) (l dyngo.Levels) {
		for range n {
			l.Runs = append(l.Runs, dyngo.LevelRun{Segments: []dyngo.LevelSegment{s}})
		}
		return l
	}
	damaged, deleted := segment, segment
	damaged.Damage, deleted.Tombstones = "crc", 1500
	torn := &dyngo.RecoveryReport{}
	torn.TornTail = &recovery.TornTail{File: "wal/1.log", Offset: 7, Bytes: 9, Doubt: "Doubt."}
	for _, c := range []struct {
		name  string
		p     patient
		want  severity // note + 1 = nothing is found
		topic string
		what  string // part
	}{
		{"nothing", patient{live: true, found: runs(3, segment), m: dyngo.Metrics{MemoryBudgetBytes: 256 << 20}, memory: 4 << 30}, note + 1, "", ""},
		{"a log that failed", patient{live: true, m: dyngo.Metrics{Log: wal.LogMetrics{Failed: true}}}, urgent, "log", "nothing more is acknowledged"},
		{"a full disk", patient{live: true, m: dyngo.Metrics{Log: wal.LogMetrics{DiskFull: true}}}, urgent, "disk", "writes wait"},
		{"failed flushes", patient{live: true, m: dyngo.Metrics{FlushErrors: 2}}, warning, "flush", "2 flushes failed"},
		{"failed merges", patient{live: true, m: dyngo.Metrics{CompactionErrors: 2}}, warning, "compaction", "2 merges"},
		{"an old view", patient{live: true, m: dyngo.Metrics{OpenViews: 1, OldestView: 5, DurableLSN: 2_000_005}}, warning, "views", "2,000,000 events ago"},
		{"a young view", patient{live: true, m: dyngo.Metrics{OpenViews: 1, OldestView: 5, DurableLSN: 2005}}, note + 1, "", ""},
		{"a large budget", patient{live: true, m: dyngo.Metrics{MemoryBudgetBytes: 3 << 30}, memory: 4 << 30}, warning, "memory", "MemoryBudget is 3.0 GiB"},
		{"a memory not known", patient{live: true, m: dyngo.Metrics{MemoryBudgetBytes: 3 << 30}}, note + 1, "", ""},
		{"memory over the budget", patient{live: true, m: dyngo.Metrics{MemoryBudgetBytes: 1 << 20, TailBytes: 2 << 20}}, warning, "memory", "2.0 MiB of memory are used"},
		{"many runs", patient{found: runs(20, segment)}, warning, "runs", "20 runs"},
		{"a damaged segment", patient{found: runs(1, damaged)}, urgent, "damage", "segments/0000000001.seg is damaged"},
		{"many deletes", patient{found: runs(1, deleted)}, warning, "deletes", "more than half"},
		{"a slow open", patient{report: &dyngo.RecoveryReport{Duration: time.Minute, Bytes: 1 << 30}}, warning, "open", "takes 1m0s: it reads 1.0 GiB"},
		{"a torn tail", patient{report: torn}, note, "crash", "wal/1.log ends at offset 7 with an incomplete write of 9 B"},
		{"a torn tail while somebody writes", patient{report: torn, owner: 1}, note + 1, "", ""},
		{"a damaged log", patient{report: &dyngo.RecoveryReport{Damage: &dyngo.CorruptionError{File: "wal/1.log", What: "crc"}}}, urgent, "damage", "wal/1.log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.p
			p.ctx, p.dir = context.Background(), t.TempDir()
			p.checkLog()
			p.checkService()
			p.checkMemory()
			p.checkSegments()
			if c.want > note {
				if len(p.findings) > 0 {
					t.Errorf("found %+v", p.findings)
				}
				return
			}
			if len(p.findings) != 1 {
				t.Fatalf("found %+v", p.findings)
			}
			if f := p.findings[0]; f.severity != c.want || f.topic != c.topic || !strings.Contains(f.what, c.what) || !strings.HasSuffix(f.what, ".") {
				t.Errorf("found %v, %s: %s", f.severity, f.topic, f.what)
			}
		})
	}
}

// The clock is set back: the doctor says by how much.
func TestDoctorClock(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, "-d", dir, "put", "d", "k", "v")
	p := newPatient(context.Background(), dir)
	if p.checkClock(); len(p.findings) > 0 {
		t.Errorf("found %+v", p.findings)
	}
	p.now = p.now.Add(-3 * time.Hour)
	if p.checkClock(); len(p.findings) != 1 || p.findings[0].topic != "clock" || !strings.Contains(p.findings[0].what, "h0m0s behind") &&
		!strings.Contains(p.findings[0].what, "59m") {
		t.Errorf("found %+v", p.findings)
	}
}

// The log grew by what it holds in two hours.
func TestDoctorDaysToFull(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, "-d", dir, "put", "d", "k", "v")
	p := newPatient(context.Background(), dir)
	if _, known := p.daysToFull(1 << 30); known {
		t.Error("a rate is known of a store that was just made")
	}
	p.now = p.now.Add(2 * time.Hour)
	names, err := filepath.Glob(filepath.Join(dir, "wal", "*.log"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	info, err := os.Stat(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if days, known := p.daysToFull(12 * info.Size()); !known || days < 0.99 || days > 1.01 {
		t.Errorf("%v days, %v, want 1", days, known)
	}
}

func TestWrapText(t *testing.T) {
	if got := wrapText("one two  three four", 9, "  "); got != "one two\n  three\n  four" {
		t.Errorf("%q", got)
	}
}

func TestSentence(t *testing.T) {
	if got := sentence(errors.New("dyngo: it broke")); got != "it broke." {
		t.Errorf("%q", got)
	}
}
