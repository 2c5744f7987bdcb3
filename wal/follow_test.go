package wal

import (
	"context"
	"errors"
	"path"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// follow collects commit frames in the background.
type follow struct {
	t      *testing.T
	clock  *clock.Manual
	frames chan event.LSN // last LSN of each
	failed chan error
	cancel context.CancelFunc
}

func startFollow(t *testing.T, fsys vfs.FS) *follow {
	c := clock.NewManual(time.Unix(0, testTime))
	f, err := Follow(fsys, "db/wal", FollowOptions{Clock: c, Poll: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &follow{t: t, clock: c, frames: make(chan event.LSN, 100), failed: make(chan error, 1), cancel: cancel}
	go func() {
		for {
			fr, err := f.Next(ctx)
			if err != nil {
				w.failed <- errors.Join(err, f.Close())
				return
			}
			if fr.Kind == KindCommit {
				w.frames <- fr.BaseLSN + event.LSN(fr.Count) - 1
			}
		}
	}()
	return w
}

// want waits for a commit frame, moving the clock on.
func (w *follow) want(last event.LSN) {
	w.t.Helper()
	for {
		select {
		case got := <-w.frames:
			if got != last {
				w.t.Fatalf("frame up to LSN %d, want %d", got, last)
			}
			return
		case err := <-w.failed:
			w.t.Fatal(err)
		default:
			w.clock.Advance(time.Second)
		}
	}
}

func (w *follow) stop() error {
	w.cancel()
	return <-w.failed
}

func TestFollowGoesOnAcrossFilesAndCrashes(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	w := startFollow(t, fsys) // nothing is there yet
	b.start(EndingNone)
	b.puts(2)
	b.store()
	w.want(2)

	// A frame that is half written is waited for. It lies on zeros, as a writer fills its files ahead.
	f, err := fsys.OpenRW(b.lastFile)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b.file)
	b.puts(3)
	write(t, f, make([]byte, 1<<20), at)
	write(t, f, b.file[at:at+100], at)
	w.clock.Advance(time.Second)
	write(t, f, b.file[at+100:], at+100)
	w.want(5)
	if err := errors.Join(f.Truncate(int64(b.end)), f.Close()); err != nil {
		t.Fatal(err)
	}

	b.start(EndingSealed)
	b.puts(1)
	b.clean()
	w.want(6)

	// The store is opened again and goes on in the same file.
	if err := fsys.Remove(path.Join("db/wal", CleanName)); err != nil {
		t.Fatal(err)
	}
	if f, err = fsys.OpenRW(b.lastFile); err != nil {
		t.Fatal(err)
	}
	at = len(b.file)
	b.puts(1)
	write(t, f, b.file[at:], at)
	w.want(7)

	// It crashes within a write, and goes on in a new file.
	write(t, f, []byte("torn"), b.end+10)
	w.clock.Advance(time.Second)
	content := b.file
	b.start(EndingCut)
	overwrite(fsys, path.Join("db/wal", FileName(2, 6)), append(content, "          torn"...))
	b.puts(2)
	b.store()
	w.want(9)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestFollowReportsDamage(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	b.puts(2)
	b.watermark()
	b.file[HeaderSize+FrameHeaderSize+80] ^= 1
	b.store()
	w := startFollow(t, fsys)
	if err := <-w.failed; !errors.Is(err, corruption.ErrCorrupt) {
		t.Fatal(err)
	}
	w.cancel()
}
