package wal

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A log is cut at the end of each batch, also within a frame: what is left is sound and ends there. Within a batch it is not cut.
func TestCopyCut(t *testing.T) {
	fs := vfs.NewMem()
	b := newBuilder(fs, "/db/wal")
	b.start(EndingNone)
	more := map[event.LSN]bool{}
	add := func(batches ...int) {
		var events [][]byte
		for _, n := range batches {
			for i := range n {
				flags := event.Flags(0)
				if i+1 < n {
					flags = event.FlagMore
					more[b.next+event.LSN(len(events))] = true
				}
				payload := event.AppendPayload(nil, 1, fmt.Append(nil, "k", i), []byte("v"), nil)
				events = append(events, event.AppendWire(nil, event.OpPut, flags, 1, int64(len(events)), payload))
			}
		}
		b.commit(events...)
	}
	add(1)
	add(2, 1, 3)
	b.data(make([]byte, 700))
	add(1, 1)
	b.watermark()
	add(4)
	last := b.next - 1
	b.store()
	files, err := ListFiles(fs, "/db/wal")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for lsn := event.LSN(0); lsn <= last; lsn++ {
		dir := fmt.Sprint("/out/", lsn, "/wal")
		if err := fs.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		tail, err := CopyCut(fs, "/db/wal", files[0], lsn, fs, dir+"/"+files[0].Name, nil)
		if more[lsn] {
			if !errors.Is(err, ErrMidBatch) {
				t.Errorf("LSN %d: %v", lsn, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("LSN %d: %v", lsn, err)
			continue
		}
		report, err := Verify(context.Background(), fs, dir, nil)
		if err := errors.Join(append(report.Defects, err)...); err != nil {
			t.Errorf("LSN %d: %v", lsn, err)
		}
		if r := report.Tail; r.NextLSN != lsn+1 || r.End != tail.End || r.Chain != tail.Chain || r.LastTime != tail.LastTime || tail.NextLSN != lsn+1 {
			t.Errorf("LSN %d: the tail is %+v, CopyCut says %+v", lsn, r, tail)
		}
	}
	if _, err := CopyCut(fs, "/db/wal", files[0], last+1, fs, "/out/x", nil); err == nil {
		t.Error("a log is cut behind its end")
	}
}
