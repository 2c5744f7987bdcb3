package manifest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

var update = flag.Bool("update", false, "write the golden files of the manifest's format anew")

// goldenDir holds the files of format version 1. Each folder in it is a manifest, and NAME.txt says what a reader finds
// in it. They are never changed: what a released version wrote every later one reads. A new kind of content gets a
// folder of its own.
const goldenDir = "../testdata/format1/manifest"

// golden builds the files, deterministically.
var golden = map[string]func(t *testing.T, fsys vfs.FS){
	"every":   goldenEvery,
	"future":  goldenFuture,
	"history": goldenHistory,
	"moved":   goldenMoved,
	"plain":   goldenPlain,
	"torn":    goldenTorn,
}

func TestGoldenFiles(t *testing.T) {
	for name, build := range golden {
		t.Run(name, func(t *testing.T) {
			mem := newFS(t, vfs.NewMem())
			build(t, mem)
			dir, list := filepath.Join(goldenDir, name), filepath.Join(goldenDir, name+".txt")
			if *update {
				must(t, os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
			}
			names, err := mem.List(testDir)
			must(t, err)
			for _, n := range names {
				got, err := mem.ReadFile(testDir+"/"+n, maxFileBytes)
				must(t, err)
				if *update {
					must(t, os.WriteFile(filepath.Join(dir, n), got, 0o644))
				}
				want, err := os.ReadFile(filepath.Join(dir, n))
				must(t, err)
				if !bytes.Equal(got, want) {
					t.Errorf("%s is built differently today", n)
				}
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(names) {
				t.Errorf("%d files, %d are built today: %v", len(entries), len(names), err)
			}
			got := listing(t, filepath.ToSlash(dir))
			if *update {
				must(t, os.WriteFile(list, []byte(got), 0o644))
			}
			want, err := os.ReadFile(list)
			must(t, err)
			if got != string(want) {
				t.Fatalf("%s reads as\n%s\nwant\n%s", dir, got, want)
			}
		})
	}
}

// listing tells all that is in a manifest.
func listing(t *testing.T, dir string) string {
	t.Helper()
	f, nums, err := load(vfs.OS, dir, false)
	must(t, err)
	var out strings.Builder
	h := &f.head
	fmt.Fprintf(&out, "files %d; file %d of log %x, created %d\n", nums, h.num, h.logID, h.created)
	fmt.Fprintf(&out, "  features %x %x %x, salt %x, hash seed %x\n", h.compat, h.roCompat, h.incompat, h.salt, h.seed)
	b, err := vfs.OS.ReadFile(dir+"/"+fileName(h.num), maxFileBytes)
	must(t, err, h.eachRecord(b, func(r *record) error {
		fmt.Fprintf(&out, "%d %s, %d edits, %d bytes\n", r.offset, r.kind, r.edits, len(r.body))
		if r.kind == kindMark {
			return nil
		}
		e, err := parseEdit(r.body, r.kind)
		if err != nil {
			return err
		}
		listEdit(&out, e)
		return nil
	}))
	fmt.Fprintf(&out, "ends at %d, marked %t, %d bytes cut\n%s", f.tail.End, f.tail.Marked, f.tail.CutBytes, f.version)
	return out.String()
}

func listEdit(out *strings.Builder, e *Edit) {
	for _, s := range e.Add {
		listSegment(out, "add", s)
	}
	for _, d := range e.damaged {
		listSegment(out, fmt.Sprintf("set aside before (%s)", d.Reason), d.Segment)
	}
	for _, f := range e.AddValues {
		fmt.Fprintf(out, "  add values %s: log files %d to %d, %d bytes, SHA-256 %x, parts %x\n", f.Num, f.From, f.To,
			f.SizeBytes, f.SHA256, f.extra)
	}
	for _, s := range e.AddHistory {
		listSegment(out, "add history", s)
	}
	if len(e.RemoveHistory) > 0 {
		fmt.Fprintf(out, "  remove history %d\n", e.RemoveHistory)
	}
	fmt.Fprintf(out, "  remove %d, set aside %+v, remove values %d\n", e.Remove, e.SetAside, e.RemoveValues)
	if e.FlushedLSN != nil {
		fmt.Fprintf(out, "  flushed LSN %d\n", *e.FlushedLSN)
	}
	if e.FloorLSN != nil {
		fmt.Fprintf(out, "  floor LSN %d\n", *e.FloorLSN)
	}
	fmt.Fprintf(out, "  oldest log file %d, next file %d, next run %d, reason %q\n", e.OldestLog, e.NextFile, e.NextRun,
		e.Reason)
}

func listSegment(out *strings.Builder, what string, s *Segment) {
	fmt.Fprintf(out, "  %s %s\n    raw %d, refers to %d, %d record times, %d expiries from %d to %d, ", what, s,
		s.RawBytes, s.RefBytes, s.RecordTimes, s.Dues, s.MinDue, s.MaxDue)
	fmt.Fprintf(out, "time %d to %d, created %d\n    SHA-256 %x, parts %x\n", s.MinTime, s.MaxTime, s.CreatedAt, s.SHA256,
		s.extra)
}

// goldenPlain is a manifest as today's engine writes it: two flushes and a merge, closed.
func goldenPlain(t *testing.T, fsys vfs.FS) {
	s := mustStart(t, fsys, testOptions())
	run := s.NewRunID()
	must(t, s.Apply(flushed(seg(s.NewFileNum(), run, "a", "m", 1, 10), seg(s.NewFileNum(), run, "n", "z", 2, 9))))
	must(t, s.Apply(flushed(seg(s.NewFileNum(), s.NewRunID(), "c", "d", 11, 20))))
	must(t, s.Apply(&Edit{Add: []*Segment{seg(s.NewFileNum(), run, "a", "m", 1, 20)}, Remove: []FileNum{1, 3},
		Reason: "merge"}))
	must(t, s.Close())
}

// goldenMoved has an edit that moves a segment to an older run.
func goldenMoved(t *testing.T, fsys vfs.FS) {
	s := mustStart(t, fsys, testOptions())
	addOne(t, s, "a")
	b := addOne(t, s, "b")
	moved := *s.Current().Segment(b)
	moved.Run = 1
	must(t, s.Apply(&Edit{Remove: []FileNum{b}, Add: []*Segment{&moved}}), s.Close())
}

// goldenEvery is a snapshot with every field of snapshots, and an edit with every field of edits.
func goldenEvery(t *testing.T, fsys vfs.FS) {
	o := testOptions()
	s := mustStart(t, fsys, o)
	first := &Edit{FlushedLSN: lsn(20), NextFile: 302, NextRun: 3, OldestLog: 2,
		Add: []*Segment{seg(1, 1, "a", "m", 1, 10), seg(2, 1, "", "", 2, 9), seg(3, 2, "b", "c", 11, 15),
			seg(4, 2, "d", "f", 12, 20), seg(300, 2, "g", "h", 12, 20), seg(301, 2, "i", "j", 12, 20)},
		AddValues: []*ValueFile{{Num: 5, From: 1, To: 1, SizeBytes: 70000, SHA256: [32]byte{5}}}}
	aside := &Edit{SetAside: []SetAside{{301, "block at 4096: crc 00000001, want 00000002"}}}
	must(t, s.Apply(first), s.Apply(aside), s.Close())
	o.random = &countingReader{next: 100}
	s = mustStart(t, fsys, o)
	e := fullEdit()
	e.AddHistory, e.RemoveHistory = nil, nil // see goldenHistory
	e.NextFile, e.Add[0].Num, e.Add[1].Num, e.AddValues[0].Num, e.AddValues[1].Num = 306, 302, 303, 304, 305
	must(t, s.Apply(e), s.Close())
}

// goldenHistory is a manifest with history segments, in a snapshot and in an edit.
func goldenHistory(t *testing.T, fsys vfs.FS) {
	o := testOptions()
	s := mustStart(t, fsys, o)
	must(t, s.Apply(flushed(seg(s.NewFileNum(), s.NewRunID(), "a", "m", 1, 10))))
	must(t, s.Apply(&Edit{FloorLSN: lsn(5), OldestLog: 2, AddHistory: []*Segment{seg(s.NewFileNum(), s.NewRunID(), "b", "c", 2, 3),
		seg(s.NewFileNum(), s.NewRunID(), "", "", 5, 5)}}), s.Close())
	o.random = &countingReader{next: 100}
	s = mustStart(t, fsys, o)
	must(t, s.Apply(&Edit{FloorLSN: lsn(9), OldestLog: 3, AddHistory: []*Segment{seg(s.NewFileNum(), s.NewRunID(), "b", "d", 3, 9)},
		RemoveHistory: []FileNum{2}, Reason: "retention"}), s.Close())
}

// goldenFuture is a manifest with what a later minor version may add and this one passes over: a feature bit, a field
// in a snapshot and in an edit, and parts of a segment and a value file.
func goldenFuture(t *testing.T, fsys vfs.FS) {
	h := header{logID: testLog, num: 1, compat: 1 << 63, salt: [32]byte{1}, seed: [16]byte{2}, created: testTime}
	head := h.encode()
	field := func(b []byte, e *Edit) []byte { return append(appendEdit(b, e), 13<<1, 3, 'n', 'e', 'w', 14<<1, 0) }
	v := mustApply(t, &Version{}, flushed(seg(1, 1, "a", "m", 1, 10)))
	b := h.appendRecord(head[:], kindSnapshot, 1, func(b []byte) []byte { return field(b, v.Whole()) }, headerSize)
	s := seg(2, 2, "b", "c", 11, 15)
	s.extra = []byte{1 << 1, 3, 'n', 'e', 'w'}
	e := flushed(s)
	e.NextFile = 4
	e.AddValues = []*ValueFile{{Num: 3, From: 1, To: 1, extra: []byte{7 << 1, 0}}}
	b = h.appendRecord(b, kindEdit, 2, func(b []byte) []byte { return field(b, e) }, int64(len(b)))
	must(t, fsys.MkdirAll(testDir))
	f, err := fsys.Create(testDir + "/" + fileName(1))
	must(t, err)
	_, err = f.WriteAt(b, 0)
	must(t, err, f.Close())
}

// goldenTorn is what a crash left while an edit was written, with a file that was not removed and one without a name.
func goldenTorn(t *testing.T, fsys vfs.FS) {
	goldenPlain(t, fsys)
	must(t, fsys.Link(testDir+"/"+fileName(1), testDir+"/old"))
	o := testOptions()
	o.random = &countingReader{next: 100}
	s := mustStart(t, fsys, o)
	addOne(t, s, "x")
	end := s.mu.end
	addOne(t, s, "y")
	b := content(t, fsys, 2)[:end+90]
	overwrite(t, fsys, testDir+"/"+fileName(2), append(b, make([]byte, 20)...))
	must(t, fsys.Rename(testDir+"/old", testDir+"/"+fileName(1)))
	f, err := fsys.Create(testDir + "/" + newFileName)
	must(t, err, f.Close())
}
