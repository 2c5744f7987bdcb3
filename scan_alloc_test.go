//go:build !race

package dyngo_test

import (
	"testing"

	"github.com/dyngodb/dyngo"
)

// Under the race detector pools forget, so that this means nothing there.
func TestShortScansHardlyAllocate(t *testing.T) {
	scanStores(t, func(t *testing.T, ds *dyngo.Dataset) {
		from, n := scanKey(700), 0
		scan := func() {
			for kv, err := range ds.Scan(dyngo.Range{From: from, Limit: 100}) {
				if err != nil {
					t.Fatal(err)
				}
				n += len(kv.Value)
			}
		}
		scan()
		if got := testing.AllocsPerRun(200, scan); got > 3 {
			t.Errorf("a scan of 100 pairs allocates %v times, want 3 at most", got)
		}
	})
}
