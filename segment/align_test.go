package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// noisyEntries have values that no codec makes smaller, of 0 to most bytes.
func noisyEntries(n, most int) []Entry {
	rnd := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	es := make([]Entry, n)
	for i := range es {
		at := rnd.IntN(len(noise) - most)
		es[i] = put(fmt.Sprintf("key-%08d", i), string(noise[at:at+rnd.IntN(most+1)]), event.LSN(i+1))
	}
	return es
}

// TestABlockCostsOnePage looks at where data blocks lie: in one page mostly, and without many zeros between them.
func TestABlockCostsOnePage(t *testing.T) {
	for _, most := range []int{0, 100, 300} {
		fsys := vfs.NewMem()
		write(t, fsys, "a.seg", WriterOptions{}, noisyEntries(50_000, most))
		content, err := fsys.ReadFile("a.seg", 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		blocks := blocksOf(t, content)
		whole, used := 0, 0
		for kind, hs := range blocks {
			for _, h := range hs {
				used += int(h.length)
				if kind == kindData && h.length > pageBytes/2 && h.offset/pageBytes == (h.end()-1)/pageBytes {
					whole++
				}
			}
		}
		data := len(blocks[kindData])
		if most > 0 && whole < data*17/20 {
			t.Errorf("values of up to %d bytes: %d of %d data blocks lie in one page", most, whole, data)
		}
		if zeros := len(content) - used - headerBytes - footerBytes; zeros > len(content)/padShare {
			t.Errorf("values of up to %d bytes: %d zeros in a file of %d bytes", most, zeros, len(content))
		}
	}
}

// TestZerosBetweenBlocksAreChecked changes each of them.
func TestZerosBetweenBlocksAreChecked(t *testing.T) {
	fsys := vfs.NewMem()
	write(t, fsys, "a.seg", WriterOptions{Compression: NoCompression}, noisyEntries(1000, 100))
	content, err := fsys.ReadFile("a.seg", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for at := pageBytes; at < len(content)-footerBytes && changed < 500; at += pageBytes {
		for i := at - 1; content[i] == 0 && bytes.Equal(content[i:at], make([]byte, at-i)); i-- {
			damaged := bytes.Clone(content)
			damaged[i] = 1
			overwrite(t, fsys, "a.seg", damaged)
			r, err := Open(fsys, "a.seg", ReaderOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var damage *corruption.Error
			if err := r.Verify(t.Context(), nil); !errors.As(err, &damage) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			r.Close()
			changed++
		}
	}
	if changed == 0 {
		t.Fatal("no zeros")
	}
}
