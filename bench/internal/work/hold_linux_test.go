package work

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	f, err := os.Open(name)
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

func TestHolderDropsWhatIsBeyondTheLimit(t *testing.T) {
	f, ok := onDisk(t)
	if !ok {
		return
	}
	h := &holder{dir: filepath.Dir(f.Name()), limit: 8<<20 + statusBytes("RssAnon")}
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
	f, ok := onDisk(t)
	if !ok {
		return
	}
	b, err := unix.Mmap(int(f.Fd()), 0, heldSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	sum := byte(0)
	for i := 0; i < len(b); i += os.Getpagesize() {
		sum += b[i]
	}
	h := &holder{dir: filepath.Dir(f.Name()), limit: 0}
	defer h.close()
	h.look()
	h.round()
	if n := cached(t, f); n > minHold {
		t.Errorf("%d bytes are cached, want at most %d", n, minHold)
	}
	if !bytes.Equal(b[:len(noise)], noise) {
		t.Errorf("the mapping shows other bytes than the file (%d)", sum)
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
