package work

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const heldSize = 16 << 20

// onDisk makes a file of heldSize bytes, all in the page cache; false if the file system can't drop it.
func onDisk(t *testing.T) (*os.File, bool) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(name, bytes.Repeat(noise, heldSize/len(noise)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if n := cached(t, f); n < heldSize {
		t.Fatalf("%d bytes cached after writing %d", n, heldSize)
	}
	if err := dropCache(filepath.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if n := cached(t, f); n > 0 {
		t.Logf("%d bytes are still cached: %s is no disk, nothing to see here", n, name)
		return nil, false
	}
	if _, err := os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	return f, true
}

func cached(t *testing.T, f *os.File) int64 {
	t.Helper()
	n, err := cachedBytes(f, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// directHolder drops at once what it decides to drop.
func directHolder(f *os.File, limit int64) *holder {
	return &holder{dir: filepath.Dir(f.Name()), limit: limit, drop: func(p piece) bool { p.drop(); return true }}
}

func TestHolderDropsWhatIsBeyondTheLimit(t *testing.T) {
	f, ok := onDisk(t)
	if !ok {
		return
	}
	h := directHolder(f, 8<<20+statusBytes("RssAnon"))
	defer h.close()
	h.look()
	h.round()
	if n := cached(t, f); n > 8<<20 || n == 0 {
		t.Errorf("%d bytes are cached, want some but at most 8 MiB", n)
	}
	h.limit += heldSize
	before := cached(t, f)
	h.round()
	if n := cached(t, f); n != before {
		t.Errorf("%d bytes are cached, %d before, though the limit allows them", n, before)
	}
}

func TestHolderDropsMappedPages(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, f *os.File, b []byte)
	}{
		{"clean", func(*testing.T, *os.File, []byte) {}},
		{"dirty", func(_ *testing.T, _ *os.File, b []byte) {
			for i := 0; i < len(b); i += os.Getpagesize() {
				b[i] = noise[i%len(noise)]
			}
		}},
		{"deleted", func(t *testing.T, f *os.File, _ []byte) {
			if err := os.Remove(f.Name()); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, ok := onDisk(t)
			if !ok {
				return
			}
			b, err := unix.Mmap(int(f.Fd()), 0, heldSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Munmap(b) }()
			sum := byte(0)
			for i := 0; i < len(b); i += os.Getpagesize() {
				sum += b[i]
			}
			h := directHolder(f, 0)
			defer h.close()
			h.look()
			tc.spoil(t, f, b)
			h.look()
			h.round()
			if n := cached(t, f); n > minHold {
				t.Errorf("%d bytes are cached, want at most %d", n, minHold)
			}
			if !bytes.Equal(b[:len(noise)], noise) {
				t.Errorf("the mapping shows other bytes than the file (%d)", sum)
			}
		})
	}
}

// TestHoldCacheFindsMappingsOfRelativePaths runs the holder as a worker does, on a store that it is told of by a path
// which is not the one that the system shows.
func TestHoldCacheFindsMappingsOfRelativePaths(t *testing.T) {
	f, ok := onDisk(t)
	if !ok {
		return
	}
	t.Chdir(filepath.Dir(filepath.Dir(f.Name())))
	b, err := unix.Mmap(int(f.Fd()), 0, heldSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	sum := byte(0)
	for i := 0; i < len(b); i += os.Getpagesize() {
		sum += b[i]
	}
	release, err := holdCache(filepath.Base(filepath.Dir(f.Name())), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for deadline := time.Now().Add(10 * time.Second); cached(t, f) > minHold; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are cached after 10 s (%d)", cached(t, f), sum)
		}
	}
}

func TestHeldTellsWhatBrokeTheLimit(t *testing.T) {
	const mib = 1 << 20
	s := Spec{MemoryLimit: 64 * mib}
	for _, tc := range []struct {
		name         string
		anon, cached [2]int64 // of two looks
		want         string   // parts of the notes
	}{
		{"within it", [2]int64{20, 30}, [2]int64{44, 34}, ""},
		{"over it for a moment", [2]int64{20, 20}, [2]int64{10, 90}, ""},
		{"over it for long", [2]int64{20, 20}, [2]int64{90, 90}, "20 + 90 MiB on average"},
		{"the process alone for a moment", [2]int64{20, 65}, [2]int64{4, 4}, "took up to 65 MiB"},
	} {
		var h held
		for i := range tc.anon {
			h.add(tc.anon[i]*mib, tc.cached[i]*mib)
		}
		_, _, notes := h.take(s)
		if got := strings.Join(notes, "; "); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if anon, cached, notes := h.take(s); anon+cached != 0 || notes != nil {
			t.Errorf("%s: %v, %v, %q after they were taken", tc.name, anon, cached, notes)
		}
	}
}

func TestParseMaps(t *testing.T) {
	text := "7f0000000000-7f0000002000 r--s 00001000 fe:00 12 /data/a b.sst\n" +
		"7f0000002000-7f0000003000 rw-p 00000000 fe:00 13 /data/private\n" +
		"7f0000003000-7f0000004000 rw-p 00000000 00:00 0\n" +
		"7f0000004000-7f0000005000 rw-s 00000000 00:00 0 [shared]\n" +
		strings.Repeat("x", 10) + "\n"
	m := parseMaps(text)
	want := mapping{0x7f0000000000, 0x7f0000002000, 0x1000}
	if got := m["/data/a b.sst"]; len(m) != 1 || len(got) != 1 || got[0] != want {
		t.Fatalf("%x", m)
	}
}
