package segment

import (
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// IterOptions say how an Iter reads. The zero value works.
type IterOptions struct {
	KeysOnly bool // entries come without value: its memory is not touched

	// NoFill is for who reads once what others need not: blocks are neither taken from the cache nor put there, and the
	// file is read ahead in large pieces.
	NoFill bool
}

// readAhead is how much an Iter with NoFill reads at a time.
const readAhead = 256 << 10

// Iter visits the entries of a segment in order: dataset and key ascending, the newest version of a key first. It
// begins nowhere: seek first. It holds one index and one data block by reference, and with NoFill a buffer. One
// goroutine at a time. Close releases what it holds.
type Iter struct {
	r     *Reader
	opts  IterOptions
	err   error
	valid bool

	part       int // of the index block, in the top index
	index      sorted
	indexBlock *cache.Block // nil if none is loaded
	at         int          // of the data block, in the index
	data       sorted
	dataBlock  *cache.Block // nil if none is loaded
	pos        int          // of the entry, in the data block

	entry   Entry
	decoded bool
	key     []byte // dataset and key of the present entry, begins with what all keys of the data block share

	ahead   []byte // bytes of the file from aheadAt on
	aheadAt uint64
	mem     []byte
	back    bool   // the Iter moves backward
	end     uint64 // of what ahead is worth reading: where the last partition ends
}

// NewIter returns an Iter. The Reader must stay open until its Close.
func (r *Reader) NewIter(o IterOptions) *Iter {
	it := &Iter{}
	it.Reset(r, o)
	return it
}

// Reset makes it, which is the zero Iter or closed, one that NewIter of r would return. It keeps buffers.
func (it *Iter) Reset(r *Reader, o IterOptions) {
	it.r, it.opts, it.err, it.valid, it.decoded, it.back, it.end = r, o, nil, false, false, false, 0
	if n := r.top.n; n > 0 {
		it.end = min(r.top.handle(n-1).end(), uint64(r.size))
	}
}

// Forget makes a closed Iter point to nothing but its buffers, so that it can be kept for a later Reset.
func (it *Iter) Forget() { *it = Iter{key: it.key[:0]} }

// Close releases the blocks that the Iter holds. What Entry returned is no longer valid.
func (it *Iter) Close() {
	it.valid = false
	it.release()
	it.mem, it.ahead = nil, nil
}

func (it *Iter) release() {
	if it.dataBlock != nil {
		it.dataBlock.Release()
		it.dataBlock = nil
	}
	if it.indexBlock != nil {
		it.indexBlock.Release()
		it.indexBlock = nil
	}
}

// Valid reports whether the Iter stands on an entry.
func (it *Iter) Valid() bool { return it.valid }

// Err returns why the Iter stopped: nil at an end, else corruption or an error of the file system. After an error every
// move leaves it invalid.
func (it *Iter) Err() error { return it.err }

// Entry returns the entry that the Iter stands on. It is valid until the next move: key, value and parts alias memory
// of the Iter.
func (it *Iter) Entry() *Entry {
	if !it.decoded {
		it.decode()
	}
	return &it.entry
}

// decode fills the entry.
func (it *Iter) decode() {
	s, e := &it.data, &it.entry
	shared := len(s.common)
	from, to := s.span(it.pos)
	n := int(s.col(colKeyLen, it.pos))
	rest := s.heap[from : from+restLen(n)]
	if need := shared + prefixLen + len(rest); cap(it.key) < need {
		it.key = append(make([]byte, 0, 2*need), it.key...)
	}
	key := it.key[:shared+prefixLen+len(rest)]
	binary.BigEndian.PutUint64(key[shared:], s.prefix(it.pos))
	copy(key[shared+prefixLen:], rest)
	it.key = key
	e.Dataset = event.DatasetID(binary.BigEndian.Uint32(key))
	e.Key = key[datasetLen : shared+n : shared+n]
	s.fillFrom(it.pos, from+len(rest), to, e)
	if it.opts.KeysOnly {
		e.Value = nil
	}
	it.decoded = true
}

// stand makes entry i of the data block the present one.
func (it *Iter) stand(i int) bool {
	it.pos, it.valid, it.decoded = i, true, false
	return true
}

// stop leaves the Iter nowhere.
func (it *Iter) stop(err error) bool {
	it.valid = false
	if err != nil && it.err == nil {
		it.err = err
	}
	return false
}

// First goes to the first entry. Like all moves it reports whether there is one.
func (it *Iter) First() bool {
	if it.err != nil || it.r.top.n == 0 {
		return it.stop(nil)
	}
	it.back = false
	return it.loadIndex(0) && it.loadData(0) && it.stand(0)
}

// Last goes to the last entry.
func (it *Iter) Last() bool {
	if it.err != nil || it.r.top.n == 0 {
		return it.stop(nil)
	}
	it.back = true
	return it.loadIndex(it.r.top.n-1) && it.loadData(it.index.n-1) && it.stand(it.data.n-1)
}

// SeekGE goes to the newest version of the first key at or after the given one.
func (it *Iter) SeekGE(ds event.DatasetID, key []byte) bool {
	k := entryKey(ds, key, event.MaxLSN)
	it.back = false
	if !it.seek(&k) {
		return false
	}
	i, _ := it.data.lower(&k)
	if i == it.data.n {
		it.pos = i - 1
		return it.Next()
	}
	return it.stand(i)
}

// SeekLT goes to the oldest version of the last key before the given one.
func (it *Iter) SeekLT(ds event.DatasetID, key []byte) bool {
	k := entryKey(ds, key, event.MaxLSN)
	it.back = true
	if !it.seek(&k) {
		return false
	}
	it.pos, _ = it.data.lower(&k)
	return it.Prev()
}

// seek loads the data block in which a position is. The Iter is valid afterwards, without an entry.
func (it *Iter) seek(k *searchKey) bool {
	if it.err != nil || it.r.top.n == 0 {
		return it.stop(nil)
	}
	it.valid = true
	return it.loadIndex(max(it.r.top.floor(k), 0)) && it.loadData(max(it.index.floor(k), 0))
}

// Next goes to the next entry.
func (it *Iter) Next() bool {
	if !it.valid {
		return false
	}
	if it.pos+1 < it.data.n {
		return it.stand(it.pos + 1)
	}
	it.back = false
	if it.at+1 < it.index.n {
		return it.loadData(it.at+1) && it.stand(0)
	}
	if it.part+1 < it.r.top.n {
		return it.loadIndex(it.part+1) && it.loadData(0) && it.stand(0)
	}
	return it.stop(nil)
}

// Prev goes to the entry before.
func (it *Iter) Prev() bool {
	if !it.valid {
		return false
	}
	if it.pos > 0 {
		return it.stand(it.pos - 1)
	}
	it.back = true
	if it.at > 0 {
		return it.loadData(it.at-1) && it.stand(it.data.n-1)
	}
	if it.part > 0 {
		return it.loadIndex(it.part-1) && it.loadData(it.index.n-1) && it.stand(it.data.n-1)
	}
	return it.stop(nil)
}

// loadIndex makes the index block of a partition the present one.
func (it *Iter) loadIndex(part int) bool {
	if it.indexBlock != nil && it.part == part {
		return true
	}
	it.release()
	h := it.r.top.handle(part)
	var b *cache.Block
	var err error
	if it.opts.NoFill {
		b, err = it.r.read(kindIndex, h)
	} else {
		b, err = it.r.load(kindIndex, h)
	}
	if err != nil {
		return it.stop(err)
	}
	it.part, it.indexBlock = part, b
	if !it.index.parse(b.Bytes(), kindIndex) {
		return it.stop(it.r.wrongKind(kindIndex, h))
	}
	return true
}

// loadData makes data block at of the index the present one.
func (it *Iter) loadData(at int) bool {
	if it.dataBlock != nil {
		if it.at == at {
			return true
		}
		it.dataBlock.Release()
		it.dataBlock = nil
	}
	h := it.index.handle(at)
	var b *cache.Block
	var err error
	if it.opts.NoFill {
		b, err = it.readAhead(h)
	} else {
		b, err = it.r.load(kindData, h)
	}
	if err != nil {
		return it.stop(err)
	}
	it.at, it.dataBlock = at, b
	if !it.data.parse(b.Bytes(), kindData) {
		return it.stop(it.r.wrongKind(kindData, h))
	}
	it.key = append(it.key[:0], it.data.common...)
	return true
}

// readAhead returns a data block from what was read ahead, or reads on: forward from it, or backward up to its end.
func (it *Iter) readAhead(h handle) (*cache.Block, error) {
	if h.offset < it.aheadAt || h.end() > it.aheadAt+uint64(len(it.ahead)) {
		if h.length <= blockHead || h.offset < headerBytes || h.end() > it.end {
			return nil, corruption.At(it.r.name, int64(min(h.offset, it.end)),
				"data block of %d bytes at %d, the last index ends at %d", h.length, h.offset, it.end)
		}
		from, to := h.offset, min(max(h.end(), h.offset+readAhead), it.end)
		if it.back {
			from, to = min(h.offset, max(h.end(), headerBytes+readAhead)-readAhead), h.end()
		}
		if uint64(cap(it.mem)) < to-from {
			it.mem = make([]byte, to-from)
		}
		it.ahead = nil
		b := it.mem[:to-from]
		if err := it.r.readAt(b, int64(from)); err != nil {
			return nil, err
		}
		it.ahead, it.aheadAt = b, from
	}
	return it.r.decodeBlock(it.ahead[h.offset-it.aheadAt:][:h.length], kindData, h)
}
