package segment

import (
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
)

// Due is an entry whose version has an expiry.
type Due struct {
	Due     int64 // log time from which on the version is absent, Unix nanoseconds
	Dataset event.DatasetID
	Key     []byte // valid until the next call of Next
	LSN     event.LSN
}

// DueIter visits a segment's entries with an expiry: due time, dataset and key ascending, LSN descending. One goroutine
// at a time. Close releases what it holds.
type DueIter struct {
	r     *Reader
	err   error
	index sorted
	block sorted
	held  [2]*cache.Block // of index and block, nil if not loaded
	at    int             // of the block, in the index
	pos   int             // of the next entry, in the block
	due   Due
	key   []byte
}

// Due returns a DueIter in front of the first entry that is due at from or later. The Reader must stay open until its
// Close.
func (r *Reader) Due(from int64) *DueIter {
	it := &DueIter{r: r}
	if r.foot.dueIndex.length == 0 || from > r.props.MaxDue {
		return it
	}
	k := searchKey{tail: binary.BigEndian.AppendUint64(nil, uint64(from)^signBit), lsn: event.MaxLSN}
	if it.load(0, &it.index, kindDueIndex, r.foot.dueIndex) && it.loadBlock(max(it.index.floor(&k), 0)) {
		it.pos, _ = it.block.lower(&k)
	}
	return it
}

// Next goes to the next entry, which Due then returns, and reports whether there is one.
func (it *DueIter) Next() bool {
	if it.err != nil || it.held[1] == nil {
		return false
	}
	for it.pos == it.block.n {
		if it.at+1 == it.index.n || !it.loadBlock(it.at+1) {
			return false
		}
	}
	it.key = it.block.appendKey(it.key[:0], it.pos)
	it.due = Due{Due: int64(binary.BigEndian.Uint64(it.key) ^ signBit), LSN: it.block.lsn(it.pos),
		Dataset: event.DatasetID(binary.BigEndian.Uint32(it.key[dueLen:])), Key: it.key[dueLen+datasetLen:]}
	it.pos++
	return true
}

// Due returns the present entry.
func (it *DueIter) Due() Due { return it.due }

// Err returns why Next reported false: nil at the end, else corruption or an error of the file system.
func (it *DueIter) Err() error { return it.err }

// Close releases the blocks that the iterator holds.
func (it *DueIter) Close() {
	for i := range it.held {
		it.drop(i)
	}
}

func (it *DueIter) drop(i int) {
	if it.held[i] != nil {
		it.held[i].Release()
		it.held[i] = nil
	}
}

func (it *DueIter) loadBlock(at int) bool {
	it.at, it.pos = at, 0
	return it.load(1, &it.block, kindDue, it.index.handle(at))
}

// load makes s the view of a block, which is held at i.
func (it *DueIter) load(i int, s *sorted, kind byte, h handle) bool {
	it.drop(i)
	b, err := it.r.load(kind, h)
	if err != nil {
		it.err = err
		return false
	}
	it.held[i] = b
	if !s.parse(b.Bytes(), kind) {
		it.err = it.r.wrongKind(kind, h)
		return false
	}
	return true
}
