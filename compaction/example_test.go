package compaction_test

import (
	"fmt"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
)

func ExamplePick() {
	key := func(s string) manifest.Key { return manifest.Key{Dataset: 1, Key: []byte(s)} }
	segment := func(num manifest.FileNum, run manifest.RunID, from, to string, sizeBytes int64) *manifest.Segment {
		return &manifest.Segment{Num: num, Run: run, SizeBytes: sizeBytes, Smallest: key(from), Largest: key(to), Entries: 1000,
			Keys: 1000, MinLSN: event.LSN(run*1000 - 999), MaxLSN: event.LSN(run * 1000)}
	}
	flushed := event.LSN(2000)
	v, err := (&manifest.Version{}).Apply(&manifest.Edit{
		Add: []*manifest.Segment{
			segment(1, 1, "a", "m", 60<<20),
			segment(2, 1, "n", "z", 60<<20),
			segment(3, 2, "b", "c", 30<<20),
		},
		FlushedLSN: &flushed, NextFile: 4, NextRun: 3,
	})
	if err != nil {
		panic(err)
	}
	if job, ok := compaction.Pick(v, compaction.Input{Durable: flushed}); ok {
		fmt.Print(job.Explain())
	}
	// Output:
	// merge 2 segments into run 1: space
	//   why      runs above the oldest have 30 MiB, 25 % of its 120 MiB; 24 MiB are allowed
	//   keys     1/"a" to 1/"m"
	//   score    0.6684
	//   reads    90 MiB
	//   writes   67.5 MiB, expected
	//   reclaims 22.5 MiB, expected
	//   sources  1 fewer to read in its key range
	//   run 2: 3
	//   run 1: 1
}
