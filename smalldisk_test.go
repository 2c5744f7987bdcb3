package dyngo_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A disk that has room for three times the data takes any number of overwrites: what merging needs to give space back is not
// filled by the log.
func TestOverwritesOnSmallDisk(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	const keys, valueBytes, quota = 12_000, 1 << 10, 48 << 20
	fs := vfs.NewFault(vfs.NewMem())
	fs.SetQuota(quota)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 4 << 20}})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	rounds := 8
	if testing.Short() {
		rounds = 4
	}
	value := make([]byte, valueBytes)
	last := make([]uint64, keys)
	for range rounds * keys {
		i := rng.IntN(keys)
		last[i] = rng.Uint64()
		fill := rand.New(rand.NewPCG(last[i], 1))
		for j := 0; j < len(value); j += 8 {
			copy(value[j:], fmt.Appendf(nil, "%08x", uint32(fill.Uint64())))
		}
		if _, err := ds.Put(fmt.Appendf(nil, "key-%05d", i), value); err != nil {
			t.Fatalf("%v\n%+v", err, db.Metrics())
		}
	}
	n := 0
	for kv, err := range ds.Scan(dyngo.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscanf(string(kv.Key), "key-%05d", &i); err != nil {
			t.Fatal(err)
		}
		fill := rand.New(rand.NewPCG(last[i], 1))
		if want := fmt.Sprintf("%08x", uint32(fill.Uint64())); string(kv.Value[:8]) != want {
			t.Fatalf("key %d begins with %q, want %q", i, kv.Value[:8], want)
		}
		n++
	}
	want := 0
	for _, v := range last {
		if v != 0 {
			want++
		}
	}
	if n != want {
		t.Errorf("%d keys, want %d", n, want)
	}
	if m := db.Metrics(); m.Compactions == 0 {
		t.Errorf("nothing was merged: %+v", m)
	}
}

// Writes that fill the disk leave what dropping log files, flushes and merges need: none of them meets a full disk, the log stays within
// retention to the end, deletes and reads go on.
func TestFullDiskLeavesRoomForRetention(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	fs.SetQuota(48 << 20)
	var refused atomic.Int64
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 4 << 20}, Listener: &dyngo.Listener{
		DiskFull: func(full bool) {
			if full {
				refused.Add(1)
			}
		},
	}})
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	put := make(chan error, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%05d", i) }
	n := 0
	for full := false; !full; n++ {
		value := make([]byte, 100<<10) // goes to value files, so there is hardly anything to merge
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
		go func() {
			_, err := ds.Put(key(n), value)
			put <- err
		}()
		select {
		case err := <-put:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Second):
			full = true
		}
	}
	if used := fs.Used(); used < 36<<20 {
		t.Errorf("writes wait with %d of %d bytes in use", used, 48<<20)
	}
	if m := db.Metrics(); m.LogBytes > 6<<20 || m.RetentionErrors+m.FlushErrors+m.CompactionErrors > 0 || refused.Load() > 0 {
		t.Errorf("the log has %d bytes, 4 MiB are wanted; %d passes of retention, %d flushes and %d merges have failed; the disk refused %d calls",
			m.LogBytes, m.RetentionErrors, m.FlushErrors, m.CompactionErrors, refused.Load())
	}
	if _, err := ds.Delete(key(0)); err != nil {
		t.Error(err)
	}
	if _, err := ds.Get(key(n - 2)); err != nil {
		t.Error(err)
	}
	fs.SetQuota(64 << 20)
	if err := <-put; err != nil {
		t.Fatal(err)
	}
}
