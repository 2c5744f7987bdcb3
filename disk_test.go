package dyngo_test

import (
	"testing"
	"time"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// How long the disk lasts is told when an hour is known, from what became of the free space; not when it grows again.
func TestDaysToFull(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	const quota = 1 << 40
	fault.SetQuota(quota)
	db := mustOpen(t, storeDir, bounded(fault, c, 0))
	defer db.Close()
	days := func() float64 { return db.Metrics().DaysToFull }
	if d := days(); d != 0 {
		t.Errorf("at first: %v days", d)
	}
	c.Advance(59 * time.Minute)
	fault.SetQuota(quota - quota/100)
	if d := days(); d != 0 {
		t.Errorf("before an hour has passed: %v days", d)
	}
	c.Advance(time.Minute)
	if d, want := days(), 99./24; d < want*0.99 || d > want*1.01 {
		t.Errorf("a hundredth in an hour, %v days, want about %v", d, want)
	}
	fault.SetQuota(quota + quota/100)
	if d := days(); d != 0 {
		t.Errorf("there is more free than before: %v days", d)
	}
}
