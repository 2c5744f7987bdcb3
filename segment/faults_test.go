package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// faultEntries make a file of several writes, whose due index is sorted in a file beside it.
func faultEntries() ([]Entry, WriterOptions) {
	var es []Entry
	for i := range 400 {
		e := put(fmt.Sprintf("key-%04d", i), "", event.LSN(i+1))
		e.Value = make([]byte, 2000)
		for k := range e.Value {
			e.Value[k] = byte(i*k*k + k>>4) // hard to compress
		}
		e.Parts = event.AppendExpiry(nil, testTime+int64(i*7919%400))
		es = append(es, e)
	}
	return es, WriterOptions{dueBytes: 4000, Compression: NoCompression}
}

// TestEveryFailedCallOfAWriterIsReported lets each call fail in each way. Either nothing is reported and the file is
// whole, or the error is, and Abort leaves nothing behind; a second try works.
func TestEveryFailedCallOfAWriterIsReported(t *testing.T) {
	es, o := faultEntries()
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailAfter, vfs.FailShort, vfs.FailNoSpace, vfs.FailSync} {
		fired := 0
		for k := int64(1); ; k++ {
			fsys := vfs.NewFault(vfs.NewMem())
			fsys.Inject(vfs.Plan{K: k, Kind: kind})
			_, err := tryWrite(fsys, "a.seg", o, es, nil)
			if fsys.Fired() == 0 {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			fired++
			fsys.Heal()
			checkFailedWrite(t, fsys, kind, fmt.Sprintf("kind %d, call %d", kind, k), err, es, o)
		}
		if fired == 0 || kind == vfs.FailError && fired < 15 {
			t.Fatalf("kind %d: %d calls", kind, fired)
		}
	}
}

func checkFailedWrite(t *testing.T, fsys *vfs.Fault, kind vfs.Kind, what string, err error, es []Entry, o WriterOptions) {
	t.Helper()
	names, lerr := fsys.List(".")
	if lerr != nil {
		t.Fatal(lerr)
	}
	if err == nil { // the call was one whose failure does not matter
		if i := slices.Index(names, "a.seg"); i < 0 || len(names) > 1 && names[1-i] != "a.seg.due" {
			t.Fatalf("%s: files %q", what, names)
		}
		r := open(t, fsys, "a.seg", nil)
		if err := r.Verify(context.Background(), nil); err != nil || r.Properties().Entries != int64(len(es)) {
			t.Fatalf("%s: %v\n%s", what, err, fsys.Trace())
		}
		return
	}
	if kind == vfs.FailAfter && len(names) == 1 { // a file that was made though the call failed has no owner
		if err := fsys.Remove(names[0]); err != nil {
			t.Fatal(err)
		}
	} else if len(names) > 0 {
		t.Fatalf("%s: %v left %q\n%s", what, err, names, fsys.Trace())
	}
	write(t, fsys, "a.seg", o, es)
}

// TestAFullDiskIsReported lets the disk fill up at every length of the file.
func TestAFullDiskIsReported(t *testing.T) {
	es, o := faultEntries()
	for quota := int64(0); ; quota += 64 << 10 {
		fsys := vfs.NewFault(vfs.NewMem())
		fsys.SetQuota(quota)
		_, err := tryWrite(fsys, "a.seg", o, es, nil)
		if err == nil {
			break
		}
		if !vfs.IsNoSpace(err) {
			t.Fatalf("quota %d: %v", quota, err)
		}
		if names, err := fsys.List("."); err != nil || len(names) != 0 || fsys.Used() != 0 {
			t.Fatalf("quota %d: left %q, %d bytes, %v", quota, names, fsys.Used(), err)
		}
	}
}

// TestAWriterWithAnErrorStaysFailed goes on with a writer after a failed write.
func TestAWriterWithAnErrorStaysFailed(t *testing.T) {
	es, o := faultEntries()
	fsys := vfs.NewFault(vfs.NewMem())
	w, err := Create(fsys, "a.seg", o)
	if err != nil {
		t.Fatal(err)
	}
	fsys.Inject(vfs.Plan{Kind: vfs.FailShort, Ops: vfs.OpWrite})
	failed := -1
	for i := range es {
		if err := w.Add(&es[i]); err != nil {
			if failed < 0 {
				failed = i
			}
		} else if failed >= 0 {
			t.Fatalf("entry %d is taken after the failure at %d", i, failed)
		}
	}
	if _, err := w.Finish(); err == nil || failed < 0 {
		t.Fatalf("%v, failed at %d", err, failed)
	}
	w.Abort()
	w.Abort()
	if err := w.Add(&es[0]); err == nil {
		t.Fatal("Add after Abort")
	}
	if names, err := fsys.List("."); err != nil || len(names) != 0 {
		t.Fatalf("left %q, %v", names, err)
	}
}

// TestEveryFailedReadIsReported lets each read fail: a reader reports it, serves nothing wrong, and works again later.
func TestEveryFailedReadIsReported(t *testing.T) {
	mem := vfs.NewMem()
	es := smallSegment(t, mem, "a.seg", S2)
	use := func(fsys vfs.FS) (err error) {
		r, err := Open(fsys, "a.seg", ReaderOptions{HashSeed: testSeed})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		for i := range es {
			got, ok, err := get(r, 1, es[i].Key, es[i].LSN)
			if err != nil {
				return err
			}
			if !ok || !equal(&got, &es[i]) {
				t.Fatalf("get %t %s, want %s", ok, show(&got), show(&es[i]))
			}
		}
		for _, o := range []IterOptions{{}, {NoFill: true}} {
			it := r.NewIter(o)
			defer it.Close()
			n := 0
			for ok := it.Last(); ok; ok = it.Prev() {
				n++
			}
			if it.Err() != nil {
				return it.Err()
			}
			if n != len(es) {
				t.Fatalf("%d entries", n)
			}
		}
		due := r.Due(0)
		defer due.Close()
		for due.Next() {
		}
		if due.Err() != nil {
			return due.Err()
		}
		return r.Verify(context.Background(), nil)
	}
	for _, kind := range []vfs.Kind{vfs.FailError, vfs.FailShort} {
		for k := int64(1); ; k++ {
			fsys := vfs.NewFault(mem)
			fsys.Inject(vfs.Plan{K: k, Kind: kind})
			err := use(fsys)
			if fsys.Fired() == 0 {
				if err != nil || k < 20 {
					t.Fatalf("%v after %d calls", err, k)
				}
				break
			}
			if err == nil || errors.Is(err, corruption.ErrCorrupt) {
				t.Fatalf("call %d: %v\n%s", k, err, fsys.Trace())
			}
			fsys.Heal()
			if err := use(fsys); err != nil {
				t.Fatalf("after call %d failed: %v", k, err)
			}
		}
	}
}

// TestAfterACrashAFileIsWholeOrCorrupt cuts the power at every change of the file system. A segment whose Finish
// returned, and whose directory was synced, is whole; of any other, Open says that it is corrupt, or it is whole too.
func TestAfterACrashAFileIsWholeOrCorrupt(t *testing.T) {
	es, o := faultEntries()
	es = es[:200]
	for k := int64(1); ; k++ {
		crash := vfs.NewCrash(uint64(k))
		frozen := crash.CrashAt(k)
		_, err := tryWrite(crash, "a.seg", o, es, nil)
		if err == nil {
			err = crash.SyncDir(".")
		}
		crashed := false
		select {
		case <-frozen:
			crashed = true
		default:
		}
		if crashed == (err == nil) {
			t.Fatalf("change %d: crashed %t, %v", k, crashed, err)
		}
		for seed := range uint64(8) {
			left := crash.PowerLoss(vfs.CrashOptions{Seed: seed, Keep: vfs.Keep(seed % 3), Garbage: seed > 4})
			checkAfterCrash(t, left, fmt.Sprintf("change %d, seed %d", k, seed), es, err == nil)
		}
		if !crashed {
			if k < 10 {
				t.Fatalf("%d changes", k)
			}
			return
		}
	}
}

func checkAfterCrash(t *testing.T, fsys vfs.FS, what string, es []Entry, durable bool) {
	t.Helper()
	r, err := Open(fsys, "a.seg", ReaderOptions{})
	if err != nil {
		if durable || !errors.Is(err, corruption.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v", what, err)
		}
		return
	}
	defer r.Close()
	// A footer can be there without all that lies before it: then something is found where it is looked at.
	err = r.Verify(context.Background(), nil)
	if err != nil && (durable || !errors.Is(err, corruption.ErrCorrupt)) ||
		err == nil && r.Properties().Entries != int64(len(es)) {
		t.Fatalf("%s: %v, %d entries", what, err, r.Properties().Entries)
	}
}

// TestAMissingSyncIsSeen leaves out the sync in Finish: then a crash does damage, so the test above can fail.
func TestAMissingSyncIsSeen(t *testing.T) {
	es, o := faultEntries()
	crash := vfs.NewCrash(1)
	fsys := vfs.NewFault(crash)
	fsys.SkipSync(vfs.OpSyncs, "a.seg")
	if _, err := tryWrite(fsys, "a.seg", o, es, nil); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	if fsys.Skipped() != 1 {
		t.Fatalf("%d syncs of the file", fsys.Skipped())
	}
	if _, err := Open(crash.PowerLoss(vfs.CrashOptions{Keep: vfs.KeepNone}), "a.seg", ReaderOptions{}); !errors.Is(err,
		corruption.ErrCorrupt) {
		t.Fatalf("without a sync: %v", err)
	}
}
