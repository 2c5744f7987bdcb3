package main

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func TestStatSheet(t *testing.T) {
	sheet := func(m dyngo.Metrics) *statSheet {
		figures, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		s := &statSheet{}
		s.add("log_files", cli.CountCell(7))
		if err := s.flatten("", figures); err != nil {
			t.Fatal(err)
		}
		s.derive(&m)
		return s
	}
	s := sheet(dyngo.Metrics{LogFiles: 8, BytesPerLiveByte: 5.4303605743716, WriteDelay: 3 * time.Millisecond, DaysToFull: 12.3456,
		MemoryBudgetBytes: 1 << 20, HotRangeBytes: 4, RecordBytes: 5, ReaderBytes: 6})
	var names []string
	cells := map[string]any{}
	for i, c := range s.cols {
		if slices.Contains(names, c.Name) {
			t.Errorf("%s is there twice", c.Name)
		} else {
			cells[c.Name] = s.cells[i]
		}
		names = append(names, c.Name)
	}
	for name, want := range map[string]any{"log_files": cli.CountCell(7), "bytes_per_live_byte": 5.43, "write_delay_ns": cli.NsCell(3e6),
		"days_to_full": 12.346} {
		if cells[name] != want {
			t.Errorf("%s is %v (%T), want %v", name, cells[name], cells[name], want)
		}
	}
	// What takes the memory stands below it, without anything else in between.
	at := slices.Index(names, "memory_budget_bytes")
	want := []string{"memory_budget_bytes", "memory_used_bytes", "memory_used_percent", "tail_bytes", "index_bytes", "cache_bytes", "reader_bytes",
		"hot_range_bytes", "record_bytes", "off_heap_bytes"}
	if got := names[at:min(at+len(want), len(names))]; !slices.Equal(got, want) {
		t.Errorf("memory is told as %v, want %v", got, want)
	}
	if s := sheet(dyngo.Metrics{}); slices.ContainsFunc(s.cols, func(c cli.Column) bool { return c.Name == "days_to_full" }) {
		t.Error("days_to_full is told although nobody knows")
	}
}
