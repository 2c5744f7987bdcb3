package segment

import (
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Extra properties come back as they were given, in files with and without entries; tags that are the segment's own or do
// not ascend are refused.
func TestExtraProperties(t *testing.T) {
	mem := vfs.NewMem()
	extra := []Property{{Tag: ExtraTag, Body: []byte("one")}, {Tag: 70, Body: []byte{}}}
	for _, name := range []string{"empty", "full"} {
		w, err := Create(mem, name, WriterOptions{Extra: extra, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if name == "full" {
			if err := w.Add(&Entry{Dataset: 1, Key: []byte("k"), LSN: 1, Op: event.OpPut}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		r, err := Open(mem, name, ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := r.Properties().Unknown
		if len(got) != 2 || got[0].Tag != 64 || string(got[0].Body) != "one" || got[1].Tag != 70 || len(got[1].Body) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range [][]Property{{{Tag: ExtraTag - 1}}, {{Tag: 70}, {Tag: 70}}} {
		if _, err := Create(mem, "bad", WriterOptions{Extra: bad}); err == nil {
			t.Errorf("tags %+v are taken", bad)
		}
	}
}
