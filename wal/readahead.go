package wal

import (
	"fmt"
	"io"

	"github.com/dyngodb/dyngo/internal/offheap"
)

const (
	// readAheadBytes is how much is read at a time. While one such block is looked at, the next is being read.
	readAheadBytes = blockBytes - blockSlack

	// blockSlack is room in front of each block for what is left of the block before, so that a frame across two blocks
	// becomes contiguous by a small copy. Longer frames are gathered in memory of their own.
	blockSlack = 64 << 10

	blockBytes = offheap.ChunkBytes / 2 // two blocks are a chunk, which is in large pages and often there from the file before
	tinyBytes  = 128 << 10              // what is left of a file up to this size is read at once, into memory of its size
)

// readAhead reads a file front to back in large blocks, one block ahead of its user. At most one goroutine is at work;
// stop waits for it. It holds two blocks, and the longest frame met if that is longer than blockSlack: outside of Go's heap, which
// would grow by twice as much while a log is read. What it gave is not valid after stop.
type readAhead struct {
	file   io.ReaderAt
	size   int64      // of the file; shrinks if the file does
	window []byte     // bytes of the file from base on; in block or in big
	base   int64      // of the window
	block  []byte     // memory that the window lies in, nil if that is big
	big    []byte     // memory for long frames
	mem    []byte     // memory of the blocks, nil until the first is read
	free   [][]byte   // blocks not in use
	ahead  chan block // result of the read in flight, nil if there is none
	next   int64      // where the read in flight begins, or the next one will
}

type block struct {
	mem []byte // blockSlack bytes of room, then the bytes read
	n   int
	err error
}

func newReadAhead(file io.ReaderAt, size, from int64) *readAhead {
	r := &readAhead{file: file, size: size, base: from, next: from}
	r.start()
	return r
}

func (r *readAhead) start() {
	n := min(readAheadBytes, r.size-r.next)
	if n <= 0 {
		r.ahead = nil
		return
	}
	switch {
	case r.mem != nil:
	case n <= tinyBytes:
		r.mem = offheap.Alloc(int(blockSlack + n))
		r.free = append(r.free, r.mem)
	default:
		r.mem = offheap.AllocChunk()
		r.free = append(r.free, r.mem[blockBytes:], r.mem[:blockBytes:blockBytes])
	}
	last := len(r.free) - 1
	mem := r.free[last][:blockSlack+n]
	r.free = r.free[:last]
	ch, file, at := make(chan block, 1), r.file, r.next
	r.ahead = ch
	go func() {
		n, err := readUpTo(file, mem[blockSlack:], at)
		ch <- block{mem: mem, n: n, err: err}
	}()
}

// at returns n bytes from offset off on, or fewer where the file ends. off never goes back. The bytes stay valid until
// the next call.
func (r *readAhead) at(off, n int64) ([]byte, error) {
	n = max(0, min(n, r.size-off))
	for off+n > r.base+int64(len(r.window)) {
		var err error
		if n > blockSlack {
			err = r.gather(off, n)
		} else {
			err = r.advance(off)
		}
		if err != nil {
			return nil, err
		}
		n = max(0, min(n, r.size-off))
	}
	if n == 0 {
		return nil, nil
	}
	return r.window[off-r.base : off-r.base+n], nil
}

// advance makes the block that was read ahead the window, with what the old one holds from keep on, at most blockSlack
// bytes, in front.
func (r *readAhead) advance(keep int64) error {
	b, err := r.take()
	if err != nil {
		return err
	}
	rest := r.window[min(keep-r.base, int64(len(r.window))):]
	r.base += int64(len(r.window) - len(rest))
	copy(b.mem[blockSlack-len(rest):], rest)
	if r.block != nil {
		r.free = append(r.free, r.block)
	}
	r.block, r.window = b.mem, b.mem[blockSlack-len(rest):blockSlack+b.n]
	r.next += int64(b.n)
	r.start()
	return nil
}

// gather makes the window hold at least n bytes from off on, which is in the window or at its end: first what the window
// holds, then the block that was read ahead, then what is still missing, straight from the file.
func (r *readAhead) gather(off, n int64) error {
	b, err := r.take()
	if err != nil {
		return err
	}
	rest := r.window[off-r.base:]
	have := int64(len(rest) + b.n)
	to, old := r.big, []byte(nil)
	if need := max(n, have); int64(cap(to)) < need {
		to, old = offheap.Alloc(int(need+need/4)), r.big
	}
	to = to[:max(n, have)]
	copy(to, rest) // may move bytes within big
	copy(to[len(rest):], b.mem[blockSlack:blockSlack+b.n])
	offheap.Free(old)
	r.free = append(r.free, b.mem)
	if r.block != nil {
		r.free = append(r.free, r.block)
	}
	r.big, r.block, r.window, r.base = to, nil, to[:have], off
	if have < n && off+have < r.size {
		got, err := readUpTo(r.file, to[have:n], off+have)
		if err != nil {
			return err
		}
		have += int64(got)
		if have < n {
			r.size = off + have
		}
		r.window = to[:have]
	}
	r.next = off + have
	r.start()
	return nil
}

// take waits for the block that was read ahead.
func (r *readAhead) take() (block, error) {
	b := <-r.ahead
	r.ahead = nil
	if b.err != nil {
		r.free = append(r.free, b.mem)
	} else if b.n < len(b.mem)-blockSlack { // a writer has just cut off the zeros that it had written ahead
		r.size = r.next + int64(b.n)
	}
	return b, b.err
}

// stop waits for the read in flight and gives the memory back. It may be called twice.
func (r *readAhead) stop() {
	if r.ahead != nil {
		<-r.ahead
		r.ahead = nil
	}
	offheap.Free(r.mem)
	offheap.Free(r.big)
	r.mem, r.free, r.block, r.big, r.window = nil, nil, nil, nil, nil
}

// readUpTo reads b, or less where the file ends.
func readUpTo(f io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := f.ReadAt(b, off)
	if n == len(b) || err == io.EOF {
		err = nil
	}
	return n, err
}

// readFull reads all of b. A file that ends before gives io.ErrUnexpectedEOF.
func readFull(f io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := readUpTo(f, b, off)
	if err == nil && n < len(b) {
		err = fmt.Errorf("read %d bytes at %d: %w", len(b), off, io.ErrUnexpectedEOF)
	}
	return n, err
}
