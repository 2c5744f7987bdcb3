package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// liveWriter writes a log the way a writer may be seen from beside: frames arrive in bits and on zeros that were written
// ahead, files are cut to size and sealed, the log is closed and opened again.
type liveWriter struct {
	*builder
	rnd    *rand.Rand
	file   vfs.File
	stored int // bytes of builder.file that are in the file
}

func (w *liveWriter) create(ending Ending) error {
	if w.file != nil {
		if err := errors.Join(w.file.Truncate(int64(w.end)), w.file.Close()); err != nil {
			return err
		}
	}
	w.builder.file = nil // keeps start from storing it
	w.start(ending)
	tmp, name := path.Join(w.dir, "new.tmp"), path.Join(w.dir, FileName(w.head.Seq, w.head.FirstLSN))
	overwrite(w.fs, tmp, w.builder.file)
	w.stored = len(w.builder.file)
	if err := w.fs.Rename(tmp, name); err != nil {
		return err
	}
	w.lastFile = name
	return w.open()
}

func (w *liveWriter) open() (err error) {
	w.file, err = w.fs.OpenRW(w.lastFile)
	return err
}

// flush writes what the builder has in up to four bits.
func (w *liveWriter) flush() error {
	for w.stored < len(w.builder.file) {
		n := len(w.builder.file) - w.stored
		if cut := w.rnd.IntN(4); cut > 0 {
			n = 1 + w.rnd.IntN(n)
		}
		if _, err := w.file.WriteAt(w.builder.file[w.stored:w.stored+n], int64(w.stored)); err != nil {
			return err
		}
		w.stored += n
	}
	return nil
}

func (w *liveWriter) step() error {
	switch w.rnd.IntN(12) {
	case 0:
		return w.create(EndingSealed)
	case 1: // zeros ahead
		_, err := w.file.WriteAt(make([]byte, 1000), int64(w.stored))
		return err
	case 2:
		w.watermark()
	case 3:
		w.data(make([]byte, 1+w.rnd.IntN(3000)))
	case 4: // close and open again
		err := w.file.Truncate(int64(w.end))
		if err == nil {
			err = WriteClean(w.fs, w.dir, w.cleanFile())
		}
		if err == nil {
			err = w.fs.Remove(path.Join(w.dir, CleanName))
		}
		return err
	default:
		w.puts(1 + w.rnd.IntN(5))
		w.durable = w.next - 1 // the next frame says that this one was durable
	}
	return w.flush()
}

// TestReadersBesideAWriter has readers without lock at work while a log is being written. None of them may see damage, and
// each sees a prefix at least as long as what was written when it began.
func TestReadersBesideAWriter(t *testing.T) {
	const seed, steps = 1, 1500
	fsys := vfs.NewMem()
	w := &liveWriter{builder: newBuilder(fsys, "db/wal"), rnd: rand.New(rand.NewPCG(seed, seed))}
	if err := w.create(EndingNone); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for range steps {
			if err := w.step(); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	followed := make(chan error, 1)
	total := make(chan event.LSN, 1)
	go func() { followed <- followTo(ctx, fsys, total) }()
	for done, last := false, event.LSN(0); !done; {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		got, err := scanLive(fsys)
		if err != nil || got < last {
			t.Fatalf("seed %d: LSN %d after %d, %v", seed, got, last, err)
		}
		last = got
		r, err := Verify(ctx, fsys, "db/wal", nil)
		if err != nil || len(r.Defects) > 0 || r.Tail.NextLSN < last {
			t.Fatalf("seed %d: LSN %d after %d, %v, %v", seed, r.Tail.NextLSN, last, err, r.Defects)
		}
		if done && got != w.next {
			t.Fatalf("seed %d: ends at LSN %d, want %d", seed, got, w.next)
		}
	}
	total <- w.next + 1
	w.puts(1) // wakes the follower, which then knows the total
	if err := errors.Join(w.flush(), w.file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-followed; err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

func scanLive(fsys vfs.FS) (event.LSN, error) {
	s, err := NewScanner(fsys, "db/wal", ScanOptions{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for err == nil {
		_, err = s.Next()
	}
	if err != io.EOF {
		return 0, err
	}
	return s.Tail().NextLSN, nil
}

// followTo reads until the LSN that total will tell is reached, and checks that LSNs come densely.
func followTo(ctx context.Context, fsys vfs.FS, total <-chan event.LSN) error {
	f, err := Follow(fsys, "db/wal", FollowOptions{Clock: clock.NewSystem(), Poll: time.Millisecond})
	if err != nil {
		return err
	}
	defer f.Close()
	next, want := event.LSN(1), event.LSN(0)
	for want == 0 || next < want {
		fr, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if fr.Kind == KindCommit {
			if fr.BaseLSN != next {
				return fmt.Errorf("LSN %d, want %d", fr.BaseLSN, next)
			}
			next += event.LSN(fr.Count)
		}
		select {
		case want = <-total:
		default:
		}
	}
	return nil
}
