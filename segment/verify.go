package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/zeebo/xxh3"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Verify reads every byte of the file, past the cache, and checks all that can be checked: each block's CRC and
// encoding, the order of all entries, that the indexes and filters lead to each of them, the due index against the
// entries, the properties, the SHA-256. progress, if not nil, is called with the bytes done and in all. The error is
// the first defect found, or that of the file system or the context.
func (r *Reader) Verify(ctx context.Context, progress func(done, total int64)) error {
	v := &verifier{r: r, ctx: ctx, progress: progress, sha: sha256.New()}
	if err := v.run(); err != nil {
		return locate(err, r.name, v.at)
	}
	return nil
}

// verifier is the work in progress. Its methods return errors with an offset from at on.
type verifier struct {
	r        *Reader
	ctx      context.Context
	progress func(done, total int64)
	sha      hash.Hash
	buf      []byte // bytes of the file from at on
	mem      []byte
	at       int64

	kind     byte // of the block before, 0 before the first
	raw      []byte
	encoders [kindProperties + 1]*builder // by kind, made when they are needed
	again    []byte                       // what the encoder made of the block
	keys     [2][]byte

	prev    []byte // key of the entry before, behind its dataset
	prevLSN event.LSN
	hashes  []uint64 // of the keys of the partition

	partition indexList // of the data blocks of the partition
	top       indexList // of the index blocks
	due       indexList // of the due blocks
	dueSum    uint64    // sum of hashes of the entries with an expiry, less those of the due index
	ranges    []RangeDelete

	rangeDeletes handle // of all blocks of them

	props Properties // as they must be
}

// indexList is what an index must hold.
type indexList []indexed

type indexed struct {
	key    []byte
	lsn    event.LSN
	h      handle
	filter uint64
}

func (v *verifier) run() error {
	head, err := v.window(headerBytes)
	if err != nil {
		return err
	}
	h, err := parseHeader(head)
	if err != nil {
		return err
	}
	p := v.r.props
	if h.salt != v.r.foot.salt || h.num != p.Num || h.run != p.Run || h.created != p.CreatedAt {
		return corruption.New(16, "segment: header and footer disagree")
	}
	v.advance(headerBytes)
	end := v.r.size - footerBytes
	for v.at < end {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if err := v.next(end); err != nil {
			return err
		}
	}
	if err := v.finish(); err != nil {
		return err
	}
	b := make([]byte, footerBytes)
	if err := v.r.readAt(b, end); err != nil {
		return err
	}
	f, err := parseFooter(b, v.r.size)
	if err != nil {
		return locate(err, v.r.name, 0)
	}
	if f != v.r.foot {
		return corruption.New(0, "segment: the footer has changed")
	}
	if sum := [32]byte(v.sha.Sum(nil)); sum != f.sha256 {
		return corruption.New(0, "segment: SHA-256 %x, want %x", sum, f.sha256)
	}
	if v.progress != nil {
		v.progress(v.r.size, v.r.size)
	}
	return nil
}

// window returns the next n bytes, which stay valid until the next call.
func (v *verifier) window(n int64) ([]byte, error) {
	if int64(len(v.buf)) < n {
		want := min(max(n, writeBytes), v.r.size-v.at)
		if want < n {
			return nil, corruption.New(want, "segment: %d bytes are left of %d", want, n)
		}
		if int64(cap(v.mem)) < want {
			v.mem = make([]byte, want)
		}
		have := copy(v.mem[:want], v.buf)
		v.buf = nil
		b := v.mem[:want]
		if err := v.r.readAt(b[have:], v.at+int64(have)); err != nil {
			return nil, err
		}
		v.buf = b
		vfs.Prefetch(v.r.file, v.at+want, writeBytes) // while these are checked
	}
	return v.buf[:n], nil
}

// advance goes on behind n bytes of the window.
func (v *verifier) advance(n int64) {
	v.sha.Write(v.buf[:n])
	v.buf = v.buf[n:]
	v.at += n
}

// next checks the block that begins here.
func (v *verifier) next(end int64) error {
	if end-v.at <= blockHead {
		return corruption.New(0, "segment: %d bytes between the last block and the footer", end-v.at)
	}
	b, err := v.window(min(pageBytes, end-v.at))
	if err != nil {
		return err
	}
	pad, err := padding(b, v.at)
	if err != nil {
		return err
	}
	if pad > 0 {
		v.advance(pad)
	}
	if end-v.at <= blockHead {
		return corruption.New(0, "segment: %d bytes between the last block and the footer", end-v.at)
	}
	if b, err = v.window(blockHead); err != nil {
		return err
	}
	head, err := parseStored(b)
	if err != nil {
		return err
	}
	n := blockHead + int64(head.stored)
	if n > end-v.at {
		return corruption.New(4, "block of %d bytes, but the footer begins after %d", n, end-v.at)
	}
	if b, err = v.window(n); err != nil {
		return err
	}
	h := handle{offset: uint64(v.at), length: uint64(n)}
	if v.raw, err = v.r.decode(b, head.kind, h, v.scratch); err != nil {
		return err
	}
	if pad > 0 && (head.kind != kindData || n < pageBytes/2 || n > pageBytes) {
		return corruption.New(12, "%s block of %d bytes behind zeros", kindNames[head.kind], n)
	}
	if err := v.block(head.kind, h); err != nil {
		return err
	}
	v.kind = head.kind
	v.advance(n)
	if v.progress != nil {
		v.progress(v.at, v.r.size)
	}
	return nil
}

// scratch returns memory for a block.
func (v *verifier) scratch(n int) []byte {
	if cap(v.raw) < n {
		v.raw = make([]byte, n)
	}
	return v.raw[:n]
}

// follows says which kinds of blocks may come after one, by the bits of their numbers; 0 is the start.
var follows = [...]uint{
	kindDue:          1<<0 | 1<<kindIndex | 1<<kindFilter | 1<<kindDue,
	kindData:         1<<0 | 1<<kindIndex | 1<<kindFilter | 1<<kindData,
	kindIndex:        1 << kindData,
	kindFilter:       1 << kindIndex,
	kindDueIndex:     1 << kindDue,
	kindRangeDeletes: 1<<0 | 1<<kindIndex | 1<<kindFilter | 1<<kindDueIndex | 1<<kindRangeDeletes,
	kindProperties:   1<<0 | 1<<kindIndex | 1<<kindFilter | 1<<kindDueIndex | 1<<kindRangeDeletes,
	kindTop:          1 << kindProperties,
}

// block checks the block in raw, whose form is sound, against what came before it.
func (v *verifier) block(kind byte, h handle) error {
	if follows[kind]>>v.kind&1 == 0 {
		return corruption.New(12, "%s block after one of kind %d", kindNames[kind], v.kind)
	}
	var s sorted
	if columnsOf[kind] > 0 {
		s.parse(v.raw, kind) // decode has checked it
		if err := v.spelling(kind, &s); err != nil {
			return err
		}
	}
	switch kind {
	case kindData:
		return v.data(&s, h)
	case kindIndex:
		v.top = append(v.top, v.partition[0])
		v.top[len(v.top)-1].h = h
		err := v.partition.check(&s)
		v.props.Largest = splitKey(v.prev)
		v.partition = v.partition[:0]
		if v.r.props.FilterBits == 0 {
			v.hashes = v.hashes[:0]
		}
		return err
	case kindFilter:
		return v.filter(h)
	case kindTop:
		if h != v.r.foot.top {
			return corruption.New(0, "segment: the footer's top index is elsewhere")
		}
		return v.top.check(&s)
	case kindDue:
		return v.dues(&s, h)
	case kindDueIndex:
		if h != v.r.foot.dueIndex {
			return corruption.New(0, "segment: the footer's due index is elsewhere")
		}
		return v.due.check(&s)
	case kindRangeDeletes:
		if v.rangeDeletes.length == 0 {
			v.rangeDeletes.offset = h.offset
		}
		v.rangeDeletes.length += h.length
		var err error
		v.ranges, err = parseRangeDeletes(v.ranges, v.raw)
		return err
	case kindProperties:
		return v.properties(h)
	}
	return nil
}

// spelling checks that a block's bytes are the only ones for what it says.
func (v *verifier) spelling(kind byte, s *sorted) error {
	if v.encoders[kind] == nil {
		v.encoders[kind] = newBuilder(kind, maxBlockBytes, 1)
	}
	b := v.encoders[kind]
	last, key := v.keys[0][:0], v.keys[1][:0]
	for i := range s.n {
		key = s.appendKey(key[:0], i)
		var n numbers
		for c := colLSN; c < b.k; c++ {
			n[c] = s.col(c, i)
		}
		from, to := s.span(i)
		from += restLen(int(s.col(colKeyLen, i)))
		b.add(key, sharedLen(last, key), &n, s.heap[from:to], nil)
		last, key = key, last
	}
	v.keys = [2][]byte{last, key}
	if v.again = b.finish(v.again[:0]); !bytes.Equal(v.again, s.b) {
		return corruption.New(0, "%s block: a second spelling of its %d entries", kindNames[kind], s.n)
	}
	return nil
}

// data checks a data block.
func (v *verifier) data(s *sorted, h handle) error {
	var key []byte
	for i := range s.n {
		key = s.appendKey(key[:0], i)
		var e Entry
		s.fill(i, &e)
		e.Dataset, e.Key = event.DatasetID(binary.BigEndian.Uint32(key)), key[datasetLen:]
		shared := sharedLen(v.prev, key)
		same := shared == len(key) && shared == len(v.prev)
		if c := bytes.Compare(v.prev, key); v.props.Entries > 0 && (c > 0 || c == 0 && v.prevLSN <= e.LSN) || e.Dataset == 0 {
			return corruption.New(0, "dataset %d, key %.100q, LSN %d after %.100q, LSN %d", e.Dataset, e.Key, e.LSN, v.prev,
				v.prevLSN)
		}
		if i == 0 {
			v.partition = append(v.partition, indexed{h: h}.from(key, shared, v.prevLSN, same, v.props.Entries == 0))
		}
		if i == 0 || !same {
			v.hashes = append(v.hashes, Hash(v.r.props.HashSeed, e.Dataset, e.Key))
		}
		if due, ok := event.Expiry(e.Parts); ok {
			v.dueSum += dueHash(dueKey(nil, due, key), e.LSN)
		}
		if err := v.props.count(&e, !same); err != nil {
			return err
		}
		v.prev, key, v.prevLSN = key, v.prev, e.LSN
	}
	return nil
}

// from sets the position at which a block begins.
func (x indexed) from(key []byte, shared int, lastLSN event.LSN, same, first bool) indexed {
	x.lsn = event.MaxLSN
	if !first {
		key, x.lsn = fence(key, shared, lastLSN, same)
	}
	x.key = bytes.Clone(key)
	return x
}

// check compares an index with what it must hold.
func (l indexList) check(s *sorted) error {
	if s.n != len(l) {
		return corruption.New(0, "index of %d blocks, there are %d", s.n, len(l))
	}
	for i := range l {
		x := &l[i]
		key := s.appendKey(nil, i)
		if !bytes.Equal(key, x.key) || s.lsn(i) != x.lsn || s.handle(i) != x.h ||
			s.b[0] == kindTop && s.col(colFilter, i) != x.filter {
			return corruption.New(0, "entry %d of an index: key %.100q, LSN %d, %+v, want key %.100q, LSN %d, %+v", i,
				key, s.lsn(i), s.handle(i), x.key, x.lsn, x.h)
		}
	}
	return nil
}

// filter checks that the page in raw knows the partition's keys.
func (v *verifier) filter(h handle) error {
	v.top[len(v.top)-1].filter = h.length
	if v.r.props.FilterBits > 0 { // else it is of a kind that a newer version knows
		for _, hash := range v.hashes {
			if !filterHas(v.raw, hash) {
				return corruption.New(0, "filter: a key is missing")
			}
		}
	}
	v.hashes = v.hashes[:0]
	return nil
}

func dueHash(key []byte, lsn event.LSN) uint64 { return xxh3.HashSeed(key, uint64(lsn)) }

// dues checks a due block.
func (v *verifier) dues(s *sorted, h handle) error {
	var key []byte
	first := len(v.due) == 0
	if first {
		v.prev, v.prevLSN = v.prev[:0], 0
	}
	for i := range s.n {
		key = s.appendKey(key[:0], i)
		lsn := s.lsn(i)
		shared := sharedLen(v.prev, key)
		if !(first && i == 0) && compareDues(v.prev, v.prevLSN, key, lsn) >= 0 {
			return corruption.New(0, "due entry %d: key %.100q, LSN %d after %.100q, LSN %d", i, key, lsn, v.prev, v.prevLSN)
		}
		if i == 0 {
			same := shared == len(key) && shared == len(v.prev)
			v.due = append(v.due, indexed{h: h}.from(key, shared, v.prevLSN, same, first))
		}
		v.dueSum -= dueHash(key, lsn)
		v.prev, key, v.prevLSN = key, v.prev, lsn
	}
	return nil
}

// properties compares the properties with what was read.
func (v *verifier) properties(h handle) error {
	if h != v.r.foot.properties {
		return corruption.New(0, "segment: the footer's properties are elsewhere")
	}
	have, err := parseProperties(v.raw)
	if err != nil {
		return err
	}
	if v.dueSum != 0 {
		return corruption.New(0, "segment: the due index is not that of the entries")
	}
	if v.rangeDeletes != v.r.foot.rangeDeletes {
		return corruption.New(0, "segment: the footer's range deletes are elsewhere")
	}
	p := &v.props
	for i := range v.ranges {
		p.span(v.ranges[i].LSN, v.ranges[i].Time)
	}
	p.RangeDeletes = int64(len(v.ranges))
	p.Num, p.Run, p.CreatedAt = have.Num, have.Run, have.CreatedAt
	p.FlushedLSN, p.Replaces = have.FlushedLSN, have.Replaces
	p.FilterBits, p.HashSeed = have.FilterBits, have.HashSeed
	have.Unknown = nil
	if !bytes.Equal(appendProperties(nil, have), appendProperties(nil, p)) {
		return corruption.New(0, "segment: its properties are %s, what it holds is %s", have, p)
	}
	return nil
}

// finish checks that nothing is missing.
func (v *verifier) finish() error {
	if v.kind != kindTop && !(v.kind == kindProperties && v.r.foot.top.length == 0) {
		return corruption.New(0, "segment: the last block is of kind %d", v.kind)
	}
	return nil
}
