package dyngo_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// big is a value that goes to data frames.
func big(n int, seed byte) string {
	b := make([]byte, 0, n+64)
	for i := 0; len(b) < n; i++ { // 64 bytes at a time, since tests make many
		b = append(b, bigPieces[(i+int(seed))%len(bigPieces)]...)
	}
	return string(b[:n])
}

// bigPieces differ from each other.
var bigPieces = func() (pieces [251]string) {
	for i := range pieces {
		b := make([]byte, 64)
		for j := range b {
			b[j] = byte(j*7 + i*(1+j%3))
		}
		pieces[i] = string(b)
	}
	return pieces
}()

// script touches every feature of the store. Each step is one call, or a few that belong together.
var script = []struct {
	name string
	run  func(r *rig) error
}{
	{"create", func(r *rig) error {
		return errors.Join(r.create("strong", nil), r.create("causal", &dyngo.DatasetOptions{Consistency: dyngo.Causal}),
			r.create("packed", &dyngo.DatasetOptions{Compression: dyngo.S2, LargeValue: 1 << 10}),
			r.create("brief", &dyngo.DatasetOptions{TTL: 10 * time.Second}))
	}},
	{"put", func(r *rig) error { return r.put("strong", "a", "1") }},
	{"overwrite", func(r *rig) error { return errors.Join(r.put("strong", "a", "2"), r.put("strong", "b", "")) }},
	{"causal", func(r *rig) error {
		for i := range 5 {
			if err := r.put("causal", fmt.Sprint("c", i), "x"); err != nil {
				return err
			}
		}
		return nil
	}},
	{"delete", func(r *rig) error { return errors.Join(r.del("strong", "a"), r.del("strong", "never")) }},
	{"batch", func(r *rig) error {
		return r.batch(change{kind: "put", ds: "strong", key: "b1", value: "1"}, change{kind: "put", ds: "causal", key: "b2", value: "2"},
			change{kind: "del", ds: "strong", key: "b"}, change{kind: "put", ds: "strong", key: "b1", value: "3"})
	}},
	{"newest wins", func(r *rig) error {
		return errors.Join(r.newest("strong", "n", "10", 10), r.newest("strong", "n", "5", 5), r.newest("strong", "n", "10 again", 10), r.newest("strong", "n", "20", 20))
	}},
	{"flush", (*rig).flushSegments},
	{"newest wins over a delete", func(r *rig) error {
		return errors.Join(r.del("strong", "n"), r.newest("strong", "n", "15", 15), r.newest("strong", "n", "21", 21))
	}},
	{"newest in a batch", func(r *rig) error {
		return r.batch(change{kind: "newest", ds: "strong", key: "m", value: "3", time: 3}, change{kind: "newest", ds: "strong", key: "m", value: "2", time: 2},
			change{kind: "del", ds: "strong", key: "m"}, change{kind: "newest", ds: "strong", key: "m", value: "1", time: 1})
	}},
	{"time to live", func(r *rig) error {
		return errors.Join(r.put("brief", "dataset's", "10 s"), r.putTTL("causal", "short", "1 s", time.Second),
			r.putTTL("brief", "large", big(10<<10, 3), 2*time.Second), r.newestTTL("strong", "newest", "3 s", 10, 3*time.Second),
			r.batch(change{kind: "put", ds: "brief", key: "in a batch", value: "4 s", ttl: 4 * time.Second}, change{kind: "put", ds: "strong", key: "beside", value: "for ever"}),
			r.putTTL("brief", "closed", "ends while the store is closed", time.Minute), r.putTTL("brief", "hour", "1 h", time.Hour))
	}},
	{"flush of what expires", (*rig).flushSegments},
	{"expiry", func(r *rig) error { return r.advance(5 * time.Second) }},
	{"expiry made durable", (*rig).flush},
	{"expiry keeps the record time", func(r *rig) error {
		return errors.Join(r.newest("strong", "newest", "stale", 9), r.newest("strong", "newest", "newer", 11))
	}},
	{"put again before it expires", func(r *rig) error {
		return errors.Join(r.putTTL("strong", "again", "1 s", time.Second), r.put("strong", "again", "for ever"), r.advance(6*time.Second))
	}},
	{"large value", func(r *rig) error { return r.put("strong", "large", big(20<<10, 1)) }},
	{"large value from a reader", func(r *rig) error { return r.putReader("strong", "stream", big(600<<10, 2)) }},
	{"reader that fails", func(r *rig) error { return r.putFails("strong", "stream", 600<<10, big(300<<10, 4)) }},
	{"flush of large values", (*rig).flushSegments},
	{"compressed", func(r *rig) error {
		return errors.Join(r.put("packed", "text", strings.Repeat("all work and no play ", 40)), r.put("packed", "long", strings.Repeat("makes jack a dull boy ", 4000)))
	}},
	{"reopen", func(r *rig) error { return r.reopen(2 * time.Minute) }},
	{"range delete", func(r *rig) error {
		for i := range 8 {
			if err := r.put("strong", fmt.Sprint("r", i), "x"); err != nil {
				return err
			}
		}
		return errors.Join(r.delRange("strong", "r2", "r5"), r.put("strong", "r3", "back"), r.delRange("strong", "r7", ""))
	}},
	{"flush of range deletes", (*rig).flushSegments},
	{"rotate", func(r *rig) error {
		return errors.Join(r.putReader("strong", "stream", big(450<<10, 0)), r.putReader("strong", "stream", big(450<<10, 1)))
	}},
	{"small after rotation", func(r *rig) error { return r.put("strong", "s", "after") }},
	{"batch that spills", func(r *rig) error {
		return errors.Join(r.newest("strong", "s1", "20", 20), r.newest("strong", "s2", "5", 5), r.newest("strong", "s3", "7", 7),
			r.batch(spilling...), r.newest("strong", "s3", "6", 6), r.newest("strong", "s3", "8", 8))
	}},
	{"flush of a batch that spilled", (*rig).flushSegments},
	{"batch that spills into the next file", func(r *rig) error {
		left := 1<<20 - r.db.Metrics().Log.FileEnd // of the present file
		return errors.Join(r.putReader("strong", "stream", big(int(left)-6<<10, 6)), r.batch(spilling...))
	}},
	{"batch that spills and is not committed", func(r *rig) error { return r.abandon(spilling...) }},
	{"put again before its expiry is logged", func(r *rig) error {
		err := errors.Join(r.putTTL("strong", "l0", "", 1000*time.Millisecond), r.putTTL("strong", "l1", "", 1001*time.Millisecond),
			r.putTTL("strong", "l2", "", 1002*time.Millisecond), r.putTTL("strong", "l3", "", 1003*time.Millisecond),
			r.putTTL("strong", "l4", "", 1004*time.Millisecond))
		release := r.hold() // after l0
		defer release()
		return errors.Join(err, r.expect(r.tick(2*time.Second), "strong/l0"),
			r.put("strong", "l1", "put"), r.putAbsent("strong", "l2", "put absent"), r.del("strong", "l3"),
			r.expect(func() error { release(); return nil }, "strong/l4"))
	}},
	{"range delete and drop before it expires", func(r *rig) error {
		return errors.Join(r.create("gone", nil), r.putTTL("gone", "k", "v", time.Second), r.putTTL("strong", "u", "", time.Second),
			r.delRange("strong", "u", "v"), r.drop("gone"), r.putTTL("brief", "after them", "", 2*time.Second), r.advance(3*time.Second),
			r.create("gone", nil), r.put("gone", "k2", "v2"))
	}},
	{"merge", (*rig).merge},
	{"after the merge", func(r *rig) error {
		return errors.Join(r.put("strong", "a", "5"), r.del("strong", "b1"), r.newest("strong", "n", "30", 30))
	}},
	{"flush after the merge", (*rig).flushSegments},
	{"watermark", func(r *rig) error { r.clock.Advance(200 * time.Millisecond); return nil }},
	{"causal at the end", func(r *rig) error {
		return errors.Join(r.putTTL("causal", "short", "again", time.Second), r.put("causal", "last", "y"), r.advance(time.Second))
	}},
}

// spilling is a batch that goes to data frames: with stale and applied newest-wins puts, before and after a delete of their
// key, a large value, a compressed one, a time to live, and a range delete with an open end.
var spilling = func() []change {
	cs := []change{
		{kind: "newest", ds: "strong", key: "s1", value: "10", time: 10}, {kind: "newest", ds: "strong", key: "s2", value: "10", time: 10},
		{kind: "del", ds: "strong", key: "s3"}, {kind: "newest", ds: "strong", key: "s3", value: "6", time: 6},
		{kind: "put", ds: "brief", key: "s5", value: "3 s", ttl: 3 * time.Second},
		{kind: "put", ds: "packed", key: "s6", value: strings.Repeat("no beer and no tv ", 30)},
	}
	for i := range 6 {
		cs = append(cs, change{kind: "put", ds: "causal", key: fmt.Sprint("x", i), value: big(1500, byte(i))})
	}
	return append(cs, change{kind: "put", ds: "strong", key: "s4", value: big(10<<10, 5)}, change{kind: "range", ds: "causal", key: "x4"}, change{kind: "put", ds: "causal", key: "x5", value: "after the range"},
		change{kind: "newest", ds: "strong", key: "s2", value: "9", time: 9}, change{kind: "put", ds: "strong", key: "s7", value: "last"})
}()

// runScript runs the script until an error.
func runScript(r *rig) error {
	for _, step := range script {
		if err := step.run(r); err != nil {
			return fmt.Errorf("step %q: %w", step.name, err)
		}
	}
	return nil
}

// features counts what a script must have reached for its tests to mean something.
type features struct {
	expiries, spilled, spilledAcross int
}

// readLog goes through the log as a reader would who knows nothing of the engine. Each expire event must end the version
// that was its key's newest, and not before its time.
func readLog(fs vfs.FS) (found features, err error) {
	sc, err := wal.NewScanner(fs, storeDir+"/wal", wal.ScanOptions{})
	if err != nil {
		return found, err
	}
	defer sc.Close()
	files := wal.OpenFiles(fs, storeDir+"/wal")
	defer files.Close()
	type version struct {
		lsn event.LSN
		due int64
	}
	newest := map[string]version{}
	for f, err := sc.Next(); err == nil; f, err = sc.Next() {
		if f.Kind != wal.KindCommit {
			continue
		}
		events := f.Events
		if f.Flags&wal.FrameSpilled != 0 {
			found.spilled++
			file := f.File
			events = func() iter.Seq2[*event.Event, error] {
				return f.SpilledEvents(func(p event.Piece) ([]byte, error) {
					if p.File != file {
						found.spilledAcross++
					}
					return files.ReadSpilled(p)
				})
			}
		}
		for e, err := range events() {
			if err != nil {
				return found, err
			}
			key := fmt.Sprint(e.Dataset, "/", string(e.Key))
			switch {
			case e.Flags&event.FlagNotApplied != 0:
			case e.Op == event.OpPut:
				due, _ := event.Expiry(e.Parts)
				newest[key] = version{e.LSN, due}
			case e.Op == event.OpDelete:
				newest[key] = version{lsn: e.LSN}
			case e.Op == event.OpExpire:
				found.expiries++
				prev, _ := event.PrevLSN(e.Parts)
				if v := newest[key]; prev == 0 || v.lsn != prev || v.due == 0 || v.due > e.Time {
					return found, fmt.Errorf("LSN %d at %d ends LSN %d of %s; the newest is %d, due at %d", e.LSN, e.Time, prev, key, v.lsn, v.due)
				}
				newest[key] = version{lsn: e.LSN}
			}
		}
	}
	return found, nil
}
