package manifest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// sample is a manifest file of some edits, with the version after each, and where its records lie.
func sample(t testing.TB) (b []byte, want []string, records []record) {
	t.Helper()
	fsys := newFS(t, vfs.NewMem())
	s := mustStart(t, fsys, testOptions())
	h := newHistory(s, 3)
	for range 12 {
		must(t, h.apply(h.next()))
	}
	must(t, s.Close())
	b = content(t, fsys, 1)
	must(t, s.mu.head.eachRecord(b, func(r *record) error {
		records = append(records, *r)
		return nil
	}))
	return b, h.want, records
}

// TestEveryFlippedBit changes each byte of a closed manifest. The damage is reported, with a place in the file; only in
// the last mark may it pass for a torn tail, and then nothing is lost.
func TestEveryFlippedBit(t *testing.T) {
	b, want, records := sample(t)
	lastMark := int(records[len(records)-1].offset)
	for i := range b {
		for _, bit := range []byte{1, 0x80, 0xff} {
			b[i] ^= bit
			f, err := parseFile(b, "manifest/0000000001.man", 1)
			b[i] ^= bit
			switch {
			case err != nil:
				known(t, err, len(b))
			case i < lastMark:
				t.Fatalf("byte %d ^ %02x: nothing is reported", i, bit)
			case describe(f.version) != want[len(want)-1] || f.tail.CutBytes == 0:
				t.Fatalf("byte %d ^ %02x in the last mark: %+v, %s", i, bit, f.tail, f.version)
			}
		}
	}
}

// TestEveryTruncation ends the file at each byte: what is found is a prefix of the edits, the longest that is whole.
func TestEveryTruncation(t *testing.T) {
	b, want, records := sample(t)
	for n := range b {
		f, err := parseFile(b[:n], "manifest/0000000001.man", 1)
		if int64(n) < records[0].offset+records[0].size {
			if err == nil {
				t.Fatalf("%d bytes, less than the snapshot: nothing is reported", n)
			}
			known(t, err, len(b))
			continue
		}
		must(t, err)
		edits := uint64(0)
		for _, r := range records {
			if r.offset+r.size <= int64(n) {
				edits = r.edits
			}
		}
		if f.version.Edits != edits || describe(f.version) != want[edits] {
			t.Fatalf("%d bytes: %d edits, want %d", n, f.version.Edits, edits)
		}
	}
}

// TestRandomDamage overwrites parts of a manifest. What is found is a version that was, and the last one unless the
// damage goes to the end; or the damage is reported.
func TestRandomDamage(t *testing.T) {
	b, want, records := sample(t)
	last := records[len(records)-1]
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		d := bytes.Clone(b)
		from := rnd.IntN(len(d))
		to := min(len(d), from+1+rnd.IntN(1<<rnd.IntN(12)))
		switch rnd.IntN(3) {
		case 0:
			clear(d[from:to])
		case 1:
			for i := from; i < to; i++ {
				d[i] = byte(rnd.Uint32())
			}
		case 2:
			copy(d[from:to], b[rnd.IntN(len(b)):])
		}
		why := fmt.Sprintf("seed %d, [%d, %d)", seed, from, to)
		f, err := parseFile(d, "manifest/0000000001.man", 1)
		if err != nil {
			known(t, err, len(d))
			continue
		}
		if n := f.version.Edits; n >= uint64(len(want)) || describe(f.version) != want[n] {
			t.Fatalf("%s: found\n%s", why, f.version)
		} else if n != last.edits && int64(to) <= last.offset {
			t.Fatalf("%s: %d edits of %d are left, and nothing is reported", why, n, last.edits)
		}
	}
}
