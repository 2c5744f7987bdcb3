package wal

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// BuilderOptions say how a Builder writes. All are needed.
type BuilderOptions struct {
	FS        vfs.FS
	Dir       string // of the log files; it is there, and empty
	Clock     clock.Clock
	LogID     [16]byte
	Timeline  [16]byte
	FileBytes int64 // rotate beyond
	// Time is the log time of a file that is begun: not before that of the events before it, not after that of those in it.
	Time func() int64
	// Dictionary is the body of the dictionary frame of a file whose first LSN is next.
	Dictionary func(next event.LSN) []byte
}

// A Builder writes a new log frame by frame, from events that have their LSNs and times: one that is made of another log. At any
// moment what was synced is a log. A full disk is an error, and like any other ends it. Not safe for concurrent use.
type Builder struct {
	w       *writer
	time    func() int64
	wall    func() int64
	durable event.LSN
}

// NewBuilder begins a log.
func NewBuilder(o BuilderOptions) (*Builder, error) {
	b := &Builder{time: o.Time, wall: o.Clock.Wall}
	w, err := openWriter(writerConfig{
		fs: o.FS, dir: o.Dir, fileBytes: o.FileBytes, logID: o.LogID, timelineID: o.Timeline, tail: Tail{NextLSN: 1},
		now: func() (int64, int64) { return o.Time(), o.Clock.Wall() }, dictionary: o.Dictionary,
		durable: func() event.LSN { return b.durable }, clock: o.Clock,
	})
	b.w = w
	return b, err
}

// Data writes a data frame and returns where it lies and the CRC of its body.
func (b *Builder) Data(body []byte) (Position, uint32, error) { return b.w.appendData(body) }

// Commit writes a commit frame: f has what its header says but for chain and place, buf FrameHeaderSize bytes of room and the body.
func (b *Builder) Commit(f *Frame, buf []byte) error {
	if f.Kind != KindCommit || f.BaseLSN != b.w.mu.next {
		panic(fmt.Sprintf("dyngo: bug: %s frame of LSN %d where LSN %d follows", f.Kind, f.BaseLSN, b.w.mu.next))
	}
	f.DurableLSN = b.durable
	_, err := b.w.appendFrame(f, buf)
	return err
}

// Sync makes the log durable, and says so in it.
func (b *Builder) Sync() error {
	if err := b.w.sync(); err != nil {
		return err
	}
	last := b.w.mu.next - 1
	if b.durable == last {
		return nil
	}
	b.durable = last
	f := Frame{Kind: KindWatermark, BaseTime: b.time(), WallTime: b.wall(), DurableLSN: last}
	if _, err := b.w.appendFrame(&f, make([]byte, FrameHeaderSize, FrameHeaderSize+frameAlign)); err != nil {
		return err
	}
	return b.w.sync()
}

// Close makes the log durable and ends it as one that was closed. Without whole, it only gives the file back.
func (b *Builder) Close(whole bool) error {
	if whole {
		if err := b.Sync(); err != nil {
			_ = b.w.close(0, 0, false) // the first error is the one to tell
			return err
		}
	}
	return b.w.close(b.w.mu.next, b.time(), whole)
}
