package cache

import (
	"bufio"
	"fmt"
	"io"
	"sync"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Call is what a record of a trace stands for. Never renumber: written to traces.
type Call uint8

// The calls.
const (
	CallHit  Call = 0 // Get, found
	CallMiss Call = 1 // Get, not found
	CallAdd  Call = 2
)

const (
	traceMagic   = "dyngobt"
	traceVersion = 1
	traceUnit    = 256 // sizes of buffers are multiples of it
)

// Recorder is a Cache that passes everything on to another one and writes a trace of the calls. It costs a lock and
// some bytes a call: for measurements. Make one with NewRecorder.
type Recorder struct {
	Cache

	mu struct {
		sync.Mutex // guards the fields below

		w    *bufio.Writer
		buf  []byte
		last Key
		err  error // the first failure of w
	}
}

// NewRecorder returns a Recorder that writes the trace of c to w. Close closes c and writes what is left.
func NewRecorder(c Cache, w io.Writer) *Recorder {
	r := &Recorder{Cache: c}
	r.mu.w = bufio.NewWriter(w)
	_, r.mu.err = r.mu.w.WriteString(traceMagic + string(rune(traceVersion)))
	return r
}

// Get implements Cache.
func (r *Recorder) Get(k Key) *Block {
	b := r.Cache.Get(k)
	if b == nil {
		r.note(CallMiss, k, 0)
	} else {
		r.note(CallHit, k, b.SizeBytes())
	}
	return b
}

// Add implements Cache.
func (r *Recorder) Add(k Key, b *Block) {
	r.Cache.Add(k, b)
	r.note(CallAdd, k, b.SizeBytes())
}

// Close implements Cache.
func (r *Recorder) Close() {
	r.Cache.Close()
	_ = r.Flush() // the failure is kept for Flush
}

// Flush writes what is left and returns the first failure to write the trace, which has no end then.
func (r *Recorder) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err == nil {
		r.mu.err = r.mu.w.Flush()
	}
	return r.mu.err
}

func (r *Recorder) note(c Call, k Key, sizeBytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err != nil {
		return
	}
	r.mu.buf = coding.AppendUvarint(r.mu.buf[:0], uint64(c)|uint64(sizeBytes/traceUnit)<<2)
	r.mu.buf = coding.AppendUvarint(r.mu.buf, zigzag(k.File-r.mu.last.File))
	r.mu.buf = coding.AppendUvarint(r.mu.buf, zigzag(k.Offset-r.mu.last.Offset))
	r.mu.last = k
	_, r.mu.err = r.mu.w.Write(r.mu.buf)
}

// ReadTrace calls visit with each record of a trace, in order. It returns visit's error, or a *corruption.Error if the
// bytes are not a trace.
func ReadTrace(trace []byte, visit func(c Call, k Key, sizeBytes int64) error) error {
	const header = len(traceMagic) + 1
	if len(trace) < header || string(trace[:header-1]) != traceMagic {
		return corruption.New(0, "block trace: no %q at its start", traceMagic)
	}
	if v := trace[header-1]; v != traceVersion {
		return fmt.Errorf("block trace: unsupported version %d", v)
	}
	r := coding.NewReader(trace[header:])
	var k Key
	for r.Len() > 0 {
		at := int64(header + r.Offset())
		call := r.Uvarint()
		k.File += unzigzag(r.Uvarint())
		k.Offset += unzigzag(r.Uvarint())
		c, units := Call(call&3), call>>2
		switch {
		case r.Err() != nil:
			return &corruption.Error{Offset: int64(header + r.Offset()), What: "block trace", Err: r.Err()}
		case c > CallAdd || units > 1<<31 || (c == CallMiss) != (units == 0):
			return corruption.New(at, "block trace: call %d with a buffer of %d units", c, units)
		}
		if err := visit(c, k, int64(units)*traceUnit); err != nil {
			return err
		}
	}
	return nil
}

func zigzag(d uint64) uint64   { return d<<1 ^ uint64(int64(d)>>63) }
func unzigzag(z uint64) uint64 { return z>>1 ^ -(z & 1) }
