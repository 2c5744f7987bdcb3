package rows

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	windowBytes = 256 << 10
	// rescanRows times the longest row bounds what going back behind damage may read again, so that no file can cost
	// quadratic time.
	rescanRows = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An input is a window over a file: bytes from a held place on stay, the others go as reading advances.
type input struct {
	src io.Reader
	buf []byte // buf[:end] is the window
	end int
	pos int // next byte to read
	// hold is the first byte that must stay in the window, -1 if none.
	hold     int
	holdLine int64
	base     int64 // file offset of buf[0]
	line     int64 // line of buf[pos], from 1
	crc      uint32
	crcPos   int   // buf[:crcPos] is in crc
	rescan   int64 // bytes that may still be read again
	err      error // why src gives no more bytes
}

func newInput(src io.Reader, maxRow int) *input {
	return &input{src: src, buf: make([]byte, windowBytes), hold: -1, line: 1, rescan: max(1<<20, rescanRows*int64(maxRow))}
}

// fill makes sure that at least one unread byte is in the window. False: the file has ended or cannot be read, see
// readErr.
func (in *input) fill() bool {
	for in.pos == in.end {
		if in.err != nil {
			return false
		}
		in.more()
	}
	return true
}

// more reads once, whatever is unread; it makes room first.
func (in *input) more() {
	keep := in.pos
	if in.hold >= 0 {
		keep = in.hold
	}
	if keep > 0 && (keep > len(in.buf)/2 || in.end == len(in.buf)) {
		in.sum(keep)
		copy(in.buf, in.buf[keep:in.end])
		in.base += int64(keep)
		in.end -= keep
		in.pos -= keep
		in.crcPos -= keep
		if in.hold >= 0 {
			in.hold = 0
		}
	}
	if in.end == len(in.buf) {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	for range 100 {
		n, err := in.src.Read(in.buf[in.end:])
		in.end += n
		if err != nil {
			in.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	in.err = io.ErrNoProgress
}

// sum brings crc up to buf[:upto].
func (in *input) sum(upto int) {
	if upto > in.crcPos {
		in.crc = crc32.Update(in.crc, castagnoli, in.buf[in.crcPos:upto])
		in.crcPos = upto
	}
}

func (in *input) window() []byte { return in.buf[in.pos:in.end] }

func (in *input) offset() int64 { return in.base + int64(in.pos) }

func (in *input) advance(n int) {
	in.line += int64(bytes.Count(in.buf[in.pos:in.pos+n], newline))
	in.pos += n
}

func (in *input) startHold() {
	in.hold, in.holdLine = in.pos, in.line
}

func (in *input) held() []byte { return in.buf[in.hold:in.pos] }

func (in *input) drop() { in.hold = -1 }

// back returns to buf[at], which lies in the held bytes or behind them.
func (in *input) back(at int) error {
	if at < in.pos {
		if in.rescan -= int64(in.pos - at); in.rescan < 0 {
			return errors.New("too many rows are damaged to find the next sound one")
		}
	}
	in.line = in.holdLine + int64(bytes.Count(in.buf[in.hold:at], newline))
	in.pos = at
	return nil
}

// readErr is the error that ended reading, nil if the file has just ended.
func (in *input) readErr() error {
	if in.err == nil || errors.Is(in.err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read at byte %d: %w", in.base+int64(in.end), in.err)
}

// head returns up to n bytes from the start of the file without consuming them.
func (in *input) head(n int) []byte {
	for in.end-in.pos < n && in.err == nil {
		in.more()
	}
	return in.buf[in.pos:min(in.pos+n, in.end)]
}

// skipPrefix reads n bytes and returns their CRC-32C. It is short only if the file is.
func (in *input) skipPrefix(n int64) (crc uint32, ok bool) {
	for in.offset() < n && in.fill() {
		in.pos += int(min(int64(in.end-in.pos), n-in.offset()))
		in.sum(in.pos)
	}
	return in.crc, in.offset() == n
}

var newline = []byte{'\n'}
