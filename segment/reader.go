package segment

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/cache"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// ReaderOptions say how a segment is read. The zero value works.
type ReaderOptions struct {
	// Cache keeps blocks in memory, under Num and their offset; nil: none are kept.
	Cache cache.Cache
	Num   uint64

	// Ahead bounds what iterators read ahead in large pieces; nil: there is no bound.
	Ahead *AheadBudget

	// HashSeed is that of the hashes given to Get. The filters of a segment that was written with another one are not
	// used.
	HashSeed uint64

	// DisplayName names the file in errors, relative to the database directory; empty: as it is opened.
	DisplayName string
}

// openBytes is how much Open reads from the end of a file at first: mostly all that it needs.
const openBytes = 16 << 10

// Reader reads one segment. It may be used by many goroutines at once; Close must be the last call.
type Reader struct {
	file  vfs.File
	name  string
	opts  ReaderOptions
	place placer
	size  int64
	foot  footer

	props        *Properties
	rangeDeletes []RangeDelete
	filters      bool
	top          sorted // n is 0 without entries
}

// Open opens a segment and reads what it keeps in memory: properties, range deletes and the top index. The error is
// corruption, event.ErrUnsupported, or that of the file system.
func Open(fsys vfs.FS, name string, o ReaderOptions) (*Reader, error) {
	if o.DisplayName == "" {
		o.DisplayName = name
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	vfs.AdviseRandom(file) // iterators know better what they will read
	r := &Reader{file: file, name: o.DisplayName, opts: o}
	if err := r.open(); err != nil {
		_ = file.Close() // only read from: nothing can be lost
		return nil, err
	}
	return r, nil
}

func (r *Reader) open() (err error) {
	if r.size, err = r.file.Size(); err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	tail := make([]byte, min(r.size, openBytes))
	if err := r.readAt(tail, r.size-int64(len(tail))); err != nil {
		return err
	}
	if r.foot, err = parseFooter(tail, r.size); err != nil {
		return locate(err, r.name, 0)
	}
	r.place.salt = r.foot.salt
	raw, err := r.openBlock(tail, kindProperties, r.foot.properties)
	if err != nil {
		return err
	}
	if r.props, err = parseProperties(raw); err != nil {
		return locate(err, r.name, int64(r.foot.properties.offset))
	}
	r.props.SizeBytes, r.props.SHA256 = r.size, r.foot.sha256
	r.filters = r.props.FilterBits > 0 && r.props.HashSeed == r.opts.HashSeed
	if (r.props.Entries > 0) != (r.foot.top.length > 0) || (r.props.Dues > 0) != (r.foot.dueIndex.length > 0) ||
		(r.props.RangeDeletes > 0) != (r.foot.rangeDeletes.length > 0) {
		return corruption.At(r.name, int64(r.foot.properties.offset), "segment: footer and properties disagree")
	}
	if r.foot.top.length > 0 {
		if raw, err = r.openBlock(tail, kindTop, r.foot.top); err != nil {
			return err
		}
		r.top.parse(raw, kindTop) // openBlock checked it
	}
	return r.openRangeDeletes(tail)
}

// at returns n bytes from an offset on, of tail, the end of the file, if they are in it.
func (r *Reader) at(tail []byte, off uint64, n uint64) ([]byte, error) {
	if base := uint64(r.size - int64(len(tail))); off >= base {
		return tail[off-base:][:n], nil
	}
	b := make([]byte, n)
	return b, r.readAt(b, int64(off))
}

// openBlock reads a block that stays in memory. tail is the end of the file.
func (r *Reader) openBlock(tail []byte, kind byte, h handle) ([]byte, error) {
	b, err := r.at(tail, h.offset, h.length)
	if err != nil {
		return nil, err
	}
	return r.decode(b, kind, h, func(n int) []byte { return make([]byte, n) })
}

func (r *Reader) openRangeDeletes(tail []byte) error {
	all := r.foot.rangeDeletes
	for at := all.offset; at < all.end(); {
		if all.end()-at <= blockHead {
			return corruption.At(r.name, int64(at), "range deletes: %d bytes left for a block", all.end()-at)
		}
		head, err := r.at(tail, at, blockHead)
		if err != nil {
			return err
		}
		h, err := parseStored(head)
		if err != nil {
			return locate(err, r.name, int64(at))
		}
		block := handle{offset: at, length: blockHead + uint64(h.stored)}
		if block.end() > all.end() {
			return corruption.At(r.name, int64(at), "range deletes: block of %d bytes in %d", block.length, all.end()-at)
		}
		raw, err := r.openBlock(tail, kindRangeDeletes, block)
		if err != nil {
			return err
		}
		if r.rangeDeletes, err = parseRangeDeletes(r.rangeDeletes, raw); err != nil {
			return locate(err, r.name, int64(at))
		}
		at = block.end()
	}
	if n := int64(len(r.rangeDeletes)); n != r.props.RangeDeletes {
		return corruption.At(r.name, int64(all.offset), "%d range deletes, the properties say %d", n, r.props.RangeDeletes)
	}
	return nil
}

// Close closes the file. Blocks that were handed out, and those in the cache, stay.
func (r *Reader) Close() error { return r.file.Close() }

// Properties returns what is known of the segment. It must not be changed.
func (r *Reader) Properties() *Properties { return r.props }

// RangeDeletes returns the segment's range deletes by ascending LSN. They must not be changed.
func (r *Reader) RangeDeletes() []RangeDelete { return r.rangeDeletes }

// MemoryBytes returns about how much memory the Reader holds besides what is in the cache.
func (r *Reader) MemoryBytes() int64 {
	n := int64(len(r.top.b)) + 1024
	for i := range r.rangeDeletes {
		n += int64(len(r.rangeDeletes[i].From) + len(r.rangeDeletes[i].To) + 80)
	}
	return n
}

// Get finds the newest version of a key with an LSN of at most max. hash is Hash of the key with the database's seed.
// If there is one, e holds it: its value and parts lie in b, which the caller releases; its key is the caller's.
// Otherwise b is nil. With the blocks in the cache it allocates nothing; otherwise each of filter page, index block and
// data block costs one read.
func (r *Reader) Get(ds event.DatasetID, key []byte, hash uint64, max event.LSN, e *Entry) (
	b *cache.Block, ok bool, err error) {
	if r.top.n == 0 {
		return nil, false, nil
	}
	k := entryKey(ds, key, min(max, event.MaxLSN))
	i := r.top.floor(&k)
	if i < 0 {
		return nil, false, nil
	}
	h := r.top.handle(i)
	if r.filters {
		if has, err := r.filterHas(h, r.top.col(colFilter, i), hash); err != nil || !has {
			return nil, false, err
		}
	}
	if h, ok, err = r.find(h, &k); err != nil || !ok {
		return nil, false, err
	}
	if b, err = r.load(kindData, h); err != nil {
		return nil, false, err
	}
	var data sorted
	if !data.parse(b.Bytes(), kindData) {
		b.Release()
		return nil, false, r.wrongKind(kindData, h)
	}
	i, ok = data.lower(&k)
	if !ok {
		b.Release()
		return nil, false, nil
	}
	e.Dataset, e.Key = ds, key
	data.fill(i, e)
	return b, true, nil
}

// MayHave says whether the segment may have versions of a key, by its filter: false is certain. It reads no data block.
func (r *Reader) MayHave(ds event.DatasetID, key []byte, hash uint64) (bool, error) {
	if r.top.n == 0 {
		return false, nil
	}
	k := entryKey(ds, key, event.MaxLSN)
	i := r.top.floor(&k)
	if i < 0 || !r.filters {
		return i >= 0, nil
	}
	return r.filterHas(r.top.handle(i), r.top.col(colFilter, i), hash)
}

// filterHas asks the filter page of n bytes that follows an index block.
func (r *Reader) filterHas(index handle, n uint64, hash uint64) (bool, error) {
	if n == 0 {
		return true, nil
	}
	h := handle{offset: index.end(), length: n}
	b, err := r.load(kindFilter, h)
	if err != nil {
		return false, err
	}
	page := b.Bytes()
	if page[0] != kindFilter {
		b.Release()
		return false, r.wrongKind(kindFilter, h)
	}
	has := filterHas(page, hash)
	b.Release()
	return has, nil
}

// find returns the data block in which a position must be.
func (r *Reader) find(h handle, k *searchKey) (data handle, ok bool, err error) {
	b, err := r.load(kindIndex, h)
	if err != nil {
		return handle{}, false, err
	}
	var index sorted
	if !index.parse(b.Bytes(), kindIndex) {
		b.Release()
		return handle{}, false, r.wrongKind(kindIndex, h)
	}
	i := index.floor(k)
	if i >= 0 {
		data = index.handle(i)
	}
	b.Release()
	return data, i >= 0, nil
}

// wrongKind says that a block in the cache, which was sound when it was read, is not what an index takes it for.
func (r *Reader) wrongKind(kind byte, h handle) error {
	return corruption.At(r.name, int64(h.offset), "segment: not a %s block, but an index says so", kindNames[kind])
}

// load returns a block before compression, acquired for the caller, from the cache or the file.
func (r *Reader) load(kind byte, h handle) (*cache.Block, error) {
	if r.opts.Cache == nil {
		return r.read(kind, h)
	}
	k := cache.Key{File: r.opts.Num, Offset: h.offset}
	if b := r.opts.Cache.Get(k); b != nil {
		return b, nil
	}
	b, err := r.read(kind, h)
	if err == nil {
		r.opts.Cache.Add(k, b)
	}
	return b, err
}

// readBuffers hold blocks as they are in the file.
var readBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxReadBuffer is the largest buffer that is kept.
const maxReadBuffer = 64 << 10

// read reads a block from the file.
func (r *Reader) read(kind byte, h handle) (*cache.Block, error) {
	if h.length <= blockHead || h.offset > math.MaxInt64/2 || h.end() > uint64(r.size) {
		return nil, corruption.At(r.name, int64(min(h.offset, uint64(r.size))), "%s block of %d bytes at %d in a file of %d",
			kindNames[kind], h.length, h.offset, r.size)
	}
	buf := readBuffers.Get().(*[]byte)
	if uint64(cap(*buf)) < h.length {
		*buf = make([]byte, h.length)
	}
	b := (*buf)[:h.length]
	err := r.readAt(b, int64(h.offset))
	var block *cache.Block
	if err == nil {
		block, err = r.decodeBlock(b, kind, h)
	}
	if cap(*buf) <= maxReadBuffer {
		readBuffers.Put(buf)
	}
	return block, err
}

// decodeBlock makes a block of its bytes in the file.
func (r *Reader) decodeBlock(b []byte, kind byte, h handle) (*cache.Block, error) {
	head, err := r.openStored(b, kind, h)
	if err != nil {
		return nil, err
	}
	block := cache.NewBlock(int(head.raw))
	if err := r.unpack(block.Bytes(), head, b, h); err != nil {
		block.Release()
		return nil, err
	}
	return block, nil
}

// decode checks a block and returns it before compression, in memory that alloc gives.
func (r *Reader) decode(b []byte, kind byte, h handle, alloc func(n int) []byte) ([]byte, error) {
	head, err := r.openStored(b, kind, h)
	if err != nil {
		return nil, err
	}
	raw := alloc(int(head.raw))
	return raw, r.unpack(raw, head, b, h)
}

// openStored checks what a block is in the file.
func (r *Reader) openStored(b []byte, kind byte, h handle) (storedHead, error) {
	head, err := r.place.open(b, h.offset)
	if err == nil && head.kind != kind {
		err = corruption.New(12, "%s block where a %s block was expected", kindNames[head.kind], kindNames[kind])
	}
	if err != nil {
		return head, locate(err, r.name, int64(h.offset))
	}
	return head, nil
}

// unpack fills raw, which is as long as the head says, from a block, and checks it.
func (r *Reader) unpack(raw []byte, head storedHead, b []byte, h handle) error {
	if err := unpack(raw, head.codec, b[blockHead:]); err != nil {
		return locate(err, r.name, int64(h.offset))
	}
	return r.checkRaw(head.kind, raw, h)
}

func (r *Reader) checkRaw(kind byte, raw []byte, h handle) error {
	if err := checkRaw(kind, raw); err != nil {
		return locate(err, r.name, int64(h.offset))
	}
	return nil
}

// readAt fills b from an offset.
func (r *Reader) readAt(b []byte, off int64) error {
	n, err := r.file.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return corruption.At(r.name, off+int64(n), "segment: the file of %d bytes ends", r.size)
	}
	return fmt.Errorf("read segment %s at %d: %w", r.name, off, err)
}

// locate adds the place in the file to an error about bytes.
func locate(err error, name string, base int64) error {
	if errors.Is(err, event.ErrUnsupported) {
		return fmt.Errorf("%s at %d: %w", name, base, err)
	}
	return corruption.Locate(err, name, base)
}
