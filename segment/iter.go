package segment

import (
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/offheap"
)

// IterOptions say how an Iter reads. The zero value works.
type IterOptions struct {
	KeysOnly bool // entries come without value: its memory is not touched

	// NoFill is for who reads once what others need not: blocks are neither taken from the cache nor put there, and the
	// file is read ahead in large pieces.
	NoFill bool

	// Ahead is about how many bytes of the file the Iter will visit from its first seek on, if that is known: they are
	// read at once, up to smallAhead.
	Ahead int
}

// Iter visits the entries of a segment in order: dataset and key ascending, the newest version of a key first. It
// begins nowhere: seek first. It holds one index block by reference, one data block by reference or in a buffer, and
// what it read ahead. One goroutine at a time. Close releases what it holds.
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
	loaded     bool         // a data block is
	dataBlock  *cache.Block // nil if the data block lies in ahead or in unpacked
	pos        int          // of the entry, in the data block

	entry   Entry
	decoded bool
	same    bool   // op, flags and session are those of the whole data block, and no entry has parts: entry has them
	key     []byte // dataset and key of the present entry, begins with what all keys of the data block share

	ahead    []byte // bytes of the file from aheadAt on, in small or large
	aheadAt  uint64
	window   int    // how much the next read takes
	read     int64  // bytes since Reset
	roomy    bool   // large is taken from the Reader's AheadBudget
	small    []byte // on Go's heap
	large    []byte // from offheap: of readAhead bytes, or what a larger block takes
	unpacked []byte // a block before compression
	back     bool   // the Iter moves backward
	end      uint64 // of what ahead is worth reading: where the last partition ends
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
	it.window, it.read = min(o.Ahead, smallAhead), 0
	if o.NoFill {
		it.window = readAhead
	}
	if n := r.top.n; n > 0 {
		it.end = min(r.top.handle(n-1).end(), uint64(r.size))
	}
}

// Forget makes a closed Iter point to nothing but its buffers, so that it can be kept for a later Reset.
func (it *Iter) Forget() { *it = Iter{key: it.key[:0], small: it.small, unpacked: it.unpacked} }

// Close releases the blocks that the Iter holds. What Entry returned is no longer valid.
func (it *Iter) Close() {
	it.valid = false
	it.release()
	it.ahead = nil
	offheap.Free(it.large)
	it.large = nil
	if it.roomy {
		it.r.opts.Ahead.give()
		it.roomy = false
	}
	if cap(it.unpacked) > maxUnpacked {
		it.unpacked = nil
	}
}

func (it *Iter) release() {
	it.releaseData()
	if it.indexBlock != nil {
		it.indexBlock.Release()
		it.indexBlock = nil
	}
}

func (it *Iter) releaseData() {
	it.loaded = false
	if it.dataBlock != nil {
		it.dataBlock.Release()
		it.dataBlock = nil
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
	if it.same {
		e.LSN, e.Time, e.Value = s.lsn(it.pos), int64(s.col(colTime, it.pos)^signBit), s.heap[from+len(rest):to:to]
	} else {
		s.fillFrom(it.pos, from+len(rest), to, e)
	}
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
	if it.loaded && it.at == at {
		return true
	}
	it.releaseData()
	h := it.index.handle(at)
	raw, err := it.fetch(at, h)
	if err != nil {
		return it.stop(err)
	}
	it.at, it.loaded = at, true
	if !it.data.parse(raw, kindData) {
		return it.stop(it.r.wrongKind(kindData, h))
	}
	it.key = append(it.key[:0], it.data.common...)
	if it.same = it.data.uniform(); it.same {
		it.data.fill(0, &it.entry)
	}
	return true
}
