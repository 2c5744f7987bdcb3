package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// smallEntries are entries that a small file with every kind of block is made of.
func smallEntries() []Entry {
	var es []Entry
	for i := range 44 {
		e := put(fmt.Sprintf("key-%02d", i/2), fmt.Sprintf("value %d", i), event.LSN(i+1))
		if i%5 == 0 {
			e.Parts = event.AppendExpiry(nil, testTime+int64(i%3))
		}
		es = append(es, e)
	}
	sortEntries(es)
	return es
}

func smallSegment(t testing.TB, fsys vfs.FS, name string, c Compression) []Entry {
	t.Helper()
	es := smallEntries()
	write(t, fsys, name, WriterOptions{Compression: c, BlockBytes: 1 << 10, CreatedAt: testTime}, es,
		RangeDelete{Dataset: 1, From: []byte("a"), LSN: 100, Time: testTime})
	return es
}

// TestEveryFlippedByteIsFound flips a bit of each byte of a small file. Verify must find it, and no read may return
// what was not written.
func TestEveryFlippedByteIsFound(t *testing.T) {
	for _, c := range []Compression{NoCompression, S2, Zstd} {
		t.Run(c.codec().String(), func(t *testing.T) {
			fsys := vfs.NewMem()
			es := smallSegment(t, fsys, "a.seg", c)
			content, err := fsys.ReadFile("a.seg", 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			step := 1
			if testing.Short() && c != NoCompression {
				step = 7
			}
			for i := 0; i < len(content); i += step {
				damaged := bytes.Clone(content)
				damaged[i] ^= 1 << (i % 8)
				overwrite(t, fsys, "a.seg", damaged)
				checkDamaged(t, fsys, es, i)
			}
		})
	}
}

// damageFound fails the test if err is not corruption or unsupported, of the file and not behind offset at.
func damageFound(t *testing.T, err error, at int) {
	t.Helper()
	var ce *corruption.Error
	switch {
	case errors.Is(err, event.ErrUnsupported):
	case !errors.As(err, &ce):
		t.Fatalf("byte %d: %v", at, err)
	case ce.File != "a.seg" || ce.Offset < 0:
		t.Fatalf("byte %d: place %q, %d", at, ce.File, ce.Offset)
	}
}

// checkDamaged holds every way to read a file, whose byte i is wrong, against the entries.
func checkDamaged(t *testing.T, fsys vfs.FS, es []Entry, i int) {
	t.Helper()
	r, err := Open(fsys, "a.seg", ReaderOptions{HashSeed: testSeed})
	if err != nil {
		damageFound(t, err, i)
		return
	}
	defer r.Close()
	err = r.Verify(context.Background(), nil)
	damageFound(t, err, i)
	var ce *corruption.Error
	if errors.As(err, &ce) && ce.Offset > int64(i) {
		t.Fatalf("byte %d is reported at %d: %v", i, ce.Offset, err)
	}
	for k := range es {
		got, ok, err := get(r, es[k].Dataset, es[k].Key, es[k].LSN)
		switch {
		case err != nil:
			damageFound(t, err, i)
		case !ok || !equal(&got, &es[k]):
			t.Fatalf("byte %d: get %t %s, want %s", i, ok, show(&got), show(&es[k]))
		}
	}
	for _, o := range []IterOptions{{}, {NoFill: true}} {
		it := r.NewIter(o)
		k := 0
		for ok := it.First(); ok; ok = it.Next() {
			if !equal(it.Entry(), &es[k]) {
				t.Fatalf("byte %d: entry %d is %s, want %s", i, k, show(it.Entry()), show(&es[k]))
			}
			k++
		}
		if it.Err() != nil {
			damageFound(t, it.Err(), i)
			if it.First() || it.Next() || it.SeekGE(1, nil) || it.Prev() {
				t.Fatal("the iterator moves on after damage")
			}
		} else if k != len(es) {
			t.Fatalf("byte %d: %d entries without an error", i, k)
		}
		it.Close()
	}
	due := r.Due(0)
	n := int64(0)
	for due.Next() {
		n++
	}
	if due.Err() != nil {
		damageFound(t, due.Err(), i)
	} else if n != r.Properties().Dues {
		t.Fatalf("byte %d: %d dues", i, n)
	}
	due.Close()
}

// TestCutFilesAreFound opens every prefix of a small file.
func TestCutFilesAreFound(t *testing.T) {
	fsys := vfs.NewMem()
	smallSegment(t, fsys, "a.seg", S2)
	content, err := fsys.ReadFile("a.seg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for n := range content {
		overwrite(t, fsys, "a.seg", content[:n])
		_, err := Open(fsys, "a.seg", ReaderOptions{})
		if !errors.Is(err, corruption.ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(content), err)
		}
	}
	overwrite(t, fsys, "a.seg", append([]byte{0}, content...))
	if _, err := Open(fsys, "a.seg", ReaderOptions{}); !errors.Is(err, corruption.ErrCorrupt) {
		t.Fatalf("a byte more at the start: %v", err)
	}
}

// blocksOf lists where the blocks of a file lie, by kind.
func blocksOf(t *testing.T, content []byte) map[byte][]handle {
	t.Helper()
	blocks := map[byte][]handle{}
	for at := headerBytes; at < len(content)-footerBytes; {
		pad, err := padding(content[at:], int64(at))
		if err != nil {
			t.Fatal(err)
		}
		at += int(pad)
		h, err := parseStored(content[at:])
		if err != nil {
			t.Fatal(err)
		}
		n := blockHead + int(h.stored)
		blocks[h.kind] = append(blocks[h.kind], handle{uint64(at), uint64(n)})
		at += n
	}
	return blocks
}

// TestACopiedBlockNeverValidates puts a block in the place of another of the same length: of the same file, and of a
// file with the same content and another salt.
func TestACopiedBlockNeverValidates(t *testing.T) {
	var es []Entry
	for i := range 200 {
		es = append(es, put(fmt.Sprintf("key-%03d", i), "value", event.LSN(i+1)))
	}
	fsys := vfs.NewMem()
	o := WriterOptions{Compression: NoCompression, BlockBytes: 1 << 10}
	write(t, fsys, "a.seg", o, es)
	write(t, fsys, "b.seg", o, es)
	content, err := fsys.ReadFile("a.seg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	other, err := fsys.ReadFile("b.seg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	data := blocksOf(t, content)[kindData]
	if len(data) < 3 || data[0].length != data[2].length {
		t.Fatalf("blocks %v", data)
	}
	for name, from := range map[string][]byte{
		"another place": content[data[0].offset:data[0].end()], "another file": other[data[2].offset:data[2].end()],
	} {
		damaged := bytes.Clone(content)
		copy(damaged[data[2].offset:], from)
		overwrite(t, fsys, "a.seg", damaged)
		r := open(t, fsys, "a.seg", nil)
		it := r.NewIter(IterOptions{})
		n := 0
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		var ce *corruption.Error
		if !errors.As(it.Err(), &ce) || ce.Offset != int64(data[2].offset) || ce.File != "a.seg" || n == 0 {
			t.Errorf("%s: %v after %d entries", name, it.Err(), n)
		}
		it.Close()
	}
}

// TestNewerFilesAreUnsupported changes what a newer version may change, with right CRCs.
func TestNewerFilesAreUnsupported(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, fsys vfs.FS){
		"version": func(t *testing.T, fsys vfs.FS) {
			rewriteFooter(t, fsys, "a.seg", func(b []byte) { b[footerBytes-16] = 2 })
		},
		"longer footer of version 2": func(t *testing.T, fsys vfs.FS) {
			content, err := fsys.ReadFile("a.seg", 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			at := len(content) - footerBytes
			b := append(make([]byte, 40), content[at:]...)
			b[len(b)-20], b[len(b)-16] = byte(len(b)), 2
			le.PutUint32(b[len(b)-12:], crcOf(b[:len(b)-12]))
			overwrite(t, fsys, "a.seg", append(content[:at], b...))
		},
		"feature": func(t *testing.T, fsys vfs.FS) {
			rewriteFooter(t, fsys, "a.seg", func(b []byte) { b[56] = 1 })
		},
		"property": func(t *testing.T, fsys vfs.FS) {
			rewriteBlock(t, fsys, kindProperties, func(b []byte) []byte { return append(b, 63<<1|1, 0) })
		},
	} {
		fsys := vfs.NewMem()
		smallSegment(t, fsys, "a.seg", NoCompression)
		change(t, fsys)
		if r, err := Open(fsys, "a.seg", ReaderOptions{}); !errors.Is(err, event.ErrUnsupported) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	for name, change := range map[string]func(head, body []byte){
		"kind":  func(head, body []byte) { head[12] = 9 },
		"codec": func(head, body []byte) { head[13] = 3 },
		"op":    func(head, body []byte) { body[sortedHead+8*colOp] = 77 },
		"flag":  func(head, body []byte) { body[sortedHead+8*colFlags] = 0x80 },
	} {
		fsys := vfs.NewMem()
		smallSegment(t, fsys, "a.seg", NoCompression)
		content, err := fsys.ReadFile("a.seg", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		h := blocksOf(t, content)[kindData][0]
		b := content[h.offset:h.end()]
		change(b[:blockHead], b[blockHead:])
		reseal(content, b, h.offset)
		overwrite(t, fsys, "a.seg", content)
		r := open(t, fsys, "a.seg", nil)
		if _, _, err := get(r, 1, []byte("key-00"), event.MaxLSN); !errors.Is(err, event.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Verify(context.Background(), nil); !errors.Is(err, event.ErrUnsupported) {
			t.Errorf("%s, verify: %v", name, err)
		}
	}
}

// reseal gives a block of a file, whose header and body may have changed, the right CRC.
func reseal(content, b []byte, offset uint64) {
	var p placer
	copy(p.salt[:], content[len(content)-footerBytes+32:])
	le.PutUint32(b, p.crc(b[blockHead:], b, offset))
}

// rewriteBlock changes the body of the first block of a kind in a file of only uncompressed blocks. What follows
// moves, and the footer with it; indexes are not changed, the SHA-256 is.
func rewriteBlock(t *testing.T, fsys vfs.FS, kind byte, change func(b []byte) []byte) {
	t.Helper()
	content, err := fsys.ReadFile("a.seg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	h := blocksOf(t, content)[kind][0]
	var p placer
	copy(p.salt[:], content[len(content)-footerBytes+32:])
	body := change(bytes.Clone(content[h.offset+blockHead : h.end()]))
	b := append(make([]byte, blockHead), body...)
	p.seal(b, kind, 0, len(body), h.offset)
	moved := uint64(len(b)) - h.length
	out := append(bytes.Clone(content[:h.offset]), b...)
	foot := content[len(content)-footerBytes:]
	for at := int(h.end()); at < len(content)-footerBytes; {
		s, err := parseStored(content[at:])
		if err != nil {
			t.Fatal(err)
		}
		next := bytes.Clone(content[at:][:blockHead+int(s.stored)])
		le.PutUint32(next, p.crc(next[blockHead:], next, uint64(len(out))))
		at += len(next)
		out = append(out, next...)
	}
	for i := 64; i < 128; i += 16 {
		if offset := le.Uint64(foot[i:]); offset > h.offset {
			le.PutUint64(foot[i:], offset+moved)
		} else if offset == h.offset {
			le.PutUint64(foot[i+8:], uint64(len(b)))
		}
	}
	le.PutUint64(foot[128:], uint64(len(out)+footerBytes))
	sum := sha256.Sum256(out)
	copy(foot, sum[:])
	sealFooter(foot)
	overwrite(t, fsys, "a.seg", append(out, foot...))
}

// TestABlockOfAnotherKindIsNotServed points an index at blocks of other kinds, which the cache holds already.
func TestABlockOfAnotherKindIsNotServed(t *testing.T) {
	fsys := vfs.NewMem()
	smallSegment(t, fsys, "a.seg", NoCompression)
	content, err := fsys.ReadFile("a.seg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	blocks := blocksOf(t, content)
	for _, kind := range []byte{kindIndex, kindFilter, kindDue} {
		damaged := bytes.Clone(content)
		top := blocks[kindTop][0]
		b := damaged[top.offset:top.end()]
		le.PutUint64(b[blockHead+sortedHead+8*colOffset:], blocks[kind][0].offset)
		le.PutUint64(b[blockHead+sortedHead+8*colLength:], blocks[kind][0].length)
		reseal(damaged, b, top.offset)
		overwrite(t, fsys, "a.seg", damaged)
		c := newMapCache()
		r := open(t, fsys, "a.seg", c)
		due := r.Due(0) // takes due blocks into the cache
		due.Next()
		due.Close()
		for range 2 {
			_, _, err := get(r, 1, []byte("key-00"), event.MaxLSN)
			if kind != kindIndex && !errors.Is(err, corruption.ErrCorrupt) {
				t.Errorf("%s for an index: %v", kindNames[kind], err)
			}
			it := r.NewIter(IterOptions{})
			if ok := it.First(); ok != (kind == kindIndex) || ok == errors.Is(it.Err(), corruption.ErrCorrupt) {
				t.Errorf("%s for an index: %t, %v", kindNames[kind], ok, it.Err())
			}
			it.Close()
		}
		c.Close()
	}
}
