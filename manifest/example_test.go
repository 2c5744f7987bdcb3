package manifest_test

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
)

func ExampleSet() {
	fsys := vfs.NewMem()
	set, err := manifest.Open(fsys, "db/manifest", manifest.Options{
		Obsolete: func(n manifest.FileNum) { fmt.Println("to be removed:", manifest.SegmentName(n)) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer set.Close()
	if err := set.Start([16]byte{1}); err != nil { // the id of the log
		fmt.Println(err)
		return
	}

	// A flush: the file is written and synced, then the edit makes it part of the database.
	num, run := set.NewFileNum(), set.NewRunID()
	flushed := event.LSN(10)
	key := func(k string) manifest.Key { return manifest.Key{Dataset: 1, Key: []byte(k)} }
	err = set.Apply(&manifest.Edit{FlushedLSN: &flushed, Add: []*manifest.Segment{{
		Num: num, Run: run, Smallest: key("a"), Largest: key("m"), MinLSN: 1, MaxLSN: 10, Entries: 9, Keys: 7,
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	v := set.Acquire() // from here on the version's files stay
	fmt.Println(v.Runs[0].Find(1, []byte("c")))

	if err := set.Apply(&manifest.Edit{Remove: []manifest.FileNum{num}}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("now", set.Current().SegmentCount(), "segments")
	v.Release()
	// Output:
	// 0000000001 run 1, 0 bytes, 1/"a" to 1/"m", LSN 1 to 10, 9 entries, 7 keys, 0 tombstones, 0 range deletes
	// now 0 segments
	// to be removed: 0000000001.seg
}
