package segment

import (
	"context"
	"fmt"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestGetFindsTheNewestVersionAtAnLSN has a key with more versions than a block takes, between two others.
func TestGetFindsTheNewestVersionAtAnLSN(t *testing.T) {
	es := []Entry{put("a", "first", 1), put("c", "last", 2)}
	for lsn := event.LSN(10); lsn < 2000; lsn += 2 {
		es = append(es, put("b", fmt.Sprintf("value of %d", lsn), lsn))
	}
	sortEntries(es)
	fsys := vfs.NewMem()
	write(t, fsys, "a.seg", WriterOptions{BlockBytes: 1 << 10}, es)
	c := newMapCache()
	t.Cleanup(c.Close)
	r := open(t, fsys, "a.seg", c)
	for max := event.LSN(0); max < 2010; max++ {
		e, ok, err := get(r, 1, []byte("b"), max)
		want := min(max&^1, 1998)
		if err != nil || ok != (max >= 10) || ok && (e.LSN != want || string(e.Value) != fmt.Sprintf("value of %d", want)) {
			t.Fatalf("at %d: %t %s, %v", max, ok, show(&e), err)
		}
	}
	for key, want := range map[string]bool{"a": true, "b": true, "c": true, "": false, "ab": false, "d": false} {
		if _, ok, err := get(r, 1, []byte(key), event.MaxLSN); err != nil || ok != want {
			t.Errorf("%q: %t, %v", key, ok, err)
		}
	}
	if err := r.Verify(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
}
