package segment_test

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/segment"
)

func ExampleWriter() {
	fsys := vfs.NewMem()
	w, err := segment.Create(fsys, "0000000001.seg", segment.WriterOptions{Num: 1, Run: 1, HashSeed: 42})
	if err != nil {
		panic(err)
	}
	for _, e := range []segment.Entry{
		{Dataset: 1, Key: []byte("apple"), LSN: 9, Op: event.OpDelete},
		{Dataset: 1, Key: []byte("apple"), LSN: 3, Op: event.OpPut, Value: []byte("red")},
		{Dataset: 1, Key: []byte("pear"), LSN: 4, Op: event.OpPut, Value: []byte("green")},
	} {
		if err := w.Add(&e); err != nil {
			w.Abort()
			panic(err)
		}
	}
	p, err := w.Finish() // durable but for its name: fsys.SyncDir comes next
	if err != nil {
		w.Abort()
		panic(err)
	}
	fmt.Println(p.Entries, "entries,", p.Keys, "keys,", p.Tombstones, "tombstone, LSN", p.MinLSN, "to", p.MaxLSN)
	// Output: 3 entries, 2 keys, 1 tombstone, LSN 3 to 9
}

func ExampleReader() {
	r, err := segment.Open(vfs.OS, "../testdata/format1/segment/every.seg", segment.ReaderOptions{HashSeed: 0x0123456789abcdef})
	if err != nil {
		panic(err)
	}
	defer r.Close()

	key := []byte("put")
	hash := segment.Hash(0x0123456789abcdef, 1, key)
	var e segment.Entry
	for _, max := range []event.LSN{event.MaxLSN, 1} {
		b, ok, err := r.Get(1, key, hash, max, &e)
		if err != nil {
			panic(err)
		}
		if ok {
			fmt.Printf("%s at %d: %q\n", e.Op, e.LSN, e.Value)
			b.Release() // the value lay in it
		}
	}

	it := r.NewIter(segment.IterOptions{})
	defer it.Close()
	for ok := it.SeekGE(1, []byte("lost")); ok && it.Entry().Dataset == 1; ok = it.Next() {
		fmt.Printf("%s at %d\n", it.Entry().Key, it.Entry().LSN)
	}
	if it.Err() != nil {
		panic(it.Err())
	}
	// Output:
	// redact at 4: ""
	// put at 1: "value"
	// lost at 6
	// put at 4
	// put at 3
	// put at 2
	// put at 1
}
