package sample

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	for name, want := range map[string]int{Earthquakes: 1219853, Football: 1207180, Weather: 311148} {
		b, err := Read(name)
		if err != nil || len(b) != want {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(b), err, want)
		}
	}
	if _, err := Read("none"); err == nil {
		t.Error("a file that is not there was read")
	}
}

var dataFolder = flag.String("data", "", "folder of the whole data files, for TestUnchanged")

// The embedded files are those of the source.
func TestUnchanged(t *testing.T) {
	dir := *dataFolder
	if dir == "" {
		t.Skip("needs the whole data files: run with -data FOLDER")
	}
	for _, name := range []string{Earthquakes, Football, Weather} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from the source: %v", name, err)
		}
	}
}
