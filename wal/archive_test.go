package wal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func noPace(int64) error { return nil }

// archiveOf builds a log file with n large pieces and returns it plain and archived.
func archiveOf(t testing.TB, fsys vfs.FS, n int) (plain []byte, name string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	b.puts(3)
	for range n {
		body := make([]byte, 300<<10)
		for i := range body {
			body[i] = byte(rng.IntN(20))
		}
		b.data(body)
	}
	b.store()
	log := "db/wal/" + FileName(1, 1)
	plain, err := fsys.ReadFile(log, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteArchived(fsys, log, "archived.zst", noPace); err != nil {
		t.Fatal(err)
	}
	return plain, "archived.zst"
}

// An archived log file reads as the file did, from any place, and any zstd decoder unpacks it.
func TestArchivedLogFile(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, pieces := range []int{0, 1, 14} {
		fsys := vfs.NewMem()
		plain, name := archiveOf(t, fsys, pieces)
		a, err := OpenArchived(fsys, name, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Verify(context.Background(), nil); err != nil || a.Size != int64(len(plain)) || a.Header.Seq != 1 {
			t.Fatalf("%d bytes, want %d: %v", a.Size, len(plain), err)
		}
		for range 50 {
			off := rng.IntN(len(plain) + 10)
			b := make([]byte, rng.IntN(2<<20))
			n, err := a.ReadAt(b, int64(off))
			want := plain[min(off, len(plain)):min(off+len(b), len(plain))]
			if !bytes.Equal(b[:n], want) || (n < len(b)) != (err == io.EOF) || err != nil && err != io.EOF {
				t.Fatalf("%d bytes at %d: %d, %v", len(b), off, n, err)
			}
		}
		f, err := ReadFrameAt(a, &a.Header, name, HeaderSize)
		if err != nil || f.Kind != KindDictionary {
			t.Fatalf("first frame: %+v, %v", f, err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		packed, err := fsys.ReadFile(name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := zstd.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(dec); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("a plain zstd decoder gives %d bytes, want %d: %v", len(got), len(plain), err)
		}
		dec.Close()
	}
}

func verifyArchived(fsys vfs.FS, name string) error {
	a, err := OpenArchived(fsys, name, name)
	if err != nil {
		return err
	}
	return errors.Join(a.Verify(context.Background(), nil), a.Close())
}

func TestEveryFlippedByteOfAnArchivedLogFileIsFound(t *testing.T) {
	fsys := vfs.NewMem()
	_, name := archiveOf(t, fsys, 0)
	content, err := fsys.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var damage *corruption.Error
	for i := range content {
		b := bytes.Clone(content)
		b[i] ^= 1 << (i % 8)
		store(t, fsys, name, b)
		if err := verifyArchived(fsys, name); !errors.Is(err, event.ErrUnsupported) && (!errors.As(err, &damage) || damage.File != name) {
			t.Fatalf("byte %d of %d: %v", i, len(content), err)
		}
		store(t, fsys, name, content[:i])
		if err := verifyArchived(fsys, name); !errors.As(err, &damage) || damage.File != name {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

// TestGoldenArchivedLogFile opens a file that this version wrote, in all versions to come. Bytes may differ with the encoder.
func TestGoldenArchivedLogFile(t *testing.T) {
	name := filepath.Join(goldenDir, "archive", ArchivedName(FileName(1, 1)))
	fsys := vfs.NewMem()
	plain, built := archiveOf(t, fsys, 0)
	if *update {
		b, err := fsys.ReadFile(built, 1<<20)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	name = filepath.ToSlash(name)
	if err := verifyArchived(vfs.OS, name); err != nil {
		t.Fatal(err)
	}
	a, err := OpenArchived(vfs.OS, name, name)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	got := make([]byte, a.Size)
	if _, err := a.ReadAt(got, 0); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes, want %d: %v", len(got), len(plain), err)
	}
}

func FuzzArchived(f *testing.F) {
	fsys := vfs.NewMem()
	_, name := archiveOf(f, fsys, 0)
	b, err := fsys.ReadFile(name, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[len(b)-100:])
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewMem()
		store(t, fsys, "a.zst", b)
		a, err := OpenArchived(fsys, "a.zst", "a.zst")
		if err != nil {
			known(t, err, len(b))
			return
		}
		defer a.Close()
		if err := a.Verify(context.Background(), nil); err != nil {
			known(t, err, len(b))
		}
	})
}
