package dyngo_test

import (
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// closedWithTTL makes a store and closes it: "k" was put with a time to live of a second, and again without if overwritten.
func closedWithTTL(t *testing.T, fs vfs.FS, c *clock.Manual, overwritten bool) {
	t.Helper()
	db, ds := openWith(t, options(fs, c))
	_, err := ds.PutWith([]byte("k"), nil, dyngo.WriteOptions{TTL: time.Second})
	if err == nil && overwritten {
		_, err = ds.Put([]byte("k"), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
}

// A version that was overwritten before it was due is no reason to write to a store that is only opened.
func TestOverwrittenBeforeDueWritesNothing(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	closedWithTTL(t, fs, c, true)
	db := mustOpen(t, storeDir, options(fs, c))
	err := within(func() error {
		for db.Metrics().TTLPending > 0 {
			runtime.Gosched()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if last := db.Recovery().LastLSN; db.LSN() != last {
		t.Errorf("the log went on from LSN %d to %d", last, db.LSN())
	}
}

// When the log can't be started, an expire event waits; it is not forgotten until the store is opened again.
func TestExpiryIsTriedAgain(t *testing.T) {
	fault, c := vfs.NewFault(vfs.NewMem()), manualClock()
	closedWithTTL(t, fault, c, false)
	fault.Inject(vfs.Plan{Ops: vfs.OpOpenRW})
	told, expired := make(chan error, 8), make(chan dyngo.LSN, 8)
	o := options(fault, c)
	o.Logger = slog.New(slog.NewTextHandler(expiryErrors(func(err error) { told <- err }), nil))
	o.Listener = &dyngo.Listener{Expired: func(_ string, _ []byte, lsn dyngo.LSN, _ time.Time, _ time.Duration) { expired <- lsn }}
	db := mustOpen(t, storeDir, o)
	defer db.Close()
	err := within(func() error {
		<-told
		for {
			select {
			case <-expired:
				return nil
			default:
				c.Advance(time.Second)
				runtime.Gosched()
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A version that expires at once is overwritten at once: whichever event is logged first, the second put stays.
func TestExpiryRacesWithPut(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Consistency: dyngo.Causal})
	if err != nil {
		t.Fatal(err)
	}
	rounds := 20_000
	if testing.Short() {
		rounds /= 4
	}
	var keys [8][]byte
	for i := range keys {
		keys[i] = []byte{byte('a' + i)}
	}
	for i := 0; i < rounds || i < 100*rounds && db.Metrics().Expired == 0; i++ {
		k := keys[i%len(keys)]
		if _, err := ds.PutWith(k, nil, dyngo.WriteOptions{TTL: -1}); err != nil {
			t.Fatal(err)
		}
		for range i % 40 { // to meet the expirer at every point of its work
			runtime.Gosched()
		}
		if _, err := ds.Put(k, nil); err != nil {
			t.Fatal(err)
		}
		if ok, err := ds.Has(keys[(i+1)%len(keys)]); i >= len(keys) && (!ok || err != nil) {
			t.Fatalf("round %d: the key that was put last in round %d is gone: %v", i, i+1-len(keys), err)
		}
	}
	expired := db.Metrics().Expired
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := readLog(fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d versions were ended by an event", found.expiries, rounds)
	if expired == 0 || expired > int64(found.expiries) {
		t.Errorf("%d expire events were told, %d are in the log", expired, found.expiries)
	}
}
