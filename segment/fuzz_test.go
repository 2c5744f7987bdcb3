package segment

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/formattest"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// known fails the test if a decoder's error is neither corruption within n bytes nor a newer version.
var known = formattest.Known(event.ErrUnsupported)

func fixCRC(b []byte, from, to, at int) {
	if len(b) >= to {
		le.PutUint32(b[at:], crcOf(b[from:to]))
	}
}

func FuzzHeader(f *testing.F) {
	h := header{salt: [16]byte{1, 2}, num: 3, run: 4, created: 5}
	f.Add(h.append(nil), true)
	f.Add(h.append(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			fixCRC(b, 12, headerBytes, 8)
		}
		h, err := parseHeader(b)
		if err != nil {
			known(t, err, len(b))
		} else if again := h.append(nil); !bytes.Equal(again, b[:headerBytes]) {
			t.Fatalf("%x is a second spelling of %+v", b, h)
		}
	})
}

func FuzzFooter(f *testing.F) {
	foot := footer{salt: [16]byte{1, 2}, properties: handle{100, 50}, top: handle{150, 50}, size: 1000 + footerBytes}
	f.Add(foot.append(nil), true)
	f.Add(foot.append(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= footerBytes {
			fixCRC(b[len(b)-footerBytes:], 0, footerBytes-12, footerBytes-12)
		}
		size := int64(1000 + len(b))
		f, err := parseFooter(b, size)
		if err != nil {
			known(t, err, int(size))
			return
		}
		if again := f.append(nil); !bytes.Equal(again, b[len(b)-footerBytes:]) {
			t.Fatalf("%x is a second spelling of %+v", b, f)
		}
		if f.size != uint64(size) {
			t.Fatalf("of %d bytes in a file of %d", f.size, size)
		}
		for i, h := range f.handles() {
			if h.end() > uint64(size-footerBytes) || h.length == 0 && i == 0 {
				t.Fatalf("%+v in a file of %d bytes", h, size)
			}
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add(appendProperties(nil, &Properties{}))
	f.Add(appendProperties(nil, &Properties{
		Num: 1, Run: 300, CreatedAt: -1, FlushedLSN: 7, Replaces: []uint64{1, 2},
		Entries: 9, Keys: 3, Tombstones: 1, RangeDeletes: 1, RecordTimes: 1, Dues: 1, RawBytes: 1 << 40, RefBytes: 1,
		Smallest: Key{1, []byte("a")}, Largest: Key{2, []byte("b")},
		MinLSN: 1, MaxLSN: 300, MinTime: -1, MaxTime: 1, MinDue: 1, MaxDue: 1, FilterBits: 10, HashSeed: 3,
		Unknown: []Property{{Tag: 64, Body: []byte("new")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProperties(b)
		if err != nil {
			known(t, err, len(b))
			return
		}
		again := appendProperties(nil, p)
		if len(again) == len(b) && !bytes.Equal(again, b) || len(again) > len(b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
		back, err := parseProperties(again)
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v came back as %+v, %v", p, back, err)
		}
	})
}

func FuzzRangeDeletes(f *testing.F) {
	b, _ := appendRangeDeletes(nil, []RangeDelete{
		{Dataset: 1, LSN: 1}, {Dataset: 300, From: []byte("a"), To: []byte("b"), LSN: 300, Time: -1},
	})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := parseRangeDeletes(nil, b)
		if err != nil {
			known(t, err, len(b))
			return
		}
		again, rest := appendRangeDeletes(nil, rs)
		if len(rest) == 0 && !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x", b, again)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add(appendFilter(nil, []uint64{1, 1 << 63}, 10), uint64(1))
	f.Fuzz(func(t *testing.T, page []byte, hash uint64) {
		if err := checkFilter(page); err != nil {
			known(t, err, len(page))
			return
		}
		filterHas(page, hash)
	})
}

// rawBlocks returns a block of each sorted kind before compression.
func rawBlocks(t testing.TB) (blocks [][]byte) {
	fsys := vfs.NewMem()
	smallSegment(t, fsys, "a.seg", NoCompression)
	content, err := fsys.ReadFile("a.seg", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for at := headerBytes; at < len(content)-footerBytes; {
		h, err := parseStored(content[at:])
		if err != nil {
			t.Fatal(err)
		}
		n := blockHead + int(h.stored)
		if columnsOf[h.kind] > 0 {
			blocks = append(blocks, content[at+blockHead:at+n])
		}
		at += n
	}
	return blocks
}

// FuzzSorted reads sorted blocks of every kind: data, index, due.
func FuzzSorted(f *testing.F) {
	for _, b := range rawBlocks(f) {
		f.Add(b, []byte("key-1"), uint64(9))
	}
	f.Fuzz(func(t *testing.T, b, key []byte, lsn uint64) {
		if len(b) == 0 || int(b[0]) >= len(columnsOf) || columnsOf[b[0]] == 0 {
			return
		}
		kind := b[0]
		if err := checkRaw(kind, b); err != nil {
			known(t, err, len(b))
			return
		}
		var s sorted
		if !s.parse(b, kind) {
			t.Fatal("checked, but it does not parse")
		}
		var last, k []byte
		for i := range s.n {
			k = s.appendKey(k[:0], i)
			if i > 0 && compareDues(last, s.lsn(i-1), k, s.lsn(i)) >= 0 {
				t.Fatalf("entry %d is out of order", i)
			}
			at := searchKey{tail: k, lsn: s.lsn(i)}
			if got, same := s.lower(&at); got != i || !same || s.floor(&at) != i {
				t.Fatalf("entry %d is found at %d, %t, %d", i, got, same, s.floor(&at))
			}
			if kind == kindData {
				var e Entry
				s.fill(i, &e)
			}
			last, k = k, last
		}
		searchSorted(t, &s, entryKey(event.DatasetID(lsn>>32), key, event.LSN(lsn&^(1<<63))))
		v := &verifier{}
		if err := v.spelling(kind, &s); err != nil {
			known(t, err, len(b))
		}
	})
}

// searchSorted holds a search against a look at every entry.
func searchSorted(t *testing.T, s *sorted, at searchKey) {
	key := append(bytes.Clone(at.head[:at.headLen]), at.tail...)
	i, same := s.lower(&at)
	for j := range s.n {
		k := s.appendKey(nil, j)
		if before := compareDues(k, s.lsn(j), key, at.lsn) < 0; before != (j < i) {
			t.Fatalf("lower is %d, but entry %d lies before: %t", i, j, before)
		}
		if j == i && same != bytes.Equal(k, key) {
			t.Fatalf("entry %d has the key: %t", i, same)
		}
	}
}

// FuzzStored reads blocks as they are in the file.
func FuzzStored(f *testing.F) {
	var p placer
	add := func(kind byte, raw []byte, c Compression) {
		b, codec := pack(make([]byte, blockHead), c.codec(), raw)
		p.seal(b, kind, codec, len(raw), 64)
		f.Add(b, true)
	}
	for _, b := range rawBlocks(f) {
		add(b[0], b, NoCompression)
		add(b[0], b, S2)
		add(b[0], b, Zstd)
	}
	add(kindFilter, appendFilter(nil, []uint64{1}, 10), NoCompression)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if len(b) <= blockHead {
			return
		}
		b = bytes.Clone(b)
		if fix {
			le.PutUint32(b[4:], uint32(len(b)-blockHead))
			le.PutUint32(b, p.crc(b[blockHead:], b, 64))
		}
		r := &Reader{name: "a.seg"}
		raw, err := r.decode(b, b[12], handle{64, uint64(len(b))}, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			known(t, err, 64+len(b))
		} else if codec := event.Codec(b[13]); codec == 0 && !bytes.Equal(raw, b[blockHead:]) {
			t.Fatal("the block is not its bytes")
		}
	})
}

// FuzzSegment reads whole files. With fix, what looks like blocks and a footer gets the CRC that it should have.
func FuzzSegment(f *testing.F) {
	for _, c := range []Compression{NoCompression, S2} {
		fsys := vfs.NewMem()
		write(f, fsys, "a.seg", goldenOptions(c), smallEntries()[:20], RangeDelete{Dataset: 1, LSN: 100})
		content, err := fsys.ReadFile("a.seg", 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, []byte("key-01"), true)
		f.Add(content, []byte("key-01"), false)
	}
	f.Fuzz(func(t *testing.T, content, key []byte, fix bool) {
		if fix {
			content = bytes.Clone(content)
			fixFile(content)
		}
		fsys := vfs.NewMem()
		overwrite(t, fsys, "a.seg", content)
		r, err := Open(fsys, "a.seg", ReaderOptions{HashSeed: testSeed})
		if err != nil {
			known(t, err, len(content))
			return
		}
		defer r.Close()
		if err := r.Verify(context.Background(), nil); err != nil {
			known(t, err, len(content))
		}
		if _, _, err := get(r, 1, key, event.MaxLSN); err != nil {
			known(t, err, len(content))
		}
		// A damaged index may lead in circles only as far as it is long.
		for _, o := range []IterOptions{{}, {NoFill: true}} {
			it := r.NewIter(o)
			for ok := it.First(); ok; ok = it.Next() {
				it.Entry()
			}
			for ok := it.SeekLT(1, key); ok; ok = it.Prev() {
				it.Entry()
			}
			if it.Err() != nil {
				known(t, it.Err(), len(content))
			}
			it.Close()
		}
		due := r.Due(testTime + 1)
		for due.Next() {
		}
		if due.Err() != nil {
			known(t, due.Err(), len(content))
		}
		due.Close()
	})
}

// fixFile gives what looks like blocks, from the start on, and the footer the right CRCs.
func fixFile(content []byte) {
	if len(content) < headerBytes+footerBytes {
		return
	}
	fixCRC(content, 12, headerBytes, 8)
	foot := content[len(content)-footerBytes:]
	fixCRC(foot, 0, footerBytes-12, footerBytes-12)
	for at := headerBytes; at+blockHead < len(content)-footerBytes; {
		h, err := parseStored(content[at:])
		n := blockHead + int(h.stored)
		if err != nil || n > len(content)-footerBytes-at {
			return
		}
		reseal(content, content[at:at+n], uint64(at))
		at += n
	}
}
