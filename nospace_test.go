package dyngo_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// A full disk makes writers wait; deletes go on; when there is space everything goes on without a restart.
func TestFullDisk(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	told := make(chan bool, 8)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, LogFileBytes: 1 << 20,
		Listener: &dyngo.Listener{DiskFull: func(full bool) { told <- full }}})
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	fault.SetQuota(16 << 20)
	acked := 0
	value := []byte(big(4000, 1))
	written := make(chan error)
	stop := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				written <- nil
				return
			default:
			}
			if _, err := ds.Put(fmt.Appendf(nil, "k%06d", i), value); err != nil {
				written <- err
				return
			}
			acked = i + 1
		}
	}()
	if full := <-told; !full {
		t.Fatal("told that there is space before it was full")
	}
	for i := range 10 {
		if _, err := ds.Delete(fmt.Appendf(nil, "k%06d", i)); err != nil {
			t.Fatalf("delete with the disk full: %v", err)
		}
	}
	if _, err := ds.Get([]byte("k000020")); err != nil {
		t.Fatalf("read with the disk full: %v", err)
	}
	fault.SetQuota(64 << 20)
	if full := <-told; full {
		t.Fatal("told twice that the disk is full")
	}
	if _, err := ds.Put([]byte("after"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fault})
	defer db.Close()
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	for i := 10; i < acked; i++ {
		if _, err := ds.Get(fmt.Appendf(nil, "k%06d", i)); err != nil {
			t.Fatalf("key %d of %d: %v", i, acked, err)
		}
	}
}

func TestFirstWriteOnFullDisk(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	told := make(chan bool, 4)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fault, Listener: &dyngo.Listener{DiskFull: func(full bool) { told <- full }}})
	defer db.Close()
	fault.SetQuota(fault.Used())
	tried := make(chan struct{}, 1)
	fault.OnCall(func(c vfs.Call) error {
		if c.Op == vfs.OpWrite {
			select {
			case tried <- struct{}{}:
			default:
			}
		}
		return nil
	})
	done := make(chan error)
	go func() { done <- second(db.CreateDataset("d", nil)) }()
	<-tried
	fault.SetQuota(-1)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Close does not wait for space that never comes. Whoever waits for it learns that the store was closed, or that the outcome
// is unknown, and what was acknowledged is there when there is space again.
func TestCloseWhileWaitingForSpace(t *testing.T) {
	value := big(2000, 1)
	for _, c := range []struct {
		name  string
		fresh bool // nothing was written before
		write func(db *dyngo.DB, ds *dyngo.Dataset) error
	}{
		{"first write", true, func(db *dyngo.DB, _ *dyngo.Dataset) error { return second(db.CreateDataset("d", nil)) }},
		{"put", false, func(_ *dyngo.DB, ds *dyngo.Dataset) error {
			for { // until the file's last block is full
				if _, err := ds.Put([]byte("waits"), []byte(value)); err != nil {
					return err
				}
			}
		}},
		{"large value", false, func(_ *dyngo.DB, ds *dyngo.Dataset) error {
			return second(ds.PutReader([]byte("waits"), 1<<20, strings.NewReader(big(1<<20, 2))))
		}},
		{"next file", false, func(db *dyngo.DB, ds *dyngo.Dataset) error {
			return second(ds.Put([]byte("waits"), []byte(big(6000, 2))))
		}},
		{"dataset", false, func(db *dyngo.DB, _ *dyngo.Dataset) error {
			for i := 0; ; i++ {
				if _, err := db.CreateDataset(fmt.Sprint(i, strings.Repeat("n", 200)), nil); err != nil {
					return err
				}
			}
		}},
		{"batch that spills", false, func(db *dyngo.DB, ds *dyngo.Dataset) error {
			b := db.NewBatch()
			for i := range 300 { // more than was written ahead
				b.Put(ds, fmt.Appendf(nil, "waits%d", i), []byte(value))
			}
			return second(b.Commit())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fault := vfs.NewFault(vfs.NewMem())
			o := &dyngo.Options{FS: fault, LogFileBytes: 1 << 20, MemoryBudget: 8 << 20}
			o.SpillFrom(spillFrom, spillPiece)
			db := mustOpen(t, storeDir, o)
			var ds *dyngo.Dataset
			if !c.fresh {
				var err error
				if ds, err = db.CreateDataset("d", nil); err != nil {
					t.Fatal(err)
				}
				if _, err := ds.Put([]byte("k"), []byte(value)); err != nil {
					t.Fatal(err)
				}
			}
			if c.name == "next file" { // there is no room for it in the present one
				left := int(1<<20 - db.Metrics().Log.FileEnd)
				if _, err := ds.Put([]byte("filler"), []byte(big(left-5000, 3))); err != nil {
					t.Fatal(err)
				}
			}
			quota := fault.Used()
			if info, err := fault.Stat(storeDir + "/reserve"); err == nil { // which a store that took its time has
				quota -= info.Size
			}
			fault.SetQuota(quota)
			waits := repeated(fault)
			wrote := make(chan error, 1)
			go func() { wrote <- c.write(db, ds) }()
			err := within(func() error { <-waits; return nil })
			if err != nil {
				t.Fatal("waiting for a full disk ", err)
			}
			if err := within(func() error { db.Close(); err = <-wrote; return nil }); err != nil {
				t.Fatal("Close ", err)
			}
			known := errors.Is(err, dyngo.ErrClosed) || errors.Is(err, dyngo.ErrLogFailed) || errors.Is(err, dyngo.ErrOutcomeUnknown)
			if !known || c.fresh && !errors.Is(err, dyngo.ErrClosed) {
				t.Errorf("the call that waited: %v", err)
			}
			if open := fault.OpenFiles(); len(open) > 0 {
				t.Errorf("files stay open: %q", open)
			}
			fault.SetQuota(-1)
			db = mustOpen(t, storeDir, o)
			defer db.Close()
			if ds, err = db.CreateDataset("d", nil); err != nil {
				t.Fatal(err)
			}
			if got, err := ds.Get([]byte("k")); !c.fresh && (err != nil || !bytes.Equal(got, []byte(value))) {
				t.Errorf("what was acknowledged is %.20q, %v", got, err)
			}
			if _, err := ds.Put([]byte("after"), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// repeated returns a channel that is closed when the same write or create is tried a second time.
func repeated(fault *vfs.Fault) <-chan struct{} {
	again := make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	seen := map[string]bool{}
	fault.OnCall(func(c vfs.Call) error {
		if c.Op&(vfs.OpWrite|vfs.OpCreate) != 0 {
			mu.Lock()
			defer mu.Unlock()
			call := fmt.Sprint(c.Op, c.Name, c.Off, c.Len)
			if seen[call] {
				once.Do(func() { close(again) })
			}
			seen[call] = true
		}
		return nil
	})
	return again
}

// The space that the reserve holds is there for the end, too.
func TestCloseOnFullDiskWithReserve(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	c := manualClock()
	db, ds := openWith(t, &dyngo.Options{FS: fault, Clock: c})
	// Until the reserve is there, and the last block of the log has room for its end. Large values, so that no zeros are
	// written ahead, whose space the end gives back.
	for ready := false; !ready; {
		if _, err := ds.Put([]byte("k"), []byte(big(10_000, 1))); err != nil {
			t.Fatal(err)
		}
		info, err := fault.Stat(storeDir + "/reserve")
		ready = err == nil && info.Size >= 4<<20 && db.Metrics().Log.FileEnd%4096 < 3000
	}
	fault.SetQuota(fault.Used())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fault, Clock: c})
	if err := db.Close(); err != nil || !db.Recovery().Clean {
		t.Fatalf("closed in order: %v, %v", db.Recovery().Clean, err)
	}
}

// A store opens after a crash though there is no room for what recovery would write as segments.
func TestOpenOnFullDiskAfterCrash(t *testing.T) {
	crash := vfs.NewCrash(1)
	db, ds := openWith(t, &dyngo.Options{FS: crash, MemoryBudget: 64 << 20})
	defer db.Close()
	const n = 4000
	value := []byte(big(5000, 1))
	for i := range n {
		if _, err := ds.Put(fmt.Appendf(nil, "k%d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	fault := vfs.NewFault(crash.KillProcess())
	if err := fault.Count(storeDir); err != nil {
		t.Fatal(err)
	}
	fault.SetQuota(fault.Used())
	db = mustOpen(t, storeDir, &dyngo.Options{FS: fault, MemoryBudget: 8 << 20})
	defer db.Close()
	ds, err := db.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if v, err := ds.Get(fmt.Appendf(nil, "k%d", i)); err != nil || !bytes.Equal(v, value) {
			t.Fatalf("key %d is %.20q, %v", i, v, err)
		}
	}
	fault.SetQuota(-1)
	if _, err := ds.Put([]byte("after"), nil); err != nil {
		t.Fatal(err)
	}
}
