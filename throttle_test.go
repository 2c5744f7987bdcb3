package dyngo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// While memory can't be written as segments, each commit is held back, and the listener and the metrics say why; when it can
// be again, writers are free.
func TestWritersSlowDownWhileFlushesFail(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	var failing atomic.Bool
	failing.Store(true)
	fs.OnCall(func(c vfs.Call) error {
		if failing.Load() && c.Op == vfs.OpCreate && strings.HasSuffix(c.Name, ".seg") {
			return errors.New("injected")
		}
		return nil
	})
	type notice struct {
		delay  time.Duration
		reason string
	}
	notices := make(chan notice, 100)
	o := &dyngo.Options{FS: fs, MemoryBudget: 8 << 20, Listener: &dyngo.Listener{
		Slowed: func(delay time.Duration, reason string) { notices <- notice{delay, reason} },
	}}
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	var slowed notice
	for i := 0; slowed.delay == 0; i++ {
		if i == 200 {
			t.Fatalf("20 MB were written under 8 MiB, and nobody was slowed down: %+v", db.Metrics())
		}
		if _, err := ds.Put(fmt.Append(nil, i), []byte(big(100<<10, byte(i)))); err != nil {
			t.Fatal(err)
		}
		select {
		case slowed = <-notices:
		default:
		}
	}
	if m := db.Metrics(); m.WriteDelay <= 0 || m.WriteDelayReason != slowed.reason || !strings.Contains(slowed.reason, "memory") {
		t.Errorf("the listener was told %+v, metrics say %v, %q", slowed, m.WriteDelay, m.WriteDelayReason)
	}
	failing.Store(false)
	// They may be slowed down once more, for what is flushed and has not left memory yet. In the end the listener and the metrics say alike.
	deadline := time.After(time.Minute)
	for free := false; !free; {
		select {
		case n := <-notices:
			m := db.Metrics()
			free = n.delay == 0 && n.reason == "" && m.WriteDelay == 0 && m.WriteDelayReason == ""
		case <-deadline:
			m := db.Metrics()
			t.Fatalf("nobody writes and flushes succeed, metrics say %v, %q", m.WriteDelay, m.WriteDelayReason)
		}
	}
}

// While a merge takes long, runs that are added meanwhile are merged beside it.
func TestMergesRunBesideEachOther(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	var armed atomic.Bool
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.OnCall(func(c vfs.Call) error {
		if armed.Load() && c.Op == vfs.OpCreate && strings.HasSuffix(c.Name, ".seg") {
			once.Do(func() {
				armed.Store(false)
				close(begun)
				<-goOn
			})
		}
		return nil
	})
	merged := make(chan string, 100)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Listener: &dyngo.Listener{
		Compacted: func(why string, _, _ int64, _ time.Duration) { merged <- why },
	}})
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	flush := func(n int) {
		for range n {
			for _, k := range []string{"a", "m", "z"} {
				if _, err := ds.Put([]byte(k), []byte("value")); err != nil {
					t.Fatal(err)
				}
			}
			mustFlush(t, db)
		}
	}
	flush(3)
	armed.Store(true)
	done := make(chan error)
	go func() { done <- db.Compact(context.Background()) }()
	<-begun
	flush(12)
	t.Log("beside the first: ", <-merged)
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.Runs != 1 {
		t.Errorf("%d runs after Compact", m.Runs)
	}
}

// While retention can't follow, since the disk refuses what it writes, each commit is held back a little, and the listener and the
// metrics say why; when it can again, writers are free.
func TestWritersSlowDownWhileRetentionIsBehind(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem())
	var failing atomic.Bool
	fs.OnCall(func(c vfs.Call) error {
		if failing.Load() && c.Op == vfs.OpCreate && (strings.HasSuffix(c.Name, ".val") || strings.HasSuffix(c.Name, ".seg")) {
			return vfs.ErrNoSpace
		}
		return nil
	})
	slowed := make(chan string, 100)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, LogFileBytes: 1 << 20, Retention: dyngo.Retention{Bytes: 4 << 20}, Listener: &dyngo.Listener{
		Slowed: func(_ time.Duration, reason string) { slowed <- reason },
	}})
	defer db.Close()
	ds, err := db.CreateDataset("d", inline)
	if err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	var m dyngo.Metrics
	for i := 0; m.WriteDelay == 0 || m.RetentionErrors == 0; i++ { // a pass that fails does not set writers free
		if i == 400 {
			t.Fatalf("40 MB were written, 4 MiB of log are wanted, and nobody was slowed down: %+v", m)
		}
		if _, err := ds.Put(fmt.Append(nil, i), []byte(big(100<<10, byte(i)))); err != nil {
			t.Fatal(err)
		}
		m = db.Metrics()
	}
	if reason := <-slowed; reason != m.WriteDelayReason || !strings.Contains(reason, "retention") {
		t.Errorf("the listener was told %q, metrics say %v, %q", reason, m.WriteDelay, m.WriteDelayReason)
	}
	failing.Store(false)
	if _, err := db.GC(context.Background()); err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.WriteDelay != 0 || m.LogBytes > 6<<20 {
		t.Errorf("after retention could do its work writers wait %v, and the log has %d bytes of 4 MiB that are wanted", m.WriteDelay, m.LogBytes)
	}
}
