package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// eachFS runs a test on every file system, in an empty directory that the test gets.
func eachFS(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, OS, filepath.ToSlash(t.TempDir())) })
	t.Run("mem", func(t *testing.T) { test(t, NewMem(), "/") })
	t.Run("crash", func(t *testing.T) { test(t, NewCrash(1), "data") })
	t.Run("fault", func(t *testing.T) { test(t, NewFault(NewMem()), "data") })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// put creates a file with the content given, unsynced, and leaves it open.
func put(t *testing.T, fsys FS, name, content string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	write(t, f, 0, content)
	return f
}

func write(t *testing.T, f File, off int64, s string) {
	t.Helper()
	n, err := f.WriteAt([]byte(s), off)
	if err != nil || n != len(s) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(s), err)
	}
}

func mustRead(t *testing.T, fsys FS, name, want string) {
	t.Helper()
	b, err := fsys.ReadFile(name, 1<<24)
	must(t, err)
	if string(b) != want {
		t.Fatalf("%s holds %q, want %q", name, b, want)
	}
}

func mustList(t *testing.T, fsys FS, dir string, want ...string) {
	t.Helper()
	got, err := fsys.List(dir)
	must(t, err)
	if !slices.Equal(got, want) {
		t.Fatalf("%s lists %q, want %q", dir, got, want)
	}
}

func TestFiles(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		name := path.Join(dir, "f")

		_, err := fsys.Open(name)
		mustErr(t, err, fs.ErrNotExist)
		_, err = fsys.OpenRW(name)
		mustErr(t, err, fs.ErrNotExist)
		mustList(t, fsys, dir) // opening has created nothing

		f := put(t, fsys, name, "hello")
		_, err = fsys.Create(name)
		mustErr(t, err, fs.ErrExist)
		write(t, f, 8, "world")
		mustRead(t, fsys, name, "hello\x00\x00\x00world")

		b := make([]byte, 10)
		n, err := f.ReadAt(b, 8)
		if n != 5 || err != io.EOF {
			t.Fatalf("read past the end: %d, %v", n, err)
		}
		n, err = f.ReadAt(b[:0], 100)
		if n != 0 || err != nil {
			t.Fatalf("read of nothing: %d, %v", n, err)
		}

		must(t, f.Truncate(3))
		must(t, f.Truncate(6))
		mustRead(t, fsys, name, "hel\x00\x00\x00")
		size, err := f.Size()
		if size != 6 || err != nil {
			t.Fatalf("size %d, %v", size, err)
		}
		must(t, f.Sync())
		must(t, f.SyncData())
		must(t, fsys.SyncDir(dir))

		r, err := fsys.Open(name)
		must(t, err)
		if _, err := r.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("wrote to a file opened for reading")
		}
		must(t, r.Close())
		must(t, f.Close())
		if _, err := f.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("read after close: %v", err)
		}

		rw, err := fsys.OpenRW(name)
		must(t, err)
		write(t, rw, 0, "HEL")
		must(t, rw.Close())
		mustRead(t, fsys, name, "HEL\x00\x00\x00")

		_, err = fsys.ReadFile(name, 5)
		mustErr(t, err, ErrTooLarge)
		if info, err := fsys.Stat(name); err != nil || info != (Info{Size: 6}) {
			t.Fatalf("stat of a file: %+v, %v", info, err)
		}
		if info, err := fsys.Stat(dir); err != nil || info != (Info{Dir: true}) {
			t.Fatalf("stat of a directory: %+v, %v", info, err)
		}
		if available, total, err := fsys.Free(dir); err != nil || available <= 0 || total < available {
			t.Fatalf("free: %d of %d, %v", available, total, err)
		}
	})
}

func TestNames(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		sub := path.Join(dir, "a/b")
		must(t, fsys.MkdirAll(sub))
		must(t, fsys.MkdirAll(sub))
		x, y, z := path.Join(sub, "x"), path.Join(sub, "y"), path.Join(dir, "z")
		must(t, put(t, fsys, x, "1").Close())
		must(t, put(t, fsys, y, "2").Close())

		mustErr(t, fsys.Link(x, y), fs.ErrExist)
		must(t, fsys.Link(x, z))
		must(t, fsys.Rename(x, y)) // over an existing file, across the link
		mustList(t, fsys, sub, "y")
		mustRead(t, fsys, y, "1")
		f, err := fsys.OpenRW(y)
		must(t, err)
		write(t, f, 0, "3")
		must(t, f.Close())
		mustRead(t, fsys, z, "3") // one file, two names

		if err := fsys.Remove(sub); err == nil {
			t.Fatal("removed a directory that is not empty")
		}
		must(t, fsys.Rename(y, path.Join(dir, "w")))
		mustList(t, fsys, dir, "a", "w", "z")
		must(t, fsys.Remove(sub))
		mustErr(t, fsys.Remove(sub), fs.ErrNotExist)
		mustErr(t, fsys.Rename(sub, x), fs.ErrNotExist)
		mustErr(t, fsys.Link(sub, x), fs.ErrNotExist)
		_, err = fsys.List(sub)
		mustErr(t, err, fs.ErrNotExist)
		_, err = fsys.Create(path.Join(sub, "x"))
		mustErr(t, err, fs.ErrNotExist)
		mustErr(t, fsys.SyncDir(sub), fs.ErrNotExist)
		if err := fsys.MkdirAll(path.Join(z, "dir")); err == nil {
			t.Fatal("made a directory in a file")
		}
	})
}

func TestOpenFileOutlivesItsName(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		name := path.Join(dir, "f")
		f := put(t, fsys, name, "kept")
		must(t, fsys.Remove(name))
		b := make([]byte, 4)
		_, err := f.ReadAt(b, 0)
		must(t, err)
		if string(b) != "kept" {
			t.Fatalf("read %q", b)
		}
		must(t, f.Close())
	})
}

func TestLargeOffsets(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		f := put(t, fsys, path.Join(dir, "f"), "")
		defer f.Close()
		want := make([]byte, 5*blockSize)
		for i, part := range []struct {
			off int64
			n   int
		}{{100, 3 * blockSize}, {blockSize, blockSize}, {blockSize - 1, 2}, {4*blockSize + 7, 1}} {
			p := bytes.Repeat([]byte{byte('a' + i)}, part.n)
			copy(want[part.off:], p)
			write(t, f, part.off, string(p))
		}
		must(t, f.Truncate(int64(len(want))))
		got := make([]byte, len(want))
		_, err := f.ReadAt(got, 0)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatal("content differs")
		}
	})
}

func TestLock(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		name := path.Join(dir, "LOCK")
		l, err := fsys.Lock(name)
		must(t, err)
		b, err := fsys.ReadFile(name, 64)
		must(t, err)

		_, err = fsys.Lock(name)
		var locked *LockedError
		if !errors.As(err, &locked) {
			t.Fatalf("second lock: %v", err)
		}
		if want := strings.TrimSpace(string(b)); fmt.Sprint(locked.PID) != want || locked.Name != name {
			t.Fatalf("lock held by %+v, file says %q", locked, want)
		}
		must(t, l.Close())
		if err := l.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("second close: %v", err)
		}
		l, err = fsys.Lock(name)
		must(t, err)
		must(t, l.Close())
	})
}

func TestManyGoroutines(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		shared := put(t, fsys, path.Join(dir, "shared"), "")
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				own, err := fsys.Create(path.Join(dir, fmt.Sprint("own", g)))
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 50 {
					p := bytes.Repeat([]byte{byte(g + 1)}, 1000)
					off := int64(i*4+g) * 1000
					_, err1 := shared.WriteAt(p, off)
					_, err2 := own.WriteAt(p, int64(i)*1000)
					_, err3 := shared.ReadAt(make([]byte, len(p)), off)
					if err := errors.Join(err1, err2, err3, shared.SyncData(), own.Sync(), fsys.SyncDir(dir)); err != nil {
						t.Error(err)
					}
				}
				if err := own.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		must(t, shared.Close())
		b, err := fsys.ReadFile(path.Join(dir, "shared"), 1<<20)
		must(t, err)
		for i, c := range b {
			if want := byte(i/1000%4 + 1); c != want {
				t.Fatalf("byte %d is %d, want %d", i, c, want)
			}
		}
	})
}

func TestHelpers(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, dir string) {
		sub := path.Join(dir, "a/b/c")
		must(t, fsys.MkdirAll(sub))
		must(t, fsys.MkdirAll(sub))
		name := path.Join(sub, "CURRENT")
		if ok, err := Exists(fsys, name); ok || err != nil {
			t.Fatalf("exists: %v, %v", ok, err)
		}
		must(t, WriteFileSync(fsys, name, []byte("one")))
		must(t, put(t, fsys, name+".tmp", "left by a crash, longer than what follows").Close())
		must(t, WriteFileSync(fsys, name, []byte("two")))
		mustRead(t, fsys, name, "two")
		mustList(t, fsys, sub, "CURRENT")
		if ok, err := Exists(fsys, name); !ok || err != nil {
			t.Fatalf("exists: %v, %v", ok, err)
		}
	})
}
