package dyngo

import (
	"bytes"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/wal"
)

// recorder computes the records of frames, by several goroutines, and hands the frames on in the order in which
// they came: what becomes of one depends on its place in the log alone. What waits is bounded in number and bytes; who adds waits then.
//
// One goroutine adds, and has the frames handed on.
type recorder struct {
	take  func(*recorded) error // is handed the frames
	work  chan *recording
	group sync.WaitGroup // of the goroutines that compute

	next  *recording   // takes up frames
	ahead []*recording // given to work, the oldest first
	bytes int          // of their frames
	free  []*recording // for more frames, the one used last at the end
	err   error        // of take, sticky
}

const (
	// recordingBytes is how many bytes of frames are computed at once, so that handing them about costs little beside hashing.
	recordingBytes = 128 << 10
	// maxAheadBytes bounds the frames that wait, beside the last one.
	maxAheadBytes = 64 << 20
)

// newRecorder begins, with so many goroutines that compute. close ends it.
func newRecorder(workers int, src *integrity.Source, take func(*recorded) error) *recorder {
	r := &recorder{take: take, work: make(chan *recording, 2*workers), next: &recording{}}
	for range workers {
		r.group.Go(func() {
			for batch := range r.work {
				batch.compute(src)
			}
		})
	}
	return r
}

// add takes up a copy of a frame. The error is of one before it.
func (r *recorder) add(f *wal.Frame) error {
	r.next.add(f)
	if r.next.size() >= recordingBytes {
		r.give()
		r.handOn(cap(r.work), maxAheadBytes)
	}
	return r.err
}

// finish hands on what was added.
func (r *recorder) finish() error {
	r.give()
	r.handOn(0, 0)
	return r.err
}

// close ends the goroutines.
func (r *recorder) close() {
	close(r.work)
	r.group.Wait()
}

// give has the frames computed that came last.
func (r *recorder) give() {
	r.next.done = make(chan struct{})
	r.ahead = append(r.ahead, r.next)
	r.bytes += r.next.size()
	r.work <- r.next
	r.next = &recording{}
	if last := len(r.free) - 1; last >= 0 {
		r.next, r.free = r.free[last], r.free[:last]
	}
}

// handOn hands on the oldest frames until so many recordings and bytes remain.
func (r *recorder) handOn(count, size int) {
	for len(r.ahead) > count || r.bytes > size {
		oldest := r.ahead[0]
		r.ahead = r.ahead[1:]
		r.bytes -= oldest.size()
		<-oldest.done
		for i := range oldest.frames {
			if r.err == nil {
				r.err = r.take(&oldest.frames[i])
			}
		}
		oldest.frames, oldest.bodies = oldest.frames[:0], oldest.bodies[:0]
		r.free = append(r.free, oldest)
	}
}

// recording is frames whose records are computed together.
type recording struct {
	frames []recorded
	bodies []byte
	done   chan struct{}
}

// recorded is a frame with its record and the hashes of segments that its events tell. Its body is gone once it was handed on.
type recorded struct {
	wal.Frame
	from, to int // of its body in bodies
	record   integrity.Record
	sealed   []sealedHash
	err      error // why there is no record
}

type sealedHash struct {
	name string
	hash []byte
}

func (r *recording) add(f *wal.Frame) {
	from := len(r.bodies)
	r.bodies = append(r.bodies, f.Body...)
	r.frames = append(r.frames, recorded{Frame: *f, from: from, to: len(r.bodies)})
}

// size is about how many bytes of memory the frames take.
func (r *recording) size() int { return len(r.bodies) + len(r.frames)*256 }

func (r *recording) compute(src *integrity.Source) {
	defer close(r.done)
	for i := range r.frames {
		f := &r.frames[i]
		f.Body = r.bodies[f.from:f.to:f.to]
		f.record, f.err = src.RecordOf(&f.Frame, func(e *event.Event) {
			if e.Op == event.OpSegmentSealed {
				f.sealed = append(f.sealed, sealedHash{string(e.Key), bytes.Clone(e.Value)})
			}
		})
	}
}
