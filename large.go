package dyngo

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/dyngodb/dyngo/event"
)

// PutReader stores size bytes read from r under key: for values up to 1 GiB, of which only a piece is in memory at a
// time. If r fails or ends early (io.ErrUnexpectedEOF), nothing changes.
func (ds *Dataset) PutReader(key []byte, size int64, r io.Reader) (LSN, error) {
	return ds.PutReaderWith(key, size, r, WriteOptions{})
}

// PutReaderWith is PutReader with options.
func (ds *Dataset) PutReaderWith(key []byte, size int64, r io.Reader, wo WriteOptions) (LSN, error) {
	if size < 0 || size > MaxValueBytes {
		return 0, limitError("value of %d bytes, a value has 0 to %d bytes", size, MaxValueBytes)
	}
	if size < int64(ds.opts.LargeValue) {
		b := make([]byte, size)
		if err := readFull(r, b); err != nil {
			return 0, fmt.Errorf("dyngo: read the value's %d bytes: %w", size, err)
		}
		return ds.PutWith(key, b, wo)
	}
	if err := wo.validate(); err != nil {
		return 0, err
	}
	g, err := ds.db.enterCall()
	if err != nil {
		return 0, err
	}
	defer g.Exit()
	o := op{ds: ds, kind: event.OpPut, key: key}
	if err := o.check(ds.db); err != nil {
		return 0, err
	}
	h := ds.db.beginHold("a large value is being written")
	defer h.release()
	k, err := ds.db.subjectKey(&wo)
	if err != nil {
		return 0, err
	}
	ref, err := ds.db.storeLarge(ds, ioReader{r}, size, key, k)
	if err != nil {
		return 0, openError(ds.db.dir, err)
	}
	if k != nil {
		o.sealed = k.ID
	}
	o.value, o.flags = event.AppendValueRef(nil, ref), event.FlagValueRef
	lsn, _, err := ds.writeOne(o, wo)
	if err == nil {
		h.referred(lsn)
	}
	return lsn, err
}

// Open returns key's value as a stream; for a large value only a piece is in memory at a time. It stays readable whatever
// happens to the key, until it or the store is closed: until then it holds back the log file that it reads, so close it. The
// reader is not safe for concurrent use.
func (ds *Dataset) Open(key []byte) (io.ReadSeekCloser, error) {
	var f found
	if err := ds.find(&f, key, 0, 0); err != nil {
		return nil, err
	}
	v := f.value(nil)
	call := ds.db.calls.Enter() // Close waits until the log was read
	defer call.Exit()
	read := ds.db.valueReads.Enter()
	defer read.Exit()
	f.release()
	vr := &valueReader{db: ds.db}
	if !v.ref {
		b, err := v.resolve(ds.db, nil)
		if err != nil {
			return nil, err
		}
		vr.piece, vr.size = b, int64(len(b))
		return vr, nil
	}
	vr.sealed, v.ref, v.sealed = v.sealed, false, nil
	b, err := v.resolve(ds.db, nil)
	if err != nil {
		return nil, err
	}
	if vr.ref, err = event.ParseValueRef(b); err != nil {
		return nil, err
	}
	vr.index = -1
	if vr.sealed != nil { // the last piece says how long the value is
		vr.index = len(vr.ref.Pieces) - 1
		if vr.piece, err = vr.sealed.openPiece(ds.db, nil, vr.ref.Pieces, vr.index); err != nil {
			return nil, openError(ds.db.dir, err)
		}
	}
	vr.ends = make([]int64, len(vr.ref.Pieces))
	for i, p := range vr.ref.Pieces {
		switch {
		case vr.sealed == nil:
			vr.size += int64(p.RawLen)
		case i < vr.index:
			vr.size += pieceBytes
		default:
			vr.size += int64(len(vr.piece))
		}
		vr.ends[i] = vr.size
	}
	for _, p := range vr.ref.Pieces {
		if n := len(vr.files); n == 0 || vr.files[n-1] != p.File {
			ds.db.holds.pin(p.File)
			vr.files = append(vr.files, p.File)
		}
	}
	return vr, nil
}

// valueReader reads a value piece by piece.
type valueReader struct {
	db     *DB
	ref    event.ValueRef
	sealed *sealed // nil = it is not
	ends   []int64 // where each piece ends in the value
	size   int64
	pos    int64
	index  int      // of the piece in memory, -1 = none
	piece  []byte   // its raw bytes
	files  []uint64 // that are pinned
	closed bool
}

func (r *valueReader) Read(p []byte) (int, error) {
	if r.closed || r.db.closed.Load() {
		return 0, ErrClosed
	}
	if r.pos >= r.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	start := int64(0)
	if len(r.ends) > 0 {
		i := sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > r.pos })
		if i > 0 {
			start = r.ends[i-1]
		}
		if i != r.index {
			call := r.db.calls.Enter() // Close waits for the device read
			piece, err := r.appendPiece(r.piece[:0], i)
			call.Exit()
			if err != nil {
				r.index = -1
				return 0, openError(r.db.dir, err)
			}
			r.piece, r.index = piece, i
		}
	}
	n := copy(p, r.piece[r.pos-start:])
	r.pos += int64(n)
	return n, nil
}

func (r *valueReader) appendPiece(dst []byte, i int) ([]byte, error) {
	if r.sealed != nil {
		return r.sealed.openPiece(r.db, dst, r.ref.Pieces, i)
	}
	return r.db.appendPiece(dst, r.ref.Pieces[i])
}

func (r *valueReader) Seek(offset int64, whence int) (int64, error) {
	if r.closed {
		return 0, ErrClosed
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, fmt.Errorf("dyngo: seek with whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("dyngo: seek before the value's begin")
	}
	r.pos = offset
	return offset, nil
}

func (r *valueReader) Close() error {
	r.closed, r.piece = true, nil
	for _, file := range r.files {
		r.db.holds.unpin(file)
	}
	r.files = nil
	return nil
}
