package wal

import (
	"fmt"
	"io"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// readAheadBytes is how much is read at a time. While one such block is looked at, the next is being read.
const readAheadBytes = 1 << 20

// readAhead reads a file front to back in large blocks, one block ahead of its user. At most one goroutine is at work;
// stop waits for it.
type readAhead struct {
	file   vfs.File
	size   int64      // of the file; shrinks if the file does
	window []byte     // bytes of the file from base on
	base   int64      // of the window
	block  []byte     // memory that the window lies in
	spare  []byte     // memory of the block before, nil while a read is filling it
	ahead  chan block // result of the read in flight, nil if there is none
	next   int64      // where the read in flight begins, or the next one will
}

type block struct {
	mem []byte // slack in front, then the bytes read
	n   int
	err error
}

func newReadAhead(file vfs.File, size, from int64) *readAhead {
	r := &readAhead{file: file, size: size, base: from, next: from}
	r.start()
	return r
}

// blockSlack is room in front of each block for what is left of the block before, so that a frame across two blocks
// becomes contiguous by a small copy.
const blockSlack = 64 << 10

func (r *readAhead) start() {
	n := min(readAheadBytes, r.size-r.next)
	if n <= 0 {
		r.ahead = nil
		return
	}
	mem := r.spare
	r.spare = nil
	if mem == nil {
		mem = make([]byte, blockSlack+n)
	}
	mem = mem[:blockSlack+n]
	ch, file, at := make(chan block, 1), r.file, r.next
	r.ahead = ch
	go func() {
		n, err := file.ReadAt(mem[blockSlack:], at)
		if n == len(mem)-blockSlack || err == io.EOF {
			err = nil
		}
		ch <- block{mem: mem, n: n, err: err}
	}()
}

// at returns n bytes from offset off on, or fewer where the file ends. off never goes back. The bytes stay valid until
// the next call.
func (r *readAhead) at(off, n int64) ([]byte, error) {
	n = max(0, min(n, r.size-off))
	for off+n > r.base+int64(len(r.window)) {
		if err := r.advance(off); err != nil {
			return nil, err
		}
		n = max(0, min(n, r.size-off))
	}
	if n == 0 {
		return nil, nil
	}
	return r.window[off-r.base : off-r.base+n], nil
}

// advance appends the block that was read ahead to what the window holds from keep on.
func (r *readAhead) advance(keep int64) error {
	b := <-r.ahead
	r.ahead = nil
	if b.err != nil {
		return b.err
	}
	if b.n < len(b.mem)-blockSlack { // a writer has just cut off the zeros that it had written ahead
		r.size = r.next + int64(b.n)
	}
	rest := r.window[min(keep-r.base, int64(len(r.window))):]
	begin := r.base + int64(len(r.window)) - int64(len(rest))
	if len(rest) <= blockSlack {
		copy(b.mem[blockSlack-len(rest):], rest)
		r.spare = r.block
		r.block = b.mem
		r.window = b.mem[blockSlack-len(rest) : blockSlack+b.n]
	} else {
		// A frame longer than the slack: gather it in memory of its own, which grows by doubling.
		if begin != r.base || cap(r.window)-len(r.window) < b.n || r.block != nil {
			r.window = append(make([]byte, 0, 2*(len(rest)+b.n)), rest...)
			r.block = nil
		}
		r.window = append(r.window, b.mem[blockSlack:blockSlack+b.n]...)
		r.spare = b.mem
	}
	r.base = begin
	r.next += int64(b.n)
	r.start()
	return nil
}

// stop waits for the read in flight.
func (r *readAhead) stop() {
	if r.ahead != nil {
		<-r.ahead
		r.ahead = nil
	}
}

// readFull reads all of b. A file that ends before gives io.ErrUnexpectedEOF.
func readFull(f io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == io.EOF || err == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("read %d bytes at %d: %w", len(b), off, err)
}
