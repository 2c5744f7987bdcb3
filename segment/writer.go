package segment

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Compression says how blocks are compressed.
type Compression uint8

// The compressions.
const (
	S2            Compression = iota // fast: for what will soon be merged again
	Zstd                             // small, where it is much smaller than by S2: for what will stay
	NoCompression                    // a block is its bytes
)

func (c Compression) codec() event.Codec {
	switch c {
	case S2:
		return event.CodecS2
	case Zstd:
		return event.CodecZstd
	}
	return event.CodecNone
}

// WriterOptions say how a segment is written. The zero value works.
type WriterOptions struct {
	// What the segment is: kept in its properties. See Properties.
	Num        uint64
	Run        uint64
	CreatedAt  int64
	FlushedLSN event.LSN
	Replaces   []uint64 // in any order

	Compression Compression // default S2

	// BlockBytes is the most that a block has before compression, unless one entry is longer: 1 KiB to 32 KiB, default
	// 4,080 bytes: a page with its header. Larger blocks compress better and cost a point read more.
	BlockBytes int

	// FilterBits are the bits of the filters for each key, 1 to 32, default 10 (1 of 100 missing keys costs a block
	// read), negative for no filters.
	FilterBits int

	// HashSeed seeds the hashes in the filters: one for the whole database, see Hash.
	HashSeed uint64

	// Salt goes into the CRC of each block. All zero: random, which only tests that want the same bytes again change.
	Salt [16]byte

	// Extra are properties beside the segment's own, for files of other kinds that are built on this format: see "Extra
	// properties" in the package comment. Tags ascend and begin at ExtraTag. Readers find them in Properties.Unknown.
	Extra []Property

	// NoSync leaves the content to the system: for what can be made again. Who reads it finds out when it is torn.
	NoSync bool

	dueBytes int // memory for sorting the due index; tests make it small
}

const (
	minBlockBytes     = 1 << 10
	defaultBlockBytes = pageBytes - blockHead // with its header a page, see align
	maxBlockOption    = 32 << 10
	defaultFilterBits = 10
	defaultDueBytes   = 4 << 20

	// indexBytes is the most that an index block has, unless it has fewer than indexLeast entries: a key of 64 KiB in the
	// index must not make an index block of each data block.
	indexBytes = 16 << 10
	indexLeast = 8

	// writeBytes is how much is gathered before it is written.
	writeBytes = 256 << 10

	// behindBytes is how much is written before the system is asked to bring it to the device: Finish would have to wait for all of it
	// at once, and so would the syncs of others, the log's above all (bytes_per_sync of RocksDB).
	behindBytes = 1 << 20
)

func (o WriterOptions) withDefaults() (WriterOptions, error) {
	if o.BlockBytes == 0 {
		o.BlockBytes = defaultBlockBytes
	}
	if o.FilterBits == 0 {
		o.FilterBits = defaultFilterBits
	}
	if o.dueBytes == 0 {
		o.dueBytes = defaultDueBytes
	}
	switch {
	case o.BlockBytes < minBlockBytes || o.BlockBytes > maxBlockOption:
		return o, fmt.Errorf("segment: WriterOptions.BlockBytes is %d, allowed are %d to %d", o.BlockBytes, minBlockBytes,
			maxBlockOption)
	case o.FilterBits > maxBitsPerKey:
		return o, fmt.Errorf("segment: WriterOptions.FilterBits is %d, at most %d are allowed", o.FilterBits, maxBitsPerKey)
	case o.Compression > NoCompression:
		return o, fmt.Errorf("segment: WriterOptions.Compression is %d", o.Compression)
	}
	for i, p := range o.Extra {
		if p.Tag < ExtraTag || i > 0 && p.Tag <= o.Extra[i-1].Tag {
			return o, fmt.Errorf("segment: WriterOptions.Extra has tag %d at %d", p.Tag, i)
		}
	}
	o.FilterBits = max(o.FilterBits, 0)
	o.Replaces = slices.Compact(slices.Sorted(slices.Values(o.Replaces)))
	if o.Salt == [saltBytes]byte{} {
		if _, err := rand.Read(o.Salt[:]); err != nil {
			return o, fmt.Errorf("segment: %w", err)
		}
	}
	return o, nil
}

// Writer writes one segment. Memory in use does not grow with the file but for the top index (about 40 bytes for 13,000
// keys) and the range deletes. One goroutine at a time; it starts none.
//
// After the first error every call returns it; the owner then calls Abort.
type Writer struct {
	fs    vfs.FS
	name  string
	file  vfs.File // nil after Finish and Abort
	opts  WriterOptions
	place placer
	err   error
	props Properties

	pos      int64 // bytes written, all before those of out
	behind   int64 // of these the device has been asked for
	sha      hash.Hash
	*scratch // given back by Finish and Abort

	zstdSkip int // blocks for which zstd is not tried

	dataFenceLSN event.LSN
	partFenceLSN event.LSN
	lastLSN      event.LSN
	lastOp       event.Op // of that entry

	padded     int64 // bytes of zeros before data blocks
	blockStart int   // first of hashes that belongs to the data block
	maxHashes  int

	dues         dueSorter
	rangeDeletes []RangeDelete
}

// scratch is the memory of a Writer that the next one can have: about a megabyte, which many small segments would turn into
// garbage faster than it is collected.
type scratch struct {
	out              []byte // bytes of the file from Writer.pos on
	raw, packed      []byte // a block before and after compression
	block            []byte // the data block after compression, while its partition is closed
	other            []byte // the same by the other codec
	data, index, top *builder

	dataFence  []byte   // where the data block begins
	indexFence []byte   // last key of the index block
	partFence  []byte   // where the index block begins
	topFence   []byte   // last key of the top index
	last, cur  []byte   // keys, behind their dataset: of the entry before and the present one
	hashes     []uint64 // of the keys of the partition
}

var scratches = sync.Pool{New: func() any {
	return &scratch{
		out:  make([]byte, 0, writeBytes+writeBytes/4),
		data: newBuilder(kindData, 0, 0), index: newBuilder(kindIndex, 0, 0), top: newBuilder(kindTop, 0, 0),
	}
}}

// newScratch returns empty memory for blocks of blockBytes.
func newScratch(blockBytes int) *scratch {
	s := scratches.Get().(*scratch)
	s.out, s.last, s.hashes = s.out[:0], s.last[:0], s.hashes[:0]
	s.dataFence, s.indexFence, s.partFence, s.topFence = s.dataFence[:0], s.indexFence[:0], s.partFence[:0], s.topFence[:0]
	s.data.begin(blockBytes, 1)
	s.index.begin(indexBytes, indexLeast)
	s.top.begin(maxBlockBytes/2, 1)
	return s
}

// Create begins a segment in a new file; it fails with fs.ErrExist if the name is taken. While a due index is sorted
// that does not fit into memory, there is a file name.due beside it; after a crash it may be removed.
func Create(fsys vfs.FS, name string, o WriterOptions) (*Writer, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	file, err := fsys.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	w := &Writer{
		fs: fsys, name: name, file: file, opts: o, place: placer{salt: o.Salt}, sha: sha256.New(), scratch: newScratch(o.BlockBytes),
		dues: dueSorter{fs: fsys, name: name + ".due", limit: o.dueBytes},
		props: Properties{Num: o.Num, Run: o.Run, CreatedAt: o.CreatedAt, FlushedLSN: o.FlushedLSN, Replaces: o.Replaces,
			FilterBits: o.FilterBits, HashSeed: o.HashSeed, Unknown: o.Extra},
	}
	if o.FilterBits > 0 {
		w.maxHashes = filterKeys(o.FilterBits)
	} else {
		w.props.HashSeed = 0
	}
	h := header{salt: o.Salt, num: o.Num, run: o.Run, created: o.CreatedAt}
	w.out = h.append(w.out)
	return w, nil
}

// Add adds an entry, which must lie after the one before: dataset and key ascending, LSNs of one key descending.
// Nothing of e is kept. An entry out of order or of a form that no segment holds is a bug of the caller.
func (w *Writer) Add(e *Entry) error {
	if w.err != nil {
		return w.err
	}
	w.cur = append(binary.BigEndian.AppendUint32(w.cur[:0], uint32(e.Dataset)), e.Key...)
	shared := sharedLen(w.last, w.cur)
	sameKey := shared == len(w.cur) && shared == len(w.last)
	if e.Dataset == 0 || len(e.Key) == 0 || len(e.Key) > event.MaxKeyBytes || !storable(e.Op) || e.LSN == 0 ||
		e.LSN > event.MaxLSN || e.Flags&^event.KnownFlags != 0 || len(e.Value)+len(e.Parts) > maxPackedRaw/2 {
		panic(fmt.Sprintf("dyngo: bug: segment: %s %s of dataset %d, LSN %d, key of %d bytes, value of %d", e.Op, e.Flags,
			e.Dataset, e.LSN, len(e.Key), len(e.Value)))
	}
	if sameKey && e.LSN >= w.lastLSN || !sameKey && shared < len(w.last) &&
		(shared == len(w.cur) || w.cur[shared] < w.last[shared]) {
		panic(fmt.Sprintf("dyngo: bug: segment: dataset %d, key %q, LSN %d after key %q, LSN %d", e.Dataset, e.Key, e.LSN,
			w.last, w.lastLSN))
	}
	v := numbers{colLSN: uint64(e.LSN), colTime: uint64(e.Time) ^ signBit, colOp: uint64(e.Op), colFlags: uint64(e.Flags),
		colSession: uint64(e.Session), colParts: uint64(len(e.Parts))}
	full := w.maxHashes > 0 && len(w.hashes) >= w.maxHashes // the filter page
	if w.data.n > 0 && (full || !w.data.add(w.cur, shared, &v, e.Value, e.Parts)) {
		w.flushBlock()
	}
	first := w.data.n == 0
	if first {
		w.begin(shared, sameKey)
		w.data.add(w.cur, 0, &v, e.Value, e.Parts)
	}
	if w.maxHashes > 0 && (first || !sameKey) { // all keys of a block are in the filter of its partition
		w.hashes = append(w.hashes, Hash(w.opts.HashSeed, e.Dataset, e.Key))
	}
	w.fail(w.props.count(e, !sameKey))
	if sameKey && w.lastOp != event.OpMerge {
		w.props.replaces(w.lastLSN)
	}
	if len(e.Parts) > 0 {
		if due, ok := event.Expiry(e.Parts); ok {
			w.fail(w.dues.add(due, w.cur, e.LSN))
		}
	}
	w.last, w.cur, w.lastLSN, w.lastOp = w.cur, w.last, e.LSN, e.Op
	return w.err
}

// begin notes where a data block begins, whose first entry is the present one.
func (w *Writer) begin(shared int, sameKey bool) {
	if w.props.Entries == 0 {
		w.dataFence, w.dataFenceLSN = append(w.dataFence[:0], w.cur...), event.MaxLSN
		return
	}
	f, lsn := fence(w.cur, shared, w.lastLSN, sameKey)
	w.dataFence, w.dataFenceLSN = append(w.dataFence[:0], f...), lsn
}

// fail keeps the first error.
func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// AddRangeDelete adds a range delete. They may come in any order, each LSN once, before, between and after entries.
// From and To are kept.
func (w *Writer) AddRangeDelete(r RangeDelete) {
	if r.Dataset == 0 || r.LSN == 0 || r.LSN > event.MaxLSN || len(r.From) > event.MaxKeyBytes ||
		len(r.To) > event.MaxKeyBytes {
		panic(fmt.Sprintf("dyngo: bug: segment: range delete of dataset %d, LSN %d, %d to %d bytes", r.Dataset, r.LSN,
			len(r.From), len(r.To)))
	}
	w.rangeDeletes = append(w.rangeDeletes, r)
}

// SizeEstimate returns about how long the file would be if it ended here. What is not written yet counts as if it were not
// compressed, but for the due index, which is taken to shrink as the entries did.
func (w *Writer) SizeEstimate() int64 {
	if w.scratch == nil {
		return w.pos
	}
	n := w.pos + int64(len(w.out)+w.data.size()+w.index.size()+w.top.size()+len(w.hashes)*w.opts.FilterBits/8)
	if w.dues.bytes > 0 {
		n += int64(float64(w.dues.bytes) * min(1, float64(n)/float64(max(w.props.RawBytes, 1))))
	}
	for i := range w.rangeDeletes {
		n += int64(len(w.rangeDeletes[i].From) + len(w.rangeDeletes[i].To) + 20)
	}
	return n + footerBytes
}

// Finish completes the file and makes its content durable; its directory entry is the caller's to make durable. After
// an error the owner calls Abort.
func (w *Writer) Finish() (*Properties, error) {
	if w.err == nil {
		w.fail(w.finish())
	}
	if w.err != nil {
		return nil, w.err
	}
	w.err = errFinished
	p := w.props
	return &p, nil
}

var errFinished = errors.New("segment: writer used after Finish or Abort")

func (w *Writer) finish() error {
	foot := footer{salt: w.opts.Salt}
	if w.data.n > 0 {
		w.flushBlock()
		if w.index.n > 0 {
			w.closePartition(len(w.hashes))
		}
		w.props.Largest = splitKey(w.last)
	}
	if w.err == nil && w.props.Dues > 0 {
		foot.dueIndex = w.writeDues()
	}
	foot.rangeDeletes = w.writeRangeDeletes()
	w.raw = appendProperties(w.raw[:0], &w.props)
	foot.properties = w.emit(kindProperties, w.raw, NoCompression.codec())
	if w.top.n > 0 {
		// Not compressed, because a reader would have to trust its length.
		w.raw = w.top.finish(w.raw[:0])
		foot.top = w.emit(kindTop, w.raw, event.CodecNone)
	}
	w.write()
	foot.size = uint64(w.pos + footerBytes)
	w.sha.Sum(foot.sha256[:0])
	w.out = foot.append(w.out[:0])
	w.write()
	if w.err != nil {
		return w.err
	}
	w.props.SizeBytes, w.props.SHA256 = w.pos, foot.sha256
	w.giveBack()
	if !w.opts.NoSync {
		if err := w.file.Sync(); err != nil {
			return fmt.Errorf("sync segment: %w", err)
		}
	}
	file := w.file
	w.file = nil
	if err := file.Close(); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

func (w *Writer) giveBack() {
	if w.scratch != nil {
		scratches.Put(w.scratch)
		w.scratch = nil
	}
}

// Abort closes and removes the file. After a successful Finish it does nothing.
func (w *Writer) Abort() {
	if w.err == errFinished {
		return
	}
	w.err = errFinished
	w.giveBack()
	w.dues.close()
	if w.file != nil {
		_ = w.file.Close() // what is in it does not matter
		w.file = nil
	}
	_ = w.fs.Remove(w.name) // best effort: the file is in no manifest, so the next open removes it
}

// flushBlock writes the data block, behind the end of its partition if the index block has no room for it.
func (w *Writer) flushBlock() {
	w.raw = w.data.finish(w.raw[:0])
	raw, codec := len(w.raw), w.packBlock()
	length := uint64(blockHead + len(w.block))
	if gap := w.align(length); !w.addToIndex(length) {
		w.unalign(gap)
		w.closePartition(w.blockStart)
		w.align(length)
		w.addToIndex(length)
	}
	w.emitPacked(kindData, w.block, codec, raw)
	keys := len(w.hashes) - w.blockStart
	w.blockStart = len(w.hashes)
	if w.maxHashes > 0 && len(w.hashes)+keys > w.maxHashes { // the next block would not fit
		w.closePartition(len(w.hashes))
	}
}

// What zstd has to save of a block beside S2, as a share of it, and for how many blocks it is left alone when it does not: it
// takes several times the processor time, when written and whenever the block is read, and random values give it nothing.
const (
	zstdShare = 16 // 1/16
	zstdSkips = 15
)

// packBlock packs w.raw into w.block.
func (w *Writer) packBlock() event.Codec {
	codec := event.CodecNone
	if w.opts.Compression != Zstd {
		w.block, codec = pack(w.block[:0], w.opts.Compression.codec(), w.raw)
		return codec
	}
	w.block, codec = pack(w.block[:0], event.CodecS2, w.raw)
	if w.zstdSkip > 0 {
		w.zstdSkip--
		return codec
	}
	w.other, _ = pack(w.other[:0], event.CodecZstd, w.raw)
	if len(w.other) > len(w.block)-len(w.raw)/zstdShare {
		w.zstdSkip = zstdSkips
		return codec
	}
	w.block, w.other = w.other, w.block
	return event.CodecZstd
}

// addToIndex enters the data block that comes next in the file. It reports false if the index block has no room.
func (w *Writer) addToIndex(length uint64) bool {
	first := w.index.n == 0
	shared := 0
	if !first {
		shared = sharedLen(w.indexFence, w.dataFence)
	}
	v := numbers{colLSN: uint64(w.dataFenceLSN), colOffset: uint64(w.pos) + uint64(len(w.out)), colLength: length}
	if !w.index.add(w.dataFence, shared, &v, nil, nil) {
		return false
	}
	w.indexFence = append(w.indexFence[:0], w.dataFence...)
	if first {
		w.partFence, w.partFenceLSN = append(w.partFence[:0], w.dataFence...), w.dataFenceLSN
	}
	return true
}

// closePartition writes the index block and the filter page of its keys, which are the first n hashes, and enters both
// in the top index.
func (w *Writer) closePartition(n int) {
	w.raw = w.index.finish(w.raw[:0])
	h := w.emit(kindIndex, w.raw, w.opts.Compression.codec())
	v := numbers{colLSN: uint64(w.partFenceLSN), colOffset: h.offset, colLength: h.length}
	if n > 0 {
		w.raw = appendFilter(w.raw[:0], w.hashes[:n], w.opts.FilterBits)
		v[colFilter] = w.emit(kindFilter, w.raw, event.CodecNone).length
		w.hashes = w.hashes[:copy(w.hashes, w.hashes[n:])]
		w.blockStart -= n
	}
	shared := 0
	if w.top.n > 0 {
		shared = sharedLen(w.topFence, w.partFence)
	}
	if !w.top.add(w.partFence, shared, &v, nil, nil) {
		w.fail(errors.New("segment: the index is too large"))
	}
	w.topFence = append(w.topFence[:0], w.partFence...)
}

func (w *Writer) writeRangeDeletes() (all handle) {
	slices.SortFunc(w.rangeDeletes, func(a, b RangeDelete) int { return cmp.Compare(a.LSN, b.LSN) })
	for i := range w.rangeDeletes {
		r := &w.rangeDeletes[i]
		if i > 0 && w.rangeDeletes[i-1].LSN == r.LSN {
			panic(fmt.Sprintf("dyngo: bug: segment: two range deletes of LSN %d", r.LSN))
		}
		w.props.span(r.LSN, r.Time)
	}
	w.props.RangeDeletes = int64(len(w.rangeDeletes))
	for rest := w.rangeDeletes; len(rest) > 0; {
		w.raw, rest = appendRangeDeletes(w.raw[:0], rest)
		h := w.emit(kindRangeDeletes, w.raw, w.opts.Compression.codec())
		if all.length == 0 {
			all.offset = h.offset
		}
		all.length += h.length
	}
	return all
}

// writeDues writes the due index.
func (w *Writer) writeDues() handle {
	block := newBuilder(kindDue, w.opts.BlockBytes, 1)
	index := newBuilder(kindDueIndex, maxBlockBytes/2, 1)
	var last, from, indexed []byte
	var lastLSN, fromLSN event.LSN
	flush := func() {
		w.raw = block.finish(w.raw[:0])
		h := w.emit(kindDue, w.raw, w.opts.Compression.codec())
		shared := sharedLen(indexed, from)
		index.add(from, shared, &numbers{colLSN: uint64(fromLSN), colOffset: h.offset, colLength: h.length}, nil, nil)
		indexed = append(indexed[:0], from...)
	}
	w.fail(w.dues.each(func(key []byte, lsn event.LSN) error {
		shared := sharedLen(last, key)
		v := numbers{colLSN: uint64(lsn)}
		if block.n > 0 && !block.add(key, shared, &v, nil, nil) {
			flush()
		}
		if block.n == 0 {
			fromLSN = event.MaxLSN
			f := key
			if index.n > 0 {
				f, fromLSN = fence(key, shared, lastLSN, shared == len(key) && shared == len(last))
			}
			from = append(from[:0], f...)
			block.add(key, 0, &v, nil, nil)
		}
		last, lastLSN = append(last[:0], key...), lsn
		return w.err
	}))
	w.dues.close()
	if w.err != nil {
		return handle{}
	}
	flush()
	w.raw = index.finish(w.raw[:0])
	return w.emit(kindDueIndex, w.raw, event.CodecNone)
}

// emit appends a block to the file.
func (w *Writer) emit(kind byte, raw []byte, codec event.Codec) handle {
	w.packed, codec = pack(w.packed[:0], codec, raw)
	return w.emitPacked(kind, w.packed, codec, len(raw))
}

func (w *Writer) emitPacked(kind byte, packed []byte, codec event.Codec, raw int) handle {
	at := len(w.out)
	h := handle{offset: uint64(w.pos) + uint64(at), length: uint64(blockHead + len(packed))}
	w.out = append(append(w.out, make([]byte, blockHead)...), packed...)
	w.place.seal(w.out[at:], kind, codec, raw, h.offset)
	if h.length > maxBlockBytes {
		w.fail(fmt.Errorf("segment: %s block of %d bytes", kindNames[kind], h.length))
	}
	if len(w.out) >= writeBytes {
		w.write()
	}
	return h
}

// write writes what was gathered.
func (w *Writer) write() {
	if w.err != nil {
		w.out = w.out[:0]
		return
	}
	w.sha.Write(w.out)
	if _, err := w.file.WriteAt(w.out, w.pos); err != nil {
		w.fail(fmt.Errorf("write segment: %w", err))
	}
	w.pos += int64(len(w.out))
	w.out = w.out[:0]
	if n := w.pos - w.behind; n >= behindBytes && !w.opts.NoSync {
		vfs.WriteBehind(w.file, w.behind, n)
		w.behind = w.pos
	}
}
