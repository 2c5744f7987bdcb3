package backup

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// slow is content of which the second half is read when it is let go.
type slow struct {
	io.ReaderAt
	begun, goOn chan struct{}
}

func newSlow(content string) *slow {
	return &slow{strings.NewReader(content), make(chan struct{}), make(chan struct{})}
}

func (s *slow) ReadAt(b []byte, off int64) (int, error) {
	if off > 0 {
		close(s.begun)
		<-s.goOn
	}
	return s.ReaderAt.ReadAt(b, off)
}

// Two that put one object at once: at each moment it is whole or not there, whoever is first, and nothing is left beside it.
func TestPutAtOnce(t *testing.T) {
	mem := vfs.NewMem()
	content := strings.Repeat("x", 2*copyStep)
	const name = "files/ab/abc"
	put := func(s *slow) chan error {
		done := make(chan error, 1)
		go func() { done <- NewDir(mem, "/b").Put(t.Context(), name, s, int64(len(content))) }()
		<-s.begun
		return done
	}
	one, two := newSlow(content), newSlow(content)
	firstDone := put(one)
	secondDone := put(two)
	close(one.goOn)
	first := <-firstDone
	there, err := mem.ReadFile("/b/"+name, 1<<20)
	if first != nil || err != nil || string(there) != content {
		t.Errorf("the first is done, %v, and %d bytes are there, %v", first, len(there), err)
	}
	close(two.goOn)
	if second := <-secondDone; second != nil && !errors.Is(second, fs.ErrExist) {
		t.Errorf("the second: %v", second)
	}
	names, err := mem.List("/b/files/ab")
	if err != nil || !slices.Equal(names, []string{"abc"}) {
		t.Errorf("%q, %v", names, err)
	}
}

// What an interrupted Put has left goes with the one that succeeds.
func TestPutTidiesUp(t *testing.T) {
	crash := vfs.NewCrash(1)
	content := strings.Repeat("x", 2*copyStep)
	s := newSlow(content)
	done := make(chan error, 1)
	go func() { done <- NewDir(crash, "/b").Put(t.Context(), "a/b", s, int64(len(content))) }()
	<-s.begun
	left := crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepAll})
	close(s.goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if names, err := left.List("/b/a"); err != nil || len(names) != 1 || names[0] == "b" {
		t.Fatalf("power failed before the object was there, and left %q, %v", names, err)
	}
	err := NewDir(left, "/b").Put(t.Context(), "a/b", strings.NewReader(content), int64(len(content)))
	if names, lerr := left.List("/b/a"); err != nil || lerr != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("%q, %v, %v", names, err, lerr)
	}
}

// changing is a file system in which something happens after the first list of a folder.
type changing struct {
	vfs.FS
	folder string
	change func()
}

func (c *changing) List(dir string) ([]string, error) {
	names, err := c.FS.List(dir)
	if dir == c.folder && c.change != nil {
		c.change()
		c.change = nil
	}
	return names, err
}

// Who puts parts together beside a list takes away what was listed: the list has what is there instead.
func TestListBesideJoin(t *testing.T) {
	mem := vfs.NewMem()
	d := NewDir(mem, "/b")
	put := func(name string) {
		if err := d.Put(t.Context(), name, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	put("log/file/1")
	put("log/file/2")
	beside := &changing{mem, "/b/log/file", func() {
		put("log/file/1-2")
		if err := errors.Join(d.Delete(t.Context(), "log/file/1"), d.Delete(t.Context(), "log/file/2")); err != nil {
			t.Fatal(err)
		}
	}}
	list, err := NewDir(beside, "/b").List(t.Context(), "log/")
	if err != nil || !slices.Equal(list, []Entry{{"log/file/1-2", 1}}) {
		t.Errorf("%v, %v", list, err)
	}
}
