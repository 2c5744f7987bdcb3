package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show figures of the store",
		Long: `Show figures of the store: of the process that has it open and serves them
(source: live), else of what the files hold (source: files). Counters count
since that process opened the store. The memory budget is held by recent events,
their index, blocks of segments and open segments; unflushed events are what the
next open reads from the log. open_events are what this one has read, whole log
files.`,
		Example: `  dyngo-cli stats
  dyngo-cli stats -o json | jq .durable_lsn`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStats(cmd) },
	}
}

func runStats(cmd *cobra.Command) error {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	sheet := &statSheet{}
	figures, err := askOwner(cmd.Context(), dir, "stats", nil)
	switch {
	case err == nil:
		sheet.add("source", "live")
		sheet.add("dir", dir)
		if err := sheet.disk(dir); err != nil {
			return err
		}
		var m dyngo.Metrics
		if err := errors.Join(sheet.flatten("", figures), json.Unmarshal(figures, &m)); err != nil {
			return cli.Fail(cli.ExitUnavailable, "a dyngo-cli of the owner's version", "the figures are not understood: %w", err)
		}
		sheet.derive(&m)
		return sheet.show(cmd)
	case !errors.Is(err, errNotLive):
		return err
	}
	return fileStats(cmd, sheet)
}

// fileStats opens the store for reading and tells what it finds. Figures that the owner of a store
// has too bear the same names.
func fileStats(cmd *cobra.Command, sheet *statSheet) (err error) {
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	m, found := db.Metrics(), db.Recovery()
	sheet.add("source", "files")
	sheet.add("dir", cli.GlobalsOf(cmd).Dir)
	if err := sheet.disk(cli.GlobalsOf(cmd).Dir); err != nil {
		return err
	}
	sheet.add("lsn", m.LSN)
	sheet.add("durable_lsn", m.DurableLSN)
	sheet.add("datasets", cli.CountCell(m.Datasets))
	sheet.add("flushed_lsn", m.FlushedLSN)
	sheet.add("floor_lsn", m.FloorLSN)
	sheet.add("segments", cli.CountCell(m.Segments))
	sheet.add("runs", cli.CountCell(m.Runs))
	sheet.add("segment_bytes", cli.ByteCell(m.SegmentBytes))
	sheet.add("history_segments", cli.CountCell(m.HistorySegments))
	sheet.add("history_bytes", cli.ByteCell(m.HistoryBytes))
	sheet.add("value_files", cli.CountCell(m.ValueFiles))
	sheet.add("value_bytes", cli.ByteCell(m.ValueBytes))
	sheet.add("ttl_pending", cli.CountCell(m.TTLPending))
	sheet.add("closed", found.Clean)
	if t := found.TornTail; t != nil {
		sheet.add("torn_file", t.File)
		sheet.add("torn_offset", t.Offset)
		sheet.add("torn_bytes", cli.ByteCell(t.Bytes))
	}
	sheet.add("open_events", cli.CountCell(found.Events))
	sheet.add("open_ns", cli.NsCell(found.Duration))
	sheet.add("disk_free_bytes", cli.ByteCell(m.DiskFreeBytes))
	sheet.derive(&m)
	return sheet.show(cmd)
}

// statSheet is one row whose columns come from what there is to tell.
type statSheet struct {
	cols  []cli.Column
	cells []any
}

func (s *statSheet) add(name string, cell any) {
	col := cli.Column{Name: name}
	if _, ok := cell.(cli.NsCell); ok { // a table shows the unit with the number
		col.Title = strings.ToUpper(strings.ReplaceAll(strings.TrimSuffix(name, "_ns"), "_", " "))
	}
	s.cols = append(s.cols, col)
	s.cells = append(s.cells, cell)
}

// insert puts a figure behind the one named, if that is there.
func (s *statSheet) insert(behind, name string, cell any) {
	for i := range s.cols {
		if s.cols[i].Name == behind {
			s.cols = slices.Insert(s.cols, i+1, cli.Column{Name: name})
			s.cells = slices.Insert(s.cells, i+1, cell)
			return
		}
	}
}

// move puts a figure behind the one named, if both are there.
func (s *statSheet) move(behind, name string) {
	from, to := s.index(name), s.index(behind)
	if from < 0 || to < 0 {
		return
	}
	col, cell := s.cols[from], s.cells[from]
	s.cols, s.cells = slices.Delete(s.cols, from, from+1), slices.Delete(s.cells, from, from+1)
	to = s.index(behind) + 1
	s.cols, s.cells = slices.Insert(s.cols, to, col), slices.Insert(s.cells, to, cell)
}

// index is where a figure stands, -1 if it is not there.
func (s *statSheet) index(name string) int {
	return slices.IndexFunc(s.cols, func(c cli.Column) bool { return c.Name == name })
}

// statTitles are titles in tables that don't follow from the name; those of memory say who holds what of it.
var statTitles = map[string]string{
	"open_events":         "EVENTS READ BY OPEN",
	"memory_budget_bytes": "MEMORY BUDGET", "memory_used_bytes": "  USED", "memory_used_percent": "  USED %",
	"tail_bytes": "  BY RECENT EVENTS", "index_bytes": "  BY THEIR INDEX", "cache_bytes": "  BY BLOCKS OF SEGMENTS",
	"reader_bytes": "  BY OPEN SEGMENTS", "hot_range_bytes": "  BY HOT RANGES", "record_bytes": "  BY HOT RECORDS", "off_heap_bytes": "  OUTSIDE OF GO'S HEAP",
}

// derive adds figures that follow from others.
func (s *statSheet) derive(m *dyngo.Metrics) {
	s.insert("flushed_lsn", "unflushed_events", cli.CountCell(m.DurableLSN-min(m.FlushedLSN, m.DurableLSN)))
	if looks := m.CacheHits + m.CacheMisses; looks > 0 {
		s.insert("cache_misses", "cache_hit_percent", percentOf(m.CacheHits, looks))
	}
	if m.FlushedBytes > 0 {
		written := float64(m.FlushedBytes + m.CompactWrittenBytes)
		s.insert("compact_written_bytes", "written_per_flushed_byte", cli.Round3(written/float64(m.FlushedBytes)))
	}
	if used := m.TailBytes + m.IndexBytes + m.CacheBytes + m.ReaderBytes + m.HotRangeBytes + m.RecordBytes; m.MemoryBudgetBytes > 0 {
		s.insert("memory_budget_bytes", "memory_used_percent", percentOf(used, m.MemoryBudgetBytes))
		s.insert("memory_budget_bytes", "memory_used_bytes", cli.ByteCell(used))
	}
	s.move("reader_bytes", "record_bytes")
	s.move("reader_bytes", "hot_range_bytes")
	for i := range s.cols {
		if title, ok := statTitles[s.cols[i].Name]; ok {
			s.cols[i].Title = title
		}
	}
}

// percentOf is a part of a whole, which is not 0, with one decimal.
func percentOf(part, whole int64) float64 { return math.Round(1000*float64(part)/float64(whole)) / 10 }

func (s *statSheet) show(cmd *cobra.Command) error {
	r := cli.NewRenderer(cmd, cli.OneSheet, s.cols...)
	if err := r.Row(s.cells...); err != nil {
		return err
	}
	return r.Close()
}

// disk adds what the log takes on disk.
func (s *statSheet) disk(dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "wal"))
	if err != nil {
		return err
	}
	var files, size int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".log") {
			continue // a file that went while we looked is none of the store's any more
		}
		files++
		size += info.Size()
	}
	s.add("log_files", cli.CountCell(files))
	s.add("log_file_bytes", cli.ByteCell(size))
	return nil
}

// flatten adds the members of a JSON object in their order, those of objects inside under both names.
func (s *statSheet) flatten(prefix string, object json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%.40q is not a JSON object", object)
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		name := prefix + snakeCase(t.(string)) // in an object the token before a value is its name
		if value[0] == '{' {
			if err := s.flatten(name+"_", value); err != nil {
				return err
			}
			continue
		}
		switch {
		case name == "write_delay": // a time.Duration, which JSON has as a number
			name += "_ns"
		case name == "days_to_full" && string(value) == "0", s.index(name) >= 0: // not known, or told already
			continue
		}
		s.add(name, statCell(name, value))
	}
	return nil
}

// statCell gives a number the type that its name says.
func statCell(name string, value json.RawMessage) any {
	var n int64
	var f float64
	var text string
	switch {
	case json.Unmarshal(value, &n) == nil:
		switch {
		case strings.Contains(name, "bytes"):
			return cli.ByteCell(n)
		case strings.HasSuffix(name, "_ns"):
			return cli.NsCell(n)
		case strings.HasSuffix(name, "lsn") || strings.HasSuffix(name, "view"):
			return n
		}
		return cli.CountCell(n)
	case json.Unmarshal(value, &f) == nil:
		return cli.Round3(f)
	case json.Unmarshal(value, &text) == nil:
		return text
	}
	return value
}

// snakeCase turns a Go name into one for JSON: DurableLSN becomes durable_lsn.
func snakeCase(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			prevLower := !unicode.IsUpper(runes[i-1]) && runes[i-1] != '_'
			nextLower := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if prevLower || nextLower && unicode.IsUpper(runes[i-1]) {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
