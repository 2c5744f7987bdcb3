package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// blockOf is a data block of some keys with values, LSNs from 100 down.
func blockOf(kind byte, keys ...string) []byte {
	b := newBuilder(kind, 1<<20, 1)
	var last []byte
	for i, k := range keys {
		key := append([]byte{0, 0, 0, 1}, k...)
		if kind == kindDue {
			key = dueKey(nil, int64(i), key)
		}
		v := numbers{colLSN: uint64(100 - i)}
		switch kind {
		case kindData:
			v[colOp], v[colTime] = uint64(event.OpPut), uint64(1000-i)
			b.add(key, sharedLen(last, key), &v, []byte("value"), nil)
		default:
			v[colOffset], v[colLength] = uint64(64+200*i), 200
			b.add(key, sharedLen(last, key), &v, nil, nil)
		}
		last = key
	}
	return b.finish(nil)
}

// TestBrokenBlocksAreRefused changes one thing in a sound block.
func TestBrokenBlocksAreRefused(t *testing.T) {
	keys := []string{"a", "a-long-key-1", "a-long-key-2", "b"}
	view := func(b []byte, kind byte) *sorted {
		var s sorted
		if !s.parse(b, kind) {
			t.Fatal("it does not parse")
		}
		return &s
	}
	for _, c := range []struct {
		name   string
		kind   byte
		change func(b []byte) []byte
	}{
		{"kind", kindData, func(b []byte) []byte { b[0] = kindIndex; return b }},
		{"columns", kindData, func(b []byte) []byte { b[1]--; return b }},
		{"reserved", kindData, func(b []byte) []byte { b[3] = 1; return b }},
		{"reserved", kindData, func(b []byte) []byte { b[15] = 1; return b }},
		{"no entries", kindData, func(b []byte) []byte { b[4] = 0; return b }},
		{"more entries than bytes", kindData, func(b []byte) []byte { b[7] = 0xff; return b }},
		{"shared bytes", kindData, func(b []byte) []byte { b[11] = 0x7f; return b }},
		{"width", kindData, func(b []byte) []byte { b[sortedHead+8*8] = 9; return b }},
		{"widths fill", kindIndex, func(b []byte) []byte { b[headLen(5)-1] = 1; return b }},
		{"column fill", kindData, func(b []byte) []byte {
			s := view(b, kindData)
			if s.used == s.prefixes {
				t.Fatal("there is none")
			}
			b[s.used] = 1
			return b
		}},
		{"cut", kindData, func(b []byte) []byte { return b[:len(b)-1] }},
		{"more", kindData, func(b []byte) []byte { return append(b, 0) }},
		{"empty", kindData, func(b []byte) []byte { return nil }},
		{"end", kindData, func(b []byte) []byte { b[view(b, kindData).cols[colEnd].at] = 0xff; return b }},
		{"key length", kindData, func(b []byte) []byte { b[view(b, kindData).cols[colKeyLen].at] = 0xff; return b }},
		{"huge key length", kindData, func(b []byte) []byte { b[sortedHead+8*colKeyLen+7] = 0xff; return b }},
		{"prefix behind the end", kindData, func(b []byte) []byte { b[view(b, kindData).prefixes] = 1; return b }},
		{"order of prefixes", kindData, func(b []byte) []byte { b[view(b, kindData).prefixes+3*prefixLen+7] = 0; return b }},
		{"order of rests", kindData, func(b []byte) []byte { return bytes.Replace(b, []byte("y-1"), []byte("y-3"), 1) }},
		{"same key twice", kindData, func(b []byte) []byte {
			b = bytes.Replace(b, []byte("y-1"), []byte("y-2"), 1)
			s := view(b, kindData)
			s.b[s.cols[colLSN].at+1] = 0
			return b
		}},
		{"LSN", kindData, func(b []byte) []byte { b[sortedHead+8*colLSN+7] = 0x80; return b }},
		{"LSN 0", kindData, func(b []byte) []byte { clear(b[sortedHead+8*colLSN:][:8]); return b }},
		{"op 0", kindData, func(b []byte) []byte { b[sortedHead+8*colOp] = 0; return b }},
		{"op beyond a byte", kindData, func(b []byte) []byte { b[sortedHead+8*colOp+1] = 1; return b }},
		{"length of parts", kindData, func(b []byte) []byte { b[sortedHead+8*colParts] = 6; return b }},
		{"parts", kindData, func(b []byte) []byte { b[sortedHead+8*colParts] = 3; return b }},
		{"length of a block", kindIndex, func(b []byte) []byte { b[sortedHead+8*colLength+3] = 0x80; return b }},
		{"offset of a block", kindIndex, func(b []byte) []byte { b[sortedHead+8*colOffset+7] = 0x80; return b }},
		{"heap of an index", kindIndex, func(b []byte) []byte { return append(b, 0) }},
	} {
		b := blockOf(c.kind, keys...)
		if err := checkRaw(c.kind, b); err != nil {
			t.Fatal(err)
		}
		if err := checkRaw(c.kind, c.change(b)); !errors.Is(err, corruption.ErrCorrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := checkRaw(kindData, blockOf(kindData, "")); !errors.Is(err, corruption.ErrCorrupt) {
		t.Errorf("empty key: %v", err)
	}
}

// TestSearch holds searches in blocks of all sizes against a look at each entry.
func TestSearch(t *testing.T) {
	for n := 1; n < 2000; n += 1 + n/7 {
		for seed := range uint64(3) {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			var keys []string
			for i := range n {
				switch seed {
				case 0:
					keys = append(keys, fmt.Sprintf("%06d", 2*i))
				case 1: // runs of one prefix, within which keys and versions differ
					keys = append(keys, fmt.Sprintf("%08d-%03d", i/100, i%100/5))
				case 2:
					keys = append(keys, "the same")
				}
			}
			b := newBuilder(kindData, 1<<20, 1)
			var last []byte
			for i, k := range keys {
				key := append([]byte{0, 0, 0, 1}, k...)
				v := numbers{colLSN: uint64(10000 - 2*i), colOp: 1}
				b.add(key, sharedLen(last, key), &v, nil, nil)
				last = key
			}
			raw := b.finish(nil)
			var s sorted
			if !s.parse(raw, kindData) || s.check(kindData) != nil {
				t.Fatal("the block is not sound")
			}
			for range 20 {
				i := rnd.IntN(n)
				key := []byte(keys[i])
				if rnd.IntN(3) == 0 {
					key[len(key)-1]++
				}
				searchSorted(t, &s, entryKey(1, key, event.LSN(10000-2*i-1+rnd.IntN(3))))
			}
			searchSorted(t, &s, entryKey(0, nil, 1))
			searchSorted(t, &s, entryKey(2, nil, 1))
			searchSorted(t, &s, entryKey(1, nil, event.MaxLSN))
		}
	}
}
