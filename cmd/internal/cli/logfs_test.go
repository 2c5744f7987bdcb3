package cli

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// A store over log files that lie elsewhere may write again what they hold, and nothing else.
func TestLogFilesElsewhereStayAsTheyAre(t *testing.T) {
	mem, name := vfs.NewMem(), wal.FileName(1, 1)
	if err := errors.Join(mem.MkdirAll("/archive"), vfs.WriteFileSync(mem, "/archive/"+name, []byte("frames"))); err != nil {
		t.Fatal(err)
	}
	fsys := newLogFS(t.Context(), mem, "/wal", logLayer{fs: mem, dir: "/archive"})
	f, err := fsys.OpenRW("/wal/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(vfs.WriteAgain(f, 0, 0), f.SyncData()); err != nil {
		t.Errorf("what is there: %v", err)
	}
	for _, tc := range []struct {
		text string
		at   int64
	}{{"Frames", 0}, {"ex", 4}, {"ss", 5}, {"s\x00", 5}, {"\x00", 6}} {
		if _, err := f.WriteAt([]byte(tc.text), tc.at); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%q at %d: %v", tc.text, tc.at, err)
		}
	}
	if _, err := fsys.OpenRW("/wal/other"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another file: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := mem.ReadFile("/archive/"+name, 100); string(b) != "frames" || err != nil {
		t.Errorf("the file holds %q, %v", b, err)
	}
}
