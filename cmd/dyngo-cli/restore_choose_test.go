package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// storeToBackUp has a dataset d, and backups in a folder beside it.
type storeToBackUp struct {
	t      *testing.T
	db     *dyngo.DB
	ds     *dyngo.Dataset
	folder string
	made   int
}

func newStoreToBackUp(t *testing.T) *storeToBackUp {
	t.Helper()
	s := &storeToBackUp{t: t, folder: filepath.Join(t.TempDir(), "backups-of-it")}
	var err error
	if s.db, err = dyngo.Open(filepath.Join(t.TempDir(), "store"), nil); err == nil {
		s.ds, err = s.db.CreateDataset("d", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	return s
}

// put puts one key n times.
func (s *storeToBackUp) put(n int) dyngo.LSN {
	s.t.Helper()
	for i := range n {
		if _, err := s.ds.Put([]byte("k"), fmt.Append(nil, i)); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.db.DurableLSN()
}

func (s *storeToBackUp) backUp() backup.Made {
	s.t.Helper()
	info, err := s.db.Snapshot(context.Background(), "backup")
	if err != nil {
		s.t.Fatal(err)
	}
	s.made++
	made, err := backup.Create(context.Background(), backup.NewDir(vfs.OS, s.folder), vfs.OS, info.Dir, time.Unix(int64(s.made), 0), nil)
	if err := errors.Join(err, s.db.DropSnapshot("backup")); err != nil {
		s.t.Fatal(err)
	}
	return made
}

// choose is what a restore from the backups would use, and what it says beside.
func (s *storeToBackUp) choose(w wanted) (*backup.Backup, string, error) {
	cmd := &cobra.Command{}
	cmd.SetContext(context.Background())
	var told bytes.Buffer
	cmd.SetErr(&told)
	c := chooser{cmd: cmd, folder: s.folder, want: w}
	b, err := c.choose("")
	return b, told.String(), err
}

func atLSN(lsn dyngo.LSN) wanted { return wanted{target: dyngo.AtLSN(lsn), from: lsn, to: lsn} }

// A restore takes the backup that was made last before the state, since less is to be replayed; one that was made later serves states
// that no other has. What none has is refused, with the window, and a damaged one is passed over and named.
func TestChooseBackup(t *testing.T) {
	s := newStoreToBackUp(t)
	early := s.put(5)
	one := s.backUp()
	s.put(5)
	if err := s.db.Flush(context.Background()); err != nil { // its segments go beyond the first one
		t.Fatal(err)
	}
	two := s.backUp()
	between := s.put(5)
	named, err := s.db.Snapshot(context.Background(), "named")
	if err != nil {
		t.Fatal(err)
	}
	s.put(5)
	three := s.backUp()
	beyond := s.put(1)
	for _, tc := range []struct {
		what string
		want wanted
		id   string
	}{
		{"the end", wanted{target: dyngo.AtEnd()}, three.ID},
		{"before all", atLSN(early - 1), one.ID},
		{"that of a backup", atLSN(two.LSN), two.ID},
		{"between two: its log goes on in the next", atLSN(between), two.ID},
		{"a time between two", wanted{target: dyngo.AtTime(one.Time), time: one.Time}, one.ID},
		{"a snapshot, which only the log knows", wanted{target: dyngo.AtSnapshot("named"), named: true}, three.ID},
	} {
		b, told, err := s.choose(tc.want)
		if err != nil || b.ID != tc.id || told != "" {
			t.Errorf("%s: %+v, %q, %v, want %s", tc.what, b, told, err, tc.id)
		}
	}
	if p, err := dyngo.PlanRestore(t.Context(), ".", dyngo.AtSnapshot("named"), &dyngo.RestoreOptions{From: s.view(three.ID)}); err != nil || p.LSN != named.LSN {
		t.Errorf("the snapshot of LSN %d is planned as %d, %v", named.LSN, p.LSN, err)
	}
	for what, w := range map[string]wanted{
		"an LSN that no backup has": atLSN(beyond),
		"a time after all":          {target: dyngo.AtTime(three.Time.Add(time.Hour)), time: three.Time.Add(time.Hour)},
	} {
		if _, _, err := s.choose(w); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the window is LSN 0 to %d, until ", three.LSN)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := s.choose(wanted{target: dyngo.AtSnapshot("none"), named: true}); !errors.Is(err, dyngo.ErrNoSnapshot) {
		t.Errorf("a snapshot that never was: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(s.folder, "backups", three.ID+"-*"))
	if err == nil {
		err = os.Truncate(names[0], 10)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, told, err := s.choose(wanted{target: dyngo.AtEnd()})
	if err != nil || b.ID != two.ID || !strings.Contains(told, "passed over") || !strings.Contains(told, three.ID) {
		t.Errorf("the newest is cut off: %+v, %q, %v", b, told, err)
	}
}

func (s *storeToBackUp) view(id string) vfs.FS {
	s.t.Helper()
	to := backup.NewDir(vfs.OS, s.folder)
	b, err := backup.Find(s.t.Context(), to, id)
	if err != nil {
		s.t.Fatal(err)
	}
	return backup.FS(s.t.Context(), to, &b)
}

// A gap is named with its ends, and with the backups at them.
func TestWindowNamesGaps(t *testing.T) {
	at := time.Unix(1700000000, 0)
	list := []backup.Backup{
		{ID: "a", Log: "1", Timeline: "1", LSN: 10, Time: at},
		{ID: "b", Log: "1", Timeline: "1", Floor: 5, LSN: 20, Time: at.Add(time.Minute)},
		{ID: "c", Log: "1", Timeline: "1", Floor: 31, LSN: 40, Time: at.Add(time.Hour)},
	}
	const want = "the window is LSN 0 to 20, until 2023-11-14T22:14:20Z, and LSN 31 to 40, until 2023-11-14T23:13:20Z; " +
		"LSN 21 to 30, between the backups b and c, are a gap"
	if got := window(list); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := window(slices.Clone(list[:1])); got != "the window is LSN 0 to 10, until 2023-11-14T22:13:20Z" {
		t.Error(got)
	}
}

// Where all of the log is applied, it is copied meanwhile: the longer of the two counts. What lies in segments is copied first, and of a
// log that is applied in part, all.
func TestRestoreTime(t *testing.T) {
	log := func(mb int64) dyngo.RestoreFile {
		return dyngo.RestoreFile{Name: "wal/x.log", Bytes: mb * 1e6, Use: "copy"}
	}
	other := func(use string, mb int64) dyngo.RestoreFile {
		return dyngo.RestoreFile{Name: "segments/x.seg", Bytes: mb * 1e6, Use: use}
	}
	for _, c := range []struct {
		what   string
		files  []dyngo.RestoreFile
		replay int64 // MB
		want   time.Duration
	}{
		{"nothing is applied", []dyngo.RestoreFile{log(600), other("copy", 300)}, 0, 3 * time.Second},
		{"some is applied", []dyngo.RestoreFile{log(300), log(300), other("copy", 300)}, 300, 6 * time.Second},
		{"all is applied", []dyngo.RestoreFile{log(300), log(300)}, 600, 6 * time.Second},
		{"all is applied, value files are copied", []dyngo.RestoreFile{log(300), other("base", 900), other("copy", 300)}, 300, 4 * time.Second},
		{"nothing", nil, 0, 0},
	} {
		p := dyngo.RestorePlan{Files: c.files, ReplayBytes: c.replay * 1e6}
		for _, f := range c.files {
			if f.Use != "base" {
				p.Bytes += f.Bytes
			}
		}
		if got := restoreTime(&p).Round(time.Millisecond); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
